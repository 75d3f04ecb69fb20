//! Bodies: what stands twice in them, what does not fit, and in which words a client is told.

use http::Method;
use serde_json::{Value, json};

use crate::harness::*;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

async fn write(client: &kube::Client, method: Method, path: &str, type_: &str, body: &str) -> Answer {
    send(client, request(method, path, &[("content-type", type_)], body)).await
}

fn warnings(answer: &Answer) -> Vec<String> {
    let values = answer.headers.get_all("warning").iter();
    values.map(|value| value.to_str().unwrap().to_string()).collect()
}

async fn with_deployment() -> (Server, kube::Client) {
    let server = Server::start().await;
    let client = server.admin().await;
    let deployment = json!({
        "metadata": { "name": "web" },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "c", "image": "nginx" }] },
            },
        },
    });
    let made = post(&client, DEPLOYMENTS, &deployment).await;
    assert_eq!(made.status, 201, "{}", made.text());
    (server, client)
}

#[tokio::test]
async fn keys_that_stand_twice_in_yaml_are_told_by_their_lines() {
    let server = Server::start().await;
    let client = server.admin().await;
    let body =
        "kind: ConfigMap\napiVersion: v1\nmetadata: {name: m}\ndata: {a: \"1\", a: \"2\"}\nbar: 1\nbar: 2\n";
    let create = async |validation: &str| {
        let path = format!("{MAPS}?dryRun=All&fieldValidation={validation}");
        write(&client, Method::POST, &path, "application/yaml", body).await
    };
    let strict = create("Strict").await;
    assert_eq!(
        strict.failure(),
        (
            400,
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: yaml: unmarshal errors:\n  \
             line 4: key \"a\" already set in map\n  line 6: key \"bar\" already set in map, unknown field \"bar\""
                .into()
        )
    );
    for validation in ["Warn", ""] {
        let warned = create(validation).await;
        assert_eq!(
            (warned.status.as_u16(), &warned.json()["data"]["a"]),
            (201, &json!("2"))
        );
        assert_eq!(
            warnings(&warned),
            [
                r#"299 - "line 4: key \"a\" already set in map""#,
                r#"299 - "line 6: key \"bar\" already set in map""#,
                r#"299 - "unknown field \"bar\"""#,
            ]
        );
    }
    let ignored = create("Ignore").await;
    assert_eq!((ignored.status.as_u16(), warnings(&ignored)), (201, vec![]));

    // The same of what is applied, in either language.
    let apply = async |validation: &str, body: &str| {
        let path = format!("{MAPS}/m?dryRun=All&fieldManager=t&fieldValidation={validation}");
        write(
            &client,
            Method::PATCH,
            &path,
            "application/apply-patch+yaml",
            body,
        )
        .await
    };
    let head = "kind: ConfigMap\napiVersion: v1\nmetadata: {name: m}\n";
    let twice = format!("{head}data: {{a: \"1\", a: \"2\"}}\n");
    let json = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"m"},"data":{"a":"1","a":"2"}}"#;
    for (body, line) in [(twice.as_str(), 4), (json, 1)] {
        assert_eq!(
            apply("Strict", body).await.failure(),
            (
                400,
                format!(
                    "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  line {line}: \
                     key \"a\" already set in map"
                )
            )
        );
        let warned = apply("Warn", body).await;
        assert_eq!(warned.status, 201, "{}", warned.text());
        assert_eq!(
            warnings(&warned),
            [format!(r#"299 - "line {line}: key \"a\" already set in map""#)]
        );
        assert_eq!(warnings(&apply("Ignore", body).await), Vec::<String>::new());
    }
    let list = apply("Strict", "[1]").await;
    assert_eq!(
        list.failure(),
        (
            400,
            "error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal array into Go \
             value of type map[string]interface {}"
                .into()
        )
    );
    assert_eq!(
        apply("Strict", "").await.failure(),
        (400, "invalid object type: /, Kind=".into())
    );
    let service = "metadata: {name: m}\nspec: {selector: {a: b}, ports: [{port: 0120}]}\n";
    let octal = write(
        &client,
        Method::POST,
        "/api/v1/namespaces/default/services?dryRun=All",
        "application/yaml",
        service,
    )
    .await;
    assert_eq!(octal.json()["spec"]["ports"][0]["port"], 80, "{}", octal.text());
}

#[tokio::test]
async fn patches_are_checked_for_what_stands_twice_in_them() {
    let (_server, client) = with_deployment().await;
    let twice = r#"{"spec":{"replicas":2,"replicas":3,"foo":1}}"#;
    let operations = r#"[{"op":"replace","path":"/spec/replicas","value":2,"value":3,"bar":1}]"#;
    let cases = [
        (
            "application/strategic-merge-patch+json",
            twice,
            r#"strict decoding error: duplicate field "spec.replicas", unknown field "spec.foo""#,
            vec![
                r#"299 - "duplicate field \"spec.replicas\"""#,
                r#"299 - "unknown field \"spec.foo\"""#,
            ],
        ),
        (
            "application/merge-patch+json",
            twice,
            r#"strict decoding error: duplicate field "spec.replicas", unknown field "spec.foo""#,
            vec![
                r#"299 - "duplicate field \"spec.replicas\"""#,
                r#"299 - "unknown field \"spec.foo\"""#,
            ],
        ),
        (
            "application/json-patch+json",
            operations,
            r#"strict decoding error: json patch duplicate field "[0].value", json patch unknown field "[0].bar""#,
            vec![
                r#"299 - "json patch duplicate field \"[0].value\"""#,
                r#"299 - "json patch unknown field \"[0].bar\"""#,
            ],
        ),
    ];
    for (type_, body, strict, warned) in cases {
        let patch = async |validation: &str| {
            let path = format!("{DEPLOYMENTS}/web?dryRun=All&fieldValidation={validation}");
            write(&client, Method::PATCH, &path, type_, body).await
        };
        let (code, message) = patch("Strict").await.failure();
        assert_eq!(code, 422, "{type_}");
        assert!(message.ends_with(strict), "{type_}: {message}");
        for (validation, expected) in [("Warn", warned), ("Ignore", vec![])] {
            let answer = patch(validation).await;
            assert_eq!(answer.json()["spec"]["replicas"], 3, "{type_} {validation}");
            assert_eq!(warnings(&answer), expected, "{type_} {validation}");
        }
    }
}

#[tokio::test]
async fn patches_that_do_not_fit_are_answered_in_upstreams_words() {
    let (_server, client) = with_deployment().await;
    let strategic = |value: Value| ("strategic-merge-patch", value);
    let merge = |value: Value| ("merge-patch", value);
    let env = |value: Value| json!({ "spec": { "template": { "spec": { "containers": [{ "name": "c", "env": [{ "name": "A", "value": value }] }] } } } });
    let other_name = "the name of the object (other) does not match the name on the URL (web)";
    let cases = [
        (
            strategic(env(json!(1))),
            422,
            r#" "" is invalid: patch: Invalid value: "map[spec:map[template:map[spec:map[containers:[map[env:[map[name:A value:1]] name:c]]]]]]": cannot convert int64 to string"#,
        ),
        (
            strategic(json!({ "spec": { "replicas": "x" } })),
            422,
            r#" "" is invalid: patch: Invalid value: "map[spec:map[replicas:x]]": unrecognized type: int32"#,
        ),
        (
            strategic(json!({ "spec": { "template": { "spec": { "containers": {} } } } })),
            422,
            r#" "" is invalid: patch: Invalid value: "map[spec:map[template:map[spec:map[containers:map[]]]]]": cannot restore slice from map"#,
        ),
        (
            strategic(json!({ "metadata": { "name": "other" } })),
            400,
            other_name,
        ),
        (merge(json!({ "metadata": { "name": "other" } })), 400, other_name),
        (
            merge(json!({ "metadata": { "name": null } })),
            400,
            "the name of the object (web based on URL) was undeterminable: name must be provided",
        ),
        (
            strategic(json!([])),
            400,
            "json: cannot unmarshal array into Go value of type map[string]interface {}",
        ),
        (
            merge(json!([])),
            400,
            "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}",
        ),
        (merge(json!(null)), 400, "Invalid JSON Patch"),
    ];
    for ((type_, body), code, message) in cases {
        let answer = patch(&client, &format!("{DEPLOYMENTS}/web"), type_, &body).await;
        assert_eq!(answer.failure(), (code, message.to_string()), "{type_} {body}");
    }
    // What is merged as a tree need not say what it is, and says it in vain.
    for body in [json!(null), json!({ "kind": "Other", "apiVersion": "v7" })] {
        let answer = patch(
            &client,
            &format!("{DEPLOYMENTS}/web"),
            "strategic-merge-patch",
            &body,
        )
        .await;
        assert_eq!(
            (answer.status.as_u16(), &answer.json()["kind"]),
            (200, &json!("Deployment")),
            "{body}"
        );
    }
}

#[tokio::test]
async fn equal_owner_references_are_one_and_the_client_is_warned() {
    let server = Server::start().await;
    let client = server.admin().await;
    let owner = json!({ "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u-1" });
    let other = json!({ "apiVersion": "v1", "kind": "Pod", "name": "q", "uid": "u-2" });
    let owners = json!([owner, other, owner]);
    let map = json!({ "metadata": { "name": "m", "ownerReferences": owners } });
    let made = post(&client, MAPS, &map).await;
    let put = put(&client, &format!("{MAPS}/m"), &map).await;
    let change = json!({ "metadata": { "ownerReferences": owners } });
    let patched = patch(&client, &format!("{MAPS}/m"), "merge-patch", &change).await;
    for answer in [made, put, patched] {
        assert_eq!(
            answer.json()["metadata"]["ownerReferences"],
            json!([owner, other])
        );
        assert_eq!(
            warnings(&answer),
            [
                "299 - \".metadata.ownerReferences contains duplicate entries; API server dedups owner references in \
                 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) \
                 observed: u-1.\""
            ]
        );
    }
}

#[tokio::test]
async fn options_are_read_whole_whatever_they_are_for() {
    let server = Server::start().await;
    let client = server.admin().await;
    let cases = [
        (
            "timeoutSeconds=x",
            r#"strconv.ParseInt: parsing "x": invalid syntax"#,
        ),
        (
            "watch=true&limit=x",
            r#"strconv.ParseInt: parsing "x": invalid syntax"#,
        ),
    ];
    for (query, message) in cases {
        let answer = get(&client, &format!("{MAPS}?{query}")).await;
        assert_eq!(answer.failure(), (400, message.to_string()), "{query}");
    }
    let map = json!({ "metadata": { "name": "m" } });
    let answer = post(&client, &format!("{MAPS}?fieldManager=a%09b"), &map).await;
    assert_eq!(
        answer.failure(),
        (
            422,
            "CreateOptions.meta.k8s.io \"\" is invalid: fieldManager: Invalid value: \"a\\tb\": invalid \
             character U+0009 (at position 1)"
                .into()
        )
    );
    // To Go, `null` is an object that says nothing.
    let nothing = write(&client, Method::POST, MAPS, "application/json", "null").await;
    assert_eq!(
        nothing.failure(),
        (
            422,
            "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required"
                .into()
        )
    );
}

#[tokio::test]
async fn selectors_of_access_reviews_are_checked() {
    let server = Server::start().await;
    let client = server.admin().await;
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let review = |selector: Value| json!({ "spec": { "resourceAttributes": { "verb": "list", "resource": "pods", "fieldSelector": selector } } });
    let at =
        "SelfSubjectAccessReview.authorization.k8s.io \"\" is invalid: spec.resourceAttributes.fieldSelector";
    let cases = [
        (
            json!({ "rawSelector": "a=b", "requirements": [{ "key": "a", "operator": "In", "values": ["b"] }] }),
            ".rawSelector: Invalid value: \"a=b\": may not specified at the same time as requirements",
        ),
        (
            json!({}),
            ".requirements: Required value: when spec.resourceAttributes.fieldSelector is specified, requirements or \
             rawSelector is required",
        ),
        (
            json!({ "requirements": [{ "key": "a", "operator": "In" }] }),
            ".requirements[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
        ),
    ];
    for (selector, message) in cases {
        let answer = post(&client, path, &review(selector.clone())).await;
        assert_eq!(answer.failure(), (422, format!("{at}{message}")), "{selector}");
    }
    let unknown = json!({ "requirements": [{ "key": "a", "operator": "Near", "values": ["b"] }] });
    let answer = post(&client, path, &review(unknown)).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["status"]["allowed"]),
        (201, &json!(true))
    );
}

