//! A container's environment: services, `envFrom`, `env`.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, Pod, Secret, Service};

use super::expand::expand;
use super::fields::{self, Facts};

/// The config maps and secrets that a container names, by name; what is not there does not exist.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    pub(crate) config_maps: BTreeMap<String, Arc<ConfigMap>>,
    pub(crate) secrets: BTreeMap<String, Arc<Secret>>,
}

/// Which config maps and secrets a container's environment needs.
pub(crate) fn needed(container: &Container) -> (Vec<String>, Vec<String>) {
    let (mut config_maps, mut secrets) = (Vec::new(), Vec::new());
    for from in container.env_from.iter().flatten() {
        config_maps.extend(from.config_map_ref.iter().map(|r| r.name.clone()));
        secrets.extend(from.secret_ref.iter().map(|r| r.name.clone()));
    }
    for source in container
        .env
        .iter()
        .flatten()
        .filter_map(|var| var.value_from.as_ref())
    {
        config_maps.extend(source.config_map_key_ref.iter().map(|r| r.name.clone()));
        secrets.extend(source.secret_key_ref.iter().map(|r| r.name.clone()));
    }
    for names in [&mut config_maps, &mut secrets] {
        names.sort();
        names.dedup();
    }
    (config_maps, secrets)
}

/// A value quoted as Go's `%q`, for downward API files.
pub(crate) fn escape_values(value: &str) -> String {
    let mut out = String::from("\"");
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The variables by which containers find services: those of the pod's namespace and the API server's.
pub(crate) fn service_variables(
    services: &[Arc<Service>],
    namespace: &str,
    links: bool,
) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for service in services {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let service_namespace = service.metadata.namespace.as_deref().unwrap_or_default();
        let is_master = service_namespace == "default" && name == "kubernetes";
        if !(is_master || links && service_namespace == namespace) {
            continue;
        }
        let Some(spec) = &service.spec else { continue };
        let ip = spec.cluster_ip.as_deref().unwrap_or_default();
        if ip.is_empty() || ip == "None" {
            continue;
        }
        let host = if ip.contains(':') {
            format!("[{ip}]")
        } else {
            ip.to_string()
        };
        let prefix = name.to_uppercase().replace('-', "_");
        // A service of the pod's own namespace hides the API server's of the same name.
        if is_master && namespace != "default" && variables.contains_key(&format!("{prefix}_SERVICE_HOST")) {
            continue;
        }
        variables.insert(format!("{prefix}_SERVICE_HOST"), ip.to_string());
        for (at, port) in spec.ports.iter().flatten().enumerate() {
            let number = port.port;
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let lower = protocol.to_lowercase();
            if at == 0 {
                variables.insert(format!("{prefix}_SERVICE_PORT"), number.to_string());
                variables.insert(format!("{prefix}_PORT"), format!("{lower}://{host}:{number}"));
            }
            if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
                let name = name.to_uppercase().replace('-', "_");
                variables.insert(format!("{prefix}_SERVICE_PORT_{name}"), number.to_string());
            }
            let port_prefix = format!("{prefix}_PORT_{number}_{}", protocol.to_uppercase());
            variables.insert(port_prefix.clone(), format!("{lower}://{host}:{number}"));
            variables.insert(format!("{port_prefix}_PROTO"), lower.clone());
            variables.insert(format!("{port_prefix}_PORT"), number.to_string());
            variables.insert(format!("{port_prefix}_ADDR"), ip.to_string());
        }
    }
    variables
}

fn is_variable_name(name: &str) -> bool {
    !name.is_empty() && !name.contains('=') && name.chars().all(|c| c.is_ascii() && !c.is_ascii_control())
}

fn text(bytes: &ByteString) -> String {
    String::from_utf8_lossy(&bytes.0).into_owned()
}

