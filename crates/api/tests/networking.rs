//! The kinds of networking.k8s.io.

mod support;

use serde_json::{Value, json};
use skiff_api::kind::{Subresource, Target};

use support::{cells, create_errors, created, json_of, metadata, over, strategy, update};

const INGRESS: &str = "networking.k8s.io/Ingress";
const CLASS: &str = "networking.k8s.io/IngressClass";
const POLICY: &str = "networking.k8s.io/NetworkPolicy";
const ADDRESS: &str = "networking.k8s.io/IPAddress";
const RANGE: &str = "networking.k8s.io/ServiceCIDR";

fn ingress(spec: Value) -> Value {
    json!({"metadata": metadata("web"), "spec": spec})
}

fn to_web() -> Value {
    json!({"service": {"name": "web", "port": {"number": 80}}})
}

fn one_path(path: Value) -> Value {
    let path = over(
        json!({"path": "/", "pathType": "Prefix", "backend": to_web()}),
        path,
    );
    ingress(json!({"rules": [{"host": "a.example.com", "http": {"paths": [path]}}]}))
}

#[test]
fn invalid_ingresses_are_refused_with_upstreams_words() {
    let at = "spec.rules[0].http.paths[0]";
    let cases: Vec<(Value, Vec<String>)> = vec![
        (one_path(json!({})), vec![]),
        (ingress(json!({"defaultBackend": to_web()})), vec![]),
        (
            ingress(json!({})),
            vec!["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified".into()],
        ),
        (
            one_path(json!({"pathType": ""})),
            vec![format!(
                "{at}.pathType: Required value: pathType must be specified"
            )],
        ),
        (
            one_path(json!({"pathType": "Regex"})),
            vec![format!(
                "{at}.pathType: Unsupported value: \"Regex\": supported values: \"Exact\", \"ImplementationSpecific\", \
                 \"Prefix\""
            )],
        ),
        (
            one_path(json!({"path": "a//b/.."})),
            vec![
                format!("{at}.path: Invalid value: \"a//b/..\": must be an absolute path"),
                format!("{at}.path: Invalid value: \"a//b/..\": must not contain '//'"),
                format!("{at}.path: Invalid value: \"a//b/..\": cannot end with '/..'"),
            ],
        ),
        (
            one_path(json!({"backend": {"service": null}})),
            vec![format!(
                "{at}.backend: Invalid value: \"\": resource or service backend is required"
            )],
        ),
        (
            one_path(json!({"backend": {"service": {"port": {"name": "http"}}}})),
            vec![format!(
                "{at}.backend: Invalid value: \"\": cannot set both port name & port number"
            )],
        ),
        (
            one_path(json!({"backend": {"service": {"name": "", "port": {"number": null}}}})),
            vec![
                format!("{at}.backend.service.name: Required value"),
                format!("{at}.backend: Required value: port name or number is required"),
            ],
        ),
        (
            ingress(json!({"rules": [{"host": "10.0.0.1"}]})),
            vec![
                "spec.rules[0].host: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address"
                    .into(),
            ],
        ),
        (
            ingress(json!({"rules": [{"host": "*.example.com", "http": {"paths": []}}]})),
            vec!["spec.rules[0].http.paths: Required value".into()],
        ),
    ];
    for (object, expected) in cases {
        assert_eq!(create_errors(INGRESS, object.clone()), expected, "{object}");
    }
    let wild = create_errors(INGRESS, ingress(json!({"rules": [{"host": "a.*.example.com"}]})));
    assert_eq!(wild.len(), 1);
    assert!(
        wild[0].starts_with(
            "spec.rules[0].host: Invalid value: \"a.*.example.com\": a wildcard DNS-1123 subdomain must start with '*.'"
        ),
        "{wild:?}"
    );
}

