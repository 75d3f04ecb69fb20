//! The two halves of most objects: what is desired, and what is observed, which is written through `status` alone.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

use crate::kind::{Subresource, Target};
use crate::meta::{generation_after, reset_for_status};
use crate::same::same;

/// Carries over what a write to the target may not change. Each pair is the new state and the old one. The generation
/// rises where what is desired changes.
pub(crate) fn carry_over<S, T>(
    target: Target,
    meta: (&mut ObjectMeta, &ObjectMeta),
    desired: (&mut S, &S),
    observed: (&mut T, &T),
) where
    S: Clone + PartialEq + Serialize,
    T: Clone,
{
    if target == Target::Subresource(Subresource::Status) {
        desired.0.clone_from(desired.1);
        meta.0.generation = meta.1.generation;
    } else {
        observed.0.clone_from(observed.1);
        meta.0.generation = generation_after(meta.1, !same(desired.0, desired.1));
    }
}

/// The same for kinds of which a write of the status leaves the metadata, too, as they were.
pub(crate) fn carry_over_with_metadata<S, T>(
    target: Target,
    meta: (&mut ObjectMeta, &ObjectMeta),
    desired: (&mut S, &S),
    observed: (&mut T, &T),
) where
    S: Clone + PartialEq + Serialize,
    T: Clone,
{
    carry_over(target, (meta.0, meta.1), desired, observed);
    if target == Target::Subresource(Subresource::Status) {
        reset_for_status(meta.0, meta.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_changes_one_half() {
        let old = ObjectMeta {
            generation: Some(3),
            ..ObjectMeta::default()
        };
        let labelled = ObjectMeta {
            labels: Some([("a".to_string(), "b".to_string())].into()),
            ..ObjectMeta::default()
        };
        let status = Target::Subresource(Subresource::Status);
        // The target, what is wanted; and what comes of it: desired, observed, the generation.
        for (target, wanted, expected) in [
            (Target::Main, ("d", "x"), ("d", "o", 3)),
            (Target::Main, ("e", "x"), ("e", "o", 4)),
            (Target::Subresource(Subresource::Scale), ("e", "x"), ("e", "o", 4)),
            (status, ("e", "x"), ("d", "x", 3)),
        ] {
            let (mut desired, mut observed) = (wanted.0, wanted.1);
            let mut meta = labelled.clone();
            let halves = ((&mut desired, &"d"), (&mut observed, &"o"));
            carry_over_with_metadata(target, (&mut meta, &old), halves.0, halves.1);
            assert_eq!(
                (desired, observed, meta.generation),
                (expected.0, expected.1, Some(expected.2))
            );
            assert_eq!(meta.labels.is_some(), target != status, "{target:?}");
        }
    }
}
