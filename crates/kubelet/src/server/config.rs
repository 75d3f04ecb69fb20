//! `/healthz` and `/configz`: whether the kubelet is well, and how it is configured.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::shared::Shared;

/// What is checked: a kubelet that answers has passed.
const CHECKS: [&str; 3] = ["ping", "log", "syncloop"];

type Pairs = Query<Vec<(String, String)>>;

pub(super) async fn healthz(Query(query): Pairs) -> Response {
    if !query.iter().any(|(key, _)| key == "verbose") {
        return "ok".into_response();
    }
    let checks: String = CHECKS.iter().map(|check| format!("[+]{check} ok\n")).collect();
    format!("{checks}healthz check passed\n").into_response()
}

pub(super) async fn healthz_of(Path(check): Path<String>) -> Response {
    if CHECKS.contains(&check.as_str()) {
        "ok".into_response()
    } else {
        (StatusCode::NOT_FOUND, "404 page not found\n").into_response()
    }
}

/// The part of upstream's KubeletConfiguration that says something about this kubelet.
fn configuration(shared: &Shared) -> Value {
    let dns: Vec<String> = shared.cluster_dns.iter().map(ToString::to_string).collect();
    json!({ "kubeletconfig": {
        "enableServer": true,
        "authentication": {
            "x509": {},
            "webhook": { "enabled": true, "cacheTTL": "0s" },
            "anonymous": { "enabled": false },
        },
        "authorization": {
            "mode": "Webhook",
            "webhook": { "cacheAuthorizedTTL": "0s", "cacheUnauthorizedTTL": "0s" },
        },
        "clusterDomain": shared.cluster_domain,
        "clusterDNS": dns,
        "streamingConnectionIdleTimeout": "4h0m0s",
        "nodeLeaseDurationSeconds": 40,
        "maxPods": shared.max_pods,
        "resolvConf": shared.resolv_conf,
        "podLogsDir": shared.log_dir,
        "containerLogMaxSize": "10Mi",
        "containerLogMaxFiles": 5,
        "enableSystemLogHandler": true,
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
    } })
}

pub(super) async fn configz(State(shared): State<Arc<Shared>>) -> Response {
    let text = configuration(&shared).to_string();
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}
