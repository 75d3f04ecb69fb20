//! What a command fails with, worded as kubectl words it.

use std::io;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusCause};

/// Why a command failed. Its text is the whole of what the user sees.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The server refused.
    #[error("{}", refusal(.0))]
    Server(Box<Status>),
    /// The request itself makes no sense, or something on this side is missing.
    #[error("error: {0}")]
    Usage(String),
    /// The same, where kubectl says more than one line without a word in front of them.
    #[error("{0}")]
    Plain(String),
    /// Nobody listens at the server's address.
    #[error("The connection to the server {0} was refused - did you specify the right host or port?")]
    Refused(String),
    /// The server does not answer.
    #[error("Unable to connect to the server: {0}")]
    Unreachable(String),
    /// Reading or writing failed on this side.
    #[error("error: {0}")]
    Io(#[from] io::Error),
    /// Several things failed, each with its text.
    #[error("{}", .0.iter().map(Failure::among_others).collect::<Vec<_>>().join("\n"))]
    Several(Vec<Failure>),
}

impl Failure {
    /// A failure of the user's making.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::Usage(text.into())
    }

    /// Whether the server said that there is no such object.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Server(status) if status.reason.as_deref() == Some("NotFound"))
    }

    /// What the server said that there is not.
    pub(crate) fn missing(&self) -> Option<&str> {
        match self {
            Self::Server(status) if self.is_not_found() => status.message.as_deref(),
            _ => None,
        }
    }

    /// Whether the server said that the object has changed meanwhile.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, Self::Server(status) if status.reason.as_deref() == Some("Conflict"))
    }

    /// The same, with what was being done to which source: `error when creating "x.yaml": …`.
    pub(crate) fn when(mut self, doing: &str, source: &str) -> Self {
        let around = |message: &str| format!("error when {doing} \"{source}\": {message}");
        match &mut self {
            Self::Server(status) => {
                status.message = Some(around(status.message.as_deref().unwrap_or_default()));
            }
            Self::Usage(text) => *text = around(text),
            _ => {}
        }
        self
    }

    /// The text of one failure of several, which kubectl words more plainly than a single one.
    fn among_others(&self) -> String {
        match self {
            Self::Usage(text) => text.clone(),
            Self::Server(status) => answer(status),
            other => other.to_string(),
        }
    }

    /// Nothing failed, one thing did, or several.
    pub(crate) fn all(mut failures: Vec<Self>) -> Result<(), Self> {
        match failures.len() {
            0 => Ok(()),
            1 => Err(failures.remove(0)),
            _ => Err(Self::Several(failures)),
        }
    }
}

/// A `Status` as kubectl prints it (`cmdutil.StandardErrorMessage`).
fn refusal(status: &Status) -> String {
    let message = status.message.as_deref().unwrap_or_default();
    let reason = status.reason.as_deref().unwrap_or_default();
    if reason == "Invalid"
        && let Some(details) = &status.details
    {
        let (kind, name) = (
            details.kind.as_deref().unwrap_or_default(),
            details.name.as_deref().unwrap_or_default(),
        );
        let head = if kind.is_empty() && name.is_empty() {
            "The request is invalid".to_string()
        } else {
            format!("The {kind} \"{name}\" is invalid")
        };
        let mut causes: Vec<String> = Vec::new();
        for cause in details.causes.iter().flatten().map(cause) {
            if !causes.contains(&cause) {
                causes.push(cause);
            }
        }
        return match causes.as_slice() {
            [] if kind.is_empty() && name.is_empty() && !message.is_empty() => format!("{head}: {message}"),
            [] => head,
            [one] => format!("{head}: {one}"),
            all => format!("{head}: \n* {}", all.join("\n* ")),
        };
    }
    answer(status)
}

/// A `Status` by its reason and its message.
fn answer(status: &Status) -> String {
    let message = status.message.as_deref().unwrap_or_default();
    match status.reason.as_deref().unwrap_or_default() {
        "Unauthorized" => format!("error: You must be logged in to the server ({message})"),
        "" | "Unknown" => format!("Error from server: {message}"),
        reason => format!("Error from server ({reason}): {message}"),
    }
}

fn cause(cause: &StatusCause) -> String {
    let message = cause.message.as_deref().unwrap_or_default();
    match cause.field.as_deref() {
        Some(field) if !field.is_empty() => format!("{field}: {message}"),
        _ => message.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn refusals_read_as_kubectl_prints_them() {
        let cases = [
            (
                json!({"reason": "NotFound", "message": "pods \"a\" not found"}),
                "Error from server (NotFound): pods \"a\" not found",
            ),
            (json!({"message": "odd"}), "Error from server: odd"),
            (
                json!({"reason": "Invalid", "message": "…", "details": {"kind": "Pod", "name": "a", "causes": [
                    {"field": "spec.x", "message": "Required value"}]}}),
                "The Pod \"a\" is invalid: spec.x: Required value",
            ),
            (
                json!({"reason": "Invalid", "message": "…", "details": {"kind": "Pod", "name": "a", "causes": [
                    {"field": "spec.x", "message": "Required value"}, {"field": "spec.y", "message": "Forbidden: no"}]}}),
                "The Pod \"a\" is invalid: \n* spec.x: Required value\n* spec.y: Forbidden: no",
            ),
        ];
        for (status, expected) in cases {
            let status: Status = serde_json::from_value(status).unwrap();
            assert_eq!(Failure::Server(Box::new(status)).to_string(), expected);
        }
    }

    #[test]
    fn several_failures_stand_below_each_other() {
        let status = json!({"reason": "NotFound", "message": "pods \"a\" not found"});
        let server = Failure::Server(Box::new(serde_json::from_value(status).unwrap()));
        let all = Failure::all(vec![server, Failure::usage("odd")]).unwrap_err();
        assert_eq!(
            all.to_string(),
            "Error from server (NotFound): pods \"a\" not found\nodd"
        );
        assert_eq!(
            Failure::all(vec![Failure::usage("odd")]).unwrap_err().to_string(),
            "error: odd"
        );
    }

    #[test]
    fn a_source_stands_in_the_message() {
        let status = json!({"reason": "BadRequest", "message": "unknown field"});
        let failure = Failure::Server(Box::new(serde_json::from_value(status).unwrap()));
        assert_eq!(
            failure.when("creating", "STDIN").to_string(),
            "Error from server (BadRequest): error when creating \"STDIN\": unknown field"
        );
    }
}
