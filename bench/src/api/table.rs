//! The tables that are printed, in Markdown: one line a measure, the median of all runs.

use std::collections::BTreeMap;

use crate::figures::Figure;

/// One measure in one run.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    pub(super) what: String,
    /// What stands in the columns; not a number where there is nothing.
    pub(super) cells: Vec<f64>,
    /// What a reader must know besides.
    pub(super) note: String,
}

/// Rows of several runs.
#[derive(Debug)]
pub(super) struct Table {
    columns: &'static [(&'static str, usize)],
    order: Vec<String>,
    rows: BTreeMap<String, (Vec<Figure>, String)>,
}

impl Table {
    /// A table with these columns after the first, each with its number of decimals.
    pub(super) fn new(columns: &'static [(&'static str, usize)]) -> Self {
        Self {
            columns,
            order: Vec::new(),
            rows: BTreeMap::new(),
        }
    }

    /// Adds a measure of one run.
    pub(super) fn add(&mut self, row: Row) {
        if !self.rows.contains_key(&row.what) {
            self.order.push(row.what.clone());
        }
        let (figures, note) = self.rows.entry(row.what).or_default();
        figures.resize(self.columns.len(), Figure::default());
        for (figure, cell) in figures.iter_mut().zip(row.cells) {
            if !cell.is_nan() {
                figure.add(cell);
            }
        }
        if !row.note.is_empty() {
            *note = row.note;
        }
    }

    /// The table; empty when nothing was measured.
    pub(super) fn text(&self) -> String {
        if self.order.is_empty() {
            return String::new();
        }
        let names: Vec<&str> = self.columns.iter().map(|(name, _)| *name).collect();
        let mut text = format!(
            "| what | {} | note |\n|---|{}---|\n",
            names.join(" | "),
            "--:|".repeat(names.len())
        );
        for what in &self.order {
            let Some((figures, note)) = self.rows.get(what) else {
                continue;
            };
            let cells: Vec<String> = figures
                .iter()
                .zip(self.columns)
                .map(|(figure, (_, decimals))| figure.cell(*decimals))
                .collect();
            text.push_str(&format!("| {what} | {} | {note} |\n", cells.join(" | ")));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_the_median_of_its_runs() {
        let mut table = Table::new(&[("a second", 0), ("ms", 2)]);
        assert_eq!(table.text(), "");
        for cells in [vec![10.0, 1.0], vec![30.0, f64::NAN], vec![20.0, f64::NAN]] {
            table.add(Row {
                what: "get".to_owned(),
                cells,
                note: String::new(),
            });
        }
        let expected = "| what | a second | ms | note |\n|---|--:|--:|---|\n| get | 20 (10–30) | 1.00 |  |\n";
        assert_eq!(table.text(), expected);
    }
}
