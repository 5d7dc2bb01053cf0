//! Comma-separated values as RFC 4180 has them.

/// One record with its line end (CRLF, as the RFC says).
pub fn record<'a>(fields: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = fields.into_iter().map(quote).collect();
    format!("{}\r\n", quoted.join(","))
}

fn quote(field: &str) -> String {
    // A leading = + - @ makes spreadsheets evaluate the cell: what a node reports must stay text.
    let field = if field.len() > 1 && field.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        format!("'{field}")
    } else {
        field.to_owned()
    };
    if field.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_only_where_needed() {
        assert_eq!(record(["a", "b,c", "d\"e", "", "-"]), "a,\"b,c\",\"d\"\"e\",,-\r\n");
        assert_eq!(record(["=1+1"]), "'=1+1\r\n");
    }
}