#[test]
fn an_ingress_counts_its_changes_and_keeps_its_status() {
    let object = json_of(
        created(
            INGRESS,
            over(
                one_path(json!({})),
                json!({"status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}}),
            ),
        )
        .as_ref(),
    );
    assert_eq!(object["metadata"]["generation"], 1);
    assert_eq!(object["status"], json!({"loadBalancer": {}}));
    let reached =
        json!({"status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}, "metadata": {"generation": 3}});
    let old = over(one_path(json!({})), json!({"metadata": {"generation": 3}}));
    let (new, errors) = update(
        INGRESS,
        old.clone(),
        over(one_path(json!({"path": "/b"})), reached.clone()),
        Target::Main,
    );
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(new["metadata"]["generation"], 4);
    assert_eq!(new["status"], json!({"loadBalancer": {}}));
    let status = Target::Subresource(Subresource::Status);
    let (new, errors) = update(
        INGRESS,
        old.clone(),
        over(one_path(json!({"path": "/b"})), reached),
        status,
    );
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(
        new["spec"],
        json_of(created(INGRESS, old.clone()).as_ref())["spec"]
    );
    assert_eq!(new["metadata"]["generation"], 3);
    assert_eq!(new["status"]["loadBalancer"]["ingress"][0]["ip"], "1.2.3.4");
    let wrong = json!({"status": {"loadBalancer": {"ingress": [{"ip": "x"}, {"hostname": "1.2.3.4"}]}}});
    let (_, errors) = update(INGRESS, old.clone(), over(old, wrong), status);
    assert_eq!(
        errors,
        [
            "status.loadBalancer.ingress[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or \
             2001:db8::ffff)",
            "status.loadBalancer.ingress[1].hostname: Invalid value: \"1.2.3.4\": must be a DNS name, not an IP address",
        ]
    );
}

#[test]
fn the_old_annotation_is_warned_of() {
    let annotated = over(
        one_path(json!({})),
        json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "nginx"}}}),
    );
    let object = created(INGRESS, annotated.clone());
    assert_eq!(
        strategy(INGRESS).warnings(object.as_ref(), None),
        [
            "annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead"
        ]
    );
    assert_eq!(
        create_errors(
            INGRESS,
            over(annotated, json!({"spec": {"ingressClassName": "other"}}))
        ),
        [
            "annotations.kubernetes.io/ingress.class: Invalid value: \"nginx\": must match `ingressClassName` when both \
             are specified"
        ]
    );
}

#[test]
fn network_policies_are_filled_in_and_checked() {
    let policy = |spec: Value| json!({"metadata": metadata("p"), "spec": spec});
    let object = created(POLICY, policy(json!({"egress": [{"ports": [{"port": 53}]}]})));
    assert_eq!(
        json_of(object.as_ref())["spec"],
        json!({
            "podSelector": {},
            "policyTypes": ["Ingress", "Egress"],
            "egress": [{"ports": [{"port": 53, "protocol": "TCP"}]}],
        })
    );
    let from = |peer: Value| policy(json!({"ingress": [{"from": [peer]}]}));
    let port = |port: Value| policy(json!({"ingress": [{"ports": [port]}]}));
    let (peer_at, port_at) = ("spec.ingress[0].from[0]", "spec.ingress[0].ports[0]");
    let cases = vec![
        (from(json!({"podSelector": {}})), vec![]),
        (
            from(json!({})),
            vec![format!("{peer_at}: Required value: must specify a peer")],
        ),
        (
            from(json!({"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}})),
            vec![format!(
                "{peer_at}: Forbidden: may not specify both ipBlock and another peer"
            )],
        ),
        (
            from(json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "11.0.0.0/16"]}})),
            vec![format!(
                "{peer_at}.ipBlock.except[1]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`"
            )],
        ),
        (
            from(json!({"ipBlock": {"cidr": "10.0.0.0"}})),
            vec![format!(
                "{peer_at}.ipBlock.cidr: Invalid value: \"10.0.0.0\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or \
                 2001:db8::/64)"
            )],
        ),
        (
            port(json!({"port": 80, "endPort": 79})),
            vec![format!(
                "{port_at}.endPort: Invalid value: 79: must be greater than or equal to `port`"
            )],
        ),
        (
            port(json!({"port": "http", "endPort": 79, "protocol": "ICMP"})),
            vec![
                format!(
                    "{port_at}.protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\""
                ),
                format!(
                    "{port_at}.endPort: Invalid value: 79: may not be specified when `port` is non-numeric"
                ),
            ],
        ),
        (
            policy(json!({"policyTypes": ["Both"]})),
            vec![
                "spec.policyTypes[0]: Unsupported value: \"Both\": supported values: \"Egress\", \"Ingress\""
                    .into(),
            ],
        ),
    ];
    for (object, expected) in cases {
        assert_eq!(create_errors(POLICY, object.clone()), expected, "{object}");
    }
}

fn cluster(name: &str, spec: Value) -> Value {
    json!({"metadata": {"name": name, "creationTimestamp": "2024-12-31T21:00:00Z"}, "spec": spec})
}

