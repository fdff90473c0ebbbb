//! Tables on a terminal.

use std::fmt::Write as _;

/// Rows of cells, so many columns to the left and the others to the right.
pub(super) fn table(rows: &[Vec<String>], left: usize) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let fill = " ".repeat(widths[column] - cell.chars().count());
            let gap = if column == 0 { "" } else { "  " };
            let (before, after) = if column < left { ("", fill.as_str()) } else { (fill.as_str(), "") };
            write!(line, "{gap}{before}{cell}{after}").expect("writing to memory does not fail");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let rows = [vec![String::new(), "kms".to_owned()], vec!["rate".to_owned(), "1 … 2".to_owned()]];
        assert_eq!(table(&rows, 1), "        kms\nrate  1 … 2\n");
    }
}
