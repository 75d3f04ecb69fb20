//! What an API server does under load: any Kubernetes API server that a kubeconfig names.
//!
//! Everything happens in a namespace that is made for it and deleted afterwards, and is bounded in count and time.

mod delays;
mod fan_out;
mod load;
mod pods;
mod table;
mod target;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use http::{Method, StatusCode};
use serde_json::json;
use skiff_tests::Cluster;

use fan_out::fan_out;
use load::{Calls, Clients, Extent, Outcome, item_count};
use pods::{Pods, SELECTED_EVERY};
use table::{Row, Table};
use target::{Call, Connection, Target};

use crate::process::Process;

/// Which server, and how much.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The server to measure: the current context of this file
    #[arg(long, value_name = "FILE", required_unless_present = "skiff")]
    kubeconfig: Option<PathBuf>,
    /// Measure a cluster that this binary starts in a directory of its own
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kubeconfig", "server_pid"])]
    skiff: Option<PathBuf>,
    /// The server's process on this machine, whose processor time and memory are told
    #[arg(long, value_name = "PID")]
    server_pid: Option<String>,
    /// How many pods
    #[arg(long, default_value_t = 5000)]
    objects: usize,
    /// How large a pod is as it is sent, in bytes
    #[arg(long, default_value_t = 2048)]
    size: usize,
    /// How many clients, each with a connection of its own
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// How often everything is measured
    #[arg(long, default_value_t = 1)]
    runs: usize,
    /// The longest that one measure lasts, in seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// How many watchers the fan-out has
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1000])]
    watchers: Vec<usize>,
    /// Only these measures. The pods are created and deleted in any case
    #[arg(long, value_delimiter = ',')]
    only: Vec<Measure>,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Measure {
    Create,
    Get,
    List,
    Pages,
    Selector,
    StatusPatch,
    Apply,
    Watch,
    Delete,
}

/// Columns of the table of requests.
const REQUESTS: &[(&str, usize)] = &[
    ("a second", 0),
    ("p50 ms", 2),
    ("p99 ms", 2),
    ("server CPU ms each", 3),
    ("client CPU ms each", 3),
    ("MB/s", 0),
    ("server RSS MB", 0),
];

/// Columns of the table of watches.
const WATCHES: &[(&str, usize)] = &[
    ("delivered %", 1),
    ("until all have all, s", 2),
    ("p50 ms", 1),
    ("p99 ms", 1),
    ("server CPU s", 2),
    ("client CPU s", 2),
    ("server RSS MB", 0),
];

/// How long the namespace may take to go.
const FAREWELL: Duration = Duration::from_secs(60);

/// Measures and prints.
///
/// # Errors
/// When the server cannot be reached or does not let pods be created.
pub(crate) async fn measure(options: &Options) -> anyhow::Result<()> {
    let (kubeconfig, server, _cluster) = match (&options.skiff, &options.kubeconfig) {
        (Some(skiff), _) => {
            let cluster = Cluster::with_binary(&skiff.canonicalize()?);
            cluster.skiff_start().success();
            let process = std::fs::read_to_string(cluster.path("run/skiff.pid"))?;
            (cluster.path("kubeconfig"), Some(process), Some(cluster))
        }
        (None, Some(file)) => (file.clone(), options.server_pid.clone(), None),
        (None, None) => bail!("--kubeconfig or --skiff"),
    };
    let mut bench = Bench {
        options,
        target: Arc::new(Target::read(&kubeconfig).await?),
        server: server.as_deref().map(Process::named).transpose()?,
        requests: Table::new(REQUESTS),
        watches: Table::new(WATCHES),
    };
    println!(
        "{} pods of {} bytes, {} clients, {} runs\n",
        options.objects, options.size, options.clients, options.runs
    );
    for run in 0..options.runs {
        bench.run(run).await?;
    }
    println!("\n{}\n{}", bench.requests.text(), bench.watches.text());
    Ok(())
}

struct Bench<'o> {
    options: &'o Options,
    target: Arc<Target>,
    server: Option<Process>,
    requests: Table,
    watches: Table,
}

/// What has been used, at a moment.
struct Used {
    server: f64,
    client: f64,
}

