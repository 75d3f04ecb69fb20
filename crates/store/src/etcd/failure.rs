//! What a request's failure says about whether it was done.

use std::error::Error;

use tonic::{Code, ConnectError, Status};

use crate::Error as StoreError;

/// What became of one request.
pub(super) type Attempt<T> = std::result::Result<T, Failure>;

/// Why a request to etcd did not succeed.
#[derive(Debug)]
pub(super) enum Failure {
    /// Etcd refused it; asking again would bring the same answer.
    Refused(StoreError),
    /// The revision asked for is compacted.
    Compacted,
    /// The revision asked for is not reached.
    Future,
    /// It was certainly not done, and another try may do better.
    NotDone(String),
    /// Nobody knows: it may have been done, or be done yet.
    Unknown(String),
}

impl From<etcd_client::Error> for Failure {
    fn from(error: etcd_client::Error) -> Self {
        match error {
            etcd_client::Error::GRpcStatus(status) => classify(&status),
            // The client says so when etcd's answer has no time to live left.
            etcd_client::Error::LeaseKeepAliveError(text) if text == "lease not found" => {
                Self::Refused(StoreError::LeaseNotFound)
            }
            etcd_client::Error::WatchError(_)
            | etcd_client::Error::LeaseKeepAliveError(_)
            | etcd_client::Error::IoError(_)
            | etcd_client::Error::TransportError(_) => Self::Unknown(error.to_string()),
            // What is left are errors in what was configured.
            _ => Self::Refused(StoreError::Unavailable(error.to_string())),
        }
    }
}

/// The texts are those of etcd's `api/v3rpc/rpctypes/error.go`; they have not changed since 3.0.
fn classify(status: &Status) -> Failure {
    let message = status.message();
    match message {
        "etcdserver: mvcc: required revision has been compacted" => return Failure::Compacted,
        "etcdserver: mvcc: required revision is a future revision" => return Failure::Future,
        "etcdserver: mvcc: database space exceeded" => return Failure::Refused(StoreError::NoSpace),
        "etcdserver: requested lease not found" => return Failure::Refused(StoreError::LeaseNotFound),
        "etcdserver: request is too large" => return Failure::Refused(StoreError::TooLarge),
        // Said before the request is proposed to the other members.
        "etcdserver: no leader"
        | "etcdserver: not leader"
        | "etcdserver: rpc not supported for learner"
        | "etcdserver: too many requests"
        | "raft proposal dropped" => return Failure::NotDone(message.to_owned()),
        // Of the gRPC server, a little above etcd's own limit.
        _ if message.starts_with("grpc: received message larger than max") => {
            return Failure::Refused(StoreError::TooLarge);
        }
        _ => {}
    }
    let text = || match causes(status).last() {
        Some(cause) => format!("{message}: {cause}"),
        None => message.to_owned(),
    };
    if never_connected(status) {
        return Failure::NotDone(text());
    }
    match status.code() {
        Code::Ok
        | Code::Unavailable
        | Code::Unknown
        | Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::Internal => Failure::Unknown(text()),
        _ => Failure::Refused(StoreError::Unavailable(text())),
    }
}

/// Whether there was no connection to send the request on.
fn never_connected(status: &Status) -> bool {
    causes(status).any(|cause| cause.is::<ConnectError>())
}

/// What the failure comes from, the innermost last.
fn causes(status: &Status) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(status.source(), |cause| (**cause).source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_whether_the_request_was_done() {
        let connect = || Status::from_error(Box::new(ConnectError("refused".into())));
        for (status, expected) in [
            (
                Status::out_of_range("etcdserver: mvcc: required revision has been compacted"),
                "Compacted",
            ),
            (
                Status::out_of_range("etcdserver: mvcc: required revision is a future revision"),
                "Future",
            ),
            (
                Status::resource_exhausted("etcdserver: mvcc: database space exceeded"),
                "Refused(NoSpace)",
            ),
            (
                Status::not_found("etcdserver: requested lease not found"),
                "Refused(LeaseNotFound)",
            ),
            (
                Status::invalid_argument("etcdserver: request is too large"),
                "Refused(TooLarge)",
            ),
            (
                Status::resource_exhausted("grpc: received message larger than max (3145757 vs. 2097152)"),
                "Refused(TooLarge)",
            ),
            (
                Status::permission_denied("etcdserver: permission denied"),
                "Refused(Unavailable",
            ),
            (
                Status::resource_exhausted("etcdserver: too many requests"),
                "NotDone",
            ),
            (Status::unavailable("etcdserver: no leader"), "NotDone"),
            (connect(), "NotDone"),
            (Status::unavailable("etcdserver: request timed out"), "Unknown"),
            (
                Status::unavailable("etcdserver: request timed out, possibly due to previous leader failure"),
                "Unknown",
            ),
            (Status::unavailable("etcdserver: leader changed"), "Unknown"),
            (Status::unavailable("etcdserver: server stopped"), "Unknown"),
            (Status::unknown("transport error"), "Unknown"),
            (Status::internal("h2 protocol error"), "Unknown"),
        ] {
            let text = format!("{status:?}");
            let failure = format!("{:?}", classify(&status));
            assert!(failure.starts_with(expected), "{text}: {failure}");
        }
    }
}