/// A container's environment, in the order in which it is set; names are unique.
///
/// # Errors
/// The message of `CreateContainerConfigError`.
pub(crate) fn resolve(
    pod: &Pod,
    container: &Container,
    facts: &Facts,
    services: &[Arc<Service>],
    sources: &Sources,
) -> Result<Vec<(String, String)>, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let links = pod
        .spec
        .as_ref()
        .and_then(|s| s.enable_service_links)
        .unwrap_or(true);
    let mut result: BTreeMap<String, String> = BTreeMap::new();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let entries: Vec<(String, String)> = if let Some(source) = &from.config_map_ref {
            match sources.config_maps.get(&source.name) {
                Some(map) => map.data.clone().unwrap_or_default().into_iter().collect(),
                None if source.optional == Some(true) => Vec::new(),
                None => return Err(not_found("configmap", &source.name)),
            }
        } else if let Some(source) = &from.secret_ref {
            match sources.secrets.get(&source.name) {
                Some(secret) => secret
                    .data
                    .iter()
                    .flatten()
                    .map(|(k, v)| (k.clone(), text(v)))
                    .collect(),
                None if source.optional == Some(true) => Vec::new(),
                None => return Err(not_found("secret", &source.name)),
            }
        } else {
            Vec::new()
        };
        for (key, value) in entries {
            let name = format!("{prefix}{key}");
            if is_variable_name(&name) {
                result.insert(name, value);
            }
        }
    }
    let service_env = service_variables(services, namespace, links);
    let mut order: Vec<String> = Vec::new();
    for var in container.env.iter().flatten() {
        let value = match (&var.value, &var.value_from) {
            (_, Some(source)) => match from_source(pod, container, facts, sources, source)? {
                Some(value) => value,
                None => continue,
            },
            (value, None) => expand(value.as_deref().unwrap_or_default(), |name| {
                result.get(name).or_else(|| service_env.get(name)).cloned()
            }),
        };
        result.insert(var.name.clone(), value);
        order.push(var.name.clone());
    }
    for (name, value) in service_env {
        result.entry(name).or_insert(value);
    }
    let mut variables = Vec::with_capacity(result.len());
    for name in order {
        if let Some(value) = result.remove(&name) {
            variables.push((name, value));
        }
    }
    variables.extend(result);
    Ok(variables)
}

fn not_found(kind: &str, name: &str) -> String {
    format!("{kind} {name:?} not found")
}

