//! What the disruption controller and the eviction of pods have in common: a budget's condition
//! (`k8s.io/component-helpers/apps/poddisruptionbudget`).

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The condition's type.
pub const ALLOWED: &str = "DisruptionAllowed";
/// Why the condition is false when the budget could not be calculated.
pub const SYNC_FAILED: &str = "SyncFailed";
const SUFFICIENT: &str = "SufficientPods";
const INSUFFICIENT: &str = "InsufficientPods";

/// The condition of a budget's status.
pub fn condition(status: &PodDisruptionBudgetStatus) -> Option<&Condition> {
    let mut conditions = status.conditions.iter().flatten();
    conditions.find(|condition| condition.type_ == ALLOWED)
}

fn expected(status: &PodDisruptionBudgetStatus) -> (&'static str, &'static str) {
    if status.disruptions_allowed.unwrap_or(0) > 0 {
        ("True", SUFFICIENT)
    } else {
        ("False", INSUFFICIENT)
    }
}

/// Whether the condition says what the numbers say.
pub fn is_up_to_date(budget: &PodDisruptionBudget) -> bool {
    let Some(status) = &budget.status else {
        return false;
    };
    status.observed_generation.unwrap_or(0) == budget.metadata.generation.unwrap_or(0)
        && condition(status)
            .is_some_and(|found| (found.status.as_str(), found.reason.as_str()) == expected(status))
}

/// Makes the condition say what the numbers say.
pub fn refresh(status: &mut PodDisruptionBudgetStatus, now: Time) {
    let (value, reason) = expected(status);
    set(status, value, reason, String::new(), now);
}

/// Makes the condition say why the budget could not be calculated; nobody may be disrupted until it is.
pub fn fail(status: &mut PodDisruptionBudgetStatus, message: String, now: Time) {
    status.disruptions_allowed = Some(0);
    set(status, "False", SYNC_FAILED, message, now);
}

fn set(status: &mut PodDisruptionBudgetStatus, value: &str, reason: &str, message: String, now: Time) {
    let generation = status.observed_generation;
    let conditions = status.conditions.get_or_insert_default();
    let new = Condition {
        type_: ALLOWED.into(),
        status: value.into(),
        reason: reason.into(),
        message,
        observed_generation: generation,
        last_transition_time: now,
    };
    match conditions.iter_mut().find(|found| found.type_ == ALLOWED) {
        // It is as old as its value.
        Some(found) if found.status == value => {
            *found = Condition {
                last_transition_time: found.last_transition_time.clone(),
                ..new
            };
        }
        Some(found) => *found = new,
        None => conditions.push(new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    #[test]
    fn the_condition_follows_the_numbers_and_keeps_its_age() {
        let at = |second| Time(Timestamp::from_second(second).unwrap());
        let mut budget = PodDisruptionBudget::default();
        budget.metadata.generation = Some(2);
        let mut status = PodDisruptionBudgetStatus {
            disruptions_allowed: Some(1),
            observed_generation: Some(2),
            ..PodDisruptionBudgetStatus::default()
        };
        for (second, allowed, value, reason, since) in [
            (1, 1, "True", SUFFICIENT, 1),
            (2, 3, "True", SUFFICIENT, 1),
            (3, 0, "False", INSUFFICIENT, 3),
        ] {
            status.disruptions_allowed = Some(allowed);
            refresh(&mut status, at(second));
            let found = condition(&status).unwrap();
            assert_eq!((found.status.as_str(), found.reason.as_str()), (value, reason));
            assert_eq!(found.last_transition_time, at(since), "{second}");
        }
        budget.status = Some(status.clone());
        assert!(is_up_to_date(&budget));
        fail(&mut status, "no".into(), at(4));
        let found = condition(&status).unwrap();
        assert_eq!(
            (found.reason.as_str(), found.message.as_str()),
            (SYNC_FAILED, "no")
        );
        assert_eq!(found.last_transition_time, at(3));
        budget.status = Some(status);
        assert!(!is_up_to_date(&budget));
    }
}
