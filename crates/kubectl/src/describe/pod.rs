//! A pod, from its place and its containers to what it tolerates.

use serde_json::Value;

use super::Told;
use super::container::{Surroundings, containers, resources, seccomp};
use super::page::{NONE, Page};
use super::volumes::volumes;
use crate::fields::{integer, list, map, name, scalar, text};

const MIRROR: &str = "/metadata/annotations/kubernetes.io~1config.mirror";

pub(super) fn describe(told: &Told<'_>, page: &mut Page) {
    let pod = told.object;
    head(pod, page);
    status(pod, page);
    seccomp(page, 0, pod.get("spec").unwrap_or(&Value::Null));
    page.field(0, "IP", text(pod, "/status/podIP"));
    addresses(pod, page);
    page.controller(pod);
    page.field_if_any(0, "NominatedNodeName", text(pod, "/status/nominatedNodeName"));
    if let Some(shared) = pod.pointer("/spec/resources") {
        page.line(0, "Resources:");
        resources(page, 1, shared);
    }
    for (title, field, needed) in [
        ("Init Containers", "init", false),
        ("Containers", "", true),
        ("Ephemeral Containers", "ephemeral", false),
    ] {
        let (spec, status) = match field {
            "" => (
                "/spec/containers".to_string(),
                "/status/containerStatuses".to_string(),
            ),
            kind => (
                format!("/spec/{kind}Containers"),
                format!("/status/{kind}ContainerStatuses"),
            ),
        };
        let all = list(pod, &spec);
        let around = Surroundings {
            pod: Some(pod),
            statuses: list(pod, &status),
        };
        if needed || !all.is_empty() {
            containers(page, title, all, around, false);
        }
    }
    conditions(pod, page);
    volumes(page, list(pod, "/spec/volumes"), false);
    page.field(0, "QoS Class", qos_class(pod));
    page.labels(0, "Node-Selectors", map(pod, "/spec/nodeSelector"));
    page.field_of_lines(0, "Tolerations", &tolerations(list(pod, "/spec/tolerations")));
    spread(page, list(pod, "/spec/topologySpreadConstraints"), "");
    page.events(told.events.as_deref());
}

fn head(pod: &Value, page: &mut Page) {
    page.field(0, "Name", name(pod));
    page.field(0, "Namespace", text(pod, "/metadata/namespace"));
    page.field_if_any(0, "Priority", scalar(pod, "/spec/priority"));
    page.field_if_any(0, "Priority Class Name", text(pod, "/spec/priorityClassName"));
    page.field_if_any(0, "Runtime Class Name", text(pod, "/spec/runtimeClassName"));
    page.field_if_any(0, "Service Account", text(pod, "/spec/serviceAccountName"));
    let node = match text(pod, "/spec/nodeName") {
        "" => NONE.to_string(),
        node => format!("{node}/{}", text(pod, "/status/hostIP")),
    };
    page.field(0, "Node", node);
    let started = text(pod, "/status/startTime");
    if !started.is_empty() {
        let started = page.time(started);
        page.field(0, "Start Time", started);
    }
    page.labels(0, "Labels", map(pod, "/metadata/labels"));
    page.annotations(0, "Annotations", map(pod, "/metadata/annotations"));
}

fn status(pod: &Value, page: &mut Page) {
    let phase = text(pod, "/status/phase");
    let deleted = text(pod, "/metadata/deletionTimestamp");
    if !deleted.is_empty() && !["Failed", "Succeeded"].contains(&phase) {
        let since = page.since(deleted);
        page.field(0, "Status", format!("Terminating (lasts {since})"));
        let grace = integer(pod, "/metadata/deletionGracePeriodSeconds");
        page.field(0, "Termination Grace Period", format!("{grace}s"));
    } else {
        page.field(0, "Status", phase);
    }
    page.field_if_any(0, "Reason", text(pod, "/status/reason"));
    page.field_if_any(0, "Message", text(pod, "/status/message"));
}

