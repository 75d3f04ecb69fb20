//! The pod security standards: what makes a pod too privileged for a level, as of a version.

use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{baseline, restricted};

/// How much a namespace's pods may do, from least strict to most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "privileged" => Some(Self::Privileged),
            "baseline" => Some(Self::Baseline),
            "restricted" => Some(Self::Restricted),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }
}

/// As of which version of the standards: `v1.24`, or the latest. The latest is newer than all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    Minor(u32),
    Latest,
}

impl Version {
    pub(super) fn named(name: &str) -> Option<Self> {
        if name == "latest" {
            return Some(Self::Latest);
        }
        let minor = name.strip_prefix("v1.")?;
        let is_plain =
            minor.bytes().all(|byte| byte.is_ascii_digit()) && (minor == "0" || !minor.starts_with('0'));
        if is_plain {
            minor.parse().ok().map(Self::Minor)
        } else {
            None
        }
    }

    /// Whether rules that came with this minor version hold.
    pub(super) fn has(self, minor: u32) -> bool {
        self >= Self::Minor(minor)
    }
}

/// A level as of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standard {
    pub(super) level: Level,
    pub(super) version: Version,
}

impl Standard {
    pub(super) const PRIVILEGED: Self = Self {
        level: Level::Privileged,
        version: Version::Latest,
    };
}

impl std::fmt::Display for Standard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.version {
            Version::Latest => write!(f, "{}:latest", self.level.name()),
            Version::Minor(minor) => write!(f, "{}:v1.{minor}", self.level.name()),
        }
    }
}

/// What a pod must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) reason: String,
    pub(super) detail: String,
}

impl Violation {
    pub(super) fn new(reason: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            detail: detail.into(),
        }
    }
}

/// A pod, or what a controller would make pods from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    pub(super) meta: &'a ObjectMeta,
    pub(super) spec: &'a PodSpec,
}

/// The part of a container, of whichever sort, that the rules look at.
pub(super) struct Part<'a> {
    pub(super) name: &'a str,
    pub(super) container: std::borrow::Cow<'a, Container>,
}

impl Subject<'_> {
    /// All containers: first those that start the pod, then its own, then those added later.
    pub(super) fn containers(&self) -> Vec<Part<'_>> {
        let starting = self.spec.init_containers.iter().flatten();
        let own = starting.chain(&self.spec.containers).map(|container| Part {
            name: &container.name,
            container: std::borrow::Cow::Borrowed(container),
        });
        let added = self.spec.ephemeral_containers.iter().flatten().map(|added| Part {
            name: &added.name,
            container: std::borrow::Cow::Owned(Container {
                name: added.name.clone(),
                lifecycle: added.lifecycle.clone(),
                liveness_probe: added.liveness_probe.clone(),
                ports: added.ports.clone(),
                readiness_probe: added.readiness_probe.clone(),
                security_context: added.security_context.clone(),
                startup_probe: added.startup_probe.clone(),
                ..Container::default()
            }),
        });
        own.chain(added).collect()
    }

    /// The names of the containers of which something holds.
    pub(super) fn names(&self, holds: impl Fn(&Container) -> bool) -> Vec<String> {
        self.containers()
            .iter()
            .filter(|part| holds(&part.container))
            .map(|part| part.name.to_string())
            .collect()
    }

    /// Whether its processes are somebody else outside of the pod, so that being root within is harmless.
    pub(super) fn has_own_users(&self) -> bool {
        self.spec.host_users == Some(false)
    }

    pub(super) fn is_windows(&self) -> bool {
        self.spec.os.as_ref().is_some_and(|os| os.name == "windows")
    }
}

/// All violations of a standard, in upstream's order.
pub(super) fn violations(standard: Standard, subject: Subject<'_>) -> Vec<Violation> {
    match standard.level {
        Level::Privileged => Vec::new(),
        Level::Baseline => baseline::violations(standard.version, subject, false),
        Level::Restricted => {
            let mut all = baseline::violations(standard.version, subject, true);
            all.extend(restricted::violations(standard.version, subject));
            all
        }
    }
}

/// Violations as a refusal shows them.
pub(super) fn described(violations: &[Violation]) -> String {
    let shown: Vec<String> = violations
        .iter()
        .map(|Violation { reason, detail }| {
            if detail.is_empty() {
                reason.clone()
            } else {
                format!("{reason} ({detail})")
            }
        })
        .collect();
    shown.join(", ")
}

/// `one` or `many`, by the number.
pub(super) fn plural<'a>(one: &'a str, many: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { many }
}

/// Names in quotes.
pub(super) fn quoted<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> String {
    let names: Vec<String> = names
        .into_iter()
        .map(|name| format!("\"{}\"", name.as_ref()))
        .collect();
    names.join(", ")
}

/// `container "a"`, `containers "a", "b"`.
pub(super) fn containers(names: &[String]) -> String {
    format!(
        "{} {}",
        plural("container", "containers", names.len()),
        quoted(names)
    )
}

/// Who has set something: the pod, its containers, or both; `None` when nobody has.
pub(super) fn setters(pod: bool, names: &[String]) -> Option<String> {
    match (pod, names.is_empty()) {
        (false, true) => None,
        (true, true) => Some("pod".into()),
        (false, false) => Some(containers(names)),
        (true, false) => Some(format!("pod and {}", containers(names))),
    }
}
