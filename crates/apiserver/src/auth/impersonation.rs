//! Acting as somebody else: the `Impersonate-*` headers, and the ways in which it may be allowed to the one who sends them.
//!
//! In the constrained ways (KEP-5284) both who may be acted as and what may be done as them must be allowed. They are tried
//! first; what was always enough, the verb `impersonate` on all that the headers name, is tried last.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use http::HeaderMap;
use parking_lot::Mutex;
use skiff_api::names;

use crate::auth::authorize::{Attributes, Authorizer, Decision, forbidden};
use crate::auth::rbac::rules::quoted;
use crate::error::{ApiError, ApiResult};
use crate::http::Impersonations;
use crate::http::query::decode;
use crate::http::request_info::RequestInfo;
use crate::user::{ANONYMOUS, AUTHENTICATED, MASTERS, NODES, UNAUTHENTICATED, UserInfo};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";

/// The group of what may be impersonated; the oldest way has users and groups in the core group.
const AUTHENTICATION: &str = "authentication.k8s.io";
/// From so many groups or extra values on it is asked first whether all may be impersonated.
const MANY: usize = 4;
/// The key of what a service account's token says of the node of its pod.
const NODE_OF_POD: &str = "authentication.kubernetes.io/node-name";

/// A way of acting as somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// A service account as the node that its pod runs on.
    AssociatedNode,
    /// Any node.
    ArbitraryNode,
    ServiceAccount,
    /// Anybody else.
    UserInfo,
    /// Whoever it is, whatever is to be done.
    Legacy,
}

const MODES: [Mode; 5] = [
    Mode::AssociatedNode,
    Mode::ArbitraryNode,
    Mode::ServiceAccount,
    Mode::UserInfo,
    Mode::Legacy,
];

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::AssociatedNode => "associated-node",
            Self::ArbitraryNode => "arbitrary-node",
            Self::ServiceAccount => "serviceaccount",
            Self::UserInfo => "user-info",
            Self::Legacy => "",
        }
    }

    /// As it is counted.
    fn counted(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            mode => mode.name(),
        }
    }

    fn is_constrained(self) -> bool {
        self != Self::Legacy
    }

    /// The verb on what is impersonated.
    fn verb(self) -> String {
        match self {
            Self::Legacy => "impersonate".into(),
            mode => format!("impersonate:{}", mode.name()),
        }
    }

    /// Whether somebody can be acted as in this way at all.
    fn is_for(self, wanted: &UserInfo, caller: &UserInfo) -> bool {
        let only_name = wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty();
        let node = node_name(wanted);
        let account = wanted.as_service_account().is_some();
        match self {
            Self::AssociatedNode => {
                let own = caller.extra.get(NODE_OF_POD).map(Vec::as_slice);
                only_name
                    && caller.as_service_account().is_some()
                    && node.is_some_and(|node| own == Some(&[node.to_string()]))
            }
            Self::ArbitraryNode => only_name && node.is_some(),
            Self::ServiceAccount => only_name && account,
            Self::UserInfo => node.is_none() && !account,
            Self::Legacy => true,
        }
    }
}

/// The name of the node that a user is.
fn node_name(user: &UserInfo) -> Option<&str> {
    let name = user.name.strip_prefix("system:node:")?;
    names::dns_subdomain(name, false).is_empty().then_some(name)
}

/// Who the headers say; `None` when there are no such headers.
fn requested(headers: &HeaderMap) -> ApiResult<Option<UserInfo>> {
    let text = |name: &str| -> Vec<String> {
        headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect()
    };
    let first = |name: &str| text(name).into_iter().next().unwrap_or_default();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (header, value) in headers {
        if let Some(key) = header.as_str().strip_prefix(EXTRA) {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            extra.entry(unescaped(key)).or_default().push(value);
        }
    }
    let wanted = UserInfo {
        name: first(USER),
        uid: first(UID),
        groups: text(GROUP),
        extra,
    };
    if wanted == UserInfo::default() {
        return Ok(None);
    }
    if wanted.name.is_empty() {
        return Err(ApiError::bad_request(format!(
            "requested {} without impersonating a user name",
            shown(&wanted)
        )));
    }
    Ok(Some(wanted))
}

/// A key as the header means it; one with a broken escape means itself.
fn unescaped(key: &str) -> String {
    let mut escapes = key.split('%').skip(1);
    let whole = escapes.all(|after| {
        let digits = after.as_bytes();
        digits.len() >= 2 && digits.iter().take(2).all(u8::is_ascii_hexdigit)
    });
    if whole { decode(key, false) } else { key.into() }
}

