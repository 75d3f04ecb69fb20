//! The page that a description is written on: lines by level of indentation, and the parts that many kinds share.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value};
use skiff_api::kind::human_duration;

use super::columns;
use crate::fields::{integer, list, map, name, text};

/// An annotation longer than this is broken off.
const LONGEST_ANNOTATION: usize = 140;
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
pub(super) const NONE: &str = "<none>";

/// Lines of text; tabs are columns.
#[derive(Debug)]
pub(super) struct Page {
    text: String,
    now: Timestamp,
    zone: TimeZone,
}

impl Page {
    pub(super) fn new(now: Timestamp, zone: TimeZone) -> Self {
        Self {
            text: String::new(),
            now,
            zone,
        }
    }

    /// A line, indented by two spaces a level.
    pub(super) fn line(&mut self, level: usize, line: impl AsRef<str>) {
        self.text.extend(std::iter::repeat_n("  ", level));
        self.text.push_str(line.as_ref());
        self.text.push('\n');
    }

    /// `Label:  value`
    pub(super) fn field(&mut self, level: usize, label: &str, value: impl AsRef<str>) {
        self.line(level, format!("{label}:\t{}", value.as_ref()));
    }

    /// `Label:  value`, left out when the value is empty.
    pub(super) fn field_if_any(&mut self, level: usize, label: &str, value: impl AsRef<str>) {
        if !value.as_ref().is_empty() {
            self.field(level, label, value);
        }
    }

    /// `Label:  value`, with `<none>` for an empty value.
    pub(super) fn field_or_none(&mut self, level: usize, label: &str, value: impl AsRef<str>) {
        let value = value.as_ref();
        self.field(level, label, if value.is_empty() { NONE } else { value });
    }

    /// `Label:  first`, and the others below it; `<none>` when there are none.
    pub(super) fn field_of_lines(&mut self, level: usize, label: &str, lines: &[String]) {
        let mut lines = lines.iter();
        self.field(level, label, lines.next().map_or(NONE, String::as_str));
        for line in lines {
            self.line(level, format!("\t{line}"));
        }
    }

    /// Labels, or another map of texts: `a=b` lines.
    pub(super) fn labels(&mut self, level: usize, label: &str, labels: &Map<String, Value>) {
        self.field_of_lines(level, label, &super::lines(labels));
    }

    /// Annotations; what was last applied is left out, and long ones stand on lines of their own.
    pub(super) fn annotations(&mut self, level: usize, label: &str, annotations: &Map<String, Value>) {
        self.field_of_lines(level, label, &annotation_lines(annotations));
    }

    /// Name, namespace if any, labels and annotations, as most kinds begin.
    pub(super) fn metadata(&mut self, object: &Value) {
        self.field(0, "Name", name(object));
        self.field_if_any(0, "Namespace", text(object, "/metadata/namespace"));
        self.labels(0, "Labels", map(object, "/metadata/labels"));
        self.annotations(0, "Annotations", map(object, "/metadata/annotations"));
    }

    /// `Controlled By:  ReplicaSet/web-1`
    pub(super) fn controller(&mut self, object: &Value) {
        let owners = list(object, "/metadata/ownerReferences");
        let controller = owners
            .iter()
            .find(|owner| crate::fields::flag(owner, "/controller"));
        if let Some(controller) = controller {
            let (kind, name) = (text(controller, "/kind"), text(controller, "/name"));
            self.field(0, "Controlled By", format!("{kind}/{name}"));
        }
    }

    /// Type, status and reason of an object's conditions, as workloads show them.
    pub(super) fn conditions_with_reason(&mut self, object: &Value) {
        let conditions = list(object, "/status/conditions");
        if conditions.is_empty() {
            return;
        }
        self.line(0, "Conditions:");
        self.line(1, "Type\tStatus\tReason");
        self.line(1, "----\t------\t------");
        for condition in conditions {
            let (kind, status) = (text(condition, "/type"), text(condition, "/status"));
            self.line(1, format!("{kind} \t{status}\t{}", text(condition, "/reason")));
        }
    }

