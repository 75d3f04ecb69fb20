//! LimitRanger: what a container gets that does not say what it needs, and how much or how little one, a pod or a claim
//! may ask for.

use std::collections::BTreeMap;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{
    Container, LimitRange, LimitRangeItem, PersistentVolumeClaim, Pod, ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use skiff_api::pod::{self, Side};
use skiff_api::quantity::Quantity;
use skiff_api::{Object, Subresource};

use super::{Plugin, shown_name};
use crate::error::{ApiError, ApiResult};
use crate::objects::all_shared;
use crate::registry::{AdmissionRequest, Operation, Registry};

/// Says what was filled in.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

type Amounts = BTreeMap<String, Text>;

pub(super) struct LimitRanger;

#[async_trait]
impl Plugin for LimitRanger {
    async fn admit(
        &self,
        request: &AdmissionRequest<'_>,
        object: &mut dyn Object,
        registry: &Registry,
    ) -> ApiResult<()> {
        if concerns(request)
            && let Some(pod) = object.as_any_mut().downcast_mut::<Pod>()
        {
            for range in all_shared::<LimitRange>(registry, request.namespace) {
                fill(pod, &range);
            }
        }
        Ok(())
    }

    async fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        object: &dyn Object,
        registry: &Registry,
    ) -> ApiResult<()> {
        if !concerns(request) {
            return Ok(());
        }
        for range in all_shared::<LimitRange>(registry, request.namespace) {
            let wrong = violations(&range, object);
            if !wrong.is_empty() {
                let shown = shown_name(request, object.metadata());
                return Err(ApiError::forbidden(request.info, &shown, &aggregate(wrong)));
            }
        }
        Ok(())
    }
}

/// Pods when they are created or resized, claims when they are created or changed; nothing that is being deleted.
fn concerns(request: &AdmissionRequest<'_>) -> bool {
    let kind = request.info.group.is_empty();
    let concerned = match (request.info.kind.as_ref(), request.subresource) {
        ("Pod", None) => request.operation == Operation::Create,
        ("Pod", Some(Subresource::Resize)) => true,
        ("PersistentVolumeClaim", None) => true,
        _ => false,
    };
    let is_going = |old: &dyn Object| old.metadata().deletion_timestamp.is_some();
    kind && concerned && !request.old.is_some_and(is_going)
}

/// Errors as upstream's aggregate shows them: each once, in brackets when there are several.
fn aggregate(errors: Vec<String>) -> String {
    let mut once: Vec<String> = Vec::new();
    for error in errors {
        if !once.contains(&error) {
            once.push(error);
        }
    }
    match once.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

fn items(range: &LimitRange) -> impl Iterator<Item = &LimitRangeItem> {
    range.spec.iter().flat_map(|spec| &spec.limits)
}

/// Gives containers the amounts that the range has for those that name none.
fn fill(pod: &mut Pod, range: &LimitRange) {
    let (mut requests, mut limits) = (Amounts::new(), Amounts::new());
    for item in items(range).filter(|item| item.type_ == "Container") {
        requests.extend(item.default_request.clone().unwrap_or_default());
        limits.extend(item.default.clone().unwrap_or_default());
    }
    let Some(spec) = &mut pod.spec else { return };
    let mut said = Vec::new();
    for container in &mut spec.containers {
        fill_container(container, &requests, &limits, "container", &mut said);
    }
    for container in spec.init_containers.iter_mut().flatten() {
        fill_container(container, &requests, &limits, "init container", &mut said);
    }
    if !said.is_empty() {
        let text = format!("LimitRanger plugin set: {}", said.join("; "));
        let annotations = pod.metadata.annotations.get_or_insert_default();
        annotations.insert(ANNOTATION.into(), text);
    }
}

fn fill_container(
    container: &mut Container,
    requests: &Amounts,
    limits: &Amounts,
    what: &str,
    said: &mut Vec<String>,
) {
    if requests.is_empty() && limits.is_empty() {
        return;
    }
    let resources = container.resources.get_or_insert_default();
    let ResourceRequirements {
        requests: own_requests,
        limits: own_limits,
        ..
    } = resources;
    for (own, amounts, side) in [(own_requests, requests, "request"), (own_limits, limits, "limit")] {
        let names = fill_side(own, amounts);
        if !names.is_empty() {
            said.push(format!(
                "{} {side} for {what} {}",
                names.join(", "),
                container.name
            ));
        }
    }
}

fn fill_side<'a>(own: &mut Option<Amounts>, amounts: &'a Amounts) -> Vec<&'a str> {
    let mut names = Vec::new();
    for (name, amount) in amounts {
        let own = own.get_or_insert_default();
        if !own.contains_key(name) {
            own.insert(name.clone(), amount.clone());
            names.push(name.as_str());
        }
    }
    names
}

