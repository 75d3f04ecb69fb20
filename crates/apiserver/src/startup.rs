//! What every cluster has: the objects that the server makes when it starts, and makes again when they are deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::Metadata;
use k8s_openapi::api::core::v1::{
    ConfigMap, EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Namespace, Service, ServicePort,
    ServiceSpec,
};
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Serialize;
use skiff_api::Target;
use skiff_api::scheduling::priority_class::SYSTEM_CLASSES;
use skiff_store::Store;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::error::ApiResult;
use crate::keep::{self, Keeper};
use crate::members::{Members, SPEAKS_EVERY};
use crate::registry::{Entry, Registry, WatchOptions, WriteOptions};
use crate::user::UserInfo;

/// The namespaces of every cluster.
const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
/// The server's own service, its endpoints and their slice.
const OWN: &str = "kubernetes";
/// How the server signs its own writes.
const MANAGER: &str = "kube-apiserver";

/// The user that the server's own writes are made as.
pub(crate) fn server_user() -> UserInfo {
    UserInfo::master("system:apiserver")
}

/// How the server's own writes are made.
pub(crate) fn options() -> WriteOptions {
    WriteOptions {
        field_manager: Some(MANAGER.into()),
        user: server_user(),
        ..WriteOptions::default()
    }
}

fn named(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta {
        namespace: (!namespace.is_empty()).then(|| namespace.to_string()),
        name: Some(name.into()),
        ..ObjectMeta::default()
    }
}

fn labelled(meta: ObjectMeta, labels: &[(&str, &str)]) -> ObjectMeta {
    ObjectMeta {
        labels: Some(
            labels
                .iter()
                .map(|(key, value)| (key.to_string(), value.to_string()))
                .collect(),
        ),
        ..meta
    }
}

/// An object of the server's own: made when it is missing, and brought back to this when it differs.
pub(crate) struct Wanted<K> {
    pub(crate) object: K,
    /// Makes a found object as the wanted one; what others may add stays.
    pub(crate) repair: fn(&K, &mut K),
}

impl<K> Wanted<K>
where
    K: k8s_openapi::Resource + Metadata<Ty = ObjectMeta> + Serialize + Send + Sync + 'static,
{
    /// Makes or repairs the object.
    ///
    /// # Errors
    /// What the registry says against it.
    pub(crate) async fn ensure(&self, registry: &Registry) -> ApiResult<()> {
        let Some(resource) = registry.resource(K::GROUP, K::VERSION, K::URL_PATH_SEGMENT) else {
            return Ok(());
        };
        let meta = self.object.metadata();
        let namespace = meta.namespace.clone().unwrap_or_default();
        let name = meta.name.clone().unwrap_or_default();
        let repaired = resource
            .modify(&namespace, &name, Target::Main, &options(), |found| {
                if let Some(found) = found.as_any_mut().downcast_mut::<K>() {
                    (self.repair)(&self.object, found);
                }
                Ok(())
            })
            .await;
        match repaired {
            Err(error) if error.code() == 404 => {}
            outcome => return outcome.map(drop),
        }
        let body = serde_json::to_vec(&self.object).map_err(crate::ApiError::internal)?;
        match resource.create(&namespace, &body, &options()).await {
            // Another server of the same cluster was faster.
            Err(error) if error.reason() == "AlreadyExists" => Ok(()),
            outcome => outcome.map(drop),
        }
    }
}

/// The service of the cluster's API, and where it leads: to every server.
pub(crate) struct OwnService {
    cluster_ip: IpAddr,
    members: Members,
}

const HTTPS_PORT: i32 = 443;

/// What the service consists of.
struct Parts {
    service: Wanted<Service>,
    endpoints: Wanted<Endpoints>,
    slice: Wanted<discovery::EndpointSlice>,
}

impl OwnService {
    /// The service at an address, in front of the server that the configuration describes and those that share its store.
    pub(crate) fn new(cluster_ip: IpAddr, config: &Config, store: Arc<dyn Store>) -> Self {
        let own = SocketAddr::new(config.advertise_address, config.port);
        Self {
            cluster_ip,
            members: Members::new(store, own),
        }
    }

