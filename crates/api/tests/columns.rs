//! The tables of all kinds, as upstream's printers define them (`pkg/printers/internalversion`).

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

mod support;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use skiff_api::catalogue::builtin;
use support::{cells, over, strategy};

/// A kind a line, and its columns: the type behind a colon where it is not `string`, `/name` for that format, `*` for
/// those that only `-o wide` shows.
const COLUMNS: &str = "\
MutatingAdmissionPolicy.admissionregistration.k8s.io: Name/name, Mutations:integer, ParamKind, Age
MutatingAdmissionPolicyBinding.admissionregistration.k8s.io: Name/name, PolicyName, ParamRef, Age
MutatingWebhookConfiguration.admissionregistration.k8s.io: Name/name, Webhooks:integer, Age
ValidatingAdmissionPolicy.admissionregistration.k8s.io: Name/name, Validations:integer, ParamKind, Age
ValidatingAdmissionPolicyBinding.admissionregistration.k8s.io: Name/name, PolicyName, ParamRef, Age
ValidatingWebhookConfiguration.admissionregistration.k8s.io: Name/name, Webhooks:integer, Age
CustomResourceDefinition.apiextensions.k8s.io: Name/name, Created At:date
APIService.apiregistration.k8s.io: Name/name, Service, Available, Age
ControllerRevision.apps: Name/name, Controller, Revision, Age
DaemonSet.apps: Name/name, Desired:integer, Current:integer, Ready:integer, Up-to-date:integer, Available:integer, Node Selector, Age, Containers*, Images*, Selector*
Deployment.apps: Name/name, Ready, Up-to-date, Available, Age, Containers*, Images*, Selector*
ReplicaSet.apps: Name/name, Desired:integer, Current:integer, Ready:integer, Age, Containers*, Images*, Selector*
StatefulSet.apps: Name/name, Ready, Age, Containers*, Images*
HorizontalPodAutoscaler.autoscaling: Name/name, Reference, Targets, MinPods, MaxPods, Replicas, Age
CronJob.batch: Name/name, Schedule, Timezone, Suspend:boolean, Active:integer, Last Schedule, Age, Containers*, Images*, Selector*
Job.batch: Name/name, Status, Completions, Duration, Age, Containers*, Images*, Selector*
CertificateSigningRequest.certificates.k8s.io: Name/name, Age, SignerName, Requestor, RequestedDuration, Condition
ClusterTrustBundle.certificates.k8s.io: Name/name, SignerName
PodCertificateRequest.certificates.k8s.io: Name/name, PodName, ServiceAccountName, NodeName, SignerName, State, UnverifiedUserAnnotations
Lease.coordination.k8s.io: Name/name, Holder, Age
ConfigMap: Name/name, Data, Age
Endpoints: Name/name, Endpoints, Age
Event: Last Seen, Type, Reason, Object, Subobject*, Source*, Message, First Seen*, Count*, Name/name*
LimitRange: Name/name, Created At:date
Namespace: Name/name, Status, Age
Node: Name/name, Status, Roles, Age, Version, Internal-IP*, External-IP*, OS-Image*, Kernel-Version*, Container-Runtime*
PersistentVolume: Name/name, Capacity, Access Modes, Reclaim Policy, Status, Claim, StorageClass, VolumeAttributesClass, Reason, Age, VolumeMode*
PersistentVolumeClaim: Name/name, Status, Volume, Capacity, Access Modes, StorageClass, VolumeAttributesClass, Age, VolumeMode*
Pod: Name/name, Ready, Status, Restarts, Age, IP*, Node*, Nominated Node*, Readiness Gates*
PodTemplate: Name/name, Containers, Images, Pod Labels
ReplicationController: Name/name, Desired:integer, Current:integer, Ready:integer, Age, Containers*, Images*, Selector*
ResourceQuota: Name/name, Request, Limit, Age
Secret: Name/name, Type, Data, Age
Service: Name/name, Type, Cluster-IP, External-IP, Port(s), Age, Selector*
ServiceAccount: Name/name, Age
EndpointSlice.discovery.k8s.io: Name/name, AddressType, Ports, Endpoints, Age
Event.events.k8s.io: Last Seen, Type, Reason, Object, Subobject*, Source*, Message, First Seen*, Count*, Name/name*
FlowSchema.flowcontrol.apiserver.k8s.io: Name/name, PriorityLevel, MatchingPrecedence, DistinguisherMethod, Age, MissingPL
PriorityLevelConfiguration.flowcontrol.apiserver.k8s.io: Name/name, Type, NominalConcurrencyShares, Queues, HandSize, QueueLengthLimit, Age
IPAddress.networking.k8s.io: Name/name, ParentRef
Ingress.networking.k8s.io: Name/name, Class, Hosts, Address, Ports, Age
IngressClass.networking.k8s.io: Name/name, Controller, Parameters, Age
NetworkPolicy.networking.k8s.io: Name/name, Pod-Selector, Age
ServiceCIDR.networking.k8s.io: Name/name, CIDRs, Age
RuntimeClass.node.k8s.io: Name/name, Handler, Age
PodDisruptionBudget.policy: Name/name, Min Available, Max Unavailable, Allowed Disruptions:integer, Age
ClusterRole.rbac.authorization.k8s.io: Name/name, Created At:date
ClusterRoleBinding.rbac.authorization.k8s.io: Name/name, Role, Age, Users*, Groups*, ServiceAccounts*
Role.rbac.authorization.k8s.io: Name/name, Created At:date
RoleBinding.rbac.authorization.k8s.io: Name/name, Role, Age, Users*, Groups*, ServiceAccounts*
DeviceClass.resource.k8s.io: Name/name, Age
DeviceTaintRule.resource.k8s.io: Name/name, Key, Value, Effect, TimeAdded, Age
ResourceClaim.resource.k8s.io: Name/name, State, Age
ResourceClaimTemplate.resource.k8s.io: Name/name, Age
ResourceSlice.resource.k8s.io: Name/name, Node, Driver, Pool, Age
PriorityClass.scheduling.k8s.io: Name/name, Value:integer, Global-Default:boolean, Age, PreemptionPolicy
CSIDriver.storage.k8s.io: Name/name, AttachRequired:boolean, PodInfoOnMount:boolean, StorageCapacity:boolean, TokenRequests, RequiresRepublish:boolean, Modes, Age
CSINode.storage.k8s.io: Name/name, Drivers:integer, Age
CSIStorageCapacity.storage.k8s.io: Name/name, StorageClassName, Capacity
StorageClass.storage.k8s.io: Name/name, Provisioner, ReclaimPolicy, VolumeBindingMode, AllowVolumeExpansion, Age
VolumeAttachment.storage.k8s.io: Name/name, Attacher/name, PV, Node, Attached:boolean, Age
VolumeAttributesClass.storage.k8s.io: Name/name, DriverName, Age
StorageVersionMigration.storagemigration.k8s.io: Name, Resource, Status
ComponentStatus: Name/name, Status, Message, Error
";

