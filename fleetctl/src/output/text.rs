//! Small pieces of text: ages, times, sizes, counts, and making foreign text harmless. No decisions.

use fleet::Millis;

/// `text` with every control character shown rather than sent: what a node or a file name says must not be able to
/// move the cursor or clear the screen of the person who reads it.
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' | '\r' => ' ',
            // Also the C1 controls and the characters that reorder or hide text.
            c if c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}') => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// A dash where there is nothing to say.
pub fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { plain(text) }
}

/// An age in one unit, as kubectl writes it: `0s`, `42s`, `12m`, `3h`, `9d`.
pub fn age(ms: u64) -> String {
    match ms / 1_000 {
        s @ 0..=119 => format!("{s}s"),
        s @ 120..=7_199 => format!("{}m", s / 60),
        s @ 7_200..=172_799 => format!("{}h", s / 3_600),
        s => format!("{}d", s / 86_400),
    }
}

/// The age at `now_ms` of something that happened at `then_ms`, both by the controller's clock.
pub fn age_at(now_ms: i64, then_ms: i64) -> String {
    age(elapsed(now_ms, then_ms))
}

/// Milliseconds from `then_ms` to `now_ms`; zero if that lies ahead.
pub fn elapsed(now_ms: i64, then_ms: i64) -> u64 {
    u64::try_from(now_ms.saturating_sub(then_ms)).unwrap_or(0)
}

/// How long something took, from the controller's two times: `0.4s`, `1m42s`.
pub fn took(from_ms: i64, to_ms: i64) -> String {
    let ms = elapsed(to_ms, from_ms);
    // A tenth of a second is as fine as a person reads; whole seconds from ten on.
    if ms < 1_000 { format!("{}.{}s", ms / 1_000, ms % 1_000 / 100) } else { Millis(ms).to_string() }
}

/// A time as RFC 3339 in UTC, to the millisecond if there is one.
pub fn rfc3339(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| format!("invalid:{ms}"), |t| t.to_string())
}

/// A time as RFC 3339 in UTC, to the second: what log lines carry.
pub fn rfc3339_seconds(ms: i64) -> String {
    rfc3339(ms.div_euclid(1_000).saturating_mul(1_000))
}

/// In which zone tables show absolute times; documents always use UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zone {
    /// The reader's own.
    Local,
    /// `--utc`.
    Utc,
}

/// A time to the minute, for tables: `2026-11-21 09:14`.
pub fn minute(ms: i64, zone: Zone) -> String {
    let Ok(time) = jiff::Timestamp::from_millisecond(ms) else { return format!("invalid:{ms}") };
    let zone = match zone {
        Zone::Local => jiff::tz::TimeZone::system(),
        Zone::Utc => jiff::tz::TimeZone::UTC,
    };
    time.to_zoned(zone).strftime("%Y-%m-%d %H:%M").to_string()
}

/// A size as people write it, in decimal units: `812 B`, `2.1 kB`, `31.0 MB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1_000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1_000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1_000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `1 node`, `3 nodes`.
pub fn count(n: usize, one: &str) -> String {
    let plural = match (n, one.ends_with('s')) {
        (1, _) => "",
        (_, false) => "s",
        (_, true) => "es",
    };
    format!("{n} {one}{plural}")
}

/// The first 12 digits of a digest, which are enough for eyes: `51ab09c4e2f1`.
pub fn short_digest(digest: &str) -> String {
    plain(&digest.trim_start_matches("sha256:").chars().take(12).collect::<String>())
}

/// `text` cut to `width` columns. Counts characters: the live view is cut so that no line wraps, and a line that is
/// one column short does no harm.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_one_unit() {
        for (ms, text) in
            [(0, "0s"), (59_900, "59s"), (119_000, "119s"), (720_000, "12m"), (7_200_000, "2h"), (800_000_000, "9d")]
        {
            assert_eq!(age(ms), text);
        }
        assert_eq!(age_at(1_000, 5_000), "0s", "clocks that disagree give no negative age");
    }

    #[test]
    fn sizes_are_decimal() {
        for (bytes, text) in
            [(0, "0 B"), (999, "999 B"), (2_100, "2.1 kB"), (999_999, "1.0 MB"), (31_000_000, "31.0 MB")]
        {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn times_are_rfc_3339_in_utc() {
        assert_eq!(rfc3339(1_795_252_443_250), "2026-11-21T09:14:03.25Z");
        assert_eq!(rfc3339_seconds(1_795_252_443_250), "2026-11-21T09:14:03Z");
        assert_eq!(minute(1_795_252_443_250, Zone::Utc), "2026-11-21 09:14");
        assert_eq!(rfc3339(i64::MAX), format!("invalid:{}", i64::MAX));
    }

    #[test]
    fn foreign_text_cannot_drive_the_terminal() {
        assert_eq!(plain("a\u{1b}[31mb\nc\u{202e}d"), "a\u{fffd}[31mb c\u{fffd}d");
    }
}
