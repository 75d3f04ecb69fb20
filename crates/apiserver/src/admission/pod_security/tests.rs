//! Every rule of the standards, with upstream's texts.

use serde_json::{Value, json};

use super::*;

fn found(level: Level, version: Version, meta: Value, spec: Value) -> String {
    let meta: ObjectMeta = serde_json::from_value(meta).unwrap();
    let spec: PodSpec = serde_json::from_value(spec).unwrap();
    let subject = Subject {
        meta: &meta,
        spec: &spec,
    };
    described(&violations(Standard { level, version }, subject))
}

fn baseline(spec: Value) -> String {
    found(Level::Baseline, Version::Latest, json!({}), spec)
}

fn with_context(context: Value) -> Value {
    json!({"containers": [{"name": "a", "securityContext": context}]})
}

#[test]
fn the_baseline_forbids_what_leads_out_of_a_container() {
    let cases = [
        (json!({"containers": [{"name": "a"}]}), ""),
        (
            with_context(json!({"capabilities": {"add": ["NET_ADMIN", "CHOWN", "BPF"]}})),
            r#"non-default capabilities (container "a" must not include "BPF", "NET_ADMIN" in securityContext.capabilities.add)"#,
        ),
        (
            json!({"containers": [], "hostNetwork": true, "hostPID": true, "hostIPC": true}),
            "host namespaces (hostNetwork=true, hostPID=true, hostIPC=true)",
        ),
        (
            json!({"containers": [], "volumes": [{"name": "x", "hostPath": {"path": "/"}}, {"name": "y", "hostPath": {"path": "/"}}]}),
            r#"hostPath volumes (volumes "x", "y")"#,
        ),
        (
            json!({"containers": [{"name": "a", "ports": [{"containerPort": 1, "hostPort": 80}, {"containerPort": 2}]}]}),
            r#"hostPort (container "a" uses hostPort 80)"#,
        ),
        (
            json!({"containers": [{"name": "a", "livenessProbe": {"httpGet": {"port": 1, "host": "h"}}},
                {"name": "b", "lifecycle": {"preStop": {"httpGet": {"port": 1, "host": "g"}}}}]}),
            r#"probe or lifecycle host (containers "a", "b" use probe or lifecycle hosts "g", "h")"#,
        ),
        (
            json!({"containers": [{"name": "a", "securityContext": {"privileged": true}}],
                "initContainers": [{"name": "i", "securityContext": {"privileged": true}}],
                "ephemeralContainers": [{"name": "e", "securityContext": {"privileged": true}}]}),
            r#"privileged (containers "i", "a", "e" must not set securityContext.privileged=true)"#,
        ),
        (
            with_context(json!({"procMount": "Unmasked"})),
            r#"procMount (container "a" must not set securityContext.procMount to "Unmasked")"#,
        ),
        (
            json!({"containers": [{"name": "a", "securityContext": {"procMount": "Unmasked"}}], "hostUsers": false}),
            "",
        ),
        (
            json!({"containers": [{"name": "a", "securityContext": {"seLinuxOptions": {"type": "spc_t", "role": "r"}}}],
                "securityContext": {"seLinuxOptions": {"user": "u"}}}),
            r#"seLinuxOptions (pod and container "a" set forbidden securityContext.seLinuxOptions: type "spc_t"; user may not be set; role may not be set)"#,
        ),
        (
            with_context(json!({"seccompProfile": {"type": "Unconfined"}})),
            r#"seccompProfile (container "a" must not set securityContext.seccompProfile.type to "Unconfined")"#,
        ),
        (
            json!({"containers": [], "securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"},
                {"name": "net.ipv4.tcp_rmem", "value": "1"}]}}),
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            json!({"containers": [{"name": "a"}], "securityContext": {"windowsOptions": {"hostProcess": true}}}),
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        ),
        (
            with_context(json!({"appArmorProfile": {"type": "Unconfined"}})),
            r#"forbidden AppArmor profile (container "a" must not set AppArmor profile type to "Unconfined")"#,
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(baseline(spec.clone()), expected, "{spec}");
    }
    let annotated =
        json!({"annotations": {"container.apparmor.security.beta.kubernetes.io/a": "unconfined"}});
    assert_eq!(
        found(
            Level::Baseline,
            Version::Latest,
            annotated,
            json!({"containers": []})
        ),
        r#"forbidden AppArmor profile (annotation must not set AppArmor profile type to "container.apparmor.security.beta.kubernetes.io/a=\"unconfined\"")"#
    );
}