    /// The three objects, of these servers. They are the same whichever server makes them.
    fn parts(&self, members: &BTreeSet<SocketAddr>) -> Parts {
        let (https, tcp) = ("https".to_string(), "TCP".to_string());
        let mut by_port: BTreeMap<u16, Vec<IpAddr>> = BTreeMap::new();
        for member in members {
            by_port.entry(member.port()).or_default().push(member.ip());
        }
        // A slice has one port for all, and so has the service; servers usually have the same.
        let (port, addresses) = by_port
            .first_key_value()
            .map(|(port, addresses)| (i32::from(*port), addresses.clone()))
            .unwrap_or_default();
        let is_v4 = addresses.first().is_none_or(IpAddr::is_ipv4);
        let service = Service {
            metadata: labelled(
                named("default", OWN),
                &[("component", "apiserver"), ("provider", "kubernetes")],
            ),
            spec: Some(ServiceSpec {
                type_: Some("ClusterIP".into()),
                cluster_ip: Some(self.cluster_ip.to_string()),
                ip_family_policy: Some("SingleStack".into()),
                ports: Some(vec![ServicePort {
                    name: Some(https.clone()),
                    port: HTTPS_PORT,
                    protocol: Some(tcp.clone()),
                    target_port: Some(IntOrString::Int(port)),
                    ..ServicePort::default()
                }]),
                session_affinity: Some("None".into()),
                ..ServiceSpec::default()
            }),
            status: None,
        };
        let subset = |(port, addresses): (&u16, &Vec<IpAddr>)| EndpointSubset {
            addresses: Some(addresses.iter().map(endpoint_address).collect()),
            ports: Some(vec![EndpointPort {
                name: Some(https.clone()),
                port: i32::from(*port),
                protocol: Some(tcp.clone()),
                ..EndpointPort::default()
            }]),
            ..EndpointSubset::default()
        };
        let endpoints = Endpoints {
            metadata: labelled(
                named("default", OWN),
                &[("endpointslice.kubernetes.io/skip-mirror", "true")],
            ),
            subsets: Some(by_port.iter().map(subset).collect()),
        };
        let slice = discovery::EndpointSlice {
            metadata: labelled(named("default", OWN), &[("kubernetes.io/service-name", OWN)]),
            address_type: if is_v4 { "IPv4" } else { "IPv6" }.into(),
            endpoints: Some(addresses.iter().map(slice_endpoint).collect()),
            ports: Some(vec![discovery::EndpointPort {
                name: Some(https.clone()),
                port: Some(port),
                protocol: Some(tcp.clone()),
                ..discovery::EndpointPort::default()
            }]),
        };
        Parts {
            service: Wanted {
                object: service,
                repair: |wanted, found| {
                    if let (Some(wanted), Some(found)) = (&wanted.spec, &mut found.spec) {
                        found.ports.clone_from(&wanted.ports);
                        found.session_affinity.clone_from(&wanted.session_affinity);
                        found.type_.clone_from(&wanted.type_);
                    }
                },
            },
            endpoints: Wanted {
                object: endpoints,
                repair: |wanted, found| {
                    found.subsets.clone_from(&wanted.subsets);
                    found.metadata.labels.clone_from(&wanted.metadata.labels);
                },
            },
            slice: Wanted {
                object: slice,
                repair: |wanted, found| {
                    found.endpoints.clone_from(&wanted.endpoints);
                    found.ports.clone_from(&wanted.ports);
                    found.metadata.labels.clone_from(&wanted.metadata.labels);
                },
            },
        }
    }

    async fn ensure(&self, registry: &Registry) -> ApiResult<()> {
        let parts = self.parts(&self.members.all().await?);
        parts.service.ensure(registry).await?;
        parts.endpoints.ensure(registry).await?;
        parts.slice.ensure(registry).await
    }

