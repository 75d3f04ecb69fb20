//! Cluster IPs and node ports: given to services when they are created, and taken back when they are gone.
//!
//! What is taken is what the services in the registry hold, followed through a watch, and what requests on their way
//! have been given. So nothing has to be stored, and nothing leaks for longer than such a request may take.

mod cidr;
mod claims;
mod objects;
mod taken;

use std::collections::HashSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::api::networking::v1::IPAddress;
use parking_lot::Mutex;
use rand::Rng;
use skiff_api::{Errors, Object, Path};
use skiff_store::Store;
use tokio_util::sync::CancellationToken;

pub(crate) use cidr::Cidr;
use claims::Claims;
pub(crate) use objects::start as keep_objects;
use taken::{Owner, Taken};

use crate::error::{ApiError, ApiResult};
use crate::follow::{Follower, follow};
use crate::registry::{AdmissionRequest, Entry, ListOptions, Operation, Registry};

#[derive(Debug, Default)]
struct State {
    ips: Taken<IpAddr>,
    ports: Taken<u16>,
    /// The addresses for which somebody made an IPAddress.
    reserved: HashSet<IpAddr>,
}

/// The cluster IPs and node ports of a server's services.
#[derive(Debug)]
pub(crate) struct ServiceAddresses {
    cidr: Cidr,
    ports: RangeInclusive<u16>,
    state: Mutex<State>,
    /// When other servers give from the same range.
    claims: Option<Arc<Claims>>,
}

/// How often something is tried again when another server was faster.
const ATTEMPTS: usize = 16;

impl ServiceAddresses {
    /// None is taken.
    pub(crate) fn new(cidr: Cidr, ports: RangeInclusive<u16>) -> Self {
        Self {
            cidr,
            ports,
            state: Mutex::default(),
            claims: None,
        }
    }

    /// Gives nothing that another server on the same store gives.
    pub(crate) fn claiming_in(mut self, store: &Arc<dyn Store>) -> Self {
        self.claims = store.is_shared().then(|| Arc::new(Claims::new(store.clone())));
        self
    }

    /// The address of the server's own service: the range's first.
    pub(crate) fn own(&self) -> Option<IpAddr> {
        self.cidr.nth(0)
    }

    /// Follows what the services hold until `shutdown`. When this returns it is known what they hold now.
    pub(crate) async fn follow(
        self: &Arc<Self>,
        registry: &Arc<Registry>,
        shutdown: CancellationToken,
    ) -> ApiResult<()> {
        let Some(services) = registry.resource("", "v1", "services").cloned() else {
            return Ok(());
        };
        if let Some(addresses) = registry.resource("networking.k8s.io", "v1", "ipaddresses") {
            follow(addresses.clone(), Reserved(self.clone()), shutdown.clone()).await?;
        }
        follow(services, self.clone(), shutdown).await
    }

    fn drop_claims(&self, ips: &[IpAddr], ports: &[u16]) {
        if let Some(claims) = &self.claims {
            claims.drop_soon(things(ips, ports).into_iter().map(|(thing, ..)| thing));
        }
    }

    /// Gives a service what it needs and has not. See [`crate::registry::Admission::admit`].
    pub(crate) async fn admit(
        &self,
        request: &AdmissionRequest<'_>,
        object: &mut dyn Object,
        registry: &Registry,
    ) -> ApiResult<()> {
        let Some(claims) = self.claims.as_ref().filter(|_| !request.dry_run) else {
            return self.give(request, object);
        };
        let Some(before) = spec_of(object).cloned() else {
            return Ok(());
        };
        let had = request.old.and_then(spec_of);
        let (had_ips, had_ports) = (
            had.map(ips).unwrap_or_default(),
            had.map(node_ports).unwrap_or_default(),
        );
        let mut refused = Vec::new();
        let outcome = loop {
            if let Err(error) = self.give(request, object) {
                break Err(error);
            }
            let Some(spec) = spec_of(object) else { break Ok(()) };
            let (mut ips, mut ports) = (ips(spec), node_ports(spec));
            ips.retain(|ip| !had_ips.contains(ip));
            ports.retain(|port| !had_ports.contains(port));
            let given = things(&ips, &ports);
            match self.claim_all(claims, &given, request, registry).await {
                Ok(None) => break Ok(()),
                Ok(Some(taken)) if refused.len() < ATTEMPTS => {
                    // The next try finds it taken, as it is, and takes another or is refused.
                    self.unless(&ips, &ports, &taken);
                    refused.push(taken);
                    if let Some(spec) = spec_mut(object) {
                        *spec = before.clone();
                    }
                }
                Ok(Some(_)) => {
                    self.unless(&ips, &ports, &(String::new(), None, None));
                    break Err(ApiError::conflict(
                        request.info,
                        request.name,
                        "other servers were faster",
                    ));
                }
                Err(error) => {
                    self.unless(&ips, &ports, &(String::new(), None, None));
                    break Err(error);
                }
            }
        };
        let mut state = self.state.lock();
        for (_, ip, port) in refused {
            ip.map(|ip| state.ips.given.remove(&ip));
            port.map(|port| state.ports.given.remove(&port));
        }
        outcome
    }

