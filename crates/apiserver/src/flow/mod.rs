//! API priority and fairness: how many requests are handled at once, and whose turn it is.
//!
//! A flow schema says which level a request belongs to, a level says how many of the server's seats are its own and who
//! waits. The objects are those of `flowcontrol.apiserver.k8s.io`, followed as they change.

mod builtin;
mod counters;
mod drops;
mod dump;
mod keep;
mod requests;
mod schema;
mod seats;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use k8s_openapi::api::flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use parking_lot::{Mutex, RwLock};

use crate::http::request_info::RequestInfo;
use crate::user::UserInfo;
use counters::{Counted, Counters, Rejection};
use drops::Drops;
use requests::{Entered, Request, Requests};
use schema::Schema;
use seats::{LevelConfig, Outcome, Seats};

pub(crate) use keep::{Keeper, bootstrap};
pub(crate) use seats::Seat;

/// How long a request waits for its turn, at most: a quarter of the time that it may take.
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// The uid of a request's schema, and that of its level, as the response's headers tell.
pub(crate) type Uids = (Arc<str>, Arc<str>);

/// Where a request belongs.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    pub(crate) uids: Uids,
    /// The seat, `None` where the level is exempt, and the request's part in the counts: given back when the last clone
    /// is dropped.
    _held: Arc<(Option<Seat>, Counted, Entered)>,
}

/// Gives requests their turns; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    rules: Arc<RwLock<Arc<Rules>>>,
    seats: Arc<Mutex<Seats>>,
    /// By schema; the counts outlive a change of its object.
    counters: Arc<Mutex<BTreeMap<String, Arc<Counters>>>>,
    drops: Drops,
    requests: Requests,
    /// By level; they outlive a change of its object.
    totals: Arc<Mutex<HashMap<Arc<str>, Arc<Totals>>>>,
    longest_wait: Duration,
}

/// What has become of the requests of a level.
#[derive(Debug, Default)]
struct Totals {
    dispatched: AtomicU64,
    /// Those who were sent away.
    rejected: AtomicU64,
    /// Those who waited, and left without having had their turn.
    cancelled: AtomicU64,
}

/// A level, as a request meets it.
#[derive(Debug)]
struct Level {
    uid: Arc<str>,
    /// Whether its seats are counted.
    is_limited: bool,
    /// How many queues there are to wait in.
    queues: usize,
    totals: Arc<Totals>,
}

/// Somebody who waits; counts them if they leave before their turn.
struct Waiting<'a>(Option<&'a Totals>);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(totals) = self.0 {
            totals.rejected.fetch_add(1, Ordering::Relaxed);
            totals.cancelled.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The objects, made ready to be asked.
#[derive(Debug, Default)]
struct Rules {
    /// By precedence; those whose level is not there are left out.
    schemas: Vec<Schema>,
    /// By name.
    levels: HashMap<Arc<str>, Level>,
}

impl Flow {
    /// So many seats, divided as every server divides them until the objects are known.
    pub(crate) fn new(seats: usize) -> Self {
        let flow = Self {
            rules: Arc::default(),
            seats: Arc::new(Mutex::new(Seats::new(seats))),
            counters: Arc::default(),
            drops: Drops::default(),
            requests: Requests::default(),
            totals: Arc::default(),
            longest_wait: LONGEST_WAIT,
        };
        flow.configure(&[], &[]);
        flow
    }

