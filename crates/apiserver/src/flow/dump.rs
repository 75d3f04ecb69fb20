//! The tables of `/debug/api_priority_and_fairness`: levels, queues and requests, as upstream lays them out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use jiff::Timestamp;

use super::requests::Request;
use super::{Flow, Level};

/// The narrowest column, in characters.
const NARROWEST: usize = 8;

/// Work in seats times seconds: nobody estimates it here, for a request takes one seat.
const NO_WORK: &str = "0.00000000ss";

/// What Go takes for no time.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Lays cells out in columns. Every cell but the last of a row is followed by a comma.
fn table(rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), NARROWEST);
        for (width, cell) in widths.iter_mut().zip(row) {
            // The comma, and the space that parts it from the next.
            *width = (*width).max(cell.chars().count() + 2);
        }
    }
    let mut text = String::new();
    for row in rows {
        for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
            if index + 1 == row.len() {
                text.push_str(cell);
            } else {
                text.push_str(&format!("{:<width$}", format!("{cell},")));
            }
        }
        text.push('\n');
    }
    text
}

fn head(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

/// A time as Go writes it: no more digits after the point than there are.
fn time(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(|_| NEVER.into(), |time| time.to_string())
}

/// What is known of one level.
struct Row<'a> {
    name: Arc<str>,
    /// `None`: its object is gone, and its last requests are awaited.
    level: Option<&'a Level>,
    waiting: Vec<&'a Request>,
    executing: Vec<&'a Request>,
}

impl Row<'_> {
    fn queues(&self) -> usize {
        self.level.map_or(0, |level| level.queues)
    }

    /// The queue of a request: that in which it waited, or in which it would have.
    fn queue(&self, request: &Request) -> Option<usize> {
        let queues = u64::try_from(self.queues()).ok().filter(|queues| *queues > 0)?;
        let first = usize::try_from(request.flow % queues).unwrap_or_default();
        Some(request.queue.unwrap_or(first))
    }

    /// Those of some requests that are in a queue, in the order in which they came.
    fn of_queue<'b>(&'b self, requests: &'b [&'b Request], queue: Option<usize>) -> Vec<&'b Request> {
        let is_there = |request: &&&Request| self.queue(request) == queue;
        requests.iter().filter(is_there).copied().collect()
    }
}

fn rows<'a>(levels: &'a std::collections::HashMap<Arc<str>, Level>, requests: &'a [Request]) -> Vec<Row<'a>> {
    let mut names: BTreeSet<&Arc<str>> = levels.keys().collect();
    names.extend(requests.iter().map(|request| &request.level));
    let mut rows: BTreeMap<&Arc<str>, Row<'a>> = names
        .into_iter()
        .map(|name| {
            let row = Row {
                name: name.clone(),
                level: levels.get(name),
                waiting: Vec::new(),
                executing: Vec::new(),
            };
            (name, row)
        })
        .collect();
    for request in requests {
        if let Some(row) = rows.get_mut(&request.level) {
            match request.begun {
                Some(_) => row.executing.push(request),
                None => row.waiting.push(request),
            }
        }
    }
    rows.into_values().collect()
}

impl Flow {
    /// A row for each level.
    pub(crate) fn dump_levels(&self) -> String {
        let (rules, requests) = (self.rules.read().clone(), self.requests.all());
        let mut lines = vec![head(&[
            "PriorityLevelName",
            "ActiveQueues",
            "IsIdle",
            "IsQuiescing",
            "WaitingRequests",
            "ExecutingRequests",
            "DispatchedRequests",
            "RejectedRequests",
            "TimedoutRequests",
            "CancelledRequests",
        ])];
        for row in rows(&rules.levels, &requests) {
            let active: BTreeSet<_> = row
                .waiting
                .iter()
                .filter_map(|request| row.queue(request))
                .collect();
            let total = |count: fn(&super::Totals) -> &std::sync::atomic::AtomicU64| {
                row.level
                    .map_or(0, |level| count(&level.totals).load(Ordering::Relaxed))
                    .to_string()
            };
            let is_idle = row.waiting.is_empty() && row.executing.is_empty();
            lines.push(vec![
                row.name.to_string(),
                active.len().to_string(),
                is_idle.to_string(),
                row.level.is_none().to_string(),
                row.waiting.len().to_string(),
                row.executing.len().to_string(),
                total(|totals| &totals.dispatched),
                total(|totals| &totals.rejected),
                // Upstream counts those whose turn did not come in time among the two around.
                "0".into(),
                total(|totals| &totals.cancelled),
            ]);
        }
        table(&lines)
    }