    /// Gives back what was given, but for one.
    fn unless(&self, ips: &[IpAddr], ports: &[u16], (_, ip, port): &Thing) {
        let mut state = self.state.lock();
        for its in ips.iter().filter(|its| Some(**its) != *ip) {
            state.ips.given.remove(its);
        }
        for its in ports.iter().filter(|its| Some(**its) != *port) {
            state.ports.given.remove(its);
        }
        drop(state);
        self.drop_claims(ips, ports);
    }

    /// Claims everything; what is not to be had, if anything.
    async fn claim_all(
        &self,
        claims: &Claims,
        given: &[Thing],
        request: &AdmissionRequest<'_>,
        registry: &Registry,
    ) -> ApiResult<Option<Thing>> {
        let mut seen_up_to = 0;
        for thing in given {
            match claims.claim(&thing.0).await? {
                Some(revision) => seen_up_to = seen_up_to.max(revision),
                None => return Ok(Some(thing.clone())),
            }
        }
        let services = registry.resource("", "v1", "services");
        let Some(services) = services.filter(|_| !given.is_empty()) else {
            return Ok(None);
        };
        let list = services
            .list(&ListOptions {
                resource_version: Some(seen_up_to.to_string()),
                ..ListOptions::default()
            })
            .await?;
        let held =
            |entry: &&Arc<Entry>| (entry.namespace(), entry.name()) != (request.namespace, request.name);
        for entry in list.items.iter().filter(held) {
            let service: Service = serde_json::from_slice(entry.json()).map_err(ApiError::internal)?;
            let spec = service.spec.unwrap_or_default();
            let (ips, ports) = (ips(&spec), node_ports(&spec));
            let holds = |thing: &&Thing| {
                thing.1.is_some_and(|ip| ips.contains(&ip))
                    || thing.2.is_some_and(|port| ports.contains(&port))
            };
            if let Some(thing) = given.iter().find(holds) {
                return Ok(Some(thing.clone()));
            }
        }
        Ok(None)
    }

    fn give(&self, request: &AdmissionRequest<'_>, object: &mut dyn Object) -> ApiResult<()> {
        if request.operation == Operation::Delete || request.subresource.is_some() {
            return Ok(());
        }
        let Some(service) = object.as_any_mut().downcast_mut::<Service>() else {
            return Ok(());
        };
        let old = request
            .old
            .and_then(|old| old.as_any().downcast_ref::<Service>())
            .and_then(|service| service.spec.as_ref());
        let name = service.metadata.name.clone().unwrap_or_default();
        let spec = service.spec.get_or_insert_default();
        let mut errors = Errors::new();
        self.fill(spec, old, request.dry_run, &mut errors);
        if errors.is_empty() {
            return Ok(());
        }
        // What was given before the fault was found.
        if !request.dry_run && request.operation == Operation::Create {
            self.give_back(spec);
        }
        Err(ApiError::invalid(request.info, &name, &errors))
    }

    fn fill(&self, spec: &mut ServiceSpec, old: Option<&ServiceSpec>, dry_run: bool, errors: &mut Errors) {
        self.families(spec, old, errors);
        if !errors.is_empty() {
            return;
        }
        self.cluster_ip(spec, old, dry_run, errors);
        if errors.is_empty() {
            self.ports(spec, old, dry_run, errors);
        }
    }

