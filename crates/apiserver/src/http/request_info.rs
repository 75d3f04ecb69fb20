//! What a request is about, read from its method, path and query alone (upstream's `RequestInfo`).

use http::{Method, Uri};

use crate::http::query::{Query, decode};

/// What a request is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// Whether the path names an API resource; if not, only `path` and `verb` mean something.
    pub is_resource: bool,
    /// The URL's path.
    pub path: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, or `proxy`; for other paths
    /// the method in lower case.
    pub verb: &'static str,
    /// `api` or `apis`.
    pub prefix: String,
    /// Empty for the core group.
    pub group: String,
    /// The version, e.g. `v1`.
    pub version: String,
    /// Empty on cluster-scoped resources and on paths that span all namespaces.
    pub namespace: String,
    /// The plural name.
    pub resource: String,
    /// Empty for the resource itself.
    pub subresource: String,
    /// Empty for collections.
    pub name: String,
    /// The parts of the path from the resource on.
    pub parts: Vec<String>,
    /// `fieldSelector`, on collections.
    pub field_selector: String,
}

/// The subresources of a namespace; anything else after a namespace's name is a resource in it.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

/// Why a path could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unable to determine kind and namespace from url, {0}")]
pub struct Unreadable(String);

impl RequestInfo {
    /// Reads a request's method, path and query.
    ///
    /// # Errors
    /// For a legacy path (`/api/v1/watch`) that ends too early.
    pub fn parse(method: &Method, uri: &Uri) -> Result<Self, Unreadable> {
        let mut info = Self {
            path: uri.path().to_string(),
            verb: lower(method),
            ..Self::default()
        };
        let decoded: Vec<String> = uri
            .path()
            .trim_matches('/')
            .split('/')
            .map(|part| decode(part, false))
            .collect();
        let mut parts = decoded.as_slice();
        if parts.len() < 3 {
            return Ok(info);
        }
        let Some((prefix, rest)) = parts.split_first() else {
            return Ok(info);
        };
        parts = rest;
        match prefix.as_str() {
            "api" => {}
            "apis" => {
                let [group, rest @ ..] = parts else {
                    return Ok(info);
                };
                if rest.len() < 2 {
                    return Ok(info);
                }
                info.group = group.clone();
                parts = rest;
            }
            _ => return Ok(info),
        }
        info.prefix = prefix.clone();
        info.is_resource = true;
        if let [version, rest @ ..] = parts {
            info.version = version.clone();
            parts = rest;
        }

        info.verb = match *method {
            Method::POST => "create",
            Method::GET | Method::HEAD => "get",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "",
        };
        if let [special, rest @ ..] = parts
            && let Some(verb) = special_verb(special)
        {
            if rest.is_empty() {
                return Err(Unreadable(info.path));
            }
            info.verb = verb;
            parts = rest;
        }

        if let [first, namespace, rest @ ..] = parts
            && first == "namespaces"
        {
            info.namespace = namespace.clone();
            if rest
                .first()
                .is_some_and(|next| !NAMESPACE_SUBRESOURCES.contains(&next.as_str()))
            {
                parts = rest;
            }
        }
        info.parts = parts.to_vec();
        if let [resource, rest @ ..] = parts {
            info.resource = resource.clone();
            if let [name, rest @ ..] = rest {
                info.name = name.clone();
                if let [subresource, ..] = rest
                    && info.verb != "proxy"
                {
                    info.subresource = subresource.clone();
                }
            }
        }

        if info.name.is_empty() && matches!(info.verb, "get" | "delete" | "watch") && uri.query().is_some() {
            let query = Query::parse(uri.query());
            info.field_selector = query.get("fieldSelector").unwrap_or_default().to_string();
        }
        if info.name.is_empty() {
            if info.verb == "get" {
                let query = Query::parse(uri.query());
                info.verb = if query.flag("watch") { "watch" } else { "list" };
                // A list of the one object with a name is authorized like the object.
                if let Some(name) = query.get("fieldSelector").and_then(selected_name) {
                    info.name = name.to_string();
                }
            } else if info.verb == "delete" {
                info.verb = "deletecollection";
            }
        }
        Ok(info)
    }

    /// The resource with its subresource, as messages name it: `pods/log`.
    pub fn resource_path(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }

    /// The name that stands in the path, not in a field selector.
    pub fn path_name(&self) -> &str {
        self.parts.get(1).map(String::as_str).unwrap_or_default()
    }

    /// Whether the request lasts as long as the client likes, so that it takes no place among those in flight.
    pub fn is_long_running(&self) -> bool {
        const SUBRESOURCES: [&str; 5] = ["attach", "exec", "proxy", "log", "portforward"];
        if !self.is_resource {
            return self.path.starts_with("/debug/pprof/");
        }
        (matches!(self.verb, "watch" | "proxy") || SUBRESOURCES.contains(&self.subresource.as_str()))
    }

    /// Whether the request changes something.
    pub fn is_mutating(&self) -> bool {
        !matches!(self.verb, "get" | "list" | "watch" | "head" | "options")
    }
}

fn special_verb(part: &str) -> Option<&'static str> {
    match part {
        "watch" => Some("watch"),
        "proxy" => Some("proxy"),
        _ => None,
    }
}

fn lower(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::HEAD => "head",
        Method::OPTIONS => "options",
        Method::CONNECT => "connect",
        Method::TRACE => "trace",
        _ => "",
    }
}