/// What an object asks for beyond what the range allows.
fn violations(range: &LimitRange, object: &dyn Object) -> Vec<String> {
    let mut wrong = Vec::new();
    if let Some(pod) = object.as_any().downcast_ref::<Pod>() {
        for item in items(range) {
            match item.type_.as_str() {
                "Container" => {
                    let spec = pod.spec.as_ref();
                    let containers = spec.iter().flat_map(|spec| &spec.containers);
                    let starting = spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
                    for container in containers.chain(starting) {
                        let resources = container.resources.clone().unwrap_or_default();
                        let asked = Asked {
                            requests: amounts(resources.requests.as_ref()),
                            limits: amounts(resources.limits.as_ref()),
                        };
                        asked.check(item, &mut wrong);
                    }
                }
                "Pod" => Asked::of_pod(pod).check(item, &mut wrong),
                _ => {}
            }
        }
    } else if let Some(claim) = object.as_any().downcast_ref::<PersistentVolumeClaim>() {
        let requests = claim
            .spec
            .as_ref()
            .and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
        let asked = Asked {
            requests: amounts(requests),
            limits: BTreeMap::new(),
        };
        for item in items(range).filter(|item| item.type_ == "PersistentVolumeClaim") {
            for (name, bound) in item.min.iter().flatten() {
                wrong.extend(asked.below(item, name, Quantity::of(bound)));
            }
            for (name, bound) in item.max.iter().flatten() {
                wrong.extend(asked.requested_above(item, name, Quantity::of(bound)));
            }
        }
    }
    wrong
}

fn amounts(texts: Option<&Amounts>) -> BTreeMap<String, Quantity> {
    skiff_api::quota::amounts(texts)
}

/// What somebody asks for.
struct Asked {
    requests: BTreeMap<String, Quantity>,
    limits: BTreeMap<String, Quantity>,
}

impl Asked {
    /// The amounts of the containers together, with those of the pod as a whole in their place; without its overhead.
    fn of_pod(pod: &Pod) -> Self {
        let spec = pod.spec.clone().unwrap_or_default();
        let side = |side: Side| {
            let mut total = pod::container_totals(&spec, side);
            let whole = spec.resources.as_ref().and_then(|resources| side.of(resources));
            for (name, amount) in whole.into_iter().flatten() {
                if pod::is_pod_level(name) {
                    total.insert(name.clone(), Quantity::of(amount));
                }
            }
            total
        };
        Self {
            requests: side(Side::Requests),
            limits: side(Side::Limits),
        }
    }

    fn check(&self, item: &LimitRangeItem, wrong: &mut Vec<String>) {
        for (name, bound) in item.min.iter().flatten() {
            wrong.extend(self.below(item, name, Quantity::of(bound)));
        }
        for (name, bound) in item.max.iter().flatten() {
            wrong.extend(self.above(item, name, Quantity::of(bound)));
        }
        for (name, bound) in item.max_limit_request_ratio.iter().flatten() {
            wrong.extend(self.beyond_ratio(item, name, Quantity::of(bound)));
        }
    }

