//! When the API is left alone. Pure; the caller brings the time.
//!
//! Closed: texts are sent. After several failures in a row, or one that only an operator can mend: open, and nobody
//! waits. Then half-open: requests of our own, with no text of anybody, one after another, until enough succeeded.

use std::time::Duration;

use tokio::time::Instant;

use super::reply::Fault;

/// When the breaker opens, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct BreakerSettings {
    /// Failed requests in a row that open it.
    pub failures: u32,
    /// Time to the first probe. Doubles with each probe that fails.
    pub pause: Duration,
    /// Longest time between two probes.
    pub longest_pause: Duration,
    /// Probes in a row that must succeed to close it.
    pub probes: u32,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self { failures: 5, pause: Duration::from_secs(1), longest_pause: Duration::from_secs(30), probes: 2 }
    }
}

#[derive(Debug)]
enum State {
    Closed { failed: u32 },
    Open { opened: Opened, probe_at: Instant, pause: Duration, succeeded: u32, probing: bool },
}

/// An opening, while it lasts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opened {
    /// The failure that did it.
    pub fault: Fault,
    since: Instant,
    /// Failed requests in a row before.
    pub failed: u32,
    /// Probes that failed.
    pub probes: u32,
    /// Texts that were not judged meanwhile.
    pub turned_away: u64,
}

impl Opened {
    pub fn lasted(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }
}

/// The breaker.
#[derive(Debug)]
pub(super) struct Breaker {
    settings: BreakerSettings,
    state: State,
}

impl Breaker {
    pub fn new(settings: BreakerSettings) -> Self {
        Self { settings, state: State::Closed { failed: 0 } }
    }

    /// Why it is open, if it is.
    pub fn open(&self) -> Option<Fault> {
        match &self.state {
            State::Closed { .. } => None,
            State::Open { opened, .. } => Some(opened.fault),
        }
    }

    /// The metric's value: 0 closed, 1 probing, 2 open.
    pub fn gauge(&self) -> i64 {
        match self.state {
            State::Closed { .. } => 0,
            State::Open { probing: true, .. } => 1,
            State::Open { .. } => 2,
        }
    }

    /// Counts texts that were not judged because it is open.
    pub fn turn_away(&mut self, texts: u64) {
        if let State::Open { opened, .. } = &mut self.state {
            opened.turned_away += texts;
        }
    }

    /// A request got its verdicts.
    pub fn succeeded(&mut self) {
        // What was on its way when it opened proves nothing: the probes decide.
        if let State::Closed { failed } = &mut self.state {
            *failed = 0;
        }
    }

    /// A request failed. Says whether that opened it.
    pub fn failed(&mut self, fault: Fault, now: Instant) -> Option<Opened> {
        let State::Closed { failed } = &mut self.state else { return None };
        let enough = match fault {
            // The budget's business, and the text's.
            Fault::RateLimited(_) | Fault::Refused => return None,
            Fault::Quota | Fault::BadKey | Fault::Denied => 1,
            Fault::Server | Fault::Malformed | Fault::TooLarge | Fault::Timeout | Fault::Unreachable => {
                self.settings.failures
            }
        };
        *failed += 1;
        if *failed < enough {
            return None;
        }
        let opened = Opened { fault, since: now, failed: *failed, probes: 0, turned_away: 0 };
        let pause = self.settings.pause;
        self.state = State::Open { opened, probe_at: now + pause, pause, succeeded: 0, probing: false };
        Some(opened)
    }

    /// When the next probe is due, if it is open.
    pub fn probe_at(&self) -> Option<Instant> {
        match self.state {
            State::Closed { .. } => None,
            State::Open { probe_at, .. } => Some(probe_at),
        }
    }

    /// Lets the next probe come at once: what it failed at may be mended.
    pub fn probe_now(&mut self, now: Instant) {
        if let State::Open { probe_at, pause, .. } = &mut self.state {
            (*probe_at, *pause) = (now, self.settings.pause);
        }
    }

    /// A probe is on its way.
    pub fn probing(&mut self) {
        if let State::Open { probing, .. } = &mut self.state {
            *probing = true;
        }
    }

