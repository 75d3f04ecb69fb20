//! Containers as pods and pod templates describe them.

use serde_json::Value;

use super::page::{NONE, Page};
use crate::fields::{flag, integer, list, map, scalar, text, texts};

/// What a container's story needs to know of its pod; a template has none of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings<'a> {
    /// The pod, for the values of its fields in the environment.
    pub(super) pod: Option<&'a Value>,
    pub(super) statuses: &'a [Value],
}

/// The section of one kind of containers. `inside` a template everything stands a little further to the right.
pub(super) fn containers(
    page: &mut Page,
    title: &str,
    containers: &[Value],
    around: Surroundings<'_>,
    inside: bool,
) {
    let (indent, more) = if inside { ("  ", " ") } else { ("", "") };
    let none = if containers.is_empty() { " <none>" } else { "" };
    page.line(0, format!("{indent}{title}:{none}"));
    for container in containers {
        let name = text(container, "/name");
        let status = around
            .statuses
            .iter()
            .find(|status| text(status, "/name") == name);
        page.line(1, format!("{more}{name}:"));
        identity(page, container, status);
        lines(page, "Command", container, "/command");
        lines(page, "Args", container, "/args");
        if let Some(status) = status {
            running(page, status);
        }
        resources(page, 2, container.get("resources").unwrap_or(&Value::Null));
        for (title, field) in [
            ("Liveness", "livenessProbe"),
            ("Readiness", "readinessProbe"),
            ("Startup", "startupProbe"),
        ] {
            if let Some(asked) = container.get(field).filter(|value| value.is_object()) {
                page.field(2, title, probe(asked));
            }
        }
        environment_sources(page, container);
        environment(page, container, around.pod);
        mounts(page, container);
    }
}

fn identity(page: &mut Page, container: &Value, status: Option<&Value>) {
    if let Some(status) = status {
        page.field(2, "Container ID", text(status, "/containerID"));
    }
    page.field(2, "Image", text(container, "/image"));
    if let Some(status) = status {
        page.field(2, "Image ID", text(status, "/imageID"));
    }
    for (one, several, field) in [
        ("Port", "Ports", "/containerPort"),
        ("Host Port", "Host Ports", "/hostPort"),
    ] {
        let ports: Vec<String> = list(container, "/ports")
            .iter()
            .map(|port| format!("{}/{}", integer(port, field), text(port, "/protocol")))
            .collect();
        let title = if ports.len() > 1 { several } else { one };
        page.field_or_none(2, title, ports.join(", "));
    }
    seccomp(page, 2, container);
}

/// The profile of a pod's or a container's system calls.
pub(super) fn seccomp(page: &mut Page, level: usize, holder: &Value) {
    let Some(profile) = holder.pointer("/securityContext/seccompProfile") else {
        return;
    };
    page.field(level, "SeccompProfile", text(profile, "/type"));
    if text(profile, "/type") == "Localhost" {
        page.field(level, "LocalhostProfile", text(profile, "/localhostProfile"));
    }
}

fn lines(page: &mut Page, title: &str, container: &Value, field: &str) {
    let words = texts(container, field);
    if words.is_empty() {
        return;
    }
    page.line(2, format!("{title}:"));
    for line in words.iter().flat_map(|word| word.split('\n')) {
        page.line(3, line);
    }
}

fn running(page: &mut Page, status: &Value) {
    state(page, "State", status.get("state").unwrap_or(&Value::Null));
    if let Some(last) = status
        .get("lastState")
        .filter(|last| last.get("terminated").is_some())
    {
        state(page, "Last State", last);
    }
    let ready = if flag(status, "/ready") { "True" } else { "False" };
    page.field(2, "Ready", ready);
    page.field(2, "Restart Count", integer(status, "/restartCount").to_string());
}

fn state(page: &mut Page, title: &str, state: &Value) {
    if let Some(running) = state.get("running").filter(|state| state.is_object()) {
        page.field(2, title, "Running");
        let started = page.time(text(running, "/startedAt"));
        page.field(3, "Started", started);
    } else if let Some(ended) = state.get("terminated").filter(|state| state.is_object()) {
        page.field(2, title, "Terminated");
        page.field_if_any(3, "Reason", text(ended, "/reason"));
        page.field_if_any(3, "Message", text(ended, "/message"));
        page.field(3, "Exit Code", integer(ended, "/exitCode").to_string());
        let signal = integer(ended, "/signal");
        if signal > 0 {
            page.field(3, "Signal", signal.to_string());
        }
        let times = (
            page.time(text(ended, "/startedAt")),
            page.time(text(ended, "/finishedAt")),
        );
        page.field(3, "Started", times.0);
        page.field(3, "Finished", times.1);
    } else {
        page.field(2, title, "Waiting");
        page.field_if_any(3, "Reason", text(state, "/waiting/reason"));
    }
}

