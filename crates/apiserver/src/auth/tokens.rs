//! Service-account tokens: signed, known again, and void as soon as what they are bound to is gone.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::{Jwk, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use k8s_openapi::Metadata;
use k8s_openapi::api::core::v1::{Node, Pod, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::auth::x509::CREDENTIAL_ID;
use crate::config::ServiceAccountKeys;
use crate::objects::{Readable, find};
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
    encoding: EncodingKey,
    decoding: DecodingKey,
    /// The public key, with its id.
    jwk: Jwk,
    key_id: String,
    /// Signatures found good lately, by the token's digest: checking one costs more than the rest of a request.
    verified: Mutex<HashMap<[u8; 32], (Claims, Instant)>>,
}

/// How long a good signature is remembered, and how many.
const REMEMBERED: (Duration, usize) = (Duration::from_secs(60), 4096);

impl Tokens {
    /// Tokens signed with the configured key.
    pub(crate) fn new(keys: &ServiceAccountKeys) -> Result<Self, jsonwebtoken::errors::Error> {
        let encoding = EncodingKey::from_ec_pem(&keys.signing_key_pem)?;
        let mut jwk = Jwk::from_encoding_key(&encoding, Algorithm::ES256)?;
        let key_id = jwk.thumbprint(ThumbprintHash::SHA256)?;
        jwk.common.key_id = Some(key_id.clone());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(Self {
            issuer: keys.issuer.clone(),
            audiences: keys.audiences.clone(),
            decoding: DecodingKey::from_jwk(&jwk)?,
            encoding,
            jwk,
            key_id,
            verified: Mutex::default(),
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

    /// Signs what a token says.
    pub(crate) fn sign(&self, claims: &Claims) -> Result<String, jsonwebtoken::errors::Error> {
        let mut header = Header::new(Algorithm::ES256);
        header.typ = None;
        header.kid = Some(self.key_id.clone());
        jsonwebtoken::encode(&header, claims, &self.encoding)
    }

    /// What a token of this server, for one of these audiences, says.
    pub(crate) fn verify(&self, token: &str, audiences: &[String]) -> Result<Claims, String> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        let remembered = self
            .verified
            .lock()
            .get(&digest)
            .map(|(claims, _)| claims.clone());
        let claims = match remembered {
            Some(claims) => claims,
            None => {
                let claims = self.check_signature(token)?;
                let mut verified = self.verified.lock();
                if verified.len() >= REMEMBERED.1 {
                    verified.retain(|_, (_, since)| since.elapsed() < REMEMBERED.0);
                }
                if verified.len() < REMEMBERED.1 {
                    verified.insert(digest, (claims.clone(), Instant::now()));
                }
                claims
            }
        };
        let now = jiff::Timestamp::now().as_second();
        if claims.exp < now {
            return Err("token has expired".into());
        }
        if claims.nbf > now + 5 {
            return Err("token is not yet valid".into());
        }
        if !claims.aud.iter().any(|audience| audiences.contains(audience)) {
            return Err(format!("token is for {:?}", claims.aud));
        }
        Ok(claims)
    }

    fn check_signature(&self, token: &str) -> Result<Claims, String> {
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_issuer(&[&self.issuer]);
        // Times and audiences are checked on every use, below a remembered signature.
        validation.validate_aud = false;
        validation.validate_exp = false;
        jsonwebtoken::decode::<Claims>(token, &self.decoding, &validation)
            .map(|data| data.claims)
            .map_err(|error| error.to_string())
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
        let its = |audience: &&String| claims.aud.contains(audience);
        Ok((user(&claims), audiences.iter().filter(its).cloned().collect()))
    }
}

/// Checks that what a token is bound to still is there, and is still the same.
pub(crate) async fn bound_objects_exist(claim: &KubernetesClaim, registry: &Registry) -> Result<(), String> {
    let namespace = &claim.namespace;
    same::<ServiceAccount>(registry, namespace, &claim.serviceaccount).await?;
    if let Some(pod) = &claim.pod {
        same::<Pod>(registry, namespace, pod).await?;
    }
    if let Some(secret) = &claim.secret {
        same::<Secret>(registry, namespace, secret).await?;
    }
    if let Some(node) = &claim.node
        && claim.pod.is_none()
    {
        same::<Node>(registry, "", node).await?;
    }
    Ok(())
}

async fn same<K>(registry: &Registry, namespace: &str, reference: &Reference) -> Result<(), String>
where
    K: Readable + Metadata<Ty = ObjectMeta>,
{
    let object = find::<K>(registry, namespace, &reference.name)
        .await
        .map_err(|error| error.to_string())?;
    match object {
        Some(object) if object.metadata().uid.as_deref() == Some(&reference.uid) => Ok(()),
        Some(_) => Err(format!("{} {} is not the same any more", K::KIND, reference.name)),
        None => Err(format!("{} {} is gone", K::KIND, reference.name)),
    }
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
        Tokens::new(&ServiceAccountKeys {
            issuer: "https://kubernetes.default.svc.cluster.local".into(),
            audiences: vec!["api".into()],
            signing_key_pem: rcgen::KeyPair::generate().unwrap().serialize_pem().into_bytes(),
        })
        .unwrap()
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
        assert_eq!(ours.verify(&expired, &audiences), Err("token has expired".into()));
    }
}
