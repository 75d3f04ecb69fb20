//! Flow control: crowds, and those who must not suffer from them.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::StreamBody;
use kube::Client;
use serde_json::{Value, json};
use skiff_apiserver::UserInfo;
use tokio::task::JoinSet;
use tower::Service;

use crate::harness::*;

const LEVELS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations";
const SCHEMAS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas";
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// Waits until an object is as it should be.
async fn becomes(client: &Client, path: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let wait = async {
        loop {
            let answer = get(client, path).await;
            if answer.status == 200 && is(&answer.json()) {
                return answer.json();
            }
            tokio::task::yield_now().await;
        }
    };
    match tokio::time::timeout(DEADLINE, wait).await {
        Ok(object) => object,
        Err(_) => panic!("{path}: not {what}: {}", get(client, path).await.text()),
    }
}

#[tokio::test]
async fn every_server_has_its_levels_and_keeps_them() {
    let server = Server::start().await;
    let admin = server.local();
    let names = |list: Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap().clone();
        let name = |item: &Value| item["metadata"]["name"].as_str().unwrap().to_string();
        items.iter().map(name).collect()
    };
    assert_eq!(
        names(get(&admin, LEVELS).await.json()),
        [
            "catch-all",
            "exempt",
            "global-default",
            "leader-election",
            "node-high",
            "system",
            "workload-high",
            "workload-low"
        ]
    );
    assert_eq!(names(get(&admin, SCHEMAS).await.json()).len(), 13);

    // One that was deleted comes back, the specification of one that the server keeps as well.
    let path = format!("{LEVELS}/workload-low");
    let before = get(&admin, &path).await.json();
    assert_eq!(delete(&admin, &path).await.status, 200);
    let back = becomes(&admin, &path, "there", |_| true).await;
    assert_ne!(back["metadata"]["uid"], before["metadata"]["uid"]);
    let spec = |shares: u32| json!({ "spec": { "limited": { "nominalConcurrencyShares": shares } } });
    patch(&admin, &path, "merge-patch", &spec(7)).await;
    becomes(&admin, &path, "as it was", |level| {
        level["spec"] == before["spec"]
    })
    .await;

    // One that was made a user's own stays as the user has it.
    let path = format!("{LEVELS}/workload-high");
    let mut own = spec(7);
    own["metadata"] = json!({ "annotations": { "apf.kubernetes.io/autoupdate-spec": "false" } });
    assert_eq!(patch(&admin, &path, "merge-patch", &own).await.status, 200);
    let schema = json!({
        "metadata": { "name": "mine" },
        "spec": {
            "priorityLevelConfiguration": { "name": "none" },
            "rules": [{
                "subjects": [{ "kind": "User", "user": { "name": "jane" } }],
                "nonResourceRules": [{ "verbs": ["*"], "nonResourceURLs": ["*"] }],
            }],
        },
    });
    assert_eq!(post(&admin, SCHEMAS, &schema).await.status, 201);
    let condition = |schema: &Value| {
        let condition = schema["status"]["conditions"][0].clone();
        (condition["status"].clone(), condition["message"].clone())
    };
    becomes(&admin, &format!("{SCHEMAS}/mine"), "dangling", |schema| {
        condition(schema)
            == (
                "True".into(),
                "This FlowSchema references the PriorityLevelConfiguration object named \"none\" but there is no such object".into(),
            )
    })
    .await;
    becomes(&admin, &format!("{SCHEMAS}/probes"), "found", |schema| {
        condition(schema)
            == (
                "False".into(),
                "This FlowSchema references the PriorityLevelConfiguration object named \"exempt\" and it exists".into(),
            )
    })
    .await;
    assert_eq!(
        get(&admin, &path).await.json()["spec"]["limited"]["nominalConcurrencyShares"],
        7
    );
}

/// A write whose body never comes to its end.
async fn linger(server: &Server, user: UserInfo) -> http::StatusCode {
    let mut service = server.api.local(user);
    let body = StreamBody::new(futures::stream::pending::<
        Result<http_body::Frame<Bytes>, std::io::Error>,
    >());
    let request = Request::post(CONFIG_MAPS)
        .header("content-type", "application/json")
        .body(body)
        .unwrap();
    match service.call(request).await {
        Ok(response) => response.status(),
        Err(never) => match never {},
    }
}

