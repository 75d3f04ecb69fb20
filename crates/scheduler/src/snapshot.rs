//! What the scheduler knows of the nodes: what each has, what its pods take of it, kept up to date pod by pod.
//!
//! Amounts are arrays by resource number, so that a filter compares integers; a resource's name is turned into its
//! number once, when a pod or a node comes in.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, PodSpec, Taint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use skiff_api::pod::requests;
use skiff_api::quantity::Quantity;
use skiff_informer::ObjectKey;

use crate::affinity::{NodeAffinity, PreferredAffinity};

/// Processor time, in thousandths.
pub(crate) const CPU: usize = 0;
/// Memory, in bytes.
pub(crate) const MEMORY: usize = 1;

/// What a container without a request is taken to use when nodes are scored (upstream's `DefaultMilliCPURequest`).
const DEFAULT_MILLI_CPU: i64 = 100;
/// The same for memory (`DefaultMemoryRequest`).
const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

/// Numbers for resource names.
#[derive(Debug)]
pub(crate) struct ResourceNames {
    names: Vec<String>,
    numbers: HashMap<String, usize>,
}

impl Default for ResourceNames {
    fn default() -> Self {
        let mut names = Self {
            names: Vec::new(),
            numbers: HashMap::new(),
        };
        for name in ["cpu", "memory", "ephemeral-storage"] {
            names.number(name);
        }
        names
    }
}

impl ResourceNames {
    fn number(&mut self, name: &str) -> usize {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.names.len();
        self.names.push(name.to_string());
        self.numbers.insert(name.to_string(), number);
        number
    }

    /// The name of a resource.
    pub(crate) fn name(&self, number: usize) -> &str {
        self.names.get(number).map_or("resource", String::as_str)
    }
}

fn amount(number: usize, quantity: Quantity) -> i64 {
    if number == CPU {
        quantity.milli_value()
    } else {
        quantity.value()
    }
}

/// Amounts by resource number; what is not there is 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Amounts(Vec<i64>);

impl Amounts {
    /// The amount of a resource.
    pub(crate) fn get(&self, number: usize) -> i64 {
        self.0.get(number).copied().unwrap_or(0)
    }

    fn set(&mut self, number: usize, amount: i64) {
        if self.0.len() <= number {
            self.0.resize(number + 1, 0);
        }
        if let Some(slot) = self.0.get_mut(number) {
            *slot = amount;
        }
    }

    fn change(&mut self, by: &Amounts, sign: i64) {
        for (number, amount) in by.iter() {
            self.set(
                number,
                self.get(number).saturating_add(amount.saturating_mul(sign)),
            );
        }
    }

    /// The resources of which there is some.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, i64)> {
        self.0
            .iter()
            .copied()
            .enumerate()
            .filter(|(_, amount)| *amount != 0)
    }

    fn of(quantities: Option<&std::collections::BTreeMap<String, Text>>, names: &mut ResourceNames) -> Self {
        let mut amounts = Self::default();
        for (name, text) in quantities.into_iter().flatten() {
            if name != "pods" {
                let number = names.number(name);
                amounts.set(number, amount(number, Quantity::of(text)));
            }
        }
        amounts
    }
}

/// A port of the node that a pod takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostPort {
    /// Empty for all addresses.
    address: String,
    protocol: String,
    port: i32,
}

impl HostPort {
    /// Whether both cannot be on one node.
    pub(crate) fn conflicts(&self, other: &Self) -> bool {
        self.port == other.port
            && self.protocol == other.protocol
            && (self.address.is_empty() || other.address.is_empty() || self.address == other.address)
    }
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    // Of init containers only the sidecars keep their ports.
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|container| skiff_api::pod::is_sidecar(container));
    let ports = spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let number = port.host_port.filter(|number| *number > 0)?;
            let address = port
                .host_ip
                .clone()
                .filter(|address| address != "0.0.0.0" && address != "::");
            Some(HostPort {
                address: address.unwrap_or_default(),
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_string()),
                port: number,
            })
        })
        .collect()
}

/// A pod as the plugins see it: everything about it that is worth computing once.
#[derive(Clone, Debug)]
pub(crate) struct PodInfo {
    /// The pod itself.
    pub(crate) pod: Arc<Pod>,
    /// What it requests.
    pub(crate) requests: Amounts,
    /// The same for scoring, where no request counts as a small one.
    pub(crate) scored_requests: Amounts,
    /// The node's ports that it takes.
    pub(crate) ports: Vec<HostPort>,
    /// The nodes it must be on.
    pub(crate) affinity: NodeAffinity,
    /// The nodes it would rather be on.
    pub(crate) preferred: PreferredAffinity,
    /// The images of its containers, with a tag or digest.
    pub(crate) images: Vec<String>,
}

