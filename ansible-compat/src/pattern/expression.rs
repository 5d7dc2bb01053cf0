//! `~` patterns: Python's `re` read with the `regex` crate, whose work is linear in the length of a name.
//!
//! Both read the same text alike, or it is refused by name: what `regex` cannot do (look-around, back-references,
//! atomic groups, conditionals), and what it takes for something else (`\<`, `a++`, `[a&&b]`, `(?U)`). What is left
//! differs only outside host names: `\w`, `\d` and `\s` are Unicode's own classes, which Python has a few characters
//! more or less of. As `re.match` does, an expression matches at the start of a name and need not reach its end.

use regex::{Regex, RegexBuilder};

/// Bytes a compiled expression may take; counted repetitions of `\w` reach it first.
const MAX_COMPILED: usize = 1024 * 1024;

/// Bytes of the states an expression keeps while it is tried.
const MAX_STATES: usize = 1024 * 1024;

/// Brackets within brackets.
const MAX_NESTING: u32 = 50;

/// A regular expression, ready to be tried on names.
#[derive(Clone, Debug)]
pub(crate) struct Expression {
    regex: Regex,
}

/// Why an expression is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Python may know it; here it is not available. The feature by name, and what to write instead.
    NotAvailable(&'static str, &'static str),
    /// It does not compile, for the reason given.
    Invalid(String),
}

impl Expression {
    pub(crate) fn new(text: &str) -> Result<Self, Refused> {
        Dialect { text: text.chars().collect(), at: 0 }.check()?;
        let built = RegexBuilder::new(text)
            .size_limit(MAX_COMPILED)
            .dfa_size_limit(MAX_STATES)
            .nest_limit(MAX_NESTING)
            .build()
            .map_err(|cause| Refused::Invalid(one_line(&cause)))?;
        Ok(Self { regex: built })
    }

    pub(crate) fn fits(&self, name: &str) -> bool {
        // The leftmost match is found, so one at the start is never passed over.
        self.regex.find(name).is_some_and(|found| found.start() == 0)
    }
}

