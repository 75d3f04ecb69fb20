//! Credentials and the challenges that registries answer with (RFC 9110 §11, distribution's `spec/auth/token.md`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;

use super::registries::Endpoint;
use super::{Auth, ImageError};

/// One challenge of a `WWW-Authenticate` header.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// In lower case: `bearer`, `basic`.
    pub(crate) scheme: String,
    /// Names in lower case.
    parameters: Vec<(String, String)>,
}

impl Challenge {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// All challenges of one header. What cannot be read ends the list.
pub(crate) fn challenges(header: &str) -> Vec<Challenge> {
    let mut all: Vec<Challenge> = Vec::new();
    let mut rest = header.trim_start_matches([' ', ',', '\t']);
    while !rest.is_empty() {
        let end = rest.find([' ', '=', ',']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            break;
        }
        if let Some(value) = after.trim_start().strip_prefix('=') {
            let (value, after) = parameter_value(value.trim_start());
            if let Some(challenge) = all.last_mut() {
                challenge.parameters.push((word.to_ascii_lowercase(), value));
            }
            rest = after;
        } else {
            all.push(Challenge {
                scheme: word.to_ascii_lowercase(),
                parameters: Vec::new(),
            });
            rest = after;
        }
        rest = rest.trim_start_matches([' ', ',', '\t']);
    }
    all
}

/// A token or a quoted string, and what comes after it.
fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, after) = text.split_at(text.find([',', ' ']).unwrap_or(text.len()));
        return (value.to_owned(), after);
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (value, quoted.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(letters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

impl Auth {
    /// The name and the password, wherever they stand.
    pub(crate) fn basic(&self) -> Result<Option<(String, String)>, ImageError> {
        if !self.username.is_empty() {
            return Ok(Some((self.username.clone(), self.password.clone())));
        }
        if self.auth.is_empty() {
            return Ok(None);
        }
        let invalid = || ImageError::Content(format!("invalid auth: {:?}", "…"));
        let decoded = STANDARD.decode(self.auth.trim()).map_err(|_| invalid())?;
        let text = String::from_utf8(decoded).map_err(|_| invalid())?;
        let (username, password) = text.split_once(':').ok_or_else(invalid)?;
        Ok(Some((
            username.to_owned(),
            password.trim_matches('\0').to_owned(),
        )))
    }

    /// Whether these credentials, given for a pull, are meant for an endpoint. Without an address they are for any, as
    /// containerd has it.
    pub(crate) fn is_for(&self, endpoint: &Endpoint) -> bool {
        let address = self.server_address.trim();
        if address.is_empty() {
            return true;
        }
        let address = address.split_once("://").map_or(address, |(_, rest)| rest);
        let host = address.split('/').next().unwrap_or(address);
        let canonical = |host: &str| match host {
            "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
            other => other.to_owned(),
        };
        canonical(host) == canonical(&endpoint.host)
    }
}

/// The value of an `Authorization` header for a user.
pub(crate) fn basic_header((username, password): &(String, String)) -> String {
    format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
}

/// Where to ask for a bearer token, and for what.
pub(crate) fn token_url(challenge: &Challenge, repository: &str) -> Result<Url, ImageError> {
    let denied = |reason: &str| ImageError::Denied(format!("authorization failed: {reason}"));
    let realm = challenge
        .get("realm")
        .ok_or_else(|| denied("no realm in the registry's challenge"))?;
    let mut url = Url::parse(realm).map_err(|_| denied("invalid realm in the registry's challenge"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(denied("invalid realm in the registry's challenge"));
    }
    let wanted = format!("repository:{repository}:pull");
    let mut query = url.query_pairs_mut();
    if let Some(service) = challenge.get("service") {
        query.append_pair("service", service);
    }
    query.append_pair("scope", challenge.get("scope").unwrap_or(&wanted));
    drop(query);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::reference::Reference;
    use crate::image::registries::Registries;

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let hub = challenges(
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
        );
        assert_eq!(hub.len(), 1);
        assert_eq!(hub[0].get("realm"), Some("https://auth.docker.io/token"));
        assert_eq!(hub[0].get("scope"), Some("repository:a/b:pull,push"));

        let two = challenges(r#"BASIC Realm="a \"b\", c", Bearer realm=https://x , service=y"#);
        assert_eq!(two[0].scheme, "basic");
        assert_eq!(two[0].get("realm"), Some("a \"b\", c"));
        assert_eq!(
            (two[1].get("realm"), two[1].get("service")),
            (Some("https://x"), Some("y"))
        );

        for odd in [
            "",
            ",",
            "=",
            "Basic",
            "Basic realm=\"",
            "a=b",
            "Bearer realm=\"\\",
        ] {
            let _ = challenges(odd);
        }
    }

    #[test]
    fn a_token_is_asked_for_the_repository() {
        let challenge = &challenges(r#"Bearer realm="https://a/token?x=1",service="s s""#)[0];
        let url = token_url(challenge, "library/nginx").unwrap();
        assert_eq!(
            url.as_str(),
            "https://a/token?x=1&service=s+s&scope=repository%3Alibrary%2Fnginx%3Apull"
        );
        let none = &challenges("Bearer service=x")[0];
        assert!(matches!(token_url(none, "a"), Err(ImageError::Denied(_))));
    }

    #[test]
    fn credentials_are_taken_from_either_form() {
        let encoded = Auth {
            auth: STANDARD.encode("u:p:q"),
            ..Auth::default()
        };
        assert_eq!(encoded.basic().unwrap(), Some(("u".into(), "p:q".into())));
        let plain = Auth {
            username: "a".into(),
            password: "b".into(),
            ..encoded
        };
        assert_eq!(plain.basic().unwrap(), Some(("a".into(), "b".into())));
        assert_eq!(Auth::default().basic().unwrap(), None);
        for bad in ["%", "YWJj"] {
            assert!(
                Auth {
                    auth: bad.into(),
                    ..Auth::default()
                }
                .basic()
                .is_err()
            );
        }
    }

    #[test]
    fn credentials_go_only_where_they_are_meant_to() {
        let endpoints = |image: &str| Registries::default().endpoints(&Reference::parse(image).unwrap());
        let cases = [
            ("", "nginx", true),
            ("https://index.docker.io/v1/", "nginx", true),
            ("docker.io", "nginx", true),
            ("quay.io", "nginx", false),
            ("https://r.example:5000", "r.example:5000/a", true),
            ("r.example", "r.example:5000/a", false),
        ];
        for (address, image, wanted) in cases {
            let auth = Auth {
                server_address: address.into(),
                ..Auth::default()
            };
            assert_eq!(auth.is_for(&endpoints(image)[0]), wanted, "{address} {image}");
        }
    }
}