    /// Brings the three objects back whenever somebody deletes or changes one, until `shutdown`.
    pub(crate) fn keep(self, registry: Arc<Registry>, shutdown: CancellationToken) {
        let own = Arc::new(self);
        let watched = [
            ("", "services"),
            ("", "endpoints"),
            ("discovery.k8s.io", "endpointslices"),
        ]
        .iter()
        .filter_map(|(group, plural)| {
            let options = WatchOptions {
                namespace: Some("default".into()),
                field_selector: format!("metadata.name={OWN}"),
                // What is there when the watch begins is looked at anyway.
                send_initial_events: Some(false),
                resource_version_match: Some("NotOlderThan".into()),
                ..WatchOptions::default()
            };
            Some((registry.resource(group, "v1", plural)?.clone(), options))
        });
        let kept = Kept {
            own: own.clone(),
            registry: registry.clone(),
        };
        keep::keep(kept, watched.collect(), shutdown.clone());
        if own.members.may_be_several() {
            tokio::spawn(async move { own.go_on_announcing(&registry, &shutdown).await });
        }
    }

    async fn announce(&self, registry: &Registry) -> ApiResult<()> {
        self.members.announce().await?;
        self.ensure(registry).await
    }

    /// Says again and again that this server is there, and looks which others are: leases end by the clock, one's own and
    /// those of servers that were killed.
    async fn go_on_announcing(&self, registry: &Registry, shutdown: &CancellationToken) {
        let mut speaks = tokio::time::interval(SPEAKS_EVERY);
        loop {
            tokio::select! {
                _ = speaks.tick() => {}
                () = shutdown.cancelled() => break,
            }
            if let Err(error) = self.announce(registry).await {
                tracing::warn!(%error, "announcing this server");
            }
        }
        self.members.leave().await;
    }
}

/// Keeps the three objects.
struct Kept {
    own: Arc<OwnService>,
    registry: Arc<Registry>,
}

impl Keeper for Kept {
    async fn check_all(&mut self) -> ApiResult<()> {
        self.own.ensure(&self.registry).await
    }

    async fn check(&mut self, _changed: &Entry) -> ApiResult<()> {
        self.check_all().await
    }
}

fn endpoint_address(address: &IpAddr) -> EndpointAddress {
    EndpointAddress {
        ip: address.to_string(),
        ..EndpointAddress::default()
    }
}

fn slice_endpoint(address: &IpAddr) -> discovery::Endpoint {
    discovery::Endpoint {
        addresses: vec![address.to_string()],
        conditions: Some(discovery::EndpointConditions {
            ready: Some(true),
            ..discovery::EndpointConditions::default()
        }),
        ..discovery::Endpoint::default()
    }
}

/// Makes what is missing of the objects that every cluster has.
///
/// # Errors
/// The object, and why it could not be made.
pub(crate) async fn bootstrap(
    registry: &Registry,
    config: &Config,
    own: &OwnService,
) -> Result<(), (String, crate::ApiError)> {
    for name in NAMESPACES {
        let namespace = Wanted {
            object: Namespace {
                metadata: named("", name),
                ..Namespace::default()
            },
            repair: |_, _| {},
        };
        let made = namespace.ensure(registry).await;
        made.map_err(|error| (format!("namespace {name}"), error))?;
    }
    for (name, value, description) in SYSTEM_CLASSES {
        let class = Wanted {
            object: PriorityClass {
                metadata: named("", name),
                value: Some(value),
                description: Some(description.into()),
                ..PriorityClass::default()
            },
            // Its number cannot be changed, and the rest is the users'.
            repair: |_, _| {},
        };
        let made = class.ensure(registry).await;
        made.map_err(|error| (format!("priorityclass {name}"), error))?;
    }
    let authentication = Wanted {
        object: ConfigMap {
            metadata: named("kube-system", "extension-apiserver-authentication"),
            data: Some(
                [(
                    "client-ca-file".to_string(),
                    String::from_utf8_lossy(&config.client_ca_pem).into_owned(),
                )]
                .into(),
            ),
            ..ConfigMap::default()
        },
        repair: |wanted, found| {
            let data = found.data.get_or_insert_default();
            data.extend(wanted.data.clone().unwrap_or_default());
        },
    };
    let made = authentication.ensure(registry).await;
    made.map_err(|error| {
        (
            "configmap kube-system/extension-apiserver-authentication".to_string(),
            error,
        )
    })?;
    let made = own.announce(registry).await;
    made.map_err(|error| ("service default/kubernetes".to_string(), error))
}
