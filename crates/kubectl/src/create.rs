//! `kubectl create`: objects from manifests, and deployments, namespaces, config maps from flags.

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};

use crate::cluster::{Cluster, with_query};
use crate::discovery::Discovery;
use crate::failure::Failure;
use crate::manifest::Files;
use crate::output;

/// What a write says of itself: who writes, and that the server shall find unknown fields.
const WRITE: [(&str, &str); 2] = [("fieldManager", "kubectl-create"), ("fieldValidation", "Strict")];

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Create {
    #[command(flatten)]
    files: Files,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Create a deployment with the specified name
    #[command(visible_alias = "deploy")]
    Deployment {
        /// Its name
        name: String,
        /// Image names to run
        #[arg(long, required = true)]
        image: Vec<String>,
        /// Number of replicas to create
        #[arg(long, short, default_value_t = 1)]
        replicas: i32,
        /// The port that this container exposes
        #[arg(long)]
        port: Option<u16>,
        /// The command to run
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// Create a namespace with the specified name
    #[command(visible_alias = "ns")]
    Namespace {
        /// Its name
        name: String,
    },
    /// Create a config map from literal values
    #[command(visible_alias = "cm")]
    Configmap {
        /// Its name
        name: String,
        /// Keys and values
        #[arg(long, value_name = "KEY=VALUE")]
        from_literal: Vec<String>,
    },
}

impl Create {
    pub(crate) async fn run(self, cluster: &Cluster) -> Result<(), Failure> {
        match self.what {
            Some(what) => {
                let (collection, object, title) = what.object(cluster)?;
                let created = cluster
                    .write(Method::POST, &with_query(&collection, &WRITE), &object)
                    .await;
                created.map_err(|failure| not_created(failure, &title))?;
                output::line(&format!("{title} created"))
            }
            None => from_files(&self.files, cluster).await,
        }
    }
}

/// What kubectl says of an object that it could not create from flags; it has no words of its own for namespaces.
fn not_created(failure: Failure, title: &str) -> Failure {
    let kind = title.split(['.', '/']).next().unwrap_or_default();
    match failure {
        Failure::Server(status) if kind != "namespace" => {
            let message = status.message.unwrap_or_default();
            Failure::usage(format!("failed to create {kind}: {message}"))
        }
        other => other,
    }
}

async fn from_files(files: &Files, cluster: &Cluster) -> Result<(), Failure> {
    let discovery = Discovery::load(cluster).await?;
    let items = files.read(cluster, &discovery)?;
    if items.is_empty() {
        return Err(Failure::usage("no objects passed to create"));
    }
    let mut failures = Vec::new();
    for item in items {
        let created = async {
            let item = item?;
            let path = with_query(&item.resource.collection(Some(&item.namespace)), &WRITE);
            let created = cluster.write(Method::POST, &path, &item.object).await;
            let created = created.map_err(|failure| failure.when("creating", &item.source))?;
            let name = created
                .pointer("/metadata/name")
                .and_then(Value::as_str)
                .unwrap_or_default();
            output::line(&format!("{}/{name} created", item.resource.title()))
        };
        if let Err(failure) = created.await {
            failures.push(failure);
        }
    }
    Failure::all(failures)
}

/// A container's name from its image, as `kubectl create deployment` makes it.
fn container_name(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    let name = last.split([':', '@']).next().unwrap_or(last);
    name.to_lowercase().replace(['_', '.'], "-")
}

impl What {
    /// The collection's path, the object, and its title.
    fn object(self, cluster: &Cluster) -> Result<(String, Value, String), Failure> {
        let namespace = &cluster.namespace;
        Ok(match self {
            Self::Deployment {
                name,
                image,
                replicas,
                port,
                command,
            } => {
                if image.len() > 1 && !command.is_empty() {
                    return Err(Failure::usage(
                        "cannot specify multiple --image options and command",
                    ));
                }
                let containers: Vec<Value> = image
                    .iter()
                    .map(|image| {
                        let mut container =
                            json!({ "name": container_name(image), "image": image, "resources": {} });
                        if let Some(container) = container.as_object_mut() {
                            if let Some(port) = port {
                                container.insert("ports".into(), json!([{ "containerPort": port }]));
                            }
                            if !command.is_empty() {
                                container.insert("command".into(), command.clone().into());
                            }
                        }
                        container
                    })
                    .collect();
                let labels = json!({ "app": name });
                let object = json!({
                    "apiVersion": "apps/v1",
                    "kind": "Deployment",
                    "metadata": { "name": name, "labels": labels },
                    "spec": {
                        "replicas": replicas,
                        "selector": { "matchLabels": labels },
                        "template": { "metadata": { "labels": labels }, "spec": { "containers": containers } },
                    },
                });
                (
                    format!("/apis/apps/v1/namespaces/{namespace}/deployments"),
                    object,
                    format!("deployment.apps/{name}"),
                )
            }
            Self::Namespace { name } => {
                let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
                (
                    "/api/v1/namespaces".to_string(),
                    object,
                    format!("namespace/{name}"),
                )
            }
            Self::Configmap { name, from_literal } => {
                let mut data = Map::new();
                for literal in from_literal {
                    let (key, value) = literal.split_once('=').ok_or_else(|| {
                        Failure::usage(format!("invalid literal source {literal}, expected key=value"))
                    })?;
                    data.insert(key.into(), value.into());
                }
                let object = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": data });
                (
                    format!("/api/v1/namespaces/{namespace}/configmaps"),
                    object,
                    format!("configmap/{name}"),
                )
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_created_is_said_by_kind() {
        let status = json!({"reason": "AlreadyExists", "message": "already there"});
        let failure = || Failure::Server(Box::new(serde_json::from_value(status.clone()).unwrap()));
        let text = |title| not_created(failure(), title).to_string();
        assert_eq!(
            text("deployment.apps/a"),
            "error: failed to create deployment: already there"
        );
        assert_eq!(
            text("namespace/a"),
            "Error from server (AlreadyExists): already there"
        );
    }

    #[test]
    fn a_container_is_named_after_its_image() {
        let cases = [
            ("nginx", "nginx"),
            ("docker.io/library/nginx:1.22", "nginx"),
            ("a/b_C.d@sha256:0", "b-c-d"),
        ];
        for (image, name) in cases {
            assert_eq!(container_name(image), name);
        }
    }
}
