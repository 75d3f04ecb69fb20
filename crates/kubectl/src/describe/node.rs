//! A node: what it is, how it is, and what runs on it and asks for how much.

use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;
use skiff_api::pod::{Resources, limits, requests};
use skiff_api::quantity::Quantity;

use super::Told;
use super::page::Page;
use crate::cluster::with_query;
use crate::fields::{flag, list, map, name, scalar, text, texts};

const ROLE: &str = "node-role.kubernetes.io/";
/// What every container may ask for and the summary shows by itself, or what is counted otherwise.
const ORDINARY: [&str; 4] = ["cpu", "memory", "ephemeral-storage", "pods"];

/// Its lease, and the pods on it that have not ended.
pub(super) fn related(node: &Value) -> Vec<String> {
    let name = name(node);
    let fields = format!("spec.nodeName={name},status.phase!=Failed,status.phase!=Succeeded");
    vec![
        format!("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{name}"),
        with_query("/api/v1/pods", &[("fieldSelector", &fields)]),
    ]
}

pub(super) fn describe(told: &Told<'_>, page: &mut Page) {
    let node = told.object;
    page.field(0, "Name", name(node));
    page.field_or_none(0, "Roles", roles(node).join(","));
    page.labels(0, "Labels", map(node, "/metadata/labels"));
    page.annotations(0, "Annotations", map(node, "/metadata/annotations"));
    let created = page.time(text(node, "/metadata/creationTimestamp"));
    page.field(0, "CreationTimestamp", created);
    page.field_of_lines(0, "Taints", &taints(node));
    page.field(0, "Unschedulable", flag(node, "/spec/unschedulable").to_string());
    lease(told, page);
    conditions(node, page);
    page.line(0, "Addresses:");
    for address in list(node, "/status/addresses") {
        page.field(1, text(address, "/type"), text(address, "/address"));
    }
    amounts(node, page);
    system(node, page);
    page.field_if_any(0, "PodCIDR", text(node, "/spec/podCIDR"));
    page.field_if_any(0, "PodCIDRs", texts(node, "/spec/podCIDRs").join(","));
    page.field_if_any(0, "ProviderID", text(node, "/spec/providerID"));
    match told.answer(1) {
        Some(answer) => {
            let pods = list(answer, "/items").iter();
            let pods: Vec<Pod> = pods
                .filter_map(|pod| serde_json::from_value(pod.clone()).ok())
                .collect();
            pods_and_sums(node, &pods, page);
        }
        None => page.field(0, "Pods", "not authorized"),
    }
    page.events(told.events.as_deref());
}

