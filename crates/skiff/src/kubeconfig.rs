//! Kubeconfig files: the administrator's own, and the user's, into which the cluster is merged.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};

use crate::pki;

/// A cluster as a kubeconfig describes it. Certificates are PEM; the file holds them inline.
pub(crate) struct Entry<'a> {
    /// The name of the cluster, the user and the context.
    pub(crate) name: &'a str,
    /// The server's URL.
    pub(crate) server: String,
    /// The authority.
    pub(crate) ca: &'a str,
    /// The user's client certificate.
    pub(crate) certificate: &'a str,
    /// The user's key.
    pub(crate) key: &'a str,
}

/// The kubeconfig that kubectl writes to: the first file of `$KUBECONFIG`, else `~/.kube/config`.
pub(crate) fn default_path() -> anyhow::Result<PathBuf> {
    if let Some(list) = std::env::var_os("KUBECONFIG")
        && let Some(first) = std::env::split_paths(&list).find(|path| !path.as_os_str().is_empty())
    {
        return Ok(first);
    }
    let home = std::env::var_os("HOME").context("neither $KUBECONFIG nor $HOME is set")?;
    Ok(PathBuf::from(home).join(".kube/config"))
}

/// Puts the cluster into a kubeconfig and makes it the current one; all else in the file stays.
pub(crate) fn merge(path: &Path, entry: &Entry<'_>) -> anyhow::Result<()> {
    let mut config = read(path)?;
    let base64 = |pem: &str| Value::from(encode(pem.as_bytes()));
    let cluster = json!({ "certificate-authority-data": base64(entry.ca), "server": entry.server });
    let user = json!({
        "client-certificate-data": base64(entry.certificate),
        "client-key-data": base64(entry.key),
    });
    let mut context = named(&config, "contexts", entry.name)
        .and_then(|item| item.get("context").cloned())
        .filter(Value::is_object)
        .unwrap_or_else(|| json!({}));
    // A namespace that the user chose for the context stays.
    if let Some(context) = context.as_object_mut() {
        context.insert("cluster".into(), entry.name.into());
        context.insert("user".into(), entry.name.into());
    }
    put(&mut config, "clusters", entry.name, "cluster", cluster)?;
    put(&mut config, "users", entry.name, "user", user)?;
    put(&mut config, "contexts", entry.name, "context", context)?;
    config.insert("current-context".into(), entry.name.into());
    write(path, &config)
}

/// Takes the cluster out of a kubeconfig; a file that is not there is left so.
pub(crate) fn remove(path: &Path, name: &str) -> anyhow::Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let mut config = read(path)?;
    for list in ["clusters", "users", "contexts"] {
        if let Some(Value::Array(items)) = config.get_mut(list) {
            items.retain(|item| item.get("name").and_then(Value::as_str) != Some(name));
        }
    }
    if config.get("current-context").and_then(Value::as_str) == Some(name) {
        config.insert("current-context".into(), "".into());
    }
    write(path, &config)
}

/// Whether a kubeconfig has the cluster, at this URL.
pub(crate) fn has(path: &Path, name: &str, server: &str) -> bool {
    let Ok(config) = read(path) else { return false };
    named(&config, "contexts", name).is_some()
        && named(&config, "clusters", name)
            .and_then(|item| item.pointer("/cluster/server"))
            .and_then(Value::as_str)
            == Some(server)
}

fn read(path: &Path) -> anyhow::Result<Map<String, Value>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    if text.trim().is_empty() {
        let empty = json!({
            "apiVersion": "v1", "kind": "Config", "preferences": {}, "clusters": [], "contexts": [], "users": [],
            "current-context": "",
        });
        return Ok(empty.as_object().cloned().unwrap_or_default());
    }
    match serde_saphyr::from_str(&text) {
        Ok(Value::Object(config)) => Ok(config),
        Ok(_) => bail!("{} is not a kubeconfig", path.display()),
        Err(error) => bail!("{} is not a kubeconfig: {error}", path.display()),
    }
}

fn write(path: &Path, config: &Map<String, Value>) -> anyhow::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    pki::write(path, &serde_saphyr::to_string(config)?, 0o600)
}

fn named<'a>(config: &'a Map<String, Value>, list: &str, name: &str) -> Option<&'a Value> {
    config
        .get(list)?
        .as_array()?
        .iter()
        .find(|item| item.get("name").and_then(Value::as_str) == Some(name))
}

fn put(
    config: &mut Map<String, Value>,
    list: &str,
    name: &str,
    key: &str,
    value: Value,
) -> anyhow::Result<()> {
    let items = config.entry(list).or_insert_with(|| json!([]));
    if items.is_null() {
        *items = json!([]);
    }
    let Some(items) = items.as_array_mut() else {
        bail!("{list:?} in the kubeconfig is not a list")
    };
    let item = json!({ "name": name, key: value });
    match items
        .iter_mut()
        .find(|item| item.get("name").and_then(Value::as_str) == Some(name))
    {
        Some(old) => *old = item,
        None => items.push(item),
    }
    Ok(())
}

fn encode(bytes: &[u8]) -> String {
    serde_json::to_value(k8s_openapi::ByteString(bytes.to_vec()))
        .ok()
        .and_then(|value| value.as_str().map(str::to_string))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(server: &str) -> Entry<'_> {
        Entry {
            name: "skiff",
            server: server.to_string(),
            ca: "CA",
            certificate: "CERT",
            key: "KEY",
        }
    }

    #[test]
    fn merging_keeps_what_is_there_and_removing_takes_only_ours() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(".kube/config");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let other = "apiVersion: v1\nkind: Config\ncurrent-context: other\nclusters:\n- name: other\n  cluster: {server: https://x}\n\
                     contexts:\n- name: other\n  context: {cluster: other, user: other}\nusers: []\nx-mine: kept\n";
        fs::write(&path, other).unwrap();
        merge(&path, &entry("https://127.0.0.1:6443")).unwrap();
        let config = read(&path).unwrap();
        assert_eq!(config["current-context"], "skiff");
        assert_eq!(config["x-mine"], "kept");
        assert!(named(&config, "clusters", "other").is_some());
        assert_eq!(
            named(&config, "clusters", "skiff").unwrap()["cluster"]["certificate-authority-data"],
            "Q0E="
        );
        assert!(has(&path, "skiff", "https://127.0.0.1:6443"));
        assert!(!has(&path, "skiff", "https://127.0.0.1:7443"));

        remove(&path, "skiff").unwrap();
        let config = read(&path).unwrap();
        assert!(named(&config, "contexts", "skiff").is_none());
        assert!(named(&config, "contexts", "other").is_some());
        assert_eq!(config["current-context"], "");
    }

    #[test]
    fn a_second_merge_replaces_the_cluster_and_keeps_the_chosen_namespace() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        merge(&path, &entry("https://a")).unwrap();
        let mut config = read(&path).unwrap();
        config["contexts"][0]["context"]["namespace"] = "work".into();
        write(&path, &config).unwrap();
        merge(&path, &entry("https://b")).unwrap();
        let config = read(&path).unwrap();
        assert_eq!(config["clusters"].as_array().unwrap().len(), 1);
        assert_eq!(config["clusters"][0]["cluster"]["server"], "https://b");
        assert_eq!(config["contexts"][0]["context"]["namespace"], "work");
    }

    #[test]
    fn a_file_that_is_no_kubeconfig_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        fs::write(&path, "- a list\n").unwrap();
        assert!(merge(&path, &entry("https://a")).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "- a list\n");
    }
}
