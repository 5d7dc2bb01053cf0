//! Splits a command line into words as a shell would, without a shell: what only a shell can do is refused.

/// Splits `line` into program and arguments. Quotes and `\` work as in sh; `${NAME}` is left for the agent.
///
/// # Errors
/// What a shell would be needed for, and quotes that do not end: a sentence and a line of help.
pub(super) fn split(line: &str) -> Result<Vec<String>, (String, String)> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('\'') => break,
                        Some(c) => word.push(c),
                        None => return Err(open("'")),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('"') => break,
                        Some('\\') => match chars.next() {
                            Some(c @ ('"' | '\\' | '$' | '`')) => word.push(c),
                            Some(c) => word.extend(['\\', c]),
                            None => return Err(open("\"")),
                        },
                        Some('`') => return Err(shell("`")),
                        Some('$') => dollar(word, chars.peek().copied())?,
                        Some(c) => word.push(c),
                        None => return Err(open("\"")),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(chars.next().ok_or_else(|| open("\\"))?),
            '|' | '&' | ';' | '<' | '>' | '`' => return Err(shell(&c.to_string())),
            '$' => dollar(word.get_or_insert_default(), chars.peek().copied())?,
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word.take());
    if let Some((name, _)) = words.first().and_then(|first| first.split_once('='))
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    {
        return Err((
            format!("'{name}=…' before the program needs a shell"),
            "put it under run: {command: …, environment: {NAME: value}}".to_owned(),
        ));
    }
    Ok(words)
}

fn dollar(word: &mut String, next: Option<char>) -> Result<(), (String, String)> {
    match next {
        Some('(') => Err(shell("$(")),
        Some(c) if c.is_ascii_alphabetic() || c == '_' => Err((
            "a variable without braces would reach the program as it is written".to_owned(),
            "write ${NAME}".to_owned(),
        )),
        _ => {
            word.push('$');
            Ok(())
        }
    }
}

fn shell(what: &str) -> (String, String) {
    (
        format!("'{what}' needs a shell, and there is none"),
        "put it in quotes if it is meant literally, or run a shell: [sh, -c, \"…\"]".to_owned(),
    )
}

fn open(what: &str) -> (String, String) {
    (
        format!("the command ends inside {what}"),
        "close the quotes; in YAML the whole value may need quotes of its own".to_owned(),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn words_are_those_of_a_shell() {
        for (line, words) in [
            ("bin/hello --port ${PORT}", &["bin/hello", "--port", "${PORT}"][..]),
            ("  a\t b\nc ", &["a", "b", "c"]),
            ("a 'b  c'd \"e f\"", &["a", "b  cd", "e f"]),
            ("a '' \"\"", &["a", "", ""]),
            (r#"a \"b\" "c\"d\\e\n" 'f\g' h\ i"#, &["a", "\"b\"", "c\"d\\e\\n", "f\\g", "h i"]),
            ("a '${B} $C |' \"x|y;z>\" 5$ --x=y", &["a", "${B} $C |", "x|y;z>", "5$", "--x=y"]),
            ("", &[]),
        ] {
            assert_eq!(split(line).unwrap(), words, "{line}");
        }
    }

    #[test]
    fn what_needs_a_shell_is_refused() {
        for line in [
            "a | b",
            "a && b",
            "a; b",
            "a > b",
            "a <b",
            "a &",
            "a `b`",
            "a $(b)",
            "a \"$(b)\"",
            "a \"`b`\"",
            "a $HOME",
            "a \"$HOME\"",
            "X=1 a",
            "a 'b",
            "a \"b",
            "a \\",
            "a \"b\\",
        ] {
            assert!(split(line).is_err(), "{line}");
        }
    }
}
