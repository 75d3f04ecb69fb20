//! Image references: what `nginx` means.
//!
//! The grammar and the normalisation are those of `distribution/reference`, which Docker and containerd share.

use super::ImageError;
use super::digest::Digest;

const DEFAULT_DOMAIN: &str = "docker.io";
const OFFICIAL_PREFIX: &str = "library/";
const MAX_NAME: usize = 255;

/// A normalised reference: a repository, and either a tag or a digest in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Reference {
    /// The registry, as `docker.io` or `localhost:5000`.
    pub(crate) domain: String,
    /// The repository there, as `library/nginx`.
    pub(crate) path: String,
    /// Which of its images.
    pub(crate) version: Version,
}

/// Which image of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Version {
    Tag(String),
    Digest(Digest),
}

impl Reference {
    /// Parses a reference and fills in what it leaves out. Where there is a digest, a tag beside it is dropped, as
    /// containerd does.
    pub(crate) fn parse(text: &str) -> Result<Self, ImageError> {
        parse(text).map_err(|reason| ImageError::Reference {
            reference: text.to_owned(),
            reason,
        })
    }

    /// The repository with its registry: `docker.io/library/nginx`.
    pub(crate) fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The tag or digest alone, as it stands in a registry's paths.
    pub(crate) fn version_text(&self) -> &str {
        match &self.version {
            Version::Tag(tag) => tag,
            Version::Digest(digest) => digest.as_str(),
        }
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let separator = if matches!(self.version, Version::Tag(_)) {
            ':'
        } else {
            '@'
        };
        write!(
            f,
            "{}/{}{separator}{}",
            self.domain,
            self.path,
            self.version_text()
        )
    }
}

const INVALID: &str = "invalid reference format";

fn parse(text: &str) -> Result<Reference, String> {
    if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(format!(
            "invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
        ));
    }
    let (domain, remainder) = split_domain(text);
    let (rest, digest) = match remainder.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (remainder.as_str(), None),
    };
    let (path, tag) = match rest.rsplit_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (rest, None),
    };
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(format!("{INVALID}: repository name ({path}) must be lowercase"));
    }
    if !is_domain(&domain)
        || path.is_empty()
        || !path.split('/').all(is_path_component)
        || tag.is_some_and(|tag| !is_tag(tag))
    {
        return Err(INVALID.to_owned());
    }
    if domain.len() + 1 + path.len() > MAX_NAME {
        return Err(format!(
            "repository name must not be more than {MAX_NAME} characters"
        ));
    }
    let version = match (digest, tag) {
        (Some(digest), _) => Version::Digest(Digest::parse(digest).map_err(|_| INVALID.to_owned())?),
        (None, Some(tag)) => Version::Tag(tag.to_owned()),
        (None, None) => Version::Tag("latest".to_owned()),
    };
    Ok(Reference {
        domain,
        path: path.to_owned(),
        version,
    })
}

/// Splits the registry off. The first part is one only if it cannot be a part of a repository's name.
fn split_domain(text: &str) -> (String, String) {
    let (domain, mut remainder) = match text.split_once('/') {
        Some((first, rest))
            if first == "localhost"
                || first.contains(['.', ':'])
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (first, rest.to_owned())
        }
        _ => (DEFAULT_DOMAIN, text.to_owned()),
    };
    let domain = if domain == "index.docker.io" {
        DEFAULT_DOMAIN
    } else {
        domain
    };
    if domain == DEFAULT_DOMAIN && !remainder.contains('/') {
        remainder.insert_str(0, OFFICIAL_PREFIX);
    }
    (domain.to_owned(), remainder)
}

/// `name(.name)*(:port)?` or `[IPv6](:port)?`.
fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) => {
                let hex = |b: u8| b.is_ascii_hexdigit() || b == b':';
                if address.is_empty() || !address.bytes().all(hex) {
                    return false;
                }
                (
                    None,
                    port.strip_prefix(':')
                        .or(if port.is_empty() { None } else { Some("x") }),
                )
            }
            None => return false,
        },
        None => match domain.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(domain), None),
        },
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    host.is_none_or(|host| host.split('.').all(is_label))
        && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