/// The name in a field selector that demands one.
fn selected_name(selector: &str) -> Option<&str> {
    selector.split(',').find_map(|requirement| {
        let value = requirement.strip_prefix("metadata.name=")?;
        let value = value.strip_prefix('=').unwrap_or(value);
        (!value.is_empty() && !value.contains('/')).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Method and URL; verb, prefix, group, version, namespace, resource, subresource, name; parts. A `-` is empty.
    const RESOURCES: &str = "
        GET    /api/v1/namespaces  list api - v1 - namespaces - -  namespaces
        GET    /api/v1/namespaces/other  get api - v1 other namespaces - other  namespaces/other
        GET    /api/v1/namespaces/other/pods  list api - v1 other pods - -  pods
        GET    /api/v1/namespaces/other/pods/foo  get api - v1 other pods - foo  pods/foo
        HEAD   /api/v1/namespaces/other/pods/foo  get api - v1 other pods - foo  pods/foo
        GET    /api/v1/pods  list api - v1 - pods - -  pods
        HEAD   /api/v1/pods  list api - v1 - pods - -  pods
        GET    /api/v1/namespaces/other/pods/foo/status  get api - v1 other pods status foo  pods/foo/status
        GET    /api/v1/proxy/namespaces/other/pods/foo  proxy api - v1 other pods - foo  pods/foo
        GET    /api/v1/proxy/namespaces/other/pods/foo/subpath/not/a/subresource  proxy api - v1 other pods - foo  pods/foo/subpath/not/a/subresource
        GET    /api/v1/watch/pods  watch api - v1 - pods - -  pods
        GET    /api/v1/pods?watch=true  watch api - v1 - pods - -  pods
        GET    /api/v1/pods?watch=false  list api - v1 - pods - -  pods
        GET    /api/v1/watch/namespaces/other/pods  watch api - v1 other pods - -  pods
        GET    /api/v1/namespaces/other/pods?watch=1  watch api - v1 other pods - -  pods
        GET    /api/v1/namespaces/other/pods?watch=0  list api - v1 other pods - -  pods
        GET    /api/v1/pods?fieldSelector=metadata.name%3Dfoo  list api - v1 - pods - foo  pods
        PUT    /api/v1/namespaces/other/pods/foo  update api - v1 other pods - foo  pods/foo
        DELETE /api/v1/namespaces/other/pods/foo  delete api - v1 other pods - foo  pods/foo
        POST   /api/v1/namespaces/other/pods  create api - v1 other pods - -  pods
        PATCH  /api/v1/namespaces/other/pods/foo  patch api - v1 other pods - foo  pods/foo
        DELETE /api/v1/namespaces/other/pods  deletecollection api - v1 other pods - -  pods
        PUT    /api/v1/namespaces/other/finalize  update api - v1 other namespaces finalize other  namespaces/other/finalize
        PUT    /api/v1/namespaces/other/status  update api - v1 other namespaces status other  namespaces/other/status
        GET    /apis/batch/v1/namespaces/other/jobs/a%20b  get apis batch v1 other jobs - a%20b  jobs/a%20b
        GET    /apis/apps/v1/deployments  list apis apps v1 - deployments - -  deployments
        POST   /apis/apps/v1/namespaces/n/deployments/d/scale  create apis apps v1 n deployments scale d  deployments/d/scale
    ";

    #[test]
    fn resource_paths_are_read() {
        for case in RESOURCES.lines().filter(|line| !line.trim().is_empty()) {
            let words: Vec<String> = case
                .split_whitespace()
                .map(|word| {
                    if word == "-" {
                        String::new()
                    } else {
                        word.replace("%20", " ")
                    }
                })
                .collect();
            let [
                method,
                _,
                verb,
                prefix,
                group,
                version,
                namespace,
                resource,
                subresource,
                name,
                parts,
            ] = &words[..]
            else {
                panic!("eleven words: {case}");
            };
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let url = case.split_whitespace().nth(1).unwrap();
            let info = RequestInfo::parse(&method, &url.parse().unwrap()).unwrap();
            assert_eq!(info.verb, *verb, "{case}");
            let expected = RequestInfo {
                is_resource: true,
                path: info.path.clone(),
                verb: info.verb,
                prefix: prefix.clone(),
                group: group.clone(),
                version: version.clone(),
                namespace: namespace.clone(),
                resource: resource.clone(),
                subresource: subresource.clone(),
                name: name.clone(),
                parts: parts.split('/').map(str::to_string).collect(),
                field_selector: info.field_selector.clone(),
            };
            assert_eq!(info, expected, "{case}");
        }
    }

    #[test]
    fn other_paths_are_no_resources() {
        for (url, verb) in [
            ("/", "get"),
            ("/api", "get"),
            ("/api/v1", "get"),
            ("/apis", "get"),
            ("/apis/apps", "get"),
            ("/apis/apps/v1", "get"),
            ("/healthz/ping", "get"),
            ("/openapi/v3/apis/apps/v1", "get"),
        ] {
            let info = RequestInfo::parse(&Method::GET, &url.parse().unwrap()).unwrap();
            assert!(!info.is_resource, "{url}");
            assert_eq!(info.verb, verb, "{url}");
        }
    }

    #[test]
    fn a_legacy_path_must_go_on() {
        assert!(RequestInfo::parse(&Method::GET, &"/api/v1/watch".parse().unwrap()).is_err());
    }
}