/// A user as Go prints it.
fn shown(user: &UserInfo) -> String {
    let list = |texts: &[String]| {
        let quoted: Vec<String> = texts.iter().map(|text| format!("{text:?}")).collect();
        format!("{{{}}}", quoted.join(", "))
    };
    let groups = match user.groups.as_slice() {
        [] => "[]string(nil)".to_string(),
        groups => format!("[]string{}", list(groups)),
    };
    let extra = if user.extra.is_empty() {
        "map[string][]string(nil)".to_string()
    } else {
        let pairs = user.extra.iter();
        let pairs: Vec<String> = pairs
            .map(|(key, values)| format!("{key:?}:[]string{}", list(values)))
            .collect();
        format!("map[string][]string{{{}}}", pairs.join(", "))
    };
    format!(
        "&user.DefaultInfo{{Name:{:?}, UID:{:?}, Groups:{groups}, Extra:{extra}}}",
        user.name, user.uid
    )
}

/// Who asks, and whom.
struct Asking<'a> {
    caller: &'a UserInfo,
    authorizer: &'a dyn Authorizer,
    counts: &'a Impersonations,
    mode: Mode,
    verb: String,
}

impl Asking<'_> {
    fn attributes<'b>(
        &'b self,
        group: &'b str,
        resource: &str,
        namespace: &'b str,
        name: &'b str,
    ) -> Attributes<'b> {
        Attributes {
            user: self.caller,
            verb: &self.verb,
            is_resource: true,
            group,
            resource: resource.into(),
            namespace,
            name,
            path: "",
            field_selector: "",
        }
    }

    async fn check(&self, attributes: &Attributes<'_>) -> ApiResult<()> {
        let began = Instant::now();
        let decision = self.authorizer.authorize(attributes).await;
        let allowed = matches!(decision, Decision::Allow(_));
        self.counts.checked(self.mode.counted(), allowed, began.elapsed());
        match decision {
            Decision::Allow(_) => Ok(()),
            Decision::Deny(reason) | Decision::NoOpinion(reason) => Err(forbidden(attributes, &reason)),
        }
    }

    /// The user to act as, with the groups that are a matter of course.
    async fn impersonated(&self, wanted: &UserInfo) -> ApiResult<UserInfo> {
        let mut user = wanted.clone();
        self.check_name(wanted, &mut user).await?;
        if !wanted.uid.is_empty() {
            self.check(&self.attributes(AUTHENTICATION, "uids", "", &wanted.uid))
                .await?;
        }
        self.check_groups(&wanted.groups).await?;
        self.check_extra(&wanted.extra).await?;
        let everybody = if user.name == ANONYMOUS {
            Some(UNAUTHENTICATED)
        } else {
            (!user.in_group(UNAUTHENTICATED)).then_some(AUTHENTICATED)
        };
        if let Some(group) = everybody.filter(|group| !user.in_group(group)) {
            user.groups.push(group.into());
        }
        Ok(user)
    }

    /// The API group of users and their groups.
    fn group(&self) -> &'static str {
        if self.mode.is_constrained() {
            AUTHENTICATION
        } else {
            ""
        }
    }

    async fn check_name(&self, wanted: &UserInfo, user: &mut UserInfo) -> ApiResult<()> {
        let group = self.group();
        if let Some((namespace, name)) = wanted.as_service_account() {
            if wanted.groups.is_empty() {
                user.groups = UserInfo::service_account(namespace, name, "").groups;
                user.groups.retain(|group| group != AUTHENTICATED);
            }
            return self
                .check(&self.attributes(group, "serviceaccounts", namespace, name))
                .await;
        }
        match node_name(wanted).filter(|_| self.mode.is_constrained()) {
            Some(node) => {
                user.groups = vec![NODES.into()];
                // Who is allowed to act as its own node is allowed so wherever it runs.
                let node = if self.mode == Mode::AssociatedNode {
                    "*"
                } else {
                    node
                };
                self.check(&self.attributes(group, "nodes", "", node)).await
            }
            None => {
                self.check(&self.attributes(group, "users", "", &wanted.name))
                    .await
            }
        }
    }

    async fn check_groups(&self, groups: &[String]) -> ApiResult<()> {
        let constrained = self.mode.is_constrained();
        let of = |name| self.attributes(self.group(), "groups", "", name);
        if constrained && groups.iter().any(String::is_empty) {
            return Err(forbidden(
                &of(""),
                "impersonating the empty string group is not allowed",
            ));
        }
        if constrained && groups.iter().any(|group| group == MASTERS) {
            return Err(forbidden(
                &of(MASTERS),
                "impersonating the system:masters group is not allowed",
            ));
        }
        if constrained && groups.len() >= MANY && self.check(&of("*")).await.is_ok() {
            return Ok(());
        }
        for group in groups {
            self.check(&of(group)).await?;
        }
        Ok(())
    }

    async fn check_extra(&self, extra: &BTreeMap<String, Vec<String>>) -> ApiResult<()> {
        let constrained = self.mode.is_constrained();
        if constrained && let Some(wrong) = wrong_with(extra) {
            let attributes = self.attributes(AUTHENTICATION, "userextras", "", "");
            return Err(forbidden(&attributes, &wrong));
        }
        let count: usize = extra.values().map(Vec::len).sum();
        if constrained && count >= MANY {
            let all = self.attributes(AUTHENTICATION, "userextras/*", "", "*");
            if self.check(&all).await.is_ok() {
                return Ok(());
            }
        }
        for (key, values) in extra {
            let resource = format!("userextras/{key}");
            for value in values {
                self.check(&self.attributes(AUTHENTICATION, &resource, "", value))
                    .await?;
            }
        }
        Ok(())
    }
}

