//! The tokens controller: Secrets of the type `kubernetes.io/service-account-token` get the token of their account, and go
//! with it.

use std::fmt;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::Client;
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use skiff_informer::{Informer, Informers, ObjectKey, Selection};
use tokio_util::sync::CancellationToken;

use crate::TokenSigner;
use crate::worker::{Failure, Reconcile, is_not_found, status_code, unless_gone, work};

/// The type of these Secrets.
pub(crate) const TYPE: &str = "kubernetes.io/service-account-token";
/// The annotations that name a Secret's account.
pub(crate) const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
pub(crate) const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
const TOKEN: &str = "token";
const NAMESPACE: &str = "namespace";
const ROOT_CA: &str = "ca.crt";

/// All Secrets of the type.
pub(crate) fn secrets(informers: &Informers) -> Informer<Secret> {
    informers.select::<Secret>(Selection {
        fields: Some(format!("type={TYPE}")),
        labels: None,
    })
}

/// A Secret and the account that it names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key {
    secret: ObjectKey,
    account: String,
}

impl Key {
    fn of(secret: &Secret) -> Self {
        Self {
            secret: ObjectKey::of(&secret.metadata),
            account: annotation(secret, ACCOUNT_NAME).to_string(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.secret.fmt(f)
    }
}

/// An annotation of a Secret, empty when it has none.
pub(crate) fn annotation<'a>(secret: &'a Secret, name: &str) -> &'a str {
    secret
        .metadata
        .annotations
        .as_ref()
        .and_then(|all| all.get(name))
        .map_or("", String::as_str)
}

/// Whether an account is the one that a Secret names: by its uid, too, where the Secret names one.
pub(crate) fn is_meant(account: &ServiceAccount, secret: &Secret) -> bool {
    let uid = annotation(secret, ACCOUNT_UID);
    account.metadata.name.as_deref() == Some(annotation(secret, ACCOUNT_NAME))
        && (uid.is_empty() || account.metadata.uid.as_deref() == Some(uid))
}

/// Whether an account names a Secret.
pub(crate) fn names(account: &ServiceAccount, secret: &str) -> bool {
    let mut references = account.secrets.iter().flatten();
    references.any(|reference| reference.name.as_deref() == Some(secret))
}

/// What a Secret lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Lacks {
    root_ca: bool,
    namespace: bool,
    token: bool,
}

fn lacks(secret: &Secret, root_ca_pem: &str) -> Lacks {
    let held = |key: &str| {
        let data = secret.data.as_ref()?;
        data.get(key)
            .map(|bytes| bytes.0.as_slice())
            .filter(|bytes| !bytes.is_empty())
    };
    Lacks {
        root_ca: !root_ca_pem.is_empty() && held(ROOT_CA) != Some(root_ca_pem.as_bytes()),
        namespace: held(NAMESPACE).is_none(),
        token: held(TOKEN).is_none(),
    }
}

/// The Secret with all that it lacks; `None` when it lacks nothing.
fn filled(
    secret: &Secret,
    account: &ServiceAccount,
    root_ca_pem: &str,
    sign: impl FnOnce() -> Result<String, String>,
) -> Result<Option<Secret>, String> {
    let lacks = lacks(secret, root_ca_pem);
    if lacks == Lacks::default() {
        return Ok(None);
    }
    let mut filled = secret.clone();
    let mut put = |key: &str, value: String| {
        let data = filled.data.get_or_insert_default();
        data.insert(key.to_string(), ByteString(value.into_bytes()));
    };
    if lacks.root_ca {
        put(ROOT_CA, root_ca_pem.to_string());
    }
    if lacks.namespace {
        put(NAMESPACE, secret.metadata.namespace.clone().unwrap_or_default());
    }
    if lacks.token {
        put(TOKEN, sign()?);
    }
    let annotations = filled.metadata.annotations.get_or_insert_default();
    let of = |text: &Option<String>| text.clone().unwrap_or_default();
    annotations.insert(ACCOUNT_NAME.into(), of(&account.metadata.name));
    annotations.insert(ACCOUNT_UID.into(), of(&account.metadata.uid));
    Ok(Some(filled))
}

