//! ResourceClaimTemplate: what a claim is made of for each pod that asks for one.

use k8s_openapi::api::resource::v1::ResourceClaimTemplate;

use super::{claim_spec, disabled};
use crate::field::{Errors, Path};
use crate::internal;
use crate::kind::{Kind, KindInfo, Target};
use crate::meta::{self, IMMUTABLE};
use crate::same::same;

impl Kind for ResourceClaimTemplate {
    fn info() -> KindInfo {
        KindInfo {
            returns_deleted: true,
            ..KindInfo::of::<Self>("resourceclaimtemplate")
        }
    }

    fn default(&mut self) {
        let spec = self.spec.get_or_insert_default();
        spec.metadata.get_or_insert_default();
        claim_spec::default(spec.spec.get_or_insert_default());
    }

    fn prepare_for_create(&mut self) {
        let spec = self.spec.as_mut().and_then(|spec| spec.spec.as_mut());
        disabled::drop_from_claim(spec);
    }

    fn validate_create(&self, errors: &mut Errors) {
        let (spec, path) = (self.spec.clone().unwrap_or_default(), Path::new("spec"));
        let metadata = spec.metadata.unwrap_or_default();
        let at = path.child("metadata");
        meta::validate_annotations(metadata.annotations.as_ref(), &at.child("annotations"), errors);
        meta::validate_labels(metadata.labels.as_ref(), &at.child("labels"), errors);
        let claim = spec.spec.unwrap_or_default();
        claim_spec::validate(&claim, &path.child("spec"), errors);
    }

    fn validate_update(&self, old: &Self, _target: Target, errors: &mut Errors) {
        if !same(&self.spec, &old.spec) {
            let shown = internal::of("resource.v1.ResourceClaimTemplateSpec", &self.spec);
            errors.invalid(&Path::new("spec"), shown, IMMUTABLE);
        }
    }
}