    /// A row for each queue.
    pub(crate) fn dump_queues(&self) -> String {
        let (rules, requests) = (self.rules.read().clone(), self.requests.all());
        let mut lines = vec![head(&[
            "PriorityLevelName",
            "Index",
            "PendingRequests",
            "ExecutingRequests",
            "SeatsInUse",
            "NextDispatchR",
            "InitialSeatsSum",
            "MaxSeatsSum",
            "TotalWorkSum",
        ])];
        for row in rows(&rules.levels, &requests) {
            for queue in 0..row.queues() {
                let waiting = row.of_queue(&row.waiting, Some(queue)).len().to_string();
                let executing = row.of_queue(&row.executing, Some(queue)).len().to_string();
                lines.push(vec![
                    row.name.to_string(),
                    queue.to_string(),
                    waiting.clone(),
                    executing.clone(),
                    executing,
                    NO_WORK.into(),
                    waiting.clone(),
                    waiting,
                    NO_WORK.into(),
                ]);
            }
        }
        table(&lines)
    }

    /// A row for each request; with `details`, who asks for what.
    pub(crate) fn dump_requests(&self, details: bool) -> String {
        let (rules, requests) = (self.rules.read().clone(), self.requests.all());
        let mut first = head(&[
            "PriorityLevelName",
            "FlowSchemaName",
            "QueueIndex",
            "RequestIndexInQueue",
            // As upstream spells it.
            "FlowDistingsher",
            "ArriveTime",
            "InitialSeats",
            "FinalSeats",
            "AdditionalLatency",
            "StartTime",
        ]);
        if details {
            first.extend(head(&[
                "UserName",
                "Verb",
                "APIPath",
                "Namespace",
                "Name",
                "APIVersion",
                "Resource",
                "SubResource",
            ]));
        }
        let mut lines = vec![first];
        let distinguisher = |request: &Request| {
            let schema = rules.schemas.iter().find(|schema| schema.name == request.schema);
            schema.map_or_else(String::new, |schema| {
                schema.distinguisher(&request.info, &request.user).to_string()
            })
        };
        for row in rows(&rules.levels, &requests) {
            let mut line = |queue: Option<usize>, place: Option<usize>, request: &Request| {
                let number = |number: Option<usize>| number.map_or("-1".into(), |number| number.to_string());
                let mut line = vec![
                    row.name.to_string(),
                    request.schema.to_string(),
                    number(queue),
                    number(place),
                    distinguisher(request),
                    time(request.arrived),
                    "1".into(),
                    "0".into(),
                    "0s".into(),
                    request.begun.map_or_else(|| NEVER.into(), time),
                ];
                if details {
                    let info = &request.info;
                    let version = if info.group.is_empty() {
                        info.version.clone()
                    } else {
                        format!("{}/{}", info.group, info.version)
                    };
                    line.extend([
                        request.user.name.clone(),
                        info.verb.to_string(),
                        info.path.clone(),
                        info.namespace.clone(),
                        info.name.clone(),
                        version,
                        info.resource.clone(),
                        info.subresource.clone(),
                    ]);
                }
                lines.push(line);
            };
            for queue in (0..row.queues()).map(Some).chain([None]) {
                for (place, request) in row.of_queue(&row.waiting, queue).into_iter().enumerate() {
                    line(queue, queue.map(|_| place), request);
                }
                for request in row.of_queue(&row.executing, queue) {
                    line(queue, None, request);
                }
            }
        }
        table(&lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            head(&["PriorityLevelName", "Index", "Last"]),
            head(&["a", "10", "longer than the head"]),
        ];
        assert_eq!(
            table(&rows),
            "PriorityLevelName, Index,  Last\na,                 10,     longer than the head\n"
        );
    }
}
