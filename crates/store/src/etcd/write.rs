//! Writing: one transaction that compares and writes, or reads what is there instead.
//!
//! A write whose answer is lost may have been done, or may be done later: it can still be on its way to the leader.
//!
//! - One that demands a revision can be sent again as long as the key is at that revision, since of all that demand it only
//!   one can ever be done. If the key has moved on, nobody can tell whose write moved it.
//! - Any other cannot: sent twice, it might be done once now and once after somebody else's write.

use bytes::Bytes;
use etcd_client::proto::{PbKeyValue, PbTxnOpResponse, PbTxnResponse};
use etcd_client::{Compare, CompareOp, DeleteOptions, PutOptions, Txn, TxnOp};

use super::failure::{Attempt, Failure};
use super::members::{Connection, Members, Repeat};
use super::{error, key_value, read};
use crate::{Error, Expect, LeaseId, Result, Revision, Written};

/// What to do to a key.
pub(super) enum Change {
    /// Write it.
    Put { value: Bytes, lease: Option<LeaseId> },
    /// Delete it.
    Delete,
}

/// What etcd did.
enum Outcome {
    Written {
        revision: Revision,
        previous: Option<PbKeyValue>,
    },
    Conflict {
        current: Option<PbKeyValue>,
    },
}

pub(super) async fn write(
    members: &Members,
    key: &str,
    stored: Vec<u8>,
    change: Change,
    expect: Expect,
) -> Result<Written> {
    // To etcd, lease 0 is no lease.
    if matches!(change, Change::Put { lease: Some(0), .. }) {
        return Err(Error::LeaseNotFound);
    }
    let state = |found: Option<PbKeyValue>| found.map(|found| key_value(key.into(), found));
    let Some(compares) = compares(&stored, &change, expect) else {
        let (current, _) = read::get(members, &stored).await?;
        return Err(Error::Conflict {
            current: state(current),
        });
    };
    let request = async |mut connection: Connection| {
        let txn = transaction(&stored, &change, compares.clone());
        let answer = connection.kv.txn(txn).await?;
        outcome(answer.0)
    };
    let deadline = members.deadline();
    // Once an answer was lost, a conflict may be with that very write.
    let mut lost: Option<String> = None;
    loop {
        match members.call(Repeat::IfNotDone, deadline, request).await {
            Ok(Outcome::Written { revision, previous }) => {
                return Ok(Written {
                    revision,
                    previous: state(previous),
                });
            }
            Ok(Outcome::Conflict { current }) => {
                return Err(match lost {
                    Some(reason) => unknown(&reason),
                    None => Error::Conflict {
                        current: state(current),
                    },
                });
            }
            Err(Failure::Unknown(reason)) => {
                if !still_as_demanded(members, &stored, expect).await? {
                    return Err(unknown(&reason));
                }
                lost = Some(reason);
            }
            Err(failure) => {
                return Err(match lost {
                    Some(reason) => unknown(&reason),
                    None => error(failure),
                });
            }
        }
    }
}

fn unknown(reason: &str) -> Error {
    Error::Unavailable(format!("whether the write was done is unknown: {reason}"))
}

/// What must hold for the change to be made; `None` when it can't.
fn compares(key: &[u8], change: &Change, expect: Expect) -> Option<Vec<Compare>> {
    let is = |revision| Compare::mod_revision(key, CompareOp::Equal, revision);
    match (change, expect) {
        (Change::Put { .. }, Expect::Any) => Some(Vec::new()),
        (Change::Put { .. }, Expect::Absent) => Some(vec![is(0)]),
        (Change::Delete, Expect::Any) => Some(vec![Compare::mod_revision(key, CompareOp::Greater, 0)]),
        // To etcd, an absent key is at revision 0.
        (_, Expect::Revision(revision)) if revision > 0 => Some(vec![is(revision)]),
        (Change::Delete, Expect::Absent) | (_, Expect::Revision(_)) => None,
    }
}

fn transaction(key: &[u8], change: &Change, compares: Vec<Compare>) -> Txn {
    let operation = match change {
        Change::Put { value, lease } => {
            let options = PutOptions::new()
                .with_prev_key()
                .with_lease(lease.unwrap_or_default());
            TxnOp::put(key, value.clone(), Some(options))
        }
        Change::Delete => TxnOp::delete(key, Some(DeleteOptions::new().with_prev_key())),
    };
    let mut txn = Txn::new();
    if !compares.is_empty() {
        txn = txn.when(compares);
    }
    txn.and_then([operation]).or_else([TxnOp::get(key, None)])
}

fn outcome(answer: PbTxnResponse) -> Attempt<Outcome> {
    let revision = read::at(answer.header.as_ref())?;
    let response = answer.responses.into_iter().next();
    match response.and_then(|response| response.response) {
        Some(PbTxnOpResponse::ResponsePut(put)) => Ok(Outcome::Written {
            revision,
            previous: put.prev_kv,
        }),
        Some(PbTxnOpResponse::ResponseDeleteRange(deleted)) => Ok(Outcome::Written {
            revision,
            previous: deleted.prev_kvs.into_iter().next(),
        }),
        Some(PbTxnOpResponse::ResponseRange(found)) => Ok(Outcome::Conflict {
            current: found.kvs.into_iter().next(),
        }),
        _ => Err(Failure::Unknown("a transaction without its answers".into())),
    }
}

/// Whether the write, if it was not done, can be sent again.
async fn still_as_demanded(members: &Members, key: &[u8], expect: Expect) -> Result<bool> {
    let Expect::Revision(demanded) = expect else {
        return Ok(false);
    };
    let (current, _) = read::get(members, key).await?;
    Ok(current.is_some_and(|current| current.mod_revision == demanded))
}
