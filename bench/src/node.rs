//! The figures of one node.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Config};
use serde_json::json;
use skiff_tests::Cluster;

use crate::figures::Figure;
use crate::process::Process;

/// A pod takes no longer than this, or the figure is not worth having.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a process is left alone before its memory is read.
const QUIET: Duration = Duration::from_secs(10);

/// How long an idle node is watched: longer than it takes for the longest of its regular works to come again.
const IDLE: Duration = Duration::from_secs(60);

/// Measures and prints.
pub(crate) async fn measure(skiff: &Path, runs: usize) -> anyhow::Result<()> {
    println!(
        "{:<52} {:>9.1} MB",
        "release binary",
        fs::metadata(skiff)?.len() as f64 / 1e6
    );

    let (mut first_start, mut restart) = (Figure::default(), Figure::default());
    let mut cluster = None;
    for _ in 0..runs {
        // The old one is deleted before the next one starts.
        drop(cluster.take());
        let fresh = Cluster::with_binary(skiff);
        first_start.add(start(&fresh)?);
        fresh.skiff(&["stop"]).success();
        restart.add(start(&fresh)?);
        cluster = Some(fresh);
    }
    let Some(cluster) = cluster else {
        bail!("--runs must be at least 1")
    };
    println!(
        "{}",
        first_start.row("new cluster: from `start` to node Ready", "ms")
    );
    println!("{}", restart.row("again: from `start` to node Ready", "ms"));

    let server = Process::named(&fs::read_to_string(cluster.path("run/skiff.pid"))?)?;
    // What was only needed to start is given back.
    tokio::time::sleep(QUIET).await;
    resident("idle node", server)?;
    println!("{:<52} {:>9.2} %", "idle node, of one core", busy(server).await?);

    let client = client(&cluster).await?;
    let pods: Api<Pod> = Api::default_namespaced(client);
    // The image is pulled once, before anything is measured.
    pod_ready(&pods, "warm-up").await?;
    let mut ready = Figure::default();
    for run in 0..runs.saturating_mul(3) {
        ready.add(pod_ready(&pods, &format!("measured-{run}")).await?);
    }
    println!("{}", ready.row("pod: from create to Ready, image present", "ms"));

    tokio::time::sleep(QUIET).await;
    resident("the same after it has run those pods", server)?;
    create(&pods, "resident").await?;
    wait_ready(&pods, "resident").await?;
    resident("one shim", shim(&cluster).context("no shim runs")?)
}

/// How much of a core a process uses while nobody asks it for anything, in percent.
async fn busy(process: Process) -> anyhow::Result<f64> {
    let (before, since) = (process.cpu_seconds()?, Instant::now());
    tokio::time::sleep(IDLE).await;
    Ok((process.cpu_seconds()? - before) / since.elapsed().as_secs_f64() * 100.0)
}

/// Prints how much memory a process has, and how much of it nobody else.
fn resident(what: &str, process: Process) -> anyhow::Result<()> {
    let (resident, private) = (format!("{what}, resident"), format!("{what}, private"));
    println!("{resident:<52} {:>9.1} MB", process.resident()?);
    println!("{private:<52} {:>9.1} MB", process.private()?);
    Ok(())
}

fn start(cluster: &Cluster) -> anyhow::Result<f64> {
    let begin = Instant::now();
    let output = cluster.skiff_start();
    if output.code != Some(0) {
        bail!("{}{}", output.stdout, output.stderr);
    }
    Ok(begin.elapsed().as_secs_f64() * 1e3)
}

async fn client(cluster: &Cluster) -> anyhow::Result<Client> {
    let kubeconfig = Kubeconfig::read_from(cluster.path("kubeconfig"))?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

async fn create(pods: &Api<Pod>, name: &str) -> anyhow::Result<()> {
    let pod = json!({
        "metadata": { "name": name },
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{ "name": "main", "image": "busybox", "imagePullPolicy": "IfNotPresent",
                             "command": ["sleep", "3600"] }],
        },
    });
    pods.create(&PostParams::default(), &serde_json::from_value(pod)?)
        .await?;
    Ok(())
}

async fn wait_ready(pods: &Api<Pod>, name: &str) -> anyhow::Result<()> {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = watcher(pods.clone(), config).applied_objects().boxed();
    let seen = async {
        while let Some(pod) = events.next().await {
            let conditions = pod?
                .status
                .and_then(|status| status.conditions)
                .unwrap_or_default();
            if conditions
                .iter()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True")
            {
                return Ok(());
            }
        }
        bail!("the watch ended")
    };
    tokio::time::timeout(PATIENCE, seen)
        .await
        .with_context(|| format!("{name} is not Ready"))?
}

/// From the create request to the watch event that says Ready, in milliseconds; the pod is deleted again.
async fn pod_ready(pods: &Api<Pod>, name: &str) -> anyhow::Result<f64> {
    let begin = Instant::now();
    create(pods, name).await?;
    wait_ready(pods, name).await?;
    let elapsed = begin.elapsed().as_secs_f64() * 1e3;
    pods.delete(name, &DeleteParams::default()).await?;
    Ok(elapsed)
}

/// A shim of this cluster.
fn shim(cluster: &Cluster) -> Option<Process> {
    let directory = cluster.path("").display().to_string();
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let command = fs::read(entry.path().join("cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let is_shim = command.contains(" shim ") && command.contains(directory.trim_end_matches('/'));
        Process::named(&entry.file_name().to_string_lossy())
            .ok()
            .filter(|_| is_shim)
    })
}
