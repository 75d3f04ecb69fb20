//! Services and what stands behind them.

mod support;

use serde_json::{Value, json};
use skiff_api::kind::{Subresource, Target};

use support::{cells, create_errors, created, defaulted, json_of, metadata, over, strategy, update};

fn service(spec: Value) -> Value {
    let spec = over(json!({"ports": [{"port": 80}]}), spec);
    json!({"metadata": metadata("web"), "spec": spec})
}

#[test]
fn services_are_filled_in() {
    let spec = |value: Value| json_of(defaulted("Service", service(value)).as_ref())["spec"].clone();
    assert_eq!(
        spec(json!({})),
        json!({
            "type": "ClusterIP",
            "sessionAffinity": "None",
            "internalTrafficPolicy": "Cluster",
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        })
    );
    let balanced = spec(json!({"type": "LoadBalancer", "sessionAffinity": "ClientIP"}));
    assert_eq!(balanced["externalTrafficPolicy"], "Cluster");
    assert_eq!(balanced["allocateLoadBalancerNodePorts"], true);
    assert_eq!(
        balanced["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"],
        10800
    );
    assert_eq!(
        spec(json!({"type": "ExternalName"}))["internalTrafficPolicy"],
        Value::Null
    );
    let headless = json_of(created("Service", service(json!({"clusterIP": "None"}))).as_ref());
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
    assert_eq!(headless["status"], json!({"loadBalancer": {}}));
}

