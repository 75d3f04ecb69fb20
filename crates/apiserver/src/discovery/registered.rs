//! The groups as APIServices name them, whoever serves them: what plain discovery lists. The aggregated form tells what this
//! server serves itself, whatever its APIServices say.

use std::cmp::Reverse;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIGroup, APIGroupList};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::{APIService, APIServiceSpec};
use skiff_api::Catalogue;

use super::{api_group, group, priority, stability};

/// `/apis`: the group of the APIServices themselves, which none of them names, and then the groups that they name.
pub(crate) fn group_list(catalogue: &Catalogue, services: &[APIService]) -> APIGroupList {
    let own = group(catalogue, priority::REGISTRATION);
    let named = groups(services.iter().filter_map(|service| {
        let group = service.spec.as_ref()?.group.as_deref().unwrap_or_default();
        (!group.is_empty()).then_some(service)
    }));
    APIGroupList {
        groups: own.into_iter().chain(named).collect(),
    }
}

/// `/apis/{name}`: as APIServices name it, and when none does, as this server serves it.
pub(crate) fn one_group(catalogue: &Catalogue, services: &[APIService], name: &str) -> Option<APIGroup> {
    let named = services.iter().filter(|service| {
        let spec = service.spec.as_ref();
        !name.is_empty() && spec.and_then(|spec| spec.group.as_deref()) == Some(name)
    });
    groups(named).pop().or_else(|| group(catalogue, name))
}

/// The groups of APIServices by the greatest of their priorities, each with its versions by theirs.
fn groups<'a>(services: impl Iterator<Item = &'a APIService>) -> Vec<APIGroup> {
    let mut all: Vec<(&str, &APIServiceSpec)> = services
        .filter_map(|service| {
            let name = service.metadata.name.as_deref().unwrap_or_default();
            Some((name, service.spec.as_ref()?))
        })
        .collect();
    all.sort_by_key(|(name, spec)| (Reverse(spec.group_priority_minimum), *name));
    let mut groups: Vec<(&str, Vec<&APIServiceSpec>)> = Vec::new();
    for (_, spec) in all {
        let group = spec.group.as_deref().unwrap_or_default();
        match groups.iter_mut().find(|(its, _)| *its == group) {
            Some((_, versions)) => versions.push(spec),
            None => groups.push((group, vec![spec])),
        }
    }
    let named = groups.into_iter().map(|(group, mut versions)| {
        let place = |spec: &&APIServiceSpec| {
            let version = spec.version.as_deref().unwrap_or_default();
            Reverse((spec.version_priority, stability(version)))
        };
        versions.sort_by_key(place);
        let versions: Vec<String> = versions.iter().filter_map(|spec| spec.version.clone()).collect();
        api_group(group.to_string(), &versions)
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(version: &str, group: &str, priorities: (i32, i32)) -> APIService {
        serde_json::from_value(json!({
            "metadata": { "name": format!("{version}.{group}") },
            "spec": {
                "group": group,
                "version": version,
                "groupPriorityMinimum": priorities.0,
                "versionPriority": priorities.1,
            },
        }))
        .unwrap()
    }

    #[test]
    fn groups_and_versions_stand_by_their_priorities() {
        let catalogue = skiff_api::catalogue::builtin();
        let services = [
            service("v1", "", (18_000, 1)),
            service("v1beta1", "b.example.com", (10, 5)),
            service("v1", "b.example.com", (30, 5)),
            service("v2", "b.example.com", (10, 4)),
            service("v1", "a.example.com", (20, 1)),
            service("v1", "c.example.com", (30, 1)),
        ];
        let list = group_list(&catalogue, &services);
        let found: Vec<(String, Vec<String>)> = list
            .groups
            .into_iter()
            .map(|group| {
                (
                    group.name,
                    group.versions.into_iter().map(|its| its.version).collect(),
                )
            })
            .collect();
        let expected = [
            ("apiregistration.k8s.io", vec!["v1"]),
            // The greatest of its versions' priorities is that of the group.
            ("b.example.com", vec!["v1", "v1beta1", "v2"]),
            ("c.example.com", vec!["v1"]),
            ("a.example.com", vec!["v1"]),
        ];
        let expected = expected.map(|(name, versions)| {
            (
                name.to_string(),
                versions.into_iter().map(str::to_string).collect::<Vec<_>>(),
            )
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn a_group_that_no_api_service_names_is_what_is_served() {
        let catalogue = skiff_api::catalogue::builtin();
        let apps = one_group(&catalogue, &[], "apps").unwrap();
        assert_eq!(apps.preferred_version.unwrap().version, "v1");
        assert!(one_group(&catalogue, &[], "none.example.com").is_none());
        let none = one_group(
            &catalogue,
            &[service("v1", "none.example.com", (1, 1))],
            "none.example.com",
        );
        assert_eq!(none.unwrap().versions.len(), 1);
        assert!(one_group(&catalogue, &[service("v1", "", (1, 1))], "").is_none());
    }
}
