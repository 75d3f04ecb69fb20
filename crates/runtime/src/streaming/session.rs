//! One remote command, whatever protocol it comes over: what the client sends, what it gets, and how it ends.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// Pieces that wait for a slow reader; the writer stops beyond.
const PIECES: usize = 8;

/// From the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Inbound {
    Stdin(Bytes),
    StdinEnd,
    Resize(Size),
}

/// To the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outbound {
    Stdout(Bytes),
    Stderr(Bytes),
    /// The last: how it ended, as an API `Status` in JSON.
    End(Bytes),
}

/// A terminal's size in characters, as remote command protocols write it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Size {
    pub width: u16,
    pub height: u16,
}

/// The process' side of a session. The inbound side ends when the client has left.
pub(crate) struct Session {
    pub inbound: mpsc::Receiver<Inbound>,
    pub outbound: mpsc::Sender<Outbound>,
}

/// The protocol's side of a session.
pub(crate) struct Remote {
    pub inbound: mpsc::Sender<Inbound>,
    pub outbound: mpsc::Receiver<Outbound>,
}

/// Both sides of a new session.
pub(crate) fn pair() -> (Session, Remote) {
    let (to_process, inbound) = mpsc::channel(PIECES);
    let (outbound, from_process) = mpsc::channel(PIECES);
    let session = Session { inbound, outbound };
    let remote = Remote {
        inbound: to_process,
        outbound: from_process,
    };
    (session, remote)
}

fn bytes(status: &Value) -> Bytes {
    Bytes::from(status.to_string())
}

/// The status of a process that has ended.
pub(crate) fn ended(command: &[String], exit_code: i32) -> Bytes {
    if exit_code == 0 {
        return success();
    }
    let message = format!(
        "command terminated with non-zero exit code: error executing command [{}], exit code {exit_code}",
        command.join(" ")
    );
    bytes(&json!({
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": "NonZeroExitCode",
        "details": { "causes": [{ "reason": "ExitCode", "message": exit_code.to_string() }] },
    }))
}

/// The status of what went well.
pub(crate) fn success() -> Bytes {
    bytes(&json!({ "metadata": {}, "status": "Success" }))
}

/// What a status says to people of what went wrong; `None` when all went well.
pub(crate) fn complaint(status: &[u8]) -> Option<String> {
    let status: Value = serde_json::from_slice(status).ok()?;
    (status.get("status")? != "Success").then(|| {
        let message = status.get("message").and_then(Value::as_str);
        message.unwrap_or_default().to_owned()
    })
}

/// The status of what could not be done.
pub(crate) fn failed(what: &str, why: &str) -> Bytes {
    let message = format!("{what}: {why}");
    bytes(&json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("Internal error occurred: {message}"),
        "reason": "InternalError",
        "details": { "causes": [{ "message": message }] },
        "code": 500,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_code_is_told_as_a_cause() {
        let status: Value = serde_json::from_slice(&ended(&["sh".into(), "-c".into()], 3)).unwrap();
        assert_eq!(status["reason"], "NonZeroExitCode");
        assert_eq!(
            status["details"]["causes"][0],
            json!({ "reason": "ExitCode", "message": "3" })
        );
        let status: Value = serde_json::from_slice(&ended(&[], 0)).unwrap();
        assert_eq!(status["status"], "Success");
    }
}
