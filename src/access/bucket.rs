//! A token bucket in memory: how fast something may happen, and how much of it at once. Pure; the caller brings the
//! time. Says when to wait and for how long, never decides what becomes of who does not.

use std::time::{Duration, Instant};

/// How fast, and how much at once.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Time that one token takes to come back; zero is off.
    every: Duration,
    burst: u32,
}

impl Rate {
    /// `per_second` in the long run, `burst` at once (at least 1). A `per_second` of 0 is off: everything may pass.
    #[must_use]
    pub fn new(per_second: u32, burst: u32) -> Self {
        let every = if per_second == 0 { Duration::ZERO } else { Duration::from_secs(1) / per_second };
        Self { every, burst: burst.max(1) }
    }

    /// `per_minute` in the long run, a quarter of it at once. 0 is off.
    #[must_use]
    pub fn per_minute(per_minute: u32) -> Self {
        let every = if per_minute == 0 { Duration::ZERO } else { Duration::from_secs(60) / per_minute };
        Self { every, burst: (per_minute / 4).max(1) }
    }
}

/// A no of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// After which the same would pass.
    pub after: Duration,
    /// Refused as often in a row as the burst is wide: who does not stop has been told often enough.
    pub too_often: bool,
}

/// One bucket. Begins full.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    /// When the bucket will be full again.
    full: Instant,
    /// Refusals since the last yes.
    refused: u32,
}

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { full: now, refused: 0 }
    }

    /// Takes one token.
    ///
    /// # Errors
    /// When there is none.
    pub fn take(&mut self, rate: &Rate, now: Instant) -> Result<(), Wait> {
        self.take_leaving(rate, 0, now)
    }

    /// Takes one token, if so many are left for others then.
    ///
    /// # Errors
    /// When there are not.
    pub fn take_leaving(&mut self, rate: &Rate, others: u32, now: Instant) -> Result<(), Wait> {
        if rate.every.is_zero() {
            return Ok(()); // also to callers whose clocks were read in another order than they come in
        }
        let full = self.full.max(now);
        let missing = full - now;
        let room = rate.every * (rate.burst - 1).saturating_sub(others);
        if missing > room {
            self.refused = self.refused.saturating_add(1);
            return Err(Wait { after: missing - room, too_often: self.refused >= rate.burst });
        }
        self.full = full + rate.every;
        self.refused = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RATE: fn() -> Rate = || Rate::new(20, 40);

    #[test]
    fn a_burst_passes_and_the_next_waits_for_one_token() {
        let now = Instant::now();
        let mut bucket = Bucket::new(now);
        for _ in 0..40 {
            assert_eq!(bucket.take(&RATE(), now), Ok(()));
        }
        assert_eq!(bucket.take(&RATE(), now), Err(Wait { after: Duration::from_millis(50), too_often: false }));
        let later = now + Duration::from_millis(50);
        assert_eq!(bucket.take(&RATE(), later), Ok(()));
        assert!(bucket.take(&RATE(), later).is_err());
    }

    #[test]
    fn who_goes_on_is_told_as_often_as_the_burst_is_wide() {
        let now = Instant::now();
        let mut bucket = Bucket::new(now);
        let answers: Vec<_> = (0..80).map(|_| bucket.take(&RATE(), now)).collect();
        let too_often = |answer: &Result<(), Wait>| answer.is_err_and(|wait| wait.too_often);
        assert_eq!(answers.iter().position(too_often), Some(79));
        assert_eq!(bucket.take(&RATE(), now + Duration::from_secs(2)), Ok(()));
        let one_more = bucket.take(&Rate::new(20, 1), now + Duration::from_secs(2));
        assert!(one_more.is_err_and(|wait| wait.too_often), "a yes begins the count anew");
    }

    #[test]
    fn a_rate_of_zero_is_off() {
        let now = Instant::now();
        let mut bucket = Bucket::new(now);
        assert!((0..10_000).all(|_| bucket.take(&Rate::new(0, 1), now).is_ok()));
        assert!(bucket.take(&Rate::new(0, 1), now - Duration::from_millis(1)).is_ok(), "however late it comes in");
    }

    proptest! {
        /// Never more than the burst and what came back meanwhile, in any stretch of time; and a promised wait is
        /// exact: a nanosecond before it is too early.
        #[test]
        fn it_is_never_faster_than_the_rate(
            steps in proptest::collection::vec(0_u64..200, 1..200),
            per_second in 1_u32..50,
            burst in 1_u32..20,
        ) {
            let rate = Rate::new(per_second, burst);
            let mut now = Instant::now();
            let mut bucket = Bucket::new(now);
            let mut passed: Vec<Instant> = Vec::new();
            for step in steps {
                now += Duration::from_millis(step);
                match bucket.take(&rate, now) {
                    Ok(()) => passed.push(now),
                    Err(wait) => {
                        let mut early = bucket;
                        prop_assert!(early.take(&rate, now + wait.after - Duration::from_nanos(1)).is_err());
                        let mut in_time = bucket;
                        prop_assert!(in_time.take(&rate, now + wait.after).is_ok());
                    }
                }
            }
            for (at, first) in passed.iter().enumerate() {
                for (count, last) in passed[at..].iter().enumerate() {
                    let allowed = f64::from(burst) + (*last - *first).as_secs_f64() * f64::from(per_second) + 1e-6;
                    prop_assert!((count + 1) as f64 <= allowed);
                }
            }
        }
    }
}