fn roles(node: &Value) -> Vec<String> {
    let mut roles: Vec<String> = map(node, "/metadata/labels")
        .iter()
        .filter_map(|(key, value)| match key.strip_prefix(ROLE) {
            Some("") | None => {
                (key == "kubernetes.io/role").then(|| value.as_str().unwrap_or_default().to_string())
            }
            Some(role) => Some(role.to_string()),
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort();
    roles
}

fn taints(node: &Value) -> Vec<String> {
    let mut taints: Vec<&Value> = list(node, "/spec/taints").iter().collect();
    taints.sort_by_key(|taint| (text(taint, "/effect"), text(taint, "/key")));
    let line = |taint: &Value| {
        let value = match text(taint, "/value") {
            "" => String::new(),
            value => format!("={value}"),
        };
        format!("{}{value}:{}", text(taint, "/key"), text(taint, "/effect"))
    };
    taints.into_iter().map(line).collect()
}

fn lease(told: &Told<'_>, page: &mut Page) {
    let lease = match told.related.first() {
        Some(Ok(lease)) => lease,
        Some(Err(why)) => return page.field(0, "Lease", format!("Failed to get lease: {why}")),
        None => return,
    };
    page.line(0, "Lease:");
    let or_unset = |text: String| if text.is_empty() { "<unset>".into() } else { text };
    page.field(
        1,
        "HolderIdentity",
        or_unset(text(lease, "/spec/holderIdentity").to_string()),
    );
    for (label, field) in [
        ("AcquireTime", "/spec/acquireTime"),
        ("RenewTime", "/spec/renewTime"),
    ] {
        let time = match text(lease, field) {
            "" => "<unset>".into(),
            time => page.time(time),
        };
        page.field(1, label, time);
    }
}

fn conditions(node: &Value, page: &mut Page) {
    let conditions = list(node, "/status/conditions");
    if conditions.is_empty() {
        return;
    }
    page.line(0, "Conditions:");
    page.line(
        1,
        "Type\tStatus\tLastHeartbeatTime\tLastTransitionTime\tReason\tMessage",
    );
    page.line(
        1,
        "----\t------\t-----------------\t------------------\t------\t-------",
    );
    for condition in conditions {
        let field = |name: &str| text(condition, name);
        let line = format!(
            "{} \t{} \t{} \t{} \t{} \t{}",
            field("/type"),
            field("/status"),
            page.time(field("/lastHeartbeatTime")),
            page.time(field("/lastTransitionTime")),
            field("/reason"),
            field("/message")
        );
        page.line(1, line);
    }
}

fn amounts(node: &Value, page: &mut Page) {
    for (title, field) in [
        ("Capacity", "/status/capacity"),
        ("Allocatable", "/status/allocatable"),
    ] {
        let amounts = map(node, field);
        if !amounts.is_empty() {
            page.line(0, format!("{title}:"));
        }
        for (resource, amount) in amounts {
            page.field(1, resource, scalar(amount, ""));
        }
    }
}

fn system(node: &Value, page: &mut Page) {
    page.line(0, "System Info:");
    for (label, field) in [
        ("Machine ID", "machineID"),
        ("System UUID", "systemUUID"),
        ("Boot ID", "bootID"),
        ("Kernel Version", "kernelVersion"),
        ("OS Image", "osImage"),
        ("Operating System", "operatingSystem"),
        ("Architecture", "architecture"),
        ("Container Runtime Version", "containerRuntimeVersion"),
        ("Kubelet Version", "kubeletVersion"),
        ("Kube-Proxy Version", "kubeProxyVersion"),
    ] {
        page.field(1, label, text(node, &format!("/status/nodeInfo/{field}")));
    }
}

/// What may be asked of a node: what is left for pods, else what it has.
fn allocatable(node: &Value) -> Resources {
    let field = match map(node, "/status/allocatable").is_empty() {
        true => "/status/capacity",
        false => "/status/allocatable",
    };
    map(node, field)
        .iter()
        .filter_map(|(resource, amount)| Some((resource.clone(), scalar(amount, "").parse().ok()?)))
        .collect()
}

fn amount(resources: &Resources, resource: &str) -> Quantity {
    resources.get(resource).copied().unwrap_or_default()
}

/// `100m (5%)`
fn share(asked: &Resources, all: &Resources, resource: &str) -> String {
    let (asked, all) = (amount(asked, resource), amount(all, resource));
    let percent = asked
        .nanos()
        .saturating_mul(100)
        .checked_div(all.nanos())
        .unwrap_or(0);
    format!("{asked} ({percent}%)")
}

fn pods_and_sums(node: &Value, pods: &[Pod], page: &mut Page) {
    let all = allocatable(node);
    let (mut requested, mut limited) = (Resources::default(), Resources::default());
    page.field(0, "Non-terminated Pods", format!("({} in total)", pods.len()));
    page.line(
        1,
        "Namespace\tName\t\tCPU Requests\tCPU Limits\tMemory Requests\tMemory Limits\tAge",
    );
    page.line(
        1,
        "---------\t----\t\t------------\t----------\t---------------\t-------------\t---",
    );
    for pod in pods {
        let spec = pod.spec.clone().unwrap_or_default();
        let (requests, limits) = (requests(&spec), limits(&spec));
        let metadata = &pod.metadata;
        let age = metadata
            .creation_timestamp
            .as_ref()
            .map(|time| time.0.to_string());
        let line = format!(
            "{}\t{}\t\t{}\t{}\t{}\t{}\t{}",
            metadata.namespace.as_deref().unwrap_or_default(),
            metadata.name.as_deref().unwrap_or_default(),
            share(&requests, &all, "cpu"),
            share(&limits, &all, "cpu"),
            share(&requests, &all, "memory"),
            share(&limits, &all, "memory"),
            page.since(&age.unwrap_or_default())
        );
        page.line(1, line);
        for (sum, of_pod) in [(&mut requested, requests), (&mut limited, limits)] {
            for (resource, amount) in of_pod {
                *sum.entry(resource).or_default() += amount;
            }
        }
    }
    page.line(0, "Allocated resources:");
    page.line(1, "(Total limits may be over 100 percent, i.e., overcommitted.)");
    page.line(1, "Resource\tRequests\tLimits");
    page.line(1, "--------\t--------\t------");
    for resource in ["cpu", "memory", "ephemeral-storage"] {
        let (requests, limits) = (share(&requested, &all, resource), share(&limited, &all, resource));
        page.line(1, format!("{resource}\t{requests}\t{limits}"));
    }
    // Huge pages come first; of other resources kubectl shows no share.
    let more = || {
        all.keys()
            .filter(|resource| !ORDINARY.contains(&resource.as_str()))
    };
    for resource in more().filter(|resource| resource.starts_with("hugepages-")) {
        let (requests, limits) = (share(&requested, &all, resource), share(&limited, &all, resource));
        page.line(1, format!("{resource}\t{requests}\t{limits}"));
    }
    for resource in more().filter(|resource| !resource.starts_with("hugepages-")) {
        let (requests, limits) = (amount(&requested, resource), amount(&limited, resource));
        page.line(1, format!("{resource}\t{requests}\t{limits}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn roles_and_taints_are_sorted() {
        let node = json!({
            "metadata": {"labels": {
                "node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/control-plane": "",
                "node-role.kubernetes.io/": "", "kubernetes.io/role": "edge", "other": "x"}},
            "spec": {"taints": [
                {"key": "b", "effect": "NoExecute"}, {"key": "a", "value": "v", "effect": "NoSchedule"}]}});
        assert_eq!(roles(&node), ["control-plane", "edge", "worker"]);
        assert_eq!(taints(&node), ["b:NoExecute", "a=v:NoSchedule"]);
    }

    #[test]
    fn shares_are_whole_percents() {
        let of = |pairs: &[(&str, &str)]| -> Resources {
            pairs
                .iter()
                .map(|(resource, amount)| (resource.to_string(), amount.parse().unwrap()))
                .collect()
        };
        let all = of(&[("cpu", "2"), ("memory", "8Gi")]);
        let asked = of(&[("cpu", "250m"), ("memory", "70Mi")]);
        assert_eq!(share(&asked, &all, "cpu"), "250m (12%)");
        assert_eq!(share(&asked, &all, "memory"), "70Mi (0%)");
        assert_eq!(share(&asked, &all, "ephemeral-storage"), "0 (0%)");
    }
}
