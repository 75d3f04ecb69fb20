//! Discovery: which groups, versions and resources there are, in the plain and the aggregated form.
//!
//! Everything is derived from the catalogue.

pub(crate) mod priority;
pub(crate) mod registered;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    APIGroup, APIResource, APIResourceList, APIVersions, GroupVersionForDiscovery, ServerAddressByClientCIDR,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use skiff_api::{Catalogue, KindInfo, Scope, Subresource};

use crate::http::accept::Encoding;
use crate::http::resources::SERVED;

/// The type of the aggregated documents, which have been of no other version than v2 since 1.33.
pub(crate) fn aggregated_content_type(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Json => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        Encoding::Yaml => "application/yaml;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        Encoding::Protobuf => {
            "application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        }
    }
}

/// What the options of a proxy are called, behind the kind that is proxied to.
const PROXY_OPTIONS: &str = "ProxyOptions";

/// The name of a subresource's kind, for one kind that has it.
pub(crate) fn of(kind: &str, info: &KindInfo) -> String {
    if kind == PROXY_OPTIONS {
        format!("{}{kind}", info.kind)
    } else {
        kind.to_string()
    }
}

/// The kind and the verbs of a subresource. A group of `None` is the resource's own.
pub(crate) struct SubresourceFacts {
    pub(crate) group_version: Option<(&'static str, &'static str)>,
    /// `None`: the resource's own kind.
    pub(crate) kind: Option<&'static str>,
    pub(crate) verbs: &'static [&'static str],
}

/// What discovery says of a subresource.
pub(crate) fn subresource_facts(subresource: Subresource) -> SubresourceFacts {
    const OBJECT: &[&str] = &["get", "patch", "update"];
    const CREATE: &[&str] = &["create"];
    let facts = |group_version, kind, verbs| SubresourceFacts {
        group_version,
        kind,
        verbs,
    };
    match subresource {
        Subresource::Scale => facts(Some(("autoscaling", "v1")), Some("Scale"), OBJECT),
        Subresource::Binding => facts(None, Some("Binding"), CREATE),
        Subresource::Eviction => facts(Some(("policy", "v1")), Some("Eviction"), CREATE),
        Subresource::Token => facts(
            Some(("authentication.k8s.io", "v1")),
            Some("TokenRequest"),
            CREATE,
        ),
        Subresource::Log => facts(None, None, &["get"]),
        Subresource::Finalize => facts(None, None, &["update"]),
        Subresource::Exec => facts(None, Some("PodExecOptions"), &["create", "get"]),
        Subresource::Attach => facts(None, Some("PodAttachOptions"), &["create", "get"]),
        Subresource::PortForward => facts(None, Some("PodPortForwardOptions"), &["create", "get"]),
        Subresource::Proxy => facts(
            None,
            Some(PROXY_OPTIONS),
            &["create", "delete", "get", "patch", "update"],
        ),
        Subresource::Status
        | Subresource::EphemeralContainers
        | Subresource::Resize
        | Subresource::Approval => facts(None, None, OBJECT),
    }
}

/// The versions of each group, in the order of the groups' names; the core group is the empty name.
fn groups(catalogue: &Catalogue) -> BTreeMap<String, Vec<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for info in catalogue.infos() {
        let versions = groups.entry(info.group.to_string()).or_default();
        if !versions.contains(&info.version.to_string()) {
            versions.push(info.version.to_string());
        }
    }
    for versions in groups.values_mut() {
        versions.sort_by_key(|version| std::cmp::Reverse(stability(version)));
    }
    groups
}

/// The same in the order of the groups' priorities, in which clients look for a kind.
fn by_priority(catalogue: &Catalogue) -> Vec<(String, Vec<String>)> {
    let mut groups: Vec<_> = groups(catalogue).into_iter().collect();
    groups.sort_by(|(a, _), (b, _)| priority::place(a).cmp(&priority::place(b)));
    groups
}

/// What versions are ordered by: general availability before beta before alpha, then the larger number.
fn stability(version: &str) -> (u8, u32, u32) {
    let text = version.trim_start_matches('v');
    let digits = |text: &str| text.parse().unwrap_or_default();
    for (rank, level) in [(1, "beta"), (0, "alpha")] {
        if let Some((major, minor)) = text.split_once(level) {
            return (rank, digits(major), digits(minor));
        }
    }
    (2, digits(text), 0)
}

