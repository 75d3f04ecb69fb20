//! `kubectl scale`: another number of replicas.

use clap::Args;
use http::Method;
use serde_json::json;

use crate::cluster::{Cluster, JSON};
use crate::discovery::Discovery;
use crate::failure::Failure;
use crate::fields::integer;
use crate::manifest::Files;
use crate::output;
use crate::wanted::{BOTH, wanted};

#[derive(Debug, Args)]
pub(crate) struct Scale {
    /// TYPE NAME…, or TYPE/NAME…
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// The new desired number of replicas
    #[arg(long)]
    replicas: i32,
    /// Precondition for current size
    #[arg(long)]
    current_replicas: Option<i64>,
}

impl Scale {
    pub(crate) async fn run(self, cluster: &Cluster) -> Result<(), Failure> {
        if self.replicas < 0 {
            return Err(Failure::usage(
                "The --replicas=COUNT flag is required, and COUNT must be greater than or equal to 0",
            ));
        }
        if !self.words.is_empty() && !self.files.filename.is_empty() {
            return Err(Failure::usage(BOTH));
        }
        let discovery = Discovery::load(cluster).await?;
        let mut targets = Vec::new();
        if self.files.filename.is_empty() {
            for wanted in wanted(&self.words, &discovery, Some(&cluster.namespace))? {
                let Some(name) = wanted.name else {
                    return Err(Failure::usage(
                        "resource(s) were provided, but no name was specified",
                    ));
                };
                targets.push((
                    wanted.resource.object(&cluster.namespace, &name),
                    wanted.resource.title(),
                    name,
                ));
            }
        } else {
            for item in self.files.read(cluster, &discovery)? {
                let item = item?;
                targets.push((item.path(), item.resource.title(), item.name().to_string()));
            }
        }
        let (mut scaled, mut failures) = (false, Vec::new());
        for (path, title, name) in targets {
            match self.scale(cluster, &format!("{path}/scale")).await {
                Ok(()) => output::line(&format!("{title}/{name} scaled"))?,
                Err(failure) => {
                    failures.push(failure);
                    continue;
                }
            }
            scaled = true;
        }
        // kubectl looks for all objects before it scales one, and says so when there are none.
        let missing: Vec<&str> = failures.iter().filter_map(Failure::missing).collect();
        if scaled || missing.is_empty() || missing.len() < failures.len() {
            return Failure::all(failures);
        }
        let missing = match missing.as_slice() {
            [one] => one.to_string(),
            all => format!("[{}]", all.join(", ")),
        };
        Err(Failure::usage(format!("no objects passed to scale {missing}")))
    }

    async fn scale(&self, cluster: &Cluster, path: &str) -> Result<(), Failure> {
        if let Some(expected) = self.current_replicas {
            let current = integer(&cluster.get(path, JSON).await?, "/spec/replicas");
            if current != expected {
                return Err(Failure::usage(format!(
                    "Expected replicas to be {expected}, was {current}"
                )));
            }
        }
        let patch = json!({ "spec": { "replicas": self.replicas } });
        cluster
            .write_as(Method::PATCH, path, "application/merge-patch+json", &patch)
            .await?;
        Ok(())
    }
}
