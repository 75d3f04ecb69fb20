//! Rules: what one allows, and whether rules cover others (`k8s.io/component-helpers/auth/rbac/validation`).

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::rbac::v1::PolicyRule;

use crate::auth::authorize::Attributes;

/// What stands for everything.
pub(crate) const ALL: &str = "*";

fn list(texts: &Option<Vec<String>>) -> &[String] {
    texts.as_deref().unwrap_or_default()
}

fn has(texts: &[String], wanted: &str) -> bool {
    texts.iter().any(|text| text == wanted)
}

/// Whether a list has a text, or stands for everything.
pub(crate) fn has_or_all(texts: &[String], wanted: &str) -> bool {
    texts.iter().any(|text| text == ALL || text == wanted)
}

/// Whether a rule allows this.
pub(crate) fn allows(rule: &PolicyRule, attributes: &Attributes<'_>) -> bool {
    if !has_or_all(&rule.verbs, attributes.verb) {
        return false;
    }
    if !attributes.is_resource {
        return list(&rule.non_resource_urls)
            .iter()
            .any(|url| url_covers(url, attributes.path));
    }
    let names = list(&rule.resource_names);
    has_or_all(list(&rule.api_groups), attributes.group)
        && list(&rule.resources)
            .iter()
            .any(|resource| resource_covers(resource, &attributes.resource))
        && (names.is_empty() || has(names, attributes.name))
}

/// Whether a rule's resource (`*`, `pods`, `pods/log`, `*/scale`) is or includes a resource.
fn resource_covers(resource: &str, wanted: &str) -> bool {
    if resource == ALL || resource == wanted {
        return true;
    }
    match (resource.strip_prefix("*/"), wanted.split_once('/')) {
        (Some(subresource), Some((_, wanted))) => subresource == wanted,
        _ => false,
    }
}

/// Whether a path is a URL of a rule, or begins as one that ends with a star does.
pub(crate) fn url_covers(url: &str, wanted: &str) -> bool {
    url == wanted || (url.ends_with('*') && wanted.starts_with(url.trim_end_matches('*')))
}

/// A rule as rules that allow one thing each.
fn broken_down(rule: &PolicyRule) -> Vec<PolicyRule> {
    let one = |text: &String| Some(vec![text.clone()]);
    let mut simple = Vec::new();
    for group in list(&rule.api_groups) {
        for resource in list(&rule.resources) {
            for verb in &rule.verbs {
                let plain = PolicyRule {
                    api_groups: one(group),
                    resources: one(resource),
                    verbs: vec![verb.clone()],
                    ..PolicyRule::default()
                };
                match list(&rule.resource_names) {
                    [] => simple.push(plain),
                    names => simple.extend(names.iter().map(|name| PolicyRule {
                        resource_names: one(name),
                        ..plain.clone()
                    })),
                }
            }
        }
    }
    for url in list(&rule.non_resource_urls) {
        simple.extend(rule.verbs.iter().map(|verb| PolicyRule {
            non_resource_urls: one(url),
            verbs: vec![verb.clone()],
            ..PolicyRule::default()
        }));
    }
    simple
}

/// Whether one rule allows all that another one does, which allows one thing.
fn covers(owner: &PolicyRule, wanted: &PolicyRule) -> bool {
    let all = |owned: &[String], wanted: &[String]| wanted.iter().all(|text| has_or_all(owned, text));
    let names = list(&owner.resource_names);
    all(&owner.verbs, &wanted.verbs)
        && all(list(&owner.api_groups), list(&wanted.api_groups))
        && list(&wanted.resources).iter().all(|wanted| {
            list(&owner.resources)
                .iter()
                .any(|resource| resource_covers(resource, wanted))
        })
        && list(&wanted.non_resource_urls).iter().all(|wanted| {
            list(&owner.non_resource_urls)
                .iter()
                .any(|url| url_covers(url, wanted))
        })
        && match list(&wanted.resource_names) {
            [] => names.is_empty(),
            wanted => names.is_empty() || wanted.iter().all(|name| has(names, name)),
        }
}

/// What the wanted rules allow and the owned ones do not, in single rules.
pub(crate) fn missing(owned: &[PolicyRule], wanted: &[PolicyRule]) -> Vec<PolicyRule> {
    wanted
        .iter()
        .flat_map(broken_down)
        .filter(|wanted| !owned.iter().any(|owner| covers(owner, wanted)))
        .collect()
}

/// Rules in a few words, those about the same resource as one: a line each, sorted.
pub(crate) fn described(rules: Vec<PolicyRule>) -> String {
    let mut by_resource: BTreeMap<_, PolicyRule> = BTreeMap::new();
    for rule in rules {
        let about = (
            rule.api_groups.clone(),
            rule.resources.clone(),
            rule.resource_names.clone(),
            // Rules about paths stay apart, as upstream shows them.
            rule.non_resource_urls
                .as_ref()
                .map(|urls| (urls.clone(), rule.verbs.clone())),
        );
        match by_resource.get_mut(&about) {
            Some(there) if rule.non_resource_urls.is_none() => there.verbs.extend(rule.verbs),
            _ => {
                by_resource.insert(about, rule);
            }
        }
    }
    let lines: BTreeSet<String> = by_resource.values().map(line).collect();
    lines.into_iter().collect::<Vec<_>>().join("\n")
}

