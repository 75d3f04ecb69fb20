//! `/debug`, metrics and the pages that programs of Go serve in their own way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use http::Method;
use serde_json::json;
use skiff_apiserver::{UserInfo, Verbosity};

use crate::harness::*;

const DUMPS: &str = "/debug/api_priority_and_fairness";

/// The cells of a table, row by row.
fn rows(table: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| line.split(',').map(|cell| cell.trim().to_string()).collect();
    table.lines().map(cells).collect()
}

#[tokio::test]
async fn who_has_a_turn_is_told_level_by_level_queue_by_queue_and_one_by_one() {
    let server = Server::start().await;
    let admin = server.local();
    let levels = get(&admin, &format!("{DUMPS}/dump_priority_levels")).await;
    assert_eq!(levels.headers["content-type"], "text/plain; charset=utf-8");
    assert!(levels.headers.contains_key("x-kubernetes-pf-flowschema-uid"));
    let text = levels.text();
    assert!(
        text.starts_with(
            "PriorityLevelName, ActiveQueues, IsIdle, IsQuiescing, WaitingRequests, ExecutingRequests, \
             DispatchedRequests, RejectedRequests, TimedoutRequests, CancelledRequests\n\
             catch-all,         0,            true,   false,       0,               "
        ),
        "{text}"
    );
    let levels = rows(&text);
    let exempt = levels.iter().find(|row| row[0] == "exempt").unwrap();
    // Who asks has a turn itself.
    assert_eq!(exempt[1..6], ["0", "false", "false", "0", "1"]);
    assert!(exempt[6].parse::<u64>().unwrap() >= 1);

    let queues = rows(&get(&admin, &format!("{DUMPS}/dump_queues")).await.text());
    assert_eq!(
        queues[0].join(" "),
        "PriorityLevelName Index PendingRequests ExecutingRequests SeatsInUse NextDispatchR InitialSeatsSum MaxSeatsSum TotalWorkSum"
    );
    let of = |level: &str| queues.iter().filter(|row| row[0] == level).count();
    assert_eq!(
        (
            of("workload-low"),
            of("leader-election"),
            of("exempt"),
            of("catch-all")
        ),
        (128, 16, 0, 0)
    );

    let requests = format!("{DUMPS}/dump_requests");
    let plain = rows(&get(&admin, &requests).await.text());
    assert_eq!(
        plain[0].join(" "),
        "PriorityLevelName FlowSchemaName QueueIndex RequestIndexInQueue FlowDistingsher ArriveTime InitialSeats FinalSeats AdditionalLatency StartTime"
    );
    assert_eq!(plain[1][..5], ["exempt", "exempt", "-1", "-1", ""]);
    assert_eq!(plain[1][6..9], ["1", "0", "0s"]);
    let detailed = rows(
        &get(&admin, &format!("{requests}?includeRequestDetails=1"))
            .await
            .text(),
    );
    assert_eq!(
        detailed[0][10..].join(" "),
        "UserName Verb APIPath Namespace Name APIVersion Resource SubResource"
    );
    assert_eq!(detailed[1][10..13], ["test", "get", &requests]);
}

#[tokio::test]
async fn only_who_may_do_everything_gets_below_debug() {
    let server = Server::start().await;
    let nobody = kube::Client::new(server.api.local(UserInfo::new("jane", [""; 0])), "default");
    for path in ["/debug/pprof/", "/debug/flags/v", &format!("{DUMPS}/dump_queues")] {
        let message = format!("forbidden: User \"jane\" cannot get path \"{path}\"");
        assert_eq!(get(&nobody, path).await.failure(), (403, message));
        let listed = get(&server.local(), "/").await.json();
        assert!(
            !listed["paths"].as_array().unwrap().contains(&json!(path)),
            "{path}"
        );
    }
}

