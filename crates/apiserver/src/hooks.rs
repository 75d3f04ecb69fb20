//! What must be done before the server serves: upstream's post-start hooks, as the health paths tell of them.

use std::collections::BTreeSet;

/// The hooks that have a counterpart here, in upstream's order. What else upstream starts belongs to what is not here:
/// CRDs, the proxy to other API servers, the tracker of objects in storage.
pub(crate) const ALL: [&str; 19] = [
    "start-apiserver-admission-initializer",
    "generic-apiserver-start-informers",
    "priority-and-fairness-config-consumer",
    "priority-and-fairness-filter",
    "start-system-namespaces-controller",
    "start-cluster-authentication-info-controller",
    "start-kube-apiserver-identity-lease-controller",
    "start-kube-apiserver-identity-lease-garbage-collector",
    "storage-readiness",
    "start-legacy-token-tracking-controller",
    "start-service-ip-repair-controllers",
    "rbac/bootstrap-roles",
    "scheduling/bootstrap-system-priority-classes",
    "priority-and-fairness-config-producer",
    "bootstrap-controller",
    "start-kubernetes-service-cidr-controller",
    "start-kube-aggregator-informers",
    "apiservice-status-local-available-controller",
    "kube-apiserver-autoregistration",
];

/// Which of them are done.
#[derive(Debug, Default)]
pub(crate) struct Hooks {
    done: BTreeSet<&'static str>,
}

impl Hooks {
    /// These are done.
    pub(crate) fn done(&mut self, names: &[&'static str]) {
        debug_assert!(names.iter().all(|name| ALL.contains(name)), "{names:?}");
        self.done.extend(names);
    }

    /// Whether a hook is done.
    ///
    /// # Errors
    /// Why it is not, as upstream says it.
    pub(crate) fn check(&self, name: &str) -> Result<(), String> {
        if self.done.contains(name) {
            Ok(())
        } else {
            Err("not finished".into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_fails_until_it_is_done() {
        let mut hooks = Hooks::default();
        assert_eq!(hooks.check("bootstrap-controller"), Err("not finished".into()));
        hooks.done(&["bootstrap-controller"]);
        assert_eq!(hooks.check("bootstrap-controller"), Ok(()));
    }
}