#[tokio::test]
async fn an_update_makes_what_is_not_there_of_the_kinds_that_have_it_so() {
    let server = Server::start().await;
    let client = server.admin().await;
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let reference = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view" });
    let cases = [
        (
            "/api/v1/namespaces/default/endpoints".to_string(),
            json!({}),
            true,
        ),
        (
            "/api/v1/namespaces/default/services".to_string(),
            json!({ "spec": { "ports": [{ "port": 80 }] } }),
            true,
        ),
        (
            "/api/v1/namespaces/default/limitranges".to_string(),
            json!({ "spec": { "limits": [] } }),
            true,
        ),
        (
            "/apis/coordination.k8s.io/v1/namespaces/default/leases".to_string(),
            json!({}),
            true,
        ),
        (
            format!("{rbac}/namespaces/default/roles"),
            json!({ "rules": [] }),
            true,
        ),
        (format!("{rbac}/clusterroles"), json!({ "rules": [] }), true),
        (
            format!("{rbac}/namespaces/default/rolebindings"),
            json!({ "roleRef": reference }),
            true,
        ),
        (
            format!("{rbac}/clusterrolebindings"),
            json!({ "roleRef": reference }),
            true,
        ),
        (MAPS.to_string(), json!({}), false),
        (
            "/api/v1/namespaces/default/serviceaccounts".to_string(),
            json!({}),
            false,
        ),
    ];
    for (path, mut body, makes) in cases {
        body["metadata"] = json!({ "name": "made" });
        let answer = put(&client, &format!("{path}/made"), &body).await;
        let expected = if makes { 201 } else { 404 };
        assert_eq!(answer.status, expected, "{path}: {}", answer.text());
        // Who names a version makes one too; who names a uid means one that is there, where it could be made.
        body["metadata"] = json!({ "name": "other", "resourceVersion": "5" });
        let answer = put(&client, &format!("{path}/other"), &body).await;
        assert_eq!(answer.status, expected, "{path}: {}", answer.text());
        body["metadata"] = json!({ "name": "third", "uid": "u" });
        let answer = put(&client, &format!("{path}/third"), &body).await;
        let expected = if makes { 409 } else { 404 };
        assert_eq!(answer.status, expected, "{path}: {}", answer.text());
    }
}