/// Limits and requests.
pub(super) fn resources(page: &mut Page, level: usize, resources: &Value) {
    for (title, field) in [("Limits", "/limits"), ("Requests", "/requests")] {
        let amounts = map(resources, field);
        if amounts.is_empty() {
            continue;
        }
        page.line(level, format!("{title}:"));
        for name in amounts.keys() {
            let amount = amounts.get(name).unwrap_or(&Value::Null);
            page.field(level.saturating_add(1), name, scalar(amount, ""));
        }
    }
}

/// `http-get http://:8080/healthz delay=0s timeout=1s period=10s #success=1 #failure=3`
pub(super) fn probe(probe: &Value) -> String {
    let seconds = |field: &str| integer(probe, field);
    let times = format!(
        "delay={}s timeout={}s period={}s #success={} #failure={}",
        seconds("/initialDelaySeconds"),
        seconds("/timeoutSeconds"),
        seconds("/periodSeconds"),
        seconds("/successThreshold"),
        seconds("/failureThreshold")
    );
    let what = if probe.get("exec").is_some() {
        format!("exec [{}]", texts(probe, "/exec/command").join(" "))
    } else if let Some(get) = probe.get("httpGet") {
        let (port, path) = (scalar(get, "/port"), text(get, "/path"));
        let host = text(get, "/host");
        let address = if port.is_empty() {
            host.to_string()
        } else {
            format!("{host}:{port}")
        };
        let slash = if path.starts_with('/') || path.is_empty() {
            ""
        } else {
            "/"
        };
        format!(
            "http-get {}://{address}{slash}{path}",
            text(get, "/scheme").to_lowercase()
        )
    } else if let Some(socket) = probe.get("tcpSocket") {
        format!("tcp-socket {}:{}", text(socket, "/host"), scalar(socket, "/port"))
    } else if let Some(grpc) = probe.get("grpc") {
        format!("grpc <pod>:{} {}", integer(grpc, "/port"), text(grpc, "/service"))
    } else {
        "unknown".to_string()
    };
    format!("{what} {times}")
}

fn environment_sources(page: &mut Page, container: &Value) {
    let sources = list(container, "/envFrom");
    if sources.is_empty() {
        return;
    }
    page.line(2, "Environment Variables from:");
    for source in sources {
        let (kind, reference) = match source.get("configMapRef") {
            Some(reference) => ("ConfigMap", reference),
            None => ("Secret", source.get("secretRef").unwrap_or(&Value::Null)),
        };
        let with = match text(source, "/prefix") {
            "" => String::new(),
            prefix => format!(" with prefix '{prefix}'"),
        };
        page.line(
            3,
            format!(
                "{}\t{kind}{with}\tOptional: {}",
                text(reference, "/name"),
                flag(reference, "/optional")
            ),
        );
    }
}

fn environment(page: &mut Page, container: &Value, pod: Option<&Value>) {
    let variables = list(container, "/env");
    if variables.is_empty() {
        return page.field(2, "Environment", NONE);
    }
    page.line(2, "Environment:");
    for variable in variables {
        let name = text(variable, "/name");
        let Some(source) = variable.get("valueFrom").filter(|source| source.is_object()) else {
            for (index, line) in text(variable, "/value").split('\n').enumerate() {
                match index {
                    0 => page.field(3, name, line),
                    _ => page.line(3, format!("\t{line}")),
                }
            }
            continue;
        };
        page.field(3, name, variable_source(source, container, pod));
    }
}

/// Where a variable's value comes from, and the value where the pod itself has it.
fn variable_source(source: &Value, container: &Value, pod: Option<&Value>) -> String {
    if let Some(reference) = source.get("fieldRef") {
        let path = text(reference, "/fieldPath");
        let value = pod.map(|pod| pod_field(pod, path)).unwrap_or_default();
        let version = match text(reference, "/apiVersion") {
            "" => "v1",
            version => version,
        };
        return format!("{value} ({version}:{path})");
    }
    if let Some(reference) = source.get("resourceFieldRef") {
        let resource = text(reference, "/resource");
        let value = resource_value(container, resource, &scalar(reference, "/divisor"));
        let value = match value {
            0 if ["limits.cpu", "limits.memory"].contains(&resource) => "node allocatable".to_string(),
            value => value.to_string(),
        };
        return format!("{value} ({resource})");
    }
    let of = |reference: &Value, kind: &str| {
        format!(
            "<set to the key '{}' {kind} '{}'>\tOptional: {}",
            text(reference, "/key"),
            text(reference, "/name"),
            flag(reference, "/optional")
        )
    };
    if let Some(reference) = source.get("secretKeyRef") {
        return of(reference, "in secret");
    }
    source
        .get("configMapKeyRef")
        .map(|reference| of(reference, "of config map"))
        .unwrap_or_default()
}

