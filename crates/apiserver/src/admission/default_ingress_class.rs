//! DefaultIngressClass: an ingress that names no class gets the cluster's.

use async_trait::async_trait;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use skiff_api::Object;

use super::{Plugin, newest};
use crate::error::ApiResult;
use crate::objects::all;
use crate::registry::{AdmissionRequest, Operation, Registry};

/// Marks the class of ingresses that name none.
const DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";
/// How an ingress named its class before there was a field for it.
const ANNOTATION: &str = "kubernetes.io/ingress.class";

pub(super) struct DefaultIngressClass;

#[async_trait]
impl Plugin for DefaultIngressClass {
    async fn admit(
        &self,
        request: &AdmissionRequest<'_>,
        object: &mut dyn Object,
        registry: &Registry,
    ) -> ApiResult<()> {
        if request.operation != Operation::Create {
            return Ok(());
        }
        let Some(ingress) = object.as_any_mut().downcast_mut::<Ingress>() else {
            return Ok(());
        };
        let annotations = ingress.metadata.annotations.as_ref();
        let named = ingress
            .spec
            .as_ref()
            .is_some_and(|spec| spec.ingress_class_name.is_some());
        if named || annotations.is_some_and(|all| all.contains_key(ANNOTATION)) {
            return Ok(());
        }
        let mut classes = all::<IngressClass>(registry, "");
        classes.retain(|class| {
            let value = class
                .metadata
                .annotations
                .as_ref()
                .and_then(|all| all.get(DEFAULT));
            value.is_some_and(|value| value == "true")
        });
        if let Some(class) = newest(classes) {
            ingress.spec.get_or_insert_default().ingress_class_name = class.metadata.name;
        }
        Ok(())
    }
}
