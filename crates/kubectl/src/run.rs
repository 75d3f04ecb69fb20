//! `kubectl run`: one pod of an image.

use clap::{Args, ValueEnum};
use http::Method;
use serde_json::{Value, json};

use crate::cluster::{Cluster, with_query};
use crate::failure::Failure;
use crate::output;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
enum Restart {
    Always,
    OnFailure,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
enum Pull {
    Always,
    IfNotPresent,
    Never,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The pod's name
    name: String,
    /// The image for the container to run
    #[arg(long)]
    image: String,
    /// The restart policy for this Pod
    #[arg(long, value_enum, default_value = "Always")]
    restart: Restart,
    /// The image pull policy for the container
    #[arg(long, value_enum)]
    image_pull_policy: Option<Pull>,
    /// Environment variables to set in the container
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Comma separated labels to apply to the pod
    #[arg(long, short = 'l', value_delimiter = ',', value_name = "NAME=VALUE")]
    labels: Vec<String>,
    /// The port that this container exposes
    #[arg(long)]
    port: Option<u16>,
    /// Use the extra arguments as the command instead of its arguments
    #[arg(long)]
    command: bool,
    /// Arguments of the container
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// `NAME=VALUE`
fn pair<'a>(text: &'a str, what: &str) -> Result<(&'a str, &'a str), Failure> {
    text.split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| Failure::usage(format!("invalid {what}: {text}")))
}

fn name_of<T: ValueEnum>(value: T) -> String {
    value
        .to_possible_value()
        .map(|value| value.get_name().to_string())
        .unwrap_or_default()
}

impl Run {
    pub(crate) async fn run(self, cluster: &Cluster) -> Result<(), Failure> {
        let pod = self.pod()?;
        let collection = format!("/api/v1/namespaces/{}/pods", cluster.namespace);
        let path = with_query(&collection, &[("fieldManager", "kubectl-run")]);
        cluster.write(Method::POST, &path, &pod).await?;
        output::line(&format!("pod/{} created", self.name))
    }

    fn pod(&self) -> Result<Value, Failure> {
        let mut labels = serde_json::Map::new();
        for label in &self.labels {
            let (name, value) = pair(label, "label")?;
            labels.insert(name.into(), value.into());
        }
        if labels.is_empty() {
            labels.insert("run".into(), self.name.clone().into());
        }
        let mut container = json!({ "name": self.name, "image": self.image, "resources": {} });
        if let Some(container) = container.as_object_mut() {
            let mut environment = Vec::new();
            for variable in &self.env {
                let (name, value) = pair(variable, "env")?;
                environment.push(json!({ "name": name, "value": value }));
            }
            if !environment.is_empty() {
                container.insert("env".into(), environment.into());
            }
            if let Some(policy) = self.image_pull_policy {
                container.insert("imagePullPolicy".into(), name_of(policy).into());
            }
            if let Some(port) = self.port {
                container.insert("ports".into(), json!([{ "containerPort": port }]));
            }
            if !self.arguments.is_empty() {
                let field = if self.command { "command" } else { "args" };
                container.insert(field.into(), self.arguments.clone().into());
            }
        }
        Ok(json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": self.name, "labels": labels },
            "spec": { "containers": [container], "restartPolicy": name_of(self.restart), "dnsPolicy": "ClusterFirst" },
        }))
    }
}
