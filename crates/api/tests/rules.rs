//! Rules of workloads, classes, slices and ingresses that only odd inputs meet, with upstream's whole texts.

mod support;

use serde_json::{Value, json};
use skiff_api::kind::{Subresource, Target};
use support::{create_errors, created, defaulted, metadata, over, strategy, update, workload_spec};

/// What is said of new objects of a kind, each the base with a change.
fn check(kind: &str, base: &Value, cases: &[(Value, &[&str])]) {
    for (change, expected) in cases {
        let found = create_errors(kind, over(base.clone(), change.clone()));
        assert_eq!(found, *expected, "{kind} {change}");
    }
}

/// What the writer of an object is warned of.
fn warned(kind: &str, old: Option<&Value>, new: Value) -> Vec<String> {
    let strategy = strategy(kind);
    let Some(old) = old else {
        return strategy.warnings(created(kind, new).as_ref(), None);
    };
    let (old, mut new) = (defaulted(kind, old.clone()), defaulted(kind, new));
    strategy.prepare_for_update(new.as_mut(), old.as_ref(), Target::Main);
    strategy.warnings(new.as_ref(), Some(old.as_ref()))
}

fn workload(name: &str, spec: Value) -> Value {
    let spec = workload_spec("web", "nginx:1", spec);
    json!({"metadata": metadata(name), "spec": spec})
}

const NOT_A_PERCENTAGE: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  \
                                or '93%', regex used for validation is '[0-9]+%')";

#[test]
fn what_is_no_percentage_counts_as_its_number_or_as_none() {
    let rolling =
        |unavailable: Value, surge: Value| json!({"maxUnavailable": unavailable, "maxSurge": surge});
    let refused =
        |field: &str, value: &str, detail: &str| format!("{field}: Invalid value: {value}: {detail}");
    let deployment = "spec.strategy.rollingUpdate";
    let set = "spec.updateStrategy.rollingUpdate";
    let huge = "100000000000000000000%";
    let cases = [
        (
            "apps/Deployment",
            rolling(json!("a lot"), json!(0)),
            vec![
                refused(
                    &format!("{deployment}.maxUnavailable"),
                    "\"a lot\"",
                    NOT_A_PERCENTAGE,
                ),
                refused(
                    &format!("{deployment}.maxUnavailable"),
                    "\"a lot\"",
                    "may not be 0 when `maxSurge` is 0",
                ),
            ],
        ),
        (
            "apps/Deployment",
            rolling(json!("5"), json!(0)),
            vec![refused(
                &format!("{deployment}.maxUnavailable"),
                "\"5\"",
                NOT_A_PERCENTAGE,
            )],
        ),
        (
            "apps/Deployment",
            rolling(json!(huge), json!("+7%")),
            vec![
                refused(&format!("{deployment}.maxSurge"), "\"+7%\"", NOT_A_PERCENTAGE),
                refused(
                    &format!("{deployment}.maxUnavailable"),
                    &format!("{huge:?}"),
                    "must not be greater than 100%",
                ),
            ],
        ),
        (
            "apps/DaemonSet",
            rolling(json!("5"), json!("300%")),
            vec![
                refused(&format!("{set}.maxUnavailable"), "\"5\"", NOT_A_PERCENTAGE),
                refused(
                    &format!("{set}.maxSurge"),
                    "\"300%\"",
                    "must not be greater than 100%",
                ),
                refused(
                    &format!("{set}.maxSurge"),
                    "\"300%\"",
                    "may not be set when maxUnavailable is non-zero",
                ),
            ],
        ),
        (
            "apps/StatefulSet",
            json!({"maxUnavailable": "-1%"}),
            vec![
                refused(&format!("{set}.maxUnavailable"), "\"-1%\"", NOT_A_PERCENTAGE),
                refused(&format!("{set}.maxUnavailable"), "\"-1%\"", "cannot be 0"),
            ],
        ),
    ];
    for (kind, rolling, expected) in cases {
        let field = if kind == "apps/Deployment" {
            "strategy"
        } else {
            "updateStrategy"
        };
        let found = create_errors(
            kind,
            workload("web", json!({field: {"rollingUpdate": rolling.clone()}})),
        );
        assert_eq!(found, expected, "{kind} {rolling}");
    }
    let odd = json!({"strategy": {"type": "Odd", "rollingUpdate": {"maxSurge": 1}}});
    assert_eq!(
        create_errors("apps/Deployment", workload("web", odd)),
        [
            "spec.strategy: Unsupported value: {\"Type\":\"Odd\",\"RollingUpdate\":{\"MaxUnavailable\":0,\"MaxSurge\":1}}: \
             supported values: \"Recreate\", \"RollingUpdate\""
        ]
    );
}