#[tokio::test]
async fn profiles_of_go_are_not_known() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let moved = send(&admin, request(Method::GET, "/debug/pprof", &[], "")).await;
    assert_eq!(
        (moved.status.as_u16(), &moved.headers["location"]),
        (302, &"/debug/pprof/".parse().unwrap())
    );
    assert_eq!(moved.text(), "<a href=\"/debug/pprof/\">Found</a>.\n\n");
    let page = get(&admin, "/debug/pprof/").await;
    assert_eq!(
        (
            &page.headers["content-type"],
            &page.headers["x-content-type-options"]
        ),
        (
            &"text/html; charset=utf-8".parse().unwrap(),
            &"nosniff".parse().unwrap()
        )
    );
    assert!(
        page.text().contains("Types of profiles available:"),
        "{}",
        page.text()
    );
    // Profiles may take as long as one likes, so they have no turn.
    assert!(!page.headers.contains_key("x-kubernetes-pf-flowschema-uid"));
    assert_eq!(
        get(&admin, "/debug/pprof/symbol").await.text(),
        "num_symbols: 1\n"
    );
    for profile in ["heap", "goroutine?debug=2", "profile?seconds=1", "cmdline", "a/b"] {
        let answer = get(&admin, &format!("/debug/pprof/{profile}")).await;
        assert_eq!(
            (answer.status.as_u16(), answer.text().as_str()),
            (404, "Unknown profile\n"),
            "{profile}"
        );
        assert_eq!(answer.headers["x-go-pprof"], "1");
    }
    for path in [
        "/debug",
        "/debug/",
        "/debug/none",
        DUMPS,
        "/debug/api_priority_and_fairness/dump_queues/",
    ] {
        let answer = get(&admin, path).await;
        assert_eq!(
            (answer.status.as_u16(), answer.text().as_str()),
            (404, "404 page not found\n"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn how_much_is_logged_can_be_set() {
    let set = Arc::new(AtomicU32::new(0));
    let seen = set.clone();
    let verbosity = Verbosity::new(move |level| seen.store(level, Ordering::SeqCst));
    let server = Server::start_with(|config| config.verbosity = Some(verbosity)).await;
    let admin = server.admin().await;
    let put = async |level: &str| {
        let answer = send(&admin, request(Method::PUT, "/debug/flags/v", &[], level)).await;
        assert_eq!(answer.headers["content-type"], "text/plain");
        (answer.status.as_u16(), answer.text())
    };
    let done = "successfully set klog.logging.verbosity to 4\n".to_string();
    assert_eq!(put("4").await, (200, done));
    assert_eq!(set.load(Ordering::SeqCst), 4);
    let refused = "strconv.ParseUint: parsing \"much\": invalid syntax\n".to_string();
    assert_eq!(put("much").await, (400, refused));
    assert_eq!(set.load(Ordering::SeqCst), 4);
    let answer = get(&admin, "/debug/flags/v").await;
    assert_eq!(
        (answer.status.as_u16(), answer.text().as_str()),
        (406, "unsupported http method\n")
    );
    for path in ["/debug/flags", "/debug/flags/", "/debug/flags/none"] {
        assert!(get(&admin, path).await.text().contains("<tr>v<br>"), "{path}");
    }
}

#[tokio::test]
async fn metrics_are_sent_as_prometheus_reads_them() {
    let server = Server::start().await;
    let admin = server.admin().await;
    for path in ["/metrics", "/metrics/slis"] {
        for (accept, escaping) in [
            ("*/*", "underscores"),
            ("text/plain;version=0.0.4", "underscores"),
            (
                "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3",
                "allow-utf-8",
            ),
            (
                "text/plain;version=0.0.4,text/plain;version=1.0.0;escaping=dots;q=0.4",
                "underscores",
            ),
            ("text/plain;escaping=none", "underscores"),
        ] {
            let answer = get_as(&admin, path, accept).await;
            let type_ = format!("text/plain; version=0.0.4; charset=utf-8; escaping={escaping}");
            assert_eq!(answer.headers["content-type"], type_.as_str(), "{path} {accept}");
            let started: i64 = answer.headers["process-start-time-unix"]
                .to_str()
                .unwrap()
                .parse()
                .unwrap();
            assert!(started <= jiff::Timestamp::now().as_second());
        }
        let packed = send(
            &admin,
            request(
                Method::GET,
                path,
                &[("accept-encoding", "deflate, gzip;q=0.5")],
                "",
            ),
        )
        .await;
        assert_eq!(packed.headers["content-encoding"], "gzip", "{path}");
        assert!(packed.body.starts_with(b"\x1f\x8b"));
    }
    get(&admin, "/livez").await;
    assert!(
        get(&admin, "/metrics/slis")
            .await
            .text()
            .contains("type=\"livez\"")
    );
    assert_eq!(delete(&admin, "/metrics/slis").await.text(), "metrics reset\n");
    assert!(
        !get(&admin, "/metrics/slis")
            .await
            .text()
            .contains("type=\"livez\"")
    );
}
