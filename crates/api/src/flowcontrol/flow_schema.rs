//! FlowSchema: which requests belong to which priority level.

use jiff::Timestamp;
use k8s_openapi::api::flowcontrol::v1::{
    FlowSchema, FlowSchemaSpec, NonResourcePolicyRule, PolicyRulesWithSubjects, ResourcePolicyRule, Subject,
};
use serde_json::{Value, json};

use super::{NONE, check_conditions};
use crate::field::{Errors, Internal, Path};
use crate::halves;
use crate::internal;
use crate::kind::{Column, Kind, KindInfo, Scope, Subresource, Target, age};
use crate::names;

const LAST: i32 = 10_000;

const VERBS: [&str; 9] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "proxy",
    "update",
    "watch",
];

impl Kind for FlowSchema {
    fn info() -> KindInfo {
        KindInfo {
            scope: Scope::Cluster,
            subresources: &[Subresource::Status],
            columns: vec![
                Column::object_name(),
                Column::of(
                    "PriorityLevel",
                    "string",
                    "flowcontrol.v1.PriorityLevelConfigurationReference",
                    "name",
                ),
                Column::of(
                    "MatchingPrecedence",
                    "string",
                    "flowcontrol.v1.FlowSchemaSpec",
                    "matchingPrecedence",
                ),
                Column::of(
                    "DistinguisherMethod",
                    "string",
                    "flowcontrol.v1.FlowSchemaSpec",
                    "distinguisherMethod",
                ),
                Column::age(),
                Column::new(
                    "MissingPL",
                    "string",
                    "references a broken or non-existent PriorityLevelConfiguration",
                ),
            ],
            ..KindInfo::of::<Self>("flowschema")
        }
    }

    fn default(&mut self) {
        let precedence = &mut self.spec.matching_precedence;
        if precedence.unwrap_or(0) == 0 {
            *precedence = Some(1000);
        }
        self.status.get_or_insert_default();
    }

    fn prepare_for_create(&mut self) {
        self.metadata.generation = Some(1);
        self.status = Some(Default::default());
    }

    fn prepare_for_update(&mut self, old: &Self, target: Target) {
        halves::carry_over_with_metadata(
            target,
            (&mut self.metadata, &old.metadata),
            (&mut self.spec, &old.spec),
            (&mut self.status, &old.status),
        );
    }

    fn validate(&self, errors: &mut Errors) {
        let (spec, path) = (&self.spec, Path::new("spec"));
        let name = self.metadata.name.as_deref().unwrap_or_default();
        let at = path.child("matchingPrecedence");
        let precedence = spec.matching_precedence.unwrap_or(0);
        if precedence <= 0 {
            errors.invalid(&at, precedence, "must be a positive value");
        }
        if precedence > LAST {
            errors.invalid(&at, precedence, format!("must not be greater than {LAST}"));
        }
        if precedence == 1 && name != "exempt" {
            errors.invalid(
                &at,
                precedence,
                "only the schema named 'exempt' may have matchingPrecedence 1",
            );
        }
        if let Some(method) = &spec.distinguisher_method
            && !matches!(method.type_.as_str(), "ByUser" | "ByNamespace")
        {
            errors.not_supported(
                &path.child("distinguisherMethod.type"),
                Internal::fields([("Type", Internal::plain(&method.type_))]),
                &["ByNamespace", "ByUser"],
            );
        }
        let (level, at) = (
            &spec.priority_level_configuration.name,
            path.child("priorityLevelConfiguration.name"),
        );
        if level.is_empty() {
            errors.required(&at, "must reference a priority level");
        } else {
            for message in names::dns_subdomain(level, false) {
                errors.invalid(&at, level, message);
            }
        }
        for (index, rule) in spec.rules.iter().flatten().enumerate() {
            validate_rule(rule, &path.child("rules").index(index), errors);
        }
        if mandatory(name).is_some_and(|mandatory| *spec != mandatory) {
            let shown = internal::of("flowcontrol.v1.FlowSchemaSpec", spec);
            let detail = format!("spec of '{name}' must equal the fixed value");
            errors.invalid(&path, shown, detail);
        }
        validate_status(self, errors);
    }

    fn validate_update(&self, _old: &Self, target: Target, errors: &mut Errors) {
        if target != Target::Main {
            validate_status(self, errors);
        }
    }

