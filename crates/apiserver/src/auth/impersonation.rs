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
mod tests;
