//! What is refused before a handler sees the request, and in which form the answers come.

use http::Method;
use serde_json::{Value, json};

use crate::harness::*;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const LISTED: &str = "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, \
                      application/vnd.kubernetes.protobuf, application/json;stream=watch, \
                      application/vnd.kubernetes.protobuf;stream=watch";
const ACCEPTED: &str = "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, \
                        application/vnd.kubernetes.protobuf";

#[tokio::test]
async fn the_router_looks_at_the_types_alone() {
    let server = Server::start().await;
    let client = server.local();
    let map = format!("{MAPS}/m");
    post(&client, MAPS, &json!({ "metadata": { "name": "m" } })).await;
    let cases: &[(&str, &str, &str, u16, &str)] = &[
        // It knows no part of a type to stand for others, and no parameters.
        ("GET", &map, "application/*", 406, ACCEPTED),
        ("GET", &map, "text/*", 406, ACCEPTED),
        ("GET", &map, "garbage", 406, ACCEPTED),
        ("GET", &map, "APPLICATION/JSON", 406, ACCEPTED),
        ("GET", MAPS, "text/plain", 406, LISTED),
        ("DELETE", MAPS, "text/plain", 406, ACCEPTED),
        ("GET", &map, "text/plain, */*", 200, ""),
        ("GET", &map, "application/xml, application/json", 200, ""),
        ("GET", &map, "application/json;q=0", 200, ""),
        ("GET", "/api", "text/plain", 406, ACCEPTED),
        ("GET", "/apis/apps/v1", "application/*", 406, ACCEPTED),
        (
            "GET",
            "/version",
            "text/plain",
            406,
            "406: Not Acceptable\n\nAvailable representations: application/json",
        ),
        // What it lets through may still be what the handler does not have.
        (
            "GET",
            &map,
            "application/json;stream=x",
            406,
            "only the following media types are accepted: application/json, application/yaml, \
             application/vnd.kubernetes.protobuf",
        ),
        (
            "GET",
            &format!("{MAPS}?watch=1"),
            "application/yaml",
            406,
            "only the following media types are accepted: application/json;stream=watch, \
             application/vnd.kubernetes.protobuf;stream=watch",
        ),
    ];
    for (method, path, accept, code, message) in cases {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let answer = send(&client, request(method, path, &[("accept", accept)], "")).await;
        assert_eq!(answer.status, *code, "{path} {accept}: {}", answer.text());
        match *accept {
            // The refusal itself is to be had in it, with its lines folded.
            "application/yaml" => {
                let text = answer.text().split_whitespace().collect::<Vec<_>>().join(" ");
                assert!(text.contains(message), "{text}");
            }
            _ if message.is_empty() => {}
            _ => assert_eq!(answer.json()["message"], *message, "{path} {accept}"),
        }
    }
    // There is nothing below a kind that has no such part, whatever is to be done there.
    for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let answer = send(
            &client,
            request(method.clone(), &format!("{map}/status"), &[], ""),
        )
        .await;
        assert_eq!(answer.status, 404, "{method}");
    }
    let answer = post(&client, "/apis/nope.example.com", &json!({})).await;
    assert_eq!(
        (answer.status.as_u16(), answer.text().as_str()),
        (404, "404 page not found\n")
    );
    let answer = post(&client, "/api/v1/watch/namespaces/default/configmaps", &json!({})).await;
    assert_eq!(answer.status, 405, "{}", answer.text());
}

#[tokio::test]
async fn metadata_of_a_list_is_not_metadata_of_an_object() {
    let server = Server::start().await;
    let client = server.local();
    post(&client, MAPS, &json!({ "metadata": { "name": "m" } })).await;
    let of = |kind: &str| format!("application/json;as={kind};g=meta.k8s.io;v=v1");
    let (one, many) = (of("PartialObjectMetadata"), of("PartialObjectMetadataList"));
    let map = format!("{MAPS}/m");
    for (path, accept, outcome) in [
        (map.as_str(), &one, Ok("PartialObjectMetadata")),
        (MAPS, &many, Ok("PartialObjectMetadataList")),
        (
            MAPS,
            &one,
            Err(
                "you requested PartialObjectMetadata, but the requested object is a list (*core.ConfigMapList)",
            ),
        ),
        (
            map.as_str(),
            &many,
            Err(
                "you requested PartialObjectMetadataList, but the requested object is not a list (*core.ConfigMap)",
            ),
        ),
    ] {
        let answer = get_as(&client, path, accept).await;
        match outcome {
            Ok(kind) => assert_eq!(answer.json()["kind"], kind, "{path}"),
            Err(message) => assert_eq!(answer.failure(), (406, message.to_string()), "{path}"),
        }
    }
    // Only who wants a table is asked what it is to hold.
    let table = of("Table");
    let answer = get_as(&client, &format!("{MAPS}?includeObject=All"), &table).await;
    assert_eq!(
        answer.failure(),
        (
            400,
            "Unable to convert to Table as requested: includeObject: Invalid value: \"All\": must be 'Metadata', \
             'Object', 'None', or empty"
                .to_string()
        )
    );
    assert_eq!(
        get(&client, &format!("{MAPS}?includeObject=All")).await.status,
        200
    );
    // What was only tried has no version.
    let body = json!({ "metadata": { "name": "n" } }).to_string();
    let headers = [("accept", table.as_str()), ("content-type", "application/json")];
    let tried = send(
        &client,
        request(Method::POST, &format!("{MAPS}?dryRun=All"), &headers, body),
    )
    .await;
    assert_eq!(tried.json()["metadata"], json!({}), "{}", tried.text());
    let none = get_as(&client, &format!("{MAPS}?labelSelector=no%3Done"), &many).await;
    assert_eq!(none.json()["items"], Value::Null);
}