    fn list_rows(
        objects: &mut dyn Iterator<Item = Self>,
        now: Timestamp,
    ) -> Option<Vec<(usize, Vec<Value>)>> {
        let mut all: Vec<(usize, Self)> = objects.enumerate().collect();
        // In the order in which they are asked whether they match.
        all.sort_by(|(_, a), (_, b)| {
            let key = |schema: &Self| {
                (
                    schema.spec.matching_precedence.unwrap_or(0),
                    schema.metadata.name.clone(),
                )
            };
            key(a).cmp(&key(b))
        });
        Some(
            all.into_iter()
                .map(|(place, schema)| (place, schema.cells(now)))
                .collect(),
        )
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let method = self.spec.distinguisher_method.as_ref();
        let dangling = self
            .status
            .iter()
            .filter_map(|status| status.conditions.as_ref())
            .flatten()
            .find(|condition| condition.type_ == "Dangling")
            .and_then(|condition| condition.status.as_deref());
        vec![
            self.metadata.name.clone().into(),
            self.spec.priority_level_configuration.name.clone().into(),
            self.spec.matching_precedence.unwrap_or(0).into(),
            method.map_or(NONE, |method| &method.type_).into(),
            age(&self.metadata, now),
            dangling.unwrap_or("?").into(),
        ]
    }
}

fn validate_status(schema: &FlowSchema, errors: &mut Errors) {
    let conditions = schema
        .status
        .iter()
        .filter_map(|status| status.conditions.as_ref())
        .flatten();
    check_conditions(
        conditions.map(|condition| condition.type_.as_str()),
        &Path::new("status.conditions"),
        errors,
    );
}

/// What the schemas that every server has must say.
fn mandatory(name: &str) -> Option<FlowSchemaSpec> {
    let group = |name: &str| json!({"kind": "Group", "group": {"name": name}});
    let everything = |subjects: Vec<Value>| {
        json!([{
            "subjects": subjects,
            "resourceRules": [{
                "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"],
            }],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        }])
    };
    let spec = match name {
        "exempt" => json!({
            "matchingPrecedence": 1,
            "priorityLevelConfiguration": {"name": "exempt"},
            "rules": everything(vec![group("system:masters")]),
        }),
        "catch-all" => json!({
            "matchingPrecedence": LAST,
            "priorityLevelConfiguration": {"name": "catch-all"},
            "distinguisherMethod": {"type": "ByUser"},
            "rules": everything(vec![group("system:unauthenticated"), group("system:authenticated")]),
        }),
        _ => return None,
    };
    serde_json::from_value(spec).ok()
}

fn validate_rule(rule: &PolicyRulesWithSubjects, path: &Path, errors: &mut Errors) {
    if rule.subjects.is_empty() {
        errors.required(
            &path.child("subjects"),
            "subjects must contain at least one value",
        );
    }
    for (index, subject) in rule.subjects.iter().enumerate() {
        validate_subject(subject, &path.child("subjects").index(index), errors);
    }
    let resources = rule.resource_rules.as_deref().unwrap_or_default();
    let others = rule.non_resource_rules.as_deref().unwrap_or_default();
    if resources.is_empty() && others.is_empty() {
        errors.required(
            path,
            "at least one of resourceRules and nonResourceRules has to be non-empty",
        );
    }
    for (index, rule) in resources.iter().enumerate() {
        validate_resource_rule(rule, &path.child("resourceRules").index(index), errors);
    }
    for (index, rule) in others.iter().enumerate() {
        validate_other_rule(rule, &path.child("nonResourceRules").index(index), errors);
    }
}

