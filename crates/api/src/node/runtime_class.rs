//! RuntimeClass: what runs the containers of a pod.

use jiff::Timestamp;
use k8s_openapi::api::node::v1::RuntimeClass;
use serde_json::Value;

use crate::core::pod_spec::{self, resources};
use crate::field::{Errors, Path};
use crate::internal;
use crate::kind::{Column, Kind, KindInfo, Scope, Target, age};
use crate::meta;
use crate::names;

impl Kind for RuntimeClass {
    fn info() -> KindInfo {
        KindInfo {
            scope: Scope::Cluster,
            columns: vec![
                Column::object_name(),
                Column::new("Handler", "string", ""),
                Column::age(),
            ],
            unconditional_update: false,
            ..KindInfo::of::<Self>("runtimeclass")
        }
    }

    fn validate(&self, errors: &mut Errors) {
        let messages = names::dns_label(&self.handler, false);
        errors.invalid_each(&Path::new("handler"), &self.handler, messages);
        let overhead = self
            .overhead
            .as_ref()
            .and_then(|overhead| overhead.pod_fixed.as_ref());
        if let Some(amounts) = overhead {
            resources::validate_limits(amounts, &Path::new("overhead.podFixed"), errors);
        }
        let Some(scheduling) = &self.scheduling else {
            return;
        };
        let path = Path::new("scheduling");
        meta::validate_labels(
            scheduling.node_selector.as_ref(),
            &path.child("nodeSelector"),
            errors,
        );
        let tolerations = scheduling.tolerations.as_deref().unwrap_or_default();
        let path = path.child("tolerations");
        pod_spec::validate_tolerations(tolerations, &path, errors);
        for (index, toleration) in tolerations.iter().enumerate() {
            if tolerations
                .iter()
                .take(index)
                .any(|earlier| earlier == toleration)
            {
                errors.duplicate(&path.index(index), internal::of("Toleration", toleration));
            }
        }
    }

    fn validate_update(&self, old: &Self, _target: Target, errors: &mut Errors) {
        meta::immutable(&self.handler, &old.handler, &Path::new("handler"), errors);
    }

    fn warnings(&self, _old: Option<&Self>) -> Vec<String> {
        let scheduling = self.scheduling.as_ref();
        let labels = scheduling.and_then(|scheduling| scheduling.node_selector.as_ref());
        let labels = labels.into_iter().flat_map(|labels| labels.keys());
        labels
            .filter_map(|label| Some(format!("scheduling.nodeSelector: {}", pod_spec::renamed(label)?)))
            .collect()
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        vec![
            self.metadata.name.clone().into(),
            self.handler.clone().into(),
            age(&self.metadata, now),
        ]
    }
}
