//! Splits a host line into words as Python's `shlex.split(line, comments=True)` does.
//!
//! This is where `k={"x":1}` loses its quotes and `z=a#b` its tail: the rules of a shell, not of Python literals.

/// Why a line cannot be split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SplitError {
    /// A quote is never closed.
    #[error("a quote is opened and never closed")]
    OpenQuote,
    /// The line ends in a backslash.
    #[error("the line ends in a backslash with nothing to escape")]
    DanglingEscape,
}

/// The words of one line. A `#` outside quotes ends the line even in the middle of a word.
pub(crate) fn split(line: &str) -> Result<Vec<String>, SplitError> {
    let mut words = Vec::new();
    let mut chars = line.chars();
    // None between words, so that `""` is a word and nothing is not.
    let mut word: Option<String> = None;
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '#' => {
                words.extend(word.take());
                // Only the rest of this line is the comment.
                for skipped in chars.by_ref() {
                    if skipped == '\n' {
                        break;
                    }
                }
            }
            '\\' => {
                let escaped = chars.next().ok_or(SplitError::DanglingEscape)?;
                word.get_or_insert_default().push(escaped);
            }
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or(SplitError::OpenQuote)? {
                        '\'' => break,
                        inside => word.push(inside),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or(SplitError::OpenQuote)? {
                        '"' => break,
                        '\\' => {
                            let escaped = chars.next().ok_or(SplitError::DanglingEscape)?;
                            // Inside double quotes a backslash escapes only the quote and itself.
                            if escaped != '"' && escaped != '\\' {
                                word.push('\\');
                            }
                            word.push(escaped);
                        }
                        inside => word.push(inside),
                    }
                }
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn words_quotes_and_comments() {
        assert_eq!(
            split(r#"h k={"x":1} l="'5'" n="x # y" z=a#b c"#).unwrap(),
            ["h", "k={x:1}", "l='5'", "n=x # y", "z=a"]
        );
        assert_eq!(split(r#"a "" b\ c "d\"e\n""#).unwrap(), ["a", "", "b c", r#"d"e\n"#]);
        assert_eq!(split("h # all the rest").unwrap(), ["h"]);
    }

    #[test]
    fn unbalanced() {
        assert_eq!(split("h a='1"), Err(SplitError::OpenQuote));
        assert_eq!(split("h a=\"1"), Err(SplitError::OpenQuote));
        assert_eq!(split("h a\\"), Err(SplitError::DanglingEscape));
    }
}
