//! What a pod calls itself: host name and domain, the directories and files that bear its name.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;

/// A pod's namespace; never empty for a pod from the API.
pub(crate) fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

pub(crate) fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// The pod's uid, which names everything it leaves on the node.
pub(crate) fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// The host name within the pod: its own, else its name, cut to what Linux takes.
pub(crate) fn hostname(pod: &Pod) -> String {
    let spec = pod.spec.as_ref();
    let own = spec
        .and_then(|s| s.hostname_override.clone().or_else(|| s.hostname.clone()))
        .filter(|h| !h.is_empty());
    let full = own.unwrap_or_else(|| name(pod).to_string());
    let cut: String = full.chars().take(63).collect();
    cut.trim_end_matches(['-', '.']).to_string()
}

/// The domain of a pod with a subdomain: `web.ns.svc.cluster.local`.
pub(crate) fn domain(pod: &Pod, cluster_domain: &str) -> String {
    match pod.spec.as_ref().and_then(|s| s.subdomain.as_deref()) {
        Some(subdomain) if !subdomain.is_empty() => {
            format!("{subdomain}.{}.svc.{cluster_domain}", namespace(pod))
        }
        _ => String::new(),
    }
}

/// `<log_dir>/<namespace>_<name>_<uid>`.
pub(crate) fn log_directory(log_dir: &Path, namespace: &str, name: &str, uid: &str) -> PathBuf {
    log_dir.join(format!("{namespace}_{name}_{uid}"))
}

/// `<root_dir>/pods/<uid>`.
pub(crate) fn pod_directory(root_dir: &Path, uid: &str) -> PathBuf {
    root_dir.join("pods").join(uid)
}

/// The link in upstream's `/var/log/containers`.
pub(crate) fn log_link(dir: &Path, namespace: &str, name: &str, container: &str, id: &str) -> PathBuf {
    // File names end at 255 bytes; the id must stay whole.
    let suffix = format!("-{id}.log");
    let mut stem = format!("{name}_{namespace}_{container}");
    stem.truncate(251usize.saturating_sub(suffix.len()));
    dir.join(stem + &suffix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_to_what_linux_takes() {
        let mut pod = Pod::default();
        pod.metadata.name = Some(format!("{}-b", "a".repeat(62)));
        assert_eq!(hostname(&pod), "a".repeat(62));
        let link = log_link(Path::new("/l"), "ns", &"p".repeat(253), "c", &"f".repeat(64));
        assert!(link.file_name().unwrap().len() <= 255);
        assert!(
            link.to_string_lossy()
                .ends_with(&format!("-{}.log", "f".repeat(64)))
        );
    }
}