    /// Fills `ipFamilies` and `ipFamilyPolicy`, as upstream does on a cluster with one family.
    fn families(&self, spec: &mut ServiceSpec, old: Option<&ServiceSpec>, errors: &mut Errors) {
        if type_of(spec) == "ExternalName" || old.is_some_and(|old| type_of(old) != "ExternalName") {
            return;
        }
        let family = self.cidr.family();
        let without_selector = spec
            .selector
            .as_ref()
            .is_none_or(std::collections::BTreeMap::is_empty);
        if is_headless(spec) && without_selector {
            // Its endpoints are somebody else's business, so they may be of either family.
            let policy = spec
                .ip_family_policy
                .get_or_insert_with(|| "RequireDualStack".into())
                .clone();
            let families = spec.ip_families.get_or_insert_default();
            if families.is_empty() {
                families.push(family.into());
            }
            if policy != "SingleStack" && families.len() == 1 {
                let other = if families.iter().any(|family| family == "IPv4") {
                    "IPv6"
                } else {
                    "IPv4"
                };
                families.push(other.into());
            }
            return;
        }
        let policy = spec
            .ip_family_policy
            .get_or_insert_with(|| "SingleStack".into())
            .clone();
        if policy == "RequireDualStack" {
            errors.invalid(
                &Path::new("spec.ipFamilyPolicy"),
                &policy,
                "this cluster is not configured for dual-stack services",
            );
        }
        let families = spec.ip_families.get_or_insert_default();
        for (index, its) in families.iter().enumerate() {
            if its != family {
                let path = Path::new("spec.ipFamilies").index(index);
                errors.invalid(&path, its, "not configured on this cluster");
            }
        }
        if families.is_empty() {
            families.push(family.into());
        }
    }

    fn cluster_ip(
        &self,
        spec: &mut ServiceSpec,
        old: Option<&ServiceSpec>,
        dry_run: bool,
        errors: &mut Errors,
    ) {
        if !needs_cluster_ip(spec) || is_headless(spec) {
            if is_headless(spec) && spec.cluster_ips.as_ref().is_none_or(Vec::is_empty) {
                spec.cluster_ips = Some(vec!["None".into()]);
                spec.cluster_ip = Some("None".into());
            }
            return;
        }
        let had = old.filter(|old| needs_cluster_ip(old)).and_then(first_ip);
        let asked = first_ip(spec);
        if had.is_some() {
            // It keeps its address: one that is left out is carried over, and a change is refused by validation.
            return;
        }
        let now = Instant::now();
        let taken = match &asked {
            Some(text) => self.take_asked(text, now, dry_run, errors),
            None => self.take_any(now, dry_run, errors),
        };
        if let Some(address) = taken {
            spec.cluster_ip = Some(address.to_string());
            spec.cluster_ips = Some(vec![address.to_string()]);
        }
    }

    fn take_asked(&self, text: &str, now: Instant, dry_run: bool, errors: &mut Errors) -> Option<IpAddr> {
        // A text that is no address is for validation to refuse.
        let address: IpAddr = text.parse().ok()?;
        let path = Path::new("spec.clusterIPs");
        let mut refuse = |why: String| {
            errors.invalid(&path, [text], format!("failed to allocate IP {text}: {why}"));
            None
        };
        if !self.cidr.contains(address) {
            return refuse(format!(
                "the provided IP ({text}) is not in the valid range. The range of valid IPs is {}",
                self.cidr
            ));
        }
        let mut state = self.state.lock();
        if !state.reserved.contains(&address) && state.ips.take(address, now, dry_run).is_ok() {
            return Some(address);
        }
        refuse("provided IP is already allocated".into())
    }

