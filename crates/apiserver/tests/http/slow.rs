//! Slow clients: they are not waited for without end, nothing piles up for them, and nobody else is held up.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::*;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_say_what_is_wanted_is_hung_up_on() {
    let server = Server::start().await;
    let client = server.admin().await;
    // Who has asked once may take longer to ask again than the others may take at all.
    let mut kept = server.connect().await;
    assert!(asks(&mut kept).await.starts_with("HTTP/1.1 200"));
    let mut slow = Vec::new();
    for head in ["", "GET / HT", "GET /api HTTP/1.1\r\nhost: x\r\nx-slow: "] {
        for _ in 0..20 {
            let mut stream = server.connect().await;
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            slow.push(stream);
        }
    }
    assert_eq!(get(&client, "/api").await.status, 200, "nobody else is held up");
    for mut stream in slow {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut rest)).await;
        // With a word or without one.
        let _ = ended.expect("the server hangs up");
    }
    assert!(asks(&mut kept).await.starts_with("HTTP/1.1 200"));
}

/// Asks for something small; the head of the answer, and what came with it.
async fn asks(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) -> String {
    let request = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n";
    stream.write_all(request).await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"ok") {
        let mut bytes = [0; 1024];
        let count = tokio::time::timeout(DEADLINE, stream.read(&mut bytes))
            .await
            .unwrap()
            .unwrap();
        assert!(count > 0, "{}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&bytes[..count]);
    }
    String::from_utf8(answer).unwrap()
}

fn count(metrics: &str, name: &str) -> u64 {
    let line = metrics.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.rsplit(' ').next());
    value.and_then(|value| value.parse().ok()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_piles_up_for_a_watcher_that_does_not_read() {
    const WRITES: u64 = 600;
    let server = Server::start().await;
    let client = server.local();
    let begin = get(&client, MAPS).await.json()["metadata"]["resourceVersion"].clone();
    let begin = begin.as_str().unwrap();
    let mut silent = server.connect().await;
    let head = format!("GET {MAPS}?watch=1&resourceVersion={begin} HTTP/1.1\r\nhost: x\r\n\r\n");
    silent.write_all(head.as_bytes()).await.unwrap();
    silent.flush().await.unwrap();
    // Its answer has begun when its first bytes are there.
    let mut first = [0; 12];
    silent.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");

    let big = "v".repeat(64 << 10);
    post(&client, MAPS, &json!({ "metadata": { "name": "a" } })).await;
    for index in 0..WRITES {
        let change = json!({ "data": { "big": big, "index": index.to_string() } });
        let changed = patch(&client, &format!("{MAPS}/a"), "merge-patch", &change).await;
        assert_eq!(changed.status, 200, "the writer waits for nobody");
    }
    let metrics = get(&client, "/metrics").await.text();
    let name = r#"apiserver_watch_events_total{group="",resource="configmaps""#;
    let taken = count(&metrics, name);
    assert!(
        taken < WRITES / 2,
        "{taken} of {WRITES} events of 64 KiB were taken for somebody who reads none"
    );
    let live = metrics.lines().find(|line| {
        line.starts_with("apiserver_longrunning_requests{") && line.contains("resource=\"configmaps\"")
    });
    assert!(live.is_some_and(|line| line.ends_with(" 1")), "{live:?}");
    // When it reads at last, it has missed nothing, or is told so.
    let mut text = Vec::new();
    let last = format!("\"index\":\"{}\"", WRITES - 1);
    let ends = [last.as_bytes(), b"too old resource version"];
    let read = async {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let length = silent.read(&mut buffer).await.unwrap();
            assert!(length > 0, "the watch ended without a word");
            let from = text.len().saturating_sub(64);
            text.extend_from_slice(&buffer[..length]);
            let fresh = &text[from..];
            if ends
                .iter()
                .any(|end| fresh.windows(end.len()).any(|part| part == *end))
            {
                break;
            }
        }
    };
    tokio::time::timeout(DEADLINE, read).await.unwrap();
    drop(silent);
}

