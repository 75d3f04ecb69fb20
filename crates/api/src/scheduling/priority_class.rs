//! PriorityClass: a name for how important pods are.

use jiff::Timestamp;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde_json::Value;

use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, KindInfo, Scope, Target, age};

/// The classes that every cluster has: the name, the number, and what it is for.
pub const SYSTEM_CLASSES: [(&str, i32, &str); 2] = [
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
];

/// The highest number that a class of a user's own may have.
const HIGHEST: i32 = 1_000_000_000;
const SYSTEM_PREFIX: &str = "system-";

impl Kind for PriorityClass {
    fn info() -> KindInfo {
        KindInfo {
            short_names: &["pc"],
            scope: Scope::Cluster,
            columns: vec![
                Column::object_name(),
                Column::of("Value", "integer", "scheduling.v1.PriorityClass", "value"),
                Column::of(
                    "Global-Default",
                    "boolean",
                    "scheduling.v1.PriorityClass",
                    "globalDefault",
                ),
                Column::age(),
                Column::of(
                    "PreemptionPolicy",
                    "string",
                    "scheduling.v1.PriorityClass",
                    "preemptionPolicy",
                ),
            ],
            ..KindInfo::of::<Self>("priorityclass")
        }
    }

    fn default(&mut self) {
        self.value.get_or_insert(0);
        self.preemption_policy
            .get_or_insert_with(|| "PreemptLowerPriority".into());
    }

    fn prepare_for_create(&mut self) {
        self.metadata.generation = Some(1);
    }

    fn validate_create(&self, errors: &mut Errors) {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        let value = self.value.unwrap_or(0);
        if name.starts_with(SYSTEM_PREFIX) {
            if let Some(why) = not_of_the_system(name, value, self.global_default == Some(true)) {
                let detail =
                    "priority class names with 'system-' prefix are reserved for system use only. error: ";
                errors.forbidden(&Path::new("metadata.name"), &format!("{detail}{why}"));
            }
        } else if value > HIGHEST {
            errors.forbidden(
                &Path::new("value"),
                &format!("maximum allowed value of a user defined priority is {HIGHEST}"),
            );
        }
        let policy = self.preemption_policy.as_deref().unwrap_or_default();
        let path = Path::new("preemptionPolicy");
        errors.one_of(&path, Some(policy), &["PreemptLowerPriority", "Never"]);
    }

    fn validate_update(&self, old: &Self, _target: Target, errors: &mut Errors) {
        if self.value != old.value {
            errors.forbidden(&Path::new("value"), "may not be changed in an update.");
        }
        if self.preemption_policy != old.preemption_policy {
            crate::meta::immutable(
                &self.preemption_policy,
                &old.preemption_policy,
                &Path::new("preemptionPolicy"),
                errors,
            );
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        vec![
            self.metadata.name.clone().into(),
            self.value.unwrap_or(0).into(),
            self.global_default.unwrap_or(false).into(),
            age(&self.metadata, now),
            self.preemption_policy.clone().unwrap_or_default().into(),
        ]
    }
}

/// Why a class is none of the system's own, in upstream's words; `None` if it is one.
fn not_of_the_system(name: &str, value: i32, is_default: bool) -> Option<String> {
    match SYSTEM_CLASSES.iter().find(|(known, ..)| *known == name) {
        None => Some(format!("{name} is not a known system priority class")),
        Some((_, number, _)) if *number != value => {
            Some(format!("value of {name} PriorityClass must be {number}"))
        }
        Some(_) if is_default => Some(format!("globalDefault of {name} PriorityClass must be false")),
        Some(_) => None,
    }
}