#[tokio::test]
async fn json_ends_with_its_line_and_a_status_is_in_its_order() {
    let server = Server::start().await;
    let client = server.local();
    let made = post(&client, MAPS, &json!({ "metadata": { "name": "m" } })).await;
    let map = format!("{MAPS}/m");
    for answer in [
        made,
        get(&client, &map).await,
        get(&client, MAPS).await,
        get(&client, "/apis").await,
        get(&client, &format!("{MAPS}/none")).await,
        delete(&client, &map).await,
    ] {
        let text = answer.text();
        assert_eq!(text.find('\n'), Some(text.len() - 1), "{text}");
    }
    let missing = get(&client, &format!("{MAPS}/none")).await;
    assert_eq!(
        missing.text(),
        "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\",\"message\":\"configmaps \
         \\\"none\\\" not found\",\"reason\":\"NotFound\",\"details\":{\"name\":\"none\",\"kind\":\"configmaps\"},\"code\":404}\n"
    );
    // What is no object of the API is always there to be read.
    for path in ["/", "/version"] {
        assert!(get(&client, path).await.text().starts_with("{\n  \""), "{path}");
    }
    let aggregated = get_as(
        &client,
        "/apis",
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
    )
    .await;
    assert_eq!(aggregated.headers["cache-control"], "public");
    assert_eq!(aggregated.headers["vary"], "Accept");
    assert!(!get(&client, "/apis").await.headers.contains_key("vary"));
    let refused = send(
        &client,
        request(Method::GET, MAPS, &[("impersonate-user", "nobody")], ""),
    )
    .await;
    assert_eq!(
        (
            refused.status.as_u16(),
            &refused.headers["x-content-type-options"]
        ),
        (403, &"nosniff".parse().unwrap())
    );
}

#[tokio::test]
async fn deletions_say_what_is_wrong_with_their_options() {
    let server = Server::start().await;
    let client = server.local();
    post(&client, MAPS, &json!({ "metadata": { "name": "m" } })).await;
    let map = format!("{MAPS}/m");
    let scheme = "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27";
    for (body, message) in [
        ("{".to_string(), "couldn't get version/kind; json parse error: unexpected end of JSON input".to_string()),
        (
            r#"{"kind":"Pod","apiVersion":"v1"}"#.into(),
            format!("no kind \"Pod\" is registered for version \"v1\" in scheme \"{scheme}\""),
        ),
        (r#"{"apiVersion":"a/b/c"}"#.into(), "unexpected GroupVersion string: a/b/c".into()),
        (
            r#"{"gracePeriodSeconds":"x"}"#.into(),
            "json: cannot unmarshal string into Go struct field DeleteOptions.gracePeriodSeconds of type int64".into(),
        ),
    ] {
        let json = [("content-type", "application/json")];
        let answer = send(&client, request(Method::DELETE, &map, &json, body.clone())).await;
        assert_eq!(answer.failure(), (400, message), "{body}");
    }
    // The query may name what is to be deleted, and has to be right as a whole.
    for (query, code) in [
        ("uid=x", 409),
        ("resourceVersion=1", 409),
        ("propagationPolicy=", 422),
        ("gracePeriodSeconds=", 400),
        ("dryRun=", 422),
    ] {
        let answer = delete(&client, &format!("{map}?{query}")).await;
        assert_eq!(answer.status, code, "{query}: {}", answer.text());
    }
    // To Go, `null` says nothing, and a key that stands twice says the last.
    let json = [("content-type", "application/json")];
    let twice = r#"{"kind":"Pod","kind":"ConfigMap","metadata":{"name":"twice"}}"#;
    let answer = send(&client, request(Method::POST, MAPS, &json, twice)).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let answer = send(&client, request(Method::DELETE, &map, &json, "null")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}
