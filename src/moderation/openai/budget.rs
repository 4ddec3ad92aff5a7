//! How much may be asked: requests and tokens a minute. Pure; the caller brings the time.
//!
//! Two buckets that fill evenly. The limits begin as assumed and are learned: from the API's headers where it sends them,
//! else from its refusals, each of which halves the limit that it names, to grow back slowly. Other instances share the
//! account, so what the API says remains can only lower what we think we have.

use std::time::Duration;

use reqwest::header::HeaderMap;
use tokio::time::Instant;

use super::reply::Scarce;

/// Bytes that one token stands for. Few enough for text that is not English: too high an estimate costs throughput, too
/// low a one costs refusals, which count too.
const BYTES_IN_A_TOKEN: usize = 3;
/// Limits are not halved below these, or nothing would pass that could teach better.
const LEAST_REQUESTS: f64 = 10.0;
const LEAST_TOKENS: f64 = 1_000.0;
/// What a halved limit regains in a minute, as a share of what was assumed.
const REGAINED: f64 = 0.05;

/// Estimates what a text costs.
pub(super) fn tokens(text: &str) -> u32 {
    u32::try_from(text.len().div_ceil(BYTES_IN_A_TOKEN)).unwrap_or(u32::MAX).saturating_add(1)
}

/// What the API's headers say of one limit. Often nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Told {
    pub limit: Option<f64>,
    pub remaining: Option<f64>,
}

/// What the API's headers say of both limits. When they reset is not asked: a bucket that fills evenly says the same.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Limits {
    pub requests: Told,
    pub tokens: Told,
}

impl Limits {
    /// Reads `x-ratelimit-*`; what cannot be read counts as not there.
    pub fn read(headers: &HeaderMap) -> Self {
        let number = |name: String| {
            let number: f64 = headers.get(name)?.to_str().ok()?.trim().parse().ok()?;
            (number.is_finite() && number >= 0.0).then_some(number)
        };
        let told = |of: &str| Told {
            limit: number(format!("x-ratelimit-limit-{of}")).filter(|limit| *limit > 0.0),
            remaining: number(format!("x-ratelimit-remaining-{of}")),
        };
        Self { requests: told("requests"), tokens: told("tokens") }
    }
}

/// One bucket.
#[derive(Debug)]
struct Meter {
    /// What a limit grows back to.
    assumed: f64,
    /// A minute.
    limit: f64,
    least: f64,
    /// Below zero after something larger than the whole bucket.
    level: f64,
    at: Instant,
}

impl Meter {
    fn new(limit: u32, least: f64, now: Instant) -> Self {
        let limit = f64::from(limit.max(1));
        Self { assumed: limit, limit, least: least.min(limit), level: limit, at: now }
    }

    fn fill(&mut self, now: Instant) {
        let minutes = now.saturating_duration_since(self.at).as_secs_f64() / 60.0;
        self.at = self.at.max(now);
        self.limit = (self.limit + REGAINED * self.assumed * minutes).min(self.assumed);
        self.level = (self.level + self.limit * minutes).min(self.limit);
    }

    /// How long until this much is there. What is larger than the bucket passes when the bucket is full, and leaves a debt.
    fn wait(&self, amount: f64, ahead: f64) -> Duration {
        let missing = amount.min(self.limit) + ahead - self.level;
        if missing <= 0.0 {
            return Duration::ZERO;
        }
        // A nanosecond more, so that rounding cannot wake us too early for ever.
        Duration::try_from_secs_f64(missing / self.limit * 60.0 + 1e-9).unwrap_or(Duration::MAX)
    }

    fn learn(&mut self, told: Told) {
        if let Some(limit) = told.limit {
            (self.assumed, self.limit) = (limit, limit);
        }
        self.level = self.level.min(told.remaining.unwrap_or(f64::MAX)).min(self.limit);
    }

    fn refused(&mut self, told: Told) {
        if told.limit.is_none() {
            self.limit = (self.limit / 2.0).max(self.least);
        }
        self.level = self.level.min(0.0);
    }
}

