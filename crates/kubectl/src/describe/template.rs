//! The pod template of a workload.

use serde_json::Value;

use super::container::{Surroundings, containers};
use super::page::Page;
use super::pod::{spread, tolerations};
use super::volumes::volumes;
use crate::fields::{list, map, text};

/// The section of `spec.template`.
pub(super) fn template(page: &mut Page, workload: &Value) {
    let Some(template) = workload.pointer("/spec/template") else {
        return page.line(0, "Pod Template:\n  <unset>");
    };
    page.line(0, "Pod Template:");
    page.labels(0, "  Labels", map(template, "/metadata/labels"));
    let annotations = map(template, "/metadata/annotations");
    if !annotations.is_empty() {
        page.annotations(0, "  Annotations", annotations);
    }
    page.field_if_any(0, "  Service Account", text(template, "/spec/serviceAccountName"));
    let around = Surroundings {
        pod: None,
        statuses: &[],
    };
    let init = list(template, "/spec/initContainers");
    if !init.is_empty() {
        containers(page, "Init Containers", init, around, true);
    }
    containers(
        page,
        "Containers",
        list(template, "/spec/containers"),
        around,
        true,
    );
    volumes(page, list(template, "/spec/volumes"), true);
    spread(page, list(template, "/spec/topologySpreadConstraints"), "  ");
    page.field_if_any(
        0,
        "  Priority Class Name",
        text(template, "/spec/priorityClassName"),
    );
    page.labels(0, "  Node-Selectors", map(template, "/spec/nodeSelector"));
    let tolerated = tolerations(list(template, "/spec/tolerations"));
    page.field_of_lines(0, "  Tolerations", &tolerated);
}
