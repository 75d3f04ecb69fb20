//! The tokens that stand in Secrets: without an end, good as long as their Secret holds them, and watched for whether
//! anybody still uses them.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use serde::{Deserialize, Serialize};
use skiff_api::Target;

use crate::auth::KnownToken;
use crate::auth::rbac::rules::quoted;
use crate::auth::tokens::Tokens;
use crate::http::tick;
use crate::objects::find;
use crate::registry::Registry;
use crate::startup;
use crate::user::{SERVICE_ACCOUNT_PREFIX, UserInfo};

/// Who signs them, as they say.
pub(crate) const ISSUER: &str = "kubernetes/serviceaccount";
/// The label that tells the day of a token's last use.
pub(crate) const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
/// The label that tells since when a token that nobody used is not accepted any more.
pub(crate) const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
/// What users of a token are told that no one made by hand.
const GENERATED: &str = "Use tokens from the TokenRequest API or manually created secret-based tokens instead of auto-generated secret-based tokens.";

/// What such a token says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LegacyClaims {
    #[serde(default)]
    pub(crate) aud: Vec<String>,
    pub(crate) iss: String,
    #[serde(default, rename = "kubernetes.io/serviceaccount/namespace")]
    pub(crate) namespace: String,
    #[serde(default, rename = "kubernetes.io/serviceaccount/secret.name")]
    pub(crate) secret: String,
    #[serde(default, rename = "kubernetes.io/serviceaccount/service-account.name")]
    pub(crate) account: String,
    #[serde(default, rename = "kubernetes.io/serviceaccount/service-account.uid")]
    pub(crate) uid: String,
    #[serde(default)]
    pub(crate) sub: String,
}

/// What is signed: the same without an audience, which these tokens never have.
#[derive(Serialize)]
struct Signed<'a> {
    iss: &'a str,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    namespace: &'a str,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    secret: &'a str,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    account: &'a str,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    uid: &'a str,
    sub: String,
}

/// The token of an account that a Secret is to hold.
pub(crate) fn sign(
    tokens: &Tokens,
    account: &ServiceAccount,
    secret: &str,
) -> Result<String, jsonwebtoken::errors::Error> {
    let text = |text: &'_ Option<String>| text.clone().unwrap_or_default();
    let (namespace, name, uid) = (
        text(&account.metadata.namespace),
        text(&account.metadata.name),
        text(&account.metadata.uid),
    );
    tokens.sign(&Signed {
        iss: ISSUER,
        namespace: &namespace,
        secret,
        account: &name,
        uid: &uid,
        sub: format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}"),
    })
}

/// Checks what the claims say of themselves, in upstream's order.
fn complete(claims: &LegacyClaims) -> Result<(), String> {
    let missing = [
        (&claims.sub, "sub claim is missing"),
        (&claims.namespace, "namespace claim is missing"),
        (&claims.secret, "secretName claim is missing"),
        (&claims.account, "serviceAccountName claim is missing"),
        (&claims.uid, "serviceAccountUID claim is missing"),
    ];
    for (claim, why) in missing {
        if claim.is_empty() {
            return Err(why.into());
        }
    }
    if claims.sub != format!("{SERVICE_ACCOUNT_PREFIX}{}:{}", claims.namespace, claims.account) {
        return Err("sub claim is invalid".into());
    }
    Ok(())
}

/// What a Secret and an account that stand behind a token say of it.
#[derive(Debug, PartialEq)]
struct Backing {
    /// The account names the Secret: nobody made it by hand.
    generated: bool,
    /// Nobody used it for long, and it is not accepted any more.
    invalid: bool,
}

/// Whether the Secret and the account stand behind a token.
fn backing(
    token: &str,
    claims: &LegacyClaims,
    secret: Option<&Secret>,
    account: Option<&ServiceAccount>,
) -> Result<Backing, String> {
    let LegacyClaims {
        namespace,
        account: name,
        uid,
        ..
    } = claims;
    let secret = secret
        .filter(|secret| secret.metadata.deletion_timestamp.is_none())
        .ok_or("Token has been invalidated")?;
    let held = secret.data.as_ref().and_then(|data| data.get("token"));
    if held.is_none_or(|held| held.0 != token.as_bytes()) {
        return Err("Token does not match server's copy".into());
    }
    let account = account.ok_or_else(|| format!("serviceaccounts \"{name}\" not found"))?;
    if account.metadata.deletion_timestamp.is_some() {
        return Err(format!("ServiceAccount {namespace}/{name} has been deleted"));
    }
    let its = account.metadata.uid.as_deref().unwrap_or_default();
    if its != uid {
        return Err(format!("ServiceAccount UID ({its}) does not match claim ({uid})"));
    }
    let mut references = account.secrets.iter().flatten();
    Ok(Backing {
        generated: references.any(|reference| reference.name.as_deref() == Some(&claims.secret)),
        invalid: label(secret, INVALID_SINCE).is_some_and(|since| !since.is_empty()),
    })
}

fn label<'a>(secret: &'a Secret, name: &str) -> Option<&'a str> {
    let labels = secret.metadata.labels.as_ref()?;
    labels.get(name).map(String::as_str)
}