/// What constrained ways do not allow in the extra values.
fn wrong_with(extra: &BTreeMap<String, Vec<String>>) -> Option<String> {
    extra.iter().find_map(|(key, values)| {
        if key.is_empty() {
            return Some("impersonating the empty string key in extra is not allowed".into());
        }
        if let Some(wrong) = names::domain_prefixed_path(key).first() {
            return Some(format!(
                "impersonating an invalid key in extra is not allowed: extra.key: Invalid value: {key:?}: {wrong}"
            ));
        }
        if key.chars().any(char::is_uppercase) {
            let keys = quoted(std::slice::from_ref(key));
            let key = keys.trim_matches(['[', ']']);
            return Some(format!(
                "impersonating a non-lowercase key in extra is not allowed: {key}"
            ));
        }
        values
            .iter()
            .any(String::is_empty)
            .then(|| "impersonating the empty string value in extra is not allowed".into())
    })
}

/// Of how many callers it is remembered in which way they acted as somebody.
const REMEMBERED: usize = 10_000;

/// Lets users act as others.
pub(crate) struct Impersonation {
    authorizer: Arc<dyn Authorizer>,
    counts: Arc<Impersonations>,
    /// In which way a caller was last allowed to, by their name. They are likely to do it in one way only, and that is then
    /// tried first.
    last: Mutex<HashMap<String, Mode>>,
}

impl Impersonation {
    pub(crate) fn new(authorizer: Arc<dyn Authorizer>, counts: Arc<Impersonations>) -> Self {
        Self {
            authorizer,
            counts,
            last: Mutex::default(),
        }
    }

    /// The user to act as, when the headers ask for one.
    ///
    /// # Errors
    /// 403 when the caller may not in any way, as the first way that was tried says it; 400 when the headers name no user.
    pub(crate) async fn user(
        &self,
        headers: &HeaderMap,
        caller: &UserInfo,
        info: &RequestInfo,
    ) -> ApiResult<Option<UserInfo>> {
        let Some(wanted) = requested(headers)? else {
            return Ok(None);
        };
        let began = Instant::now();
        let found = self.found(&wanted, caller, info).await;
        let mode = found.as_ref().ok().map(|(mode, _)| mode.counted());
        self.counts.attempted(mode, began.elapsed());
        found.map(|(_, user)| Some(user))
    }

    /// The first way that is allowed, the remembered one before the others, and the user.
    async fn found(
        &self,
        wanted: &UserInfo,
        caller: &UserInfo,
        info: &RequestInfo,
    ) -> ApiResult<(Mode, UserInfo)> {
        let last = self.last.lock().get(&caller.name).copied();
        let others = MODES.into_iter().filter(|mode| Some(*mode) != last);
        let mut refusal = None;
        for mode in last
            .into_iter()
            .chain(others)
            .filter(|mode| mode.is_for(wanted, caller))
        {
            match self.as_mode(mode, wanted, caller, info).await {
                Ok(user) => {
                    if last != Some(mode) {
                        self.remember(&caller.name, mode);
                    }
                    return Ok((mode, user));
                }
                Err(error) => drop(refusal.get_or_insert(error)),
            }
        }
        Err(refusal.unwrap_or_else(|| ApiError::internal("all impersonation modes failed")))
    }

    fn remember(&self, caller: &str, mode: Mode) {
        let mut last = self.last.lock();
        if last.len() >= REMEMBERED {
            // It only saves questions, and whoever is still there is soon known again.
            last.clear();
        }
        last.insert(caller.to_string(), mode);
    }