/// Every group version, as paths name them: `api/v1`, `apis/apps/v1`.
pub(crate) fn group_versions(catalogue: &Catalogue) -> Vec<(String, String)> {
    groups(catalogue)
        .into_iter()
        .flat_map(|(group, versions)| versions.into_iter().map(move |version| (group.clone(), version)))
        .collect()
}

/// `/api`
pub(crate) fn core_versions(server_address: &str) -> APIVersions {
    APIVersions {
        versions: vec!["v1".into()],
        server_address_by_client_cidrs: vec![ServerAddressByClientCIDR {
            client_cidr: "0.0.0.0/0".into(),
            server_address: server_address.into(),
        }],
    }
}

/// A group with the versions that this server serves.
fn group(catalogue: &Catalogue, name: &str) -> Option<APIGroup> {
    if name.is_empty() {
        return None;
    }
    let versions = groups(catalogue).remove(name)?;
    Some(api_group(name.to_string(), &versions))
}

fn api_group(name: String, versions: &[String]) -> APIGroup {
    let versions: Vec<GroupVersionForDiscovery> = versions
        .iter()
        .map(|version| GroupVersionForDiscovery {
            group_version: format!("{name}/{version}"),
            version: version.clone(),
        })
        .collect();
    APIGroup {
        preferred_version: versions.first().cloned(),
        versions,
        name,
        ..APIGroup::default()
    }
}

/// `/api/v1` and `/apis/{group}/{version}`
pub(crate) fn resource_list(catalogue: &Catalogue, group: &str, version: &str) -> Option<APIResourceList> {
    let mut resources = Vec::new();
    for info in kinds(catalogue, group, version) {
        resources.push(APIResource {
            categories: some(info.categories),
            kind: info.kind.to_string(),
            name: info.plural.to_string(),
            namespaced: info.scope == Scope::Namespaced,
            short_names: some(info.short_names),
            singular_name: info.singular.to_string(),
            storage_version_hash: storage_version_hash(catalogue, info),
            verbs: owned(info.verbs),
            ..APIResource::default()
        });
        for subresource in served(info) {
            let facts = subresource_facts(subresource);
            let (group, version) = facts.group_version.unzip();
            let kind = facts.kind.map(|kind| of(kind, info));
            resources.push(APIResource {
                group: group.map(str::to_string),
                kind: kind.unwrap_or_else(|| info.kind.to_string()),
                name: format!("{}/{}", info.plural, subresource.name()),
                namespaced: info.scope == Scope::Namespaced,
                verbs: owned(facts.verbs),
                version: version.map(str::to_string),
                ..APIResource::default()
            });
        }
    }
    if resources.is_empty() {
        return None;
    }
    resources.sort_by(|a, b| a.name.cmp(&b.name));
    let group_version = if group.is_empty() {
        version.to_string()
    } else {
        format!("{group}/{version}")
    };
    Some(APIResourceList {
        group_version,
        resources,
    })
}

/// The groups under `/api` (`core`) or `/apis` with all that is in them: `apidiscovery.k8s.io` `APIGroupDiscoveryList`.
pub(crate) fn aggregated(catalogue: &Catalogue, core: bool) -> Value {
    let items: Vec<Value> = by_priority(catalogue)
        .into_iter()
        .filter(|(group, _)| group.is_empty() == core)
        .map(|(group, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|version| {
                    json!({
                        "version": version,
                        "freshness": "Current",
                        "resources": aggregated_resources(catalogue, &group, version),
                    })
                })
                .collect();
            json!({ "metadata": { "name": group, "creationTimestamp": null }, "versions": versions })
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    })
}

