//! What holds for every kind.

mod support;

use serde_json::{Value, json};
use skiff_api::catalogue::builtin;
use skiff_api::schema::{self, Merge, Type};

use support::{json_of, strategy};

#[test]
fn every_kind_has_a_definition_and_a_document() {
    for strategy in builtin().iter() {
        let info = strategy.info();
        let definition = schema::of_kind(&info.group, &info.version, &info.kind)
            .unwrap_or_else(|| panic!("{} has no definition", info.kind));
        assert!(definition.field("metadata").is_some(), "{}", info.kind);
        let document = schema::openapi_schema(definition.name).unwrap();
        assert_eq!(
            document["x-kubernetes-group-version-kind"],
            json!([{"group": info.group, "version": info.version, "kind": info.kind}]),
        );
        let list = schema::of_kind(&info.group, &info.version, &format!("{}List", info.kind)).unwrap();
        assert!(
            matches!(list.field("items").unwrap().type_, Type::List(_)),
            "{}",
            list.name
        );
    }
}

#[test]
fn every_reference_of_a_document_leads_somewhere() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                if let Some(target) = map.get("$ref").and_then(Value::as_str) {
                    found.push(target.strip_prefix("#/components/schemas/").unwrap().to_string());
                }
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    for name in schema::openapi_names() {
        let mut found = Vec::new();
        references(&schema::openapi_schema(name).unwrap(), &mut found);
        for target in found {
            assert!(
                schema::openapi_schema(&target).is_some(),
                "{name} refers to {target}"
            );
        }
    }
}

#[test]
fn a_defaulted_object_comes_back_the_same() {
    for strategy in builtin().iter() {
        let kind = &strategy.info().kind;
        let value = json!({"metadata": {"name": "a", "namespace": "b"}});
        let mut object = strategy.decode_value(value).unwrap();
        strategy.default(object.as_mut());
        let once = json_of(object.as_ref());
        strategy.default(object.as_mut());
        assert_eq!(json_of(object.as_ref()), once, "{kind}: defaults are idempotent");
        let back = strategy.decode_value(once.clone()).unwrap();
        assert_eq!(json_of(back.as_ref()), once, "{kind}: nothing is lost");
        let definition = schema::of_kind(
            &strategy.info().group,
            &strategy.info().version,
            &strategy.info().kind,
        );
        let found = schema::check(definition.unwrap(), once.to_string().as_bytes()).unwrap();
        assert_eq!(
            found,
            schema::Findings::default(),
            "{kind}: what is written is known"
        );
        for field in strategy.info().selectable_fields {
            assert!(
                strategy.field(object.as_ref(), field).is_some(),
                "{kind}: {field}"
            );
        }
        assert_eq!(strategy.field(object.as_ref(), "spec.nonsense"), None);
    }
}

#[test]
fn the_store_keeps_kinds_where_upstream_does() {
    let cases = [
        ("Pod", "pods"),
        ("Node", "minions"),
        ("Service", "services/specs"),
        ("Endpoints", "services/endpoints"),
        ("Namespace", "namespaces"),
        ("ServiceAccount", "serviceaccounts"),
        ("Secret", "secrets"),
        ("ConfigMap", "configmaps"),
        ("Event", "events"),
        ("coordination.k8s.io/Lease", "leases"),
        ("apps/ReplicaSet", "replicasets"),
        ("apps/Deployment", "deployments"),
        ("discovery.k8s.io/EndpointSlice", "endpointslices"),
    ];
    for (kind, prefix) in cases {
        assert_eq!(strategy(kind).info().store_prefix, prefix, "{kind}");
    }
}

#[test]
fn lists_merge_as_upstream_says() {
    let key = |patch_key, keys| Merge::Map { patch_key, keys };
    let cases = [
        ("io.k8s.api.core.v1.PodSpec", "containers", key("name", &["name"])),
        ("io.k8s.api.core.v1.PodSpec", "tolerations", Merge::Atomic),
        ("io.k8s.api.core.v1.PodSpec", "nodeSelector", Merge::Atomic),
        ("io.k8s.api.core.v1.PodSpec", "securityContext", Merge::None),
        (
            "io.k8s.api.core.v1.Container",
            "ports",
            key("containerPort", &["containerPort", "protocol"]),
        ),
        ("io.k8s.api.core.v1.PodStatus", "hostIPs", key("ip", &[])),
        (
            "io.k8s.api.core.v1.ResourceRequirements",
            "claims",
            key("", &["name"]),
        ),
        ("io.k8s.api.apps.v1.DeploymentSpec", "strategy", Merge::RetainKeys),
        ("io.k8s.api.apps.v1.DeploymentSpec", "selector", Merge::Atomic),
        (
            "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
            "finalizers",
            Merge::Set,
        ),
        (
            "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
            "labels",
            Merge::None,
        ),
        ("io.k8s.api.discovery.v1.Endpoint", "addresses", Merge::ApplySet),
    ];
    for (definition, field, merge) in cases {
        let found = schema::definition(definition).unwrap().field(field).unwrap();
        assert_eq!(found.merge, merge, "{definition} {field}");
    }
}

#[test]
fn documents_tell_clients_how_to_patch() {
    let pod = schema::openapi_schema("io.k8s.api.core.v1.PodSpec").unwrap();
    let volumes = &pod["properties"]["volumes"];
    assert_eq!(volumes["x-kubernetes-patch-strategy"], "merge,retainKeys");
    assert_eq!(volumes["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(volumes["x-kubernetes-list-type"], "map");
    assert_eq!(volumes["x-kubernetes-list-map-keys"], json!(["name"]));
    assert!(
        volumes["description"]
            .as_str()
            .unwrap()
            .starts_with("List of volumes")
    );
    assert_eq!(
        pod["properties"]["affinity"]["allOf"],
        json!([{"$ref": "#/components/schemas/io.k8s.api.core.v1.Affinity"}])
    );
    let selector = schema::openapi_schema("io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector").unwrap();
    assert_eq!(selector["x-kubernetes-map-type"], "atomic");
    let quantity = schema::openapi_schema("io.k8s.apimachinery.pkg.api.resource.Quantity").unwrap();
    assert_eq!(quantity["oneOf"], json!([{"type": "string"}, {"type": "number"}]));
    assert_eq!(schema::openapi_schema("io.k8s.nothing"), None);
}
