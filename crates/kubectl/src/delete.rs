//! `kubectl delete`: objects go, and the command waits until they are gone.

use std::time::Duration;

use clap::Args;
use http::Method;
use serde_json::{Value, json};

use crate::cluster::{Cluster, JSON, with_query};
use crate::discovery::{Discovery, Resource};
use crate::failure::Failure;
use crate::fields::{name, text};
use crate::manifest::Files;
use crate::output;
use crate::wanted::{BOTH, wanted};

#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// TYPE NAME…, TYPE/NAME…, or TYPE with -l or --all
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// Selector (label query) to filter on
    #[arg(long, short = 'l', default_value = "")]
    selector: String,
    /// Delete all resources, in the namespace of the specified resource types
    #[arg(long)]
    all: bool,
    /// Delete the objects across all namespaces
    #[arg(long, short = 'A')]
    all_namespaces: bool,
    /// Period of time in seconds given to the resource to terminate gracefully
    #[arg(long, allow_negative_numbers = true, default_value_t = -1)]
    grace_period: i64,
    /// Signal resources for immediate shutdown (same as --grace-period=1)
    #[arg(long)]
    now: bool,
    /// With --grace-period=0: remove the resources from the API at once
    #[arg(long)]
    force: bool,
    /// Wait until the resources are gone before returning
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true",
          require_equals = true)]
    wait: bool,
    /// Treat "resource not found" as a successful delete
    #[arg(long)]
    ignore_not_found: bool,
    /// The deletion cascading strategy for the dependents
    #[arg(long, default_value = "background", value_parser = ["background", "orphan", "foreground"])]
    cascade: String,
}

/// An object to delete.
struct Target {
    resource: Resource,
    namespace: String,
    name: String,
    /// The file that names it.
    source: Option<String>,
}

impl Delete {
    pub(crate) async fn run(self, cluster: &Cluster) -> Result<(), Failure> {
        if self.grace_period == 0 && !self.force && self.wait {
            // As kubectl: without --force, an immediate deletion waits for a second.
            return Self {
                grace_period: 1,
                ..self
            }
            .delete(cluster)
            .await;
        }
        if self.force && self.grace_period == 0 {
            output::error(
                "Warning: Immediate deletion does not wait for confirmation that the running resource has been terminated. \
                 The resource may continue to run on the cluster indefinitely.",
            );
        }
        self.delete(cluster).await
    }

    async fn delete(&self, cluster: &Cluster) -> Result<(), Failure> {
        let mut failures = Vec::new();
        let mut gone = Vec::new();
        for target in self.targets(cluster).await? {
            let deleted = async {
                let target = target?;
                let path = target.resource.object(&target.namespace, &target.name);
                let answer = cluster.write(Method::DELETE, &path, &self.options()).await;
                let answer = match answer {
                    Err(failure) if failure.is_not_found() && self.forgives_absence() => return Ok(()),
                    answer => answer.map_err(|failure| match &target.source {
                        Some(source) => failure.when("deleting", source),
                        None => failure,
                    })?,
                };
                let how = if self.force && self.grace_period == 0 {
                    "force deleted"
                } else {
                    "deleted"
                };
                output::line(&format!("{} \"{}\" {how}", target.resource.title(), target.name))?;
                // A `Status` names what was removed in its details, a marked object in its metadata.
                let uid = answer
                    .pointer("/details/uid")
                    .or_else(|| answer.pointer("/metadata/uid"));
                let uid = uid.and_then(Value::as_str).unwrap_or_default().to_string();
                gone.push((target, uid));
                Ok(())
            };
            if let Err(failure) = deleted.await {
                failures.push(failure);
            }
        }
        if self.wait && !(self.force && self.grace_period == 0) {
            for (target, uid) in gone {
                wait_gone(cluster, &target, &uid).await?;
            }
        }
        Failure::all(failures)
    }

    fn forgives_absence(&self) -> bool {
        self.ignore_not_found || self.all || !self.selector.is_empty()
    }

    fn options(&self) -> Value {
        let policy = match self.cascade.as_str() {
            "orphan" => "Orphan",
            "foreground" => "Foreground",
            _ => "Background",
        };
        let mut options = json!({ "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy });
        let grace = if self.now { 1 } else { self.grace_period };
        if grace >= 0
            && let Some(options) = options.as_object_mut()
        {
            options.insert("gracePeriodSeconds".into(), grace.into());
        }
        options
    }

    async fn targets(&self, cluster: &Cluster) -> Result<Vec<Result<Target, Failure>>, Failure> {
        if !self.words.is_empty() && !self.files.filename.is_empty() {
            return Err(Failure::usage(BOTH));
        }
        let discovery = Discovery::load(cluster).await?;
        if !self.files.filename.is_empty() {
            let items = self.files.read(cluster, &discovery)?.into_iter().map(|item| {
                let item = item?;
                let name = item.name().to_string();
                Ok(Target {
                    resource: item.resource,
                    namespace: item.namespace,
                    name,
                    source: Some(item.source),
                })
            });
            return Ok(items.collect());
        }
        let namespace = (!self.all_namespaces).then_some(cluster.namespace.as_str());
        let mut targets = Vec::new();
        for wanted in wanted(&self.words, &discovery, namespace)? {
            if let Some(name) = wanted.name {
                targets.push(Ok(Target {
                    resource: wanted.resource,
                    namespace: cluster.namespace.clone(),
                    name,
                    source: None,
                }));
                continue;
            }
            if !self.all && self.selector.is_empty() {
                return Err(Failure::usage(
                    "resource(s) were provided, but no name was specified",
                ));
            }
            if !wanted.resource.verbs.iter().any(|verb| verb == "delete") {
                continue;
            }
            let path = wanted.resource.collection(wanted.namespace.as_deref());
            let found = cluster.list(&path, &[("labelSelector", &self.selector)]).await;
            let found = found.map_err(|failure| wanted.not_listed(failure, &self.selector, ""))?;
            for item in found {
                targets.push(Ok(Target {
                    resource: wanted.resource.clone(),
                    namespace: text(&item, "/metadata/namespace").to_string(),
                    name: name(&item).to_string(),
                    source: None,
                }));
            }
        }
        if targets.is_empty() {
            output::line("No resources found")?;
        }
        Ok(targets)
    }
}

/// Waits until the object is gone, or another has taken its name.
async fn wait_gone(cluster: &Cluster, target: &Target, uid: &str) -> Result<(), Failure> {
    let collection = target.resource.collection(Some(&target.namespace));
    let fields = format!("metadata.name={}", target.name);
    let is_it = |object: &Value| {
        uid.is_empty() || object.pointer("/metadata/uid").and_then(Value::as_str) == Some(uid)
    };
    loop {
        let list = cluster
            .get(&with_query(&collection, &[("fieldSelector", &fields)]), JSON)
            .await?;
        let items = list
            .get("items")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        if !items.iter().any(is_it) {
            return Ok(());
        }
        let version = list
            .pointer("/metadata/resourceVersion")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let query = [
            ("fieldSelector", fields.as_str()),
            ("watch", "1"),
            ("resourceVersion", version),
        ];
        let mut events = cluster.stream(&with_query(&collection, &query), JSON).await?;
        while let Ok(Some(event)) = events.next_json().await {
            let deleted = event.get("type").and_then(Value::as_str) == Some("DELETED");
            if deleted && event.get("object").is_some_and(is_it) {
                return Ok(());
            }
        }
        // The watch ended without the news: look again, but not in a tight loop with a server that ends it at once.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
