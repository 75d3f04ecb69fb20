//! `/metrics`: counts of what the server does, under upstream's names, in Prometheus' text format.

mod admission;
mod clients;
mod credentials;
mod histogram;
mod process;
mod responses;
mod states;
mod store;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use skiff_api::{Catalogue, KindInfo};

use crate::http::request_info::RequestInfo;

pub(crate) use admission::{AdmissionTimes, Passed, PluginTimes, Step};
pub(crate) use clients::{Clients, Exchange};
pub(crate) use credentials::{Impersonations, TokenUses, tick};
use histogram::{Bounds, Histogram};
pub(crate) use process::process_start;
use responses::Responses;
use states::States;
pub(crate) use store::Measured;
use store::StoreTimes;

/// The bounds of the durations' histogram, in seconds (upstream's).
#[derive(Debug)]
pub(crate) struct RequestSeconds;

impl Bounds for RequestSeconds {
    const BOUNDS: &'static [f64] = &[
        0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0,
        15.0, 20.0, 30.0, 45.0, 60.0,
    ];
}

/// How long things took.
type Durations = Histogram<RequestSeconds>;

/// The shortest of the bounds that the service level's histogram has, in seconds.
const SERVICE_LEVEL: f64 = 0.05;

/// What requests are counted by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Labels {
    /// First, because it tells most of them apart: every request looks for its own.
    resource: String,
    verb: String,
    subresource: String,
    group: String,
    version: String,
    scope: &'static str,
    /// `All` or nothing; only some counts are told apart by it.
    dry_run: &'static str,
}

/// What tells a write from others of its verb.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manner {
    /// A server-side apply, which is a patch by its method.
    pub(crate) applies: bool,
    /// Everything but the write.
    pub(crate) dry_run: bool,
}

/// Somebody else's counts as text.
type Source = Box<dyn Fn() -> String + Send + Sync>;

/// Those of the other parts of the process.
#[derive(Default)]
struct Others(Mutex<Vec<Source>>);

impl std::fmt::Debug for Others {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Others").field(&self.0.lock().len()).finish()
    }
}

/// The server's counts.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<(Labels, u16), u64>>,
    durations: Mutex<BTreeMap<Labels, Durations>>,
    /// What the store was asked, and how long it took.
    pub(crate) store: Arc<StoreTimes>,
    live: Arc<Live>,
    responses: Arc<Responses>,
    others: Others,
    /// How long admission took.
    pub(crate) admission: Arc<AdmissionTimes>,
    /// What the parts of this process send.
    pub(crate) clients: Arc<Clients>,
    /// How the tokens of service accounts are used.
    pub(crate) tokens: Arc<TokenUses>,
    /// How users act as others.
    pub(crate) impersonations: Arc<Impersonations>,
    /// Of checks, and of what is deprecated.
    pub(crate) states: States,
    watch_events: Mutex<BTreeMap<(String, String, String), Arc<AtomicU64>>>,
}

/// The requests that live now.
#[derive(Debug, Default)]
struct Live {
    mutating: AtomicI64,
    read_only: AtomicI64,
    long_running: Mutex<BTreeMap<Labels, i64>>,
}

