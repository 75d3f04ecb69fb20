//! What holds for every kind.

mod support;

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use skiff_api::catalogue::builtin;
use skiff_api::schema::{self, Definition, Merge, Type};

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
    for strategy in builtin()
        .iter()
        .filter(|strategy| strategy.conversion().is_none())
    {
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
        ("ReplicationController", "controllers"),
        ("PersistentVolumeClaim", "persistentvolumeclaims"),
        ("apps/StatefulSet", "statefulsets"),
        ("batch/CronJob", "cronjobs"),
        ("policy/PodDisruptionBudget", "poddisruptionbudgets"),
        ("storage.k8s.io/CSIStorageCapacity", "csistoragecapacities"),
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

#[test]
fn nulls_in_maps_and_lists_are_empty_values() {
    let text = r#"{"metadata":{"name":"a","labels":{"a":null},"finalizers":[null],"annotations":null},
        "data":{"x":null},"binaryData":{"y":null}}"#;
    let object = strategy("ConfigMap").decode(text.as_bytes()).unwrap();
    let value = json_of(object.as_ref());
    assert_eq!(value["metadata"]["labels"], json!({"a": ""}));
    assert_eq!(value["metadata"]["finalizers"], json!([""]));
    assert_eq!(
        (&value["data"], &value["binaryData"]),
        (&json!({"x": ""}), &json!({"y": ""}))
    );
    let pod = strategy("Pod")
        .decode(br#"{"spec":{"containers":[null,{"name":"a","resources":{"limits":{"cpu":null}}}]}}"#);
    let value = json_of(pod.unwrap().as_ref());
    assert_eq!(
        value["spec"]["containers"][0],
        json!({"name": "", "resources": {}})
    );
    assert_eq!(value["spec"]["containers"][1]["resources"]["limits"]["cpu"], "0");
    assert!(
        strategy("Pod")
            .decode(br#"{"spec":{"containers":"none"}}"#)
            .is_err()
    );
}

/// Values of the right and, now and then, of a wrong type, made from a stream of numbers.
struct Maker(u64);

impl Maker {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn object(&mut self, definition: &Definition, depth: u32) -> Value {
        let mut fields = Map::new();
        for field in definition.fields {
            let wanted = depth < 8 && self.below(12) < 2;
            if wanted && !matches!(field.name, "apiVersion" | "kind") {
                fields.insert(field.name.into(), self.value(field.type_, depth + 1));
            }
        }
        Value::Object(fields)
    }

    fn value(&mut self, type_: Type, depth: u32) -> Value {
        match self.below(60) {
            0 => return json!("text"),
            1 => return json!(7),
            2 => return json!(1.5),
            3 => return json!(true),
            4 => return json!([]),
            5 => return json!({}),
            6 => return json!(5_000_000_000_i64),
            7 => return Value::Null,
            _ => {}
        }
        match type_ {
            Type::String => json!("x"),
            Type::Bytes => json!("YQ=="),
            Type::Integer | Type::Long => json!(self.below(100)),
            Type::Number => json!(0.5),
            Type::Boolean => json!(self.below(2) == 0),
            Type::Time => json!("2025-01-01T00:00:00Z"),
            Type::MicroTime => json!("2025-01-01T00:00:00.000000Z"),
            Type::Quantity => json!("1Gi"),
            Type::IntOrString => json!("25%"),
            Type::Any => json!({"any": [1]}),
            Type::Object(id) => self.object(id.get(), depth),
            Type::List(item) => (0..self.below(3)).map(|_| self.value(*item, depth)).collect(),
            Type::Map(of) => {
                let keys = (0..self.below(3)).map(|n| format!("k{n}"));
                Value::Object(keys.map(|key| (key, self.value(*of, depth))).collect())
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_the_check_lets_pass_can_be_decoded(seed in any::<u64>()) {
        let mut maker = Maker(seed);
        for strategy in builtin().iter() {
            let info = strategy.info();
            let definition = schema::of_kind(&info.group, &info.version, &info.kind).unwrap();
            let text = maker.object(definition, 0).to_string();
            let found = schema::check(definition, text.as_bytes()).unwrap();
            prop_assert_eq!(&found.unknown, &Vec::<String>::new(), "{}", &text);
            if found.wrong_type.is_none() {
                let mut object = match strategy.decode(text.as_bytes()) {
                    Ok(object) => object,
                    // Members that are a schema or something else have no type that the check could know.
                    Err(error) if error.to_string().contains("expected JSONSchemaPropsOr") => continue,
                    Err(error) => return Err(TestCaseError::fail(format!("{}: {error}\n{text}", info.kind))),
                };
                // Whatever is decoded, no rule and no table trips over it.
                strategy.default(object.as_mut());
                strategy.prepare_for_create(object.as_mut());
                let mut errors = skiff_api::Errors::new();
                strategy.validate(object.as_ref(), &mut errors);
                let old = object.clone_object();
                strategy.prepare_for_update(object.as_mut(), old.as_ref(), skiff_api::Target::Main);
                strategy.validate_update(object.as_ref(), old.as_ref(), skiff_api::Target::Main, &mut errors);
                let cells = strategy.cells(object.as_ref(), "2025-01-01T00:00:00Z".parse().unwrap());
                prop_assert!(cells.len() >= info.columns.len(), "{}", info.kind);
            }
        }
    }
}