impl PodInfo {
    /// The facts of a pod.
    pub(crate) fn new(pod: Arc<Pod>, names: &mut ResourceNames) -> Self {
        let empty = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&empty);
        let mut requested = Amounts::default();
        for (name, quantity) in requests(spec) {
            let number = names.number(&name);
            requested.set(number, amount(number, quantity));
        }
        let scored = scored_requests(spec, names);
        let images = spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
            .filter_map(|container| container.image.as_deref())
            .map(normal_image)
            .collect();
        Self {
            requests: requested,
            scored_requests: scored,
            ports: host_ports(spec),
            affinity: NodeAffinity::of(spec),
            preferred: PreferredAffinity::of(spec),
            images,
            pod,
        }
    }

    /// Its specification; `None` only for an object that no server would store.
    pub(crate) fn spec(&self) -> Option<&PodSpec> {
        self.pod.spec.as_ref()
    }

    fn key(&self) -> ObjectKey {
        ObjectKey::of(&self.pod.metadata)
    }
}

/// The requests with a small one for each container that has none.
fn scored_requests(spec: &PodSpec, names: &mut ResourceNames) -> Amounts {
    let mut spec = spec.clone();
    let containers = spec
        .containers
        .iter_mut()
        .chain(spec.init_containers.iter_mut().flatten());
    for container in containers {
        let own = container
            .resources
            .get_or_insert_default()
            .requests
            .get_or_insert_default();
        own.entry("cpu".to_string())
            .or_insert_with(|| Text(format!("{DEFAULT_MILLI_CPU}m")));
        own.entry("memory".to_string())
            .or_insert_with(|| Text(DEFAULT_MEMORY.to_string()));
    }
    let mut amounts = Amounts::default();
    for (name, quantity) in requests(&spec) {
        let number = names.number(&name);
        amounts.set(number, amount(number, quantity));
    }
    amounts
}

/// An image's name as nodes report it: with the tag `latest` if it has none.
fn normal_image(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains(':') || name.contains('@') {
        name.to_string()
    } else {
        format!("{name}:latest")
    }
}

/// A node as the plugins see it.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeInfo {
    /// `metadata.name`.
    pub(crate) name: String,
    /// `None` while only pods are known of it.
    pub(crate) node: Option<Arc<Node>>,
    /// What its pods may take together.
    pub(crate) allocatable: Amounts,
    /// How many pods it may have.
    pub(crate) allowed_pods: i64,
    /// What its pods request.
    pub(crate) requested: Amounts,
    /// The same for scoring.
    pub(crate) scored_requested: Amounts,
    /// How many pods it has.
    pub(crate) pod_count: i64,
    /// The ports that are taken.
    pub(crate) ports: Vec<HostPort>,
    /// The images it has, and their sizes in bytes.
    pub(crate) images: HashMap<String, i64>,
}

impl NodeInfo {
    /// `spec.taints`.
    pub(crate) fn taints(&self) -> &[Taint] {
        let spec = self.node.as_ref().and_then(|node| node.spec.as_ref());
        spec.and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
    }

    /// `spec.unschedulable`.
    pub(crate) fn is_unschedulable(&self) -> bool {
        let spec = self.node.as_ref().and_then(|node| node.spec.as_ref());
        spec.and_then(|spec| spec.unschedulable).unwrap_or(false)
    }

    fn set_node(&mut self, node: Arc<Node>, names: &mut ResourceNames) {
        let status = node.status.as_ref();
        let allocatable = status.and_then(|status| status.allocatable.as_ref().or(status.capacity.as_ref()));
        self.allowed_pods = allocatable
            .and_then(|all| all.get("pods"))
            .map_or(0, |text| Quantity::of(text).value());
        self.allocatable = Amounts::of(allocatable, names);
        self.images.clear();
        for image in status
            .and_then(|status| status.images.as_ref())
            .into_iter()
            .flatten()
        {
            for name in image.names.iter().flatten() {
                self.images.insert(name.clone(), image.size_bytes.unwrap_or(0));
            }
        }
        self.node = Some(node);
    }

    fn count(&mut self, pod: &PodInfo, sign: i64) {
        self.requested.change(&pod.requests, sign);
        self.scored_requested.change(&pod.scored_requests, sign);
        self.pod_count += sign;
        for port in &pod.ports {
            if sign > 0 {
                self.ports.push(port.clone());
            } else if let Some(at) = self.ports.iter().position(|taken| taken == port) {
                self.ports.swap_remove(at);
            }
        }
    }
}

#[derive(Debug)]
struct Placed {
    info: PodInfo,
    node: String,
    /// The API has not confirmed it.
    assumed: bool,
}

/// All nodes, and the pods on them, including those that are assumed to be there soon.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// Numbers for resource names.
    pub(crate) names: ResourceNames,
    nodes: Vec<NodeInfo>,
    index: HashMap<String, usize>,
    pods: HashMap<ObjectKey, Placed>,
    /// How many nodes have an image.
    image_nodes: HashMap<String, usize>,
    known_nodes: usize,
}

