//! PriorityLevelConfiguration: how many requests of a level are served at once, and how many wait.

use jiff::Timestamp;
use k8s_openapi::api::flowcontrol::v1::{
    LimitedPriorityLevelConfiguration, PriorityLevelConfiguration, PriorityLevelConfigurationSpec,
    QueuingConfiguration,
};
use serde_json::{Value, json};

use super::{NONE, check_conditions};
use crate::field::{Errors, Path};
use crate::halves;
use crate::internal;
use crate::kind::{Column, Kind, KindInfo, Scope, Subresource, Target, age};

const MAX_QUEUES: i32 = 10_000_000;
/// The bits of the hash by which a flow's queues are chosen.
const HASH_BITS: f64 = 60.0;

impl Kind for PriorityLevelConfiguration {
    fn info() -> KindInfo {
        KindInfo {
            scope: Scope::Cluster,
            subresources: &[Subresource::Status],
            columns: vec![
                Column::object_name(),
                Column::of(
                    "Type",
                    "string",
                    "flowcontrol.v1.PriorityLevelConfigurationSpec",
                    "type",
                ),
                Column::of(
                    "NominalConcurrencyShares",
                    "string",
                    "flowcontrol.v1.LimitedPriorityLevelConfiguration",
                    "nominalConcurrencyShares",
                ),
                Column::of(
                    "Queues",
                    "string",
                    "flowcontrol.v1.QueuingConfiguration",
                    "queues",
                ),
                Column::of(
                    "HandSize",
                    "string",
                    "flowcontrol.v1.QueuingConfiguration",
                    "handSize",
                ),
                Column::of(
                    "QueueLengthLimit",
                    "string",
                    "flowcontrol.v1.QueuingConfiguration",
                    "queueLengthLimit",
                ),
                Column::age(),
            ],
            ..KindInfo::of::<Self>("prioritylevelconfiguration")
        }
    }

    fn default(&mut self) {
        let spec = &mut self.spec;
        if spec.type_ == "Exempt" {
            let exempt = spec.exempt.get_or_insert_default();
            exempt.nominal_concurrency_shares.get_or_insert(0);
            exempt.lendable_percent.get_or_insert(0);
        }
        if let Some(limited) = &mut spec.limited {
            limited.nominal_concurrency_shares.get_or_insert(30);
            limited.lendable_percent.get_or_insert(0);
            if let Some(queuing) = &mut limited.limit_response.queuing {
                for (field, value) in [
                    (&mut queuing.hand_size, 8),
                    (&mut queuing.queues, 64),
                    (&mut queuing.queue_length_limit, 50),
                ] {
                    if field.unwrap_or(0) == 0 {
                        *field = Some(value);
                    }
                }
            }
        }
        self.status.get_or_insert_default();
    }

    fn prepare_for_create(&mut self) {
        self.metadata.generation = Some(1);
        self.status = Some(Default::default());
    }

    fn prepare_for_update(&mut self, old: &Self, target: Target) {
        halves::carry_over_with_metadata(
            target,
            (&mut self.metadata, &old.metadata),
            (&mut self.spec, &old.spec),
            (&mut self.status, &old.status),
        );
    }

    fn validate(&self, errors: &mut Errors) {
        let (spec, path) = (&self.spec, Path::new("spec"));
        let name = self.metadata.name.as_deref().unwrap_or_default();
        if (name == "exempt") != (spec.type_ == "Exempt") {
            errors.invalid(
                &path.child("type"),
                &spec.type_,
                "type must be 'Exempt' if and only if name is 'exempt'",
            );
        }
        match spec.type_.as_str() {
            "Exempt" => {
                if spec.limited.is_some() {
                    errors.forbidden(&path.child("limited"), "must be nil if the type is not Limited");
                }
                if let Some(exempt) = &spec.exempt {
                    validate_shares(
                        exempt.nominal_concurrency_shares,
                        exempt.lendable_percent,
                        &path.child("exempt"),
                        errors,
                    );
                }
            }
            "Limited" => {
                if spec.exempt.is_some() {
                    errors.forbidden(&path.child("exempt"), "must be nil if the type is Limited");
                }
                match &spec.limited {
                    None => errors.required(&path.child("limited"), "must not be empty when type is Limited"),
                    Some(limited) => validate_limited(limited, &path.child("limited"), errors),
                }
            }
            other => errors.not_supported(&path.child("type"), other, &["Exempt", "Limited"]),
        }
        if name == "catch-all" && mandatory().is_some_and(|mandatory| *spec != mandatory) {
            let shown = internal::of("flowcontrol.v1.PriorityLevelConfigurationSpec", spec);
            let detail = format!("spec of '{name}' must equal the fixed value");
            errors.invalid(&path, shown, detail);
        }
        validate_status(self, errors);
    }

