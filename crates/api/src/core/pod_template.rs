//! PodTemplate: a template that stands alone.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodTemplate;
use serde_json::Value;

use super::pod_spec;
use crate::cell;
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, KindInfo, Target};
use crate::meta;
use crate::same::same;

impl Kind for PodTemplate {
    fn info() -> KindInfo {
        KindInfo {
            returns_deleted: true,
            columns: vec![
                Column::object_name(),
                Column::new("Containers", "string", "Names of each container in the template."),
                Column::new(
                    "Images",
                    "string",
                    "Images referenced by each container in the template.",
                ),
                Column::new("Pod Labels", "string", "The labels for the pod template."),
            ],
            ..KindInfo::of::<Self>("podtemplate")
        }
    }

    fn default(&mut self) {
        pod_spec::default_template(self.template.get_or_insert_default());
    }

    fn prepare_for_create(&mut self) {
        self.metadata.generation = Some(1);
    }

    fn prepare_for_update(&mut self, old: &Self, _target: Target) {
        let changed = !same(&self.template, &old.template);
        self.metadata.generation = meta::generation_after(&old.metadata, changed);
    }

    fn validate(&self, errors: &mut Errors) {
        let template = self.template.clone().unwrap_or_default();
        pod_spec::validate_template(&template, &Path::new("template"), errors);
    }

    fn warnings(&self, old: Option<&Self>) -> Vec<String> {
        let mut warnings = Vec::new();
        if old.is_none_or(|old| old.template != self.template)
            && let Some(template) = &self.template
        {
            pod_spec::warn_of_template(template, &Path::new("template"), &mut warnings);
        }
        warnings
    }

    fn cells(&self, _now: Timestamp) -> Vec<Value> {
        let template = self.template.as_ref();
        let (names, images) = cell::template(template);
        let labels = template
            .and_then(|template| template.metadata.as_ref())
            .and_then(|metadata| metadata.labels.as_ref());
        vec![
            self.metadata.name.clone().into(),
            names.into(),
            images.into(),
            cell::labels(labels).into(),
        ]
    }
}