    /// A time as it stands in the object, in the reader's zone: `Mon, 02 Jan 2006 15:04:05 +0000`.
    pub(super) fn time(&self, text: &str) -> String {
        // What Go prints for a time that is not set.
        let Ok(time) = text.parse::<Timestamp>() else {
            return "Mon, 01 Jan 0001 00:00:00 +0000".into();
        };
        let zoned = time.to_zoned(self.zone.clone());
        zoned.strftime("%a, %d %b %Y %H:%M:%S %z").to_string()
    }

    /// How long ago a time is: `5m3s`.
    pub(super) fn since(&self, text: &str) -> String {
        match text.parse::<Timestamp>() {
            Ok(time) => human_duration(self.now.as_second().saturating_sub(time.as_second())),
            Err(_) => "<unknown>".into(),
        }
    }

    /// The events of the object, the oldest first.
    pub(super) fn events(&mut self, events: Option<&[Value]>) {
        let Some(events) = events else { return };
        if events.is_empty() {
            return self.field(0, "Events", NONE);
        }
        let mut events: Vec<&Value> = events.iter().collect();
        events.sort_by_key(|event| text(event, "/lastTimestamp").parse::<Timestamp>().ok());
        self.line(0, "Events:");
        self.line(1, "Type\tReason\tAge\tFrom\tMessage");
        self.line(1, "----\t------\t----\t----\t-------");
        for event in events {
            let from = match text(event, "/source/component") {
                "" => text(event, "/reportingComponent"),
                component => component,
            };
            let (kind, reason) = (text(event, "/type"), text(event, "/reason"));
            let message = text(event, "/message").trim();
            self.line(
                1,
                format!("{kind}\t{reason}\t{}\t{from}\t{message}", self.age(event)),
            );
        }
    }

    /// `5m`, or `10s (x3 over 5m)` of one that came again.
    fn age(&self, event: &Value) -> String {
        let first = match text(event, "/eventTime") {
            "" => self.since(text(event, "/firstTimestamp")),
            time => self.since(time),
        };
        let again = |count: i64, last: &str| format!("{} (x{count} over {first})", self.since(last));
        if event.get("series").is_some_and(Value::is_object) {
            return again(
                integer(event, "/series/count"),
                text(event, "/series/lastObservedTime"),
            );
        }
        match integer(event, "/count") {
            count if count > 1 => again(count, text(event, "/lastTimestamp")),
            _ => first,
        }
    }

    /// The text, laid out.
    pub(super) fn finish(self) -> String {
        columns::lay_out(&self.text)
    }
}

/// `a: b` lines, without what was last applied.
pub(super) fn annotation_lines(annotations: &Map<String, Value>) -> Vec<String> {
    let mut lines = Vec::new();
    for (key, value) in annotations.iter().filter(|(key, _)| *key != LAST_APPLIED) {
        let value = value.as_str().unwrap_or_default();
        let value = value.strip_suffix('\n').unwrap_or(value);
        let whole = value.len().saturating_add(key.len()).saturating_add(2);
        if whole <= LONGEST_ANNOTATION && !value.contains('\n') {
            lines.push(format!("{key}: {value}"));
            continue;
        }
        lines.push(format!("{key}:"));
        lines.extend(value.split('\n').map(|line| format!("  {}", shortened(line))));
    }
    lines
}

/// At most so many bytes of a line of an annotation as kubectl shows, and dots where it was longer.
fn shortened(line: &str) -> String {
    let longest = LONGEST_ANNOTATION.saturating_sub(2);
    if line.len() <= longest {
        return line.to_string();
    }
    let end = (0..=longest)
        .rev()
        .find(|end| line.is_char_boundary(*end))
        .unwrap_or(0);
    format!("{}...", line.get(..end).unwrap_or_default())
}