/// What may be asked at the moment.
#[derive(Debug)]
pub(super) struct Budget {
    requests: Meter,
    tokens: Meter,
    /// The API said to wait until then.
    paused: Option<Instant>,
}

impl Budget {
    /// Both buckets full. Limits a minute, at least 1.
    pub fn new(requests: u32, tokens: u32, now: Instant) -> Self {
        Self {
            requests: Meter::new(requests, LEAST_REQUESTS, now),
            tokens: Meter::new(tokens, LEAST_TOKENS, now),
            paused: None,
        }
    }

    /// When a request with so many tokens may be sent, after `ahead` others that wait. In the past or now: at once.
    pub fn ready(&mut self, tokens: u32, ahead: u64, now: Instant) -> Instant {
        self.requests.fill(now);
        self.tokens.fill(now);
        let wait = self.requests.wait(1.0, 0.0).max(self.tokens.wait(f64::from(tokens), ahead as f64));
        let ready = now.checked_add(wait).unwrap_or(now + Duration::from_secs(3_600));
        self.paused.map_or(ready, |paused| ready.max(paused))
    }

    /// Takes what one request costs, there or not.
    pub fn take(&mut self, tokens: u32, now: Instant) {
        self.requests.fill(now);
        self.tokens.fill(now);
        self.requests.level -= 1.0;
        self.tokens.level -= f64::from(tokens);
    }

    /// Takes in what an answer's headers say.
    pub fn learn(&mut self, limits: Limits, now: Instant) {
        self.requests.fill(now);
        self.tokens.fill(now);
        self.requests.learn(limits.requests);
        self.tokens.learn(limits.tokens);
    }

