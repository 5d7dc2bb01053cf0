//! Masking secrets in text that people shall see (I14). Too much is masked rather than too little: a line that hides more
//! than it must can still be looked at on the node. What is masked cannot be told from its mask, not even its length.
//!
//! Masked is: everything behind a word that names a secret, on its line, and below it where the value goes on there; the
//! inside of private keys; passwords in URLs; and what looks like a token by itself. Masking twice changes nothing.

/// What stands in the place of a secret.
pub const MASK: &str = "***";

/// Parts of a name that make it the name of a secret, wherever they stand in it.
const ANYWHERE: [&str; 16] = [
    "password",
    "passwd",
    "passphrase",
    "passwort",
    "kennwort",
    "requirepass",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "privatekey",
    "signingkey",
    "credential",
    "authorization",
    "connectionstring",
    "bearer",
];
/// Whole words of a name that do.
const WORDS: [&str; 12] = ["pass", "pwd", "pw", "key", "keys", "auth", "salt", "cookie", "dsn", "sas", "pin", "otp"];
/// How tokens begin that carry their kind in front.
const BEGINNINGS: [&str; 15] = [
    "AKIA",
    "ASIA",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "xoxa-",
    "sk-",
    "eyJ",
    "AIza",
];
/// From this length on letters of both cases and digits without a word's shape are taken for a token.
const LONG: usize = 24;

/// The text with its secrets masked, line by line: it has as many lines as before.
pub fn mask(text: &str) -> String {
    let mut below = Below::Nothing;
    let mut masked = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (body, end) = split_end(line);
        masked.push_str(&mask_line(body, &mut below));
        masked.push_str(end);
    }
    masked
}

/// Whether text is one that people read in lines: what has other control characters is binary to them.
pub fn is_plain(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t' | '\r'))
}

/// How what is masked goes on below the line in which it began.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Below {
    Nothing,
    /// The next line that is not empty, and what is indented more than the line it began in.
    Value {
        indent: usize,
        next: Next,
    },
    /// Everything up to the end of a private key.
    Key,
    /// Everything up to a line with this in it.
    Until(&'static str),
    /// Everything up to a line that is indented no more than this and closes a bracket.
    Bracket {
        indent: usize,
    },
    /// The next line, since this one ends with a backslash.
    Continued {
        indent: usize,
    },
    /// The values of a section with a secret's name.
    Section,
}

/// Whether the next line belongs to the value whatever its indentation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Belongs,
    IfIndented,
}

fn split_end(line: &str) -> (&str, &str) {
    let body = line.strip_suffix('\n').unwrap_or(line);
    let body = body.strip_suffix('\r').unwrap_or(body);
    line.split_at(body.len())
}

