//! IngressClass: which controller answers for ingresses.

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::IngressClass;
use serde_json::Value;

use super::ingress_rules;
use crate::cell;
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, KindInfo, Scope, Target, age};
use crate::same::same;
use crate::{meta, names};

const MAX_CONTROLLER: usize = 250;

/// Marks the class of ingresses that name none.
const IS_DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";

impl Kind for IngressClass {
    fn info() -> KindInfo {
        KindInfo {
            scope: Scope::Cluster,
            columns: vec![
                Column::object_name(),
                Column::new(
                    "Controller",
                    "string",
                    "Controller that is responsible for handling this class",
                ),
                Column::new(
                    "Parameters",
                    "string",
                    "A reference to a resource with additional parameters",
                ),
                Column::age(),
            ],
            ..KindInfo::of::<Self>("ingressclass")
        }
    }

    fn default(&mut self) {
        let spec = self.spec.get_or_insert_default();
        if let Some(parameters) = &mut spec.parameters {
            parameters.scope.get_or_insert_with(|| "Cluster".into());
        }
    }

    fn prepare_for_create(&mut self) {
        self.metadata.generation = Some(1);
    }

    fn prepare_for_update(&mut self, old: &Self, _target: Target) {
        self.metadata.generation = meta::generation_after(&old.metadata, !same(&self.spec, &old.spec));
    }

    fn validate(&self, errors: &mut Errors) {
        let spec = self.spec.clone().unwrap_or_default();
        let path = Path::new("spec");
        let at = path.child("controller");
        match spec.controller.as_deref().unwrap_or_default() {
            "" => errors.required(&at, ""),
            controller => {
                if controller.len() > MAX_CONTROLLER {
                    errors.too_long(&at, MAX_CONTROLLER);
                }
                check_domain_path(controller, &at, errors);
            }
        }
        let Some(parameters) = spec.parameters else { return };
        let path = path.child("parameters");
        ingress_rules::validate_named(
            parameters.api_group.as_deref(),
            &parameters.kind,
            &parameters.name,
            &path,
            errors,
        );
        let at = path.child("namespace");
        match (parameters.scope.as_deref(), &parameters.namespace) {
            (None, _) => errors.required(&path.child("scope"), ""),
            (Some("Namespace"), None) => {
                errors.required(&at, "`parameters.scope` is set to 'Namespace'");
            }
            (Some("Namespace"), Some(namespace)) => {
                for message in names::dns_label(namespace, false) {
                    errors.invalid(&at, namespace, message);
                }
            }
            (Some("Cluster"), Some(_)) => {
                errors.forbidden(&at, "`parameters.scope` is set to 'Cluster'");
            }
            (Some("Cluster"), None) => {}
            (Some(other), _) => {
                errors.not_supported(&path.child("scope"), other, &["Cluster", "Namespace"]);
            }
        }
    }

    fn validate_changed(&self, old: &Self, errors: &mut Errors) {
        let controller = |class: &Self| {
            class
                .spec
                .clone()
                .unwrap_or_default()
                .controller
                .unwrap_or_default()
        };
        meta::immutable(
            &controller(self),
            &controller(old),
            &Path::new("spec.controller"),
            errors,
        );
        self.validate(errors);
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.clone().unwrap_or_default();
        let parameters = match spec.parameters {
            None => cell::NONE.to_string(),
            Some(parameters) => match parameters.api_group {
                Some(group) => format!("{}.{group}/{}", parameters.kind, parameters.name),
                None => format!("{}/{}", parameters.kind, parameters.name),
            },
        };
        let mut name = self.metadata.name.clone().unwrap_or_default();
        let annotations = self.metadata.annotations.iter().flatten();
        if annotations
            .into_iter()
            .any(|(key, value)| key == IS_DEFAULT && value == "true")
        {
            name.push_str(" (default)");
        }
        vec![
            name.into(),
            spec.controller.unwrap_or_default().into(),
            parameters.into(),
            age(&self.metadata, now),
        ]
    }
}

/// Checks a path with a domain in front: `acme.io/foo`.
fn check_domain_path(text: &str, path: &Path, errors: &mut Errors) {
    const CHARACTERS: &str = "/-._~%!$&'()*+,;=:";
    let (host, rest) = text.split_once('/').unwrap_or_default();
    if host.is_empty() || rest.is_empty() {
        return errors.invalid(
            path,
            text,
            "must be a domain-prefixed path (such as \"acme.io/foo\")",
        );
    }
    for message in names::dns_subdomain(host, false) {
        errors.invalid(path, host, message);
    }
    if !rest
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || CHARACTERS.contains(c))
    {
        let message = names::mismatch("Invalid path", r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+", &[]);
        errors.invalid(path, rest, message);
    }
}