    /// A probe came back. Says whether that closed it, and what the opening was.
    pub fn probed(&mut self, outcome: Result<(), Fault>, now: Instant) -> Option<Opened> {
        let State::Open { opened, probe_at, pause, succeeded, probing } = &mut self.state else { return None };
        *probing = false;
        match outcome {
            Ok(()) => {
                *succeeded += 1;
                *probe_at = now;
                if *succeeded < self.settings.probes {
                    return None;
                }
                let opened = *opened;
                self.state = State::Closed { failed: 0 };
                Some(opened)
            }
            Err(fault) => {
                opened.fault = fault;
                opened.probes += 1;
                *succeeded = 0;
                *pause = (*pause * 2).min(self.settings.longest_pause);
                *probe_at = now + *pause;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::reply::Scarce;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::new(BreakerSettings::default());
        assert!((0..5).filter_map(|_| breaker.failed(Fault::Server, now)).count() == 1);
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_once() {
        let now = Instant::now();
        let mut breaker = Breaker::new(BreakerSettings::default());
        for _ in 0..4 {
            assert!(breaker.failed(Fault::Timeout, now).is_none());
        }
        breaker.succeeded();
        for _ in 0..4 {
            assert!(breaker.failed(Fault::Malformed, now).is_none());
        }
        assert_eq!(breaker.failed(Fault::Server, now).map(|opened| opened.failed), Some(5));
        assert!(breaker.failed(Fault::Server, now).is_none(), "it is open already");
        assert_eq!((breaker.open(), breaker.gauge()), (Some(Fault::Server), 2));
    }

    #[test]
    fn what_only_an_operator_can_mend_opens_it_at_once() {
        for fault in [Fault::BadKey, Fault::Quota, Fault::Denied] {
            let mut breaker = Breaker::new(BreakerSettings::default());
            assert!(breaker.failed(fault, Instant::now()).is_some());
        }
    }

    #[test]
    fn limits_and_texts_do_not_open_it() {
        let mut breaker = Breaker::new(BreakerSettings::default());
        for _ in 0..100 {
            assert!(breaker.failed(Fault::RateLimited(Scarce::Requests), Instant::now()).is_none());
            assert!(breaker.failed(Fault::Refused, Instant::now()).is_none());
        }
    }

    #[test]
    fn probes_wait_longer_each_time_and_close_it_when_enough_succeed() {
        let now = Instant::now();
        let mut breaker = opened(now);
        breaker.turn_away(7);
        let mut pauses = Vec::new();
        for _ in 0..7 {
            let at = breaker.probe_at().unwrap();
            pauses.push((at - now).as_secs());
            breaker.probing();
            assert_eq!(breaker.gauge(), 1);
            assert!(breaker.probed(Err(Fault::Unreachable), now).is_none());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        breaker.succeeded();
        assert_eq!(breaker.open(), Some(Fault::Unreachable), "an old request's success does not close it");
        assert!(breaker.probed(Ok(()), now + SECOND).is_none());
        assert_eq!(breaker.probe_at(), Some(now + SECOND), "the second probe does not wait");
        let was = breaker.probed(Ok(()), now + SECOND).unwrap();
        assert_eq!((was.turned_away, was.probes, was.lasted(now + SECOND)), (7, 7, SECOND));
        assert_eq!((breaker.open(), breaker.gauge(), breaker.probe_at()), (None, 0, None));
    }

    #[test]
    fn what_was_mended_is_probed_at_once() {
        let now = Instant::now();
        let mut breaker = opened(now);
        assert!(breaker.probed(Err(Fault::BadKey), now).is_none());
        breaker.probe_now(now);
        assert_eq!(breaker.probe_at(), Some(now));
        assert!(breaker.probed(Err(Fault::BadKey), now).is_none());
        assert_eq!(breaker.probe_at(), Some(now + 2 * SECOND), "and then as after the opening");
    }

    #[test]
    fn a_probe_that_fails_takes_back_the_one_before() {
        let now = Instant::now();
        let mut breaker = opened(now);
        assert!(breaker.probed(Ok(()), now).is_none());
        assert!(breaker.probed(Err(Fault::Server), now).is_none());
        assert!(breaker.probed(Ok(()), now).is_none());
        assert!(breaker.probed(Ok(()), now).is_some());
    }
}
