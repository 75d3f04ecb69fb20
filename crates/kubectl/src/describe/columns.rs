//! Text in elastic columns: tabs in neighbouring lines stand below each other, as Go's `text/tabwriter` lays them out.
//!
//! A cell is what a tab ends. A column is a run of consecutive lines that have a cell at the same place, and is as
//! wide as the widest of them and two more; so a paragraph without tabs ends the columns above it.

/// Spaces between a cell and what follows it.
const PADDING: usize = 2;

/// The text with its tabs laid out.
pub(super) fn lay_out(text: &str) -> String {
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let mut out = String::with_capacity(text.len().saturating_mul(2));
    block(&lines, &mut Vec::new(), &mut out);
    out
}

/// Whether the line has a cell in this column; what stands behind its last tab is none.
fn has_cell(line: &[&str], column: usize) -> bool {
    column.saturating_add(1) < line.len()
}

/// Lays out lines that share the columns of `widths`, finding the next column's runs among them.
fn block(lines: &[Vec<&str>], widths: &mut Vec<usize>, out: &mut String) {
    let column = widths.len();
    let mut rest = lines;
    while let Some(first) = rest.first() {
        let inside = has_cell(first, column);
        let end = rest
            .iter()
            .position(|line| has_cell(line, column) != inside)
            .unwrap_or(rest.len());
        let (run, behind) = rest.split_at(end);
        rest = behind;
        if inside {
            let cells = run.iter().filter_map(|line| line.get(column));
            let width = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
            widths.push(width.saturating_add(PADDING));
            block(run, widths, out);
            widths.pop();
        } else {
            run.iter().for_each(|line| write(line, widths, out));
        }
    }
}

fn write(line: &[&str], widths: &[usize], out: &mut String) {
    for (index, cell) in line.iter().enumerate() {
        out.push_str(cell);
        if let Some(width) = widths.get(index) {
            out.extend(std::iter::repeat_n(
                ' ',
                width.saturating_sub(cell.chars().count()),
            ));
        }
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_end_where_a_line_has_no_cell_in_them() {
        let cases = [
            ("Name:\ta\nNamespace:\tb\n", "Name:       a\nNamespace:  b\n"),
            ("A:\t1\nplain\nLonger:\t2\n", "A:  1\nplain\nLonger:  2\n"),
            // The second column is a run of its own.
            (
                "a\tbb\tc\nlong\td\n\te\tf\n",
                "a     bb  c\nlong  d\n      e  f\n",
            ),
            // What stands behind the last tab widens nothing.
            (
                "x:\ta very long text\nyy:\tb\tc\n",
                "x:   a very long text\nyy:  b  c\n",
            ),
            ("é:\tx\nab:\ty\n", "é:   x\nab:  y\n"),
        ];
        for (text, expected) in cases {
            assert_eq!(lay_out(text), expected);
        }
    }
}