#[test]
fn classes_addresses_and_ranges_are_checked() {
    let parent = json!({"parentRef": {"resource": "services", "name": "web", "namespace": "default"}});
    let cases: Vec<(&str, Value, Vec<&str>)> = vec![
        (CLASS, cluster("a", json!({"controller": "acme.io/foo"})), vec![]),
        (
            CLASS,
            cluster(
                "a",
                json!({"controller": "foo", "parameters": {"kind": "", "name": "x", "scope": "Namespace"}}),
            ),
            vec![
                "spec.controller: Invalid value: \"foo\": must be a domain-prefixed path (such as \"acme.io/foo\")",
                "spec.parameters.kind: Required value: kind is required",
                "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'",
            ],
        ),
        (ADDRESS, cluster("10.0.0.1", parent.clone()), vec![]),
        (
            ADDRESS,
            cluster("2001:db8:0::1", parent.clone()),
            vec!["metadata.name: Invalid value: \"2001:db8:0::1\": must be a canonical format IP address"],
        ),
        (
            ADDRESS,
            cluster("x", json!({})),
            vec![
                "metadata.name: Invalid value: \"x\": ParseAddr(\"x\"): unable to parse IP",
                "spec.parentRef: Required value",
            ],
        ),
        (
            RANGE,
            cluster("a", json!({"cidrs": ["10.0.0.0/16", "2001:db8::/112"]})),
            vec![],
        ),
        (
            RANGE,
            cluster("a", json!({})),
            vec!["spec.cidrs: Required value: at least one CIDR required"],
        ),
        (
            RANGE,
            cluster("a", json!({"cidrs": ["10.0.0.1/16"]})),
            vec![
                "spec.cidrs[0]: Invalid value: \"10.0.0.1/16\": must not have bits set beyond the prefix length",
            ],
        ),
        (
            RANGE,
            cluster("a", json!({"cidrs": ["10.0.0.0/16", "10.1.0.0/16"]})),
            vec![
                "spec: Invalid value: {\"CIDRs\":[\"10.0.0.0/16\",\"10.1.0.0/16\"]}: may specify no more than one IP for \
                 each IP family, i.e 192.168.0.0/24 and 2001:db8::/96",
            ],
        ),
    ];
    for (kind, object, expected) in cases {
        assert_eq!(create_errors(kind, object.clone()), expected, "{object}");
    }
    let grown = json!({"cidrs": ["10.0.0.0/16", "2001:db8::/112"]});
    let one = json!({"cidrs": ["10.0.0.0/16"]});
    let changes = [
        (RANGE, one.clone(), grown.clone(), vec![]),
        (
            RANGE,
            grown,
            one.clone(),
            vec!["spec.cidrs: Invalid value: [\"10.0.0.0/16\"]: field is immutable"],
        ),
        (
            RANGE,
            one,
            json!({"cidrs": ["10.1.0.0/16"]}),
            vec!["spec.cidrs[0]: Invalid value: \"10.1.0.0/16\": field is immutable"],
        ),
        (
            CLASS,
            json!({"controller": "a.io/b"}),
            json!({"controller": "a.io/c"}),
            vec!["spec.controller: Invalid value: \"a.io/c\": field is immutable"],
        ),
    ];
    for (kind, old, new, expected) in changes {
        let (_, errors) = update(kind, cluster("a", old), cluster("a", new.clone()), Target::Main);
        assert_eq!(errors, expected, "{new}");
    }
}

#[test]
fn tables_show_the_kinds_of_networking() {
    let hosts = ["a.io", "b.io", "c.io", "d.io", "e.io"].map(|host| json!({"host": host}));
    let full = ingress(json!({"rules": hosts, "ingressClassName": "nginx", "tls": [{}]}));
    let reached = json!({"status": {"loadBalancer": {"ingress": [{"ip": "2.2.2.2"}, {"hostname": "1.io"}]}}});
    let cases: Vec<(&str, Value, Vec<&str>)> = vec![
        (
            INGRESS,
            over(full, reached),
            vec![
                "web",
                "nginx",
                "a.io,b.io,c.io + 2 more...",
                "1.io,2.2.2.2",
                "80, 443",
                "5h",
            ],
        ),
        (
            INGRESS,
            ingress(json!({})),
            vec!["web", "<none>", "*", "", "80", "5h"],
        ),
        (
            CLASS,
            cluster(
                "c",
                json!({"controller": "a.io/b", "parameters": {"apiGroup": "a.io", "kind": "P", "name": "n"}}),
            ),
            vec!["c", "a.io/b", "P.a.io/n", "5h"],
        ),
        (
            POLICY,
            cluster("p", json!({"podSelector": {"matchLabels": {"a": "b"}}})),
            vec!["p", "a=b", "5h"],
        ),
        (
            ADDRESS,
            cluster(
                "10.0.0.1",
                json!({"parentRef": {"resource": "services", "name": "web", "namespace": "x"}}),
            ),
            vec!["10.0.0.1", "services/x/web", "5h"],
        ),
        (
            RANGE,
            cluster("kubernetes", json!({"cidrs": ["10.0.0.0/8"]})),
            vec!["kubernetes", "10.0.0.0/8", "5h"],
        ),
    ];
    for (kind, object, expected) in cases {
        assert_eq!(cells(kind, object), expected, "{kind}");
    }
    assert_eq!(strategy(INGRESS).info().store_prefix, "ingress");
    assert_eq!(strategy(INGRESS).info().short_names, ["ing"]);
}
