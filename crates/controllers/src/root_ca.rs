//! The root CA publisher: every namespace has a ConfigMap `kube-root-ca.crt` with the certificates by which its pods know
//! the API server. Changed or deleted, it is restored.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{Api, PostParams};
use skiff_informer::{Informer, Informers, ObjectKey, Selection};
use tokio_util::sync::CancellationToken;

use crate::service_account::{AddName, is_active, unless_moot};
use crate::worker::{Failure, Reconcile, unless_gone, work};

const NAME: &str = "kube-root-ca.crt";
const KEY: &str = "ca.crt";
const DESCRIPTION: (&str, &str) = (
    "kubernetes.io/description",
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the \
     internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes \
     clusters.",
);

struct Controller {
    client: Client,
    root_ca_pem: String,
    namespaces: Informer<Namespace>,
    config_maps: Informer<ConfigMap>,
}

/// Runs the controller until `shutdown`.
pub(crate) async fn run(root_ca_pem: String, informers: Informers, shutdown: CancellationToken) {
    let namespaces = informers.all::<Namespace>();
    // Only these: nobody in the process needs all config maps of the cluster.
    let config_maps = informers.select::<ConfigMap>(Selection {
        fields: Some(format!("metadata.name={NAME}")),
        labels: None,
    });
    let queue = informers.queues().make::<String>("root_ca_cert_publisher");
    namespaces.on_change({
        let queue = queue.clone();
        move |_, new| queue.add_name(new)
    });
    config_maps.on_change({
        let queue = queue.clone();
        move |old, new| {
            if let Some(config_map) = new.or(old)
                && config_map.metadata.name.as_deref() == Some(NAME)
            {
                queue.add(config_map.metadata.namespace.clone().unwrap_or_default());
            }
        }
    });
    tokio::select! {
        () = async { tokio::join!(namespaces.synced(), config_maps.synced()); } => {}
        () = shutdown.cancelled() => return,
    }
    let controller = Controller {
        client: informers.client().clone(),
        root_ca_pem,
        namespaces,
        config_maps,
    };
    work(
        "root-ca-certificate-publisher",
        Arc::new(controller),
        queue,
        1,
        shutdown,
    )
    .await;
}

#[derive(Debug, PartialEq)]
enum Action {
    Create(ConfigMap),
    Replace(ConfigMap),
}

/// What is to be done about a namespace's config map.
fn plan(namespace: &str, root_ca_pem: &str, present: Option<&ConfigMap>) -> Option<Action> {
    let data: BTreeMap<String, String> = [(KEY.to_string(), root_ca_pem.to_string())].into();
    let Some(present) = present else {
        return Some(Action::Create(ConfigMap {
            metadata: ObjectMeta {
                name: Some(NAME.to_string()),
                namespace: Some(namespace.to_string()),
                annotations: Some([(DESCRIPTION.0.to_string(), DESCRIPTION.1.to_string())].into()),
                ..ObjectMeta::default()
            },
            data: Some(data),
            ..ConfigMap::default()
        }));
    };
    let annotated = present
        .metadata
        .annotations
        .as_ref()
        .and_then(|all| all.get(DESCRIPTION.0));
    if present.data.as_ref() == Some(&data) && annotated.is_some_and(|text| text == DESCRIPTION.1) {
        return None;
    }
    let mut repaired = present.clone();
    repaired.data = Some(data);
    let annotations = repaired.metadata.annotations.get_or_insert_default();
    annotations.insert(DESCRIPTION.0.to_string(), DESCRIPTION.1.to_string());
    Some(Action::Replace(repaired))
}

impl Reconcile<String> for Controller {
    async fn reconcile(&self, namespace: &String) -> Result<(), Failure> {
        if !is_active(self.namespaces.get(&ObjectKey::new("", namespace)).as_ref()) {
            return Ok(());
        }
        let present = self.config_maps.get(&ObjectKey::new(namespace, NAME));
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        match plan(namespace, &self.root_ca_pem, present.as_deref()) {
            None => Ok(()),
            Some(Action::Create(config_map)) => {
                unless_moot(api.create(&PostParams::default(), &config_map).await)
            }
            Some(Action::Replace(config_map)) => {
                unless_gone(api.replace(NAME, &PostParams::default(), &config_map).await)?;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_changed_is_restored_and_nothing_else() {
        let Some(Action::Create(created)) = plan("default", "PEM", None) else {
            panic!("not created")
        };
        assert_eq!(created.data.as_ref().unwrap()["ca.crt"], "PEM");
        assert_eq!(plan("default", "PEM", Some(&created)), None);

        let mut labelled = created.clone();
        labelled.metadata.labels = Some([("mine".to_string(), "x".to_string())].into());
        assert_eq!(plan("default", "PEM", Some(&labelled)), None);

        let mut spoilt = labelled.clone();
        spoilt.data = Some([("ca.crt".to_string(), "other".to_string())].into());
        assert_eq!(
            plan("default", "PEM", Some(&spoilt)),
            Some(Action::Replace(labelled.clone()))
        );

        let mut bare = labelled.clone();
        bare.metadata.annotations = None;
        assert_eq!(
            plan("default", "PEM", Some(&bare)),
            Some(Action::Replace(labelled))
        );

        assert!(matches!(
            plan("default", "NEW", Some(&created)),
            Some(Action::Replace(_))
        ));
    }
}