/// Counts a request for as long as a copy of this lives.
#[derive(Clone, Debug)]
pub(crate) struct Counted(#[allow(dead_code, reason = "it does its work when it is dropped")] Arc<One>);

/// One request: with its labels when it lasts as long as the client likes, else whether it changes something.
#[derive(Debug)]
struct One {
    live: Arc<Live>,
    what: Result<Labels, bool>,
}

impl Counted {
    pub(crate) fn new(metrics: &Metrics, info: &RequestInfo, known: bool) -> Self {
        let live = metrics.live.clone();
        let what = if info.is_long_running() {
            Ok(Labels::of(info, known))
        } else {
            Err(info.is_mutating())
        };
        let one = One { live, what };
        one.add(1);
        Self(Arc::new(one))
    }
}

impl One {
    fn add(&self, count: i64) {
        let gauge = match &self.what {
            Ok(labels) => {
                let mut all = self.live.long_running.lock();
                let gauge = all.entry(labels.clone()).or_default();
                *gauge += count;
                return;
            }
            Err(true) => &self.live.mutating,
            Err(false) => &self.live.read_only,
        };
        gauge.fetch_add(count, Ordering::Relaxed);
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.add(-1);
    }
}

impl Labels {
    /// The labels of a request. `known`: its resource is one that the server has; a made-up one would let a client grow
    /// the counts without end.
    fn of(info: &RequestInfo, known: bool) -> Self {
        let text = |text: &str| if known { text.to_string() } else { String::new() };
        let connects = matches!(
            info.subresource.as_str(),
            "proxy" | "exec" | "attach" | "portforward"
        );
        let subresource = if known && SUBRESOURCES.contains(&info.subresource.as_str()) {
            info.subresource.clone()
        } else {
            String::new()
        };
        Self {
            verb: match info.verb {
                _ if connects => "CONNECT".into(),
                "create" => "POST".into(),
                "update" => "PUT".into(),
                "" => "other".into(),
                verb => verb.to_ascii_uppercase(),
            },
            group: text(&info.group),
            version: text(&info.version),
            resource: text(&info.resource),
            subresource,
            scope: match (
                info.is_resource,
                info.path_name().is_empty(),
                info.namespace.is_empty(),
            ) {
                (false, ..) => "",
                (_, false, _) => "resource",
                (_, _, false) => "namespace",
                _ => "cluster",
            },
            dry_run: "",
        }
    }

    fn of_manner(mut self, manner: Manner) -> Self {
        if manner.applies {
            self.verb = "APPLY".into();
        }
        if manner.dry_run {
            self.dry_run = "All";
        }
        self
    }
}

/// How a request was answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    /// Whether its resource is one that the server has.
    pub(crate) known: bool,
    pub(crate) code: u16,
    pub(crate) took: Duration,
    /// Of the answer, in bytes, where that is known before it is written.
    pub(crate) size: Option<u64>,
}

/// Adds to a count. Its key is copied only for the first time.
fn count<K: Ord + Clone, C: Default>(all: &Mutex<BTreeMap<K, C>>, key: &K, add: impl FnOnce(&mut C)) {
    let mut all = all.lock();
    match all.get_mut(key) {
        Some(count) => add(count),
        None => add(all.entry(key.clone()).or_default()),
    }
}

impl Metrics {
    /// The counts of a server of these kinds.
    pub(crate) fn of(catalogue: &Catalogue) -> Self {
        Self {
            store: Arc::new(StoreTimes::of(catalogue)),
            ..Self::default()
        }
    }

    /// Counts a request that was answered.
    pub(crate) fn observe(&self, info: &RequestInfo, manner: Manner, answered: Answered) {
        let labels = Labels::of(info, answered.known);
        if let Some(size) = answered.size {
            self.responses.sized(&labels, size);
        }
        let key = (labels.of_manner(manner), answered.code);
        count(&self.requests, &key, |count| *count += 1);
        if !info.is_long_running() {
            count(&self.durations, &key.0, |durations| durations.took(answered.took));
        }
    }

    /// Counts a request that the server gave up, and what it answered instead.
    pub(crate) fn terminated(&self, info: &RequestInfo, known: bool, code: u16) {
        self.responses.terminated(Labels::of(info, known), code);
    }

