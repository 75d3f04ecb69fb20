//! `kubectl describe`: what there is to tell of objects, those around them, and what has happened to them.
//!
//! A kind's story is one file: the requests for what else has to be known of it, and the page, which is made of plain
//! values. A kind without a file is told by its fields.

mod columns;
mod config_map;
mod container;
mod deployment;
mod endpoint_slice;
mod generic;
mod namespace;
mod node;
mod page;
mod pod;
mod replica_set;
mod secret;
mod service;
mod service_account;
mod template;
mod volumes;

use clap::Args;
use futures::future::join_all;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value};
use skiff_api::selector::LabelSelector;

use self::page::Page;
use crate::cluster::{Cluster, JSON, with_query};
use crate::discovery::{Discovery, Resource};
use crate::failure::Failure;
use crate::fields::{name, text};
use crate::manifest::Files;
use crate::output;
use crate::wanted::{BOTH, Wanted, wanted};

#[derive(Debug, Args)]
pub(crate) struct Describe {
    /// TYPE [NAME_PREFIX…], or TYPE/NAME…
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// Selector (label query) to filter on
    #[arg(long, short = 'l', default_value = "")]
    selector: String,
    /// Describe the requested objects across all namespaces
    #[arg(long, short = 'A')]
    all_namespaces: bool,
    /// Display events related to the described object
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1,
          default_missing_value = "true", require_equals = true)]
    show_events: bool,
}

/// What is known of the object of a page.
struct Told<'a> {
    object: &'a Value,
    /// The answers to the story's requests, in their order; or why there is none.
    related: Vec<Result<Value, String>>,
    /// What happened to it. `None` when nobody wants to know.
    events: Option<Vec<Value>>,
}

impl Told<'_> {
    /// What the server said to one of the story's requests, if it gave what was asked for.
    fn answer(&self, index: usize) -> Option<&Value> {
        self.related.get(index)?.as_ref().ok()
    }
}

/// How a kind is described.
struct Story {
    /// The paths of what else is to be read.
    related: fn(&Value) -> Vec<String>,
    tell: fn(&Told<'_>, &mut Page),
}

fn story(resource: &Resource) -> Story {
    let of = |related, tell| Story { related, tell };
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "ConfigMap") => of(alone, config_map::describe),
        ("", "Namespace") => of(namespace::related, namespace::describe),
        ("", "Node") => of(node::related, node::describe),
        ("", "Pod") => of(alone, pod::describe),
        ("", "Secret") => of(alone, secret::describe),
        ("", "Service") => of(service::related, service::describe),
        ("", "ServiceAccount") => of(service_account::related, service_account::describe),
        ("apps", "Deployment") => of(deployment::related, deployment::describe),
        ("apps", "ReplicaSet") => of(replica_set::related, replica_set::describe),
        ("discovery.k8s.io", "EndpointSlice") => of(alone, endpoint_slice::describe),
        _ => of(alone, generic::describe),
    }
}

/// Of a kind whose objects tell all by themselves.
fn alone(_: &Value) -> Vec<String> {
    Vec::new()
}

impl Describe {
    pub(crate) async fn run(self, cluster: &Cluster) -> Result<(), Failure> {
        if self.words.is_empty() && self.files.filename.is_empty() {
            return Err(Failure::usage(
                "You must specify the type of resource to describe. Use \"kubectl api-resources\" for a complete list \
                 of supported resources.",
            ));
        }
        if !self.words.is_empty() && !self.files.filename.is_empty() {
            return Err(Failure::usage(BOTH));
        }
        let discovery = Discovery::load(cluster).await?;
        let (objects, mut failures) = self.objects(cluster, &discovery).await?;
        let nothing = objects.is_empty() && failures.is_empty();
        let mut printed = false;
        for (resource, object) in &objects {
            match self.page(cluster, resource, object).await {
                Ok(page) if !printed => output::text(&page)?,
                Ok(page) => output::text(&format!("\n\n{page}"))?,
                Err(failure) => {
                    failures.push(failure);
                    continue;
                }
            }
            printed = true;
        }
        if nothing {
            output::error(&match self.all_namespaces {
                true => "No resources found".to_string(),
                false => format!("No resources found in {} namespace.", cluster.namespace),
            });
        }
        Failure::all(failures)
    }

