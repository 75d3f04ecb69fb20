//! The Node authorizer: a kubelet may read what the pods on its node use, and write what its node is.

pub(crate) mod graph;
mod storage;

use async_trait::async_trait;
use k8s_openapi::api::rbac::v1::PolicyRule;

use crate::auth::authorize::{Attributes, Authorizer, Decision, Held};
use crate::auth::rbac::policy::Policy;
use crate::auth::rbac::rules;
use crate::user::{NODES, UserInfo};
use graph::{Graph, Used};

const PREFIX: &str = "system:node:";

/// The name of the node that a user is; `None`: it is none. Empty: it is a node without a name.
pub(crate) fn identity(user: &UserInfo) -> Option<&str> {
    let name = user.name.strip_prefix(PREFIX)?;
    user.in_group(NODES).then_some(name)
}

/// Answers for nodes.
pub(crate) struct NodeAuthorizer {
    graph: Graph,
    /// What all nodes may do with what is nobody's.
    rules: Vec<PolicyRule>,
}

impl NodeAuthorizer {
    /// An authorizer over a graph.
    pub(crate) fn new(graph: Graph, policy: &Policy) -> Self {
        Self {
            graph,
            rules: policy.rules_of("system:node"),
        }
    }
}

/// Why not; empty where there is nothing to say.
type Refusal = Result<(), String>;

fn refuse(why: &str) -> Refusal {
    Err(why.to_string())
}

/// What can be decided without knowing the pods.
enum Verdict {
    Is(Refusal),
    /// Allowed if a pod of the node uses it.
    IfUsed(Used),
    /// As the static rules say.
    ByRules,
}

fn verdict(node: &str, attributes: &Attributes<'_>) -> Verdict {
    let (resource, subresource) = attributes
        .resource
        .split_once('/')
        .unwrap_or((&attributes.resource, ""));
    let is = |refusal| Verdict::Is(refusal);
    match (attributes.group, resource) {
        ("", "secrets") => read_named(attributes, subresource, Used::Secret),
        ("", "configmaps") => read_named(attributes, subresource, Used::ConfigMap),
        ("", "persistentvolumeclaims") if subresource == "status" => match attributes.verb {
            "update" | "patch" => named(attributes, Used::Claim),
            _ => is(refuse("can only get/update/patch this type")),
        },
        ("", "persistentvolumeclaims") => get_named(attributes, subresource, Used::Claim),
        ("", "persistentvolumes") => get_named(attributes, subresource, Used::Volume),
        ("resource.k8s.io", "resourceclaims") => get_named(attributes, subresource, Used::ResourceClaim),
        ("storage.k8s.io", "volumeattachments") => get_named(attributes, subresource, Used::Attachment),
        ("resource.k8s.io", "resourceslices") => slice(node, attributes, subresource),
        ("", "serviceaccounts") => match (attributes.verb, subresource) {
            // Credential providers of images are told about the account.
            ("get", "") => read_named(attributes, subresource, Used::Account),
            ("create", _) if attributes.name.is_empty() => {
                is(refuse("can only create tokens for individual service accounts"))
            }
            ("create", "token") => Verdict::IfUsed(Used::Account),
            ("create", _) => is(refuse("can only create token subresource of serviceaccount")),
            _ => is(refuse("can only create tokens for individual service accounts")),
        },
        ("coordination.k8s.io", "leases") => is(lease(node, attributes)),
        ("storage.k8s.io", "csinodes") => is(csi_node(node, attributes, subresource)),
        ("", "nodes") => is(own_node(node, attributes, subresource)),
        ("", "pods") => pod(node, attributes, subresource),
        _ => Verdict::ByRules,
    }
}

fn named(attributes: &Attributes<'_>, used: Used) -> Verdict {
    if attributes.name.is_empty() {
        Verdict::Is(refuse("No Object name found"))
    } else {
        Verdict::IfUsed(used)
    }
}