#[test]
fn a_count_of_collisions_that_is_gone_is_shown_as_none() {
    let status = |status: Value| over(workload("web", json!({})), json!({"status": status}));
    let target = Target::Subresource(Subresource::Status);
    for kind in ["apps/Deployment", "apps/StatefulSet", "apps/DaemonSet"] {
        let (_, errors) = update(
            kind,
            status(json!({"collisionCount": 1})),
            status(json!({})),
            target,
        );
        assert_eq!(
            errors,
            ["status.collisionCount: Invalid value: 0: cannot be decremented"],
            "{kind}"
        );
    }
}

#[test]
fn templates_are_warned_of_whenever_what_is_desired_changes() {
    let name = "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a \
                DNS label is recommended: [must not contain dots]";
    let arch = json!({"spec": {"nodeSelector": {"beta.kubernetes.io/arch": "x"}}});
    let told = "spec.template.spec.nodeSelector[beta.kubernetes.io/arch]: deprecated since v1.14; use \
                \"kubernetes.io/arch\" instead";
    let old = workload("a.b", json!({"template": arch}));
    let scaled = over(old.clone(), json!({"spec": {"replicas": 3}}));
    let noted = over(old.clone(), json!({"metadata": {"annotations": {"a": "b"}}}));
    let none = Vec::<String>::new();
    for kind in ["apps/Deployment", "apps/ReplicaSet"] {
        assert_eq!(warned(kind, None, old.clone()), [name, told], "{kind}");
        assert_eq!(warned(kind, Some(&old), old.clone()), none, "{kind}");
        assert_eq!(warned(kind, Some(&old), scaled.clone()), [told], "{kind}");
    }
    assert_eq!(
        warned("apps/Deployment", Some(&old), noted.clone()),
        [told],
        "annotations reach the replica sets"
    );
    assert_eq!(warned("apps/ReplicaSet", Some(&old), noted), none);
    assert_eq!(warned("apps/StatefulSet", None, old.clone()), [told]);
    assert_eq!(warned("apps/StatefulSet", Some(&old), scaled), [told]);

    // Of a daemon set only the template counts.
    let slower = over(old.clone(), json!({"spec": {"minReadySeconds": 3}}));
    let other = over(
        old.clone(),
        json!({"spec": {"template": {"spec": {"hostNetwork": true}}}}),
    );
    assert_eq!(warned("apps/DaemonSet", None, old.clone()), [told]);
    assert_eq!(warned("apps/DaemonSet", Some(&old), slower), none);
    assert_eq!(warned("apps/DaemonSet", Some(&old), other), [told]);

    // Upstream looks at the old template of a replication controller.
    let controller = |selector: Value| {
        over(
            workload("web", json!({"template": {"spec": {"nodeSelector": selector}}})),
            json!({"spec": {"selector": null}}),
        )
    };
    let (old, new) = (
        controller(json!({"beta.kubernetes.io/arch": "x"})),
        controller(json!(null)),
    );
    assert_eq!(warned("ReplicationController", Some(&old), new.clone()), [told]);
    assert_eq!(warned("ReplicationController", Some(&new), old), none);
}

