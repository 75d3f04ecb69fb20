//! IPAddresses: the objects that tell which addresses of the service range are taken, and by which service.
//!
//! Upstream's allocator goes by them. Here the services themselves say what they hold, and these objects follow; one that
//! somebody else made keeps its address from being given.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::{IPAddress, IPAddressSpec, ParentReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio_util::sync::CancellationToken;

use super::taken::Owner;
use super::{ATTEMPTS, ips};
use crate::error::{ApiError, ApiResult};
use crate::registry::{DeleteOptions, Entry, Registry, Resource, WatchOptions};
use crate::{keep, objects, startup};

const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const MANAGER: &str = "ipallocator.k8s.io";

/// Whether the allocator made the object, and may take it away.
pub(super) fn is_managed(address: &IPAddress) -> bool {
    let labels = address.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(MANAGED_BY))
        .map(String::as_str)
        == Some(MANAGER)
}

fn object(address: IpAddr, (namespace, name): &Owner) -> IPAddress {
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    let labels = [(FAMILY, family), (MANAGED_BY, MANAGER)];
    IPAddress {
        metadata: ObjectMeta {
            name: Some(address.to_string()),
            labels: Some(labels.map(|(key, value)| (key.into(), value.into())).into()),
            ..ObjectMeta::default()
        },
        spec: IPAddressSpec {
            parent_ref: ParentReference {
                group: None,
                resource: "services".into(),
                namespace: Some(namespace.clone()),
                name: name.clone(),
            },
        },
    }
}

/// The service that an object names.
fn owner(address: &IPAddress) -> Owner {
    let parent = &address.spec.parent_ref;
    (parent.namespace.clone().unwrap_or_default(), parent.name.clone())
}

/// What a service holds.
fn held(service: &Service) -> BTreeSet<IpAddr> {
    service
        .spec
        .as_ref()
        .map(ips)
        .unwrap_or_default()
        .into_iter()
        .collect()
}

/// Keeps the objects.
struct Keeper {
    registry: Arc<Registry>,
    addresses: Arc<Resource>,
    /// The addresses for which there are objects of the allocator's, by the service that they name.
    told: BTreeMap<Owner, BTreeSet<IpAddr>>,
}

impl Keeper {
    /// Makes what a service lacks, and takes away what it no longer holds.
    async fn settle(&mut self, owner: &Owner) -> ApiResult<()> {
        let (namespace, name) = owner;
        let service: Option<Arc<Service>> = objects::look_up(&self.registry, namespace, name).await?;
        let held = service.map(|service| held(&service)).unwrap_or_default();
        let told = self.told.remove(owner).unwrap_or_default();
        for address in told.difference(&held) {
            self.remove(*address, owner).await?;
        }
        let mut kept = BTreeSet::new();
        for address in held {
            if told.contains(&address) || self.make(address, owner).await? {
                kept.insert(address);
            }
        }
        if !kept.is_empty() {
            self.told.insert(owner.clone(), kept);
        }
        Ok(())
    }

    /// Makes the object of an address; `false`: somebody else has one for it, or what is there does not go.
    async fn make(&self, address: IpAddr, owner: &Owner) -> ApiResult<bool> {
        for _ in 0..ATTEMPTS {
            let wanted = Box::new(object(address, owner));
            let options = startup::options();
            match self.addresses.create_object("", wanted, &options).await {
                Ok(_) => return Ok(true),
                Err(error) if error.code() == 409 => {}
                Err(error) => return Err(error),
            }
            match self.find(address).await? {
                Some(found) if !is_managed(&found) => return Ok(false),
                Some(found) if self::owner(&found) == *owner => return Ok(true),
                // What is left of a service that had the address before.
                Some(found) => self.delete(&found).await?,
                None => {}
            }
        }
        Ok(false)
    }

    async fn remove(&self, address: IpAddr, owner: &Owner) -> ApiResult<()> {
        match self.find(address).await? {
            Some(found) if is_managed(&found) && self::owner(&found) == *owner => self.delete(&found).await,
            _ => Ok(()),
        }
    }

    async fn find(&self, address: IpAddr) -> ApiResult<Option<IPAddress>> {
        objects::find(&self.registry, "", &address.to_string()).await
    }

    async fn delete(&self, address: &IPAddress) -> ApiResult<()> {
        let name = address.metadata.name.as_deref().unwrap_or_default();
        let options = DeleteOptions {
            uid: address.metadata.uid.clone(),
            ..DeleteOptions::default()
        };
        let write = startup::options();
        match self.addresses.delete("", name, &options, &write).await {
            Err(error) if !matches!(error.code(), 404 | 409) => Err(error),
            // It is gone, or another one by now.
            _ => Ok(()),
        }
    }
}

impl keep::Keeper for Keeper {
    async fn check_all(&mut self) -> ApiResult<()> {
        self.told.clear();
        for address in objects::all::<IPAddress>(&self.registry, "") {
            let name = address.metadata.name.as_deref().unwrap_or_default();
            if let Some(name) = name.parse().ok().filter(|_| is_managed(&address)) {
                self.told.entry(owner(&address)).or_default().insert(name);
            }
        }
        let services = objects::all::<Service>(&self.registry, "");
        let owners = services.into_iter().map(|service| {
            let meta = service.metadata;
            (meta.namespace.unwrap_or_default(), meta.name.unwrap_or_default())
        });
        let all: BTreeSet<Owner> = owners.chain(self.told.keys().cloned()).collect();
        for owner in all {
            self.settle(&owner).await?;
        }
        Ok(())
    }

    async fn check(&mut self, changed: &Entry) -> ApiResult<()> {
        if !changed.namespace().is_empty() {
            return self
                .settle(&(changed.namespace().into(), changed.name().into()))
                .await;
        }
        let address: IPAddress = serde_json::from_slice(changed.json()).map_err(ApiError::internal)?;
        let Some(name) = changed.name().parse().ok() else {
            return Ok(());
        };
        // Whether it is there, and whose, is looked at anew.
        let owner = owner(&address);
        let there: Option<Arc<IPAddress>> = objects::look_up(&self.registry, "", changed.name()).await?;
        let told = self.told.entry(owner.clone()).or_default();
        if there.is_some_and(|there| is_managed(&there) && self::owner(&there) == owner) {
            told.insert(name);
        } else {
            told.remove(&name);
        }
        self.settle(&owner).await
    }
}

/// Makes the objects of all services, and keeps them until `shutdown`.
///
/// # Errors
/// When they cannot be made.
pub(crate) async fn start(registry: Arc<Registry>, shutdown: CancellationToken) -> ApiResult<()> {
    let kind = |group: &str, plural: &str| registry.resource(group, "v1", plural).cloned();
    let (Some(services), Some(addresses)) = (kind("", "services"), kind("networking.k8s.io", "ipaddresses"))
    else {
        return Ok(());
    };
    let watched = vec![
        (services, WatchOptions::default()),
        (addresses.clone(), WatchOptions::default()),
    ];
    let mut keeper = Keeper {
        registry,
        addresses,
        told: BTreeMap::new(),
    };
    keep::Keeper::check_all(&mut keeper).await?;
    keep::keep(keeper, watched, shutdown);
    Ok(())
}
