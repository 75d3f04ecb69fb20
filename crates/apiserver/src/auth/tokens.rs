//! Service-account tokens: signed, known again, and void as soon as what they are bound to is gone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{Jwk, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::{Node, Pod, Secret, ServiceAccount};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::auth::legacy_tokens::{self, LegacyClaims};
use crate::auth::rbac::rules::quoted;
use crate::auth::x509::CREDENTIAL_ID;
use crate::config::ServiceAccountKeys;
use crate::http::{TokenUses, tick};
use crate::registry::Registry;
use crate::user::UserInfo;

/// An object that a token names, with the uid that it had then.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reference {
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// The `kubernetes.io` claim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KubernetesClaim {
    pub(crate) namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pod: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<Reference>,
    pub(crate) serviceaccount: Reference,
    /// When clients should have had a new token already (seconds since 1970).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) warnafter: Option<i64>,
}

/// What a token says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    pub(crate) aud: Vec<String>,
    pub(crate) exp: i64,
    pub(crate) iat: i64,
    pub(crate) iss: String,
    pub(crate) jti: String,
    #[serde(rename = "kubernetes.io")]
    pub(crate) kubernetes: KubernetesClaim,
    pub(crate) nbf: i64,
    pub(crate) sub: String,
}

/// Signs tokens and knows its own again.
pub(crate) struct Tokens {
    issuer: String,
    audiences: Vec<String>,
    algorithm: Algorithm,
    encoding: EncodingKey,
    decoding: DecodingKey,
    /// The public key, with its id.
    jwk: Jwk,
    key_id: String,
    verified: Verified<Claims>,
    verified_legacy: Verified<LegacyClaims>,
    /// How often tokens were used.
    pub(crate) uses: Arc<TokenUses>,
}

/// How long a good signature is remembered, and how many.
const REMEMBERED: (Duration, usize) = (Duration::from_secs(60), 4096);

/// What tokens say whose signatures were found good lately, by the tokens' digests: checking one costs more than the rest
/// of a request.
struct Verified<T>(Mutex<HashMap<[u8; 32], (T, Instant)>>);

impl<T> Default for Verified<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Verified<T> {
    fn get(&self, token: &str, check: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        let remembered = self.0.lock().get(&digest).map(|(claims, _)| claims.clone());
        if let Some(claims) = remembered {
            return Ok(claims);
        }
        let claims = check()?;
        let mut verified = self.0.lock();
        if verified.len() >= REMEMBERED.1 {
            verified.retain(|_, (_, since)| since.elapsed() < REMEMBERED.0);
        }
        if verified.len() < REMEMBERED.1 {
            verified.insert(digest, (claims.clone(), Instant::now()));
        }
        Ok(claims)
    }
}

impl Tokens {
    /// Tokens signed with the configured key.
    pub(crate) fn new(keys: &ServiceAccountKeys) -> Result<Self, jsonwebtoken::errors::Error> {
        let (encoding, algorithm) = match EncodingKey::from_ec_pem(&keys.signing_key_pem) {
            Ok(key) => (key, Algorithm::ES256),
            // As upstream: RSA keys sign as well.
            Err(_) => (
                EncodingKey::from_rsa_pem(&keys.signing_key_pem)?,
                Algorithm::RS256,
            ),
        };
        let mut jwk = Jwk::from_encoding_key(&encoding, algorithm)?;
        let key_id = jwk.thumbprint(ThumbprintHash::SHA256)?;
        jwk.common.key_id = Some(key_id.clone());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(Self {
            issuer: keys.issuer.clone(),
            audiences: keys.audiences.clone(),
            decoding: DecodingKey::from_jwk(&jwk)?,
            algorithm,
            encoding,
            jwk,
            key_id,
            verified: Verified::default(),
            verified_legacy: Verified::default(),
            uses: Arc::default(),
        })
    }

    /// The issuer of the tokens.
    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The audiences of a token that asks for none.
    pub(crate) fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// The public key, as `/openid/v1/jwks` shows it.
    pub(crate) fn jwk(&self) -> &Jwk {
        &self.jwk
    }