#[test]
fn every_kind_has_the_columns_of_upstreams_printers() {
    let expected: BTreeMap<&str, &str> = COLUMNS
        .lines()
        .map(|line| line.split_once(": ").unwrap())
        .collect();
    let catalogue = builtin();
    for info in catalogue.infos() {
        let is_never_listed = [
            "Review",
            "Eviction",
            "Binding",
            "TokenRequest",
            "Scale",
            "DeleteOptions",
        ]
        .iter()
        .any(|end| info.kind.ends_with(end));
        if is_never_listed && !info.group.starts_with("rbac") {
            continue;
        }
        let shown: Vec<String> = info
            .columns
            .iter()
            .map(|column| {
                let type_ = match column.type_ {
                    "string" => String::new(),
                    other => format!(":{other}"),
                };
                let format = match column.format {
                    "" => String::new(),
                    other => format!("/{other}"),
                };
                let wide = if column.priority > 0 { "*" } else { "" };
                format!("{}{type_}{format}{wide}", column.name)
            })
            .collect();
        let kind = info.group_kind();
        assert_eq!(
            shown.join(", "),
            *expected.get(kind.as_str()).unwrap_or(&""),
            "{kind}"
        );
        for column in &info.columns {
            // Upstream looks the handler's up among the fields of the metadata, which have none of that name.
            let is_described = !column.description.is_empty();
            assert_eq!(is_described, column.name != "Handler", "{kind} {}", column.name);
        }
    }
}

