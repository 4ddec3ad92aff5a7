//! Time as the contract writes it: microseconds since 1970 in UTC, which is what Postgres keeps.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since 1970-01-01T00:00:00Z.
///
/// Displays as ISO 8601 with six digits and `+00:00`, as Django's `isoformat()` writes an aware time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Micros(pub i64);

impl Micros {
    /// Reads the wall clock. The only place in the gateway that does.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one clock the ban points to")]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    /// Whole seconds since 1970, rounded down.
    #[must_use]
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Milliseconds since 1970, rounded down.
    #[must_use]
    pub fn millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// The naive form without an offset (`2026-11-22T13:37:40.475420`), which `pong` carries.
    #[must_use]
    pub fn naive(self) -> Naive {
        Naive(self)
    }
}

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+00:00", self.naive())
    }
}

/// A time without its offset; see [`Micros::naive`].
#[derive(Clone, Copy, Debug)]
pub struct Naive(Micros);

impl Naive {
    /// Its text, which has always the same length in the years from 0 to 9999.
    #[must_use]
    pub fn fixed(self) -> Option<[u8; 26]> {
        let (year, month, day, seconds, micros) = self.parts();
        let mut text = *b"0000-00-00T00:00:00.000000";
        let parts = [
            (0..4, year),
            (5..7, month),
            (8..10, day),
            (11..13, seconds / 3600),
            (14..16, seconds / 60 % 60),
            (17..19, seconds % 60),
            (20..26, micros),
        ];
        for (range, mut part) in parts {
            for digit in text[range].iter_mut().rev() {
                *digit += part.rem_euclid(10) as u8;
                part /= 10;
            }
        }
        (0..10_000).contains(&year).then_some(text)
    }

    /// Year, month, day, seconds of the day, microseconds of the second.
    fn parts(self) -> (i64, i64, i64, i64, i64) {
        let (days, rest) = (self.0.0.div_euclid(86_400_000_000), self.0.0.rem_euclid(86_400_000_000));
        let (year, month, day) = civil_from_days(days);
        (year, month, day, rest / 1_000_000, rest % 1_000_000)
    }
}

impl fmt::Display for Naive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day, seconds, micros) = self.parts();
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{micros:06}",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60
        )
    }
}

/// Turns days since 1970-01-01 into a proleptic Gregorian date, with years that begin in March.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468; // days since 0000-03-01
    let era = shifted.div_euclid(146_097); // one era is 400 years
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_django_writes_them() {
        assert_eq!(Micros(0).to_string(), "1970-01-01T00:00:00.000000+00:00");
        assert_eq!(Micros(1_000_000_000_000_000).to_string(), "2001-09-09T01:46:40.000000+00:00");
        assert_eq!(Micros(1_709_164_800_000_001).naive().to_string(), "2024-02-29T00:00:00.000001");
        assert_eq!(Micros(-1).to_string(), "1969-12-31T23:59:59.999999+00:00");
    }
}
