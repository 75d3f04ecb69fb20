//! Whatever a client sends is refused or answered: every path and verb of the server's own documents, with input that is
//! valid, broken and hostile. No answer is a 5xx but those named here, and no handler panics.

use std::collections::BTreeSet;

use http::{Method, Request};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value, json};
use skiff_api::schema::protobuf;

use crate::harness::*;

/// One operation of a document.
#[derive(Clone, Debug)]
struct Operation {
    method: Method,
    path: String,
    /// The schema of the body, if there is one.
    body: Option<String>,
}

/// The operations and the schemas of all documents.
struct Documents {
    operations: Vec<Operation>,
    schemas: Map<String, Value>,
}

async fn documents(client: &Client) -> Documents {
    let index = get(client, "/openapi/v3").await.json();
    let mut found = Documents {
        operations: Vec::new(),
        schemas: Map::new(),
    };
    for entry in index["paths"].as_object().unwrap().values() {
        let url = entry["serverRelativeURL"].as_str().unwrap();
        let document = get(client, url).await.json();
        if let Some(schemas) = document["components"]["schemas"].as_object() {
            found.schemas.extend(schemas.clone());
        }
        for (path, item) in document["paths"].as_object().into_iter().flatten() {
            for (method, operation) in item.as_object().unwrap() {
                if method == "parameters" {
                    continue;
                }
                let content = operation["requestBody"]["content"].as_object();
                let body = content
                    .and_then(|content| content.values().next())
                    .and_then(|media| media["schema"]["$ref"].as_str())
                    .map(|name| name.rsplit('/').next().unwrap().to_string());
                found.operations.push(Operation {
                    method: method.to_uppercase().parse().unwrap(),
                    path: path.clone(),
                    body,
                });
            }
        }
    }
    found
}

/// What makes requests; the same for the same seed.
struct Maker<'a> {
    random: StdRng,
    schemas: &'a Map<String, Value>,
}

const NAMES: &[&str] = &["x", "y", "default", "web"];
const WORDS: &[&str] = &[
    "",
    "x",
    "a-b",
    "web",
    "default",
    "Always",
    "ClusterIP",
    "TCP",
    "http",
    "node.kubernetes.io/x",
    "10.0.0.1",
    "fd00::1",
    "100m",
    "1Gi",
    "-1",
    "1e999999",
    "9999999999999999999999",
    "2026-01-01T00:00:00Z",
    "* * * * *",
    "../../x",
    "a\u{0}b",
    "\u{202e}x",
    "🦀",
    "%00",
    "kube-system",
    "system:masters",
    "IPv4",
    "0",
    "None",
    "*",
    "25%",
    "=",
    "a=b,c",
    "{}",
    "null",
];
const QUERIES: &[&str] = &[
    "limit=-1",
    "limit=99999999999999999999",
    "limit=1",
    "continue=garbage",
    "continue=e30",
    "watch=true&timeoutSeconds=1",
    "watch=1&resourceVersion=0",
    "fieldSelector=,,==",
    "fieldSelector=metadata.name%3Dx%2Cspec.x!%3D1",
    "labelSelector=a+in+(",
    "labelSelector=!%00",
    "labelSelector=a%3D%3D%3Db",
    "resourceVersion=abc",
    "resourceVersion=-1",
    "resourceVersion=1&resourceVersionMatch=Exact",
    "resourceVersionMatch=x",
    "sendInitialEvents=maybe",
    "timeoutSeconds=-1",
    "dryRun=All",
    "dryRun=x",
    "fieldValidation=Strict",
    "fieldValidation=x",
    "fieldManager=m",
    "fieldManager=%F0%9F%A6%80%00",
    "force=true&fieldManager=m",
    "pretty=true",
    "gracePeriodSeconds=-9223372036854775808",
    "gracePeriodSeconds=99999999999",
    "propagationPolicy=x",
    "orphanDependents=true",
    "includeObject=Object",
    "%",
    "%zz=%zz",
    "&&&===",
    "a[b]=c",
    "command=&command=%00",
    "ports=x",
    "container=%2F..%2F",
    "tailLines=-1",
    "stdin=1&tty=1",
    "path=/x",
    "as=Table",
];
const ACCEPTS: &[&str] = &[
    "application/json",
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/json;as=Table;v=v1;g=meta.k8s.io",
    "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
    "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
    "text/html",
    ";;;",
    "*/*;q=nan",
    ",",
];
const POINTERS: &[&str] = &[
    "",
    "/",
    "/metadata/labels/~2",
    "/spec/containers/-1/image",
    "/spec/containers/99999999999999999999",
    "/metadata/name",
    "/metadata",
    "/status",
    "a",
    "/spec/-",
    "/metadata/finalizers/-",
];
/// How many kinds of bodies there are.
const CLASSES: usize = 14;