    fn below(&self, item: &LimitRangeItem, name: &str, bound: Quantity) -> Option<String> {
        let rule = format!("minimum {name} usage per {} is {bound}", item.type_);
        let Some(&request) = self.requests.get(name) else {
            return Some(format!("{rule}.  No request is specified"));
        };
        if request < bound {
            return Some(format!("{rule}, but request is {request}"));
        }
        let limit = self.limits.get(name).filter(|&&limit| limit < bound)?;
        Some(format!("{rule}, but limit is {limit}"))
    }

    fn above(&self, item: &LimitRangeItem, name: &str, bound: Quantity) -> Option<String> {
        let rule = format!("maximum {name} usage per {} is {bound}", item.type_);
        let Some(&limit) = self.limits.get(name) else {
            return Some(format!("{rule}.  No limit is specified"));
        };
        if limit > bound {
            return Some(format!("{rule}, but limit is {limit}"));
        }
        let request = self.requests.get(name).filter(|&&request| request > bound)?;
        Some(format!("{rule}, but request is {request}"))
    }

    fn requested_above(&self, item: &LimitRangeItem, name: &str, bound: Quantity) -> Option<String> {
        let rule = format!("maximum {name} usage per {} is {bound}", item.type_);
        match self.requests.get(name) {
            None => Some(format!("{rule}.  No request is specified")),
            Some(&request) if request > bound => Some(format!("{rule}, but request is {request}")),
            Some(_) => None,
        }
    }

    fn beyond_ratio(&self, item: &LimitRangeItem, name: &str, bound: Quantity) -> Option<String> {
        let rule = format!("{name} max limit to request ratio per {} is {bound}", item.type_);
        let amount = |amounts: &BTreeMap<String, Quantity>| {
            let amount = amounts.get(name).copied()?;
            (!amount.is_zero()).then_some(amount)
        };
        let Some(request) = amount(&self.requests) else {
            return Some(format!("{rule}, but no request is specified or request is 0"));
        };
        let Some(limit) = amount(&self.limits) else {
            return Some(format!("{rule}, but no limit is specified or limit is 0"));
        };
        let ratio = as_float(limit) / as_float(request);
        (ratio * 1000.0 > bound.milli_value() as f64)
            .then(|| format!("{rule}, but provided ratio is {ratio:.6}"))
    }
}