    /// Takes other objects. Those that no server may be without count even when they are not there.
    fn configure(&self, schemas: &[FlowSchema], levels: &[PriorityLevelConfiguration]) {
        let name = |meta: &ObjectMeta| meta.name.clone().unwrap_or_default();
        let mut levels = levels.to_vec();
        for level in builtin::levels().into_iter().filter(builtin::is_mandatory_level) {
            if !levels
                .iter()
                .any(|present| present.metadata.name == level.metadata.name)
            {
                levels.push(level);
            }
        }
        let mut schemas = schemas.to_vec();
        for schema in builtin::schemas()
            .into_iter()
            .filter(builtin::is_mandatory_schema)
        {
            if !schemas
                .iter()
                .any(|present| present.metadata.name == schema.metadata.name)
            {
                schemas.push(schema);
            }
        }
        let known: HashMap<Arc<str>, Level> = levels
            .iter()
            .map(|level| {
                let name: Arc<str> = name(&level.metadata).into();
                let totals = self.totals.lock().entry(name.clone()).or_default().clone();
                let known = Level {
                    uid: level.metadata.uid.clone().unwrap_or_default().into(),
                    is_limited: level.spec.type_ != "Exempt",
                    queues: LevelConfig::of(level).map_or(0, |config| config.queues()),
                    totals,
                };
                (name, known)
            })
            .collect();
        self.totals.lock().retain(|name, _| known.contains_key(name));
        let mut compiled: Vec<Schema> = schemas
            .into_iter()
            .map(|schema| {
                let counters = self
                    .counters
                    .lock()
                    .entry(name(&schema.metadata))
                    .or_default()
                    .clone();
                Schema::of(schema, counters)
            })
            .filter(|schema| known.contains_key(&schema.level))
            .collect();
        self.counters
            .lock()
            .retain(|name, _| compiled.iter().any(|schema| *schema.name == *name));
        self.drops.retain(|name| known.contains_key(name));
        compiled.sort_by(|a, b| (a.precedence, &a.name).cmp(&(b.precedence, &b.name)));
        self.seats
            .lock()
            .configure(levels.iter().filter_map(LevelConfig::of));
        *self.rules.write() = Arc::new(Rules {
            schemas: compiled,
            levels: known,
        });
    }

    /// A request's turn, waited for if need be.
    ///
    /// # Errors
    /// When its level has no room, or none in time.
    pub(crate) async fn turn(&self, info: &Arc<RequestInfo>, user: &Arc<UserInfo>) -> Result<Turn, Busy> {
        let rules = self.rules.read().clone();
        let found = rules.schemas.iter().find(|schema| schema.matches(info, user));
        // The last schema takes everybody, and no schema is without its level; nobody gets here without them.
        let level = found.and_then(|schema| Some((schema, rules.levels.get(&schema.level)?)));
        let Some((schema, level)) = level else {
            return Err(Busy::default());
        };
        let uids = (schema.uid.clone(), level.uid.clone());
        let flow = schema.flow(info, user);
        let entered = self.requests.enter(Request {
            level: schema.level.clone(),
            schema: schema.name.clone(),
            info: info.clone(),
            user: user.clone(),
            flow,
            queue: None,
            arrived: SystemTime::now(),
            begun: (!level.is_limited).then(SystemTime::now),
        });
        let seat = if level.is_limited {
            match self.seat(schema, level, flow, &entered).await {
                Ok(seat) => Some(seat),
                Err(why) => {
                    schema.counters.reject(why);
                    let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or_default();
                    return Err(Busy {
                        uids,
                        wait: self.drops.record(&schema.level, now),
                    });
                }
            }
        } else {
            None
        };
        level.totals.dispatched.fetch_add(1, Ordering::Relaxed);
        Ok(Turn {
            uids,
            _held: Arc::new((seat, Counted::executing(&schema.counters), entered)),
        })
    }

    async fn seat(
        &self,
        schema: &Schema,
        level: &Level,
        flow: u64,
        entered: &Entered,
    ) -> Result<Seat, Rejection> {
        let outcome = Seats::ask(&self.seats, &schema.level, flow);
        let seat = match outcome {
            Outcome::Now(seat) => seat,
            Outcome::Full { waits } => {
                level.totals.rejected.fetch_add(1, Ordering::Relaxed);
                return Err(if waits {
                    Rejection::QueueFull
                } else {
                    Rejection::Limit
                });
            }
            Outcome::Wait { queue, turn } => {
                let _waiting = Counted::waiting(&schema.counters);
                let mut leaves = Waiting(Some(&level.totals));
                entered.waits(queue);
                let seat = match tokio::time::timeout(self.longest_wait, turn).await {
                    Ok(Ok(seat)) => seat,
                    Err(_) => return Err(Rejection::TimeOut),
                    // The level is gone.
                    Ok(Err(_)) => return Err(Rejection::Limit),
                };
                leaves.0 = None;
                seat
            }
        };
        entered.begins();
        Ok(seat)
    }

    /// Begins to count anew, but for who waits or is served now.
    pub(crate) fn reset_counts(&self) {
        for counters in self.counters.lock().values() {
            counters.reset();
        }
    }

