//! Dates and times of YAML 1.1, turned into the ISO form Ansible writes them in.
//!
//! `2024-01-01` without quotes is a date to Python's YAML, not text; so it can be a value but never a name.

/// What an unquoted scalar is in the eyes of the timestamp rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Timestamp {
    /// Nothing of the kind.
    No,
    /// A day or moment in ISO form.
    Iso(String),
    /// Shaped like one, but there is no such day or time; Python refuses the whole file.
    Impossible,
}

/// Reads an unquoted scalar as a timestamp.
pub(super) fn timestamp(text: &str) -> Timestamp {
    // Nearly all scalars leave here.
    if !text.is_ascii() || text.len() < 8 || text.as_bytes()[4] != b'-' {
        return Timestamp::No;
    }
    match Shape::read(text) {
        None => Timestamp::No,
        Some(shape) => shape.iso().map_or(Timestamp::Impossible, Timestamp::Iso),
    }
}

struct Shape {
    date: [u32; 3],
    time: Option<Moment>,
}

struct Moment {
    clock: [u32; 3],
    micros: u32,
    zone: Zone,
}

enum Zone {
    Unknown,
    Utc,
    Offset { sign: char, hours: u32, minutes: u32 },
}

/// Walks over an ASCII text.
struct Cursor<'a>(&'a str);

impl Cursor<'_> {
    fn digits(&mut self, least: usize, most: usize) -> Option<u32> {
        let length = self.0.bytes().take(most).take_while(u8::is_ascii_digit).count();
        if length < least {
            return None;
        }
        let (digits, rest) = self.0.split_at(length);
        self.0 = rest;
        digits.parse().ok()
    }

    fn take(&mut self, wanted: char) -> Option<()> {
        self.0 = self.0.strip_prefix(wanted)?;
        Some(())
    }

    fn skip_blanks(&mut self) -> usize {
        let trimmed = self.0.trim_start_matches([' ', '\t']);
        let skipped = self.0.len() - trimmed.len();
        self.0 = trimmed;
        skipped
    }
}

impl Shape {
    fn read(text: &str) -> Option<Self> {
        let mut at = Cursor(text);
        let year = at.digits(4, 4)?;
        at.take('-')?;
        let before = at.0.len();
        let month = at.digits(1, 2)?;
        at.take('-')?;
        let day = at.digits(1, 2)?;
        let date = [year, month, day];
        if at.0.is_empty() {
            // A bare date needs all its digits, a date with a time does not.
            return (before == 5).then_some(Self { date, time: None });
        }
        if at.skip_blanks() == 0 && at.take('T').is_none() {
            at.take('t')?;
        }
        let hour = at.digits(1, 2)?;
        at.take(':')?;
        let minute = at.digits(2, 2)?;
        at.take(':')?;
        let second = at.digits(2, 2)?;
        let mut micros = 0;
        if at.take('.').is_some() {
            let length = at.0.bytes().take_while(u8::is_ascii_digit).count();
            let six: String = at.0[..length].chars().chain("000000".chars()).take(6).collect();
            micros = six.parse().ok()?;
            at.0 = &at.0[length..];
        }
        let blanks = at.skip_blanks();
        let zone = if at.0.is_empty() {
            if blanks > 0 {
                return None;
            }
            Zone::Unknown
        } else if at.take('Z').is_some() {
            Zone::Utc
        } else {
            let sign = at.0.chars().next().filter(|c| matches!(c, '+' | '-'))?;
            at.take(sign)?;
            let hours = at.digits(1, 2)?;
            let minutes = if at.take(':').is_some() { at.digits(2, 2)? } else { 0 };
            Zone::Offset { sign, hours, minutes }
        };
        let time = Some(Moment { clock: [hour, minute, second], micros, zone });
        at.0.is_empty().then_some(Self { date, time })
    }

    fn iso(&self) -> Option<String> {
        let [year, month, day] = self.date;
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days = match month {
            2 => 28 + u32::from(leap),
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => 0,
        };
        if year == 0 || day == 0 || day > days {
            return None;
        }
        let date = format!("{year:04}-{month:02}-{day:02}");
        let Some(Moment { clock: [hour, minute, second], micros, zone }) = &self.time else {
            return Some(date);
        };
        if *hour > 23 || *minute > 59 || *second > 59 {
            return None;
        }
        let fraction = if *micros == 0 { String::new() } else { format!(".{micros:06}") };
        let zone = match zone {
            Zone::Unknown => String::new(),
            Zone::Utc => "+00:00".to_owned(),
            Zone::Offset { hours, minutes, .. } if hours * 60 + minutes >= 24 * 60 => return None,
            Zone::Offset { hours, minutes, .. } if hours + minutes == 0 => "+00:00".to_owned(),
            Zone::Offset { sign, hours, minutes } => format!("{sign}{:02}:{:02}", hours + minutes / 60, minutes % 60),
        };
        Some(format!("{date}T{hour:02}:{minute:02}:{second:02}{fraction}{zone}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times() {
        let iso = |text: &str| Timestamp::Iso(text.to_owned());
        assert_eq!(timestamp("2024-02-29"), iso("2024-02-29"));
        assert_eq!(timestamp("2024-2-9"), Timestamp::No);
        assert_eq!(timestamp("2024-2-9 1:02:03"), iso("2024-02-09T01:02:03"));
        assert_eq!(timestamp("2024-02-09T01:02:03.5Z"), iso("2024-02-09T01:02:03.500000+00:00"));
        assert_eq!(timestamp("2024-02-09 01:02:03 +5:30"), iso("2024-02-09T01:02:03+05:30"));
        assert_eq!(timestamp("2023-02-29"), Timestamp::Impossible);
        assert_eq!(timestamp("2024-02-09T25:00:00"), Timestamp::Impossible);
        assert_eq!(timestamp("2024-02-09x"), Timestamp::No);
        assert_eq!(timestamp("web-2024-02"), Timestamp::No);
    }
}