#[test]
fn invalid_services_are_refused_with_upstreams_words() {
    let cases: Vec<(Value, Vec<&str>)> = vec![
        (json!({}), vec![]),
        (json!({"ports": []}), vec!["spec.ports: Required value"]),
        (json!({"ports": [], "clusterIP": "None"}), vec![]),
        (
            json!({"type": "ExternalName", "ports": []}),
            vec!["spec.externalName: Required value"],
        ),
        (
            json!({"ports": [{"port": 80}, {"port": 80, "name": "a"}, {"port": 0, "name": "a", "targetPort": "A-"}]}),
            vec![
                "spec.ports[0].name: Required value",
                "spec.ports[2].name: Duplicate value: \"a\"",
                "spec.ports[2].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                "spec.ports[2].targetPort: Invalid value: \"A-\": must contain only alpha-numeric characters (a-z, \
                 0-9), and hyphens (-)",
                "spec.ports[2].targetPort: Invalid value: \"A-\": must contain at least one letter (a-z)",
                "spec.ports[2].targetPort: Invalid value: \"A-\": must not begin or end with a hyphen",
                "spec.ports[1]: Duplicate value: {\"Name\":\"\",\"Protocol\":\"TCP\",\"AppProtocol\":null,\"Port\":80,\
                 \"TargetPort\":0,\"NodePort\":0}",
            ],
        ),
        (
            json!({"type": "Magic", "sessionAffinity": "Cookie"}),
            vec![
                "spec.sessionAffinity: Unsupported value: \"Cookie\": supported values: \"ClientIP\", \"None\"",
                "spec.type: Unsupported value: \"Magic\": supported values: \"ClusterIP\", \"ExternalName\", \
                 \"LoadBalancer\", \"NodePort\"",
            ],
        ),
        (
            json!({"ports": [{"port": 80, "nodePort": 30000}], "externalIPs": ["127.0.0.1"], "loadBalancerClass": "a"}),
            vec![
                "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, \
                 ::1/128)",
                "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
                "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'",
            ],
        ),
        (
            json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.2", "10.0.0.3"], "ipFamilies": ["IPv6", "IPv5"]}),
            vec![
                "spec.clusterIPs: Invalid value: [\"10.0.0.2\",\"10.0.0.3\"]: first value must match `clusterIP`",
                "spec.ipFamilies[1]: Unsupported value: \"IPv5\": supported values: \"IPv4\", \"IPv6\"",
                "spec.clusterIPs: Invalid value: [\"10.0.0.2\",\"10.0.0.3\"]: may specify no more than one IP for \
                 each IP family",
                "spec.clusterIPs[0]: Invalid value: \"10.0.0.2\": expected an IPv6 value as indicated by \
                 `ipFamilies[0]`",
            ],
        ),
        (
            json!({"clusterIP": "x", "clusterIPs": ["x"]}),
            vec![
                "spec.clusterIPs[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or \
                 2001:db8::ffff)",
            ],
        ),
        (
            json!({"type": "NodePort", "clusterIP": "None", "externalTrafficPolicy": "Far"}),
            vec![
                "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services",
                "spec.externalTrafficPolicy: Unsupported value: \"Far\": supported values: \"Cluster\", \"Local\"",
            ],
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(
            create_errors("Service", service(spec.clone())),
            expected,
            "{spec}"
        );
    }
    let named = |name: &str| {
        create_errors(
            "Service",
            over(service(json!({})), json!({"metadata": {"name": name}})),
        )
    };
    assert_eq!(
        named("1a"),
        Vec::<String>::new(),
        "a label of RFC 1123 since v1.37"
    );
    assert_eq!(
        named("a.b"),
        ["metadata.name: Invalid value: \"a.b\": must not contain dots"]
    );
}

#[test]
fn an_update_keeps_what_the_server_gave_out() {
    let old = service(json!({
        "type": "NodePort",
        "clusterIP": "10.0.0.1",
        "clusterIPs": ["10.0.0.1"],
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
        "ports": [{"port": 80, "nodePort": 30080}],
    }));
    let (object, errors) = update(
        "Service",
        old.clone(),
        service(json!({"type": "NodePort"})),
        Target::Main,
    );
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(object["spec"]["clusterIPs"], json!(["10.0.0.1"]));
    assert_eq!(object["spec"]["ports"][0]["nodePort"], 30080);
    assert_eq!(object["spec"]["ipFamilies"], json!(["IPv4"]));

    let (object, errors) = update(
        "Service",
        old.clone(),
        over(old.clone(), json!({"spec": {"type": "ClusterIP"}})),
        Target::Main,
    );
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(
        object["spec"]["ports"][0]["nodePort"],
        Value::Null,
        "a change of type drops it"
    );
    assert_eq!(object["spec"]["externalTrafficPolicy"], Value::Null);

    let (object, errors) = update(
        "Service",
        old.clone(),
        over(
            old.clone(),
            json!({"spec": {"type": "ExternalName", "externalName": "a.b", "ports": null}}),
        ),
        Target::Main,
    );
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(object["spec"]["clusterIP"], Value::Null);

    let (_, errors) = update(
        "Service",
        old.clone(),
        over(old.clone(), json!({"spec": {"clusterIP": "10.0.0.2"}})),
        Target::Main,
    );
    assert_eq!(
        errors,
        ["spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set"]
    );
}

#[test]
fn the_status_of_a_balancer_is_checked() {
    let old = service(json!({"type": "LoadBalancer"}));
    let new = over(
        old.clone(),
        json!({"status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.5"}, {"hostname": "10.0.0.5"}]}}}),
    );
    let (object, errors) = update("Service", old, new, Target::Subresource(Subresource::Status));
    assert_eq!(object["status"]["loadBalancer"]["ingress"][0]["ipMode"], "VIP");
    assert_eq!(
        errors,
        [
            "status.loadBalancer.ingress[1].hostname: Invalid value: \"10.0.0.5\": must be a DNS name, not an IP address"
        ]
    );
}

