//! What can go wrong with an image, in the words that a pod's event shows.

use std::error::Error as StdError;
use std::io;
use std::path::Path;

/// Why an image could not be pulled, loaded, found or removed.
///
/// It can be cloned, because one failed download may be the answer to several pulls that waited for it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ImageError {
    /// The text is not an image reference.
    #[error("failed to parse image reference {reference:?}: {reason}")]
    Reference {
        /// What was given.
        reference: String,
        /// What is wrong with it, in the words of the reference grammar.
        reason: String,
    },
    /// No such image, in a registry or in the store.
    #[error("{0}: not found")]
    NotFound(String),
    /// A registry could not be reached.
    #[error("failed to do request: {method} {url:?}: {reason}")]
    Request {
        /// The HTTP method, as `Head`.
        method: &'static str,
        /// Where the request went.
        url: String,
        /// Why it failed.
        reason: String,
    },
    /// A registry answered with a status that ends the pull.
    #[error("unexpected status from {method} request to {url}: {status}")]
    Status {
        /// The HTTP method, as `HEAD`.
        method: &'static str,
        /// Where the request went.
        url: String,
        /// The status line, as `403 Forbidden`.
        status: String,
    },
    /// The registry wants other credentials, or the repository is hidden.
    #[error("pull access denied, repository does not exist or may require authorization: {0}")]
    Denied(String),
    /// Content that is not what its digest says.
    #[error("unexpected commit digest {actual}, expected {expected}")]
    Digest {
        /// The digest of what arrived.
        actual: String,
        /// The digest that was asked for.
        expected: String,
    },
    /// A manifest, configuration, layer or archive that cannot be used.
    #[error("{0}")]
    Content(String),
    /// `registries.yaml` cannot be used.
    #[error("invalid registry configuration {file}: {reason}")]
    Registries {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file system refused.
    #[error("{action}: {reason}")]
    Io {
        /// What was being done, as `write /var/lib/…`.
        action: String,
        /// The system's answer, as `no space left on device`.
        reason: String,
        /// The kind of the answer.
        kind: io::ErrorKind,
    },
    /// An error, and the step in which it happened.
    #[error("{step}: {source}")]
    Step {
        /// The step, as `failed to resolve reference "docker.io/library/x:latest"`.
        step: String,
        /// The error itself.
        source: Box<ImageError>,
    },
}

impl ImageError {
    /// The same error, told from one step further out.
    pub(crate) fn step(self, step: impl Into<String>) -> Self {
        Self::Step {
            step: step.into(),
            source: Box::new(self),
        }
    }

    /// An error of the file system on `path`.
    pub(crate) fn io(action: &str, path: &Path, error: impl Into<io::Error>) -> Self {
        let error = error.into();
        Self::Io {
            action: format!("{action} {}", path.display()),
            reason: plain(&error),
            kind: error.kind(),
        }
    }

    /// The error itself, without the steps around it.
    #[must_use]
    pub fn root(&self) -> &Self {
        match self {
            Self::Step { source, .. } => source.root(),
            other => other,
        }
    }

    /// Whether the answer is that there is no such image.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self.root(), Self::NotFound(_))
    }
}

/// An error of the system as Kubernetes' components spell it: `no space left on device`, not
/// `No space left on device (os error 28)`.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    match letters.next() {
        // An abbreviation (`RST …`) stays as it is.
        Some(first) if letters.clone().next().is_some_and(char::is_lowercase) => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text.to_owned(),
    }
}

/// The innermost reason of a chain of errors, which is the one that tells a user what to do.
pub(crate) fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner
        .downcast_ref::<io::Error>()
        .map_or_else(|| inner.to_string(), plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_errors_read_as_kubernetes_users_know_them() {
        let full = io::Error::from_raw_os_error(libc::ENOSPC);
        assert_eq!(plain(&full), "no space left on device");
        assert_eq!(plain(&io::Error::other("RST received")), "RST received");
        assert_eq!(
            plain(&io::Error::from_raw_os_error(libc::ECONNREFUSED)),
            "connection refused"
        );
    }

    #[test]
    fn a_step_is_told_before_its_cause_and_does_not_hide_its_kind() {
        let error = ImageError::NotFound("docker.io/library/x:latest".into())
            .step("failed to resolve reference \"docker.io/library/x:latest\"");
        assert_eq!(
            error.to_string(),
            "failed to resolve reference \"docker.io/library/x:latest\": docker.io/library/x:latest: not found"
        );
        assert!(error.is_not_found());
    }
}