#[test]
fn columns_that_show_a_field_say_what_the_documents_say_of_it() {
    let description = |kind: &str, name: &str| -> String {
        let strategy = strategy(kind);
        let column = strategy.info().columns.iter().find(|column| column.name == name);
        column.unwrap().description.to_string()
    };
    let documented = |definition: &str, field: &str| -> Value {
        let schema = skiff_api::schema::openapi_schema(definition).unwrap();
        schema["properties"][field]["description"].clone()
    };
    let cases = [
        ("Pod", "IP", "io.k8s.api.core.v1.PodStatus", "podIP"),
        (
            "Pod",
            "Name",
            "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
            "name",
        ),
        (
            "apps/DaemonSet",
            "Selector",
            "io.k8s.api.apps.v1.DaemonSetSpec",
            "selector",
        ),
        ("batch/Job", "Selector", "io.k8s.api.batch.v1.JobSpec", "selector"),
        (
            "Role",
            "Created At",
            "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
            "creationTimestamp",
        ),
    ];
    for (kind, name, definition, field) in cases {
        let kind = if kind == "Role" {
            "rbac.authorization.k8s.io/Role"
        } else {
            kind
        };
        let shown = description(kind, name);
        assert!(shown.len() > 20, "{shown}");
        assert_eq!(documented(definition, field), json!(shown), "{kind} {name}");
    }
    // In the words of earlier versions of the API.
    let csr = "certificates.k8s.io/CertificateSigningRequest";
    assert_eq!(description(csr, "Requestor"), "Base64-encoded PKCS#10 CSR data");
    assert!(
        description("rbac.authorization.k8s.io/ClusterRoleBinding", "Role").starts_with("RoleRef can only")
    );
}