fn addresses(pod: &Value, page: &mut Page) {
    let addresses = list(pod, "/status/podIPs");
    if addresses.is_empty() {
        return page.field(0, "IPs", NONE);
    }
    page.line(0, "IPs:");
    for address in addresses {
        page.field(1, "IP", text(address, "/ip"));
    }
}

fn conditions(pod: &Value, page: &mut Page) {
    let conditions = list(pod, "/status/conditions");
    let gates = list(pod, "/spec/readinessGates");
    if !gates.is_empty() {
        page.line(0, "Readiness Gates:");
        page.line(1, "Type\tStatus");
    }
    for gate in gates {
        let kind = text(gate, "/conditionType");
        let condition = conditions
            .iter()
            .find(|condition| text(condition, "/type") == kind);
        let status = condition.map_or(NONE, |condition| text(condition, "/status"));
        page.line(1, format!("{kind} \t{status} "));
    }
    if conditions.is_empty() {
        return;
    }
    page.line(0, "Conditions:");
    page.line(1, "Type\tStatus");
    for condition in conditions {
        let (kind, status) = (text(condition, "/type"), text(condition, "/status"));
        page.line(1, format!("{kind} \t{status} "));
    }
}

/// `node.kubernetes.io/not-ready:NoExecute op=Exists for 300s`
pub(super) fn tolerations(tolerations: &[Value]) -> Vec<String> {
    let mut sorted: Vec<&Value> = tolerations.iter().collect();
    sorted.sort_by_key(|toleration| text(toleration, "/key"));
    let line = |toleration: &&Value| {
        let field = |name: &str| text(toleration, name);
        let mut line = field("/key").to_string();
        if !field("/value").is_empty() {
            line.push_str(&format!("={}", field("/value")));
        }
        if !field("/effect").is_empty() {
            line.push_str(&format!(":{}", field("/effect")));
        }
        if field("/operator") == "Exists" && field("/value").is_empty() {
            line.push_str(if line.is_empty() {
                "op=Exists"
            } else {
                " op=Exists"
            });
        }
        if let Some(seconds) = toleration.get("tolerationSeconds").and_then(Value::as_i64) {
            line.push_str(&format!(" for {seconds}s"));
        }
        line
    };
    sorted.iter().map(line).collect()
}

/// The constraints on how pods spread; nothing when there are none.
pub(super) fn spread(page: &mut Page, constraints: &[Value], indent: &str) {
    let mut sorted: Vec<&Value> = constraints.iter().collect();
    sorted.sort_by_key(|constraint| text(constraint, "/topologyKey"));
    let mut lines = Vec::new();
    for constraint in sorted {
        let mut line = format!(
            "{}:{} when max skew {} is exceeded",
            text(constraint, "/topologyKey"),
            text(constraint, "/whenUnsatisfiable"),
            integer(constraint, "/maxSkew")
        );
        if let Some(selector) = constraint.get("labelSelector") {
            line.push_str(&format!(" for selector {}", super::selector(selector)));
        }
        lines.push(line);
    }
    if !lines.is_empty() {
        page.field_of_lines(0, &format!("{indent}Topology Spread Constraints"), &lines);
    }
}

/// As the server says; of a pod without a status, what its containers make it.
fn qos_class(pod: &Value) -> String {
    match text(pod, "/status/qosClass") {
        "" => serde_json::from_value(pod.get("spec").cloned().unwrap_or_default())
            .map(|spec| skiff_api::pod::qos_class(&spec).name().to_string())
            .unwrap_or_default(),
        class => class.to_string(),
    }
}

/// The uid that a pod's events name: the kubelet's own pods have theirs in an annotation.
pub(super) fn uid(pod: &Value) -> &str {
    match text(pod, MIRROR) {
        "" => text(pod, "/metadata/uid"),
        mirrored => mirrored,
    }
}