fn mask_line(line: &str, below: &mut Below) -> String {
    let indent = line.len() - line.trim_start().len();
    let whole = || if line.trim().is_empty() { line.to_owned() } else { format!("{}{MASK}", &line[..indent]) };
    match below.clone() {
        Below::Nothing => {}
        Below::Key => {
            if line.contains("-----END") {
                *below = Below::Nothing;
                return if line.trim().starts_with("-----END") { line.to_owned() } else { whole() };
            }
            return whole();
        }
        Below::Until(end) => {
            if line.contains(end) {
                *below = Below::Nothing;
            }
            return whole();
        }
        Below::Bracket { indent: outer } => {
            if indent <= outer && line.trim_start().starts_with([']', '}', ')']) {
                *below = Below::Nothing;
                // What stands behind the bracket is no longer told apart from the value.
                return if line.trim_end_matches([',', ';']).trim().len() <= 1 { line.to_owned() } else { whole() };
            }
            return whole();
        }
        Below::Continued { indent } => {
            if !line.trim_end().ends_with('\\') {
                *below = Below::Value { indent, next: Next::IfIndented };
            }
            return whole();
        }
        Below::Value { indent: outer, next } => {
            if line.trim().is_empty() {
                return line.to_owned();
            }
            if indent > outer || next == Next::Belongs {
                *below = Below::Value { indent: outer, next: Next::IfIndented };
                return whole();
            }
            *below = Below::Nothing;
        }
        Below::Section => {
            if line.trim_start().starts_with('[') {
                *below = Below::Nothing;
            } else if let Some(at) = line.find(['=', ':']) {
                return format!("{}{MASK}", &line[..=at]);
            } else {
                return whole();
            }
        }
    }
    if let Some(at) = line.find("-----BEGIN")
        && line[at..].to_ascii_uppercase().contains("PRIVATE KEY")
    {
        if !line[at..].contains("-----END") {
            *below = Below::Key;
        }
        // The label ends with five dashes; a key that is written into one line goes on behind them.
        let label = line[at + 5..].find("-----").map_or(line.len(), |dashes| at + 5 + dashes + 5);
        let head = mask_tokens(&line[..label]);
        return if line[label..].trim().is_empty() { head + &line[label..] } else { head + MASK };
    }
    if let Some(title) = line.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']'))
        && let Some((_, value)) = secret_in(line)
    {
        *below = Below::Section;
        // More than a name in the brackets may be a list, or the value itself.
        let is_title = title.trim_matches(['[', ']']).chars().all(is_name);
        return if is_title { line.to_owned() } else { format!("{}{MASK}]", mask_tokens(&line[..value])) };
    }
    // Before names are looked for: a password may look like one.
    let line = mask_urls(line);
    let line = line.as_str();
    match secret_in(line) {
        None => mask_tokens(line),
        Some((name_end, value)) => {
            let rest = line[value..].trim();
            *below = goes_on(&line[name_end..], rest, indent);
            // Nothing is left to hide where the name ends its line, but for what comes below.
            if rest.is_empty() {
                return mask_tokens(&line[..name_end]) + &line[name_end..];
            }
            mask_tokens(&line[..value]) + MASK
        }
    }
}

/// How a value goes on that begins with `rest`; `behind` is everything behind its name.
fn goes_on(behind: &str, rest: &str, indent: usize) -> Below {
    for quotes in ["\"\"\"", "'''"] {
        if let Some(inside) =
            behind.trim_start_matches(|c: char| c.is_whitespace() || "=:>".contains(c)).strip_prefix(quotes)
            && !inside.contains(quotes)
        {
            return Below::Until(quotes);
        }
    }
    if rest.ends_with('\\') {
        return Below::Continued { indent };
    }
    let opens = |open: char, close: char| rest.starts_with(open) && !rest.contains(close);
    if opens('[', ']') || opens('{', '}') || opens('(', ')') {
        return Below::Bracket { indent };
    }
    // A name alone, as in `<key>Password</key>`: its value stands below.
    let named_below = secret_in(rest).is_some_and(|(_, value)| {
        let rest = rest[value..].trim();
        rest.is_empty() || rest.starts_with("</")
    });
    if rest.is_empty() || rest.starts_with("</") || named_below {
        return Below::Value { indent, next: Next::Belongs };
    }
    // A block, or one that is folded; a plain value may be folded too.
    Below::Value { indent, next: Next::IfIndented }
}

/// Where the name of a secret ends in a line, and where its value begins.
fn secret_in(line: &str) -> Option<(usize, usize)> {
    let mut at = 0;
    while at < line.len() {
        let rest = &line[at..];
        let length = rest.find(|c: char| !is_name(c)).unwrap_or(rest.len());
        if length > 0 && names_secret(&rest[..length]) {
            let end = at + length;
            let tail = &line[end..];
            let value = tail.find(|c: char| !is_separator(c)).unwrap_or(tail.len());
            return Some((end, end + value));
        }
        at += length.max(rest.chars().next().map_or(1, char::len_utf8));
    }
    None
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// What may stand between a name and its value. Quotes and brackets of the value itself are masked with it.
fn is_separator(c: char) -> bool {
    c.is_whitespace() || matches!(c, '=' | ':' | '"' | '\'' | '`' | '>' | ',' | '\u{a0}') && c != '\n'
}

/// Whether a name is one of a secret: `DB_PASSWORD`, `apiKey`, `tls.key`.
fn names_secret(name: &str) -> bool {
    let plain: String = name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    ANYWHERE.iter().any(|part| plain.contains(part)) || words(name).iter().any(|word| WORDS.contains(&word.as_str()))
}

/// The words of a name, in lower case: cut at what is no letter and where small letters turn large.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for c in name.chars() {
        if !c.is_alphabetic() || (c.is_uppercase() && before.is_lowercase()) {
            words.push(String::new());
        }
        if c.is_alphabetic()
            && let Some(last) = words.last_mut()
        {
            last.extend(c.to_lowercase());
        }
        before = c;
    }
    words
}