#[test]
fn cells_are_upstreams() {
    let meta = || json!({"name": "x", "creationTimestamp": "2024-12-31T21:00:00Z"});
    let info = json!({"machineID": "", "systemUUID": "", "bootID": "", "kernelVersion": "6.1", "osImage": "",
        "containerRuntimeVersion": "", "kubeletVersion": "v1.37.0", "kubeProxyVersion": "",
        "operatingSystem": "linux", "architecture": "arm64"});
    let claim = |class: Value| json!({"metadata": meta(), "spec": {"accessModes": ["ReadWriteOnce"], "volumeAttributesClassName": class}});
    let taint = json!({"metadata": meta(), "spec": {"taint": {"key": "a.io/k", "value": "v", "effect": "NoExecute",
        "timeAdded": "2025-01-01T01:00:00Z"}}});
    let request = |conditions: Value| {
        json!({"metadata": meta(), "spec": {"podName": "p", "podUID": "1", "serviceAccountName": "s",
            "serviceAccountUID": "2", "nodeName": "n", "nodeUID": "3", "signerName": "a.io/s",
            "stubPKCS10Request": "", "unverifiedUserAnnotations": {"a.io/b": "c"}}, "status": {"conditions": conditions}})
    };
    let condition = |type_: &str, status: &str| json!({"type": type_, "status": status, "reason": "R", "message": "", "lastTransitionTime": "2025-01-01T00:00:00Z"});
    let migration = |conditions: Value| {
        json!({"metadata": meta(), "spec": {"resource": {"group": "x.io", "resource": "ys"}},
            "status": {"conditions": conditions}})
    };
    let binding =
        |reference: Value| json!({"metadata": meta(), "spec": {"policyName": "p", "paramRef": reference}});
    let autoscaler = |metric: Value, current: Value| {
        json!({"metadata": meta(), "spec": {"maxReplicas": 3, "metrics": [metric],
            "scaleTargetRef": {"kind": "Deployment", "name": "web"}}, "status": {"currentMetrics": [current]}})
    };
    let named = |target: Value| json!({"type": "Pods", "pods": {"metric": {"name": "m"}, "target": target}});
    let resource = |target: Value| json!({"type": "Resource", "resource": {"name": "cpu", "target": target}});
    let hpa = "autoscaling/HorizontalPodAutoscaler";
    let policy = "admissionregistration.k8s.io/ValidatingAdmissionPolicyBinding";
    let svm = "storagemigration.k8s.io/StorageVersionMigration";
    let pcr = "certificates.k8s.io/PodCertificateRequest";
    let cases: Vec<(&str, Value, usize, &str)> = vec![
        (
            "Node",
            json!({"metadata": meta(), "status": {"nodeInfo": info}}),
            8,
            "6.1 (arm64)",
        ),
        (
            "Node",
            json!({"metadata": meta(), "status": {"nodeInfo": over(info.clone(), json!({"kernelVersion": ""}))}}),
            8,
            "<unknown> (arm64)",
        ),
        ("PersistentVolumeClaim", claim(Value::Null), 6, "<unset>"),
        ("PersistentVolumeClaim", claim(json!("")), 6, ""),
        ("resource.k8s.io/DeviceTaintRule", taint.clone(), 1, "a.io/k"),
        ("resource.k8s.io/DeviceTaintRule", taint.clone(), 4, "60m"),
        ("resource.k8s.io/DeviceTaintRule", taint, 5, "5h"),
        (pcr, request(json!([])), 5, "Pending"),
        (pcr, request(json!([condition("Denied", "True")])), 5, "Denied"),
        (pcr, request(json!([])), 6, "a.io/b=c"),
        (svm, migration(json!([])), 2, "Unknown"),
        (
            svm,
            migration(json!([
                condition("Running", "True"),
                condition("Succeeded", "True")
            ])),
            2,
            "Succeeded",
        ),
        (
            svm,
            migration(json!([
                condition("Running", "True"),
                condition("Failed", "False")
            ])),
            2,
            "Running",
        ),
        (policy, binding(Value::Null), 2, "<unset>"),
        (policy, binding(json!({"name": "n"})), 2, "*/n"),
        (policy, binding(json!({"name": "n", "namespace": "s"})), 2, "s/n"),
        (
            policy,
            binding(json!({"selector": {"matchLabels": {"b": "2", "a": "1"},
            "matchExpressions": [{"key": "k", "operator": "In", "values": ["x", "y"]}]}})),
            2,
            "&LabelSelector{MatchLabels:map[string]string{a: 1,b: 2,},MatchExpressions:[]LabelSelectorRequirement\
             {LabelSelectorRequirement{Key:k,Operator:In,Values:[x y],},},}",
        ),
        (
            hpa,
            autoscaler(
                named(json!({"type": "AverageValue", "averageValue": "5"})),
                json!({"type": "Pods", "pods": {"metric": {"name": "m"}, "current": {}}}),
            ),
            2,
            "<nil>/5",
        ),
        (
            hpa,
            autoscaler(
                named(json!({"type": "AverageValue", "averageValue": "5"})),
                json!({"type": "Pods"}),
            ),
            2,
            "<unknown>/5",
        ),
        (
            hpa,
            autoscaler(
                resource(json!({"type": "AverageValue", "averageValue": "5"})),
                json!({"type": "Resource", "resource": {"name": "cpu", "current": {}}}),
            ),
            2,
            "cpu: <nil>/5",
        ),
        (
            "networking.k8s.io/IngressClass",
            json!({"metadata": over(meta(), json!({"annotations":
            {"ingressclass.kubernetes.io/is-default-class": "true"}})), "spec": {"controller": "a.io/c"}}),
            0,
            "x (default)",
        ),
        (
            "apps/Deployment",
            json!({"metadata": meta(), "spec": {"selector": {"matchLabels": {"a": "b"}},
            "template": {}}}),
            7,
            "a=b",
        ),
        (
            "apps/Deployment",
            json!({"metadata": meta(), "spec": {"selector": {}, "template": {}}}),
            7,
            "",
        ),
        (
            "LimitRange",
            json!({"metadata": meta()}),
            1,
            "2024-12-31T21:00:00Z",
        ),
    ];
    for (kind, value, place, expected) in cases {
        assert_eq!(cells(kind, value.clone())[place], expected, "{kind} {value}");
    }
}

