//! Tables as kubectl draws them: a header in capitals, columns two spaces apart, no lines. Cells are made harmless
//! here, so no caller can forget it.

use comfy_table::{ContentArrangement, Table, TableStyle};

use super::text::plain;

/// Rows under a header.
#[derive(Debug, Clone)]
pub struct Columns {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Columns {
    /// An empty table.
    pub fn new(header: &[&'static str]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; a missing cell is empty.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| plain(&cell)).collect());
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as text; each line ends with a newline and has no trailing spaces.
    pub fn to_text(&self) -> String {
        self.render(Some(&self.header), "")
    }

    /// The rows alone, each line after `indent`.
    pub fn to_rows(&self, indent: &str) -> String {
        self.render(None, indent)
    }

    fn render(&self, header: Option<&Vec<&'static str>>, indent: &str) -> String {
        let mut table = Table::new();
        table.load_style(TableStyle::new());
        table.set_content_arrangement(ContentArrangement::Disabled);
        if let Some(header) = header {
            table.set_header(header.clone());
        }
        table.add_rows(self.rows.clone());
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        let mut text = String::new();
        for line in table.lines() {
            text.push_str(indent);
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_two_spaces_apart_and_lines_end_clean() {
        let mut table = Columns::new(&["NAME", "STATE", "NOTE"]);
        table.row(["web-01".to_owned(), "ready".to_owned(), String::new()]);
        table.row(["n2".to_owned(), "unreachable".to_owned(), "silent\u{1b}[2J for 12m".to_owned()]);
        assert_eq!(
            table.to_text(),
            "NAME    STATE        NOTE\nweb-01  ready\nn2      unreachable  silent\u{fffd}[2J for 12m\n"
        );
        assert_eq!(table.to_rows("  "), "  web-01  ready\n  n2      unreachable  silent\u{fffd}[2J for 12m\n");
    }
}
