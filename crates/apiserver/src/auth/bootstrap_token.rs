//! Bootstrap tokens: `id.secret`, kept in a secret of `kube-system`, with which a new machine joins.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Secret;

use crate::objects::find;
use crate::registry::Registry;
use crate::user::UserInfo;

const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";
const GROUP: &str = "system:bootstrappers";
const USER_PREFIX: &str = "system:bootstrap:";

/// The id and the secret of a token that has the form of one: six and sixteen small letters and digits.
fn split(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let plain = |text: &str, length| {
        text.len() == length
            && text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    (plain(id, 6) && plain(secret, 16)).then_some((id, secret))
}

/// The user that a token stands for; `None` when it has not the form of such a token.
pub(super) async fn authenticate(token: &str, registry: &Registry) -> Option<Result<UserInfo, String>> {
    let (id, secret) = split(token)?;
    let name = format!("bootstrap-token-{id}");
    Some(match find::<Secret>(registry, NAMESPACE, &name).await {
        Ok(Some(kept)) => user(&kept, id, secret, jiff::Timestamp::now()),
        Ok(None) => Err(format!("no secret {name}")),
        Err(error) => Err(error.to_string()),
    })
}

fn user(kept: &Secret, id: &str, secret: &str, now: jiff::Timestamp) -> Result<UserInfo, String> {
    let value = |key: &str| -> Option<&str> {
        let bytes = kept.data.as_ref()?.get(key)?;
        std::str::from_utf8(&bytes.0).ok()
    };
    if kept.type_.as_deref() != Some(TYPE) || kept.metadata.deletion_timestamp.is_some() {
        return Err("the secret is not, or no longer, a token".into());
    }
    let same = |own: &str, shown: &str| {
        // All bytes are compared, so that the time tells nothing.
        own.len() == shown.len()
            && own
                .bytes()
                .zip(shown.bytes())
                .fold(0, |differing, (a, b)| differing | (a ^ b))
                == 0
    };
    if !value("token-secret").is_some_and(|own| !own.is_empty() && same(own, secret)) {
        return Err("the token's secret is another".into());
    }
    if value("token-id") != Some(id) {
        return Err("the token's id is another".into());
    }
    if let Some(expiration) = value("expiration").filter(|text| !text.is_empty()) {
        let expired = expiration
            .parse::<jiff::Timestamp>()
            .map_or(true, |expiration| expiration <= now);
        if expired {
            return Err("the token has expired".into());
        }
    }
    if value("usage-bootstrap-authentication") != Some("true") {
        return Err("the token is not for authentication".into());
    }
    let mut groups = BTreeSet::from([GROUP.to_string()]);
    for group in value("auth-extra-groups")
        .unwrap_or_default()
        .split(',')
        .filter(|group| !group.is_empty())
    {
        if !group
            .strip_prefix(GROUP)
            .is_some_and(|rest| rest.starts_with(':'))
        {
            return Err(format!("the token's group {group:?} is not one of {GROUP}"));
        }
        groups.insert(group.to_string());
    }
    Ok(UserInfo::new(format!("{USER_PREFIX}{id}"), groups))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;

    fn kept(change: &[(&str, &str)]) -> Secret {
        let mut data = std::collections::BTreeMap::new();
        let usual = [
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-authentication", "true"),
        ];
        for (key, value) in usual.iter().chain(change) {
            data.insert(key.to_string(), ByteString(value.as_bytes().to_vec()));
        }
        Secret {
            type_: Some(TYPE.into()),
            data: Some(data),
            ..Secret::default()
        }
    }

    #[test]
    fn a_token_stands_for_a_user_as_its_secret_says() {
        let now = jiff::Timestamp::now();
        let known = |change: &[(&str, &str)], secret: &str| user(&kept(change), "abcdef", secret, now);
        let right = "0123456789abcdef";
        let joined = known(&[("auth-extra-groups", "system:bootstrappers:x")], right).unwrap();
        assert_eq!(joined.name, "system:bootstrap:abcdef");
        assert_eq!(
            joined.groups,
            [
                "system:bootstrappers",
                "system:bootstrappers:x",
                "system:authenticated"
            ]
        );
        assert!(known(&[("expiration", "2999-01-01T00:00:00Z")], right).is_ok());
        for change in [
            ("expiration", "2020-01-01T00:00:00Z"),
            ("expiration", "tomorrow"),
            ("usage-bootstrap-authentication", "false"),
            ("token-id", "fedcba"),
            ("token-secret", ""),
            ("auth-extra-groups", "system:masters"),
        ] {
            assert!(known(&[change], right).is_err(), "{change:?}");
        }
        assert!(known(&[], "0123456789abcdee").is_err());
        let opaque = Secret {
            type_: Some("Opaque".into()),
            ..kept(&[])
        };
        assert!(user(&opaque, "abcdef", right, now).is_err());
        for (token, is) in [
            ("abcdef.0123456789abcdef", true),
            ("abcdef.0123456789abcde", false),
            ("ABCDEF.0123456789abcdef", false),
            ("a.b.c", false),
        ] {
            assert_eq!(split(token).is_some(), is, "{token}");
        }
    }
}
