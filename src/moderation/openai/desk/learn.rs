//! What the desk learns from how requests went: the budget, the breaker, and the log line when that opens or closes.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::{Batch, Desk, State, Unavailable};
use crate::moderation::openai::client::Asked;
use crate::moderation::openai::reply::{Fault, Scarce};
use crate::moderation::openai::retry;

impl Desk {
    /// Lets the budget and the breaker learn from how a request went.
    pub fn learn(&self, asked: &Asked) {
        let now = Instant::now();
        let mut guard = self.state.lock();
        let state = &mut *guard;
        match &asked.outcome {
            Ok(_) => {
                state.budget.learn(asked.limits, now);
                state.breaker.succeeded();
            }
            Err(fault) => {
                if let Fault::RateLimited(scarce) = fault {
                    self.pause(state, *scarce, asked, now);
                } else {
                    state.budget.learn(asked.limits, now);
                }
                self.count_failure(state, *fault, now);
            }
        }
        drop(guard);
        self.work.notify_one(); // the budget may have more than the dispatcher sleeps for
    }

    /// A request that nobody waited for until its end. Says whether that was because it took too long.
    pub fn abandoned(&self, batch: &Batch, lasted: Duration) -> bool {
        // One that was sent when its texts had nearly used up their time says nothing about the API.
        let late = batch.request.late.load(Ordering::Relaxed) && lasted >= self.settings.deadline / 2;
        if late {
            self.count_failure(&mut self.state.lock(), Fault::Timeout, Instant::now());
        }
        late
    }

    /// When the next probe is due, if the breaker is open.
    pub fn probe_at(&self) -> Option<Instant> {
        self.state.lock().breaker.probe_at()
    }

    /// Lets the next probe come at once, if the breaker is open.
    pub fn probe_now(&self) {
        self.state.lock().breaker.probe_now(Instant::now());
        self.opened.notify_one();
    }

    /// A probe begins.
    pub fn probing(&self, tokens: u32) {
        let mut state = self.state.lock();
        state.budget.take(tokens, Instant::now());
        state.breaker.probing();
        self.show(&state);
    }

    /// A probe came back.
    pub fn probed(&self, asked: &Asked) {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.budget.learn(asked.limits, now);
        let outcome = asked.outcome.as_ref().map(|_| ()).map_err(|fault| *fault);
        if let Some(was) = state.breaker.probed(outcome, now) {
            tracing::info!(
                turned_away = was.turned_away,
                failed_probes = was.probes,
                seconds = was.lasted(now).as_secs_f64(),
                "the moderation API answers again"
            );
        }
        self.show(&state);
    }

    fn pause(&self, state: &mut State, scarce: Scarce, asked: &Asked, now: Instant) {
        let wait = asked.advice.after.unwrap_or_else(|| retry::backoff(1, 0.0)).min(retry::TOO_LONG);
        state.budget.refused(scarce, asked.limits, wait, now);
    }

    fn count_failure(&self, state: &mut State, fault: Fault, now: Instant) {
        let Some(opened) = state.breaker.failed(fault, now) else { return };
        let waiting = std::mem::take(&mut state.queue);
        state.queued_tokens = 0;
        state.breaker.turn_away(waiting.len() as u64);
        tracing::warn!(
            cause = fault.outcome(),
            failures = opened.failed,
            turned_away = waiting.len(),
            "the moderation API fails: not asked until probes succeed"
        );
        for key in waiting {
            state.complete(key, Err(Unavailable::while_open(fault)));
        }
        self.show(state);
        self.opened.notify_one();
    }
}
