//! A point in time as it stands in a statement: RFC 3339, UTC, milliseconds. One spelling only, so that the same
//! statement is always the same bytes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// A time between 1970 and 9999: `2026-11-27T16:03:39.123Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Moment(i64);

/// The last millisecond of the year 9999.
const LAST: i64 = 253_402_300_799_999;
const DAY: i64 = 86_400_000;

/// Why a time could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a time as statements have it: 2026-11-27T16:03:39.123Z")]
pub struct MomentError(String);

impl Moment {
    /// The same time for everything else.
    pub fn timestamp(self) -> Timestamp {
        Timestamp(self.0)
    }
}

impl From<Timestamp> for Moment {
    /// Times outside of the years that can be written come from a broken clock, and are written as the nearest.
    fn from(at: Timestamp) -> Self {
        Self(at.0.clamp(0, LAST))
    }
}

/// Year, month and day of a day since 1970, by counting from 1 March of the year 0 in eras of 400 years.
fn date(day: i64) -> (i64, i64, i64) {
    let shifted = day + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The day since 1970 of a date; a date that does not exist gives that of another.
fn day(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year - 719_468
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = date(self.0 / DAY);
        let ms = self.0 % DAY;
        let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1_000)
    }
}

impl FromStr for Moment {
    type Err = MomentError;

    fn from_str(text: &str) -> Result<Self, MomentError> {
        let refuse = || MomentError(text.chars().take(80).flat_map(char::escape_default).collect());
        let number = |from: usize, to: usize| {
            let digits = text.get(from..to).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
            digits.and_then(|digits| digits.parse::<i64>().ok()).ok_or_else(refuse)
        };
        let day = day(number(0, 4)?, number(5, 7)?.max(1), number(8, 10)?);
        let ms = ((number(11, 13)? * 60 + number(14, 16)?) * 60 + number(17, 19)?) * 1_000 + number(20, 23)?;
        let read = Self(day * DAY + ms);
        // What does not read back as it was written has another shape, or names a day that does not exist.
        if (0..=LAST).contains(&read.0) && read.to_string() == text { Ok(read) } else { Err(refuse()) }
    }
}

impl TryFrom<String> for Moment {
    type Error = MomentError;

    fn try_from(text: String) -> Result<Self, MomentError> {
        text.parse()
    }
}

impl From<Moment> for String {
    fn from(moment: Moment) -> String {
        moment.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_times_are_written_as_the_calendar_has_them() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_764_259_419_123, "2025-11-27T16:03:39.123Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (LAST, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(Moment::from(Timestamp(ms)).to_string(), text);
            assert_eq!(text.parse::<Moment>().unwrap().timestamp(), Timestamp(ms));
        }
        assert_eq!(Moment::from(Timestamp(-1)), Moment(0));
        assert_eq!(Moment::from(Timestamp(i64::MAX)), Moment(LAST));
    }

    #[test]
    fn one_spelling_only() {
        for bad in [
            "",
            "2025-11-27T16:03:39Z",
            "2025-11-27T16:03:39.123+00:00",
            "2025-11-27t16:03:39.123z",
            "2025-11-27 16:03:39.123Z",
            "2025-02-29T00:00:00.000Z",
            "2025-13-01T00:00:00.000Z",
            "2025-00-01T00:00:00.000Z",
            "2025-11-27T24:00:00.000Z",
            "2025-11-27T23:59:60.000Z",
            "1969-12-31T23:59:59.999Z",
            "+025-11-27T16:03:39.123Z",
            "2025-11-27T16:03:39.123Zx",
            "２025-11-27T16:03:39.123Z",
        ] {
            assert!(bad.parse::<Moment>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_time_reads_back(ms in 0..=LAST) {
            prop_assert_eq!(Moment(ms).to_string().parse::<Moment>().unwrap(), Moment(ms));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,30}") {
            if let Ok(moment) = text.parse::<Moment>() {
                prop_assert_eq!(moment.to_string(), text);
            }
        }
    }
}
