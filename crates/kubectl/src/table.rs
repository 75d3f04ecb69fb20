//! The server's tables, printed as kubectl prints them.

use serde_json::Value;

/// What is printed besides the server's columns.
#[derive(Clone, Debug, Default)]
pub(crate) struct Style {
    /// Also the columns of lower priority.
    pub(crate) wide: bool,
    /// A first column with the namespace.
    pub(crate) with_namespace: bool,
    /// `pod/a` instead of `a`.
    pub(crate) with_kind: Option<String>,
    /// A last column with all labels.
    pub(crate) show_labels: bool,
    /// A column for each of these labels.
    pub(crate) label_columns: Vec<String>,
    /// No header.
    pub(crate) no_headers: bool,
}

/// Rows of text below each other. Widths only grow, so that rows printed later stand under the earlier ones.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    widths: Vec<usize>,
}

impl Writer {
    /// The rows as lines: columns three spaces apart, at least six wide, nothing behind the last.
    pub(crate) fn lines(&mut self, rows: &[Vec<String>]) -> String {
        for row in rows {
            for (index, cell) in row.iter().enumerate() {
                let width = cell.chars().count();
                match self.widths.get_mut(index) {
                    Some(known) => *known = (*known).max(width),
                    None => self.widths.push(width),
                }
            }
        }
        let mut text = String::new();
        for row in rows {
            let last = row.len().saturating_sub(1);
            for (index, cell) in row.iter().enumerate() {
                text.push_str(cell);
                if index < last {
                    let width = self
                        .widths
                        .get(index)
                        .copied()
                        .unwrap_or_default()
                        .saturating_add(3)
                        .max(6);
                    text.extend(std::iter::repeat_n(
                        ' ',
                        width.saturating_sub(cell.chars().count()),
                    ));
                }
            }
            text.push('\n');
        }
        text
    }
}

/// A table with its columns. A watch describes them in its first table only; those seen last are kept in `known`.
pub(crate) fn with_columns(table: &Value, known: &mut Option<Value>) -> Value {
    let mut table = table.clone();
    let own = table
        .get("columnDefinitions")
        .filter(|columns| columns.as_array().is_some_and(|all| !all.is_empty()));
    match (own.cloned(), table.as_object_mut()) {
        (Some(own), _) => *known = Some(own),
        (None, Some(table)) => {
            table.insert("columnDefinitions".into(), known.clone().unwrap_or_default());
        }
        (None, None) => {}
    }
    table
}

/// The header and the rows of a table.
pub(crate) fn cells(table: &Value, style: &Style, with_header: bool) -> Vec<Vec<String>> {
    let list = |value: &Value, name: &str| {
        value
            .get(name)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let columns = list(table, "columnDefinitions");
    let shown: Vec<usize> = columns
        .iter()
        .enumerate()
        .filter(|(_, column)| style.wide || column.get("priority").and_then(Value::as_i64).unwrap_or(0) == 0)
        .map(|(index, _)| index)
        .collect();
    let mut rows = Vec::new();
    if with_header && !style.no_headers {
        let mut header: Vec<String> = style
            .with_namespace
            .then(|| "NAMESPACE".to_string())
            .into_iter()
            .collect();
        let titles = shown
            .iter()
            .filter_map(|index| columns.get(*index)?.get("name")?.as_str());
        header.extend(titles.map(str::to_uppercase));
        // kubectl titles a label's column by what stands behind the last slash.
        header.extend(
            style
                .label_columns
                .iter()
                .map(|label| label.rsplit('/').next().unwrap_or(label).to_uppercase()),
        );
        header.extend(style.show_labels.then(|| "LABELS".to_string()));
        rows.push(header);
    }
    for row in list(table, "rows") {
        let metadata = row.pointer("/object/metadata").cloned().unwrap_or_default();
        let cells = list(&row, "cells");
        let mut line = Vec::new();
        if style.with_namespace {
            line.push(
                metadata
                    .get("namespace")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_string(),
            );
        }
        for (position, index) in shown.iter().enumerate() {
            let cell = cells.get(*index).map(shown_cell).unwrap_or_default();
            match &style.with_kind {
                Some(kind) if position == 0 => line.push(format!("{kind}/{cell}")),
                _ => line.push(cell),
            }
        }
        let labels = metadata
            .get("labels")
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        for label in &style.label_columns {
            line.push(
                labels
                    .get(label)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_string(),
            );
        }
        if style.show_labels {
            let all: Vec<String> = labels
                .iter()
                .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
                .collect();
            line.push(if all.is_empty() {
                "<none>".into()
            } else {
                all.join(",")
            });
        }
        rows.push(line);
    }
    rows
}

fn shown_cell(cell: &Value) -> String {
    match cell {
        Value::Null => "<none>".into(),
        Value::String(text) => text.split('\n').next().unwrap_or_default().to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn table() -> Value {
        json!({
            "columnDefinitions": [
                {"name": "Name", "priority": 0}, {"name": "Ready", "priority": 0}, {"name": "IP", "priority": 1}],
            "rows": [{"cells": ["a-long-name", "1/1", "10.0.0.1"],
                      "object": {"metadata": {"namespace": "n", "labels": {"a/env": "prod", "b": "c"}}}}],
        })
    }

    #[test]
    fn columns_stand_three_apart_and_the_last_has_nothing_behind_it() {
        let text = Writer::default().lines(&cells(&table(), &Style::default(), true));
        assert_eq!(text, "NAME          READY\na-long-name   1/1\n");
    }

    #[test]
    fn wide_labels_and_namespace_add_columns() {
        let style = Style {
            wide: true,
            with_namespace: true,
            with_kind: Some("pod".into()),
            show_labels: true,
            label_columns: vec!["a/env".into()],
            no_headers: false,
        };
        let rows = cells(&table(), &style, true);
        assert_eq!(rows[0], ["NAMESPACE", "NAME", "READY", "IP", "ENV", "LABELS"]);
        assert_eq!(
            rows[1],
            [
                "n",
                "pod/a-long-name",
                "1/1",
                "10.0.0.1",
                "prod",
                "a/env=prod,b=c"
            ]
        );
    }

    #[test]
    fn a_table_without_columns_has_those_of_the_one_before() {
        let mut known = None;
        with_columns(&table(), &mut known);
        let mut later = table();
        later.as_object_mut().unwrap().remove("columnDefinitions");
        let rows = cells(&with_columns(&later, &mut known), &Style::default(), false);
        assert_eq!(rows, [["a-long-name", "1/1"]]);
    }

    #[test]
    fn later_rows_keep_the_widths_of_earlier_ones() {
        let mut writer = Writer::default();
        writer.lines(&[vec!["a-long-name".into(), "x".into()]]);
        assert_eq!(writer.lines(&[vec!["b".into(), "y".into()]]), "b             y\n");
    }
}