fn line(rule: &PolicyRule) -> String {
    let parts: Vec<String> = [
        ("APIGroups", list(&rule.api_groups)),
        ("Resources", list(&rule.resources)),
        ("NonResourceURLs", list(&rule.non_resource_urls)),
        ("ResourceNames", list(&rule.resource_names)),
        ("Verbs", rule.verbs.as_slice()),
    ]
    .iter()
    .filter(|(_, texts)| !texts.is_empty())
    .map(|(name, texts)| format!("{name}:{}", quoted(texts)))
    .collect();
    format!("{{{}}}", parts.join(", "))
}

/// A list of texts as upstream shows one: `["a" "b"]`.
pub(crate) fn quoted(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| format!("{text:?}")).collect();
    format!("[{}]", quoted.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::UserInfo;

    fn rule(verbs: &str, groups: &str, resources: &str, names: &str) -> PolicyRule {
        let list = |text: &str| (text != "-").then(|| text.split(',').map(String::from).collect::<Vec<_>>());
        PolicyRule {
            verbs: list(verbs).unwrap(),
            api_groups: list(groups),
            resources: list(resources),
            resource_names: list(names),
            non_resource_urls: None,
        }
    }

    fn paths(verbs: &str, urls: &str) -> PolicyRule {
        PolicyRule {
            non_resource_urls: Some(urls.split(',').map(String::from).collect()),
            ..rule(verbs, "-", "-", "-")
        }
    }

    #[test]
    fn a_rule_allows_what_it_names() {
        // Rule; verb, group, resource, name; whether it is allowed.
        let cases = [
            (rule("get", "", "pods", "-"), ["get", "", "pods", "a"], true),
            (rule("get", "", "pods", "-"), ["list", "", "pods", ""], false),
            (rule("get", "", "pods", "-"), ["get", "apps", "pods", ""], false),
            (rule("get", "", "pods", "-"), ["get", "", "pods/log", "a"], false),
            (
                rule("get", "", "pods/log", "-"),
                ["get", "", "pods/log", "a"],
                true,
            ),
            (rule("get", "", "pods/log", "-"), ["get", "", "pods", "a"], false),
            (rule("*", "*", "*", "-"), ["get", "x", "pods/log", "a"], true),
            (
                rule("get", "*", "*/scale", "-"),
                ["get", "apps", "deployments/scale", "a"],
                true,
            ),
            (
                rule("get", "*", "*/scale", "-"),
                ["get", "apps", "deployments", "a"],
                false,
            ),
            (
                rule("get", "*", "*/scale", "-"),
                ["get", "apps", "deployments/status", "a"],
                false,
            ),
            (rule("get", "", "pods", "a,b"), ["get", "", "pods", "b"], true),
            (rule("get", "", "pods", "a,b"), ["get", "", "pods", "c"], false),
            (rule("list", "", "pods", "a"), ["list", "", "pods", ""], false),
            (paths("get", "/x"), ["get", "", "pods", ""], false),
        ];
        let user = UserInfo::default();
        for (rule, [verb, group, resource, name], expected) in cases {
            let attributes = Attributes {
                verb,
                is_resource: true,
                group,
                resource: resource.into(),
                name,
                ..Attributes::about_nothing(&user)
            };
            assert_eq!(allows(&rule, &attributes), expected, "{rule:?} {attributes:?}");
        }
    }

    #[test]
    fn a_rule_allows_paths() {
        let user = UserInfo::default();
        let cases = [
            ("/healthz", "/healthz", true),
            ("/healthz", "/healthz/etcd", false),
            ("/healthz/*", "/healthz/etcd", true),
            ("/healthz/*", "/healthz", false),
            ("*", "/anything", true),
            ("/a*", "/ab/c", true),
        ];
        for (url, path, expected) in cases {
            let attributes = Attributes {
                verb: "get",
                path,
                ..Attributes::about_nothing(&user)
            };
            assert_eq!(allows(&paths("get", url), &attributes), expected, "{url} {path}");
            assert!(
                !allows(&rule("*", "*", "*", "-"), &attributes),
                "resources are no paths"
            );
        }
    }

    #[test]
    fn what_nobody_has_cannot_be_given() {
        let cases = [
            (
                vec![rule("get,list", "", "pods", "-")],
                rule("get", "", "pods", "-"),
                "",
            ),
            (
                vec![rule("get", "", "pods", "-")],
                rule("get", "", "pods", "a"),
                "",
            ),
            (
                vec![rule("get", "", "pods", "a")],
                rule("get", "", "pods", "-"),
                r#"{APIGroups:[""], Resources:["pods"], Verbs:["get"]}"#,
            ),
            (
                vec![rule("*", "*", "*/scale", "-")],
                rule("get", "apps", "deployments/scale", "-"),
                "",
            ),
            (
                vec![rule("*", "*", "*", "-")],
                paths("get", "/x"),
                r#"{NonResourceURLs:["/x"], Verbs:["get"]}"#,
            ),
            (vec![paths("get", "/x/*")], paths("get", "/x/y"), ""),
            (
                vec![rule("get", "", "pods", "-")],
                rule("get,list,watch", "", "pods,secrets", "-"),
                "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"list\" \"watch\"]}\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"list\" \"watch\"]}",
            ),
            // Rules add up, each thing must be in one of them.
            (
                vec![rule("get", "", "pods", "-"), rule("list", "", "pods", "-")],
                rule("get,list", "", "pods", "-"),
                "",
            ),
            (
                vec![rule("get", "", "pods", "-")],
                rule("*", "", "pods", "-"),
                r#"{APIGroups:[""], Resources:["pods"], Verbs:["*"]}"#,
            ),
        ];
        for (owned, wanted, expected) in cases {
            assert_eq!(
                described(missing(&owned, std::slice::from_ref(&wanted))),
                expected,
                "{owned:?} {wanted:?}"
            );
        }
    }
}
