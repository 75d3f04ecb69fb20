//! The resolver configuration of a pod, by its DNS policy.

use std::net::IpAddr;

use k8s_cri::v1::DnsConfig;
use k8s_openapi::api::core::v1::Pod;

/// What the resolver of glibc reads at most.
const MAX_SERVERS: usize = 3;
/// Kubernetes' limits of a search list.
const MAX_SEARCHES: usize = 32;

/// The host's own resolver configuration.
pub(crate) fn parse_resolv_conf(text: &str) -> DnsConfig {
    let mut config = DnsConfig::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => config.servers.extend(words.next().map(str::to_string)),
            // The last one counts.
            Some("search" | "domain") => {
                config.searches = words.map(|w| w.trim_end_matches('.').to_string()).collect();
            }
            Some("options") => config.options = words.map(str::to_string).collect(),
            _ => {}
        }
    }
    config.searches.retain(|search| !search.is_empty());
    config
}

/// What a pod's `/etc/resolv.conf` says.
pub(crate) fn pod_dns(pod: &Pod, host: DnsConfig, cluster_dns: &[IpAddr], cluster_domain: &str) -> DnsConfig {
    let spec = pod.spec.as_ref();
    let host_network = spec.and_then(|s| s.host_network).unwrap_or(false);
    let policy = spec
        .and_then(|s| s.dns_policy.as_deref())
        .unwrap_or("ClusterFirst");
    let cluster = match policy {
        "ClusterFirstWithHostNet" => true,
        "ClusterFirst" => !host_network,
        _ => false,
    };
    let mut config = if policy == "None" {
        DnsConfig::default()
    } else if cluster && !cluster_dns.is_empty() {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
        let mut searches = Vec::new();
        if !cluster_domain.is_empty() {
            searches.push(format!("{namespace}.svc.{cluster_domain}"));
            searches.push(format!("svc.{cluster_domain}"));
            searches.push(cluster_domain.to_string());
        }
        searches.extend(host.searches);
        DnsConfig {
            servers: cluster_dns.iter().map(IpAddr::to_string).collect(),
            searches,
            options: vec!["ndots:5".into()],
        }
    } else {
        host
    };
    if let Some(own) = spec.and_then(|s| s.dns_config.as_ref()) {
        config.servers.extend(own.nameservers.iter().flatten().cloned());
        config.searches.extend(own.searches.iter().flatten().cloned());
        for option in own.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            config.options.retain(|old| old.split(':').next() != Some(name));
            config.options.push(match &option.value {
                Some(value) if !value.is_empty() => format!("{name}:{value}"),
                _ => name.clone(),
            });
        }
    }
    unique(&mut config.servers);
    unique(&mut config.searches);
    config.servers.truncate(MAX_SERVERS);
    config.searches.truncate(MAX_SEARCHES);
    config
}

fn unique(list: &mut Vec<String>) {
    let mut seen = std::collections::BTreeSet::new();
    list.retain(|item| seen.insert(item.clone()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn dns(spec: Value) -> (Vec<String>, Vec<String>, Vec<String>) {
        let pod: Pod =
            serde_json::from_value(json!({ "metadata": { "namespace": "ns" }, "spec": spec })).unwrap();
        let host =
            parse_resolv_conf("# c\nnameserver 9.9.9.9\nsearch example.com. corp\noptions edns0 timeout:2\n");
        let config = pod_dns(&pod, host, &["10.96.0.10".parse().unwrap()], "cluster.local");
        (config.servers, config.searches, config.options)
    }

    #[test]
    fn each_policy_gives_its_own_file() {
        let cases = [
            (
                json!({ "containers": [] }),
                "10.96.0.10 / ns.svc.cluster.local svc.cluster.local cluster.local example.com corp / ndots:5",
            ),
            (
                json!({ "containers": [], "hostNetwork": true }),
                "9.9.9.9 / example.com corp / edns0 timeout:2",
            ),
            (
                json!({ "containers": [], "hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet" }),
                "10.96.0.10 / ns.svc.cluster.local svc.cluster.local cluster.local example.com corp / ndots:5",
            ),
            (
                json!({ "containers": [], "dnsPolicy": "Default" }),
                "9.9.9.9 / example.com corp / edns0 timeout:2",
            ),
            (
                json!({ "containers": [], "dnsPolicy": "None", "dnsConfig": {
                    "nameservers": ["1.1.1.1", "1.1.1.1"], "searches": ["x"],
                    "options": [{ "name": "ndots", "value": "2" }, { "name": "rotate" }] } }),
                "1.1.1.1 / x / ndots:2 rotate",
            ),
            (
                json!({ "containers": [], "dnsPolicy": "Default", "dnsConfig": {
                    "options": [{ "name": "timeout", "value": "9" }] } }),
                "9.9.9.9 / example.com corp / edns0 timeout:9",
            ),
        ];
        for (spec, expected) in cases {
            let (servers, searches, options) = dns(spec.clone());
            let text = format!(
                "{} / {} / {}",
                servers.join(" "),
                searches.join(" "),
                options.join(" ")
            );
            assert_eq!(text, expected, "{spec}");
        }
    }
}