impl Maker<'_> {
    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of.choose(&mut self.random).unwrap().clone()
    }

    fn below(&mut self, end: usize) -> usize {
        self.random.random_range(0..end)
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn text(&mut self) -> String {
        match self.below(20) {
            0 => "x".repeat(self.below(5000)),
            1 => (0..20).map(|_| self.random.random::<char>()).collect(),
            _ => self.one(WORDS).to_string(),
        }
    }

    fn number(&mut self) -> Value {
        let odd = [0, 1, -1, 80, 65_536, i64::MAX, i64::MIN, 1 << 31, 30_000];
        json!(self.one(&odd))
    }

    /// Anything.
    fn anything(&mut self, depth: usize) -> Value {
        match self.below(8) {
            0 => Value::Null,
            1 => self.number(),
            2 => json!(self.random.random::<f64>() * 1e300),
            3 => json!(self.random.random::<bool>()),
            4 if depth > 0 => (0..self.below(4)).map(|_| self.anything(depth - 1)).collect(),
            5 if depth > 0 => {
                let fields = (0..self.below(4)).map(|_| (self.text(), self.anything(depth - 1)));
                Value::Object(fields.collect())
            }
            _ => Value::String(self.text()),
        }
    }

    /// A value of a schema, more or less.
    fn of_schema(&mut self, schema: &Value, depth: usize) -> Value {
        let target = schema["$ref"]
            .as_str()
            .or_else(|| schema["allOf"][0]["$ref"].as_str());
        if let Some(target) = target {
            return self.of_name(target.rsplit('/').next().unwrap(), depth);
        }
        if schema["oneOf"].is_array() {
            let number = self.chance(50);
            return if number {
                self.number()
            } else {
                Value::String(self.text())
            };
        }
        match schema["type"].as_str().unwrap_or_default() {
            "string" if schema["format"] == "date-time" => json!("2026-01-01T00:00:00Z"),
            "string" => Value::String(self.text()),
            "integer" => self.number(),
            "number" => json!(0.5),
            "boolean" => json!(self.random.random::<bool>()),
            "array" if depth > 0 => (0..self.below(3))
                .map(|_| self.of_schema(&schema["items"], depth - 1))
                .collect(),
            "array" => json!([]),
            "object" if depth > 0 && schema["additionalProperties"].is_object() => {
                let values = &schema["additionalProperties"];
                let fields = (0..self.below(3)).map(|_| (self.text(), self.of_schema(values, depth - 1)));
                Value::Object(fields.collect())
            }
            "object" => json!({}),
            _ => self.anything(2),
        }
    }

    fn of_name(&mut self, name: &str, depth: usize) -> Value {
        let schemas = self.schemas;
        let Some(schema) = schemas.get(name) else {
            return self.anything(1);
        };
        let Some(fields) = schema["properties"].as_object() else {
            return self.of_schema(schema, depth);
        };
        if depth == 0 {
            return json!({});
        }
        let required: BTreeSet<&str> = schema["required"]
            .as_array()
            .map(|all| all.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let mut object = Map::new();
        for (field, schema) in fields {
            if required.contains(field.as_str()) || self.chance(35) {
                object.insert(field.clone(), self.of_schema(schema, depth - 1));
            }
        }
        Value::Object(object)
    }

    /// An object that its kind's rules may even let through.
    fn object(&mut self, name: &str) -> Value {
        let mut object = self.of_name(name, 7);
        if self.chance(80)
            && let Some(object) = object.as_object_mut()
        {
            object.remove("apiVersion");
            object.remove("kind");
            object.insert("metadata".into(), json!({ "name": self.one(NAMES) }));
        }
        object
    }

    /// One node of a value replaced by anything.
    fn spoiled(&mut self, mut value: Value) -> Value {
        let mut place = &mut value;
        loop {
            let children = match place {
                Value::Object(map) => map.len(),
                Value::Array(list) => list.len(),
                _ => 0,
            };
            if children == 0 || self.chance(30) {
                *place = self.anything(3);
                return value;
            }
            let index = self.below(children);
            place = match place {
                Value::Object(map) => map.values_mut().nth(index).unwrap(),
                other => &mut other[index],
            };
        }
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most)).map(|_| self.random.random()).collect()
    }

    fn json_patch(&mut self) -> Value {
        let verbs = ["add", "remove", "replace", "move", "copy", "test", "nonsense"];
        (0..3)
            .map(|_| {
                json!({ "op": self.one(&verbs), "path": self.one(POINTERS), "from": self.one(POINTERS),
                    "value": self.anything(2) })
            })
            .collect()
    }

    fn directives(&mut self) -> Value {
        json!({
            "$patch": self.one(&["replace", "delete", "merge", "x"]),
            "metadata": { "$retainKeys": self.anything(1), "labels": { "$patch": "delete" } },
            "spec": {
                "containers": [{ "$patch": "delete" }, { "name": self.anything(1), "$patch": self.anything(0) }],
                "$setElementOrder/containers": self.anything(2),
                "$deleteFromPrimitiveList/x": self.anything(1),
            },
        })
    }

    fn broken_protobuf(&mut self) -> Vec<u8> {
        let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "x" },
            "spec": { "containers": [{ "name": "c" }] } });
        let mut encoded = protobuf::from_json(pod.to_string().as_bytes()).unwrap();
        for _ in 0..=self.below(3) {
            let place = self.below(encoded.len());
            encoded[place] = self.random.random();
        }
        encoded
    }

    /// A body and its type.
    fn body(&mut self, operation: &Operation, class: usize) -> (Vec<u8>, &'static str) {
        const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
        const YAML: &str = "application/yaml";
        let schema = operation.body.clone().unwrap_or_default();
        let is_patch = operation.method == Method::PATCH;
        let object = if is_patch {
            json!({ "metadata": { "labels": { "a": "b" } }, "spec": self.anything(3), "data": self.anything(2) })
        } else {
            self.object(&schema)
        };
        let media = if is_patch {
            self.one(&[
                "application/merge-patch+json",
                "application/strategic-merge-patch+json",
                "application/json-patch+json",
                "application/apply-patch+yaml",
            ])
        } else {
            "application/json"
        };
        let text = object.to_string();
        match class {
            0 => (text.into_bytes(), media),
            1 | 2 => (self.spoiled(object).to_string().into_bytes(), media),
            3 => (self.bytes(200), media),
            4 => {
                let end = self.below(text.len() + 1);
                (text.as_bytes()[..end].to_vec(), media)
            }
            5 => {
                let deep = self.one(&["[", "{\"a\":", "{\"metadata\":{\"labels\":"]);
                (deep.repeat(20_000).into_bytes(), media)
            }
            6 => {
                let labels: Map<String, Value> = (0..2000).map(|n| (format!("l{n}"), json!("v"))).collect();
                let object = json!({ "metadata": { "name": "x", "labels": labels, "annotations": labels } });
                (object.to_string().into_bytes(), media)
            }
            7 => {
                let unknown = ["text/html", "application/xml", "x", "application/cbor", "/", ""];
                (text.into_bytes(), self.one(&unknown))
            }
            8 => ([b"k8s\0".to_vec(), self.bytes(100)].concat(), PROTOBUF),
            9 => (self.broken_protobuf(), PROTOBUF),
            10 => {
                let yaml = [
                    "a: &a [x, x]\nb: &b [*a, *a, *a]\nc: &c [*b, *b, *b]\nd: [*c, *c, *c]\n".to_string(),
                    "- ".repeat(3000),
                    "a:\n\tb: 1\n".into(),
                    "{a: {b: {c: ".into(),
                    "? x\n: y\n<<: *z\n".into(),
                    "--- a\n--- b\n".into(),
                ];
                (self.one(&yaml).into_bytes(), YAML)
            }
            11 => {
                let odd = [
                    "",
                    "null",
                    "[]",
                    "1",
                    "\"x\"",
                    "true",
                    "{}",
                    "{\"a\":1,\"a\":2}",
                    "\u{feff}{}",
                ];
                (self.one(&odd).into(), media)
            }
            12 if is_patch => (
                self.json_patch().to_string().into_bytes(),
                "application/json-patch+json",
            ),
            12 => (format!("{text}{text}").into_bytes(), media),
            _ if is_patch => (
                self.directives().to_string().into_bytes(),
                "application/strategic-merge-patch+json",
            ),
            _ => (self.spoiled(object).to_string().into_bytes(), YAML),
        }
    }

    fn path(&mut self, operation: &Operation) -> String {
        let odd = [
            "..",
            "%2e%2e",
            "%00",
            "a%2Fb",
            "%FF%FE",
            "x%20y",
            "-",
            "X",
            ".",
            "%F0%9F%A6%80",
            "a:b:c:d",
            "http:x:y",
            "%25",
        ];
        let name = match self.below(10) {
            0 => self.one(&odd).to_string(),
            1 => "n".repeat(3000),
            _ => self.one(&["x", "x", "y", "missing"]).to_string(),
        };
        let namespace = if self.chance(90) {
            "default"
        } else {
            self.one(&odd)
        };
        let mut path = operation
            .path
            .replace("{name}", &name)
            .replace("{namespace}", namespace)
            .replace("{path}", &name);
        match self.below(40) {
            0 => path.push('/'),
            1 => path.push_str("/status/x/y"),
            2 => path = path.replace('/', "//"),
            3 => path.push_str("/%2e%2e/%2e%2e"),
            _ => {}
        }
        path
    }

    fn request(&mut self, operation: &Operation, class: usize) -> Option<Request<Body>> {
        let (body, media) = if operation.body.is_some() || self.chance(20) {
            self.body(operation, class)
        } else {
            (Vec::new(), "application/json")
        };
        let query: Vec<&str> = (0..self.below(4)).map(|_| self.one(QUERIES)).collect();
        let uri = format!("{}?{}", self.path(operation), query.join("&"));
        Request::builder()
            .method(operation.method.clone())
            .uri(uri)
            .header("content-type", media)
            .header("accept", self.one(ACCEPTS))
            .body(Body::from(body))
            .ok()
    }
}