    /// Counts, when it is called, that the answer to a request was cut short.
    pub(crate) fn on_abort(&self, info: &RequestInfo, known: bool) -> impl Fn() + Send + 'static {
        let (responses, labels) = (self.responses.clone(), Labels::of(info, known));
        move || responses.aborted(labels.clone())
    }

    /// The count of a kind's watch events.
    pub(crate) fn watch_events(&self, info: &KindInfo) -> Arc<AtomicU64> {
        let key = [&info.group, &info.version, &info.plural].map(ToString::to_string);
        let mut all = self.watch_events.lock();
        all.entry(key.into()).or_default().clone()
    }

    /// Tells what another part of the process counts as well.
    pub(crate) fn also_tell(&self, source: Source) {
        self.others.0.lock().push(source);
    }

    /// Begins to count anew, but for what lives now and what other parts of the process count.
    pub(crate) fn reset(&self) {
        self.requests.lock().clear();
        self.durations.lock().clear();
        self.store.reset();
        self.responses.reset();
        self.admission.reset();
        self.clients.reset();
        self.tokens.reset();
        self.impersonations.reset();
        self.states.reset();
        for count in self.watch_events.lock().values() {
            count.store(0, Ordering::Relaxed);
        }
    }

    /// All counts as text. `host`: where the parts of this process send their requests.
    pub(crate) fn render(&self, host: &str, objects: &[(&KindInfo, usize)]) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = self.write(&mut text, host, objects);
        for source in self.others.0.lock().iter() {
            text.push_str(&source());
        }
        text
    }

    fn write(
        &self,
        text: &mut String,
        host: &str,
        objects: &[(&KindInfo, usize)],
    ) -> Result<(), std::fmt::Error> {
        self.store.write(text)?;
        process::write(text)?;
        self.responses.write(text)?;
        self.states.write(text)?;
        self.admission.write(text)?;
        self.clients.write(text, host)?;
        self.tokens.write(text)?;
        self.impersonations.write(text)?;
        head(
            text,
            "apiserver_request_total",
            "counter",
            "[STABLE] Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code.",
        )?;
        for ((labels, code), count) in self.requests.lock().iter() {
            writeln!(
                text,
                "apiserver_request_total{{code=\"{code}\",component=\"apiserver\",dry_run=\"{}\",{labels}}} {count}",
                labels.dry_run
            )?;
        }
        head(
            text,
            "apiserver_request_duration_seconds",
            "histogram",
            "[STABLE] Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, scope and component.",
        )?;
        let mut of_service: BTreeMap<String, Durations> = BTreeMap::new();
        for (labels, durations) in self.durations.lock().iter() {
            let service = format!("component=\"apiserver\",{labels}");
            of_service.entry(service).or_default().unite(durations);
            let labels = format!("component=\"apiserver\",dry_run=\"{}\",{labels}", labels.dry_run);
            durations.write(text, "apiserver_request_duration_seconds", &labels, 0.0)?;
        }
        // Nothing here waits for webhooks, and nobody waits for a turn in a queue that is long.
        head(
            text,
            "apiserver_request_sli_duration_seconds",
            "histogram",
            "[ALPHA] Response latency distribution (not counting webhook duration and priority & fairness queue wait times) in seconds for each verb, group, version, resource, subresource, scope and component.",
        )?;
        for (labels, durations) in &of_service {
            durations.write(
                text,
                "apiserver_request_sli_duration_seconds",
                labels,
                SERVICE_LEVEL,
            )?;
        }
        head(
            text,
            "apiserver_current_inflight_requests",
            "gauge",
            "[STABLE] Maximal number of currently used inflight request limit of this apiserver per request kind in last second.",
        )?;
        for (kind, gauge) in [
            ("mutating", &self.live.mutating),
            ("readOnly", &self.live.read_only),
        ] {
            let value = gauge.load(Ordering::Relaxed);
            writeln!(
                text,
                "apiserver_current_inflight_requests{{request_kind=\"{kind}\"}} {value}"
            )?;
        }
        head(
            text,
            "apiserver_longrunning_requests",
            "gauge",
            "[STABLE] Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope and component. Not all requests are tracked this way.",
        )?;
        for (labels, value) in self.live.long_running.lock().iter() {
            writeln!(
                text,
                "apiserver_longrunning_requests{{component=\"apiserver\",{labels}}} {value}"
            )?;
        }
        head(
            text,
            "apiserver_watch_events_total",
            "counter",
            "[ALPHA] Number of events sent in watch clients",
        )?;
        for ((group, version, resource), count) in self.watch_events.lock().iter() {
            let count = count.load(Ordering::Relaxed);
            writeln!(
                text,
                "apiserver_watch_events_total{{group=\"{group}\",resource=\"{resource}\",version=\"{version}\"}} {count}"
            )?;
        }
        head(
            text,
            "apiserver_resource_objects",
            "gauge",
            "[ALPHA] Number of stored objects at the time of last check split by kind. In case of a fetching error, the value will be -1.",
        )?;
        for (info, count) in objects {
            writeln!(
                text,
                "apiserver_resource_objects{{group=\"{}\",resource=\"{}\"}} {count}",
                info.group, info.plural
            )?;
        }
        head(
            text,
            "apiserver_storage_objects",
            "gauge",
            "[STABLE] (Deprecated since 1.34.0) [DEPRECATED, consider using apiserver_resource_objects instead] Number of stored objects at the time of last check split by kind. In case of a fetching error, the value will be -1.",
        )?;
        for (info, count) in objects {
            let resource = info.group_resource();
            writeln!(
                text,
                "apiserver_storage_objects{{resource=\"{resource}\"}} {count}"
            )?;
        }
        Ok(())
    }
}

/// The subresources by which requests are counted.
const SUBRESOURCES: [&str; 14] = [
    "approval",
    "attach",
    "binding",
    "ephemeralcontainers",
    "eviction",
    "exec",
    "finalize",
    "log",
    "portforward",
    "proxy",
    "resize",
    "scale",
    "status",
    "token",
];

