//! Acting as somebody else: the `Impersonate-*` headers, each of which must be allowed to the one who sends it.

use std::collections::BTreeMap;

use http::HeaderMap;

use crate::auth::authorize::{Attributes, Authorizer, Decision, forbidden};
use crate::error::{ApiError, ApiResult};
use crate::http::query::decode;
use crate::user::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, UserInfo};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";

/// One thing that the caller must be allowed to impersonate.
#[derive(Debug, PartialEq, Eq)]
struct Claim {
    group: &'static str,
    resource: String,
    namespace: String,
    name: String,
}

/// Who the headers say, and what of it must be allowed; `None` when there are no such headers.
fn requested(headers: &HeaderMap) -> ApiResult<Option<(UserInfo, Vec<Claim>)>> {
    let text = |name: &str| -> Vec<String> {
        headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect()
    };
    let (name, groups, uid) = (
        text(USER).into_iter().next().unwrap_or_default(),
        text(GROUP),
        text(UID).into_iter().next().unwrap_or_default(),
    );
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (header, value) in headers {
        if let Some(key) = header.as_str().strip_prefix(EXTRA) {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            extra.entry(decode(key, false)).or_default().push(value);
        }
    }
    if name.is_empty() {
        if groups.is_empty() && uid.is_empty() && extra.is_empty() {
            return Ok(None);
        }
        return Err(ApiError::internal(
            "requested groups without impersonating a user name",
        ));
    }

    let mut user = UserInfo {
        name,
        uid,
        groups,
        extra,
    };
    let claim = |group: &'static str, resource: &str, namespace: &str, name: &str| Claim {
        group,
        resource: resource.into(),
        namespace: namespace.into(),
        name: name.into(),
    };
    const AUTHENTICATION: &str = "authentication.k8s.io";
    let account = user.as_service_account();
    let mut claims = vec![match account {
        Some((namespace, name)) => claim("", "serviceaccounts", namespace, name),
        None => claim("", "users", "", &user.name),
    }];
    claims.extend(user.groups.iter().map(|group| claim("", "groups", "", group)));
    if !user.uid.is_empty() {
        claims.push(claim(AUTHENTICATION, "uids", "", &user.uid));
    }
    for (key, values) in &user.extra {
        let resource = format!("userextras/{key}");
        claims.extend(
            values
                .iter()
                .map(|value| claim(AUTHENTICATION, &resource, "", value)),
        );
    }

    if let Some((namespace, name)) = account
        && user.groups.is_empty()
    {
        user.groups = UserInfo::service_account(namespace, name, "").groups;
    }
    let everybody = if user.name == ANONYMOUS {
        UNAUTHENTICATED
    } else {
        AUTHENTICATED
    };
    if !user.in_group(AUTHENTICATED) && !user.in_group(UNAUTHENTICATED) {
        user.groups.push(everybody.into());
    }
    Ok(Some((user, claims)))
}

/// The user to act as, when the headers ask for one.
///
/// # Errors
/// 403 when the caller may not.
pub(crate) async fn impersonate(
    headers: &HeaderMap,
    caller: &UserInfo,
    authorizer: &dyn Authorizer,
) -> ApiResult<Option<UserInfo>> {
    let Some((user, claims)) = requested(headers)? else {
        return Ok(None);
    };
    for claim in claims {
        let attributes = Attributes {
            user: caller,
            verb: "impersonate",
            is_resource: true,
            group: claim.group,
            resource: claim.resource,
            namespace: &claim.namespace,
            name: &claim.name,
            path: "",
            field_selector: "",
        };
        match authorizer.authorize(&attributes).await {
            Decision::Allow(_) => {}
            Decision::Deny(reason) | Decision::NoOpinion(reason) => {
                return Err(forbidden(&attributes, &reason));
            }
        }
    }
    Ok(Some(user))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::authorize::Masters;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[tokio::test]
    async fn only_who_may_acts_as_somebody_else() {
        let headers = headers(&[("impersonate-user", "jane"), ("impersonate-group", "dev")]);
        let jane = impersonate(&headers, &UserInfo::master("admin"), &Masters)
            .await
            .unwrap();
        assert_eq!(jane.unwrap().groups, ["dev", "system:authenticated"]);
        let refusal = impersonate(&headers, &UserInfo::new("joe", [""; 0]), &Masters)
            .await
            .unwrap_err();
        assert_eq!(
            refusal.to_string(),
            r#"users "jane" is forbidden: User "joe" cannot impersonate resource "users" in API group "" at the cluster scope"#
        );
    }

    #[test]
    fn service_accounts_are_in_their_groups() {
        let (user, claims) = requested(&headers(&[("impersonate-user", "system:serviceaccount:a:b")]))
            .unwrap()
            .unwrap();
        assert_eq!(
            user.groups,
            [
                "system:serviceaccounts",
                "system:serviceaccounts:a",
                "system:authenticated"
            ]
        );
        assert_eq!(
            (claims[0].resource.as_str(), claims[0].namespace.as_str()),
            ("serviceaccounts", "a")
        );
    }

    #[test]
    fn groups_need_a_user() {
        assert!(requested(&headers(&[("impersonate-group", "dev")])).is_err());
        assert!(requested(&HeaderMap::new()).unwrap().is_none());
    }
}