/// A field of the pod that kubectl looks up; it leaves the others to the reader.
fn pod_field(pod: &Value, path: &str) -> String {
    match path {
        "metadata.name" | "metadata.namespace" | "metadata.uid" => {
            scalar(pod, &format!("/{}", path.replace('.', "/")))
        }
        _ => String::new(),
    }
}

/// `limits.cpu` and the like, in units of the divisor, rounded up.
fn resource_value(container: &Value, resource: &str, divisor: &str) -> i64 {
    let pointer = format!("/resources/{}", resource.replacen('.', "/", 1));
    let amount = |text: &str| text.parse::<skiff_api::quantity::Quantity>().ok();
    let Some(amount_of) = amount(&scalar(container, &pointer)) else {
        return 0;
    };
    let divisor = amount(divisor)
        .map(skiff_api::quantity::Quantity::nanos)
        .filter(|nanos| *nanos > 0)
        .unwrap_or(1_000_000_000);
    let whole = amount_of
        .nanos()
        .checked_add(divisor.saturating_sub(1))
        .and_then(|nanos| nanos.checked_div(divisor));
    whole.and_then(|whole| i64::try_from(whole).ok()).unwrap_or(0)
}

fn mounts(page: &mut Page, container: &Value) {
    let mut mounts: Vec<&Value> = list(container, "/volumeMounts").iter().collect();
    mounts.sort_by_key(|mount| text(mount, "/mountPath"));
    if mounts.is_empty() {
        page.field(2, "Mounts", NONE);
    } else {
        page.line(2, "Mounts:");
    }
    for mount in mounts {
        let mut how = (if flag(mount, "/readOnly") { "ro" } else { "rw" }).to_string();
        let inside = text(mount, "/subPath");
        if !inside.is_empty() {
            how.push_str(&format!(",path={inside:?}"));
        }
        page.line(
            3,
            format!(
                "{} from {} ({how})",
                text(mount, "/mountPath"),
                text(mount, "/name")
            ),
        );
    }
    let devices = list(container, "/volumeDevices");
    if !devices.is_empty() {
        page.line(2, "Devices:");
    }
    for device in devices {
        page.line(
            3,
            format!("{} from {}", text(device, "/devicePath"), text(device, "/name")),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn probes_read_as_kubectl_writes_them() {
        let times = "delay=1s timeout=2s period=3s #success=4 #failure=5";
        let cases = [
            (
                json!({"httpGet": {"scheme": "HTTP", "port": 80, "path": "/x"}}),
                "http-get http://:80/x",
            ),
            (
                json!({"httpGet": {"scheme": "HTTPS", "host": "h", "port": "web", "path": "x"}}),
                "http-get https://h:web/x",
            ),
            (json!({"exec": {"command": ["a", "b c"]}}), "exec [a b c]"),
            (json!({"tcpSocket": {"port": 5}}), "tcp-socket :5"),
            (json!({"grpc": {"port": 5, "service": "s"}}), "grpc <pod>:5 s"),
            (json!({}), "unknown"),
        ];
        for (mut object, expected) in cases {
            for (index, field) in [
                "initialDelaySeconds",
                "timeoutSeconds",
                "periodSeconds",
                "successThreshold",
                "failureThreshold",
            ]
            .into_iter()
            .enumerate()
            {
                object[field] = (index + 1).into();
            }
            assert_eq!(probe(&object), format!("{expected} {times}"));
        }
    }

    #[test]
    fn variables_tell_where_they_come_from() {
        let pod = json!({"metadata": {"name": "p", "labels": {"a/b": "c"}}, "status": {"podIP": "10.0.0.1"}});
        let container = json!({"resources": {"limits": {"cpu": "1500m", "memory": "1Gi"}}});
        let cases = [
            (
                json!({"fieldRef": {"fieldPath": "metadata.name"}}),
                "p (v1:metadata.name)",
            ),
            (
                json!({"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.labels['a/b']"}}),
                " (v1:metadata.labels['a/b'])",
            ),
            (
                json!({"fieldRef": {"fieldPath": "status.podIP"}}),
                " (v1:status.podIP)",
            ),
            (
                json!({"resourceFieldRef": {"resource": "limits.cpu"}}),
                "2 (limits.cpu)",
            ),
            (
                json!({"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}),
                "1024 (limits.memory)",
            ),
            (
                json!({"resourceFieldRef": {"resource": "requests.cpu"}}),
                "0 (requests.cpu)",
            ),
            (
                json!({"secretKeyRef": {"name": "s", "key": "k"}}),
                "<set to the key 'k' in secret 's'>\tOptional: false",
            ),
            (
                json!({"configMapKeyRef": {"name": "s", "key": "k", "optional": true}}),
                "<set to the key 'k' of config map 's'>\tOptional: true",
            ),
        ];
        for (source, expected) in cases {
            assert_eq!(variable_source(&source, &container, Some(&pod)), expected);
        }
    }
}