/// The answers of a server that are no failures of it, and upstream's too: a resource version that is not reached in
/// time, and somebody behind a proxy or a tunnel who is not there.
fn is_legitimate(path: &str, status: u16, message: &str) -> bool {
    let is_proxy = path.contains("/proxy");
    match status {
        500 => message.contains("no preferred addresses found; known addresses: []"),
        503 => {
            is_proxy
                && [
                    "no endpoints available",
                    "no service port",
                    "error trying to reach service: ",
                ]
                .iter()
                .any(|known| message.contains(known))
        }
        504 => message.contains("Too large resource version"),
        _ => false,
    }
}

/// Sends a request; what is wrong with the answer, if anything.
async fn wrong(client: &Client, request: Request<Body>, what: &str) -> Option<String> {
    let uri: String = request.uri().to_string().chars().take(200).collect();
    let line = format!("{} {uri} ({what})", request.method());
    let path = request.uri().path().to_string();
    let response = match tokio::time::timeout(DEADLINE, client.send(request)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return Some(format!("{line}: {error}")),
        Err(_) => return Some(format!("{line}: no answer")),
    };
    let status = response.status().as_u16();
    if status < 500 {
        return None;
    }
    let body = response.into_body().collect().await.unwrap().to_bytes();
    // A refusal may be in any of the encodings.
    let json = skiff_api::schema::protobuf::to_json(&body).unwrap_or_else(|_| body.to_vec());
    let message = serde_json::from_slice::<Value>(&json)
        .ok()
        .and_then(|status| Some(status["message"].as_str()?.to_string()))
        .unwrap_or_else(|| String::from_utf8_lossy(&body).into_owned());
    (!is_legitimate(&path, status, &message)).then(|| format!("{line}: {status} {message}"))
}

