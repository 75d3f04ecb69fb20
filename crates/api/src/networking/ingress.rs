//! Ingress: which services answer HTTP requests from outside.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{Ingress, IngressRule, IngressStatus};
use serde_json::Value;

use super::ingress_rules::{self, Allowed};
use crate::cell;
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, KindInfo, Subresource, Target, age};
use crate::meta;
use crate::same::same;

/// The annotation that named the class before there was a field for it.
const CLASS: &str = "kubernetes.io/ingress.class";

impl Kind for Ingress {
    fn info() -> KindInfo {
        KindInfo {
            short_names: &["ing"],
            subresources: &[Subresource::Status],
            store_prefix: "ingress".into(),
            columns: vec![
                Column::object_name(),
                Column::new(
                    "Class",
                    "string",
                    "The name of the IngressClass resource that should be used for additional configuration",
                ),
                Column::new(
                    "Hosts",
                    "string",
                    "Hosts that incoming requests are matched against before the ingress rule",
                ),
                Column::new(
                    "Address",
                    "string",
                    "Address is a list containing ingress points for the load-balancer",
                ),
                Column::new("Ports", "string", "Ports of TLS configurations that open"),
                Column::age(),
            ],
            ..KindInfo::of::<Self>("ingress")
        }
    }

    fn default(&mut self) {
        let spec = self.spec.get_or_insert_default();
        for service in ingress_rules::services_mut(spec) {
            service.port.get_or_insert_default();
        }
        let status: &mut IngressStatus = self.status.get_or_insert_default();
        status.load_balancer.get_or_insert_default();
    }

    fn prepare_for_create(&mut self) {
        self.metadata.generation = Some(1);
        self.status = Some(IngressStatus {
            load_balancer: Some(Default::default()),
        });
    }

    fn prepare_for_update(&mut self, old: &Self, target: Target) {
        if target == Target::Subresource(Subresource::Status) {
            self.spec.clone_from(&old.spec);
            return;
        }
        self.status.clone_from(&old.status);
        self.metadata.generation = meta::generation_after(&old.metadata, !same(&self.spec, &old.spec));
    }

    fn validate(&self, errors: &mut Errors) {
        let spec = self.spec.clone().unwrap_or_default();
        ingress_rules::validate(&spec, Allowed::default(), &Path::new("spec"), errors);
    }

    fn validate_changed(&self, old: &Self, errors: &mut Errors) {
        let (spec, before) = (
            self.spec.clone().unwrap_or_default(),
            old.spec.clone().unwrap_or_default(),
        );
        ingress_rules::validate(&spec, Allowed::to(&before), &Path::new("spec"), errors);
    }

    fn validate_create(&self, errors: &mut Errors) {
        let spec = self.spec.clone().unwrap_or_default();
        let annotation = self.metadata.annotations.as_ref().and_then(|all| all.get(CLASS));
        if let (Some(annotation), Some(class)) = (annotation, &spec.ingress_class_name)
            && annotation != class
        {
            errors.invalid(
                &Path::new("annotations").child(CLASS),
                annotation,
                "must match `ingressClassName` when both are specified",
            );
        }
    }

    fn validate_update(&self, old: &Self, target: Target, errors: &mut Errors) {
        if target == Target::Subresource(Subresource::Status) {
            let points = |ingress: &Self| {
                let status = ingress.status.clone().unwrap_or_default();
                status.load_balancer.unwrap_or_default()
            };
            let path = Path::new("status.loadBalancer");
            ingress_rules::validate_status(&points(self), &points(old), &path, errors);
        }
    }

    fn warnings(&self, old: Option<&Self>) -> Vec<String> {
        let annotated = self
            .metadata
            .annotations
            .as_ref()
            .is_some_and(|annotations| annotations.contains_key(CLASS));
        let named = self
            .spec
            .as_ref()
            .is_some_and(|spec| spec.ingress_class_name.is_some());
        if old.is_none() && annotated && !named {
            vec![format!(
                "annotation {CLASS:?} is deprecated, please use 'spec.ingressClassName' instead"
            )]
        } else {
            Vec::new()
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.clone().unwrap_or_default();
        let addresses: BTreeSet<String> = self
            .status
            .iter()
            .filter_map(|status| status.load_balancer.as_ref()?.ingress.as_ref())
            .flatten()
            .filter_map(|point| {
                let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
                given(&point.ip).or_else(|| given(&point.hostname))
            })
            .collect();
        let ports = if spec.tls.is_some_and(|tls| !tls.is_empty()) {
            "80, 443"
        } else {
            "80"
        };
        vec![
            self.metadata.name.clone().into(),
            spec.ingress_class_name.as_deref().unwrap_or(cell::NONE).into(),
            hosts(spec.rules.as_deref().unwrap_or_default()).into(),
            addresses.into_iter().collect::<Vec<_>>().join(",").into(),
            ports.into(),
            age(&self.metadata, now),
        ]
    }
}

/// The first three hosts, and how many rules there are besides.
fn hosts(rules: &[IngressRule]) -> String {
    const MAX: usize = 3;
    let mut list: Vec<&str> = Vec::new();
    let mut more = false;
    for rule in rules {
        let host = rule.host.as_deref().unwrap_or_default();
        more |= list.len() == MAX;
        if !more && !host.is_empty() {
            list.push(host);
        }
    }
    match list.join(",") {
        text if text.is_empty() => "*".into(),
        text if more => format!("{text} + {} more...", rules.len() - MAX),
        text => text,
    }
}