    /// The objects that the arguments name.
    async fn objects(
        &self,
        cluster: &Cluster,
        discovery: &Discovery,
    ) -> Result<(Vec<(Resource, Value)>, Vec<Failure>), Failure> {
        let (mut objects, mut failures) = (Vec::new(), Vec::new());
        let all = if self.files.filename.is_empty() {
            let namespace = (!self.all_namespaces).then_some(cluster.namespace.as_str());
            wanted(&self.words, discovery, namespace)?
        } else {
            let (items, bad) = self.files.items(cluster, discovery)?;
            failures.extend(bad);
            items.into_iter().map(Wanted::from).collect()
        };
        for wanted in all {
            match self.find(cluster, &wanted).await {
                Ok(found) => {
                    objects.extend(found.into_iter().map(|object| (wanted.resource.clone(), object)));
                }
                Err(failure) => failures.push(failure),
            }
        }
        Ok((objects, failures))
    }

    /// The object of a name; where there is none, those whose names begin with it.
    async fn find(&self, cluster: &Cluster, wanted: &Wanted) -> Result<Vec<Value>, Failure> {
        let Some(prefix) = &wanted.name else {
            let found = cluster
                .list(&wanted.path(), &[("labelSelector", &self.selector)])
                .await;
            return found.map_err(|failure| wanted.not_listed(failure, &self.selector, ""));
        };
        let missing = match cluster.get(&wanted.path(), JSON).await {
            Err(failure) if failure.is_not_found() => failure,
            answer => return Ok(vec![answer?]),
        };
        // kubectl looks for a prefix only where one type and one name are given.
        if self.words.len() != 2 {
            return Err(missing);
        }
        let collection = wanted.resource.collection(wanted.namespace.as_deref());
        let mut found = cluster.list(&collection, &[]).await?;
        found.retain(|object| name(object).starts_with(prefix));
        if found.is_empty() { Err(missing) } else { Ok(found) }
    }

    async fn page(&self, cluster: &Cluster, resource: &Resource, object: &Value) -> Result<String, Failure> {
        let story = story(resource);
        let paths = (story.related)(object);
        let related = join_all(paths.iter().map(|path| cluster.get(path, JSON)));
        let events = async {
            match self.show_events {
                true => events(cluster, resource, object).await.map(Some),
                false => Ok(None),
            }
        };
        let (related, events) = futures::join!(related, events);
        // Events are of the page's essence; what surrounds the object is told as far as it may be read.
        let related = related
            .into_iter()
            .map(|answer| match answer {
                Err(Failure::Server(status)) => Ok(Err(status.message.unwrap_or_default())),
                answer => answer.map(Ok),
            })
            .collect::<Result<_, _>>()?;
        let told = Told {
            object,
            related,
            events: events?,
        };
        let mut page = Page::new(Timestamp::now(), TimeZone::system());
        (story.tell)(&told, &mut page);
        Ok(page.finish())
    }
}

/// The events that regard an object.
async fn events(cluster: &Cluster, resource: &Resource, object: &Value) -> Result<Vec<Value>, Failure> {
    let namespace = text(object, "/metadata/namespace");
    let uid = pod::uid(object);
    let mut selector = format!(
        "involvedObject.name={},involvedObject.namespace={namespace},involvedObject.kind={}",
        name(object),
        resource.kind
    );
    // The kubelet's events of its node have the node's name for a uid.
    if !uid.is_empty() && resource.kind != "Node" {
        selector.push_str(&format!(",involvedObject.uid={uid}"));
    }
    let path = match namespace {
        "" => "/api/v1/events".to_string(),
        namespace => format!("/api/v1/namespaces/{namespace}/events"),
    };
    cluster.list(&path, &[("fieldSelector", &selector)]).await
}

/// A request for a list, by label selector.
fn selected(path: &str, selector: &str) -> String {
    with_query(path, &[("labelSelector", selector)])
}

/// A `LabelSelector` as text: `a=b,c in (d,e)`; `<none>` when it is empty.
fn selector(selector: &Value) -> String {
    match selector_query(selector) {
        query if query.is_empty() => page::NONE.into(),
        query => query,
    }
}

/// A `LabelSelector` as a request has it.
pub(crate) fn selector_query(selector: &Value) -> String {
    serde_json::from_value(selector.clone())
        .ok()
        .and_then(|selector| LabelSelector::of(Some(&selector)).ok())
        .map(|selector| selector.to_string())
        .unwrap_or_default()
}

/// `a=b,c=d`
pub(crate) fn pairs(map: &Map<String, Value>) -> String {
    lines(map).join(",")
}

/// `a=b`, `c=d`
fn lines(map: &Map<String, Value>) -> Vec<String> {
    map.iter()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect()
}

#[cfg(test)]
mod tests;