/// Objects for the hostile requests to meet.
async fn furnished() -> Server {
    let server = Server::start().await.with_default_account().await;
    let client = server.local();
    let labels = json!({ "a": "b" });
    for (path, object) in [
        (PODS, pod("x")),
        (
            "/api/v1/namespaces/default/services",
            json!({ "metadata": { "name": "x" }, "spec": { "ports": [{ "port": 80 }] } }),
        ),
        ("/api/v1/nodes", json!({ "metadata": { "name": "x" } })),
        (
            "/apis/apps/v1/namespaces/default/deployments",
            json!({ "metadata": { "name": "x" }, "spec": { "selector": { "matchLabels": labels }, "template": {
                "metadata": { "labels": labels }, "spec": { "containers": [{ "name": "c", "image": "i" }] } } } }),
        ),
    ] {
        let made = post(&client, path, &object).await;
        assert_eq!(made.status, 201, "{}", made.text());
    }
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn no_input_to_any_path_is_answered_with_a_failure_of_the_server() {
    let server = furnished().await;
    let client = server.local();
    let Documents { operations, schemas } = documents(&client).await;
    assert!(operations.len() > 500, "{}", operations.len());
    let seed = std::env::var("SKIFF_SEED").ok();
    let seed: u64 = seed.and_then(|seed| seed.parse().ok()).unwrap_or(20_261_121);
    let mut maker = Maker {
        random: StdRng::seed_from_u64(seed),
        schemas: &schemas,
    };
    let mut failures = BTreeSet::new();
    let mut sent = 0;
    for class in 0..CLASSES {
        for operation in &operations {
            if let Some(request) = maker.request(operation, class) {
                sent += 1;
                failures.extend(wrong(&client, request, &format!("class {class}")).await);
            }
        }
    }
    assert!(sent > operations.len() * CLASSES * 9 / 10, "{sent}");
    let after = json!({ "metadata": { "name": "after" } });
    assert_eq!(post(&client, "/api/v1/namespaces", &after).await.status, 201);
    let all: Vec<String> = failures.into_iter().collect();
    assert!(
        all.is_empty(),
        "seed {seed}, {} of {sent}:\n{}",
        all.len(),
        all.join("\n")
    );
}

#[tokio::test]
async fn paths_that_are_no_resources_take_hostile_input_too() {
    let server = Server::start().await;
    let client = server.local();
    let paths = [
        "/",
        "/api",
        "/apis",
        "/apis/",
        "/apis//",
        "/apis/%00",
        "/version",
        "/healthz/%2e%2e",
        "/readyz?exclude=%00",
        "/openapi/v3/../v2",
        "/openapi/v3/apis/%FF",
        "/openapi/v2?x=%",
        "/metrics",
        "/api/v1/watch",
        "/api/v1/watch/",
        "/api/v1/proxy/x",
        "/api//v1//pods",
        "/apis/apps/v1/namespaces//deployments",
        "/api/v1/namespaces/x/",
        "/%",
        "//",
        "/.well-known/openid-configuration?a=b",
        "/logs/../../etc/passwd",
    ];
    let headers = [
        ("accept", "x/y;q=é"),
        ("if-none-match", "\"\""),
        ("accept-encoding", "gzip;q=,"),
        ("authorization", "Bearer ....."),
    ];
    let mut failures = Vec::new();
    for path in paths {
        for method in [
            "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "NONSENSE",
        ] {
            for (name, value) in headers {
                let request = Request::builder()
                    .method(method)
                    .uri(path)
                    .header(name, value.as_bytes());
                if let Ok(request) = request.body(Body::from(b"{".to_vec())) {
                    failures.extend(wrong(&client, request, name).await);
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[tokio::test]
async fn a_body_is_taken_up_to_the_limit() {
    let server = Server::start().await;
    let client = server.admin().await;
    const LIMIT: usize = 3 * 1024 * 1024;
    let path = "/api/v1/namespaces/default/configmaps";
    let mut body = json!({ "metadata": { "name": "a" } }).to_string();
    body.push_str(&" ".repeat(LIMIT - body.len()));
    let headers = [("content-type", "application/json")];
    let made = send(&client, request(Method::POST, path, &headers, body.clone())).await;
    assert_eq!(made.status, 201, "{}", made.text());
    body.push(' ');
    let refused = send(&client, request(Method::POST, path, &headers, body.clone())).await;
    let text = "Request entity too large: limit is 3145728".to_string();
    assert_eq!(refused.failure(), (413, text.clone()));
    // One that does not say how long it is.
    let chunks: Vec<_> = body
        .into_bytes()
        .chunks(1 << 16)
        .map(|chunk| Ok::<_, std::io::Error>(http_body::Frame::data(bytes::Bytes::copy_from_slice(chunk))))
        .collect();
    let body = http_body_util::StreamBody::new(futures::stream::iter(chunks));
    let request = Request::post(path)
        .header("content-type", "application/json")
        .body(body)
        .unwrap();
    let mut local = server.api.local(skiff_apiserver::UserInfo::master("test"));
    let refused = tower::Service::call(&mut local, request).await.unwrap();
    assert_eq!(refused.status(), 413);
}
