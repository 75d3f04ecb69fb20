//! The kinds that are never stored: bindings and reviews, which are sent to be answered, and the components' statuses,
//! which are looked up.

use k8s_openapi::api::authentication::v1::{SelfSubjectReview, TokenReview};
use k8s_openapi::api::authorization::v1::{
    LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview,
};
use k8s_openapi::api::core::v1::{Binding, ComponentStatus};

use crate::kind::{Kind, KindInfo, Scope};

/// Their facts. Each that is sent has the one verb `create`.
pub(crate) fn kinds() -> Vec<KindInfo> {
    fn namespaced<K: k8s_openapi::Resource>(singular: &'static str) -> KindInfo {
        KindInfo {
            verbs: &["create"],
            ..KindInfo::of::<K>(singular)
        }
    }
    fn cluster<K: k8s_openapi::Resource>(singular: &'static str) -> KindInfo {
        KindInfo {
            scope: Scope::Cluster,
            ..namespaced::<K>(singular)
        }
    }
    vec![
        namespaced::<Binding>("binding"),
        ComponentStatus::info(),
        namespaced::<LocalSubjectAccessReview>("localsubjectaccessreview"),
        cluster::<SelfSubjectAccessReview>("selfsubjectaccessreview"),
        cluster::<SelfSubjectRulesReview>("selfsubjectrulesreview"),
        cluster::<SelfSubjectReview>("selfsubjectreview"),
        cluster::<SubjectAccessReview>("subjectaccessreview"),
        cluster::<TokenReview>("tokenreview"),
    ]
}
