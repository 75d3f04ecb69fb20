//! Whether a pod bears a node's taint.

use k8s_openapi::api::core::v1::{Taint, Toleration};

/// What a taint does to a pod that does not tolerate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is not scheduled there.
    NoSchedule,
    /// It is rather scheduled elsewhere.
    PreferNoSchedule,
    /// It is not scheduled there, and evicted.
    NoExecute,
}

impl Effect {
    /// The effect with this name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "NoSchedule" => Some(Self::NoSchedule),
            "PreferNoSchedule" => Some(Self::PreferNoSchedule),
            "NoExecute" => Some(Self::NoExecute),
            _ => None,
        }
    }
}

/// Whether the toleration covers the taint: an empty effect covers every effect, an empty key with `Exists` every key.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    if !effect.is_empty() && effect != taint.effect {
        return false;
    }
    let key = toleration.key.as_deref().unwrap_or_default();
    if !key.is_empty() && key != taint.key {
        return false;
    }
    let wanted = toleration.value.as_deref().unwrap_or_default();
    let value = taint.value.as_deref().unwrap_or_default();
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => wanted == value,
        "Exists" => true,
        "Gt" => compare(value, wanted).is_some_and(std::cmp::Ordering::is_gt),
        "Lt" => compare(value, wanted).is_some_and(std::cmp::Ordering::is_lt),
        _ => false,
    }
}

fn compare(value: &str, bound: &str) -> Option<std::cmp::Ordering> {
    Some(value.parse::<i64>().ok()?.cmp(&bound.parse::<i64>().ok()?))
}

/// Whether any of the tolerations covers the taint.
pub fn any_tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| tolerates(toleration, taint))
}

/// The first taint with one of these effects that no toleration covers.
pub fn untolerated<'t>(
    taints: &'t [Taint],
    tolerations: &[Toleration],
    effects: &[Effect],
) -> Option<&'t Taint> {
    taints.iter().find(|taint| {
        Effect::named(&taint.effect).is_some_and(|effect| effects.contains(&effect))
            && !any_tolerates(tolerations, taint)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toleration(key: &str, operator: &str, value: &str, effect: &str) -> Toleration {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_string());
        Toleration {
            key: text(key),
            operator: text(operator),
            value: text(value),
            effect: text(effect),
            toleration_seconds: None,
        }
    }

    #[test]
    fn tolerations_cover_taints() {
        let taint = Taint {
            key: "gpu".into(),
            value: Some("3".into()),
            effect: "NoSchedule".into(),
            time_added: None,
        };
        let cases = [
            (toleration("gpu", "", "3", "NoSchedule"), true),
            (toleration("gpu", "Equal", "3", ""), true),
            (toleration("gpu", "Equal", "4", ""), false),
            (toleration("gpu", "Exists", "", ""), true),
            (toleration("gpu", "Exists", "", "NoExecute"), false),
            (toleration("", "Exists", "", ""), true),
            (toleration("cpu", "Exists", "", ""), false),
            (toleration("gpu", "Gt", "2", ""), true),
            (toleration("gpu", "Lt", "2", ""), false),
            (toleration("gpu", "Gt", "x", ""), false),
        ];
        for (toleration, expected) in cases {
            assert_eq!(tolerates(&toleration, &taint), expected, "{toleration:?}");
            let left = untolerated(std::slice::from_ref(&taint), &[toleration], &[Effect::NoSchedule]);
            assert_eq!(left.is_none(), expected);
        }
        assert!(untolerated(&[taint], &[], &[Effect::NoExecute]).is_none());
    }
}