    fn validate_update(&self, _old: &Self, target: Target, errors: &mut Errors) {
        if target != Target::Main {
            validate_status(self, errors);
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let limited = self.spec.limited.as_ref();
        let queuing = limited.and_then(|limited| limited.limit_response.queuing.as_ref());
        let shown = |number: Option<i32>| match number {
            Some(number) => Value::from(number),
            None => NONE.into(),
        };
        vec![
            self.metadata.name.clone().into(),
            self.spec.type_.clone().into(),
            shown(limited.map(|limited| limited.nominal_concurrency_shares.unwrap_or(0))),
            shown(queuing.map(|queuing| queuing.queues.unwrap_or(0))),
            shown(queuing.map(|queuing| queuing.hand_size.unwrap_or(0))),
            shown(queuing.map(|queuing| queuing.queue_length_limit.unwrap_or(0))),
            age(&self.metadata, now),
        ]
    }
}

fn validate_status(level: &PriorityLevelConfiguration, errors: &mut Errors) {
    let conditions = level
        .status
        .iter()
        .filter_map(|status| status.conditions.as_ref())
        .flatten();
    check_conditions(
        conditions.map(|condition| condition.type_.as_str()),
        &Path::new("status.conditions"),
        errors,
    );
}

/// What the level that takes what no other takes must say.
fn mandatory() -> Option<PriorityLevelConfigurationSpec> {
    let spec = json!({
        "type": "Limited",
        "limited": {"nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": {"type": "Reject"}},
    });
    serde_json::from_value(spec).ok()
}

fn validate_shares(shares: Option<i32>, lendable: Option<i32>, path: &Path, errors: &mut Errors) {
    if let Some(shares) = shares.filter(|&shares| shares < 0) {
        errors.invalid(
            &path.child("nominalConcurrencyShares"),
            shares,
            "must be a non-negative integer",
        );
    }
    if let Some(lendable) = lendable.filter(|percent| !(0..=100).contains(percent)) {
        errors.invalid(
            &path.child("lendablePercent"),
            lendable,
            "must be between 0 and 100, inclusive",
        );
    }
}

fn validate_limited(limited: &LimitedPriorityLevelConfiguration, path: &Path, errors: &mut Errors) {
    validate_shares(
        limited.nominal_concurrency_shares,
        limited.lendable_percent,
        path,
        errors,
    );
    if let Some(borrowing) = limited.borrowing_limit_percent.filter(|&percent| percent < 0) {
        errors.invalid(
            &path.child("borrowingLimitPercent"),
            borrowing,
            "if specified, must be a non-negative integer",
        );
    }
    let (response, path) = (&limited.limit_response, path.child("limitResponse"));
    let at = path.child("queuing");
    match (response.type_.as_str(), &response.queuing) {
        ("Reject", Some(_)) => {
            errors.forbidden(&at, "must be nil if limited.limitResponse.type is not Limited")
        }
        ("Reject", None) => {}
        ("Queue", None) => errors.required(&at, "must not be empty if limited.limitResponse.type is Limited"),
        ("Queue", Some(queuing)) => validate_queuing(queuing, &at, errors),
        (other, _) => errors.not_supported(&path.child("type"), other, &["Queue", "Reject"]),
    }
}

fn validate_queuing(queuing: &QueuingConfiguration, path: &Path, errors: &mut Errors) {
    const POSITIVE: &str = "must be positive";
    let length = queuing.queue_length_limit.unwrap_or(0);
    if length <= 0 {
        errors.invalid(&path.child("queueLengthLimit"), length, POSITIVE);
    }
    let (queues, hand) = (queuing.queues.unwrap_or(0), queuing.hand_size.unwrap_or(0));
    if queues <= 0 {
        errors.invalid(&path.child("queues"), queues, POSITIVE);
    } else if queues > MAX_QUEUES {
        errors.invalid(
            &path.child("queues"),
            queues,
            format!("must not be greater than {MAX_QUEUES}"),
        );
    }
    let at = path.child("handSize");
    if hand <= 0 {
        errors.invalid(&at, hand, POSITIVE);
    } else if hand > queues {
        errors.invalid(&at, hand, format!("should not be greater than queues ({queues})"));
    } else if (f64::from(queues).log2() * f64::from(hand)).ceil() > HASH_BITS {
        errors.invalid(
            &at,
            hand,
            format!(
                "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS}"
            ),
        );
    }
}