    /// How tokens are signed, as `/.well-known/openid-configuration` calls it.
    pub(crate) fn algorithm(&self) -> &'static str {
        match self.algorithm {
            Algorithm::RS256 => "RS256",
            _ => "ES256",
        }
    }

    /// Signs what a token says.
    pub(crate) fn sign(&self, claims: &impl Serialize) -> Result<String, jsonwebtoken::errors::Error> {
        let mut header = Header::new(self.algorithm);
        header.typ = None;
        header.kid = Some(self.key_id.clone());
        jsonwebtoken::encode(&header, claims, &self.encoding)
    }

    /// What a token of this server, for one of these audiences, says.
    pub(crate) fn verify(&self, token: &str, audiences: &[String]) -> Result<Claims, String> {
        let claims = self
            .verified
            .get(token, || self.check_signature(token, &self.issuer))?;
        let now = jiff::Timestamp::now().as_second();
        if claims.exp < now {
            return Err("service account token has expired".into());
        }
        if claims.nbf > now + 5 {
            return Err("service account token is not valid yet".into());
        }
        if !claims.aud.iter().any(|audience| audiences.contains(audience)) {
            return Err(format!(
                "token audiences {} is invalid for the target audiences {}",
                quoted(&claims.aud),
                quoted(audiences)
            ));
        }
        Ok(claims)
    }

    /// What a token that stands in a Secret says.
    pub(crate) fn verify_legacy(&self, token: &str) -> Result<LegacyClaims, String> {
        self.verified_legacy
            .get(token, || self.check_signature(token, legacy_tokens::ISSUER))
    }

    fn check_signature<T: Clone + DeserializeOwned>(&self, token: &str, issuer: &str) -> Result<T, String> {
        let mut validation = Validation::new(self.algorithm);
        validation.set_issuer(&[issuer]);
        validation.required_spec_claims.clear();
        // Times and audiences are checked on every use, below a remembered signature.
        validation.validate_aud = false;
        validation.validate_exp = false;
        jsonwebtoken::decode::<T>(token, &self.decoding, &validation)
            .map(|data| data.claims)
            .map_err(|error| match error.kind() {
                // Upstream's words for what was not signed with the key.
                ErrorKind::InvalidSignature => {
                    "go-jose/go-jose: error in cryptographic primitive".to_string()
                }
                // No token of this server: there is nothing to say about it.
                _ => String::new(),
            })
    }

    /// The user that a bearer token stands for, and those of the audiences that it is for.
    pub(crate) async fn authenticate(
        &self,
        token: &str,
        audiences: &[String],
        registry: &Registry,
    ) -> Result<(UserInfo, Vec<String>), String> {
        let claims = self.verify(token, audiences)?;
        bound_objects_exist(&claims.kubernetes, registry).await?;
        if let Some(warn_after) = claims.kubernetes.warnafter {
            let stale = jiff::Timestamp::now().as_second() > warn_after;
            tick(if stale { &self.uses.stale } else { &self.uses.valid });
        }
        let its = |audience: &&String| claims.aud.contains(audience);
        Ok((user(&claims), audiences.iter().filter(its).cloned().collect()))
    }
}

/// Who says to have signed a token.
pub(crate) fn issuer_of(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Payload {
        iss: String,
    }
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let payload: Payload = serde_json::from_slice(&payload).ok()?;
    Some(payload.iss)
}

/// Checks that what a token is bound to still is there, and is still the same.
pub(crate) async fn bound_objects_exist(claim: &KubernetesClaim, registry: &Registry) -> Result<(), String> {
    let (namespace, account) = (&claim.namespace, &claim.serviceaccount);
    let of_account = same::<ServiceAccount>(registry, namespace, account).await;
    of_account.map_err(|stale| match stale {
        Stale::Gone(error) => error,
        Stale::Deleted => format!("service account {namespace}/{} has been deleted", account.name),
        Stale::Other(its) => format!(
            "service account UID ({its}) does not match claim ({})",
            account.uid
        ),
    })?;
    let invalidated = |what: &'static str, reference: &Reference| {
        let uid = reference.uid.clone();
        move |stale| match stale {
            Stale::Other(its) => {
                format!("{what} UID ({its}) does not match service account {what} ref claim ({uid})")
            }
            Stale::Gone(_) | Stale::Deleted => "service account token has been invalidated".to_string(),
        }
    };
    if let Some(secret) = &claim.secret {
        let found = same::<Secret>(registry, namespace, secret).await;
        found.map_err(invalidated("secret", secret))?;
    }
    if let Some(pod) = &claim.pod {
        let found = same::<Pod>(registry, namespace, pod).await;
        found.map_err(invalidated("pod", pod))?;
    }
    if let Some(node) = &claim.node
        && claim.pod.is_none()
    {
        let found = same::<Node>(registry, "", node).await;
        found.map_err(invalidated("node", node))?;
    }
    Ok(())
}

/// Why an object is not what a token means any more.
enum Stale {
    /// It is not there, as the registry says it.
    Gone(String),
    /// It has been on its way out for too long.
    Deleted,
    /// Another has its name, with this uid.
    Other(String),
}

