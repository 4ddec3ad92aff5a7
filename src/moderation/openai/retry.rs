//! When a failed request is sent again. Pure; the rules are those of the API's own client library.
//!
//! `x-should-retry` overrules the status. The wait is `retry-after-ms`, else `retry-after` in seconds or as a date; one of
//! more than [`TOO_LONG`] means no retry. Without one: half a second, doubling up to eight, less up to a quarter.

use std::time::Duration;

use jiff::fmt::rfc2822;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use super::reply::Fault;
use crate::domain::Micros;

/// A wait that is longer is not waited.
pub(super) const TOO_LONG: Duration = Duration::from_secs(120);
/// How often a request is sent again.
pub(super) const RETRIES: u32 = 2;
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LONGEST_BACKOFF: Duration = Duration::from_secs(8);

/// What an answer's headers say about another try.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Advice {
    /// `x-should-retry`.
    pub should: Option<bool>,
    /// How long to wait, if that is said and lies ahead.
    pub after: Option<Duration>,
}

impl Advice {
    /// Reads the headers; what cannot be read counts as not there.
    pub fn read(headers: &HeaderMap, now: Micros) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let should = match text("x-should-retry") {
            Some("true") => Some(true),
            Some("false") => Some(false),
            _ => None,
        };
        let millis = text("retry-after-ms").and_then(|ms| ms.parse::<f64>().ok()).map(|ms| ms / 1e3);
        let seconds = millis.or_else(|| text(RETRY_AFTER.as_str()).and_then(|value| in_seconds(value, now)));
        // Also sorts out what is not a number; a time that no Duration holds is a long one.
        let after = seconds
            .filter(|seconds| *seconds > 0.0)
            .map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX));
        Self { should, after }
    }

    /// How long to wait before try number `tries` is followed by another, or `None` if it is not.
    ///
    /// `jitter` is from 0 (none) to 1 (a quarter less).
    pub fn wait(self, fault: Fault, tries: u32, jitter: f64) -> Option<Duration> {
        let again = match fault {
            Fault::Quota => false, // whatever the headers say
            fault => self.should.unwrap_or(fault.may_pass()),
        };
        if !again || tries > RETRIES {
            return None;
        }
        match self.after {
            Some(after) => (after <= TOO_LONG).then_some(after),
            None => Some(backoff(tries, jitter)),
        }
    }
}

/// The wait after try number `tries` when the API names none.
pub(super) fn backoff(tries: u32, jitter: f64) -> Duration {
    let doubled = FIRST_BACKOFF * 2_u32.saturating_pow(tries.saturating_sub(1));
    doubled.min(LONGEST_BACKOFF).mul_f64(1.0 - 0.25 * jitter.clamp(0.0, 1.0))
}

fn in_seconds(value: &str, now: Micros) -> Option<f64> {
    if let Ok(seconds) = value.parse::<f64>() {
        return Some(seconds);
    }
    let date = rfc2822::parse(value).ok()?.timestamp();
    Some((date.as_microsecond() - now.0) as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};

    use super::super::reply::Scarce;
    use super::*;

    /// 2026-11-22T12:00:00Z
    const NOW: Micros = Micros(1_795_348_800_000_000);

    fn advice(headers: &[(&str, &str)]) -> Advice {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                (HeaderName::try_from(*name).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())
            })
            .collect();
        Advice::read(&headers, NOW)
    }

    fn after(headers: &[(&str, &str)]) -> Option<u128> {
        advice(headers).after.map(|wait| wait.as_millis())
    }

    #[test]
    fn milliseconds_go_before_seconds_and_dates() {
        assert_eq!(after(&[("retry-after-ms", "120"), ("retry-after", "3")]), Some(120));
        assert_eq!(after(&[("retry-after-ms", "soon"), ("retry-after", "3")]), Some(3_000));
        assert_eq!(after(&[("retry-after", "0.5")]), Some(500));
        assert_eq!(after(&[("retry-after", "Sun, 22 Nov 2026 12:00:07 GMT")]), Some(7_000));
    }

    #[test]
    fn a_wait_that_is_none_is_not_there() {
        for value in ["0", "-1", "NaN", "later", "", "Sun, 22 Nov 2026 11:59:00 GMT", "\u{e9}"] {
            assert_eq!(after(&[("retry-after", value)]), None, "{value}");
        }
        assert_eq!(after(&[]), None);
    }

    #[test]
    fn a_wait_beyond_two_minutes_is_no_retry() {
        let fault = Fault::RateLimited(Scarce::Requests);
        let waits = |value| advice(&[("retry-after", value)]).wait(fault, 1, 0.0);
        assert_eq!(waits("120"), Some(TOO_LONG));
        for value in ["120.1", "1e300", "inf", "Wed, 21 Oct 2099 07:28:00 GMT"] {
            assert_eq!(waits(value), None, "{value}");
        }
    }

    #[test]
    fn without_a_named_wait_it_doubles_and_two_retries_are_all() {
        let waits: Vec<_> = (1..=4).map(|tries| Advice::default().wait(Fault::Server, tries, 0.0)).collect();
        assert_eq!(waits, [Some(Duration::from_millis(500)), Some(Duration::from_secs(1)), None, None]);
        assert_eq!(backoff(1, 1.0), Duration::from_millis(375));
        assert_eq!(backoff(30, 0.0), LONGEST_BACKOFF);
    }

    #[test]
    fn the_api_overrules_the_status_but_not_an_empty_account() {
        let (yes, no) = (advice(&[("x-should-retry", "true")]), advice(&[("x-should-retry", "false")]));
        assert!(yes.wait(Fault::Refused, 1, 0.0).is_some());
        assert_eq!(yes.wait(Fault::Quota, 1, 0.0), None);
        assert_eq!(no.wait(Fault::Server, 1, 0.0), None);
        assert!(advice(&[("x-should-retry", "maybe")]).wait(Fault::Server, 1, 0.0).is_some());
    }

    #[test]
    fn only_what_can_pass_is_tried_again() {
        use Fault::{BadKey, Denied, Malformed, Quota, Refused, Server, Timeout, TooLarge, Unreachable};
        for fault in [Quota, BadKey, Denied, Refused, Malformed, TooLarge] {
            assert_eq!(Advice::default().wait(fault, 1, 0.0), None, "{fault:?}");
        }
        for fault in [Server, Timeout, Unreachable, Fault::RateLimited(Scarce::Unknown)] {
            assert!(Advice::default().wait(fault, 1, 0.0).is_some(), "{fault:?}");
        }
    }
}
