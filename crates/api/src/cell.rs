//! How the cells of tables are written (`pkg/printers/internalversion`).

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    LabelSelector as LabelSelectorObject, ObjectMeta, Time,
};

use crate::kind::{Column, human_duration};
use crate::selector::LabelSelector;

/// What stands where there is nothing.
pub const NONE: &str = "<none>";
/// What stands where the value is not known.
pub const UNKNOWN: &str = "<unknown>";

/// The time since then; `<unknown>` without a time.
pub fn since(time: Option<&Time>, now: Timestamp) -> String {
    match time {
        Some(Time(time)) => human_duration(now.as_second() - time.as_second()),
        None => UNKNOWN.into(),
    }
}

/// The time of creation, as kinds show it that have no table of their own.
pub fn created(meta: &ObjectMeta) -> String {
    match &meta.creation_timestamp {
        Some(Time(time)) => time.to_string(),
        None => "0001-01-01T00:00:00Z".into(),
    }
}

/// A text, or something else where it is empty.
pub fn or<'a>(text: Option<&'a str>, otherwise: &'a str) -> &'a str {
    match text {
        None | Some("") => otherwise,
        Some(text) => text,
    }
}

/// `a=b,c=d`
pub fn labels(labels: Option<&BTreeMap<String, String>>) -> String {
    let pairs: Vec<String> = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    if pairs.is_empty() {
        NONE.into()
    } else {
        pairs.join(",")
    }
}

/// A selector, or `<none>` where it is empty.
pub fn selector(selector: &LabelSelectorObject) -> String {
    match LabelSelector::of(Some(selector)) {
        Ok(selector) if selector.requirements().is_empty() => NONE.into(),
        Ok(selector) => selector.to_string(),
        Err(_) => "<error>".into(),
    }
}

/// The first three, and how many more there are.
pub fn first_three(all: &[String]) -> String {
    const MAX: usize = 3;
    let first: Vec<&str> = all.iter().take(MAX).map(String::as_str).collect();
    let text = first.join(",");
    if all.len() > MAX {
        format!("{text} + {} more...", all.len() - MAX)
    } else {
        text
    }
}

/// `statefulset.apps/web`: who controls an object.
pub fn controller(meta: &ObjectMeta) -> String {
    let owner = meta
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true));
    let Some(owner) = owner else { return NONE.into() };
    let kind = owner.kind.to_lowercase();
    match owner.api_version.split_once('/') {
        Some((group, _)) => format!("{kind}.{group}/{}", owner.name),
        None => format!("{kind}/{}", owner.name),
    }
}

/// `True`, `False`, or that it is not said.
pub fn boolean(flag: Option<bool>) -> &'static str {
    match flag {
        Some(true) => "True",
        Some(false) => "False",
        None => "<unset>",
    }
}

/// The names and the images of a template's containers.
pub fn template(template: Option<&PodTemplateSpec>) -> (String, String) {
    let spec = template.and_then(|template| template.spec.as_ref());
    containers(spec.map(|spec| spec.containers.as_slice()).unwrap_or_default())
}

/// The names and the images of containers.
pub fn containers(containers: &[Container]) -> (String, String) {
    let names: Vec<&str> = containers
        .iter()
        .map(|container| container.name.as_str())
        .collect();
    let images: Vec<&str> = containers
        .iter()
        .map(|container| container.image.as_deref().unwrap_or_default())
        .collect();
    (names.join(","), images.join(","))
}

/// The columns that tell of a pod template, shown with `-o wide`.
pub fn template_columns() -> [Column; 2] {
    [
        Column::wide("Containers", "string", "Names of each container in the template."),
        Column::wide(
            "Images",
            "string",
            "Images referenced by each container in the template.",
        ),
    ]
}

/// The columns of a template and of its selector, which is a field of `spec` (`apps.v1.DeploymentSpec`).
pub fn selected_template_columns(spec: &'static str) -> [Column; 3] {
    let [containers, images] = template_columns();
    let selector = Column::of("Selector", "string", spec, "selector").only_wide();
    [containers, images, selector]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut_after_three() {
        let all: Vec<String> = (1..=5).map(|n| n.to_string()).collect();
        assert_eq!(first_three(all.get(..3).unwrap()), "1,2,3");
        assert_eq!(first_three(&all), "1,2,3 + 2 more...");
        assert_eq!(first_three(&[]), "");
    }
}
