//! Lines, white space and integers as Python's `str.splitlines`, `str.strip` and `int` see them.
//!
//! They differ from Rust's: a form feed or U+2028 ends a line, and `int` takes signs, blanks and underscores.

/// Splits at every character Python takes for a line end; `\r\n` is one end. No line for a trailing end.
pub(crate) fn split_lines(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut start = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if !matches!(c, '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}') {
            continue;
        }
        lines.push(&text[start..at]);
        start = at + c.len_utf8();
        if c == '\r' && chars.next_if(|&(_, next)| next == '\n').is_some() {
            start += 1;
        }
    }
    if start < text.len() {
        lines.push(&text[start..]);
    }
    lines
}

/// Python's idea of white space, which adds the four separators U+001C to U+001F.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// `str.strip()`.
pub(crate) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `int(text)`: blanks around, a sign, digits with single underscores between them. Absent when Python would raise,
/// or when the number needs more than 64 bits.
pub(crate) fn python_int(text: &str) -> Option<i64> {
    let text = strip(text);
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => ("-", &text[1..]),
        b'+' => ("", &text[1..]),
        _ => ("", text),
    };
    let grouped = digits.split('_').all(|group| !group.is_empty() && group.bytes().all(|b| b.is_ascii_digit()));
    if !grouped {
        return None;
    }
    format!("{sign}{}", digits.replace('_', "")).parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn python_line_ends() {
        assert_eq!(split_lines("a\r\nb\rc\nd\u{2028}e\x0cf\n"), ["a", "b", "c", "d", "e", "f"]);
        assert_eq!(split_lines("\n\n"), ["", ""]);
        assert!(split_lines("").is_empty());
    }

    #[test]
    fn python_integers() {
        assert_eq!(python_int(" +1_000 "), Some(1000));
        assert_eq!(python_int("-007"), Some(-7));
        for text in ["", "_1", "1__0", "1_", "x", "1.0", "- 1"] {
            assert_eq!(python_int(text), None, "{text:?}");
        }
    }
}
