//! Who is asking, and may they: authentication, impersonation, authorization.

pub mod authorize;
mod bootstrap_token;
pub(crate) mod impersonation;
pub(crate) mod legacy_tokens;
pub(crate) mod node;
pub(crate) mod rbac;
pub(crate) mod tokens;
pub(crate) mod x509;

use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::auth::tokens::{Tokens, issuer_of};
use crate::error::{ApiError, ApiResult};
use crate::registry::Registry;
use crate::user::UserInfo;

/// The user that the connection's client certificate names; an error when it showed one that is not accepted.
/// `None`: it showed none.
#[derive(Clone, Debug)]
pub(crate) struct PeerIdentity(pub(crate) Option<Result<Arc<UserInfo>, Arc<str>>>);

/// Finds out who asks: the client certificate, else the bearer token, else nobody; and what they should be warned of.
///
/// # Errors
/// 401 when a credential was shown that is not accepted.
pub(crate) async fn authenticate(
    peer: &PeerIdentity,
    headers: &HeaderMap,
    tokens: &Tokens,
    registry: &Arc<Registry>,
) -> ApiResult<(Arc<UserInfo>, Option<&'static str>)> {
    let mut refused = false;
    match &peer.0 {
        Some(Ok(user)) => return Ok((user.clone(), None)),
        Some(Err(cause)) => {
            tracing::debug!(%cause, "client certificate refused");
            refused = true;
        }
        None => {}
    }
    if let Some(token) = bearer_token(headers) {
        // Tokens are verified by much; who comes with a certificate is not to carry its weight.
        match Box::pin(authenticate_token(token, None, tokens, registry)).await {
            Ok(known) => return Ok((Arc::new(known.user), known.warning)),
            Err(cause) => {
                tracing::debug!(%cause, "bearer token refused");
                refused = true;
            }
        }
    }
    if refused {
        return Err(ApiError::unauthorized());
    }
    Ok((Arc::new(UserInfo::anonymous()), None))
}

/// What a bearer token stands for.
pub(crate) struct KnownToken {
    pub(crate) user: UserInfo,
    /// Those of the audiences asked about that it is for.
    pub(crate) audiences: Vec<String>,
    /// What its user should be warned of.
    pub(crate) warning: Option<&'static str>,
}

/// What a bearer token stands for. It must be for one of the audiences asked about; without any, for the server itself.
///
/// # Errors
/// Why the token is not accepted.
pub(crate) async fn authenticate_token(
    token: &str,
    audiences: Option<&[String]>,
    tokens: &Tokens,
    registry: &Arc<Registry>,
) -> Result<KnownToken, String> {
    let audiences = audiences.unwrap_or(tokens.audiences());
    if let Some(outcome) = bootstrap_token::authenticate(token, registry).await {
        // Such a token is for this server alone.
        let own = |audience: &&String| tokens.audiences().contains(audience);
        let audiences: Vec<String> = audiences.iter().filter(own).cloned().collect();
        if audiences.is_empty() {
            return Err("the token is for this server".into());
        }
        return outcome.map(|user| KnownToken {
            user,
            audiences,
            warning: None,
        });
    }
    if issuer_of(token).is_some_and(|issuer| issuer == legacy_tokens::ISSUER) {
        return legacy_tokens::authenticate(token, audiences, tokens, registry).await;
    }
    let (user, audiences) = tokens.authenticate(token, audiences, registry).await?;
    Ok(KnownToken {
        user,
        audiences,
        warning: None,
    })
}

fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?.trim();
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bearer_tokens_are_found() {
        let cases = [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            ("Bearer", None),
            ("Bearer ", None),
            ("Basic abc", None),
        ];
        for (value, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            assert_eq!(bearer_token(&headers), expected, "{value}");
        }
    }
}