#[tokio::test]
async fn what_is_not_kept_is_checked_as_what_is() {
    let (_server, client) = with_deployment().await;
    let scale = format!("{DEPLOYMENTS}/web/scale");
    let reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    // A field that nobody knows, everywhere.
    let review = json!({ "spec": { "foo": 1, "nonResourceAttributes": { "path": "/", "verb": "get" } } });
    let wanted = json!({ "metadata": { "name": "web" }, "spec": { "replicas": 2, "foo": 1 } });
    let warned = [r#"299 - "unknown field \"spec.foo\"""#];
    let strict = |kind: &str| {
        let of = format!("{kind} in version \"v1\" cannot be handled as a {kind}: ");
        format!("{of}strict decoding error: unknown field \"spec.foo\"")
    };
    let answer = post(&client, reviews, &review).await;
    assert_eq!(
        (answer.status.as_u16(), warnings(&answer)),
        (201, warned.map(String::from).into())
    );
    let answer = post(&client, &format!("{reviews}?fieldValidation=Strict"), &review).await;
    assert_eq!(answer.failure(), (400, strict("SelfSubjectAccessReview")));
    let answer = put(&client, &format!("{scale}?dryRun=All"), &wanted).await;
    assert_eq!(
        (answer.status.as_u16(), warnings(&answer)),
        (200, warned.map(String::from).into())
    );
    let answer = put(&client, &format!("{scale}?fieldValidation=Strict"), &wanted).await;
    assert_eq!(answer.failure(), (400, strict("Scale")));
    let unknown = json!({ "spec": { "foo": 1 } });
    let answer = patch(&client, &format!("{scale}?dryRun=All"), "merge-patch", &unknown).await;
    assert_eq!(
        (answer.status.as_u16(), warnings(&answer)),
        (200, warned.map(String::from).into())
    );
    let path = format!("{scale}?fieldValidation=Strict");
    let answer = patch(&client, &path, "strategic-merge-patch", &unknown).await;
    assert_eq!(
        answer.failure(),
        (
            422,
            " \"\" is invalid: patch: Invalid value: \"map[spec:map[foo:1]]\": strict decoding error: unknown field \
             \"spec.foo\""
                .into()
        )
    );
    // What does not fit.
    let text = json!({ "metadata": { "name": "web" }, "spec": { "replicas": "x" } });
    assert_eq!(
        put(&client, &scale, &text).await.failure(),
        (
            400,
            "Scale in version \"v1\" cannot be handled as a Scale: json: cannot unmarshal string into Go struct field \
             ScaleSpec.spec.replicas of type int32"
                .into()
        )
    );
    let wrong = json!([{ "op": "test", "path": "/spec/replicas", "value": 7 }]);
    assert_eq!(patch(&client, &scale, "json-patch", &wrong).await.status, 422);
    let other = json!({ "kind": "Other", "apiVersion": "v1" });
    assert_eq!(
        post(&client, reviews, &other).await.failure(),
        (
            400,
            "Other in version \"v1\" cannot be handled as a SelfSubjectAccessReview: no kind \"Other\" is registered for \
             version \"v1\" in scheme \"pkg/api/legacyscheme/scheme.go:30\""
                .into()
        )
    );
    let token = "/api/v1/namespaces/default/serviceaccounts/default/token";
    assert_eq!(
        post(&client, token, &json!({ "spec": { "audiences": 5 } })).await.failure(),
        (
            400,
            "TokenRequest in version \"v1\" cannot be handled as a TokenRequest: json: cannot unmarshal number into Go \
             struct field TokenRequestSpec.spec.audiences of type []string"
                .into()
        )
    );
    let eviction =
        json!({ "apiVersion": "policy/v1beta1", "kind": "Eviction", "metadata": { "name": "none" } });
    assert_eq!(
        post(&client, &format!("{PODS}/none/eviction"), &eviction)
            .await
            .failure(),
        (404, "pods \"none\" not found".into())
    );
}

#[tokio::test]
async fn of_several_yaml_documents_the_first_is_read() {
    let server = Server::start().await;
    let client = server.admin().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let text = "# two\n---\nmetadata: {name: first}\n---\nmetadata: {name: second}\nnonsense: [\n";
    let headers = [("content-type", "application/yaml")];
    let made = send(&client, request(Method::POST, maps, &headers, text)).await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(made.json()["metadata"]["name"], "first");
    let apply = [("content-type", "application/apply-patch+yaml")];
    let path = format!("{maps}/first?fieldManager=m");
    let text = "apiVersion: v1\nkind: ConfigMap\ndata: {a: b}\n---\ndata: {a: c}\n";
    let applied = send(&client, request(Method::PATCH, &path, &apply, text)).await;
    assert_eq!(applied.json()["data"]["a"], "b", "{}", applied.text());
    assert_eq!(get(&client, &format!("{maps}/second")).await.status, 404);
}

#[tokio::test]
async fn a_generation_that_is_no_number_makes_no_daemon_set() {
    const SETS: &str = "/apis/apps/v1/namespaces/default/daemonsets";
    let server = Server::start().await;
    let client = server.local();
    let set = |generation: &str| {
        json!({
            "metadata": { "name": "s", "annotations": { "deprecated.daemonset.template.generation": generation } },
            "spec": { "selector": { "matchLabels": { "a": "b" } }, "template": {
                "metadata": { "labels": { "a": "b" } }, "spec": { "containers": [{ "name": "c", "image": "i" }] } } },
        })
    };
    for (generation, why) in [
        ("x", r#"parsing "x": invalid syntax"#),
        (
            "99999999999999999999",
            r#"parsing "99999999999999999999": value out of range"#,
        ),
    ] {
        let message =
            format!("DaemonSet in version \"v1\" cannot be handled as a DaemonSet: strconv.ParseInt: {why}");
        assert_eq!(
            post(&client, SETS, &set(generation)).await.failure(),
            (400, message)
        );
    }
    assert_eq!(post(&client, SETS, &set("7")).await.status, 201);
    let changed = patch(&client, &format!("{SETS}/s"), "merge-patch", &set("y"))
        .await
        .failure();
    assert_eq!(changed.0, 422);
    assert!(
        changed
            .1
            .ends_with(r#": strconv.ParseInt: parsing "y": invalid syntax"#),
        "{}",
        changed.1
    );
}

#[tokio::test]
async fn a_request_that_fails_warns_as_well() {
    const UNKNOWN: &str = r#"299 - "unknown field \"dada\"""#;
    const DEPRECATED: &str =
        r#"299 - "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice""#;
    const ORPHANS: &str = r#"299 - "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning""#;
    let (server, client) = with_deployment().await;
    let made = post(&client, MAPS, &json!({ "metadata": { "name": "there" } })).await;
    assert_eq!(made.status, 201);
    let map = |name: &str, version: &str| {
        json!({ "metadata": { "name": name, "resourceVersion": version }, "dada": 1 }).to_string()
    };
    let jobs = "/apis/batch/v1/namespaces/default/jobs";
    let (json, merge) = ("application/json", "application/merge-patch+json");
    let cases = [
        // Not valid.
        (Method::POST, MAPS, json, map("No Name", ""), 422, vec![UNKNOWN]),
        // There already.
        (Method::POST, MAPS, json, map("there", ""), 409, vec![UNKNOWN]),
        // Not to be written in that version: decided by the cache, then by the store.
        (
            Method::PUT,
            &format!("{MAPS}/there"),
            json,
            map("there", "1"),
            409,
            vec![UNKNOWN],
        ),
        (
            Method::PATCH,
            &format!("{DEPLOYMENTS}/web"),
            merge,
            r#"{"dada":1,"spec":{"replicas":-1}}"#.to_string(),
            422,
            vec![UNKNOWN],
        ),
        (
            Method::PATCH,
            &format!("{DEPLOYMENTS}/web/scale"),
            merge,
            r#"{"dada":1,"spec":{"replicas":-1}}"#.to_string(),
            422,
            vec![UNKNOWN],
        ),
        (
            Method::POST,
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            json,
            r#"{"dada":1,"spec":{}}"#.to_string(),
            422,
            vec![UNKNOWN],
        ),
        // The kind is told of before the object is looked for.
        (
            Method::GET,
            "/api/v1/namespaces/default/endpoints/none",
            json,
            String::new(),
            404,
            vec![DEPRECATED],
        ),
        (
            Method::DELETE,
            &format!("{jobs}/none"),
            json,
            String::new(),
            404,
            vec![ORPHANS],
        ),
        // What is no object of the kind at all, or is refused for that very field, is not warned of.
        (
            Method::POST,
            MAPS,
            json,
            r#"{"dada":1,"data":[]}"#.to_string(),
            400,
            vec![],
        ),
        (
            Method::POST,
            &format!("{MAPS}?fieldValidation=Strict"),
            json,
            map("x", ""),
            400,
            vec![],
        ),
    ];
    for (method, path, type_, body, status, expected) in cases {
        let answer = write(&client, method.clone(), path, type_, &body).await;
        assert_eq!(
            (answer.status.as_u16(), warnings(&answer)),
            (status, expected.into_iter().map(String::from).collect()),
            "{method} {path} {body}: {}",
            answer.text()
        );
    }
    drop(server);
}

#[tokio::test]
async fn more_warnings_than_an_answer_takes_are_cut() {
    let server = Server::start().await;
    let client = server.admin().await;
    let mut map = json!({ "metadata": { "name": "m" } });
    let fields = map.as_object_mut().unwrap();
    for number in 0..5_000 {
        fields.insert(format!("{number:0300}"), Value::Null);
    }
    let answer = post(&client, MAPS, &map).await;
    assert_eq!(answer.status, 201);
    let told = warnings(&answer);
    assert_eq!(told.len(), 16);
    // Of each as much as 256 characters, in quotes.
    let cut = format!(r#"299 - "unknown field \"{}""#, "0".repeat(241));
    assert!(told.iter().all(|warning| *warning == cut), "{told:#?}");
}

#[tokio::test]
async fn yaml_is_spoken_as_kubernetes_speaks_it() {
    let server = Server::start().await;
    let client = server.admin().await;
    let path = "/api/v1/namespaces/default/configmaps";
    let headers = [
        ("content-type", "application/yaml"),
        ("accept", "application/yaml"),
    ];
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  a: \"yes\"\n  b: |\n    #!/bin/sh\n    x\n  c: '- d'\n  e: \"1e3\"\n";
    let made = send(&client, request(Method::POST, path, &headers, text)).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let written = made.text();
    assert!(
        written.contains(
            "\ndata:\n  a: \"yes\"\n  b: |\n    #!/bin/sh\n    x\n  c: '- d'\n  e: \"1e3\"\nkind: ConfigMap\n"
        ),
        "{written}"
    );
    for (text, words) in [
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: b\n labels: {}\n",
            "yaml: line 4: did not find expected key",
        ),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n\tname: b\n",
            "yaml: line 4: found character that cannot start any token",
        ),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Values.name }}\n",
            "yaml: invalid map key: map[interface {}]interface {}{\".Values.name\":interface {}(nil)}",
        ),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b\n",
            "yaml: line 3: did not find expected ',' or '}'",
        ),
    ] {
        let headers = [("content-type", "application/yaml")];
        let refused = send(&client, request(Method::POST, path, &headers, text)).await;
        let (code, message) = refused.failure();
        assert_eq!(code, 400, "{message}");
        assert!(message.contains(words), "{message}");
    }
}