#[test]
fn jobs_of_very_many_pods_are_warned_of() {
    let many = json!({"completions": 100_001, "parallelism": 10_001, "completionMode": "Indexed"});
    let template = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "x"}]}});
    let job = over(json!({"template": template}), many);
    let told = "In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, \
                Kubernetes might not be able to track completedIndexes when a big number of indexes fail";
    let one = json!({"metadata": metadata("j"), "spec": job});
    assert_eq!(warned("batch/Job", None, one.clone()), [format!("spec: {told}")]);
    assert_eq!(warned("batch/Job", Some(&one), one.clone()), Vec::<String>::new());
    let cron = json!({"metadata": metadata("c"), "spec": {"schedule": "TZ=UTC 0 * * * *", "jobTemplate": {"spec": job}}});
    let paused = over(cron.clone(), json!({"spec": {"suspend": true}}));
    assert_eq!(
        warned("batch/CronJob", Some(&cron), paused),
        [
            format!("spec.jobTemplate.spec: {told}"),
            "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see \
             https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
                .to_string(),
        ]
    );
}

#[test]
fn a_write_of_the_status_warns_of_nothing_but_addresses() {
    let claims = json!({"volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"resources":
        {"requests": {"storage": "500m"}}}}], "revisionHistoryLimit": -1});
    let set = created("apps/StatefulSet", workload("web", claims));
    assert_eq!(
        strategy("apps/StatefulSet").subresource_warnings(set.as_ref(), Subresource::Status),
        Vec::<String>::new()
    );
    let service = json!({"metadata": metadata("s"), "spec": {"externalIPs": ["1.2.3.4"], "ports": [{"port": 80}]},
        "status": {"loadBalancer": {"ingress": [{"hostname": "a"}, {"ip": "FD00::1"}]}}});
    assert_eq!(
        strategy("Service").subresource_warnings(defaulted("Service", service).as_ref(), Subresource::Status),
        [
            "status.loadBalancer.ingress[1]: IPv6 address \"FD00::1\" should be in RFC 5952 canonical format (\"fd00::1\")"
        ]
    );
}

#[test]
fn priority_classes_with_the_systems_prefix_are_the_systems_own() {
    let class = |name: &str, value: i32| json!({"metadata": {"name": name}, "value": value});
    let reserved = "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use \
                    only. error: ";
    let kind = "scheduling.k8s.io/PriorityClass";
    for (class, expected) in [
        (
            class("system-foo", 2_000_000_000),
            "system-foo is not a known system priority class",
        ),
        (
            class("system-node-critical", 5),
            "value of system-node-critical PriorityClass must be 2000001000",
        ),
        (
            over(
                class("system-cluster-critical", 2_000_000_000),
                json!({"globalDefault": true}),
            ),
            "globalDefault of system-cluster-critical PriorityClass must be false",
        ),
    ] {
        assert_eq!(create_errors(kind, class), [format!("{reserved}{expected}")]);
    }
    assert_eq!(
        create_errors(kind, class("system-node-critical", 2_000_001_000)),
        Vec::<String>::new(),
        "whatever it says of itself"
    );
}

#[test]
fn topologies_of_storage_classes_repeat_nothing() {
    let base = json!({"metadata": {"name": "a"}, "provisioner": "a.io/b"});
    let term =
        |key: &str, values: &[&str]| json!({"matchLabelExpressions": [{"key": key, "values": values}]});
    check(
        "storage.k8s.io/StorageClass",
        &base,
        &[
            (
                json!({"allowedTopologies": [term("a", &["x", "y"]), term("a", &["y", "x"])]}),
                &["allowedTopologies[1].matchLabelExpressions: Duplicate value: \"\""],
            ),
            (
                json!({"allowedTopologies": [{}]}),
                &["allowedTopologies[0].matchLabelExpressions: Duplicate value: \"\""],
            ),
            (
                json!({"allowedTopologies": [{"matchLabelExpressions": [
                    {"key": "a", "values": ["x", "x"]}, {"key": "a", "values": []}]}]}),
                &[
                    "allowedTopologies[0].matchLabelExpressions[0].values[1]: Duplicate value: \"x\"",
                    "allowedTopologies[0].matchLabelExpressions[1].values: Required value",
                    "allowedTopologies[0].matchLabelExpressions[1].key: Duplicate value: \"a\"",
                ],
            ),
        ],
    );
}