fn aggregated_resources(catalogue: &Catalogue, group: &str, version: &str) -> Vec<Value> {
    let scope = |scope: Scope| match scope {
        Scope::Namespaced => "Namespaced",
        Scope::Cluster => "Cluster",
    };
    let mut resources: Vec<(String, Value)> = kinds(catalogue, group, version)
        .map(|info| {
            let subresources: Vec<Value> = served(info)
                .map(|subresource| {
                    let facts = subresource_facts(subresource);
                    let (group, version) = facts.group_version.unwrap_or((group, version));
                    let kind = facts.kind.map(|kind| of(kind, info));
                    json!({
                        "subresource": subresource.name(),
                        "responseKind": {
                            "group": group,
                            "version": version,
                            "kind": kind.as_deref().unwrap_or(&info.kind),
                        },
                        "verbs": facts.verbs,
                    })
                })
                .collect();
            let mut resource = json!({
                "resource": info.plural,
                "responseKind": { "group": group, "version": version, "kind": info.kind },
                "scope": scope(info.scope),
                "singularResource": info.singular,
                "verbs": info.verbs,
            });
            if let Some(resource) = resource.as_object_mut() {
                for (key, list) in [("shortNames", info.short_names), ("categories", info.categories)] {
                    if !list.is_empty() {
                        resource.insert(key.into(), json!(list));
                    }
                }
                if !subresources.is_empty() {
                    resource.insert("subresources".into(), subresources.into());
                }
            }
            (info.plural.to_string(), resource)
        })
        .collect();
    resources.sort_by(|(a, _), (b, _)| a.cmp(b));
    resources.into_iter().map(|(_, resource)| resource).collect()
}

fn kinds<'a>(catalogue: &'a Catalogue, group: &str, version: &str) -> impl Iterator<Item = &'a KindInfo> {
    catalogue
        .infos()
        .filter(move |info| info.group == group && info.version == version)
}

/// The subresources of a kind that are served, by name.
pub(crate) fn served(info: &KindInfo) -> impl Iterator<Item = Subresource> {
    let mut served: Vec<Subresource> = info
        .subresources
        .iter()
        .copied()
        .filter(|subresource| SERVED.contains(subresource))
        .collect();
    served.sort_by_key(|subresource| subresource.name());
    served.into_iter()
}

/// Changes when the stored form does, which it never has: all versions of a kind have the stored one's. What is never
/// stored has none.
fn storage_version_hash(catalogue: &Catalogue, info: &KindInfo) -> Option<String> {
    use base64::Engine;
    let strategy = catalogue.resource(&info.group, &info.version, &info.plural)?;
    let stored = strategy.stored().info();
    let digest = Sha256::digest(format!("{}/{}/{}", stored.group, stored.version, stored.kind));
    Some(base64::engine::general_purpose::STANDARD.encode(digest.get(..8)?))
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

fn some(texts: &[&str]) -> Option<Vec<String>> {
    (!texts.is_empty()).then(|| owned(texts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_versions_come_first() {
        let mut versions = ["v1alpha1", "v1beta2", "v2", "v1", "v1beta1"];
        versions.sort_by_key(|version| std::cmp::Reverse(stability(version)));
        assert_eq!(versions, ["v2", "v1", "v1beta2", "v1beta1", "v1alpha1"]);
    }

    #[test]
    fn a_kind_is_in_the_plain_and_in_the_aggregated_documents() {
        let catalogue = skiff_api::catalogue::builtin();
        let plain = resource_list(&catalogue, "", "v1").unwrap();
        let config_maps = plain
            .resources
            .iter()
            .find(|resource| resource.name == "configmaps")
            .unwrap();
        assert_eq!(config_maps.short_names.as_deref(), Some(&["cm".to_string()][..]));
        assert!(config_maps.namespaced && config_maps.verbs.len() == 8);
        assert!(resource_list(&catalogue, "no.such.group", "v1").is_none());

        let core = aggregated(&catalogue, true);
        assert_eq!(core["items"].as_array().unwrap().len(), 1);
        let resources = core["items"][0]["versions"][0]["resources"].as_array().unwrap();
        let config_maps = resources
            .iter()
            .find(|resource| resource["resource"] == "configmaps")
            .unwrap();
        assert_eq!(config_maps["scope"], "Namespaced");
        assert_eq!(config_maps["responseKind"]["kind"], "ConfigMap");
        for group in aggregated(&catalogue, false)["items"].as_array().unwrap() {
            assert_ne!(group["metadata"]["name"], "");
        }
    }
}
