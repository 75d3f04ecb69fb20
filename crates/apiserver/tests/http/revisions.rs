//! What clients may ask of past and future states, and what they are told when it cannot be had.

use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};
use skiff_store::Store;

use crate::harness::*;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str) -> Value {
    json!({ "metadata": { "name": name } })
}

#[tokio::test]
async fn options_that_go_ill_together_are_refused_in_upstreams_words() {
    let server = Server::start().await;
    let client = server.admin().await;
    for name in ["a", "b"] {
        assert_eq!(post(&client, MAPS, &map(name)).await.status, 201);
    }
    let page = get(&client, &format!("{MAPS}?limit=1")).await.json();
    let token = page["metadata"]["continue"].as_str().unwrap().to_string();
    let options = |detail: &str| format!("ListOptions.meta.k8s.io \"\" is invalid: {detail}");
    let unless = options(
        "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
    );
    let number = r#"resourceVersion: Invalid value: "x": strconv.ParseUint: parsing "x": invalid syntax"#;
    let cases = [
        (Method::GET, "resourceVersionMatch=Exact".to_string(), 422, unless.clone()),
        (Method::DELETE, "resourceVersionMatch=Exact".into(), 422, unless),
        (
            Method::GET,
            "resourceVersionMatch=Exact&resourceVersion=0".into(),
            422,
            options("resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""),
        ),
        (
            Method::GET,
            format!("resourceVersionMatch=NotOlderThan&resourceVersion=1&continue={token}"),
            422,
            options("resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided"),
        ),
        (
            Method::DELETE,
            "resourceVersionMatch=Newest&resourceVersion=1".into(),
            422,
            options("resourceVersionMatch: Unsupported value: \"Newest\": supported values: \"Exact\", \"NotOlderThan\", \"\""),
        ),
        (
            Method::DELETE,
            "sendInitialEvents=false".into(),
            422,
            options("sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list"),
        ),
        (
            Method::GET,
            format!("resourceVersion=1&continue={token}"),
            400,
            "specifying resource version is not allowed when using continue".into(),
        ),
        (
            Method::GET,
            "resourceVersion=1&continue=x".into(),
            400,
            "invalid continue token: continue key is not valid: illegal base64 data at input byte 0".into(),
        ),
        (
            Method::DELETE,
            "continue=e30".into(),
            400,
            "invalid continue token: continue key is not valid: server does not recognize this encoded version ".into(),
        ),
        (Method::GET, "resourceVersion=x".into(), 400, format!("invalid resource version: {number}")),
        (Method::GET, "limit=x".into(), 400, r#"strconv.ParseInt: parsing "x": invalid syntax"#.into()),
        (
            Method::GET,
            "timeoutSeconds=x".into(),
            400,
            r#"strconv.ParseInt: parsing "x": invalid syntax"#.into(),
        ),
        (
            Method::GET,
            "watch=1&resourceVersionMatch=NotOlderThan&sendInitialEvents=true&continue=x".into(),
            422,
            options("resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided"),
        ),
        (Method::GET, "watch=1&resourceVersion=x".into(), 400, number.into()),
        // Who names no version asks for the objects there are, which go on from nowhere.
        (
            Method::GET,
            "watch=1&continue=x".into(),
            422,
            options("resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided"),
        ),
        (
            Method::GET,
            "continue=eyJ2IjoxfQ".into(),
            400,
            "invalid continue token: continue key is not valid: json: cannot unmarshal number into Go struct field continueToken.v of type string".into(),
        ),
    ];
    for (method, query, code, message) in cases {
        let path = format!("{MAPS}?{query}");
        let answer = send(&client, request(method.clone(), &path, &[], "")).await;
        assert_eq!(answer.failure(), (code, message), "{method} {query}");
    }
    let there = get(&client, MAPS).await.json();
    assert_eq!(there["items"].as_array().unwrap().len(), 2, "nothing was deleted");
    // What is odd and yet allowed.
    for query in [
        format!("continue={token}&resourceVersion=0"),
        "resourceVersion=0&resourceVersionMatch=NotOlderThan&limit=1".into(),
        "limit=-1".into(),
        "watch=1&timeoutSeconds=-1".into(),
        "watch=1&timeoutSeconds=1&resourceVersion=0&sendInitialEvents=false&resourceVersionMatch=NotOlderThan".into(),
    ] {
        let answer = tokio::time::timeout(DEADLINE, get(&client, &format!("{MAPS}?{query}"))).await;
        assert_eq!(answer.expect(&query).status, 200, "{query}");
    }
}

#[tokio::test]
async fn what_is_past_and_forgotten_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = open(directory.path());
    let server = Server::on(store.clone(), tempfile::tempdir().unwrap(), |_| {}).await;
    let client = server.admin().await;
    for name in ["a", "b", "c"] {
        assert_eq!(post(&client, MAPS, &map(name)).await.status, 201);
    }
    let page = get(&client, &format!("{MAPS}?limit=1")).await.json();
    let token = page["metadata"]["continue"].as_str().unwrap().to_string();
    let then = page["metadata"]["resourceVersion"].as_str().unwrap().to_string();
    post(&client, MAPS, &map("d")).await;
    drop(server);
    store.compact(store.revision().await.unwrap()).await.unwrap();

    let server = Server::on(store, directory, |_| {}).await;
    let client = server.admin().await;
    let gone = get(&client, &format!("{MAPS}?continue={token}&limit=2")).await;
    assert_eq!(gone.status, 410);
    let status = gone.json();
    assert_eq!(status["reason"], "Expired");
    assert_eq!(
        status["message"],
        "The provided continue parameter is too old to display a consistent list result. You can start a new list \
         without the continue parameter, or use the continue token in this response to retrieve the remainder of the \
         results. Continuing with the provided token results in an inconsistent list - objects that were created, \
         modified, or deleted between the time the first chunk was returned and now may show up in the list."
    );
    assert_eq!(status.get("details"), None, "{status}");
    // The rest, as it is now.
    let inconsistent = status["metadata"]["continue"].as_str().unwrap();
    let rest = get(&client, &format!("{MAPS}?continue={inconsistent}"))
        .await
        .json();
    let names: Vec<&str> = rest["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["b", "c", "d"]);
    for query in ["resourceVersionMatch=Exact", "limit=5"] {
        let gone = get(&client, &format!("{MAPS}?resourceVersion={then}&{query}")).await;
        let expected = "The resourceVersion for the provided list is too old.".to_string();
        assert_eq!(gone.failure(), (410, expected), "{query}");
    }
    // A watch has begun by then, so it is told in the stream.
    let watch = get(&client, &format!("{MAPS}?watch=1&resourceVersion=1")).await;
    assert_eq!(watch.status, 200);
    let event: Value = serde_json::from_slice(&watch.body).unwrap();
    let mut status = event["object"].clone();
    let message = status["message"].take();
    assert!(
        message
            .as_str()
            .unwrap()
            .starts_with("too old resource version: 1 ("),
        "{message}"
    );
    assert_eq!(
        json!({ "type": event["type"], "object": status }),
        json!({
            "type": "ERROR",
            "object": {
                "kind": "Status",
                "apiVersion": "v1",
                "metadata": {},
                "status": "Failure",
                "message": null,
                "reason": "Expired",
                "code": 410,
            },
        })
    );
}