/// What a token stands for.
pub(crate) async fn authenticate(
    token: &str,
    audiences: &[String],
    tokens: &Tokens,
    registry: &Arc<Registry>,
) -> Result<KnownToken, String> {
    let claims = tokens.verify_legacy(token)?;
    // They are for this server alone.
    let own = if claims.aud.is_empty() {
        tokens.audiences()
    } else {
        &claims.aud
    };
    let shared: Vec<String> = audiences
        .iter()
        .filter(|audience| own.contains(audience))
        .cloned()
        .collect();
    if shared.is_empty() {
        return Err(format!(
            "token audiences {} is invalid for the target audiences {}",
            quoted(own),
            quoted(audiences)
        ));
    }
    complete(&claims)?;
    let (namespace, account) = (claims.namespace.as_str(), claims.account.as_str());
    let secret: Option<Secret> = find(registry, namespace, &claims.secret)
        .await
        .map_err(|error| error.to_string())?;
    let account: Option<ServiceAccount> = find(registry, namespace, account)
        .await
        .map_err(|error| error.to_string())?;
    let backing = backing(token, &claims, secret.as_ref(), account.as_ref())?;
    let uses = &tokens.uses;
    tick(if backing.generated {
        &uses.generated
    } else {
        &uses.manual
    });
    if let Some(secret) = secret {
        note_use(registry, &secret).await;
    }
    if backing.invalid {
        tick(&uses.invalidated);
        let LegacyClaims {
            namespace,
            secret,
            account,
            ..
        } = &claims;
        return Err(format!(
            "the token in secret {namespace}/{secret} for service account {namespace}/{account} has been marked invalid. Use tokens from the TokenRequest API or manually created secret-based tokens, or remove the '{INVALID_SINCE}' label from the secret to temporarily allow use of this token"
        ));
    }
    tick(&uses.legacy);
    let warning = backing.generated.then_some(GENERATED);
    let user = UserInfo::service_account(&claims.namespace, &claims.account, &claims.uid);
    Ok(KnownToken {
        user,
        audiences: shared,
        warning,
    })
}

/// Writes the day into the label of the last use, once a day.
async fn note_use(registry: &Registry, secret: &Secret) {
    let now = jiff::Timestamp::now();
    let today = now.strftime("%Y-%m-%d").to_string();
    // A server whose clock is ahead may have written already.
    let tomorrow = (now + jiff::SignedDuration::from_hours(24)).strftime("%Y-%m-%d");
    let last = label(secret, LAST_USED).unwrap_or_default();
    if last == today || last == tomorrow.to_string() {
        return;
    }
    let Some(resource) = registry.resource("", "v1", "secrets") else {
        return;
    };
    let namespace = secret.metadata.namespace.as_deref().unwrap_or_default();
    let name = secret.metadata.name.as_deref().unwrap_or_default();
    let options = startup::options();
    let noted = resource.modify(namespace, name, Target::Main, &options, |object| {
        if let Some(found) = object.as_any_mut().downcast_mut::<Secret>()
            && found.metadata.uid == secret.metadata.uid
        {
            let labels = found.metadata.labels.get_or_insert_default();
            labels.insert(LAST_USED.into(), today.clone());
        }
        Ok(())
    });
    if let Err(error) = noted.await {
        tracing::warn!(%error, namespace, name, "noting the use of a token");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;
    use k8s_openapi::api::core::v1::ObjectReference;

    fn claims() -> LegacyClaims {
        LegacyClaims {
            iss: ISSUER.into(),
            namespace: "n".into(),
            secret: "s".into(),
            account: "a".into(),
            uid: "u".into(),
            sub: "system:serviceaccount:n:a".into(),
            ..LegacyClaims::default()
        }
    }

    fn pair() -> (Secret, ServiceAccount) {
        let (mut secret, mut account) = (Secret::default(), ServiceAccount::default());
        secret.data = Some([("token".to_string(), ByteString(b"t".to_vec()))].into());
        account.metadata.uid = Some("u".into());
        (secret, account)
    }

    #[test]
    fn claims_are_complete_or_refused() {
        assert_eq!(complete(&claims()), Ok(()));
        let without = |change: fn(&mut LegacyClaims)| {
            let mut claims = claims();
            change(&mut claims);
            complete(&claims).unwrap_err()
        };
        assert_eq!(without(|claims| claims.sub.clear()), "sub claim is missing");
        assert_eq!(
            without(|claims| claims.secret.clear()),
            "secretName claim is missing"
        );
        assert_eq!(
            without(|claims| claims.uid.clear()),
            "serviceAccountUID claim is missing"
        );
        assert_eq!(
            without(|claims| claims.account = "b".into()),
            "sub claim is invalid"
        );
    }

    #[test]
    fn a_token_is_as_good_as_what_stands_behind_it() {
        let (secret, account) = pair();
        let check =
            |secret: &Secret, account: &ServiceAccount| backing("t", &claims(), Some(secret), Some(account));
        let good = |generated, invalid| Ok(Backing { generated, invalid });
        assert_eq!(check(&secret, &account), good(false, false));
        assert_eq!(
            backing("t", &claims(), None, Some(&account)),
            Err("Token has been invalidated".into())
        );
        assert_eq!(
            backing("other", &claims(), Some(&secret), Some(&account)),
            Err("Token does not match server's copy".into())
        );
        let mut generated = account.clone();
        generated.secrets = Some(vec![ObjectReference {
            name: Some("s".into()),
            ..ObjectReference::default()
        }]);
        assert_eq!(check(&secret, &generated), good(true, false));
        let mut reborn = account.clone();
        reborn.metadata.uid = Some("w".into());
        assert_eq!(
            check(&secret, &reborn),
            Err("ServiceAccount UID (w) does not match claim (u)".into())
        );
        let mut invalid = secret.clone();
        invalid.metadata.labels = Some([(INVALID_SINCE.to_string(), "2026-01-01".to_string())].into());
        assert_eq!(check(&invalid, &account), good(false, true));
    }
}