#[test]
fn an_address_has_its_age_behind_the_last_column() {
    let kind = strategy("networking.k8s.io/IPAddress");
    let address = json!({"metadata": {"name": "10.0.0.1", "creationTimestamp": "2024-12-31T21:00:00Z"},
        "spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "web"}}});
    let object = kind.decode_value(address).unwrap();
    let cells = kind.cells(object.as_ref(), "2025-01-01T02:00:00Z".parse().unwrap());
    assert_eq!(json!(cells), json!(["10.0.0.1", "services/default/web", "5h"]));
}

/// The first two cells of a list's rows.
fn rows(kind: &str, objects: &[Value]) -> Vec<(usize, Value)> {
    let kind = strategy(kind);
    let mut objects = objects
        .iter()
        .map(|object| kind.decode_value(object.clone()).unwrap());
    let now = "2025-01-01T02:00:00Z".parse().unwrap();
    let rows = kind.list_rows(&mut objects, now).unwrap();
    rows.into_iter()
        .map(|(place, cells)| (place, cells[0].clone()))
        .collect()
}

#[test]
fn of_several_default_classes_a_list_marks_the_one_that_claims_get() {
    let class = |name: &str, minute: u32, default: bool| {
        let created = format!("2025-01-01T00:{minute:02}:00Z");
        let annotations = if default {
            json!({"storageclass.kubernetes.io/is-default-class": "true"})
        } else {
            json!({})
        };
        json!({"metadata": {"name": name, "creationTimestamp": created, "annotations": annotations}, "provisioner": "p"})
    };
    let cases = [
        (
            vec![class("a", 1, true), class("b", 2, true), class("c", 3, false)],
            ["a", "b (default)", "c"],
        ),
        (
            vec![class("a", 2, true), class("b", 2, true), class("c", 1, true)],
            ["a (default)", "b", "c"],
        ),
        (
            vec![class("a", 1, false), class("b", 2, false), class("c", 3, false)],
            ["a", "b", "c"],
        ),
    ];
    let kind = "storage.k8s.io/StorageClass";
    for (classes, expected) in cases {
        let shown = rows(kind, &classes);
        let expected: Vec<(usize, Value)> = expected.iter().map(|name| json!(name)).enumerate().collect();
        assert_eq!(shown, expected);
        // Alone, a class does not know whether it is the one.
        assert!(!cells(kind, classes[1].clone())[0].contains("default"));
    }
}

#[test]
fn a_list_of_flow_schemas_is_in_the_order_in_which_they_are_asked() {
    let schema = |name: &str, precedence: i32| {
        json!({"metadata": {"name": name}, "spec": {"matchingPrecedence": precedence,
            "priorityLevelConfiguration": {"name": "p"}}})
    };
    let shown = rows(
        "flowcontrol.apiserver.k8s.io/FlowSchema",
        &[schema("a", 900), schema("c", 5), schema("b", 5)],
    );
    assert_eq!(shown, [(2, json!("b")), (1, json!("c")), (0, json!("a"))]);
}

#[test]
fn the_row_of_a_pod_that_has_ended_says_so() {
    let kind = strategy("Pod");
    for (phase, expected) in [
        ("Running", json!([])),
        (
            "Succeeded",
            json!([{"type": "Completed", "status": "True", "reason": "Succeeded",
            "message": "The pod has completed successfully."}]),
        ),
        (
            "Failed",
            json!([{"type": "Completed", "status": "True", "reason": "Failed", "message": "The pod failed."}]),
        ),
    ] {
        let pod = kind
            .decode_value(json!({"metadata": {"name": "p"}, "status": {"phase": phase}}))
            .unwrap();
        assert_eq!(json!(kind.row_conditions(pod.as_ref())), expected);
    }
}