#[test]
fn a_node_has_no_configuration_any_more() {
    let node = |status: Value| json!({"metadata": {"name": "n"}, "status": status});
    let target = Target::Subresource(Subresource::Status);
    let config = json!({"config": {"error": "x"}});
    let (new, _) = update("Node", node(json!({})), node(config.clone()), target);
    assert_eq!(new["status"]["config"], Value::Null);
    let (new, _) = update("Node", node(config.clone()), node(config.clone()), target);
    assert_eq!(
        new["status"]["config"], config["config"],
        "where it was used it stays"
    );
}

#[test]
fn ingresses_keep_what_they_were_allowed() {
    let kind = "networking.k8s.io/Ingress";
    let path = |path: &str, port: i32| json!({"path": path, "pathType": "Prefix", "backend": {"service": {"name": "s", "port": {"number": port}}}});
    let ingress = |host: &str, path: Value, secret: &str| {
        json!({"metadata": metadata("i"), "spec": {"rules": [{"host": host, "http": {"paths": [path]}}],
            "tls": [{"hosts": ["a.b"], "secretName": secret}]}})
    };
    let wrong = ingress("*.a.b", path("x", 80), "_");
    assert_eq!(create_errors(kind, wrong.clone()).len(), 2);
    let still_wrong = ingress("*.a.b", path("y", 0), "__");
    let (_, errors) = update(kind, wrong.clone(), still_wrong, Target::Main);
    assert_eq!(errors, Vec::<String>::new());
    let (_, errors) = update(kind, wrong, ingress("a.b", path("x", 80), "_"), Target::Main);
    assert_eq!(
        errors,
        ["spec.rules[0].http.paths[0].path: Invalid value: \"x\": must be an absolute path"],
        "only rules of a wildcard"
    );
    let right = ingress("*.a.b", path("/x", 80), "s");
    let (_, errors) = update(kind, right, ingress("*.a.b", path("x", 80), "s"), Target::Main);
    assert_eq!(errors.len(), 1);

    let resource = json!({"defaultBackend": {"resource": {"apiGroup": "a.io", "kind": "", "name": ""}}});
    assert_eq!(
        create_errors(kind, json!({"metadata": metadata("i"), "spec": resource})),
        [
            "spec.defaultBackend.resource.kind: Required value: kind is required",
            "spec.defaultBackend.resource.name: Required value: name is required",
        ]
    );
    let errors = create_errors(kind, ingress("010.0.0.1", path("/", 80), ""));
    assert_eq!(
        errors,
        ["spec.rules[0].host: Invalid value: \"010.0.0.1\": must be a DNS name, not an IP address"]
    );
    let status = |ip: &str| {
        over(
            ingress("a.b", path("/", 80), ""),
            json!({"status": {"loadBalancer": {"ingress": [{"ip": ip}]}}}),
        )
    };
    let target = Target::Subresource(Subresource::Status);
    let (_, errors) = update(kind, status("10.0.0.1"), status("010.0.0.1"), target);
    assert_eq!(
        errors,
        ["status.loadBalancer.ingress[0].ip: Invalid value: \"010.0.0.1\": must not have leading 0s"]
    );
    let (_, errors) = update(kind, status("010.0.0.1"), status("010.0.0.1"), target);
    assert_eq!(errors, Vec::<String>::new());
}