impl Bench<'_> {
    /// All measures once, in a namespace that is gone afterwards, whether they succeed or not.
    async fn run(&mut self, run: usize) -> anyhow::Result<()> {
        let pods = Pods {
            namespace: format!("skiff-bench-{}-{run}", std::process::id()),
            size: self.options.size,
        };
        let mut connection = self.target.connect().await?;
        arrive(&mut connection, &pods).await?;
        let measured = tokio::select! {
            measured = self.measures(&pods) => measured,
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        };
        leave(&mut self.target.connect().await?, &pods).await?;
        measured
    }

    async fn measures(&mut self, pods: &Pods) -> anyhow::Result<()> {
        let objects = self.options.objects;
        let clients = &mut Clients::connect(&self.target, self.options.clients).await?;
        let created = self
            .load(
                clients,
                Measure::Create,
                "create",
                objects,
                with(pods, Pods::create),
            )
            .await?;
        if created != objects {
            bail!("{created} of {objects} pods were created");
        }
        let get = with(pods, move |pods, number| pods.get(number % objects));
        self.load(clients, Measure::Get, "get", objects.saturating_mul(4), get)
            .await?;

        self.check_list(pods).await?;
        let list = with(pods, |pods, _| pods.list());
        self.load(clients, Measure::List, &format!("list {objects}"), 512, list)
            .await?;
        let pages = with(pods, |pods, _| pods.list_page(500));
        self.load(clients, Measure::Pages, "list, a page of 500", 128, pages)
            .await?;
        let selector = with(pods, |pods, number| pods.list_selected(number));
        let what = format!(
            "list by label ({} of {objects})",
            objects.div_ceil(SELECTED_EVERY)
        );
        self.load(clients, Measure::Selector, &what, 4096, selector)
            .await?;

        let patch = with(pods, |pods, number| pods.patch_status(number, "patched"));
        self.load(
            clients,
            Measure::StatusPatch,
            "strategic patch of status",
            objects,
            patch,
        )
        .await?;
        self.load(
            clients,
            Measure::Apply,
            "server-side apply",
            objects,
            with(pods, Pods::apply),
        )
        .await?;
        if self.wants(Measure::Watch) {
            for watchers in self.options.watchers.clone() {
                self.watch(clients, pods, watchers).await?;
            }
        }
        self.load(
            clients,
            Measure::Delete,
            "delete",
            objects,
            with(pods, Pods::delete),
        )
        .await?;
        Ok(())
    }

    fn wants(&self, measure: Measure) -> bool {
        self.options.only.is_empty() || self.options.only.contains(&measure)
    }

    fn extent(&self, count: usize) -> Extent {
        Extent {
            count,
            limit: Duration::from_secs(self.options.seconds),
        }
    }

    /// Sends a load and notes what came of it; returns how many requests succeeded.
    async fn load(
        &mut self,
        clients: &mut Clients,
        measure: Measure,
        what: &str,
        count: usize,
        calls: Calls,
    ) -> anyhow::Result<usize> {
        // Without pods there is nothing to measure; and they go with their namespace.
        if !self.wants(measure) && measure != Measure::Create {
            return Ok(0);
        }
        let before = self.used()?;
        let mut extent = self.extent(count);
        if measure == Measure::Create {
            // All that follows needs all pods, so a slow server gets longer to take them.
            extent.limit = extent.limit.saturating_mul(10);
        }
        let mut outcome = clients.run(&calls, extent).await?;
        let after = self.used()?;
        let succeeded = outcome.delays.len();
        let each = |before: f64, after: f64| (after - before) * 1e3 / succeeded as f64;
        let seconds = outcome.elapsed.as_secs_f64();
        let note = note(&outcome);
        let cells = if succeeded == 0 {
            Vec::new()
        } else {
            vec![
                succeeded as f64 / seconds,
                outcome.delays.quantile(0.5),
                outcome.delays.quantile(0.99),
                each(before.server, after.server),
                each(before.client, after.client),
                outcome.bytes as f64 / 1e6 / seconds,
                self.resident(),
            ]
        };
        if self.wants(measure) {
            println!("{what:<36} {succeeded:>6} in {seconds:>6.2} s  {note}");
            self.requests.add(Row {
                what: what.to_owned(),
                cells,
                note,
            });
        }
        Ok(succeeded)
    }

    async fn watch(&mut self, clients: &mut Clients, pods: &Pods, watchers: usize) -> anyhow::Result<()> {
        let objects = self.options.objects;
        let before = self.used()?;
        let mut fan = fan_out(&self.target, clients, pods, watchers, self.extent(objects)).await?;
        let after = self.used()?;
        let what = format!("{objects} changes to {watchers} watchers");
        let until = fan.until_all.map_or(f64::NAN, |all| all.as_secs_f64());
        let note = note(&fan.changes);
        println!(
            "{what:<36} {:>5.1} % delivered, all after {until:.2} s  {note}",
            fan.delivered * 100.0
        );
        self.watches.add(Row {
            what,
            cells: vec![
                fan.delivered * 100.0,
                until,
                fan.delays.quantile(0.5),
                fan.delays.quantile(0.99),
                after.server - before.server,
                after.client - before.client,
                self.resident(),
            ],
            note,
        });
        Ok(())
    }

    /// A list that leaves pods out would be a fast one.
    async fn check_list(&self, pods: &Pods) -> anyhow::Result<()> {
        let mut connection = self.target.connect().await?;
        for (call, expected) in [
            (pods.list(), self.options.objects),
            (
                pods.list_selected(0),
                self.options.objects.div_ceil(SELECTED_EVERY),
            ),
        ] {
            let list = connection.send(&call.kept()).await?;
            let count = item_count(&list.body);
            if count != expected {
                bail!("a list has {count} pods instead of {expected}");
            }
        }
        Ok(())
    }

    fn used(&self) -> anyhow::Result<Used> {
        let server = self.server.map(Process::cpu_seconds).transpose()?;
        Ok(Used {
            server: server.unwrap_or(f64::NAN),
            client: Process::this().cpu_seconds()?,
        })
    }

    fn resident(&self) -> f64 {
        let resident = self.server.map(Process::resident);
        resident.and_then(Result::ok).unwrap_or(f64::NAN)
    }
}