#[tokio::test]
async fn clients_that_never_finish_do_not_keep_a_node_from_renewing_its_lease() {
    let server = std::sync::Arc::new(Server::start_with(|config| config.max_requests_in_flight = 50).await);
    let admin = server.local();
    let rights = json!({
        "metadata": { "name": "writers" },
        "rules": [{ "verbs": ["*"], "apiGroups": [""], "resources": ["configmaps"] }],
    });
    const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    assert_eq!(post(&admin, ROLES, &rights).await.status, 201);
    let binding = json!({
        "metadata": { "name": "writers" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "writers" },
        "subjects": [{ "kind": "Group", "name": "crowd" }],
    });
    assert_eq!(post(&admin, BINDINGS, &binding).await.status, 201);
    let member = |number: usize| UserInfo::new(format!("member-{number}"), ["crowd"]);
    let client = |user: UserInfo| Client::new(server.api.local(user), "default");
    becomes(&client(member(0)), CONFIG_MAPS, "allowed", |_| true).await;
    let level = json!({
        "metadata": { "name": "crowd" },
        "spec": {
            "type": "Limited",
            "limited": { "nominalConcurrencyShares": 20, "limitResponse": { "type": "Reject" } },
        },
    });
    assert_eq!(post(&admin, LEVELS, &level).await.status, 201);
    let schema = json!({
        "metadata": { "name": "crowd" },
        "spec": {
            "priorityLevelConfiguration": { "name": "crowd" },
            "rules": [{
                "subjects": [{ "kind": "Group", "group": { "name": "crowd" } }],
                "resourceRules": [{ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"] }],
            }],
        },
    });
    let schema = post(&admin, SCHEMAS, &schema).await.json();
    // A response says by which schema it was handled.
    let counts = async {
        let handled_by = |answer: Answer| answer.headers["x-kubernetes-pf-flowschema-uid"].clone();
        while handled_by(get(&client(member(0)), CONFIG_MAPS).await)
            != *schema["metadata"]["uid"].as_str().unwrap()
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, counts).await.unwrap();

    let mut crowd = JoinSet::new();
    // More than there are seats; those who find none are told so.
    for number in 0..60 {
        let server = server.clone();
        crowd.spawn(async move { linger(&server, member(number)).await });
    }
    let refused = tokio::time::timeout(DEADLINE, crowd.join_next()).await.unwrap();
    assert_eq!(refused.unwrap().unwrap(), 429);
    // One more, over a connection: it is told when to come again.
    let pair = server.authority.client("member-99", &["crowd"]);
    let outside = server.client(Credential::Certificate(&pair)).await;
    let wait = async {
        loop {
            let answer = get(&outside, CONFIG_MAPS).await;
            if answer.status == 429 {
                return answer;
            }
        }
    };
    let answer = tokio::time::timeout(DEADLINE, wait).await.unwrap();
    let wait: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=32).contains(&wait), "{wait}");
    assert_eq!(
        answer.headers["x-kubernetes-pf-flowschema-uid"],
        *schema["metadata"]["uid"].as_str().unwrap()
    );
    assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
    assert_eq!(answer.text(), "Too many requests, please try again later.\n");

    // Meanwhile a node and a controller go on as if nobody else were there.
    let node = client(UserInfo::new("system:node:n", ["system:nodes"]));
    const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let lease = json!({ "metadata": { "name": "n" }, "spec": { "holderIdentity": "n" } });
    let calm = async {
        let mut lease = post(&node, LEASES, &lease).await.json();
        for _ in 0..20 {
            lease["spec"]["leaseDurationSeconds"] = 40.into();
            let answer = put(&node, &format!("{LEASES}/n"), &lease).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert!(answer.headers.contains_key("x-kubernetes-pf-flowschema-uid"));
            lease = answer.json();
        }
        let manager = client(UserInfo::new("system:kube-controller-manager", [""; 0]));
        assert_eq!(get(&manager, "/api/v1/pods").await.status, 200);
        assert_eq!(get(&outside, "/readyz").await.status, 200);
    };
    // Nothing here waits for a seat, which would take as long as the crowd stays.
    tokio::time::timeout(Duration::from_secs(10), calm).await.unwrap();

    let metrics = get(&admin, "/metrics").await.text();
    for line in [
        r#"apiserver_flowcontrol_rejected_requests_total{flow_schema="crowd",priority_level="crowd",reason="concurrency-limit"}"#,
        r#"apiserver_flowcontrol_dispatched_requests_total{flow_schema="system-node-high",priority_level="node-high"} 21"#,
        r#"apiserver_flowcontrol_nominal_limit_seats{priority_level="node-high"}"#,
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }

    // The crowd goes, and its seats are free again.
    crowd.shutdown().await;
    becomes(&outside, CONFIG_MAPS, "served", |_| true).await;
}

#[tokio::test]
async fn every_answer_says_by_which_schema_and_level_it_was_handled() {
    let server = Server::start().await;
    let admin = server.local();
    let uid = async |path: String| {
        get(&admin, &path).await.json()["metadata"]["uid"]
            .as_str()
            .unwrap()
            .to_string()
    };
    let client = |user: UserInfo| Client::new(server.api.local(user), "default");
    let node = UserInfo::new("system:node:n", ["system:nodes"]);
    let jane = UserInfo::new("jane", ["system:authenticated"]);
    let watch = format!("{CONFIG_MAPS}?watch=1&timeoutSeconds=1");
    let cases = [
        (
            UserInfo::master("admin"),
            "/version".to_string(),
            200,
            Some(("exempt", "exempt")),
        ),
        (
            UserInfo::master("admin"),
            watch.clone(),
            200,
            Some(("exempt", "exempt")),
        ),
        (
            node,
            "/api/v1/nodes/none".into(),
            403,
            Some(("system-node-high", "node-high")),
        ),
        (
            jane.clone(),
            CONFIG_MAPS.into(),
            403,
            Some(("global-default", "global-default")),
        ),
        (
            jane.clone(),
            watch,
            403,
            Some(("global-default", "global-default")),
        ),
        (
            UserInfo::anonymous(),
            "/readyz".into(),
            200,
            Some(("probes", "exempt")),
        ),
        // What lasts as long as the client likes has no turn.
        (jane, "/api/v1/namespaces/default/pods/none/log".into(), 403, None),
    ];
    for (user, path, code, handled) in cases {
        let name = user.name.clone();
        let answer = get(&client(user), &path).await;
        assert_eq!(answer.status, code, "{name} {path}");
        let header = |name: &str| {
            answer
                .headers
                .get(name)
                .map(|uid| uid.to_str().unwrap().to_string())
        };
        let found = header("x-kubernetes-pf-flowschema-uid").zip(header("x-kubernetes-pf-prioritylevel-uid"));
        let expected = match handled {
            Some((schema, level)) => Some((
                uid(format!("{SCHEMAS}/{schema}")).await,
                uid(format!("{LEVELS}/{level}")).await,
            )),
            None => None,
        };
        assert_eq!(found, expected, "{name} {path}");
    }
}