#[tokio::test]
async fn metrics_have_upstreams_names() {
    let server = Server::start().await;
    let client = server.admin().await;
    post(&client, MAPS, &json!({ "metadata": { "name": "a" } })).await;
    let metrics = get(&client, "/metrics").await.text();
    for line in [
        r#"etcd_request_duration_seconds_count{group="",operation="create",resource="configmaps"} "#,
        r#"etcd_requests_total{group="apiregistration.k8s.io",operation="create",resource="apiservices"} "#,
        r#"etcd_requests_total{group="",operation="list",resource=""} "#,
        "# HELP apiserver_request_total [STABLE] Counter of apiserver requests",
        "# HELP apiserver_flowcontrol_nominal_limit_seats [BETA] Nominal number",
        "# HELP kubernetes_build_info [BETA] A metric with",
        r#"apiserver_resource_objects{group="",resource="configmaps"} "#,
        r#"apiserver_storage_objects{resource="configmaps"} "#,
        "process_cpu_seconds_total ",
        "process_resident_memory_bytes ",
        "process_start_time_seconds ",
    ] {
        assert!(metrics.lines().any(|found| found.starts_with(line)), "{line}");
    }
    // What Prometheus reads: a name comes once, and every sample has a number.
    let mut seen = std::collections::BTreeSet::new();
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let (sample, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(seen.insert(sample), "{sample} twice");
    }
    let _: Value = get(&client, "/version").await.json();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_takes_no_longer_than_it_says_itself() {
    let server = Server::start().await;
    let mut stream = server.connect().await;
    let head = format!(
        "POST {MAPS}?timeout=300ms HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 10\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await;
    let _ = ended.expect("the server answers");
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 504 Gateway Timeout\r\n"), "{answer}");
    let status: Value = serde_json::from_str(answer.rsplit("\r\n\r\n").next().unwrap()).unwrap();
    assert_eq!(
        status,
        json!({
            "metadata": {},
            "status": "Failure",
            "message": "Timeout: request did not complete within the allotted timeout",
            "reason": "Timeout",
            "details": {},
            "code": 504,
        })
    );
    let client = server.admin().await;
    let metrics = get(&client, "/metrics").await.text();
    let counted = r#"apiserver_request_terminations_total{code="504",component="apiserver",group="",resource="configmaps",scope="namespace",subresource="",verb="POST",version="v1"} 1"#;
    assert!(metrics.contains(counted), "{metrics}");
    for path in ["/readyz", "/api/v1/namespaces/default/endpoints", "/version"] {
        assert_eq!(get(&client, path).await.status, 200, "{path}");
    }
    let metrics = get(&client, "/metrics").await.text();
    for line in [
        r#"apiserver_requested_deprecated_apis{group="",removed_release="",resource="endpoints",subresource="",version="v1"} 1"#,
        r#"apiserver_response_sizes_count{component="apiserver",group="",resource="endpoints",scope="namespace",subresource="",verb="LIST",version="v1"} 1"#,
    ] {
        assert!(
            metrics.lines().any(|its| its == line),
            "{line} is not in\n{metrics}"
        );
    }
    let levels = get(&client, "/metrics/slis").await.text();
    for line in [
        r#"kubernetes_healthcheck{name="etcd",type="readyz"} 1"#,
        r#"kubernetes_healthchecks_total{name="etcd",status="success",type="readyz"} 1"#,
    ] {
        assert!(
            levels.lines().any(|its| its == line),
            "{line} is not in\n{levels}"
        );
    }
    for (path, code) in [
        ("/api/v1/pods?timeout=soon", 400),
        ("/version?timeout=5", 400),
        ("/api/v1/pods?timeout=10s", 200),
        ("/api/v1/pods?timeout=", 200),
        ("/api/v1/pods?timeout=-1s", 200),
        ("/api/v1/pods?watch=1&timeoutSeconds=1&timeout=soon", 200),
    ] {
        assert_eq!(get(&client, path).await.status, code, "{path}");
    }
    // Nobody has been asked who they are yet.
    let nobody = server.client(Credential::Nothing).await;
    assert_eq!(
        get(&nobody, "/api/v1/pods?timeout=99999999h").await.failure(),
        (
            400,
            r#"invalid timeout specified in the request URL - time: invalid duration "99999999h""#.into()
        )
    );
}