#[test]
fn addresses_of_slices_are_of_the_slices_type() {
    let slice = |type_: &str, address: &str| {
        json!({"metadata": metadata("s"), "addressType": type_, "ports": [{"port": 70_000}],
            "endpoints": [{"addresses": [address]}]})
    };
    let at = "endpoints[0].addresses[0]";
    let subdomain = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and \
                     must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation \
                     is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
    let cases = [
        ("IPv4", "10.0.0.1", vec![]),
        ("IPv4", "::ffff:10.0.0.1", vec![]),
        (
            "IPv4",
            "x",
            vec![
                "Invalid value: \"x\": must be a valid IPv4 address".to_string(),
                "Invalid value: \"x\": must be a valid IP address".into(),
            ],
        ),
        (
            "IPv4",
            "::1",
            vec![
                "Invalid value: \"::1\": must be a valid IPv4 address".into(),
                "Invalid value: \"::1\": may not be in the loopback range (127.0.0.0/8, ::1/128)".into(),
            ],
        ),
        (
            "IPv6",
            "10.0.0.1",
            vec!["Invalid value: \"10.0.0.1\": must be a valid IPv6 address".into()],
        ),
        ("FQDN", "a.example.com.", vec![]),
        ("FQDN", "", vec!["Required value".into()]),
        ("FQDN", "a..b.", vec![format!("Invalid value: \"a..b\": {subdomain}")]),
        (
            "FQDN",
            "a",
            vec![
                "Invalid value: \"a\": should be a domain with at least two segments separated by dots".into(),
            ],
        ),
        (
            "FQDN",
            "a123456789012345678901234567890123456789012345678901234567890123.b",
            vec![
                "Invalid value: \"a123456789012345678901234567890123456789012345678901234567890123\": must be no more \
                 than 63 characters"
                    .into(),
            ],
        ),
    ];
    for (type_, address, expected) in cases {
        let expected: Vec<String> = expected.iter().map(|wrong| format!("{at}: {wrong}")).collect();
        let found = create_errors("discovery.k8s.io/EndpointSlice", slice(type_, address));
        assert_eq!(found, expected, "{type_} {address}");
    }
}

#[test]
fn pods_ask_for_certificates_with_annotations_that_have_a_domain_and_with_good_keys() {
    use base64::Engine;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    /// A DER element.
    fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let contents = parts.concat();
        let length = contents.len().to_be_bytes();
        let length: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
        let many = contents.len() > 0x7f;
        let count = many.then(|| 0x80 | u8::try_from(length.len()).unwrap());
        let length = if contents.is_empty() { vec![0] } else { length };
        [&[tag], count.as_slice(), &length, &contents].concat()
    }
    let request = |algorithm: &[u8], parameters: &[u8], bits: &[u8]| {
        let algorithm = der(0x30, &[&der(0x06, &[algorithm]), parameters]);
        let key = der(0x30, &[&algorithm, &der(0x03, &[&[0], bits])]);
        let name = der(0x30, &[]);
        let body = der(0x30, &[&[0x02, 1, 0], &name, &key, &der(0xa0, &[])]);
        encode(&der(0x30, &[&body, &algorithm, &der(0x03, &[&[0]])]))
    };
    let curve = |last: u8| der(0x06, &[&[0x2b, 0x81, 0x04, 0x00, last]]);
    let elliptic = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    let rsa = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    let modulus = |bytes: usize| der(0x30, &[&der(0x02, &[&[0], &vec![0x80; bytes]]), &[0x02, 1, 3]]);
    let good = request(&[0x2b, 0x65, 0x70], &[], &[1]);
    let base = json!({"metadata": metadata("p"), "spec": {"signerName": "a.io/b", "podName": "p", "podUID": "1",
        "serviceAccountName": "s", "serviceAccountUID": "2", "nodeName": "n", "nodeUID": "3",
        "stubPKCS10Request": good}});
    let spec = |spec: Value| json!({"spec": spec});
    let unknown = request(&[0x2b, 0x65, 0x6e], &[], &[1]);
    let kind = "certificates.k8s.io/PodCertificateRequest";
    check(
        kind,
        &base,
        &[
            (json!({}), &[]),
            (
                spec(json!({"unverifiedUserAnnotations": {"A.io/b": "x", "b": "y"}})),
                &[
                    "spec.unverifiedUserAnnotations: Invalid value: \"b\": must be a domain-prefixed key (such as \"acme.io/foo\")",
                ],
            ),
            (
                spec(json!({"signerName": "x.kubernetes.io/b", "maxExpirationSeconds": 90_000})),
                &["spec.maxExpirationSeconds: Invalid value: 90000: must be in the range [3600, 86400]"],
            ),
            (
                spec(json!({"stubPKCS10Request": request(&elliptic, &curve(0x22), &[4])})),
                &[],
            ),
            (
                spec(json!({"stubPKCS10Request": request(&elliptic, &curve(0x21), &[4])})),
                &[
                    "spec.stubPKCS10Request: Invalid value: \"curve P-224\": elliptic public keys must use curve P256 or P384",
                ],
            ),
            (
                spec(json!({"stubPKCS10Request": request(&rsa, &[5, 0], &modulus(384))})),
                &[],
            ),
            (
                spec(json!({"stubPKCS10Request": request(&rsa, &[5, 0], &modulus(256))})),
                &[
                    "spec.stubPKCS10Request: Invalid value: \"2048-bit modulus\": RSA keys must have modulus size 3072 or 4096",
                ],
            ),
            (
                spec(json!({"stubPKCS10Request": encode(&vec![0; 10_241])})),
                &["spec.stubPKCS10Request: Too long: may not be more than 10240 bytes"],
            ),
        ],
    );
    assert_eq!(
        create_errors(
            kind,
            over(base, spec(json!({"stubPKCS10Request": unknown.clone()})))
        ),
        [format!(
            "spec.stubPKCS10Request: Invalid value: {unknown:?}: unknown public key type; supported types are Ed25519, \
             ECDSA, and RSA"
        )]
    );
}