struct Controller {
    client: Client,
    root_ca_pem: String,
    signer: TokenSigner,
    secrets: Informer<Secret>,
    accounts: Informer<ServiceAccount>,
}

/// Runs the controller until `shutdown`.
pub(crate) async fn run(
    root_ca_pem: String,
    signer: TokenSigner,
    informers: Informers,
    shutdown: CancellationToken,
) {
    let secrets = secrets(&informers);
    let accounts = informers.all::<ServiceAccount>();
    let queue = informers.queues().make::<Key>("serviceaccount_tokens_secret");
    secrets.on_change({
        let queue = queue.clone();
        move |old, new| {
            if let Some(secret) = new.or(old) {
                queue.add(Key::of(secret));
            }
        }
    });
    accounts.on_change({
        let (queue, secrets) = (queue.clone(), secrets.clone());
        move |old, new| {
            // The Secrets of an account go with it; those of one that was made anew are not its own.
            let gone = new.is_none() || old.is_some_and(|old| new.is_some_and(|new| !same(old, new)));
            if let Some(account) = old.filter(|_| gone) {
                let namespace = account.metadata.namespace.as_deref().unwrap_or_default();
                let name = account.metadata.name.as_deref().unwrap_or_default();
                let of_namespace = secrets.list_namespace(namespace);
                of_namespace
                    .iter()
                    .filter(|secret| annotation(secret, ACCOUNT_NAME) == name)
                    .for_each(|secret| queue.add(Key::of(secret)));
            }
        }
    });
    tokio::select! {
        () = async { tokio::join!(secrets.synced(), accounts.synced()); } => {}
        () = shutdown.cancelled() => return,
    }
    let controller = Controller {
        client: informers.client().clone(),
        root_ca_pem,
        signer,
        secrets,
        accounts,
    };
    // Upstream's default number of its workers.
    work(
        "serviceaccount_tokens_secret",
        Arc::new(controller),
        queue,
        5,
        shutdown,
    )
    .await;
}

fn same(old: &ServiceAccount, new: &ServiceAccount) -> bool {
    old.metadata.uid == new.metadata.uid
}

impl Controller {
    /// The account that a Secret names. Whether there is none is asked of the API: the copy here may be behind.
    async fn account(&self, secret: &Secret, key: &Key) -> Result<Option<Arc<ServiceAccount>>, kube::Error> {
        let here = self
            .accounts
            .get(&ObjectKey::new(&key.secret.namespace, &key.account));
        if let Some(account) = here.filter(|account| is_meant(account, secret)) {
            return Ok(Some(account));
        }
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &key.secret.namespace);
        let there = api.get_opt(&key.account).await?;
        Ok(there.filter(|account| is_meant(account, secret)).map(Arc::new))
    }

    /// Takes a Secret that is gone out of the account that names it.
    async fn forget(&self, key: &Key) -> Result<(), Failure> {
        let here = self
            .accounts
            .get(&ObjectKey::new(&key.secret.namespace, &key.account));
        if !here.is_some_and(|account| names(&account, &key.secret.name)) {
            return Ok(());
        }
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &key.secret.namespace);
        if secrets.get_opt(&key.secret.name).await?.is_some() {
            return Ok(());
        }
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &key.secret.namespace);
        let Some(mut account) = api.get_opt(&key.account).await? else {
            return Ok(());
        };
        if let Some(references) = &mut account.secrets {
            references.retain(|reference| reference.name.as_deref() != Some(&key.secret.name));
        }
        let replaced = api.replace(&key.account, &PostParams::default(), &account).await;
        Ok(unless_gone(replaced)?)
    }
}