fn from_source(
    pod: &Pod,
    container: &Container,
    facts: &Facts,
    sources: &Sources,
    source: &EnvVarSource,
) -> Result<Option<String>, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(selector) = &source.field_ref {
        return fields::field(pod, facts, selector).map(Some);
    }
    if let Some(selector) = &source.resource_field_ref {
        let named = selector.container_name.as_deref().filter(|name| !name.is_empty());
        let spec = pod.spec.as_ref();
        let of = match named {
            None => container,
            Some(name) => spec
                .into_iter()
                .flat_map(|s| s.containers.iter().chain(s.init_containers.iter().flatten()))
                .find(|c| c.name == name)
                .ok_or_else(|| format!("container {name} not found"))?,
        };
        return fields::resource(of, facts, selector).map(Some);
    }
    let key_missing =
        |key: &str, kind: &str, name: &str| format!("couldn't find key {key} in {kind} {namespace}/{name}");
    if let Some(selector) = &source.config_map_key_ref {
        let optional = selector.optional == Some(true);
        let Some(map) = sources.config_maps.get(&selector.name) else {
            let error = not_found("configmap", &selector.name);
            return if optional { Ok(None) } else { Err(error) };
        };
        return match map.data.as_ref().and_then(|data| data.get(&selector.key)) {
            Some(value) => Ok(Some(value.clone())),
            None if optional => Ok(None),
            None => Err(key_missing(&selector.key, "ConfigMap", &selector.name)),
        };
    }
    if let Some(selector) = &source.secret_key_ref {
        let optional = selector.optional == Some(true);
        let Some(secret) = sources.secrets.get(&selector.name) else {
            let error = not_found("secret", &selector.name);
            return if optional { Ok(None) } else { Err(error) };
        };
        return match secret.data.as_ref().and_then(|data| data.get(&selector.key)) {
            Some(value) => Ok(Some(text(value))),
            None if optional => Ok(None),
            None => Err(key_missing(&selector.key, "Secret", &selector.name)),
        };
    }
    Ok(Some(String::new()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn resolved(container: Value, sources: &Sources) -> Result<BTreeMap<String, String>, String> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "p", "namespace": "ns" },
        }))
        .unwrap();
        let container: Container = serde_json::from_value(container).unwrap();
        let services: Vec<Arc<Service>> = [
            json!({ "metadata": { "namespace": "default", "name": "kubernetes" },
                "spec": { "clusterIP": "10.96.0.1", "ports": [{ "name": "https", "port": 443 }] } }),
            json!({ "metadata": { "namespace": "ns", "name": "my-db" },
                "spec": { "clusterIP": "10.96.0.7", "ports": [{ "port": 53, "protocol": "UDP" }] } }),
            json!({ "metadata": { "namespace": "ns", "name": "headless" },
                "spec": { "clusterIP": "None", "ports": [{ "port": 1 }] } }),
            json!({ "metadata": { "namespace": "other", "name": "web" },
                "spec": { "clusterIP": "10.96.0.9", "ports": [{ "port": 80 }] } }),
        ]
        .into_iter()
        .map(|s| Arc::new(serde_json::from_value(s).unwrap()))
        .collect();
        let variables = resolve(&pod, &container, &Facts::default(), &services, sources)?;
        Ok(variables.into_iter().collect())
    }

    fn sources() -> Sources {
        let map: ConfigMap = serde_json::from_value(json!({ "data": { "a": "1", "B": "2" } })).unwrap();
        let secret: Secret = serde_json::from_value(json!({ "data": { "pw": "czNjcmV0" } })).unwrap();
        Sources {
            config_maps: [("cm".into(), Arc::new(map))].into(),
            secrets: [("sec".into(), Arc::new(secret))].into(),
        }
    }

    #[test]
    fn services_of_the_namespace_and_the_api_server_are_named() {
        let env = resolved(json!({ "name": "c" }), &Sources::default()).unwrap();
        for (name, value) in [
            ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
            ("KUBERNETES_SERVICE_PORT", "443"),
            ("KUBERNETES_SERVICE_PORT_HTTPS", "443"),
            ("KUBERNETES_PORT", "tcp://10.96.0.1:443"),
            ("KUBERNETES_PORT_443_TCP_ADDR", "10.96.0.1"),
            ("MY_DB_PORT_53_UDP", "udp://10.96.0.7:53"),
            ("MY_DB_PORT_53_UDP_PROTO", "udp"),
        ] {
            assert_eq!(env.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(
            env.keys()
                .all(|name| !name.starts_with("HEADLESS") && !name.starts_with("WEB"))
        );
    }

    #[test]
    fn later_variables_see_earlier_ones_and_win() {
        let container = json!({ "name": "c",
            "envFrom": [{ "prefix": "P_", "configMapRef": { "name": "cm" } }, { "secretRef": { "name": "sec" } }],
            "env": [
                { "name": "X", "value": "$(P_a)-$(pw)-$(LATER)-$(KUBERNETES_SERVICE_PORT)" },
                { "name": "LATER", "value": "y" },
                { "name": "P_a", "value": "own" },
                { "name": "KEY", "valueFrom": { "configMapKeyRef": { "name": "cm", "key": "B" } } },
                { "name": "GONE", "valueFrom": { "secretKeyRef": { "name": "no", "key": "k", "optional": true } } },
            ] });
        let env = resolved(container, &sources()).unwrap();
        assert_eq!(env["X"], "1-s3cret-$(LATER)-443");
        assert_eq!(
            (env["P_a"].as_str(), env["P_B"].as_str(), env["KEY"].as_str()),
            ("own", "2", "2")
        );
        assert!(!env.contains_key("GONE"));
    }

    #[test]
    fn what_is_missing_is_named_as_upstream_names_it() {
        let cases = [
            (
                json!({ "envFrom": [{ "configMapRef": { "name": "no" } }] }),
                "configmap \"no\" not found",
            ),
            (
                json!({ "envFrom": [{ "secretRef": { "name": "no" } }] }),
                "secret \"no\" not found",
            ),
            (
                json!({ "env": [{ "name": "A", "valueFrom": { "configMapKeyRef": { "name": "cm", "key": "z" } } }] }),
                "couldn't find key z in ConfigMap ns/cm",
            ),
            (
                json!({ "env": [{ "name": "A", "valueFrom": { "secretKeyRef": { "name": "sec", "key": "z" } } }] }),
                "couldn't find key z in Secret ns/sec",
            ),
        ];
        for (mut container, message) in cases {
            container["name"] = "c".into();
            assert_eq!(resolved(container, &sources()), Err(message.to_string()));
        }
    }
}