    /// An address from the upper part of the range; the lower part is for those who ask for one by name, until the
    /// upper is full.
    fn take_any(&self, now: Instant, dry_run: bool, errors: &mut Errors) -> Option<IpAddr> {
        let size = self.cidr.size();
        let lower = lower_band(size, 16, 256);
        let from = shuffled(lower, size);
        // The server's own address, and the tenth, which is the cluster's DNS server's by custom.
        let below = (1..lower).filter(|place| *place != 9);
        let candidates = from.chain(below).filter_map(|place| self.cidr.nth(place));
        let state = &mut *self.state.lock();
        let candidates = candidates.filter(|address| !state.reserved.contains(address));
        match state.ips.take_any(candidates, now, dry_run) {
            Ok(address) => Some(address),
            Err(_) => {
                let why = "failed to allocate a serviceIP: range is full";
                errors.invalid(&Path::new("spec.clusterIPs"), Option::<()>::None, why);
                None
            }
        }
    }

    fn ports(&self, spec: &mut ServiceSpec, old: Option<&ServiceSpec>, dry_run: bool, errors: &mut Errors) {
        if !needs_node_port(spec) {
            return;
        }
        let had: Vec<u16> = old.map(node_ports).unwrap_or_default();
        let kept = old.filter(|old| needs_node_port(old));
        let now = Instant::now();
        let mut state = self.state.lock();
        let mut own: Vec<u16> = Vec::new();
        for (index, port) in spec.ports.iter_mut().flatten().enumerate() {
            let path = Path::new("spec.ports").index(index).child("nodePort");
            match port.node_port.filter(|number| *number != 0) {
                Some(number) => {
                    let Ok(asked) = u16::try_from(number) else {
                        continue;
                    };
                    if had.contains(&asked) || own.contains(&asked) {
                        continue;
                    }
                    if !self.ports.contains(&asked) {
                        let (first, last) = (self.ports.start(), self.ports.end());
                        errors.invalid(
                            &path,
                            number,
                            format!("provided port is not in the valid range. The range of valid ports is {first}-{last}"),
                        );
                    } else if state.ports.take(asked, now, dry_run).is_err() {
                        errors.invalid(&path, number, "provided port is already allocated");
                    } else {
                        own.push(asked);
                    }
                }
                None => {
                    // One that the old service had for this port is carried over.
                    let carried = kept.is_some_and(|old| {
                        old.ports.iter().flatten().any(|its| {
                            its.protocol == port.protocol && its.port == port.port && its.node_port.is_some()
                        })
                    });
                    if carried {
                        continue;
                    }
                    match state.ports.take_any(self.port_candidates(&own), now, dry_run) {
                        Ok(number) => {
                            own.push(number);
                            port.node_port = Some(number.into());
                        }
                        Err(_) => errors.invalid(&path, 0, "failed to allocate a nodePort: range is full"),
                    }
                }
            }
        }
        let local =
            type_of(spec) == "LoadBalancer" && spec.external_traffic_policy.as_deref() == Some("Local");
        let had_check = kept
            .and_then(|old| old.health_check_node_port)
            .is_some_and(|port| port != 0);
        if local && !had_check && spec.health_check_node_port.unwrap_or(0) == 0 {
            let number = state.ports.take_any(self.port_candidates(&own), now, dry_run);
            spec.health_check_node_port = number.ok().map(Into::into);
        }
    }

    fn port_candidates<'a>(&self, own: &'a [u16]) -> impl Iterator<Item = u16> + use<'a> {
        let first = u128::from(*self.ports.start());
        let size = (u128::from(*self.ports.end()) + 1).saturating_sub(first);
        let lower = lower_band(size, 32, 128);
        shuffled(lower, size)
            .chain(0..lower)
            .filter_map(move |place| u16::try_from(first + place).ok())
            .filter(move |port| !own.contains(port))
    }

    /// Takes back what a service was given that was not made after all, or is gone.
    pub(crate) fn released(&self, object: &dyn Object) {
        let Some(service) = object.as_any().downcast_ref::<Service>() else {
            return;
        };
        let Some(spec) = &service.spec else { return };
        let meta = &service.metadata;
        let owner = (
            meta.namespace.clone().unwrap_or_default(),
            meta.name.clone().unwrap_or_default(),
        );
        self.give_back(spec);
        // One that is gone had been written; another of the same name may be there already, which holds its own.
        if meta.resource_version.is_some() {
            let mut state = self.state.lock();
            for address in ips(spec) {
                state.ips.free(address, &owner);
            }
            for port in node_ports(spec) {
                state.ports.free(port, &owner);
            }
        }
    }

    fn give_back(&self, spec: &ServiceSpec) {
        let (ips, ports) = (ips(spec), node_ports(spec));
        self.unless(&ips, &ports, &(String::new(), None, None));
    }
}

