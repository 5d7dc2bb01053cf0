//! The numbers and strings of Python source, for `literal`.
//!
//! Absent results mean "no such token here", which makes the whole value plain text; so nothing is lost by strictness.

/// A number or a string as Python reads it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// An integer that fits 64 bits with its sign still to come.
    Int(u64),
    /// An integer that does not.
    BigInt,
    Float(f64),
    Imaginary,
    Text(String),
    Bytes(Vec<u8>),
    /// Text with something this reader does not resolve: `\N{…}` names and lone surrogates.
    OddText(&'static str),
}

/// Reads a number at the front of `text`; returns it and its length.
pub(super) fn number(text: &str) -> Option<(Token, usize)> {
    let bytes = text.as_bytes();
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if text.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(prefix)) {
            let digits = |b: &u8| (*b as char).is_digit(radix);
            let length = 2 + run_with_underscores(&bytes[2..], digits, Underscore::MayLead)?;
            ends_number(&bytes[length..])?;
            let plain = text[2..length].replace('_', "");
            let token = u64::from_str_radix(&plain, radix).map_or(Token::BigInt, Token::Int);
            return Some((token, length));
        }
    }
    let digit = |b: &u8| b.is_ascii_digit();
    let whole = run_with_underscores(bytes, digit, Underscore::Between).unwrap_or(0);
    let mut length = whole;
    let mut float = false;
    if bytes.get(length) == Some(&b'.') {
        let fraction = run_with_underscores(&bytes[length + 1..], digit, Underscore::Between).unwrap_or(0);
        if whole == 0 && fraction == 0 {
            return None;
        }
        length += 1 + fraction;
        float = true;
    }
    if length == 0 {
        return None;
    }
    if matches!(bytes.get(length), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(length + 1), Some(b'+' | b'-')));
        let exponent = run_with_underscores(&bytes[length + 1 + sign..], digit, Underscore::Between)?;
        length += 1 + sign + exponent;
        float = true;
    }
    let plain = text[..length].replace('_', "");
    if matches!(bytes.get(length), Some(b'j' | b'J')) {
        ends_number(&bytes[length + 1..])?;
        return Some((Token::Imaginary, length + 1));
    }
    ends_number(&bytes[length..])?;
    if float {
        return plain.parse().ok().map(|value| (Token::Float(value), length));
    }
    // `007` is an error in Python; `000` is not.
    if plain.len() > 1 && plain.starts_with('0') && plain.bytes().any(|b| b != b'0') {
        return None;
    }
    // Python refuses to read integers of more than 4300 digits.
    if plain.len() > 4300 {
        return None;
    }
    Some((plain.parse().map_or(Token::BigInt, Token::Int), length))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Underscore {
    Between,
    MayLead,
}

/// The length of digits with single underscores; absent without a digit or with a misplaced underscore.
fn run_with_underscores(bytes: &[u8], digit: impl Fn(&u8) -> bool, underscore: Underscore) -> Option<usize> {
    let mut length = 0;
    let mut after_digit = underscore == Underscore::MayLead;
    loop {
        match bytes.get(length) {
            Some(b) if digit(b) => after_digit = true,
            Some(b'_') if after_digit => after_digit = false,
            _ => break,
        }
        length += 1;
    }
    (length > 0 && after_digit && digit(&bytes[length - 1])).then_some(length)
}

/// A number may not run into a letter, digit, dot or underscore.
fn ends_number(rest: &[u8]) -> Option<()> {
    let runs_on = rest.first().is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.') || !b.is_ascii());
    (!runs_on).then_some(())
}

/// Reads one string literal, prefix and all, at the front of `text`; returns it and its length.
pub(super) fn string(text: &str) -> Option<(Token, usize)> {
    let open = text.find(['\'', '"'])?;
    let prefix = text[..open].to_ascii_lowercase();
    let (raw, bytes) = match prefix.as_str() {
        "" | "u" => (false, false),
        "r" => (true, false),
        "b" => (false, true),
        "br" | "rb" => (true, true),
        // `f'…'` is an expression, which a literal never is.
        _ => return None,
    };
    let quote = &text[open..=open];
    let triple = quote.repeat(3);
    let delimiter = if text[open..].starts_with(&triple) { triple.as_str() } else { quote };
    let start = open + delimiter.len();
    let mut at = start;
    loop {
        let rest = &text[at..];
        if rest.starts_with(delimiter) {
            break;
        }
        let mut chars = rest.chars();
        let c = chars.next()?;
        at += c.len_utf8();
        match c {
            '\\' => at += chars.next()?.len_utf8(),
            '\n' if delimiter.len() == 1 => return None,
            _ => {}
        }
    }
    let inside = &text[start..at];
    let length = at + delimiter.len();
    if bytes {
        if !inside.is_ascii() {
            return None;
        }
        let value = if raw { inside.as_bytes().to_vec() } else { unescape_bytes(inside)? };
        return Some((Token::Bytes(value), length));
    }
    let token = if raw { Token::Text(inside.to_owned()) } else { unescape_text(inside)? };
    Some((token, length))
}

fn unescape_text(inside: &str) -> Option<Token> {
    let mut out = String::with_capacity(inside.len());
    let mut rest = inside;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let c = rest.chars().next()?;
        rest = &rest[c.len_utf8()..];
        let width = match c {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            'N' => return Some(Token::OddText("a `\\N{…}` character name")),
            _ => 0,
        };
        if width > 0 {
            let digits = rest.get(..width).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
            let code = u32::from_str_radix(digits, 16).ok().filter(|&code| code <= 0x10_FFFF)?;
            match char::from_u32(code) {
                Some(c) => out.push(c),
                None => return Some(Token::OddText("half a surrogate pair")),
            }
            rest = &rest[width..];
        } else if c.is_digit(8) {
            let (code, used) = octal(c, rest);
            out.push(char::from_u32(code)?);
            rest = &rest[used..];
        } else if let Some(simple) = simple_escape(c) {
            out.push(simple);
        } else if c != '\n' {
            // An unknown escape keeps its backslash.
            out.push('\\');
            out.push(c);
        }
    }
    out.push_str(rest);
    Some(Token::Text(out))
}

fn unescape_bytes(inside: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(inside.len());
    let mut rest = inside;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at + 1..];
        let c = rest.chars().next()?;
        rest = &rest[c.len_utf8()..];
        if c == 'x' {
            let digits = rest.get(..2).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
            out.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &rest[2..];
        } else if c.is_digit(8) {
            let (code, used) = octal(c, rest);
            out.push((code & 0xff) as u8);
            rest = &rest[used..];
        } else if let Some(simple) = simple_escape(c) {
            out.push(simple as u8);
        } else if c != '\n' {
            out.push(b'\\');
            out.push(c as u8);
        }
    }
    out.extend_from_slice(rest.as_bytes());
    Some(out)
}

/// Up to three octal digits, the first already taken; the value and how many more were used.
fn octal(first: char, rest: &str) -> (u32, usize) {
    let mut code = first.to_digit(8).unwrap_or(0);
    let mut used = 0;
    for digit in rest.chars().take(2).map_while(|c| c.to_digit(8)) {
        code = code * 8 + digit;
        used += 1;
    }
    (code, used)
}

fn simple_escape(c: char) -> Option<char> {
    Some(match c {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'v' => '\x0b',
        '\\' | '\'' | '"' => c,
        _ => return None,
    })
}
