//! The formats of `--output`, and which of them a verb can give.

use clap::ValueEnum;

use crate::failure::Failure;

/// How results are written on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for people.
    Table,
    /// More columns for people.
    Wide,
    /// One JSON document with `apiVersion` and `kind`.
    Json,
    /// One JSON object per line, as things happen.
    Jsonl,
    /// Names only, one per line.
    Name,
    /// Comma-separated values with a header (RFC 4180).
    Csv,
    /// Markdown, for pull requests and chats.
    Markdown,
    /// JUnit XML, for CI.
    Junit,
    /// A monitoring plugin's line; the exit code is then 0, 1, 2 or 3.
    Nagios,
    /// Metrics in Prometheus' text format.
    Prometheus,
    /// The same for node_exporter's textfile collector; wants `--output-file`.
    Textfile,
}

impl Format {
    /// The chosen format, or the table; refuses what the verb cannot give.
    ///
    /// # Errors
    /// A usage failure (64) that lists what there is.
    pub fn pick(chosen: Option<Format>, offered: &[Format], verb: &str) -> Result<Format, Failure> {
        let format = chosen.unwrap_or(Format::Table);
        if offered.contains(&format) {
            return Ok(format);
        }
        let list: Vec<String> = offered.iter().map(|f| f.word()).collect();
        Err(Failure::usage(format!("'{verb}' has no output format '{}'", format.word()))
            .help(format!("use one of: {}", list.join(", "))))
    }

    fn word(self) -> String {
        self.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default()
    }
}