fn with(pods: &Pods, call: impl Fn(&Pods, usize) -> Call + Send + Sync + 'static) -> Calls {
    let pods = pods.clone();
    Arc::new(move |number| call(&pods, number))
}

/// What went otherwise than it should.
fn note(outcome: &Outcome) -> String {
    if outcome.is_not_served() {
        return "not served".to_owned();
    }
    let failures: Vec<String> = outcome
        .failures
        .iter()
        .map(|(code, count)| match code {
            0 => format!("{count} without answer"),
            code => format!("{count} × {code}"),
        })
        .collect();
    if let Some(failure) = &outcome.failure {
        eprintln!("the first failure: {failure}");
    }
    failures.join(", ")
}

/// Makes the namespace, and the account that a pod needs where no controller makes it.
async fn arrive(connection: &mut Connection, pods: &Pods) -> anyhow::Result<()> {
    let account = format!("/api/v1/namespaces/{}/serviceaccounts", pods.namespace);
    for (path, name) in [
        ("/api/v1/namespaces", pods.namespace.as_str()),
        (&account, "default"),
    ] {
        let object = json!({ "metadata": { "name": name } }).to_string();
        let create = Call::new(Method::POST, path.to_owned()).with_body("application/json", object);
        let answer = connection.send(&create).await?;
        if !answer.status.is_success() && answer.status != StatusCode::CONFLICT {
            bail!(
                "POST {path}: {} {}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            );
        }
    }
    Ok(())
}

/// Deletes all pods, then the namespace, and waits until it is gone.
async fn leave(connection: &mut Connection, pods: &Pods) -> anyhow::Result<()> {
    let namespace = format!("/api/v1/namespaces/{}", pods.namespace);
    let all = format!("{}?gracePeriodSeconds=0", pods.path());
    for path in [&all, &namespace] {
        let answer = connection.send(&Call::new(Method::DELETE, path.clone())).await;
        let answer = answer.with_context(|| format!("DELETE {path}"))?;
        if !answer.status.is_success() {
            bail!(
                "DELETE {path}: {} {}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            );
        }
    }
    let begin = Instant::now();
    while begin.elapsed() < FAREWELL {
        let answer = connection
            .send(&Call::new(Method::GET, namespace.clone()))
            .await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        // A server without a namespace controller never says that it is gone; asking is then all there is.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    eprintln!(
        "{} is still there: does the server have a namespace controller?",
        pods.namespace
    );
    Ok(())
}