/// What a service holds; `None` where it cannot be read.
fn held(entry: &Entry) -> Option<(Vec<IpAddr>, Vec<u16>)> {
    match serde_json::from_slice::<Service>(entry.json()) {
        Ok(service) => {
            let spec = service.spec.unwrap_or_default();
            Some((ips(&spec), node_ports(&spec)))
        }
        Err(error) => {
            tracing::error!(%error, name = entry.name(), "a service could not be read");
            None
        }
    }
}

impl Follower for Arc<ServiceAddresses> {
    fn replace(&self, entries: &[Arc<Entry>]) {
        let all = entries
            .iter()
            .filter_map(|entry| Some((owner(entry), held(entry)?)));
        let all: Vec<_> = all.collect();
        {
            // In one go: nothing that is held may look free in between.
            let mut state = self.state.lock();
            state.ips.forget_services();
            state.ports.forget_services();
            for (owner, (ips, ports)) in &all {
                state.ips.hold(owner, ips);
                state.ports.hold(owner, ports);
            }
        }
        for (_, (ips, ports)) in &all {
            self.drop_claims(ips, ports);
        }
    }

    fn put(&self, entry: &Entry) {
        let Some((ips, ports)) = held(entry) else { return };
        let owner = owner(entry);
        {
            let mut state = self.state.lock();
            state.ips.hold(&owner, &ips);
            state.ports.hold(&owner, &ports);
        }
        self.drop_claims(&ips, &ports);
    }

    fn remove(&self, entry: &Entry) {
        let owner = owner(entry);
        let mut state = self.state.lock();
        state.ips.hold(&owner, &[]);
        state.ports.hold(&owner, &[]);
    }
}

/// Follows the IPAddresses that are not the allocator's own.
struct Reserved(Arc<ServiceAddresses>);

/// The address that an object reserves, if it is not what some service holds anyway.
fn reserved(entry: &Entry) -> Option<IpAddr> {
    let object: IPAddress = serde_json::from_slice(entry.json()).ok()?;
    entry
        .name()
        .parse()
        .ok()
        .filter(|_| !objects::is_managed(&object))
}

impl Follower for Reserved {
    fn replace(&self, entries: &[Arc<Entry>]) {
        let reserved = entries.iter().filter_map(|entry| reserved(entry)).collect();
        self.0.state.lock().reserved = reserved;
    }

    fn put(&self, entry: &Entry) {
        match reserved(entry) {
            Some(address) => _ = self.0.state.lock().reserved.insert(address),
            None => self.remove(entry),
        }
    }

    fn remove(&self, entry: &Entry) {
        if let Ok(address) = entry.name().parse() {
            self.0.state.lock().reserved.remove(&address);
        }
    }
}

/// What is given: as a claim names it, and the address or the port that it is.
type Thing = (String, Option<IpAddr>, Option<u16>);

fn things(ips: &[IpAddr], ports: &[u16]) -> Vec<Thing> {
    let ips = ips.iter().map(|ip| (format!("ip/{ip}"), Some(*ip), None));
    let ports = ports
        .iter()
        .map(|port| (format!("port/{port}"), None, Some(*port)));
    ips.chain(ports).collect()
}

fn spec_of(object: &dyn Object) -> Option<&ServiceSpec> {
    object.as_any().downcast_ref::<Service>()?.spec.as_ref()
}

fn spec_mut(object: &mut dyn Object) -> Option<&mut ServiceSpec> {
    object.as_any_mut().downcast_mut::<Service>()?.spec.as_mut()
}

/// How many of the first places are left to those who ask for them: a sixteenth (or so), within bounds.
fn lower_band(size: u128, part: u128, most: u128) -> u128 {
    if size <= 16 {
        0
    } else {
        (size / part).clamp(16, most)
    }
}

/// All places from `from` to `size`, from one of them on at random.
fn shuffled(from: u128, size: u128) -> impl Iterator<Item = u128> {
    let count = size.saturating_sub(from);
    let start = if count == 0 {
        0
    } else {
        rand::rng().random_range(0..count)
    };
    (0..count).map(move |step| from + (start + step) % count)
}