#[test]
fn tables_show_services_and_endpoints() {
    let row = |spec: Value, status: Value| {
        cells(
            "Service",
            json!({"metadata": metadata("web"), "spec": spec, "status": status}),
        )[1..]
            .to_vec()
    };
    let cases = [
        (
            json!({"type": "ClusterIP", "clusterIPs": ["10.0.0.1"], "ports": [{"port": 80, "protocol": "TCP"}], "selector": {"a": "b", "c": "d"}}),
            json!({}),
            ["ClusterIP", "10.0.0.1", "<none>", "80/TCP", "5h", "a=b,c=d"],
        ),
        (
            json!({"type": "NodePort", "clusterIPs": ["10.0.0.1"], "externalIPs": ["1.2.3.4"], "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}, {"port": 53, "protocol": "UDP"}]}),
            json!({}),
            [
                "NodePort",
                "10.0.0.1",
                "1.2.3.4",
                "80:30080/TCP,53/UDP",
                "5h",
                "<none>",
            ],
        ),
        (
            json!({"type": "LoadBalancer", "clusterIPs": ["10.0.0.1"]}),
            json!({}),
            ["LoadBalancer", "10.0.0.1", "<pending>", "<none>", "5h", "<none>"],
        ),
        (
            json!({"type": "LoadBalancer", "clusterIPs": ["10.0.0.1"]}),
            json!({"loadBalancer": {"ingress": [{"ip": "5.6.7.8"}, {"hostname": "a.b"}]}}),
            [
                "LoadBalancer",
                "10.0.0.1",
                "5.6.7.8,a.b",
                "<none>",
                "5h",
                "<none>",
            ],
        ),
        (
            json!({"type": "ExternalName", "externalName": "a.b"}),
            json!({}),
            ["ExternalName", "<none>", "a.b", "<none>", "5h", "<none>"],
        ),
    ];
    for (spec, status, expected) in cases {
        assert_eq!(row(spec.clone(), status), expected, "{spec}");
    }
    let endpoints = json!({"metadata": metadata("web"), "subsets": [{
        "addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}],
        "ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "b"}],
    }]});
    assert_eq!(
        cells("Endpoints", endpoints)[1],
        "10.0.0.1:80,10.0.0.2:80,10.0.0.1:81 + 1 more..."
    );
    assert_eq!(
        cells("Endpoints", json!({"metadata": metadata("web")}))[1],
        "<none>"
    );
    let slice = json!({
        "metadata": metadata("web-x"),
        "addressType": "IPv4",
        "ports": [{"port": 80}, {"name": "any"}, {}],
        "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]}],
    });
    assert_eq!(
        cells("discovery.k8s.io/EndpointSlice", slice)[1..],
        ["IPv4", "80,any,*", "10.0.0.1,10.0.0.2", "5h"]
    );
    let empty = json!({"metadata": metadata("web-x"), "addressType": "IPv4"});
    assert_eq!(
        cells("discovery.k8s.io/EndpointSlice", empty)[2..4],
        ["<unset>", "<unset>"]
    );
}

#[test]
fn endpoint_slices_are_checked_and_counted() {
    let slice = |patch: Value| {
        over(
            json!({"metadata": metadata("web-x"), "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}]}),
            patch,
        )
    };
    let kind = "discovery.k8s.io/EndpointSlice";
    let cases = [
        (json!({"addressType": ""}), vec!["addressType: Required value"]),
        (
            json!({"endpoints": [{"addresses": []}]}),
            vec!["endpoints[0].addresses: Required value: must contain at least 1 address"],
        ),
        (
            json!({"endpoints": [{"addresses": ["::2"]}, {"addresses": ["0.0.0.0"]}]}),
            vec![
                "endpoints[0].addresses[0]: Invalid value: \"::2\": must be a valid IPv4 address",
                "endpoints[1].addresses[0]: Invalid value: \"0.0.0.0\": may not be unspecified (0.0.0.0)",
            ],
        ),
        (
            json!({"ports": [{"name": "a", "port": 1}, {"name": "a", "protocol": "X"}]}),
            vec![
                "ports[1].name: Duplicate value: \"a\"",
                "ports[1].protocol: Unsupported value: \"X\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
            ],
        ),
    ];
    for (patch, expected) in cases {
        assert_eq!(create_errors(kind, slice(patch.clone())), expected, "{patch}");
    }
    let old = slice(json!({"metadata": {"generation": 4}}));
    let (same, errors) = update(kind, old.clone(), old.clone(), Target::Main);
    assert_eq!(
        (same["metadata"]["generation"].as_i64(), errors.len()),
        (Some(4), 0)
    );
    let changed = over(old.clone(), json!({"endpoints": [], "addressType": "IPv6"}));
    let (new, errors) = update(kind, old, changed, Target::Main);
    assert_eq!(new["metadata"]["generation"], 5);
    assert_eq!(
        errors,
        ["addressType: Invalid value: \"IPv6\": field is immutable"]
    );
}

#[test]
fn writers_are_warned_of_what_is_ignored_or_written_unusually() {
    let cases: Vec<(Value, Vec<&str>)> = vec![
        (json!({}), vec![]),
        (json!({"clusterIP": "None"}), vec![]),
        (
            json!({"clusterIP": "None", "sessionAffinity": "ClientIP", "externalIPs": ["1.2.3.4"]}),
            vec![
                "spec.externalIPs is ignored for headless services",
                "spec.SessionAffinity is ignored for headless services",
            ],
        ),
        (
            json!({"externalIPs": ["2001:DB8::1", "::ffff:1.2.3.4", "2001:db8::1"]}),
            vec![
                "spec.externalIPs[0]: IPv6 address \"2001:DB8::1\" should be in RFC 5952 canonical format \
                 (\"2001:db8::1\")",
                "spec.externalIPs[1]: non-standard IP address \"::ffff:1.2.3.4\" will be considered invalid in a future \
                 Kubernetes release: use \"1.2.3.4\"",
                "spec.externalIPs is deprecated and may no longer be implemented in some clusters",
            ],
        ),
        (
            json!({"type": "ExternalName", "externalName": "a.b", "externalIPs": ["1.2.3.4"]}),
            vec!["spec.externalIPs is ignored when spec.type is \"ExternalName\""],
        ),
        (
            json!({"externalName": "a.b", "trafficDistribution": "PreferClose"}),
            vec![
                "spec.externalName is ignored when spec.type is not \"ExternalName\"",
                "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"",
            ],
        ),
    ];
    for (spec, wanted) in cases {
        let warnings =
            strategy("Service").warnings(defaulted("Service", service(spec.clone())).as_ref(), None);
        assert_eq!(warnings, wanted, "{spec}");
    }
    let hinted = over(
        service(json!({})),
        json!({"metadata": {"annotations": {"service.kubernetes.io/topology-aware-hints": "auto"}}}),
    );
    assert_eq!(
        strategy("Service").warnings(defaulted("Service", hinted).as_ref(), None),
        [
            "annotation service.kubernetes.io/topology-aware-hints is deprecated, please use \
             service.kubernetes.io/topology-mode instead"
        ]
    );
}

#[test]
fn the_topology_of_an_endpoint_is_no_longer_written() {
    let slice = |endpoint: Value| json!({"metadata": metadata("s"), "addressType": "IPv4", "ports": [], "endpoints": [endpoint]});
    let host = |name: &str| json!({"kubernetes.io/hostname": name});
    let new = |endpoint: Value| slice(over(json!({"addresses": ["10.0.0.1"]}), endpoint));
    let kind = "discovery.k8s.io/EndpointSlice";
    let made = json_of(created(kind, new(json!({"deprecatedTopology": host("a")}))).as_ref());
    assert_eq!(
        made["endpoints"][0],
        json!({"addresses": ["10.0.0.1"], "conditions": {}})
    );
    let old = new(json!({"deprecatedTopology": host("a")}));
    let moved = |name: &str| slice(json!({"addresses": ["10.0.0.2"], "deprecatedTopology": host(name)}));
    for (new, expected) in [
        (
            old.clone(),
            json!({"addresses": ["10.0.0.1"], "conditions": {}, "deprecatedTopology": host("a")}),
        ),
        (
            moved("a"),
            json!({"addresses": ["10.0.0.2"], "conditions": {}, "nodeName": "a"}),
        ),
        (moved("b"), json!({"addresses": ["10.0.0.2"], "conditions": {}})),
    ] {
        let (object, errors) = update(kind, old.clone(), new, Target::Main);
        assert_eq!((&object["endpoints"][0], errors), (&expected, vec![]));
    }
}

#[test]
fn writers_of_slices_and_network_policies_are_warned() {
    let warnings = |kind: &str, value: Value| {
        let object = created(kind, value);
        strategy(kind).warnings(object.as_ref(), None)
    };
    let six = "should be in RFC 5952 canonical format";
    let slice = |type_: &str, address: &str, controller: &str| {
        json!({"metadata": over(metadata("s"), json!({"labels": {"endpointslice.kubernetes.io/managed-by": controller}})),
            "addressType": type_, "endpoints": [{"addresses": [address]}], "ports": []})
    };
    let kind = "discovery.k8s.io/EndpointSlice";
    assert_eq!(
        warnings(kind, slice("FQDN", "a.b", "x")),
        ["spec.addressType: FQDN endpoints are deprecated"]
    );
    assert_eq!(
        warnings(kind, slice("IPv6", "FD00::1", "x")),
        [format!(
            "endpoints[0].addresses[0]: IPv6 address \"FD00::1\" {six} (\"fd00::1\")"
        )]
    );
    let ours = "endpointslice-controller.k8s.io";
    assert_eq!(
        warnings(kind, slice("IPv6", "FD00::1", ours)),
        Vec::<String>::new()
    );
    let policy = json!({"metadata": metadata("p"), "spec": {"podSelector": {}, "egress": [{"to": [
        {"ipBlock": {"cidr": "FD00::/8", "except": ["fd01:0::/16"]}}]}]}});
    assert_eq!(
        warnings("networking.k8s.io/NetworkPolicy", policy),
        [
            format!("spec.egress[0].to[0].ipBlock.cidr: IPv6 CIDR value \"FD00::/8\" {six} (\"fd00::/8\")"),
            format!(
                "spec.egress[0].to[0].ipBlock.except[0]: IPv6 CIDR value \"fd01:0::/16\" {six} (\"fd01::/16\")"
            ),
        ]
    );
}

#[test]
fn old_names_of_labels_and_zones_in_schedules_are_warned_of() {
    let zone = "failure-domain.beta.kubernetes.io/zone";
    let old = "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead";
    let class = json!({"metadata": {"name": "c"}, "provisioner": "p", "allowedTopologies": [
        {"matchLabelExpressions": [{"key": zone, "values": ["a"]}]}]});
    let capacity = json!({"metadata": metadata("c"), "storageClassName": "c", "nodeTopology": {
        "matchLabels": {zone: "a"}, "matchExpressions": [{"key": zone, "operator": "Exists"}]}});
    let runtime =
        json!({"metadata": {"name": "r"}, "handler": "h", "scheduling": {"nodeSelector": {zone: "a"}}});
    let cron = json!({"metadata": metadata("c"), "spec": {"schedule": "TZ=UTC * * * * *", "jobTemplate": {"spec": {
        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "b"}]}}}}}});
    for (kind, value, expected) in [
        (
            "storage.k8s.io/StorageClass",
            class,
            vec![format!(
                "allowedTopologies[0].matchLabelExpressions[0].key: {old}"
            )],
        ),
        (
            "storage.k8s.io/CSIStorageCapacity",
            capacity,
            vec![
                format!("nodeTopology.matchExpressions[0].key: {zone} is {old}"),
                format!("nodeTopology.matchLabels.{zone}: {old}"),
            ],
        ),
        (
            "node.k8s.io/RuntimeClass",
            runtime,
            vec![format!("scheduling.nodeSelector: {old}")],
        ),
        (
            "batch/CronJob",
            cron,
            vec![
                "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see \
                 https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
                    .to_string(),
            ],
        ),
    ] {
        let object = created(kind, value.clone());
        let before = created(kind, value);
        let warnings = strategy(kind).warnings(object.as_ref(), Some(before.as_ref()));
        assert_eq!(warnings, expected, "{kind}");
    }
}
