//! Names of resources as users type them (`po`, `deployments.apps`, `all`), resolved by the server's discovery.

use serde_json::Value;

use crate::cluster::Cluster;
use crate::failure::Failure;

/// The aggregated discovery document.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// A resource of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) namespaced: bool,
    pub(crate) verbs: Vec<String>,
}

impl Resource {
    /// `v1` or `apps/v1`.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `pod` or `deployment.apps`, as messages name an object's type.
    pub(crate) fn title(&self) -> String {
        let singular = if self.singular.is_empty() {
            self.kind.to_lowercase()
        } else {
            self.singular.clone()
        };
        if self.group.is_empty() {
            singular
        } else {
            format!("{singular}.{}", self.group)
        }
    }

    /// The path of the collection in a namespace; `None` for all namespaces. Cluster-scoped resources have but one.
    pub(crate) fn collection(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        match namespace {
            Some(namespace) if self.namespaced => format!("{root}/namespaces/{namespace}/{}", self.plural),
            _ => format!("{root}/{}", self.plural),
        }
    }

    /// The path of an object.
    pub(crate) fn object(&self, namespace: &str, name: &str) -> String {
        format!("{}/{name}", self.collection(Some(namespace)))
    }
}

/// All resources of a server, the preferred version of each group first.
#[derive(Debug, Default)]
pub(crate) struct Discovery {
    resources: Vec<Resource>,
}

impl Discovery {
    /// Asks the server.
    pub(crate) async fn load(cluster: &Cluster) -> Result<Self, Failure> {
        let (core, groups) =
            futures::join!(cluster.get("/api", AGGREGATED), cluster.get("/apis", AGGREGATED));
        let mut resources = Vec::new();
        read_aggregated(&core?, &mut resources);
        read_aggregated(&groups?, &mut resources);
        Ok(Self { resources })
    }

    /// The resources that a word names: a plural, singular or short name, with or without group, or a category.
    pub(crate) fn named(&self, word: &str) -> Result<Vec<Resource>, Failure> {
        let mut in_category: Vec<Resource> = Vec::new();
        for resource in &self.resources {
            // Of a resource that is served in several versions, the preferred one comes first.
            let known = |other: &Resource| other.group == resource.group && other.plural == resource.plural;
            if resource.categories.iter().any(|category| category == word) && !in_category.iter().any(known) {
                in_category.push(resource.clone());
            }
        }
        if !in_category.is_empty() {
            return Ok(in_category);
        }
        self.one(word).map(|resource| vec![resource])
    }

    /// The one resource that a word names.
    pub(crate) fn one(&self, word: &str) -> Result<Resource, Failure> {
        let lower = word.to_lowercase();
        let (name, group) = match lower.split_once('.') {
            Some((name, group)) => (name, Some(group)),
            None => (lower.as_str(), None),
        };
        let found = self.resources.iter().find(|resource| {
            let in_group = match group {
                None => true,
                Some(group) => {
                    group == resource.group || group == format!("{}.{}", resource.version, resource.group)
                }
            };
            let named = resource.plural == name
                || resource.singular == name
                || resource.kind.to_lowercase() == name
                || resource.short_names.iter().any(|short| short == name);
            in_group && named
        });
        found
            .cloned()
            .ok_or_else(|| Failure::usage(format!("the server doesn't have a resource type \"{name}\"")))
    }

    /// The resource of an object's `apiVersion` and `kind`.
    pub(crate) fn of(&self, api_version: &str, kind: &str) -> Option<&Resource> {
        self.resources
            .iter()
            .find(|resource| resource.api_version() == api_version && resource.kind == kind)
    }
}

fn texts(value: &Value) -> Vec<String> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_string)
        .collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_string()
}

fn read_aggregated(document: &Value, resources: &mut Vec<Resource>) {
    for group in document
        .get("items")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let name = text(group.pointer("/metadata/name").unwrap_or(&Value::Null));
        for version in group
            .get("versions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            for resource in version
                .get("resources")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                let get = |field: &str| resource.get(field).unwrap_or(&Value::Null);
                resources.push(Resource {
                    group: name.clone(),
                    version: text(version.get("version").unwrap_or(&Value::Null)),
                    kind: text(resource.pointer("/responseKind/kind").unwrap_or(&Value::Null)),
                    plural: text(get("resource")),
                    singular: text(get("singularResource")),
                    short_names: texts(get("shortNames")),
                    categories: texts(get("categories")),
                    namespaced: get("scope").as_str() == Some("Namespaced"),
                    verbs: texts(get("verbs")),
                });
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    pub(crate) fn discovery() -> Discovery {
        let resource = |kind: &str, plural: &str, short: &str, scope: &str| {
            json!({"resource": plural, "singularResource": kind.to_lowercase(), "shortNames": [short], "scope": scope,
                   "categories": if scope == "Namespaced" { json!(["all"]) } else { json!([]) },
                   "responseKind": {"kind": kind}, "verbs": ["get", "list"]})
        };
        let mut resources = Vec::new();
        let core = json!({"items": [{"metadata": {"name": ""}, "versions": [{"version": "v1", "resources": [
            resource("Pod", "pods", "po", "Namespaced"), resource("Node", "nodes", "no", "Cluster")]}]}]});
        let apps = json!({"items": [{"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [
            resource("Deployment", "deployments", "deploy", "Namespaced")]}]}]});
        read_aggregated(&core, &mut resources);
        read_aggregated(&apps, &mut resources);
        Discovery { resources }
    }

    #[test]
    fn a_resource_is_found_by_every_name_it_has() {
        let discovery = discovery();
        for word in [
            "deployments",
            "deployment",
            "deploy",
            "Deployment",
            "deployments.apps",
            "deployments.v1.apps",
        ] {
            assert_eq!(discovery.one(word).unwrap().plural, "deployments", "{word}");
        }
        let error = discovery.one("unicorns").unwrap_err().to_string();
        assert_eq!(
            error,
            "error: the server doesn't have a resource type \"unicorns\""
        );
    }

    #[test]
    fn a_category_names_all_that_are_in_it() {
        let plurals: Vec<_> = discovery()
            .named("all")
            .unwrap()
            .into_iter()
            .map(|resource| resource.plural)
            .collect();
        assert_eq!(plurals, ["pods", "deployments"]);
    }

    #[test]
    fn paths_follow_scope_and_group() {
        let discovery = discovery();
        assert_eq!(
            discovery.one("po").unwrap().object("a", "b"),
            "/api/v1/namespaces/a/pods/b"
        );
        assert_eq!(discovery.one("no").unwrap().object("a", "b"), "/api/v1/nodes/b");
        assert_eq!(
            discovery.one("deploy").unwrap().collection(None),
            "/apis/apps/v1/deployments"
        );
    }
}