/// Passwords in URLs, and what is a token by its look.
fn mask_tokens(line: &str) -> String {
    let line = mask_urls(line);
    let mut masked = String::with_capacity(line.len());
    let mut rest = line.as_str();
    while !rest.is_empty() {
        let length = rest.find(|c: char| !is_token(c)).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(length);
        masked.push_str(if is_secret_by_look(word) { MASK } else { word });
        let other = tail.find(is_token).unwrap_or(tail.len());
        masked.push_str(&tail[..other]);
        rest = &tail[other..];
    }
    masked
}

fn mask_urls(line: &str) -> String {
    let mut masked = String::new();
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let authority = at + 3;
        let end = rest[authority..]
            .find(|c: char| c.is_whitespace() || matches!(c, '/' | '"' | '\'' | '?' | '#' | '<' | '>'))
            .map_or(rest.len(), |end| authority + end);
        match rest[authority..end].rfind('@') {
            None => masked.push_str(&rest[..end]),
            Some(sign) => {
                let user = &rest[authority..authority + sign];
                masked.push_str(&rest[..authority]);
                if let Some((name, _)) = user.split_once(':') {
                    masked.push_str(name);
                    masked.push(':');
                }
                masked.push_str(MASK);
                masked.push_str(&rest[authority + sign..end]);
            }
        }
        rest = &rest[end..];
    }
    masked + rest
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+' | '=')
}