fn owner(entry: &Entry) -> Owner {
    (entry.namespace().to_string(), entry.name().to_string())
}

fn type_of(spec: &ServiceSpec) -> &str {
    match spec.type_.as_deref().unwrap_or_default() {
        "" => "ClusterIP",
        type_ => type_,
    }
}

fn needs_cluster_ip(spec: &ServiceSpec) -> bool {
    matches!(type_of(spec), "ClusterIP" | "NodePort" | "LoadBalancer")
}

fn needs_node_port(spec: &ServiceSpec) -> bool {
    match type_of(spec) {
        "NodePort" => true,
        "LoadBalancer" => spec.allocate_load_balancer_node_ports.unwrap_or(true),
        _ => false,
    }
}

fn is_headless(spec: &ServiceSpec) -> bool {
    first_ip(spec).as_deref() == Some("None")
}

/// The first cluster IP, from whichever of the two fields has it.
fn first_ip(spec: &ServiceSpec) -> Option<String> {
    spec.cluster_ips
        .iter()
        .flatten()
        .chain(&spec.cluster_ip)
        .find(|text| !text.is_empty())
        .cloned()
}

/// The cluster IPs that a service holds.
fn ips(spec: &ServiceSpec) -> Vec<IpAddr> {
    let mut ips: Vec<IpAddr> = spec
        .cluster_ips
        .iter()
        .flatten()
        .chain(&spec.cluster_ip)
        .filter_map(|text| text.parse().ok())
        .collect();
    ips.dedup();
    ips
}