#[test]
fn what_may_not_change_is_told_before_what_is_wrong() {
    let class = |controller: &str| json!({"metadata": {"name": "c"}, "spec": {"controller": controller}});
    let (_, errors) = update(
        "networking.k8s.io/IngressClass",
        class("a.io/b"),
        class("b"),
        Target::Main,
    );
    assert_eq!(
        errors,
        [
            "spec.controller: Invalid value: \"b\": field is immutable",
            "spec.controller: Invalid value: \"b\": must be a domain-prefixed path (such as \"acme.io/foo\")",
        ]
    );
    let class = |driver: &str, parameters: Value| json!({"metadata": {"name": "c"}, "driverName": driver, "parameters": parameters});
    let (_, errors) = update(
        "storage.k8s.io/VolumeAttributesClass",
        class("a", json!({"a": "b"})),
        class("", json!({})),
        Target::Main,
    );
    assert_eq!(
        errors,
        [
            "driverName: Forbidden: updates to driverName are forbidden.",
            "parameters: Forbidden: updates to parameters are forbidden.",
            "driverName: Required value",
            "parameters: Required value: must contain at least one key/value pair",
        ]
    );
}

#[test]
fn app_armor_annotations_of_pods_are_warned_of_where_no_field_says_the_same() {
    let pod = |spec: Value| {
        let key = |name: &str| format!("container.apparmor.security.beta.kubernetes.io/{name}");
        let annotations = json!({key("a"): "unconfined", key("b"): "runtime/default", key("c"): "mine"});
        let containers = ["a", "b", "c", "d"].map(|name| json!({"name": name, "image": "x"}));
        let spec = over(json!({"containers": containers}), spec);
        json!({"metadata": over(metadata("p"), json!({"annotations": annotations})), "spec": spec})
    };
    let told = |names: &[&str]| -> Vec<String> {
        let told = |name: &&str| {
            format!(
                "metadata.annotations[container.apparmor.security.beta.kubernetes.io/{name}]: deprecated since v1.30; \
                 use the \"appArmorProfile\" field instead"
            )
        };
        names.iter().map(told).collect()
    };
    let profile = json!({"securityContext": {"appArmorProfile": {"type": "Unconfined"}}});
    let own = over(json!({"name": "b", "image": "x"}), profile.clone());
    for (spec, expected) in [
        (json!({}), told(&["a", "b", "c"])),
        (profile, told(&["b", "c"])),
        (json!({"containers": [own]}), told(&[])),
        (json!({"os": {"name": "windows"}}), told(&[])),
    ] {
        let object = defaulted("Pod", pod(spec.clone()));
        assert_eq!(
            strategy("Pod").warnings_as_sent(object.as_ref()),
            expected,
            "{spec}"
        );
    }
}