fn is_secret_by_look(word: &str) -> bool {
    let begins = BEGINNINGS.iter().any(|beginning| word.starts_with(beginning) && word.len() >= beginning.len() + 12);
    let of = |is: fn(&char) -> bool| word.chars().filter(is).count();
    let (small, large, digits) = (of(char::is_ascii_lowercase), of(char::is_ascii_uppercase), of(char::is_ascii_digit));
    // Digests are in small letters and are what this whole system talks in.
    begins || (word.len() >= LONG && small >= 3 && large >= 3 && digits >= 3)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const CANARY: &str = "c4n4ry-S3cr3t";

    /// Every way in which files say a secret; `§` is its place.
    const FORMS: [&str; 50] = [
        "password=§",
        "  password: §",
        "PASSWORD = \"§\"",
        "db.password: '§'",
        "{\"user\": \"x\", \"password\": \"§\", \"port\": 1}",
        "{\"apiKey\":\"§\"}",
        "export DB_PASSWORD=§",
        "Environment=TOKEN=§",
        "--password § --port 1",
        "--auth-token=§",
        "requirepass §",
        "machine x login y password §",
        "<password>§</password>",
        "<add key=\"x\" value=\"§\"/>",
        "<key>Password</key>\n<string>§</string>",
        "- name: DB_PASSWORD\n  value: §",
        "client_secret = §",
        "clientSecret: §",
        "aws_access_key_id = §",
        "tls.key: §",
        "Authorization: Basic §",
        "Authorization: Bearer §",
        "Cookie: sid=§",
        "credentials:\n  user: x\n  §: y\nnext: 1",
        "secrets:\n  - §\n  - §\nnext: 1",
        "token: |\n  §\n  §\nnext: 1",
        "token: >-\n  §\n\n  §\nnext: 1",
        "token = \"\"\"\n§\n§\n\"\"\"",
        "token = '''\n  §\n'''",
        "tokens = [\n  \"§\",\n]",
        "\"tokens\": [\n\"§\",\n\"§\"\n]",
        "TOKEN=a\\\n§\\\n§",
        "[secrets]\ndb = §\nother: §\n[next]\nx = 1",
        "[ password §]",
        "[[db.secrets]]\ndb = §",
        "[secret \"§\"]\nx = §",
        "postgres://user:§@host/db",
        "url: https://§@host/",
        "a redis://:§@h:1 b",
        "http://u:p@§@h/",
        "dsn=user:§@tcp(h)/db",
        "-----BEGIN RSA PRIVATE KEY-----\n§\n§\n-----END RSA PRIVATE KEY-----",
        "  -----BEGIN OPENSSH PRIVATE KEY-----\n  §\n  -----END OPENSSH PRIVATE KEY-----",
        "x: \"-----BEGIN PRIVATE KEY-----\\n§\\n-----END PRIVATE KEY-----\"",
        "-----BEGIN PRIVATE KEY-----§",
        "pass: §",
        "pwd: §",
        "SECRET_KEY_BASE: §",
        "passwort: §",
        "salt=§",
    ];

    #[test]
    fn no_form_of_a_secret_is_shown() {
        for form in FORMS {
            for end in ["", "\n", "\r\n"] {
                let text = format!("# a comment\nport = 1\n{}{end}", form.replace('§', CANARY));
                let masked = mask(&text);
                assert!(!masked.contains(CANARY), "{form:?}: {masked}");
                assert!(masked.contains(MASK), "{form:?}: {masked}");
                assert!(masked.starts_with("# a comment\nport = 1\n"), "{form:?}: {masked}");
                assert_eq!(masked.lines().count(), text.lines().count(), "{form:?}");
                assert_eq!(mask(&masked), masked, "{form:?}: masking twice");
            }
        }
    }

    #[test]
    fn what_is_no_secret_is_shown() {
        for text in [
            "port = 8080\n",
            "greeting: hello\nname: web\n",
            "path = /usr/share/monkeys\n",
            "url: https://example.com/a?b=1\n",
            "sha256 = 51ab09c4e2f151ab09c4e2f151ab09c4e2f151ab09c4e2f151ab09c4e2f1abcd\n",
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
            "compass = north\n",
            "",
            "\n\n",
        ] {
            assert_eq!(mask(text), text);
        }
        assert_eq!(mask("user: x\npassword: y\nport: 1\n"), "user: x\npassword: ***\nport: 1\n");
        assert_eq!(mask("token:\n  a\nport: 1\n"), "token:\n  ***\nport: 1\n");
        assert_eq!(mask("postgres://app:pw@db/x port=1"), "postgres://app:***@db/x port=1");
    }

    #[test]
    fn tokens_are_known_by_their_look() {
        for token in [
            "AKIAIOSFODNN7EXAMPLE",
            "ghp_0123456789abcdefghijABCDEFGHIJ012345",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJlLXNpZw",
            "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY00",
        ] {
            let masked = mask(&format!("x: {token} y"));
            assert!(masked.starts_with("x: ***") && !masked.contains(token), "{masked}");
        }
    }

    proptest! {
        /// Whatever stands around it: a secret behind its name is not shown, and masking twice changes nothing.
        #[test]
        fn a_named_secret_is_never_shown(
            before in "[ -~]{0,20}",
            name in prop_oneof!["password", "Api_Key", "clientSecret", "TOKEN", "db\\.pass"],
            between in prop_oneof![" ", "=", ": ", " = ", "\": \"", "='", ":\n    "],
            after in "[ -~\n]{0,40}",
        ) {
            let text = format!("{before} {name}{between}{CANARY}{after}");
            let masked = mask(&text);
            prop_assert!(!masked.contains(CANARY), "{}", masked);
            prop_assert_eq!(mask(&masked), masked);
        }

        #[test]
        fn any_text_keeps_its_lines(text in "\\PC{0,80}(\n\\PC{0,40}){0,4}") {
            let masked = mask(&text);
            prop_assert_eq!(masked.split('\n').count(), text.split('\n').count());
        }
    }
}