/// The reason without the picture that points into the expression.
fn one_line(cause: &regex::Error) -> String {
    if let regex::Error::CompiledTooBig(limit) = cause {
        return format!("it takes more than {limit} bytes once compiled");
    }
    let text = cause.to_string();
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

/// Walks over an expression and stops at the first thing the two dialects do not share.
struct Dialect {
    text: Vec<char>,
    at: usize,
}

impl Dialect {
    fn check(mut self) -> Result<(), Refused> {
        let mut at_start = true;
        let mut repeated = false;
        while let Some(c) = self.next() {
            let was_repeated = std::mem::take(&mut repeated);
            match c {
                '\\' => self.escape(InClass::No)?,
                '[' => self.class()?,
                '(' if self.peek() == Some('?') => match self.group(at_start)? {
                    Group::Flags => continue,
                    Group::Contents => {}
                },
                '*' | '+' | '?' | '{' => {
                    if was_repeated {
                        return no(
                            "a repetition of a repetition (`a++`, `a**`)",
                            "put the inner one in brackets, `(?:a+)`",
                        );
                    }
                    if c == '{' {
                        self.count()?;
                    }
                    // A lazy repetition matches the same names.
                    if self.peek() == Some('?') {
                        self.at += 1;
                    }
                    repeated = true;
                }
                _ => {}
            }
            at_start = false;
        }
        Ok(())
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        Some(c)
    }

    fn peek(&self) -> Option<char> {
        self.text.get(self.at).copied()
    }

    fn follows(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(at, c)| self.text.get(self.at + at) == Some(&c))
    }

    /// Behind a backslash.
    fn escape(&mut self, place: InClass) -> Result<(), Refused> {
        let Some(c) = self.next() else { return Ok(()) };
        match c {
            '0'..='9' => no("a back-reference or octal number (`\\1`)", "write the text out"),
            'Z' | 'z' => no("the end `\\Z`", "write `$`"),
            'N' => no("a character by name (`\\N{…}`)", "write the character itself"),
            'p' | 'P' => no("a class by Unicode name (`\\p{…}`)", "write `\\w`, `\\d` or the characters in brackets"),
            '<' | '>' => no("a word boundary `\\<`", "write `<` for the character, `\\b` for the boundary"),
            'b' if place == InClass::Yes => no("a backspace in brackets (`[\\b]`)", "leave it out"),
            'b' | 'x' | 'u' | 'U' if self.peek() == Some('{') => {
                no("an escape with braces (`\\x{41}`)", "write two digits, `\\x41`")
            }
            _ => Ok(()),
        }
    }

    /// Behind `[`, up to and with its `]`.
    fn class(&mut self) -> Result<(), Refused> {
        if self.peek() == Some('^') {
            self.at += 1;
        }
        if self.peek() == Some(']') {
            return no("a `]` in first place in brackets", "write `\\]`");
        }
        while let Some(c) = self.next() {
            match c {
                ']' => return Ok(()),
                '\\' => self.escape(InClass::Yes)?,
                '[' => return no("a `[` in brackets", "write `\\[`"),
                '&' | '-' | '~' if self.peek() == Some(c) => {
                    return no("`&&`, `--` or `~~` in brackets", "write each character once, `-` last");
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Behind `{`: a count as both know it.
    fn count(&mut self) -> Result<(), Refused> {
        let end = self.text[self.at..].iter().position(|&c| c == '}').map(|end| self.at + end);
        let inside: String = self.text[self.at..end.unwrap_or(self.at)].iter().collect();
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let (least, most) = inside.split_once(',').unwrap_or((&inside, ""));
        match end {
            Some(end) if digits(least) && (most.is_empty() || digits(most)) => {
                self.at = end + 1;
                Ok(())
            }
            _ => no(
                "a brace that counts nothing",
                "write `{1,3}` to repeat (`{0,3}` for `{,3}`), `\\{` for the character",
            ),
        }
    }

    /// Behind `(`, at its `?`.
    fn group(&mut self, at_start: bool) -> Result<Group, Refused> {
        self.at += 1;
        if ["=", "!", "<=", "<!"].iter().any(|sign| self.follows(sign)) {
            return no("look-around (`(?=…)`, `(?!…)`)", "join a second pattern with `&` or `!`");
        }
        if self.follows("P=") || self.follows("P>") {
            return no("a back-reference (`(?P=name)`)", "write the text out");
        }
        if self.follows("P<") || self.follows(":") {
            self.at += 1;
            return Ok(Group::Contents);
        }
        match self.peek() {
            Some('<') => return no("a group named as `(?<name>…)`", "write `(?P<name>…)`"),
            Some('>') => return no("an atomic group (`(?>…)`)", "write `(?:…)`"),
            Some('#') => return no("a comment (`(?#…)`)", "leave it out"),
            Some('(') => return no("a conditional (`(?(1)…)`)", "write both cases with `|`"),
            _ => {}
        }
        let from = self.at;
        while self.peek().is_some_and(|c| matches!(c, 'i' | 'm' | 's' | '-')) {
            self.at += 1;
        }
        match self.peek() {
            Some(':') if self.at > from => Ok(Group::Contents),
            Some(')') if at_start && self.at > from && !self.text[from..self.at].contains(&'-') => {
                self.at += 1;
                Ok(Group::Flags)
            }
            Some(')') => {
                no("flags that do not stand at the start, or that switch off", "write `(?i)` first or `(?i:…)`")
            }
            _ => no("a flag other than `i`, `m` and `s`", "leave it out"),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum InClass {
    Yes,
    No,
}

/// What a `(?` opened: something to match, or only flags.
enum Group {
    Contents,
    Flags,
}

fn no<T>(what: &'static str, instead: &'static str) -> Result<T, Refused> {
    Err(Refused::NotAvailable(what, instead))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What `re.match` answers, by the documentation of Python's `re`.
    #[test]
    fn expressions_of_the_table() {
        for (text, yes, no) in [
            ("web", "web01", "xweb"),
            ("web$", "web", "web01"),
            ("^web", "web", "xweb"),
            (".*01", "web01", "web02"),
            ("db-[ab]", "db-a2", "db-c"),
            ("(?i)WEB", "web01", "db"),
            ("(?i)(?s)WEB", "web01", "db"),
            ("(?i:W)eb", "web", "wEB"),
            ("(?P<n>a|b)1", "b1", "c1"),
            ("a|b", "b", "cb"),
            ("b|ab", "abc", "cab"),
            ("w{2}x{1,}", "wwx", "wx"),
            ("w+?\\d{1,3}$", "ww123", "ww1234"),
            ("\\w+-\\d", "grün-1", "a b-1"),
            ("[\\w.-]+$", "a.b-c", "a/b"),
            ("[^.]+$", "short", "a.b"),
            ("a\\.b", "a.b", "axb"),
            ("\\bweb\\b", "web-1", "webs"),
        ] {
            let expression = Expression::new(text).unwrap_or_else(|refused| panic!("{text}: {refused:?}"));
            assert!(expression.fits(yes), "{text} {yes}");
            assert!(!expression.fits(no), "{text} {no}");
        }
    }

    #[test]
    fn what_is_not_shared_is_refused_by_name() {
        for (text, part) in [
            ("(?=w)", "look-around"),
            ("a(?<!w)", "look-around"),
            ("(a)\\1", "back-reference"),
            ("(?P<a>b)(?P=a)", "back-reference"),
            ("(?>a)", "atomic"),
            ("(a)(?(1)b)", "conditional"),
            ("(?#a)b", "comment"),
            ("(?<n>a)", "named"),
            ("(?x)a b", "flag"),
            ("(?U)a", "flag"),
            ("(?a)b", "flag"),
            ("(?", "flag"),
            ("a(?i)b", "at the start"),
            ("(?-i)b", "switch off"),
            ("a++", "repetition"),
            ("a*?*", "repetition"),
            ("a{2}{3}", "repetition"),
            ("a{,3}", "brace"),
            ("a{x}", "brace"),
            ("a{ 1 }", "brace"),
            ("a{", "brace"),
            ("a\\Z", "end"),
            ("\\N{DIGIT ONE}", "by name"),
            ("\\pL", "Unicode name"),
            ("\\<a", "boundary"),
            ("\\b{start}a", "braces"),
            ("\\x{41}", "braces"),
            ("[\\b]", "backspace"),
            ("[[:alpha:]]", "`[` in brackets"),
            ("[]a]", "first place"),
            ("[a&&b]", "`&&`"),
            ("[a--b]", "`--`"),
        ] {
            let Err(Refused::NotAvailable(what, _)) = Expression::new(text) else { panic!("{text} is read") };
            assert!(what.contains(part), "{text}: {what}");
        }
    }

    #[test]
    fn what_does_not_compile_says_why_on_one_line() {
        for (text, part) in [
            ("(", "unclosed"),
            ("a)|(b", "unopened"),
            ("[", "unclosed"),
            ("*", "repetition"),
            ("\\", "incomplete"),
            ("[b-a]", "range"),
            ("(\\w{1,200}){1,200}", "bytes once compiled"),
        ] {
            let Err(Refused::Invalid(reason)) = Expression::new(text) else { panic!("{text} is not invalid") };
            assert!(reason.contains(part) && !reason.contains('\n'), "{text}: {reason}");
        }
        let deep = format!("{}a{}", "(".repeat(200), ")".repeat(200));
        assert!(matches!(Expression::new(&deep), Err(Refused::Invalid(_))));
    }
}