    /// The metrics of flow control.
    pub(crate) fn render(&self) -> String {
        let rules = self.rules.read().clone();
        let schemas = rules.schemas.iter();
        let schemas = schemas.map(|schema| {
            (
                schema.name.as_ref(),
                schema.level.as_ref(),
                schema.counters.as_ref(),
            )
        });
        let levels = self.seats.lock().nominal();
        // Writing into a String cannot fail.
        counters::render(schemas, levels.into_iter()).unwrap_or_default()
    }
}

/// There is no turn for a request now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Busy {
    pub(crate) uids: Uids,
    /// After how many seconds its client should try again.
    pub(crate) wait: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;

    fn info(method: &Method, path: &str) -> Arc<RequestInfo> {
        Arc::new(RequestInfo::parse(method, &path.parse().unwrap()).unwrap())
    }

    fn builtin_flow(seats: usize) -> Flow {
        let flow = Flow::new(seats);
        flow.configure(&builtin::schemas(), &builtin::levels());
        flow
    }

    #[test]
    fn requests_belong_where_upstream_puts_them() {
        let flow = builtin_flow(600);
        let rules = flow.rules.read().clone();
        let node = UserInfo::new("system:node:n", ["system:nodes"]);
        let manager = UserInfo::new("system:kube-controller-manager", [""; 0]);
        let account = |namespace: &str| UserInfo::service_account(namespace, "a", "1");
        let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n";
        let cases = [
            (UserInfo::master("admin"), Method::GET, "/api/v1/pods", "exempt"),
            (UserInfo::anonymous(), Method::GET, "/readyz", "probes"),
            (node.clone(), Method::PUT, lease, "system-node-high"),
            (
                node.clone(),
                Method::PATCH,
                "/api/v1/nodes/n/status",
                "system-node-high",
            ),
            (node, Method::GET, "/api/v1/pods", "system-nodes"),
            (manager.clone(), Method::PUT, lease, "system-leader-election"),
            (
                manager.clone(),
                Method::PUT,
                "/api/v1/namespaces/a/endpoints/b",
                "endpoint-controller",
            ),
            (manager, Method::GET, "/api/v1/pods", "kube-controller-manager"),
            (
                account("kube-system"),
                Method::GET,
                "/api/v1/namespaces/a/configmaps/b",
                "workload-leader-election",
            ),
            (
                account("kube-system"),
                Method::GET,
                "/api/v1/pods",
                "kube-system-service-accounts",
            ),
            (
                account("default"),
                Method::GET,
                "/api/v1/pods",
                "service-accounts",
            ),
            (
                UserInfo::new("jane", [""; 0]),
                Method::GET,
                "/api",
                "global-default",
            ),
            (UserInfo::default(), Method::GET, "/api", ""),
        ];
        for (user, method, path, expected) in cases {
            let info = info(&method, path);
            let found = rules.schemas.iter().find(|schema| schema.matches(&info, &user));
            assert_eq!(
                found.map_or("", |schema| &*schema.name),
                expected,
                "{} {path}",
                user.name
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_of_one_level_leaves_the_others_their_seats() {
        let flow = builtin_flow(60);
        let jane = Arc::new(UserInfo::new("jane", [""; 0]));
        let node = Arc::new(UserInfo::new("system:node:n", ["system:nodes"]));
        let get = info(&Method::GET, "/api/v1/namespaces/a/pods/b");
        let mut held = Vec::new();
        let refusal = loop {
            match flow.turn(&get, &jane).await {
                Ok(turn) => held.push(turn),
                Err(refusal) => break refusal,
            }
        };
        // More than its own five, for nobody else needs theirs now, and yet not all.
        assert!((6..60).contains(&held.len()), "{}", held.len());
        assert_eq!(refusal.wait, 1);
        let lease = info(
            &Method::PUT,
            "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n",
        );
        let began = tokio::time::Instant::now();
        flow.turn(&lease, &node).await.unwrap();
        flow.turn(&get, &Arc::new(UserInfo::master("admin")))
            .await
            .unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO, "neither had to wait");

        let waiting = tokio::spawn({
            let (flow, jane, get) = (flow.clone(), jane.clone(), get.clone());
            async move { flow.turn(&get, &jane).await.map(drop) }
        });
        tokio::task::yield_now().await;
        held.pop();
        waiting.await.unwrap().unwrap();
    }
}