#[test]
fn how_updates_of_a_stateful_set_roll_is_said_to_who_names_no_type() {
    let strategy_of = |update: Value| {
        let set = workload("web", json!({"updateStrategy": update}));
        let object = defaulted("apps/StatefulSet", set);
        let encoded: Value = serde_json::from_slice(&object.encode().unwrap()).unwrap();
        encoded["spec"]["updateStrategy"].clone()
    };
    let rolling = |rolling: Value| json!({"type": "RollingUpdate", "rollingUpdate": rolling});
    for (given, expected) in [
        (json!({}), rolling(json!({"partition": 0, "maxUnavailable": 1}))),
        (
            json!({"rollingUpdate": {"partition": 2}}),
            rolling(json!({"partition": 2, "maxUnavailable": 1})),
        ),
        (
            rolling(json!({})),
            rolling(json!({"partition": 0, "maxUnavailable": 1})),
        ),
        (json!({"type": "RollingUpdate"}), json!({"type": "RollingUpdate"})),
        (json!({"type": "OnDelete"}), json!({"type": "OnDelete"})),
    ] {
        assert_eq!(strategy_of(given.clone()), expected, "{given}");
    }
}

#[test]
fn a_role_is_gathered_from_what_a_selector_can_select() {
    let role = |selector: Value| json!({"metadata": {"name": "a"}, "aggregationRule": {"clusterRoleSelectors": [selector]}});
    let at = "aggregationRule.clusterRoleSelectors[0]";
    assert_eq!(
        create_errors(
            "rbac.authorization.k8s.io/ClusterRole",
            role(json!({"matchExpressions": [{"key": "a", "operator": "In", "values": []}]}))
        ),
        [
            format!(
                "{at}.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"
            ),
            format!("{at}: Invalid value: null: invalid label selector."),
        ]
    );
}

