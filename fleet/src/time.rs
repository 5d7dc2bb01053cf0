//! Points in time and spans, as plain values. Nobody here asks what time it is: `now` is an argument
//! (architecture principle 3), so that every decision can be replayed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch, by the controller's clock. Times of two machines are never compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This time plus `span`; stays at the end of time rather than wrapping.
    #[must_use]
    pub fn after(self, span: Millis) -> Self {
        Self(self.0.saturating_add_unsigned(span.0))
    }

    /// How long ago `earlier` was; zero if it lies in the future.
    pub fn since(self, earlier: Timestamp) -> Millis {
        Millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// A span of time in milliseconds.
///
/// Written as in systemd, Nomad and Go: `250ms`, `30s`, `5m`, `2h`, `1d`, and sums such as `1m30s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// A span of whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000))
    }

    /// The same span for the standard library.
    pub const fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }
}

/// The longest span that may be written: 366 days. Anything longer is a typo, not a wait.
pub const LONGEST: Millis = Millis::from_secs(366 * 24 * 3_600);

/// Why a span of time could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpanError {
    /// Not a number with a unit.
    #[error("'{0}' is not a duration: write a number with a unit, such as 250ms, 30s, 5m, 2h or 1m30s")]
    Malformed(String),
    /// Longer than [`LONGEST`].
    #[error("'{0}' is longer than 366 days, the longest duration accepted here")]
    TooLong(String),
}

impl FromStr for Millis {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || SpanError::Malformed(text.to_owned());
        let too_long = || SpanError::TooLong(text.to_owned());
        if text == "0" {
            return Ok(Self(0));
        }
        let mut rest = text;
        let mut total: u64 = 0;
        if rest.is_empty() {
            return Err(malformed());
        }
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            if digits == 0 {
                return Err(malformed());
            }
            let (number, tail) = rest.split_at(digits);
            let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
            let (unit, tail) = tail.split_at(letters);
            let number: u64 = number.parse().map_err(|_| too_long())?;
            let factor = match unit {
                "ms" => 1,
                "s" => 1_000,
                "m" | "min" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return Err(malformed()),
            };
            total = number.checked_mul(factor).and_then(|part| total.checked_add(part)).ok_or_else(too_long)?;
            rest = tail;
        }
        if total > LONGEST.0 {
            return Err(too_long());
        }
        Ok(Self(total))
    }
}

impl fmt::Display for Millis {
    /// Short, for people: `850ms`, `1.2s`, `42s`, `1m42s`, `2h05m`, `9d`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0;
        match ms {
            0 => f.write_str("0s"),
            1..=999 => write!(f, "{ms}ms"),
            1_000..=9_999 if !ms.is_multiple_of(1_000) => write!(f, "{}.{}s", ms / 1_000, ms % 1_000 / 100),
            1_000..=59_999 => write!(f, "{}s", ms / 1_000),
            60_000..=3_599_999 if (ms / 1_000).is_multiple_of(60) => write!(f, "{}m", ms / 60_000),
            60_000..=3_599_999 => write!(f, "{}m{:02}s", ms / 60_000, ms / 1_000 % 60),
            3_600_000..=86_399_999 if (ms / 60_000).is_multiple_of(60) => write!(f, "{}h", ms / 3_600_000),
            3_600_000..=86_399_999 => write!(f, "{}h{:02}m", ms / 3_600_000, ms / 60_000 % 60),
            _ => write!(f, "{}d", ms / 86_400_000),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn durations_read_as_operators_write_them() {
        for (text, ms) in [
            ("0", 0),
            ("0s", 0),
            ("250ms", 250),
            ("30s", 30_000),
            ("1m30s", 90_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(text.parse::<Millis>().unwrap(), Millis(ms), "{text}");
        }
        for text in ["", "5", "s", "-1s", "1.5s", "1x", "1s ", "99999999999999999999s"] {
            assert!(text.parse::<Millis>().is_err(), "{text} must be refused");
        }
        assert!(matches!("400d".parse::<Millis>(), Err(SpanError::TooLong(_))));
    }

    #[test]
    fn durations_print_short() {
        for (ms, text) in [
            (0, "0s"),
            (850, "850ms"),
            (1_200, "1.2s"),
            (42_000, "42s"),
            (102_000, "1m42s"),
            (60_000, "1m"),
            (7_500_000, "2h05m"),
            (7_200_000, "2h"),
            (800_000_000, "9d"),
        ] {
            assert_eq!(Millis(ms).to_string(), text);
        }
    }

    #[test]
    fn time_never_wraps() {
        assert_eq!(Timestamp(i64::MAX).after(Millis(u64::MAX)), Timestamp(i64::MAX));
        assert_eq!(Timestamp(5).since(Timestamp(10)), Millis(0));
    }
}