fn validate_subject(subject: &Subject, path: &Path, errors: &mut Errors) {
    let given = [
        (
            "ServiceAccount",
            "serviceAccount",
            subject.service_account.is_some(),
        ),
        ("User", "user", subject.user.is_some()),
        ("Group", "group", subject.group.is_some()),
    ];
    if !given.iter().any(|(kind, ..)| *kind == subject.kind) {
        return errors.not_supported(
            &path.child("kind"),
            &subject.kind,
            &["Group", "ServiceAccount", "User"],
        );
    }
    for (kind, field, given) in given {
        let path = path.child(field);
        match (kind == subject.kind, given) {
            (true, false) => errors.required(
                &path,
                &format!("{field} is required when subject kind is '{kind}'"),
            ),
            (false, true) => errors.forbidden(
                &path,
                &format!("{field} is forbidden when subject kind is not '{kind}'"),
            ),
            (true, true) | (false, false) => {}
        }
    }
    match (
        subject.kind.as_str(),
        &subject.service_account,
        &subject.user,
        &subject.group,
    ) {
        ("ServiceAccount", Some(account), ..) => {
            let path = path.child("serviceAccount");
            if account.name.is_empty() {
                errors.required(&path.child("name"), "");
            } else if account.name != "*" {
                for message in names::dns_subdomain(&account.name, false) {
                    errors.invalid(&path.child("name"), &account.name, message);
                }
            }
            if account.namespace.is_empty() {
                errors.required(
                    &path.child("namespace"),
                    "must specify namespace for service account",
                );
            } else {
                for message in names::dns_label(&account.namespace, false) {
                    errors.invalid(&path.child("namespace"), &account.namespace, message);
                }
            }
        }
        ("User", _, Some(user), _) if user.name.is_empty() => {
            errors.required(&path.child("user.name"), "");
        }
        ("Group", _, _, Some(group)) if group.name.is_empty() => {
            errors.required(&path.child("group.name"), "");
        }
        _ => {}
    }
}

fn wild(list: &[String]) -> bool {
    list.iter().any(|text| text == "*")
}

fn validate_verbs(verbs: &[String], path: &Path, errors: &mut Errors) {
    let path = path.child("verbs");
    if verbs.is_empty() {
        errors.required(&path, "verbs must contain at least one value");
    } else if wild(verbs) {
        if verbs.len() > 1 {
            errors.invalid(&path, verbs, "if '*' is present, must not specify other verbs");
        }
    } else if !verbs.iter().all(|verb| VERBS.contains(&verb.as_str())) {
        errors.not_supported(&path, verbs, &VERBS);
    }
}

fn validate_resource_rule(rule: &ResourcePolicyRule, path: &Path, errors: &mut Errors) {
    validate_verbs(&rule.verbs, path, errors);
    let lists = [
        ("apiGroups", &rule.api_groups, "api group"),
        ("resources", &rule.resources, "resource"),
    ];
    for (field, list, what) in lists {
        if list.is_empty() {
            errors.required(
                &path.child(field),
                &format!("resource rules must supply at least one {what}"),
            );
        } else if list.len() > 1 && wild(list) {
            errors.invalid(
                &path.child(field),
                list,
                format!("if '*' is present, must not specify other {what}s"),
            );
        }
    }
    let (namespaces, at) = (
        rule.namespaces.as_deref().unwrap_or_default(),
        path.child("namespaces"),
    );
    if namespaces.is_empty() && rule.cluster_scope != Some(true) {
        errors.required(
            &at,
            "resource rules that are not cluster scoped must supply at least one namespace",
        );
    } else if wild(namespaces) {
        if namespaces.len() > 1 {
            errors.invalid(
                &at,
                namespaces,
                "if '*' is present, must not specify other namespaces",
            );
        }
    } else {
        for (index, namespace) in namespaces.iter().enumerate() {
            for message in names::dns_label(namespace, false) {
                errors.invalid(
                    &at.index(index),
                    namespace,
                    format!("each member of this list must be '*' or a DNS-1123 label; {message}"),
                );
            }
        }
    }
}

fn validate_other_rule(rule: &NonResourcePolicyRule, path: &Path, errors: &mut Errors) {
    validate_verbs(&rule.verbs, path, errors);
    let (urls, path) = (&rule.non_resource_urls, path.child("nonResourceURLs"));
    if urls.is_empty() {
        errors.required(&path, "nonResourceURLs must contain at least one value");
    } else if wild(urls) {
        if urls.len() > 1 {
            errors.invalid(
                &path,
                urls,
                "if '*' is present, must not specify other non-resource URLs",
            );
        }
    } else {
        for (index, url) in urls.iter().enumerate() {
            let stars = url.matches('*').count();
            let wrong = if url.is_empty() {
                "must not be empty"
            } else if url == "/" {
                continue;
            } else if !url.starts_with('/') {
                "must start with slash"
            } else if url.contains(' ') {
                "must not contain white-space"
            } else if url.contains("//") {
                "must not contain double slash"
            } else if stars > 1 || stars == 1 && !url.ends_with("/*") {
                "wildcard can only do suffix matching"
            } else {
                continue;
            };
            errors.invalid(&path.index(index), url, wrong);
        }
    }
}
