//! Whether an object has to go, when it is known what became of each of its owners.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::PropagationPolicy;

use super::graph::{FOREGROUND, ORPHAN};

/// What became of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OwnerState {
    /// It is there.
    Present,
    /// It is not.
    Absent,
    /// It is there, but waits for its dependents to be deleted.
    Waits,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// Nothing.
    Keep,
    /// It has an owner still; these references are all that it should keep.
    KeepOwners(Vec<OwnerReference>),
    /// It has to go.
    Delete {
        /// How its own dependents are treated.
        policy: PropagationPolicy,
        /// Its references no longer block its owners first, for two that wait for each other would wait for ever.
        unblock: bool,
    },
}

/// Decides about an object. `has_dependents` says whether it has any; `dependents_wait` whether one of them waits for
/// its own dependents.
pub(super) fn verdict(
    meta: &ObjectMeta,
    owners: &[(OwnerReference, OwnerState)],
    has_dependents: bool,
    dependents_wait: bool,
) -> Verdict {
    let count = |state: OwnerState| owners.iter().filter(|(_, of)| *of == state).count();
    if owners.is_empty() {
        return Verdict::Keep;
    }
    if count(OwnerState::Present) > 0 {
        if count(OwnerState::Present) == owners.len() {
            return Verdict::Keep;
        }
        let kept = owners.iter().filter(|(_, state)| *state == OwnerState::Present);
        return Verdict::KeepOwners(kept.map(|(owner, _)| owner.clone()).collect());
    }
    if count(OwnerState::Waits) > 0 && has_dependents {
        return Verdict::Delete {
            policy: PropagationPolicy::Foreground,
            unblock: dependents_wait,
        };
    }
    let has = |finalizer: &str| meta.finalizers.iter().flatten().any(|name| name == finalizer);
    let policy = if has(ORPHAN) {
        PropagationPolicy::Orphan
    } else if has(FOREGROUND) {
        PropagationPolicy::Foreground
    } else {
        PropagationPolicy::Background
    };
    Verdict::Delete {
        policy,
        unblock: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use OwnerState::{Absent, Present, Waits};

    fn owners(states: &[OwnerState]) -> Vec<(OwnerReference, OwnerState)> {
        let owner = |n: usize| OwnerReference {
            uid: n.to_string(),
            ..OwnerReference::default()
        };
        states
            .iter()
            .enumerate()
            .map(|(n, state)| (owner(n), *state))
            .collect()
    }

    fn delete(policy: PropagationPolicy) -> Verdict {
        Verdict::Delete {
            policy,
            unblock: false,
        }
    }

    #[test]
    fn one_present_owner_is_enough_to_stay() {
        let plain = ObjectMeta::default();
        let kept = |n: &[usize]| {
            Verdict::KeepOwners(
                n.iter()
                    .map(|n| OwnerReference {
                        uid: n.to_string(),
                        ..OwnerReference::default()
                    })
                    .collect(),
            )
        };
        let cases: [(&[OwnerState], bool, Verdict); 9] = [
            (&[], false, Verdict::Keep),
            (&[Present], true, Verdict::Keep),
            (&[Present, Present], true, Verdict::Keep),
            (&[Present, Absent], true, kept(&[0])),
            (&[Waits, Present], true, kept(&[1])),
            (&[Absent], true, delete(PropagationPolicy::Background)),
            (&[Absent, Absent], false, delete(PropagationPolicy::Background)),
            (&[Waits], false, delete(PropagationPolicy::Background)),
            (&[Waits, Absent], true, delete(PropagationPolicy::Foreground)),
        ];
        for (states, has_dependents, expected) in cases {
            assert_eq!(
                verdict(&plain, &owners(states), has_dependents, false),
                expected,
                "{states:?}"
            );
        }
    }

    #[test]
    fn a_policy_that_was_asked_for_before_is_kept() {
        for (finalizer, policy) in [
            (ORPHAN, PropagationPolicy::Orphan),
            (FOREGROUND, PropagationPolicy::Foreground),
        ] {
            let meta = ObjectMeta {
                finalizers: Some(vec![finalizer.into()]),
                ..ObjectMeta::default()
            };
            assert_eq!(verdict(&meta, &owners(&[Absent]), true, false), delete(policy));
        }
    }

    #[test]
    fn a_ring_of_waiting_objects_is_broken() {
        let expected = Verdict::Delete {
            policy: PropagationPolicy::Foreground,
            unblock: true,
        };
        assert_eq!(
            verdict(&ObjectMeta::default(), &owners(&[Waits]), true, true),
            expected
        );
    }
}
