//! Who asks: the outcome of authentication, and what authorization and admission decide by.

use std::collections::BTreeMap;

/// The group of everybody whose credential was accepted.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of everybody who showed no credential.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The name of somebody who showed no credential.
pub const ANONYMOUS: &str = "system:anonymous";
/// The group that may do everything.
pub const MASTERS: &str = "system:masters";
/// The group of all nodes.
pub const NODES: &str = "system:nodes";
/// The group of all service accounts.
pub const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
/// What the name of every service account begins with; `{namespace}:{name}` follows.
pub const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";

/// A caller (`user.Info` of upstream's API server).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserInfo {
    /// The name, unique among active users.
    pub name: String,
    /// Tells users of the same name at different times apart; may be empty.
    pub uid: String,
    /// The groups it is in.
    pub groups: Vec<String>,
    /// What the authenticator knew besides.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// A user with this name in these groups and, as everybody with a credential, in `system:authenticated`.
    pub fn new(name: impl Into<String>, groups: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let mut groups: Vec<String> = groups.into_iter().map(Into::into).collect();
        if !groups.iter().any(|group| group == AUTHENTICATED) {
            groups.push(AUTHENTICATED.into());
        }
        Self {
            name: name.into(),
            groups,
            ..Self::default()
        }
    }

    /// A user that may do everything.
    pub fn master(name: impl Into<String>) -> Self {
        Self::new(name, [MASTERS])
    }

    /// Somebody who showed no credential.
    pub fn anonymous() -> Self {
        Self {
            name: ANONYMOUS.into(),
            groups: vec![UNAUTHENTICATED.into()],
            ..Self::default()
        }
    }

    /// A service account.
    pub fn service_account(namespace: &str, name: &str, uid: &str) -> Self {
        let groups = [
            SERVICE_ACCOUNTS.to_string(),
            format!("{SERVICE_ACCOUNTS}:{namespace}"),
        ];
        Self {
            uid: uid.into(),
            ..Self::new(format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}"), groups)
        }
    }

    /// Whether the user is in a group.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|its| its == group)
    }

    /// The namespace and name, when this is a service account.
    pub fn as_service_account(&self) -> Option<(&str, &str)> {
        self.name.strip_prefix(SERVICE_ACCOUNT_PREFIX)?.split_once(':')
    }
}