#[test]
fn a_node_says_which_controllers_pods_it_would_rather_not_run() {
    let node = |text: &str| json!({"metadata": {"name": "n", "annotations": {"scheduler.alpha.kubernetes.io/preferAvoidPods": text}}});
    let at = "metadata.annotations.scheduler.alpha.kubernetes.io/preferAvoidPods";
    let owner = r#""apiVersion":"v1","kind":"K","name":"n","uid":"u""#;
    let avoid = |controller: &str| {
        format!(r#"{{"preferAvoidPods":[{{"podSignature":{{"podController":{{{owner}{controller}}}}}}}]}}"#)
    };
    assert_eq!(
        create_errors("Node", node(&avoid(r#","controller":true"#))),
        Vec::<String>::new()
    );
    assert_eq!(
        create_errors("Node", node(&avoid(""))),
        [format!(
            "{at}[0].PodSignature.PodController.Controller: Invalid value: false: must point to a controller"
        )]
    );
    assert_eq!(
        create_errors("Node", node(r#"{"preferAvoidPods":[{"podSignature":{}}]}"#)),
        [format!("{at}[0].PodSignature: Required value")]
    );
    for (text, why) in [
        ("x", "invalid character 'x' looking for beginning of value"),
        (r#"{"a""#, "unexpected end of JSON input"),
        (
            "[]",
            "json: cannot unmarshal array into Go value of type v1.AvoidPods",
        ),
    ] {
        assert_eq!(
            create_errors("Node", node(text)),
            [format!(
                "metadata.annotations.AvoidPods: Invalid value: \"scheduler.alpha.kubernetes.io/preferAvoidPods\": {why}"
            )]
        );
    }
    for (text, why) in [
        (
            "{}",
            "json: cannot unmarshal object into Go value of type []core.Taint",
        ),
        (
            "[1]",
            "json: cannot unmarshal number into Go value of type core.Taint",
        ),
        (
            r#"[{"key":1}]"#,
            "json: cannot unmarshal number into Go struct field Taint.Key of type string",
        ),
        ("[,]", "invalid character ',' looking for beginning of value"),
    ] {
        let annotations = json!({"scheduler.alpha.kubernetes.io/taints": text});
        assert_eq!(
            create_errors(
                "Node",
                json!({"metadata": {"name": "n", "annotations": annotations}})
            ),
            [format!(
                "metadata.annotations: Invalid value: \"scheduler.alpha.kubernetes.io/taints\": {why}"
            )]
        );
    }
    let taints = r#"[{"key":"a","effect":"NoSchedule"},{"key":"a","effect":"NoSchedule"}]"#;
    let annotations = json!({"scheduler.alpha.kubernetes.io/taints": taints});
    assert_eq!(
        create_errors(
            "Node",
            json!({"metadata": {"name": "n", "annotations": annotations}})
        ),
        [
            "metadata.annotations.scheduler.alpha.kubernetes.io/taints[1]: Duplicate value: {\"Key\":\"a\",\"Value\":\"\",\
             \"Effect\":\"NoSchedule\",\"TimeAdded\":null}: taints must be unique by key and effect pair"
        ]
    );
    let ranges = json!({"metadata": {"name": "n"}, "spec": {"podCIDRs": ["10.0.0.0/24", "10.0.0.0/24"]}});
    assert_eq!(
        create_errors("Node", ranges),
        [
            "spec.podCIDRs: Invalid value: [\"10.0.0.0/24\",\"10.0.0.0/24\"]: may specify no more than one CIDR for each IP family",
            "spec.podCIDRs[1]: Duplicate value: \"10.0.0.0/24\"",
        ]
    );
}

#[test]
fn a_configuration_that_a_node_still_names_is_one() {
    let node = |source: Value| json!({"metadata": {"name": "n"}, "spec": {"configSource": source}});
    let map = |map: Value| {
        node(json!({"configMap": over(json!({"namespace": "a", "name": "b", "kubeletConfigKey": "c"}), map)}))
    };
    for (new, expected) in [
        (map(json!({})), vec![]),
        (
            node(json!({})),
            vec![
                "spec.configSource: Invalid value: {\"ConfigMap\":null}: exactly one reference subfield must be non-nil",
            ],
        ),
        (
            map(
                json!({"uid": "u", "resourceVersion": "1", "name": "", "namespace": "", "kubeletConfigKey": ""}),
            ),
            vec![
                "spec.configSource.configMap.uid: Forbidden: uid must not be set in spec",
                "spec.configSource.configMap.resourceVersion: Forbidden: resourceVersion must not be set in spec",
                "spec.configSource.configMap.namespace: Required value: namespace must be set",
                "spec.configSource.configMap.name: Required value: name must be set",
                "spec.configSource.configMap.kubeletConfigKey: Required value: kubeletConfigKey must be set",
            ],
        ),
    ] {
        let (_, errors) = update("Node", map(json!({})), new.clone(), Target::Main);
        assert_eq!(errors, expected, "{new}");
    }
    let found = json!({"metadata": {"name": "n"}, "status": {"config": {"active": {"configMap":
        {"namespace": "a", "name": "b", "kubeletConfigKey": "c"}}}}});
    let (_, errors) = update(
        "Node",
        found.clone(),
        found,
        Target::Subresource(Subresource::Status),
    );
    assert_eq!(
        errors,
        [
            "status.config.active.configMap.uid: Required value: uid must be set in status",
            "status.config.active.configMap.resourceVersion: Required value: resourceVersion must be set in status",
        ]
    );
}