/// Thousandths where they fit into Go's integers, as upstream compares them.
fn as_float(amount: Quantity) -> f64 {
    amount.nanos() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn range(limits: Value) -> LimitRange {
        serde_json::from_value(json!({"metadata": {"name": "r"}, "spec": {"limits": limits}})).unwrap()
    }

    fn pod(containers: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"containers": containers}}))
            .unwrap()
    }

    #[test]
    fn a_container_that_says_nothing_gets_what_the_range_has_for_it() {
        let range = range(
            json!([{"type": "Container", "default": {"cpu": "2", "memory": "1Gi"},
            "defaultRequest": {"cpu": "1"}}, {"type": "Pod", "max": {"cpu": "9"}}]),
        );
        let mut pod = pod(json!([
            {"name": "a"},
            {"name": "b", "resources": {"limits": {"cpu": "3"}, "requests": {"cpu": "3"}}}
        ]));
        pod.spec.as_mut().unwrap().init_containers =
            Some(vec![serde_json::from_value(json!({"name": "i"})).unwrap()]);
        fill(&mut pod, &range);
        assert_eq!(
            pod.metadata.annotations.as_ref().unwrap()[ANNOTATION],
            "LimitRanger plugin set: cpu request for container a; cpu, memory limit for container a; memory limit for container b; cpu request for init container i; cpu, memory limit for init container i"
        );
        let spec = pod.spec.clone().unwrap();
        let resources = |index: usize| json!(spec.containers[index].resources);
        assert_eq!(
            resources(0),
            json!({"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "1"}})
        );
        assert_eq!(
            resources(1),
            json!({"limits": {"cpu": "3", "memory": "1Gi"}, "requests": {"cpu": "3"}})
        );
        let before = pod.clone();
        fill(&mut pod, &range);
        assert_eq!(pod, before, "what is filled in stays");
    }

    #[test]
    fn what_is_too_much_or_too_little_is_said_as_upstream_says_it() {
        let container = |resources: Value| pod(json!([{"name": "a", "resources": resources}]));
        let one = |type_: &str, rule: &str| range(json!([{"type": type_, rule: {"cpu": "500m"}}]));
        let ratio =
            |ratio: &str| range(json!([{"type": "Container", "maxLimitRequestRatio": {"cpu": ratio}}]));
        let both =
            |request: &str, limit: &str| json!({"requests": {"cpu": request}, "limits": {"cpu": limit}});
        let cases = [
            (
                one("Container", "min"),
                json!({}),
                Some("minimum cpu usage per Container is 500m.  No request is specified"),
            ),
            (
                one("Container", "min"),
                both("100m", "1"),
                Some("minimum cpu usage per Container is 500m, but request is 100m"),
            ),
            (
                one("Container", "min"),
                both("1", "200m"),
                Some("minimum cpu usage per Container is 500m, but limit is 200m"),
            ),
            (one("Container", "min"), both("500m", "500m"), None),
            (
                one("Container", "max"),
                json!({}),
                Some("maximum cpu usage per Container is 500m.  No limit is specified"),
            ),
            (
                one("Container", "max"),
                both("1m", "1"),
                Some("maximum cpu usage per Container is 500m, but limit is 1"),
            ),
            (
                one("Container", "max"),
                both("1", "100m"),
                Some("maximum cpu usage per Container is 500m, but request is 1"),
            ),
            (
                one("Pod", "max"),
                both("1m", "1"),
                Some("maximum cpu usage per Pod is 500m, but limit is 1"),
            ),
            (one("Pod", "max"), both("1m", "500m"), None),
            (
                ratio("2"),
                json!({}),
                Some(
                    "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0",
                ),
            ),
            (
                ratio("2"),
                json!({"requests": {"cpu": "1"}}),
                Some(
                    "cpu max limit to request ratio per Container is 2, but no limit is specified or limit is 0",
                ),
            ),
            (
                ratio("2"),
                both("1", "2500m"),
                Some("cpu max limit to request ratio per Container is 2, but provided ratio is 2.500000"),
            ),
            (ratio("2.5"), both("1", "2500m"), None),
        ];
        for (range, resources, expected) in cases {
            let wrong = violations(&range, &container(resources.clone()));
            assert_eq!(wrong.first().map(String::as_str), expected, "{resources}");
        }
        let claim: PersistentVolumeClaim =
            serde_json::from_value(json!({"spec": {"resources": {"requests": {"storage": "5Gi"}}}})).unwrap();
        let storage = |rule: &str, bound: &str| {
            range(json!([{"type": "PersistentVolumeClaim", rule: {"storage": bound}}]))
        };
        assert_eq!(
            violations(&storage("max", "1Gi"), &claim),
            ["maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 5Gi"]
        );
        assert_eq!(
            violations(&storage("min", "6Gi"), &claim),
            ["minimum storage usage per PersistentVolumeClaim is 6Gi, but request is 5Gi"]
        );
        assert!(violations(&storage("max", "5Gi"), &claim).is_empty());
    }

    #[test]
    fn several_errors_stand_in_brackets_each_once() {
        let errors = |all: &[&str]| all.iter().map(|error| error.to_string()).collect();
        assert_eq!(aggregate(errors(&["a", "a"])), "a");
        assert_eq!(aggregate(errors(&["a", "b", "a"])), "[a, b]");
    }
}