impl Reconcile<Key> for Controller {
    async fn reconcile(&self, key: &Key) -> Result<(), Failure> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &key.secret.namespace);
        let Some(secret) = self.secrets.get(&key.secret) else {
            return self.forget(key).await;
        };
        if secret.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let Some(account) = self.account(&secret, key).await? else {
            let params = DeleteParams {
                preconditions: Some(Preconditions {
                    uid: secret.metadata.uid.clone(),
                    resource_version: None,
                }),
                ..DeleteParams::default()
            };
            return match api.delete(&key.secret.name, &params).await {
                // It is another Secret by now.
                Err(error) if is_not_found(&error) || status_code(&error) == Some(409) => Ok(()),
                Err(error) => Err(error.into()),
                Ok(_) => Ok(()),
            };
        };
        if lacks(&secret, &self.root_ca_pem) == Lacks::default() {
            return Ok(());
        }
        // The informers leave out who owns the fields, which a replacement is to keep.
        let Some(live) = api.get_opt(&key.secret.name).await? else {
            return Ok(());
        };
        let sign = || self.signer.sign(&account, &key.secret.name);
        let filled = filled(&live, &account, &self.root_ca_pem, sign).map_err(Failure::NotYet)?;
        if let Some(filled) = filled {
            let replaced = api
                .replace(&key.secret.name, &PostParams::default(), &filled)
                .await;
            unless_gone(replaced)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ObjectReference;

    fn secret(annotations: &[(&str, &str)]) -> Secret {
        let mut secret = Secret::default();
        secret.metadata.namespace = Some("n".into());
        secret.metadata.name = Some("s".into());
        let annotations = annotations.iter();
        secret.metadata.annotations = Some(
            annotations
                .map(|(key, value)| (key.to_string(), value.to_string()))
                .collect(),
        );
        secret
    }

    fn account(uid: &str) -> ServiceAccount {
        let mut account = ServiceAccount::default();
        account.metadata.name = Some("robot".into());
        account.metadata.uid = Some(uid.into());
        account
    }

    #[test]
    fn a_secret_gets_what_it_lacks_and_keeps_what_it_has() {
        let bare = secret(&[(ACCOUNT_NAME, "robot")]);
        let full = filled(&bare, &account("u"), "PEM", || Ok("t".into()))
            .unwrap()
            .unwrap();
        let data = full.data.clone().unwrap();
        let of = |key: &str| String::from_utf8(data[key].0.clone()).unwrap();
        assert_eq!(
            (of("token"), of("namespace"), of("ca.crt")),
            ("t".into(), "n".into(), "PEM".into())
        );
        assert_eq!(annotation(&full, ACCOUNT_UID), "u");
        let unused = || -> Result<String, String> { panic!("it has a token") };
        assert_eq!(filled(&full, &account("u"), "PEM", unused), Ok(None));
        let renewed = filled(&full, &account("u"), "NEW", unused).unwrap().unwrap();
        assert_eq!(renewed.data.unwrap()["ca.crt"].0, b"NEW");
        assert_eq!(
            filled(&bare, &account("u"), "PEM", || Err("no key".into())),
            Err("no key".into())
        );
    }

    #[test]
    fn an_account_made_anew_is_another() {
        let named = secret(&[(ACCOUNT_NAME, "robot")]);
        let bound = secret(&[(ACCOUNT_NAME, "robot"), (ACCOUNT_UID, "u")]);
        let other = secret(&[(ACCOUNT_NAME, "else")]);
        assert!(is_meant(&account("w"), &named) && is_meant(&account("u"), &bound));
        assert!(!is_meant(&account("w"), &bound) && !is_meant(&account("w"), &other));
    }

    #[test]
    fn references_are_found_by_name() {
        let mut account = account("u");
        assert!(!names(&account, "s"));
        account.secrets = Some(vec![ObjectReference {
            name: Some("s".into()),
            ..ObjectReference::default()
        }]);
        assert!(names(&account, "s") && !names(&account, "t"));
    }
}
