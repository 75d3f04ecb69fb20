//! Which objects of a kind a list or a watch is about: a namespace, a label selector and a field selector.

use skiff_api::selector::{FieldSelector, LabelSelector};
use skiff_api::{Conversion, KindInfo, Strategy};

use super::Facts;
use crate::error::{ApiError, ApiResult};

/// What is selected.
#[derive(Clone, Debug, Default)]
pub(super) struct Selection {
    pub(super) namespace: Option<String>,
    pub(super) labels: LabelSelector,
    pub(super) fields: FieldSelector,
    /// The kind's indexed fields that must have one certain value.
    pub(super) indexed_fields: Vec<(&'static str, String)>,
}

impl Selection {
    /// What a request for a version of a kind selects.
    pub(super) fn of(
        strategy: &dyn Strategy,
        namespace: Option<&str>,
        labels: &str,
        fields: &str,
    ) -> ApiResult<Self> {
        Self::read(strategy.info(), strategy.conversion(), namespace, labels, fields)
    }

    #[cfg(test)]
    pub(super) fn parse(
        info: &KindInfo,
        namespace: Option<&str>,
        labels: &str,
        fields: &str,
    ) -> ApiResult<Self> {
        Self::read(info, None, namespace, labels, fields)
    }

    fn read(
        info: &KindInfo,
        conversion: Option<&dyn Conversion>,
        namespace: Option<&str>,
        labels: &str,
        fields: &str,
    ) -> ApiResult<Self> {
        let labels =
            LabelSelector::parse(labels).map_err(|error| ApiError::bad_request(error.to_string()))?;
        let fields =
            FieldSelector::parse(fields).map_err(|error| ApiError::bad_request(error.to_string()))?;
        for term in fields.terms() {
            let name = term.field.as_str();
            if matches!(name, "metadata.name" | "metadata.namespace")
                || info.selectable_fields.contains(&name)
            {
                continue;
            }
            let message = if info.selectable_fields.is_empty() {
                format!(
                    "{name:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
                )
            } else {
                format!("field label not supported: {name}")
            };
            return Err(ApiError::bad_request(message));
        }
        // Objects are found by the stored version's names of their fields.
        let fields = match conversion {
            None => fields,
            Some(conversion) => fields
                .renamed(|name| match name {
                    "metadata.name" | "metadata.namespace" => Some(name.into()),
                    name => conversion.stored_field(name).map(String::from),
                })
                .map_err(|name| ApiError::bad_request(format!("field label not supported: {name}")))?,
        };
        let indexed_fields = info
            .indexed_fields
            .iter()
            .filter_map(|field| fields.required(field).map(|value| (*field, value.to_string())))
            .collect();
        Ok(Self {
            // A selector on the namespace narrows a list of all namespaces to that one's range of keys.
            namespace: namespace
                .or(fields
                    .required("metadata.namespace")
                    .filter(|name| !name.is_empty()))
                .map(String::from),
            labels,
            fields,
            indexed_fields,
        })
    }

    /// Whether there is a selector beside the namespace.
    pub(super) fn is_plain(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    /// The one name that can match, if the selector says so.
    pub(super) fn name(&self) -> Option<&str> {
        self.fields.required("metadata.name")
    }

    pub(super) fn matches(&self, facts: &Facts) -> bool {
        self.namespace
            .as_ref()
            .is_none_or(|namespace| *namespace == facts.namespace)
            && self.labels.matches(&facts.labels)
            && self.fields.matches(|name| facts.field(name).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn facts() -> Facts {
        Facts {
            namespace: "a".into(),
            name: "x".into(),
            labels: BTreeMap::from([("app".into(), "web".into())]),
            fields: vec![("spec.nodeName", "n1".into())],
        }
    }

    fn info(fields: &'static [&'static str]) -> KindInfo {
        KindInfo {
            selectable_fields: fields,
            ..KindInfo::of::<k8s_openapi::api::core::v1::Pod>("pod")
        }
    }

    #[test]
    fn namespace_labels_and_fields_must_all_match() {
        let cases = [
            (None, "", "", true),
            (Some("a"), "", "", true),
            (Some("b"), "", "", false),
            (None, "app=web", "", true),
            (None, "app!=web", "", false),
            (
                Some("a"),
                "app in (web,db)",
                "spec.nodeName=n1,metadata.name=x",
                true,
            ),
            (None, "", "spec.nodeName=n2", false),
            (None, "", "spec.nodeName!=n2", true),
            (None, "", "metadata.namespace=b", false),
            (None, "", "metadata.namespace=", false),
            (Some("a"), "", "metadata.namespace=b", false),
        ];
        for (namespace, labels, fields, expected) in cases {
            let selection = Selection::parse(&info(&["spec.nodeName"]), namespace, labels, fields).unwrap();
            assert_eq!(
                selection.matches(&facts()),
                expected,
                "{namespace:?} {labels} {fields}"
            );
        }
    }

    #[test]
    fn a_field_that_is_not_selectable_is_refused() {
        let error = |fields, selector| {
            let error = Selection::parse(&info(fields), None, "", selector).unwrap_err();
            (error.code(), error.to_string())
        };
        assert_eq!(
            error(&["spec.nodeName"], "spec.foo=1"),
            (400, "field label not supported: spec.foo".to_string())
        );
        assert_eq!(
            error(&[], "spec.foo=1"),
            (
                400,
                r#""spec.foo" is not a known field selector: only "metadata.name", "metadata.namespace""#
                    .to_string()
            )
        );
    }
}
