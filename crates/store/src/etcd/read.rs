//! Reading: linearizable, and repeated until it is answered.

use etcd_client::proto::{PbKeyValue, PbRangeResponse, PbResponseHeader};
use etcd_client::{GetOptions, WatchOptions};

use super::failure::{Attempt, Failure};
use super::keys::{Bounds, Keys, ZERO};
use super::members::{Connection, Members, Repeat};
use super::{error, key_value};
use crate::{Error, Page, Range, Result, Revision};

/// The revision of an answer's header.
pub(super) fn at(header: Option<&PbResponseHeader>) -> Attempt<Revision> {
    match header {
        Some(header) => Ok(header.revision),
        None => Err(Failure::Unknown("an answer without a header".into())),
    }
}

async fn ask(members: &Members, key: &[u8], options: GetOptions) -> Attempt<PbRangeResponse> {
    let get = async |mut connection: Connection| {
        let answer = connection.kv.get(key, Some(options.clone())).await?;
        Ok(answer.0)
    };
    members.call(Repeat::Always, members.deadline(), get).await
}

pub(super) async fn revision(members: &Members) -> Result<Revision> {
    // No member answers before it has done all that any of them had acknowledged (etcd's read index).
    let counted = ask(members, ZERO, GetOptions::new().with_count_only()).await;
    counted
        .and_then(|answer| at(answer.header.as_ref()))
        .map_err(error)
}

/// The key's present state, and the revision that it was read at.
pub(super) async fn get(members: &Members, key: &[u8]) -> Result<(Option<PbKeyValue>, Revision)> {
    let answer = ask(members, key, GetOptions::new()).await.map_err(error)?;
    let revision = at(answer.header.as_ref()).map_err(error)?;
    Ok((answer.kvs.into_iter().next(), revision))
}

pub(super) async fn range(members: &Members, keys: &Keys, range: Range) -> Result<Page> {
    // What no key can be in is asked for all the same: its revision may be compacted or not be reached.
    let (Bounds { start, end }, nothing) = match keys.bounds(&range.prefix, range.after.as_deref()) {
        Some(bounds) => (bounds, false),
        None => (
            Bounds {
                start: ZERO.to_vec(),
                end: Vec::new(),
            },
            true,
        ),
    };
    let mut options = GetOptions::new().with_limit(i64::try_from(range.limit).unwrap_or(i64::MAX));
    if !end.is_empty() {
        options = options.with_range(end);
    }
    if let Some(revision) = range.revision {
        // To etcd, zero is the present. Before the first revision there was what there was at it: nothing.
        options = options.with_revision(revision.max(1));
    }
    let answer = match ask(members, &start, options).await {
        Ok(answer) => answer,
        Err(Failure::Compacted) => {
            return Err(Error::Compacted {
                oldest: oldest(members).await?,
            });
        }
        Err(Failure::Future) => {
            return Err(Error::FutureRevision {
                current: revision(members).await?,
            });
        }
        Err(failure) => return Err(error(failure)),
    };
    let present = at(answer.header.as_ref()).map_err(error)?;
    let read = answer.kvs.len();
    // A key that is no text is somebody else's.
    let ours = |stored: PbKeyValue| Some(key_value(keys.ours(&stored.key)?, stored));
    Ok(Page {
        items: if nothing {
            Vec::new()
        } else {
            answer.kvs.into_iter().filter_map(ours).collect()
        },
        remaining: usize::try_from(answer.count).unwrap_or(0).saturating_sub(read),
        revision: range.revision.unwrap_or(present),
    })
}

/// The oldest revision that can be read, once there has been a compaction. Only a watch that is too late is told.
pub(super) async fn oldest(members: &Members) -> Result<Revision> {
    let look = async |mut connection: Connection| {
        // A read first: after it, the member knows of the compaction that was answered with.
        connection
            .kv
            .get(ZERO, Some(GetOptions::new().with_count_only()))
            .await?;
        let options = WatchOptions::new().with_start_revision(1);
        let mut watch = connection.watch.watch(ZERO, Some(options)).await?;
        while let Some(answer) = watch.message().await? {
            if answer.compact_revision() != 0 {
                return Ok(answer.compact_revision());
            }
        }
        Err(Failure::Unknown("a watch ended unasked".into()))
    };
    let found = members.call(Repeat::Always, members.deadline(), look).await;
    found.map_err(error)
}