#[test]
fn the_restricted_standard_wants_privileges_given_up() {
    let restricted = |spec: Value| found(Level::Restricted, Version::Latest, json!({}), spec);
    assert_eq!(
        restricted(json!({"containers": [{"name": "nginx"}]})),
        r#"allowPrivilegeEscalation != false (container "nginx" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container "nginx" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or container "nginx" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container "nginx" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")"#
    );
    let good = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
        "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
    assert_eq!(restricted(with_context(good.clone())), "");
    let with = |key: &str, value: Value| {
        let mut context = good.clone();
        context[key] = value;
        with_context(context)
    };
    let cases = [
        (
            with("capabilities", json!({"drop": ["ALL"], "add": ["CHOWN"]})),
            r#"unrestricted capabilities (container "a" must not include "CHOWN" in securityContext.capabilities.add)"#,
        ),
        (
            with("runAsNonRoot", json!(false)),
            r#"runAsNonRoot != true (container "a" must not set securityContext.runAsNonRoot=false)"#,
        ),
        (
            with("runAsUser", json!(0)),
            r#"runAsUser=0 (container "a" must not set runAsUser=0)"#,
        ),
        (
            with("seccompProfile", json!({"type": "Unconfined"})),
            r#"seccompProfile (container "a" must not set securityContext.seccompProfile.type to "Unconfined")"#,
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(restricted(spec.clone()), expected, "{spec}");
    }
    let mut spec = with_context(good.clone());
    spec["volumes"] = json!([{"name": "x", "hostPath": {"path": "/"}}, {"name": "y", "emptyDir": {}}]);
    assert_eq!(
        restricted(spec),
        r#"restricted volume types (volume "x" uses restricted volume type "hostPath")"#
    );
    let mut windows = json!({"containers": [{"name": "a"}], "os": {"name": "windows"}, "securityContext": {"runAsNonRoot": true}});
    assert_eq!(restricted(windows.clone()), "");
    windows["os"]["name"] = "linux".into();
    assert_ne!(restricted(windows), "");
}

#[test]
fn a_standard_is_that_of_its_version() {
    let spec =
        json!({"containers": [{"name": "a"}], "securityContext": {"runAsNonRoot": true, "runAsUser": 0}});
    let at = |minor| found(Level::Restricted, Version::Minor(minor), json!({}), spec.clone());
    assert_eq!(at(0), "");
    assert!(at(8).starts_with("allowPrivilegeEscalation"));
    assert!(!at(18).contains("seccomp") && at(19).contains("seccomp"));
    assert!(!at(21).contains("capabilities") && at(22).contains("capabilities"));
    assert!(!at(22).contains("runAsUser") && at(23).contains("runAsUser"));
    for (name, expected) in [
        ("latest", Some(Version::Latest)),
        ("v1.24", Some(Version::Minor(24))),
        ("v1.0", Some(Version::Minor(0))),
        ("v1.01", None),
        ("v2.0", None),
        ("1.24", None),
        ("v1.", None),
    ] {
        assert_eq!(Version::named(name), expected, "{name}");
    }
}

#[test]
fn a_namespaces_labels_make_its_policy() {
    let policy = |labels: Value| {
        let labels: BTreeMap<String, String> = serde_json::from_value(labels).unwrap();
        let labels = labels
            .into_iter()
            .map(|(key, value)| (format!("{PREFIX}{key}"), value))
            .collect();
        let (policy, errors) = Policy::of(&labels);
        (
            policy.enforce.to_string(),
            policy.warn.to_string(),
            errors.iter().count(),
        )
    };
    for (labels, enforce, warn, wrong) in [
        (json!({}), "privileged:latest", "privileged:latest", 0),
        (
            json!({"enforce": "baseline", "enforce-version": "v1.25"}),
            "baseline:v1.25",
            "baseline:v1.25",
            0,
        ),
        (
            json!({"enforce": "baseline", "warn": "restricted"}),
            "baseline:latest",
            "restricted:latest",
            0,
        ),
        (
            json!({"enforce": "none", "warn": "none"}),
            "restricted:latest",
            "privileged:latest",
            2,
        ),
        (
            json!({"audit": "none", "enforce-version": "x"}),
            "privileged:latest",
            "privileged:latest",
            2,
        ),
    ] {
        let (found_enforce, found_warn, errors) = policy(labels.clone());
        assert_eq!(
            (found_enforce.as_str(), found_warn.as_str(), errors),
            (enforce, warn, wrong),
            "{labels}"
        );
    }
}

#[test]
fn pods_that_are_there_are_named_once_a_reason() {
    let pod = |name: &str, network: bool| -> Pod {
        serde_json::from_value(
            json!({"metadata": {"name": name}, "spec": {"containers": [], "hostNetwork": network}}),
        )
        .unwrap()
    };
    let standard = Standard {
        level: Level::Baseline,
        version: Version::Latest,
    };
    let pods = vec![pod("c", true), pod("b", true), pod("a", false), pod("d", true)];
    assert_eq!(
        warnings_about("ns", standard, pods),
        [
            "existing pods in namespace \"ns\" violate the new PodSecurity enforce level \"baseline:latest\"",
            "b (and 2 other pods): host namespaces",
        ]
    );
    assert!(warnings_about("ns", standard, vec![pod("a", false)]).is_empty());
}