    /// The API refused a request for want of something: nothing is sent for a while. Of refusals that come while nothing
    /// is sent, only the first is a lesson; the others were on their way already.
    pub fn refused(&mut self, scarce: Scarce, limits: Limits, wait: Duration, now: Instant) {
        self.learn(limits, now);
        if self.paused.is_none_or(|paused| paused <= now) {
            match scarce {
                Scarce::Requests => self.requests.refused(limits.requests),
                Scarce::Tokens => self.tokens.refused(limits.tokens),
                Scarce::Unknown => {}
            }
        }
        self.paused = self.paused.max(Some(now + wait));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn wait(budget: &mut Budget, tokens: u32, now: Instant) -> Duration {
        budget.ready(tokens, 0, now).saturating_duration_since(now)
    }

    /// Within a microsecond.
    fn near(wait: Duration, seconds: f64) -> bool {
        (wait.as_secs_f64() - seconds).abs() < 1e-6
    }

    #[test]
    fn tokens_bind_first_and_come_back_evenly() {
        let now = Instant::now();
        let mut budget = Budget::new(500, 10_000, now);
        for _ in 0..80 {
            assert_eq!(wait(&mut budget, 125, now), Duration::ZERO);
            budget.take(125, now);
        }
        assert!(near(wait(&mut budget, 125, now), 0.75), "{:?}", wait(&mut budget, 125, now));
        assert!(near(wait(&mut budget, 125, now + SECOND / 2), 0.25));
        assert_eq!(wait(&mut budget, 125, now + SECOND), Duration::ZERO);
    }

    #[test]
    fn requests_bind_when_they_are_fewer() {
        let now = Instant::now();
        let mut budget = Budget::new(60, 1_000_000, now);
        (0..60).for_each(|_| budget.take(1, now));
        assert!(near(wait(&mut budget, 1, now), 1.0));
    }

    #[test]
    fn who_waits_behind_others_is_told_a_later_time() {
        let now = Instant::now();
        let mut budget = Budget::new(500, 6_000, now);
        budget.take(6_000, now);
        assert!(near(budget.ready(100, 400, now) - now, 5.0));
    }

    #[test]
    fn what_is_larger_than_the_bucket_passes_when_it_is_full_and_leaves_a_debt() {
        let now = Instant::now();
        let mut budget = Budget::new(500, 600, now);
        assert_eq!(wait(&mut budget, 6_000, now), Duration::ZERO);
        budget.take(6_000, now);
        assert!(near(wait(&mut budget, 1, now), 540.1));
    }

    #[test]
    fn headers_teach_the_limits_and_only_lower_what_is_left() {
        let now = Instant::now();
        let mut budget = Budget::new(500, 10_000, now);
        let told = |limit, remaining| Told { limit: Some(limit), remaining: Some(remaining) };
        budget.learn(Limits { requests: told(5_000.0, 4_000.0), tokens: told(60_000.0, 50_000.0) }, now);
        assert_eq!(wait(&mut budget, 10_000, now), Duration::ZERO);
        assert!(near(wait(&mut budget, 10_100, now), 0.1), "more is not there, although the API says it is");
        budget.learn(Limits { tokens: told(60_000.0, 10.0), ..Limits::default() }, now);
        assert!(near(wait(&mut budget, 1_010, now), 1.0));
        budget.learn(Limits::default(), now);
        assert!(near(wait(&mut budget, 1_010, now), 1.0), "no header, no lesson");
    }

    #[test]
    fn a_refusal_pauses_everything_and_halves_what_it_names() {
        let now = Instant::now();
        let mut budget = Budget::new(500, 10_000, now);
        for _ in 0..3 {
            // Three were on their way: one lesson.
            budget.refused(Scarce::Tokens, Limits::default(), 3 * SECOND, now);
        }
        assert_eq!(wait(&mut budget, 1, now), 3 * SECOND);
        let later = now + 3 * SECOND;
        assert!(wait(&mut budget, 200, later) == Duration::ZERO, "3 s of at least 5,000 a minute");
        assert!(wait(&mut budget, 300, later) > Duration::ZERO);
        let much_later = now + Duration::from_secs(600);
        assert_eq!(wait(&mut budget, 9_999, much_later), Duration::ZERO, "it grows back");
    }

    #[test]
    fn refusals_do_not_end_everything() {
        let now = Instant::now();
        let mut budget = Budget::new(500, 10_000, now);
        for second in 0..60 {
            let now = now + SECOND * second;
            budget.refused(Scarce::Tokens, Limits::default(), Duration::ZERO, now);
            budget.refused(Scarce::Requests, Limits::default(), Duration::ZERO, now);
        }
        let now = now + SECOND * 60;
        assert!(wait(&mut budget, 100, now) <= 6 * SECOND, "{:?}", wait(&mut budget, 100, now));
    }

    #[test]
    fn headers_are_read_where_they_make_sense() {
        let headers: HeaderMap = [
            ("x-ratelimit-limit-requests", "500"),
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "120ms"),
            ("x-ratelimit-limit-tokens", "0"),
            ("x-ratelimit-remaining-tokens", "many"),
        ]
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect();
        let requests = Told { limit: Some(500.0), remaining: Some(0.0) };
        assert_eq!(Limits::read(&headers), Limits { requests, tokens: Told::default() });
        assert_eq!(Limits::read(&HeaderMap::new()), Limits::default());
    }

    #[test]
    fn a_text_is_estimated_by_its_bytes() {
        assert_eq!([tokens(""), tokens("abc"), tokens("hello"), tokens("日本")], [1, 2, 3, 3]);
    }

    proptest! {
        #[test]
        fn what_is_ready_when_it_says_so(costs in prop::collection::vec((1_u32..5_000, 0_u64..3_000), 1..40)) {
            let mut now = Instant::now();
            let mut budget = Budget::new(100, 10_000, now);
            for (cost, pause) in costs {
                now += Duration::from_millis(pause);
                let ready = budget.ready(cost, 0, now).max(now);
                now = ready;
                prop_assert!(budget.ready(cost, 0, now) <= now);
                budget.take(cost, now);
            }
        }
    }
}