impl Snapshot {
    /// The nodes; those without a node object are only known by their pods.
    pub(crate) fn nodes(&self) -> &[NodeInfo] {
        &self.nodes
    }

    /// How many nodes there are.
    pub(crate) fn node_count(&self) -> usize {
        self.known_nodes
    }

    /// A node by name.
    pub(crate) fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.nodes.get(*self.index.get(name)?)
    }

    /// How many nodes have an image.
    pub(crate) fn nodes_with_image(&self, image: &str) -> usize {
        self.image_nodes.get(image).copied().unwrap_or(0)
    }

    fn entry(&mut self, name: &str) -> Option<&mut NodeInfo> {
        let next = self.nodes.len();
        let at = *self.index.entry(name.to_string()).or_insert(next);
        if at == next {
            self.nodes.push(NodeInfo {
                name: name.to_string(),
                ..NodeInfo::default()
            });
        }
        self.nodes.get_mut(at)
    }

    fn count_images(&mut self, name: &str, add: bool) {
        let Some(node) = self.index.get(name).and_then(|at| self.nodes.get(*at)) else {
            return;
        };
        for image in node.images.keys() {
            if add {
                *self.image_nodes.entry(image.clone()).or_default() += 1;
            } else if let Some(count) = self.image_nodes.get_mut(image) {
                *count -= 1;
                if *count == 0 {
                    self.image_nodes.remove(image);
                }
            }
        }
    }

    /// A node is there, or has changed.
    pub(crate) fn set_node(&mut self, node: Arc<Node>) {
        let name = node.metadata.name.clone().unwrap_or_default();
        self.count_images(&name, false);
        let mut names = std::mem::take(&mut self.names);
        let is_new = match self.entry(&name) {
            Some(entry) => {
                let is_new = entry.node.is_none();
                entry.set_node(node, &mut names);
                is_new
            }
            None => false,
        };
        self.names = names;
        self.known_nodes += usize::from(is_new);
        self.count_images(&name, true);
    }

    /// A node is gone; its pods may be there a little longer.
    pub(crate) fn remove_node(&mut self, name: &str) {
        self.count_images(name, false);
        let Some(entry) = self.index.get(name).and_then(|at| self.nodes.get_mut(*at)) else {
            return;
        };
        if entry.node.take().is_some() {
            self.known_nodes -= 1;
        }
        entry.images.clear();
        self.drop_if_unused(name);
    }

    fn drop_if_unused(&mut self, name: &str) {
        let Some(at) = self.index.get(name).copied() else {
            return;
        };
        let unused = self
            .nodes
            .get(at)
            .is_some_and(|entry| entry.node.is_none() && entry.pod_count == 0);
        if !unused {
            return;
        }
        self.nodes.swap_remove(at);
        self.index.remove(name);
        if let Some(moved) = self.nodes.get(at) {
            self.index.insert(moved.name.clone(), at);
        }
    }

    /// A pod is on a node, or has changed there; whatever was assumed of it is replaced.
    pub(crate) fn set_pod(&mut self, pod: Arc<Pod>) {
        let node = skiff_api::pod::node_name(&pod).to_string();
        let info = PodInfo::new(pod, &mut self.names);
        self.place(info, node, false);
    }

    /// A pod will be on a node if its binding succeeds.
    pub(crate) fn assume(&mut self, info: PodInfo, node: &str) {
        self.place(info, node.to_string(), true);
    }

    fn place(&mut self, info: PodInfo, node: String, assumed: bool) {
        self.remove_pod(&info.key());
        if let Some(entry) = self.entry(&node) {
            entry.count(&info, 1);
        }
        self.pods.insert(info.key(), Placed { info, node, assumed });
    }

    /// A pod is gone or has ended; the node it was on.
    pub(crate) fn remove_pod(&mut self, key: &ObjectKey) -> Option<(PodInfo, String)> {
        let placed = self.pods.remove(key)?;
        if let Some(entry) = self
            .index
            .get(&placed.node)
            .and_then(|at| self.nodes.get_mut(*at))
        {
            entry.count(&placed.info, -1);
        }
        self.drop_if_unused(&placed.node);
        Some((placed.info, placed.node))
    }

    /// A binding has failed: the pod is not assumed any more. Nothing happens if the API has confirmed it meanwhile.
    pub(crate) fn forget(&mut self, key: &ObjectKey, uid: &Option<String>) -> bool {
        let is_assumed = self
            .pods
            .get(key)
            .is_some_and(|placed| placed.assumed && placed.info.pod.metadata.uid == *uid);
        is_assumed && self.remove_pod(key).is_some()
    }

    /// Whether a pod with this uid is on a node or assumed to be.
    pub(crate) fn has_pod(&self, key: &ObjectKey, uid: &Option<String>) -> bool {
        self.pods
            .get(key)
            .is_some_and(|placed| placed.info.pod.metadata.uid == *uid)
    }
}