    async fn as_mode(
        &self,
        mode: Mode,
        wanted: &UserInfo,
        caller: &UserInfo,
        info: &RequestInfo,
    ) -> ApiResult<UserInfo> {
        let asking = Asking {
            caller,
            authorizer: self.authorizer.as_ref(),
            counts: &self.counts,
            mode,
            verb: mode.verb(),
        };
        if mode.is_constrained() {
            let verb = format!("impersonate-on:{}:{}", mode.name(), info.verb);
            let attributes = Attributes {
                verb: &verb,
                ..Attributes::of(caller, info)
            };
            asking.check(&attributes).await?;
        }
        asking.impersonated(wanted).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use http::Method;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    /// Allows what is listed as `verb group/resource name`, and notes what it was asked.
    #[derive(Default)]
    struct Listed(&'static [&'static str], Mutex<Vec<String>>);

    #[async_trait]
    impl Authorizer for Listed {
        async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
            let Attributes {
                verb,
                group,
                resource,
                name,
                ..
            } = attributes;
            let asked = format!("{verb} {group}/{resource} {name}");
            self.1.lock().push(asked.clone());
            if self.0.contains(&asked.as_str()) {
                Decision::Allow(None)
            } else {
                Decision::NoOpinion(String::new())
            }
        }
    }

    fn listing(allowed: &'static [&'static str]) -> (Arc<Listed>, Impersonation) {
        let listed = Arc::new(Listed(allowed, Mutex::default()));
        (listed.clone(), Impersonation::new(listed, Arc::default()))
    }

    fn listed_pods() -> RequestInfo {
        RequestInfo::parse(&Method::GET, &"/api/v1/namespaces/n/pods".parse().unwrap()).unwrap()
    }

    async fn act(
        headers: &HeaderMap,
        caller: &UserInfo,
        allowed: &'static [&'static str],
    ) -> Result<UserInfo, String> {
        let found = listing(allowed).1.user(headers, caller, &listed_pods()).await;
        found.map(Option::unwrap).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn the_way_that_was_allowed_last_is_tried_first() {
        let headers = headers(&[("impersonate-user", "jane")]);
        let (listed, impersonation) = listing(&["impersonate /users jane"]);
        let asked = async |caller: &str| {
            let caller = UserInfo::new(caller, [""; 0]);
            let outcome = impersonation.user(&headers, &caller, &listed_pods()).await;
            assert_eq!(outcome.unwrap().unwrap().name, "jane");
            std::mem::take(&mut *listed.1.lock())
        };
        let all = ["impersonate-on:user-info:list /pods ", "impersonate /users jane"];
        assert_eq!(asked("proxy").await, all);
        assert_eq!(asked("proxy").await, ["impersonate /users jane"]);
        assert_eq!(asked("other").await, all, "who never did it");
        // It is only tried first: what it refuses, another way may allow, and its refusal is the one that is told.
        let caller = UserInfo::new("proxy", [""; 0]);
        let john = HeaderMap::from_iter([("impersonate-user".parse().unwrap(), "john".parse().unwrap())]);
        let error = impersonation
            .user(&john, &caller, &listed_pods())
            .await
            .unwrap_err();
        assert!(
            error
                .to_string()
                .contains("cannot impersonate resource \"users\" in API group \"\""),
            "{error}"
        );
        let mut text = String::new();
        impersonation.counts.write(&mut text).unwrap();
        for line in [
            r#"apiserver_impersonation_attempts_total{decision="allowed",mode="legacy"} 3"#,
            r#"apiserver_impersonation_attempts_total{decision="denied",mode=""} 1"#,
            r#"apiserver_impersonation_authorization_attempts_total{decision="denied",mode="user-info"} 3"#,
            r#"apiserver_impersonation_authorization_attempts_total{decision="denied",mode="legacy"} 1"#,
        ] {
            assert!(text.lines().any(|its| its == line), "{line} is not in\n{text}");
        }
    }

    #[tokio::test]
    async fn only_who_may_acts_as_somebody_else() {
        let headers = headers(&[
            ("impersonate-user", "jane"),
            ("impersonate-group", "dev"),
            ("impersonate-uid", "u"),
            ("impersonate-extra-acme.com%2fscopes", "view"),
        ]);
        let joe = UserInfo::new("joe", [""; 0]);
        let jane = act(
            &headers,
            &joe,
            &[
                "impersonate /users jane",
                "impersonate /groups dev",
                "impersonate authentication.k8s.io/uids u",
                "impersonate authentication.k8s.io/userextras/acme.com/scopes view",
            ],
        )
        .await
        .unwrap();
        assert_eq!(jane.groups, ["dev", "system:authenticated"]);
        assert_eq!(jane.extra["acme.com/scopes"], ["view"]);
        let constrained = act(
            &headers,
            &joe,
            &[
                "impersonate-on:user-info:list /pods ",
                "impersonate:user-info authentication.k8s.io/users jane",
                "impersonate:user-info authentication.k8s.io/groups dev",
                "impersonate:user-info authentication.k8s.io/uids u",
                "impersonate:user-info authentication.k8s.io/userextras/acme.com/scopes view",
            ],
        );
        assert_eq!(constrained.await, Ok(jane));
        assert_eq!(
            act(&headers, &joe, &[]).await.unwrap_err(),
            r#"pods is forbidden: User "joe" cannot impersonate-on:user-info:list resource "pods" in API group "" in the namespace "n""#
        );
        assert_eq!(
            act(&headers, &joe, &["impersonate-on:user-info:list /pods "])
                .await
                .unwrap_err(),
            r#"users.authentication.k8s.io "jane" is forbidden: User "joe" cannot impersonate:user-info resource "users" in API group "authentication.k8s.io" at the cluster scope"#
        );
    }

    #[tokio::test]
    async fn nodes_and_service_accounts_have_ways_of_their_own() {
        let joe = UserInfo::new("joe", [""; 0]);
        let account = headers(&[("impersonate-user", "system:serviceaccount:a:b")]);
        let robot = act(
            &account,
            &joe,
            &[
                "impersonate-on:serviceaccount:list /pods ",
                "impersonate:serviceaccount authentication.k8s.io/serviceaccounts b",
            ],
        );
        assert_eq!(
            robot.await.unwrap().groups,
            [
                "system:serviceaccounts",
                "system:serviceaccounts:a",
                "system:authenticated"
            ]
        );
        let node = headers(&[("impersonate-user", "system:node:n1")]);
        let mut agent = UserInfo::service_account("kube-system", "agent", "u");
        let allowed = &[
            "impersonate-on:associated-node:list /pods ",
            "impersonate:associated-node authentication.k8s.io/nodes *",
        ];
        agent.extra = [(NODE_OF_POD.to_string(), vec!["n2".to_string()])].into();
        assert!(act(&node, &agent, allowed).await.is_err(), "it runs elsewhere");
        agent.extra = [(NODE_OF_POD.to_string(), vec!["n1".to_string()])].into();
        let acting = act(&node, &agent, allowed).await.unwrap();
        assert_eq!(
            (acting.name.as_str(), acting.groups),
            (
                "system:node:n1",
                vec!["system:nodes".to_string(), "system:authenticated".to_string()]
            )
        );
        let masters = headers(&[("impersonate-user", "x"), ("impersonate-group", "system:masters")]);
        let refusal = act(
            &masters,
            &joe,
            &[
                "impersonate-on:user-info:list /pods ",
                "impersonate:user-info authentication.k8s.io/users x",
                "impersonate:user-info authentication.k8s.io/groups system:masters",
            ],
        );
        let refusal = refusal.await.unwrap_err();
        assert!(
            refusal.ends_with("impersonating the system:masters group is not allowed"),
            "{refusal}"
        );
    }

    #[test]
    fn nothing_is_asked_for_without_a_user() {
        assert_eq!(requested(&HeaderMap::new()).unwrap(), None);
        let refusals = [
            (
                headers(&[("impersonate-group", "dev")]),
                r#"requested &user.DefaultInfo{Name:"", UID:"", Groups:[]string{"dev"}, Extra:map[string][]string(nil)} without impersonating a user name"#,
            ),
            (
                headers(&[
                    ("impersonate-uid", "u"),
                    ("impersonate-extra-k", "a"),
                    ("impersonate-extra-k", "b"),
                ]),
                r#"requested &user.DefaultInfo{Name:"", UID:"u", Groups:[]string(nil), Extra:map[string][]string{"k":[]string{"a", "b"}}} without impersonating a user name"#,
            ),
        ];
        for (headers, expected) in refusals {
            let error = requested(&headers).unwrap_err();
            assert_eq!((error.code(), error.to_string().as_str()), (400, expected));
        }
    }

    #[test]
    fn keys_may_be_escaped() {
        for (key, meant) in [
            ("acme.com%2fscopes", "acme.com/scopes"),
            ("a%2", "a%2"),
            ("a%zz%2f", "a%zz%2f"),
            ("plain", "plain"),
        ] {
            assert_eq!(unescaped(key), meant);
        }
    }
}
