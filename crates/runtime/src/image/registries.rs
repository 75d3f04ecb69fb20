//! `registries.yaml` in k3s' format, and what it decides: which servers are asked for an image, in which order.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use reqwest::Url;
use serde::Deserialize;

use super::reference::Reference;
use super::{Auth, ImageError};

/// The whole file. Every part may be absent.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Registries {
    /// By registry (`docker.io`), or `"*"` for all that are not named.
    mirrors: BTreeMap<String, Option<Mirror>>,
    /// By the host that is contacted (`127.0.0.1:5000`), which may be a mirror.
    configs: BTreeMap<String, Option<HostConfig>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Mirror {
    endpoint: Vec<String>,
    /// Regular expressions over the repository, and what takes the place of the match (`$1` is a group).
    rewrite: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct HostConfig {
    auth: Option<HostAuth>,
    tls: Option<Tls>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct HostAuth {
    username: String,
    password: String,
    auth: String,
    identity_token: String,
    #[serde(alias = "registry_token")]
    token: String,
}

/// How TLS to one host is made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Tls {
    /// Certificate authorities to trust beside the system's.
    pub(crate) ca_file: Option<PathBuf>,
    /// The client certificate, with its chain.
    pub(crate) cert_file: Option<PathBuf>,
    /// Its key.
    pub(crate) key_file: Option<PathBuf>,
    /// Believes any certificate.
    pub(crate) insecure_skip_verify: bool,
}

/// One server to ask, and how.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// The base of its API, without a slash at the end: `http://127.0.0.1:5000/v2`.
    pub(crate) base: String,
    /// `127.0.0.1:5000`.
    pub(crate) host: String,
    /// The repository's name there.
    pub(crate) repository: String,
    /// The registry that it stands in for, if it is a mirror.
    pub(crate) mirror_of: Option<String>,
    /// Credentials from the file.
    pub(crate) auth: Option<Auth>,
    /// TLS from the file.
    pub(crate) tls: Tls,
    /// On this machine: asked directly, never through a proxy.
    pub(crate) is_local: bool,
}

impl Registries {
    /// Reads the file; there are no mirrors if there is no file.
    pub(crate) fn read(file: &Path) -> Result<Self, ImageError> {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(ImageError::io("open", file, error)),
        };
        Self::parse(&text).map_err(|reason| ImageError::Registries {
            file: file.display().to_string(),
            reason,
        })
    }

    fn parse(text: &str) -> Result<Self, String> {
        // An empty document is no mapping, but means no settings.
        if text
            .lines()
            .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
        {
            return Ok(Self::default());
        }
        let registries: Self = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        for (registry, mirror) in &registries.mirrors {
            let Some(mirror) = mirror else { continue };
            for endpoint in &mirror.endpoint {
                base_url(endpoint)
                    .map_err(|reason| format!("mirror {registry:?}: {endpoint:?}: {reason}"))?;
            }
            for pattern in mirror.rewrite.keys() {
                regex::Regex::new(pattern).map_err(|error| format!("mirror {registry:?}: {error}"))?;
            }
        }
        Ok(registries)
    }

    /// The servers to ask for `reference`, in order: its registry's mirrors, then the registry itself.
    pub(crate) fn endpoints(&self, reference: &Reference) -> Vec<Endpoint> {
        let mut endpoints = Vec::new();
        let mirror = self
            .mirrors
            .get(&reference.domain)
            .or_else(|| self.mirrors.get("*"));
        if let Some(Some(mirror)) = mirror {
            let repository = rewrite(&reference.path, &mirror.rewrite);
            for text in &mirror.endpoint {
                if let Ok(url) = base_url(text) {
                    endpoints.push(self.endpoint(&url, &repository, &reference.domain));
                }
            }
        }
        let own = if reference.domain == "docker.io" {
            "registry-1.docker.io"
        } else {
            &reference.domain
        };
        if let Ok(url) = base_url(own) {
            let endpoint = self.endpoint(&url, &reference.path, &reference.domain);
            // A mirror list may name the registry itself, to have the last word about the order.
            if !endpoints.iter().any(|known| known.base == endpoint.base) {
                endpoints.push(endpoint);
            }
        }
        endpoints
    }

    fn endpoint(&self, url: &Url, repository: &str, registry: &str) -> Endpoint {
        let host = authority(url);
        let is_registry = host == registry || (registry == "docker.io" && host == "registry-1.docker.io");
        let named = self.configs.get(&host).or_else(|| {
            let of_registry = if is_registry {
                self.configs.get(registry)
            } else {
                None
            };
            of_registry.or_else(|| self.configs.get("*"))
        });
        let config = named.and_then(Option::as_ref);
        Endpoint {
            base: url.as_str().trim_end_matches('/').to_owned(),
            repository: repository.to_owned(),
            mirror_of: (!is_registry).then(|| registry.to_owned()),
            auth: config.and_then(|config| config.auth.clone()).map(|auth| Auth {
                username: auth.username,
                password: auth.password,
                auth: auth.auth,
                server_address: host.clone(),
                identity_token: auth.identity_token,
                registry_token: auth.token,
            }),
            tls: config.and_then(|config| config.tls.clone()).unwrap_or_default(),
            is_local: url.host_str().is_some_and(is_loopback),
            host,
        }
    }
}