/// The part of an object that a token depends on.
#[derive(Deserialize)]
struct Bound {
    metadata: BoundMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BoundMeta {
    #[serde(default)]
    uid: String,
    deletion_timestamp: Option<jiff::Timestamp>,
}

/// How long a token outlives the end of the grace period of what it is bound to.
const LEEWAY: jiff::SignedDuration = jiff::SignedDuration::from_secs(60);

/// Whether an object is there, is the one that was meant, and is not long deleted. Every request with a token asks, so no
/// more than that is read of the object.
async fn same<K: Resource>(registry: &Registry, namespace: &str, reference: &Reference) -> Result<(), Stale> {
    let resource = registry.resource(K::GROUP, K::VERSION, K::URL_PATH_SEGMENT);
    let Some(resource) = resource else {
        return Err(Stale::Gone(format!("{} are not served", K::URL_PATH_SEGMENT)));
    };
    let entry = resource.get(namespace, &reference.name).await;
    let entry = entry.map_err(|error| {
        tracing::debug!(kind = K::KIND, name = reference.name, %error, "what a token is bound to");
        Stale::Gone(error.to_string())
    })?;
    let bound: Bound =
        serde_json::from_slice(entry.json()).map_err(|error| Stale::Gone(error.to_string()))?;
    if bound.metadata.uid != reference.uid {
        return Err(Stale::Other(bound.metadata.uid));
    }
    let gone = bound
        .metadata
        .deletion_timestamp
        .and_then(|deleted| deleted.checked_add(LEEWAY).ok())
        .is_some_and(|gone| gone < jiff::Timestamp::now());
    if gone {
        return Err(Stale::Deleted);
    }
    Ok(())
}

/// The user that a token stands for.
pub(crate) fn user(claims: &Claims) -> UserInfo {
    let claim = &claims.kubernetes;
    let mut user = UserInfo::service_account(
        &claim.namespace,
        &claim.serviceaccount.name,
        &claim.serviceaccount.uid,
    );
    let mut extra = |key: &str, value: String| {
        user.extra.insert(key.into(), vec![value]);
    };
    extra(CREDENTIAL_ID, format!("JTI={}", claims.jti));
    if let Some(pod) = &claim.pod {
        extra("authentication.kubernetes.io/pod-name", pod.name.clone());
        extra("authentication.kubernetes.io/pod-uid", pod.uid.clone());
    }
    if let Some(node) = &claim.node {
        extra("authentication.kubernetes.io/node-name", node.name.clone());
        extra("authentication.kubernetes.io/node-uid", node.uid.clone());
    }
    user
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Tokens {
        with_key(rcgen::KeyPair::generate().unwrap().serialize_pem())
    }

    fn with_key(signing_key_pem: String) -> Tokens {
        Tokens::new(&ServiceAccountKeys {
            issuer: "https://kubernetes.default.svc.cluster.local".into(),
            audiences: vec!["api".into()],
            signing_key_pem: signing_key_pem.into_bytes(),
        })
        .unwrap()
    }

    #[test]
    fn rsa_keys_sign_as_well() {
        let tokens = with_key(include_str!("../../tests/rsa.key").into());
        let said = claims(&tokens, 600);
        let token = tokens.sign(&said).unwrap();
        assert_eq!(tokens.algorithm(), "RS256");
        assert_eq!(tokens.verify(&token, tokens.audiences()), Ok(said.clone()));
        let jwk = serde_json::to_value(tokens.jwk()).unwrap();
        assert_eq!((&jwk["kty"], &jwk["alg"]), (&"RSA".into(), &"RS256".into()));
        assert!(self::tokens().verify(&token, tokens.audiences()).is_err());
    }

    fn claims(tokens: &Tokens, seconds: i64) -> Claims {
        let now = jiff::Timestamp::now().as_second();
        Claims {
            aud: vec!["api".into()],
            exp: now + seconds,
            iat: now,
            nbf: now,
            iss: tokens.issuer().into(),
            sub: "system:serviceaccount:a:b".into(),
            kubernetes: KubernetesClaim {
                namespace: "a".into(),
                serviceaccount: Reference {
                    name: "b".into(),
                    uid: "u".into(),
                },
                ..KubernetesClaim::default()
            },
            ..Claims::default()
        }
    }

    #[test]
    fn a_token_is_known_again_and_no_other() {
        let (ours, theirs) = (tokens(), tokens());
        let audiences = ours.audiences().to_vec();
        let said = claims(&ours, 600);
        let token = ours.sign(&said).unwrap();
        // Twice: the second time the signature is remembered.
        assert_eq!(ours.verify(&token, &audiences), Ok(said.clone()));
        assert_eq!(ours.verify(&token, &audiences), Ok(said.clone()));
        assert!(ours.verify(&token, &["other".into()]).is_err());
        assert!(ours.verify(&theirs.sign(&said).unwrap(), &audiences).is_err());
        let other_issuer = Claims {
            iss: "https://else".into(),
            ..said
        };
        assert!(
            ours.verify(&ours.sign(&other_issuer).unwrap(), &audiences)
                .is_err()
        );
        assert!(ours.verify("not.a.token", &audiences).is_err());
        let expired = ours.sign(&claims(&ours, -10)).unwrap();
        assert_eq!(
            ours.verify(&expired, &audiences),
            Err("service account token has expired".into())
        );
    }
}