fn node_ports(spec: &ServiceSpec) -> Vec<u16> {
    spec.ports
        .iter()
        .flatten()
        .filter_map(|port| port.node_port)
        .chain(spec.health_check_node_port)
        .filter(|port| *port != 0)
        .filter_map(|port| u16::try_from(port).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn addresses(prefix: u8) -> ServiceAddresses {
        let cidr = Cidr::new("10.96.0.0".parse().unwrap(), prefix).unwrap();
        ServiceAddresses::new(cidr, 30000..=32767)
    }

    fn spec(value: serde_json::Value) -> ServiceSpec {
        serde_json::from_value(value).unwrap()
    }

    fn fill(addresses: &ServiceAddresses, spec: &mut ServiceSpec, old: Option<&ServiceSpec>) -> String {
        let mut errors = Errors::new();
        addresses.fill(spec, old, false, &mut errors);
        if errors.is_empty() {
            String::new()
        } else {
            errors.aggregate()
        }
    }

    #[test]
    fn a_service_gets_an_address_of_the_upper_part() {
        let addresses = addresses(12);
        let mut service = spec(json!({}));
        assert_eq!(fill(&addresses, &mut service, None), "");
        let address: IpAddr = service.cluster_ip.clone().unwrap().parse().unwrap();
        assert!(
            addresses.cidr.contains(address) && address > "10.96.1.0".parse::<IpAddr>().unwrap(),
            "{address}"
        );
        assert_eq!(service.cluster_ips.unwrap(), [address.to_string()]);
        assert_eq!(service.ip_families.unwrap(), ["IPv4"]);
        assert_eq!(service.ip_family_policy.as_deref(), Some("SingleStack"));
    }

    #[test]
    fn what_is_asked_for_is_given_once() {
        let addresses = addresses(12);
        let asked = || spec(json!({ "clusterIP": "10.96.0.10" }));
        let mut first = asked();
        assert_eq!(fill(&addresses, &mut first, None), "");
        let refusal = fill(&addresses, &mut asked(), None);
        assert!(
            refusal.starts_with("spec.clusterIPs: Invalid value: "),
            "{refusal}"
        );
        assert!(
            refusal.ends_with(": failed to allocate IP 10.96.0.10: provided IP is already allocated"),
            "{refusal}"
        );
        let refusal = fill(&addresses, &mut spec(json!({ "clusterIP": "10.1.2.3" })), None);
        assert!(
            refusal.ends_with("The range of valid IPs is 10.96.0.0/12"),
            "{refusal}"
        );
        addresses.give_back(&first);
        assert_eq!(fill(&addresses, &mut asked(), None), "");
    }

    #[test]
    fn headless_and_external_services_get_none() {
        let addresses = addresses(12);
        let mut headless = spec(json!({ "clusterIP": "None", "selector": { "a": "b" } }));
        assert_eq!(fill(&addresses, &mut headless, None), "");
        assert_eq!(headless.cluster_ips.unwrap(), ["None"]);
        assert_eq!(headless.ip_families.unwrap(), ["IPv4"]);
        let mut anything = spec(json!({ "clusterIP": "None" }));
        assert_eq!(fill(&addresses, &mut anything, None), "");
        assert_eq!(anything.ip_families.unwrap(), ["IPv4", "IPv6"]);
        assert_eq!(anything.ip_family_policy.as_deref(), Some("RequireDualStack"));
        let mut external = spec(json!({ "type": "ExternalName", "externalName": "a.b" }));
        assert_eq!(fill(&addresses, &mut external, None), "");
        assert_eq!((external.cluster_ip, external.ip_families), (None, None));
    }

    #[test]
    fn an_update_keeps_what_it_has_and_gets_what_it_lacks() {
        let addresses = addresses(12);
        let old = spec(
            json!({ "type": "ClusterIP", "clusterIP": "10.96.5.5", "clusterIPs": ["10.96.5.5"], "ports": [{ "port": 80, "protocol": "TCP" }] }),
        );
        let mut new = spec(
            json!({ "type": "NodePort", "ports": [{ "port": 80, "protocol": "TCP" }, { "port": 81, "protocol": "TCP", "nodePort": 30001 }] }),
        );
        assert_eq!(fill(&addresses, &mut new, Some(&old)), "");
        assert_eq!(new.cluster_ip, None, "carried over later");
        let given = new.ports.as_ref().unwrap()[0].node_port.unwrap();
        assert!((30086..=32767).contains(&given), "{given}");
        let mut again = spec(json!({ "type": "NodePort", "ports": [{ "port": 80, "protocol": "TCP" }] }));
        assert_eq!(fill(&addresses, &mut again, Some(&new)), "");
        assert_eq!(again.ports.unwrap()[0].node_port, None, "carried over later");
        let mut other = spec(
            json!({ "type": "NodePort", "ports": [{ "port": 1, "nodePort": 30001 }, { "port": 2, "nodePort": 80 }] }),
        );
        assert_eq!(
            fill(&addresses, &mut other, None),
            "[spec.ports[0].nodePort: Invalid value: 30001: provided port is already allocated, \
             spec.ports[1].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767]"
        );
    }

    #[test]
    fn one_number_serves_both_protocols_of_a_service() {
        let mut both = spec(json!({ "type": "NodePort", "ports": [
            { "name": "u", "protocol": "UDP", "port": 53, "nodePort": 30053 },
            { "name": "t", "protocol": "TCP", "port": 53, "nodePort": 30053 },
        ] }));
        assert_eq!(fill(&addresses(12), &mut both, None), "");
    }

    #[test]
    fn a_full_range_says_so() {
        let addresses = addresses(29);
        let mut given = Vec::new();
        loop {
            let mut service = spec(json!({}));
            let refusal = fill(&addresses, &mut service, None);
            if !refusal.is_empty() {
                assert!(
                    refusal.ends_with("failed to allocate a serviceIP: range is full"),
                    "{refusal}"
                );
                break;
            }
            given.push(service.cluster_ip.unwrap());
        }
        given.sort();
        given.dedup();
        assert_eq!(given.len(), 6);
    }

    proptest! {
        #[test]
        fn no_two_services_get_the_same(prefix in 24_u8..30, wanted in 1_usize..40) {
            let addresses = addresses(prefix);
            let mut seen = std::collections::HashSet::new();
            for _ in 0..wanted {
                let mut service = spec(json!({}));
                if fill(&addresses, &mut service, None).is_empty() {
                    let address: IpAddr = service.cluster_ip.unwrap().parse().unwrap();
                    prop_assert!(addresses.cidr.contains(address));
                    prop_assert!(seen.insert(address));
                }
            }
        }
    }
}