fn read_named(attributes: &Attributes<'_>, subresource: &str, used: Used) -> Verdict {
    if !matches!(attributes.verb, "get" | "list" | "watch") {
        Verdict::Is(refuse("can only read resources of this type"))
    } else if !subresource.is_empty() {
        Verdict::Is(refuse("cannot read subresource"))
    } else if attributes.namespace.is_empty() {
        Verdict::Is(refuse("can only read namespaced object of this type"))
    } else {
        named(attributes, used)
    }
}

fn get_named(attributes: &Attributes<'_>, subresource: &str, used: Used) -> Verdict {
    if attributes.verb != "get" {
        Verdict::Is(refuse("can only get individual resources of this type"))
    } else if !subresource.is_empty() {
        Verdict::Is(refuse("cannot get subresource"))
    } else {
        named(attributes, used)
    }
}

fn lease(node: &str, attributes: &Attributes<'_>) -> Refusal {
    if !matches!(attributes.verb, "get" | "create" | "update" | "patch" | "delete") {
        refuse("can only get, create, update, patch, or delete a node lease")
    } else if attributes.namespace != "kube-node-lease" {
        refuse(r#"can only access leases in the "kube-node-lease" system namespace"#)
    } else if attributes.verb != "create" && attributes.name != node {
        refuse("can only access node lease with the same name as the requesting node")
    } else {
        Ok(())
    }
}

fn csi_node(node: &str, attributes: &Attributes<'_>, subresource: &str) -> Refusal {
    if !matches!(attributes.verb, "get" | "create" | "update" | "patch" | "delete") {
        refuse("can only get, create, update, patch, or delete a CSINode")
    } else if !subresource.is_empty() {
        refuse("cannot authorize CSINode subresources")
    } else if attributes.verb != "create" && attributes.name != node {
        refuse("can only access CSINode with the same name as the requesting node")
    } else {
        Ok(())
    }
}

/// Whether the request selects by a field with this value, among others.
fn selects(attributes: &Attributes<'_>, field: &str, value: &str) -> bool {
    attributes.field_selector.split(',').any(|requirement| {
        let its = requirement
            .trim()
            .strip_prefix(field)
            .and_then(|rest| rest.strip_prefix('='));
        its.map(|its| its.strip_prefix('=').unwrap_or(its)) == Some(value)
    })
}

fn slice(node: &str, attributes: &Attributes<'_>, subresource: &str) -> Verdict {
    if !subresource.is_empty() {
        return Verdict::Is(refuse("cannot authorize ResourceSlice subresources"));
    }
    match attributes.verb {
        // Whose slice it is is looked at by admission.
        "create" => Verdict::Is(Ok(())),
        "get" | "update" | "patch" | "delete" => named(attributes, Used::Slice),
        "watch" | "list" | "deletecollection" => Verdict::Is(if selects(attributes, "spec.nodeName", node) {
            Ok(())
        } else {
            refuse("can only list/watch/deletecollection resourceslices with nodeName field selector")
        }),
        _ => Verdict::Is(refuse(
            "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection",
        )),
    }
}

fn own_node(node: &str, attributes: &Attributes<'_>, subresource: &str) -> Refusal {
    match (subresource, attributes.verb) {
        // Which node is looked at by admission.
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ok(()),
        ("", "get" | "list" | "watch") => match attributes.name {
            name if name == node => Ok(()),
            "" => Err(format!(
                "node '{node}' cannot read all nodes, only its own Node object"
            )),
            name => Err(format!(
                "node '{node}' cannot read '{name}', only its own Node object"
            )),
        },
        _ => refuse(""),
    }
}

fn pod(node: &str, attributes: &Attributes<'_>, subresource: &str) -> Verdict {
    match (subresource, attributes.verb) {
        ("", "get") => get_named(attributes, "", Used::Pod),
        ("", "list" | "watch") => {
            if selects(attributes, "spec.nodeName", node) {
                Verdict::Is(Ok(()))
            } else if attributes.name.is_empty() {
                Verdict::Is(refuse(
                    "can only list/watch pods with spec.nodeName field selector",
                ))
            } else {
                Verdict::IfUsed(Used::Pod)
            }
        }
        // Whose pod it is is looked at by admission.
        ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => {
            Verdict::Is(Ok(()))
        }
        _ => Verdict::Is(refuse("")),
    }
}

#[async_trait]
impl Authorizer for NodeAuthorizer {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let no = |why: String| Decision::NoOpinion(why);
        let Some(node) = identity(attributes.user) else {
            return no(String::new());
        };
        if node.is_empty() {
            return no(format!("unknown node for user {:?}", attributes.user.name));
        }
        let verdict = if attributes.is_resource {
            verdict(node, attributes)
        } else {
            Verdict::ByRules
        };
        match verdict {
            Verdict::Is(Ok(())) => Decision::Allow(None),
            Verdict::Is(Err(why)) => no(why),
            Verdict::IfUsed(used) => {
                let (namespace, name) = (attributes.namespace, attributes.name);
                if self.graph.is_used_on(node, used, namespace, name).await {
                    Decision::Allow(None)
                } else {
                    no(format!(
                        "no relationship found between node '{node}' and this object"
                    ))
                }
            }
            Verdict::ByRules => {
                if self.rules.iter().any(|rule| rules::allows(rule, attributes)) {
                    Decision::Allow(None)
                } else {
                    no(String::new())
                }
            }
        }
    }

    fn rules_for(&self, user: &UserInfo, _namespace: &str) -> Held {
        match identity(user) {
            None => Held::default(),
            Some(_) => Held {
                errors: vec!["node authorizer does not support user rule resolution".into()],
                incomplete: true,
                ..Held::default()
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_node_may_do_what_a_kubelet_needs() {
        let graph = Graph::default();
        graph.know_pod(
            "n",
            "default",
            "p",
            &serde_json::json!({
                "serviceAccountName": "sa",
                "imagePullSecrets": [{"name": "pull"}],
                "resourceClaims": [{"name": "c", "resourceClaimName": "gpu"}],
                "containers": [{"name": "c", "envFrom": [{"configMapRef": {"name": "cm"}}]}],
                "volumes": [
                    {"name": "s", "secret": {"secretName": "tls"}},
                    {"name": "d", "persistentVolumeClaim": {"claimName": "data"}},
                ],
            }),
        );
        let authorizer = NodeAuthorizer::new(graph, &Policy::builtin());
        let user = UserInfo::new("system:node:n", [NODES]);
        let unrelated = Some("no relationship found between node 'n' and this object");
        // Verb, group, resource, namespace, name, selector; `None` where it is allowed.
        let cases = [
            (["get", "", "secrets", "default", "tls", ""], None),
            (["get", "", "secrets", "default", "pull", ""], None),
            (["get", "", "secrets", "other", "tls", ""], unrelated),
            (["get", "", "secrets", "default", "else", ""], unrelated),
            (
                ["list", "", "secrets", "default", "", ""],
                Some("No Object name found"),
            ),
            (
                ["list", "", "secrets", "", "", ""],
                Some("can only read namespaced object of this type"),
            ),
            (
                ["update", "", "secrets", "default", "tls", ""],
                Some("can only read resources of this type"),
            ),
            (["watch", "", "configmaps", "default", "cm", ""], None),
            (["get", "", "persistentvolumeclaims", "default", "data", ""], None),
            (
                ["list", "", "persistentvolumeclaims", "default", "", ""],
                Some("can only get individual resources of this type"),
            ),
            (["create", "", "serviceaccounts/token", "default", "sa", ""], None),
            (
                ["create", "", "serviceaccounts/token", "default", "default", ""],
                unrelated,
            ),
            (["get", "", "serviceaccounts", "default", "sa", ""], None),
            (
                ["get", "", "serviceaccounts", "default", "default", ""],
                unrelated,
            ),
            (
                ["list", "", "serviceaccounts", "default", "", ""],
                Some("can only create tokens for individual service accounts"),
            ),
            (
                ["get", "resource.k8s.io", "resourceclaims", "default", "gpu", ""],
                None,
            ),
            (
                ["get", "resource.k8s.io", "resourceclaims", "default", "other", ""],
                unrelated,
            ),
            (
                ["get", "resource.k8s.io", "resourceslices", "", "s", ""],
                unrelated,
            ),
            (
                [
                    "list",
                    "resource.k8s.io",
                    "resourceslices",
                    "",
                    "",
                    "spec.nodeName=n",
                ],
                None,
            ),
            (
                ["watch", "resource.k8s.io", "resourceslices", "", "", ""],
                Some("can only list/watch/deletecollection resourceslices with nodeName field selector"),
            ),
            (["get", "", "persistentvolumes", "", "v", ""], unrelated),
            (
                ["get", "storage.k8s.io", "volumeattachments", "", "a", ""],
                unrelated,
            ),
            (["get", "", "pods", "default", "p", ""], None),
            (["get", "", "pods", "default", "q", ""], unrelated),
            (["list", "", "pods", "", "", "spec.nodeName=n"], None),
            (
                ["list", "", "pods", "", "", "spec.nodeName=m"],
                Some("can only list/watch pods with spec.nodeName field selector"),
            ),
            (["patch", "", "pods/status", "default", "p", ""], None),
            (["patch", "", "pods", "default", "p", ""], Some("")),
            (["get", "", "nodes", "", "n", ""], None),
            (
                ["get", "", "nodes", "", "m", ""],
                Some("node 'n' cannot read 'm', only its own Node object"),
            ),
            (
                ["list", "", "nodes", "", "", ""],
                Some("node 'n' cannot read all nodes, only its own Node object"),
            ),
            (["delete", "", "nodes", "", "n", ""], Some("")),
            (
                [
                    "update",
                    "coordination.k8s.io",
                    "leases",
                    "kube-node-lease",
                    "n",
                    "",
                ],
                None,
            ),
            (
                [
                    "update",
                    "coordination.k8s.io",
                    "leases",
                    "kube-node-lease",
                    "m",
                    "",
                ],
                Some("can only access node lease with the same name as the requesting node"),
            ),
            (
                ["get", "coordination.k8s.io", "leases", "default", "n", ""],
                Some(r#"can only access leases in the "kube-node-lease" system namespace"#),
            ),
            (["list", "", "services", "", "", ""], None),
            (["create", "", "events", "default", "", ""], None),
            (
                [
                    "create",
                    "authorization.k8s.io",
                    "subjectaccessreviews",
                    "",
                    "",
                    "",
                ],
                None,
            ),
            (["create", "", "services", "default", "", ""], Some("")),
        ];
        for ([verb, group, resource, namespace, name, field_selector], expected) in cases {
            let attributes = Attributes {
                verb,
                is_resource: true,
                group,
                resource: resource.into(),
                namespace,
                name,
                field_selector,
                ..Attributes::about_nothing(&user)
            };
            let decision = authorizer.authorize(&attributes).await;
            let wanted = match expected {
                None => Decision::Allow(None),
                Some(why) => Decision::NoOpinion(why.into()),
            };
            assert_eq!(decision, wanted, "{verb} {resource} {namespace}/{name}");
        }
        let stranger = UserInfo::new("system:node:n", ["others"]);
        let decision = authorizer
            .authorize(&Attributes {
                verb: "list",
                is_resource: true,
                resource: "services".into(),
                ..Attributes::about_nothing(&stranger)
            })
            .await;
        assert_eq!(decision, Decision::NoOpinion(String::new()));
    }
}