/// `host:port`, without the port if it is the scheme's own.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The base of an endpoint's API. Without a scheme it is HTTPS, but HTTP on this machine, as containerd has it; without
/// a path it is `/v2`.
fn base_url(text: &str) -> Result<Url, String> {
    let with_scheme = if text.contains("://") {
        text.to_owned()
    } else {
        let host = text.split('/').next().unwrap_or(text);
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let scheme = if is_loopback(name) || is_loopback(host) {
            "http"
        } else {
            "https"
        };
        format!("{scheme}://{text}")
    };
    let mut url = Url::parse(&with_scheme).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err("an endpoint is an http or https URL".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("an endpoint has no query and no fragment".to_owned());
    }
    if matches!(url.path(), "" | "/") {
        url.set_path("/v2");
    }
    Ok(url)
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || bare
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// The repository's name on a mirror: the first expression that matches changes it.
fn rewrite(repository: &str, rules: &BTreeMap<String, String>) -> String {
    for (pattern, replacement) in rules {
        if let Ok(pattern) = regex::Regex::new(pattern)
            && pattern.is_match(repository)
        {
            return pattern.replace_all(repository, replacement.as_str()).into_owned();
        }
    }
    repository.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bases(yaml: &str, image: &str) -> Vec<String> {
        let registries = Registries::parse(yaml).unwrap();
        let endpoints = registries.endpoints(&Reference::parse(image).unwrap());
        endpoints
            .into_iter()
            .map(|e| format!("{} {}", e.base, e.repository))
            .collect()
    }

    #[test]
    fn mirrors_come_in_order_and_the_registry_itself_last() {
        let yaml = r#"
mirrors:
  docker.io:
    endpoint: ["http://127.0.0.1:5000", "https://mirror.example/v2/hub", "cache.example:8443"]
  quay.io:
  "*":
    endpoint: ["localhost:5001/"]
"#;
        assert_eq!(
            bases(yaml, "nginx"),
            [
                "http://127.0.0.1:5000/v2 library/nginx",
                "https://mirror.example/v2/hub library/nginx",
                "https://cache.example:8443/v2 library/nginx",
                "https://registry-1.docker.io/v2 library/nginx",
            ]
        );
        assert_eq!(
            bases(yaml, "registry.k8s.io/pause:3.10"),
            [
                "http://localhost:5001/v2 pause",
                "https://registry.k8s.io/v2 pause"
            ]
        );
        assert_eq!(bases(yaml, "quay.io/a/b"), ["https://quay.io/v2 a/b"]);
    }

    #[test]
    fn without_a_file_each_registry_is_asked_itself() {
        for yaml in ["", "# nothing\n", "mirrors:\n", "{}"] {
            assert_eq!(
                bases(yaml, "nginx"),
                ["https://registry-1.docker.io/v2 library/nginx"],
                "{yaml:?}"
            );
        }
        assert_eq!(bases("", "localhost:5000/a"), ["http://localhost:5000/v2 a"]);
        assert_eq!(bases("", "127.0.0.1:5000/a"), ["http://127.0.0.1:5000/v2 a"]);
        assert_eq!(bases("", "[::1]:5000/a"), ["http://[::1]:5000/v2 a"]);
        assert!(Registries::read(Path::new("/nonexistent/registries.yaml")).is_ok());
    }

    #[test]
    fn a_mirror_that_names_the_registry_itself_is_not_asked_twice() {
        let yaml = "mirrors: {docker.io: {endpoint: ['https://registry-1.docker.io', 'https://m.example']}}";
        assert_eq!(
            bases(yaml, "nginx"),
            [
                "https://registry-1.docker.io/v2 library/nginx",
                "https://m.example/v2 library/nginx"
            ]
        );
    }

    #[test]
    fn repositories_are_rewritten_for_mirrors_only() {
        let yaml = r#"
mirrors:
  docker.io:
    endpoint: ["https://m.example"]
    rewrite:
      "^library/(.*)": "hub/official-$1"
"#;
        assert_eq!(
            bases(yaml, "nginx"),
            [
                "https://m.example/v2 hub/official-nginx",
                "https://registry-1.docker.io/v2 library/nginx"
            ]
        );
        assert_eq!(bases(yaml, "a/b").first().unwrap(), "https://m.example/v2 a/b");
    }

    #[test]
    fn credentials_and_tls_belong_to_the_host_that_is_contacted() {
        let yaml = r#"
mirrors:
  docker.io:
    endpoint: ["https://m.example:8443"]
configs:
  "m.example:8443":
    auth: {username: u, password: p}
    tls: {ca_file: /ca.pem, insecure_skip_verify: true}
  docker.io:
    auth: {identity_token: t}
"#;
        let registries = Registries::parse(yaml).unwrap();
        let endpoints = registries.endpoints(&Reference::parse("nginx").unwrap());
        assert_eq!(endpoints[0].auth.as_ref().unwrap().username, "u");
        assert_eq!(endpoints[0].mirror_of.as_deref(), Some("docker.io"));
        assert!(endpoints[0].tls.insecure_skip_verify);
        assert_eq!(endpoints[0].tls.ca_file.as_deref(), Some(Path::new("/ca.pem")));
        assert_eq!(endpoints[1].auth.as_ref().unwrap().identity_token, "t");
        assert_eq!(endpoints[1].mirror_of, None);
        assert_eq!(endpoints[1].tls, Tls::default());
    }

    #[test]
    fn a_file_that_cannot_be_meant_is_refused_with_the_reason() {
        let cases = [
            ("mirror: {}", "mirror"),
            (
                "mirrors: {docker.io: {endpoint: ['ftp://x']}}",
                "an endpoint is an http or https URL",
            ),
            ("mirrors: {docker.io: {endpoint: ['http://']}}", "\"http://\""),
            ("mirrors: {docker.io: {endpoint: ['http://x?y']}}", "no query"),
            ("mirrors: {docker.io: {rewrite: {'(': x}}}", "docker.io"),
            ("configs: {a: {auth: {user: x}}}", "user"),
        ];
        for (yaml, wanted) in cases {
            let reason = Registries::parse(yaml).unwrap_err();
            assert!(reason.contains(wanted), "{yaml}: {reason}");
        }
    }
}