/// Lower-case letters and digits, in groups separated by one `.`, one or two `_`, or any number of `-`.
fn is_path_component(component: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let ends_well = |b: Option<&u8>| b.copied().is_some_and(is_word);
    if !ends_well(bytes.first()) || !ends_well(bytes.last()) {
        return false;
    }
    bytes.split(|b| is_word(*b)).all(|separator| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
    })
}

/// A word character, then up to 127 word characters, dots and dashes.
fn is_tag(tag: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|b| is_word(b) || b == b'.' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn what_is_left_out_is_filled_in_as_docker_does() {
        let cases = [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.22", "docker.io/library/nginx:1.22"),
            ("curlimages/curl", "docker.io/curlimages/curl:latest"),
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            ("index.docker.io/nginx", "docker.io/library/nginx:latest"),
            ("docker.io/library/nginx:latest", "docker.io/library/nginx:latest"),
            ("localhost/a", "localhost/a:latest"),
            ("localhost:5000/a/b:v1", "localhost:5000/a/b:v1"),
            ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"),
            ("gcr.io/a/b/c", "gcr.io/a/b/c:latest"),
            ("a/b", "docker.io/a/b:latest"),
            ("HOST/a", "HOST/a:latest"),
            ("[::1]:5000/a", "[::1]:5000/a:latest"),
            ("[fe80::1]/a", "[fe80::1]/a:latest"),
            ("a__b/c--d.e_f", "docker.io/a__b/c--d.e_f:latest"),
            ("x:_T.-", "docker.io/library/x:_T.-"),
        ];
        for (given, wanted) in cases {
            assert_eq!(Reference::parse(given).unwrap().to_string(), wanted, "{given}");
        }
        let by_digest = format!("docker.io/library/nginx@{DIGEST}");
        assert_eq!(
            Reference::parse(&format!("nginx:1.22@{DIGEST}"))
                .unwrap()
                .to_string(),
            by_digest
        );
        assert_eq!(
            Reference::parse(&format!("nginx@{DIGEST}")).unwrap().to_string(),
            by_digest
        );
    }

    #[test]
    fn what_is_wrong_is_told_in_the_known_words() {
        let hex = "a".repeat(64);
        let cases = [
            ("", "invalid reference format"),
            (
                "Nginx",
                "invalid reference format: repository name (library/Nginx) must be lowercase",
            ),
            ("nginx:", "invalid reference format"),
            (":latest", "invalid reference format"),
            ("a//b", "invalid reference format"),
            ("a/../b", "invalid reference format"),
            ("-nginx", "invalid reference format"),
            ("ng..inx", "invalid reference format"),
            ("ng___inx", "invalid reference format"),
            ("nginx latest", "invalid reference format"),
            ("nginx:a b", "invalid reference format"),
            ("nginx@sha256:12", "invalid reference format"),
            ("host:port/a", "invalid reference format"),
            ("-host.io/a", "invalid reference format"),
            ("[::1/a", "invalid reference format"),
            ("[::1]x/a", "invalid reference format"),
            ("https://a/b", "invalid reference format"),
        ];
        for (given, reason) in cases {
            let wanted = format!("failed to parse image reference {given:?}: {reason}");
            assert_eq!(Reference::parse(given).unwrap_err().to_string(), wanted);
        }
        let text = Reference::parse(&hex).unwrap_err().to_string();
        assert!(
            text.ends_with("cannot specify 64-byte hexadecimal strings"),
            "{text}"
        );
        let text = Reference::parse("a/".repeat(130).trim_end_matches('/'))
            .unwrap_err()
            .to_string();
        assert!(
            text.ends_with("repository name must not be more than 255 characters"),
            "{text}"
        );
    }

    proptest! {
        #[test]
        fn normalising_twice_is_normalising_once(text in "[a-z0-9:./@_-]{1,40}") {
            if let Ok(reference) = Reference::parse(&text) {
                let again = Reference::parse(&reference.to_string()).expect("what we print, we can read");
                prop_assert_eq!(again, reference);
            }
        }

        #[test]
        fn any_text_is_answered(text in ".{0,80}") {
            let _ = Reference::parse(&text);
        }
    }
}