pub(super) fn head(text: &mut String, name: &str, type_: &str, about: &str) -> std::fmt::Result {
    writeln!(text, "# HELP {name} {about}\n# TYPE {name} {type_}")
}

impl std::fmt::Display for Labels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            verb,
            group,
            version,
            resource,
            subresource,
            scope,
            dry_run: _,
        } = self;
        write!(
            f,
            "group=\"{group}\",resource=\"{resource}\",scope=\"{scope}\",subresource=\"{subresource}\",verb=\"{verb}\",version=\"{version}\""
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;

    #[test]
    fn a_request_counts_as_long_as_somebody_works_on_it() {
        let metrics = Metrics::default();
        let uri = "/api/v1/pods?watch=1".parse().unwrap();
        let watch = RequestInfo::parse(&Method::GET, &uri).unwrap();
        let line = |count| {
            format!(
                r#"apiserver_longrunning_requests{{component="apiserver",group="",resource="pods",scope="cluster",subresource="",verb="WATCH",version="v1"}} {count}"#
            )
        };
        let counted = Counted::new(&metrics, &watch, true);
        let other = counted.clone();
        drop(counted);
        assert!(metrics.render("h", &[]).contains(&line(1)));
        drop(other);
        assert!(metrics.render("h", &[]).contains(&line(0)));
    }

    fn answered(known: bool, code: u16, took: Duration) -> Answered {
        let size = None;
        Answered {
            known,
            code,
            took,
            size,
        }
    }

    #[test]
    fn requests_are_counted_by_what_they_do() {
        let metrics = Metrics::default();
        let info = RequestInfo::parse(&Method::GET, &"/api/v1/pods".parse().unwrap()).unwrap();
        let plain = Manner::default();
        metrics.observe(&info, plain, answered(true, 200, Duration::from_millis(30)));
        metrics.observe(&info, plain, answered(true, 200, Duration::from_secs(60)));
        let made_up = RequestInfo::parse(&Method::GET, &"/api/v1/nonsense".parse().unwrap()).unwrap();
        metrics.observe(&made_up, plain, answered(false, 404, Duration::ZERO));
        let patch = RequestInfo::parse(&Method::PATCH, &"/api/v1/nodes/n".parse().unwrap()).unwrap();
        let applied = Manner {
            applies: true,
            dry_run: true,
        };
        metrics.observe(&patch, applied, answered(true, 200, Duration::from_millis(70)));
        metrics.observe(&patch, plain, answered(true, 200, Duration::from_millis(70)));
        let pods = KindInfo::of::<k8s_openapi::api::core::v1::Pod>("pod");
        let text = metrics.render("h", &[(&pods, 3)]);
        for line in [
            r#"apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="pods",scope="cluster",subresource="",verb="LIST",version="v1"} 2"#,
            r#"apiserver_request_duration_seconds_bucket{component="apiserver",dry_run="",group="",resource="pods",scope="cluster",subresource="",verb="LIST",version="v1",le="0.05"} 1"#,
            r#"apiserver_request_total{code="200",component="apiserver",dry_run="All",group="",resource="nodes",scope="resource",subresource="",verb="APPLY",version="v1"} 1"#,
            r#"apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="nodes",scope="resource",subresource="",verb="PATCH",version="v1"} 1"#,
            r#"apiserver_request_duration_seconds_bucket{component="apiserver",dry_run="",group="",resource="pods",scope="cluster",subresource="",verb="LIST",version="v1",le="60"} 2"#,
            r#"apiserver_request_sli_duration_seconds_bucket{component="apiserver",group="",resource="pods",scope="cluster",subresource="",verb="LIST",version="v1",le="0.05"} 1"#,
            r#"apiserver_storage_objects{resource="pods"} 3"#,
            r#"apiserver_resource_objects{group="",resource="pods"} 3"#,
            "# TYPE process_resident_memory_bytes gauge",
            "# TYPE process_open_fds gauge",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("nonsense"));
        let short = text
            .lines()
            .find(|line| line.contains("sli_duration") && line.contains(r#"le="0.005""#));
        assert_eq!(short, None, "the service level knows no shorter than 0.05 s");
        metrics.reset();
        let text = metrics.render("h", &[]);
        assert!(!text.contains("apiserver_request_total{") && !text.contains("duration_seconds_count{"));
    }
}
