//! Redis's clock, as this instance knows it, and calls that do nothing when they arrive too late.
//!
//! A call that was given up may still be on its way: a Redis that stood still runs it when it goes on, for a caller who is
//! gone. A script that changes who owns something therefore takes a deadline by Redis's own clock, and after it answers
//! with the error `LATE` and the time. The instance's clock may be wrong: it is told the time with that answer, and asks
//! again.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use redis::{FromRedisValue, RedisError, ScriptInvocation};
use tokio::time::Instant;

use super::quota::{DEADLINE, within};
use crate::domain::Micros;
use crate::realtime::Connection;

/// How long before its caller gives up a script may still begin: so long its answer may take.
const ANSWER: Duration = Duration::from_millis(500);
/// Redis's clock was never seen.
const UNKNOWN: i64 = i64::MIN;

/// Redis's clock. Cloning is cheap and gives the same one.
#[derive(Clone)]
pub struct Clock {
    /// How much it is ahead of ours, in microseconds, as it was last seen.
    ahead: Arc<AtomicI64>,
}

impl Default for Clock {
    fn default() -> Self {
        Self { ahead: Arc::new(AtomicI64::new(UNKNOWN)) }
    }
}

impl Clock {
    /// What time it is there; what it is here, as long as nobody knows better.
    pub(super) fn now(&self) -> Micros {
        self.known().unwrap_or_else(Micros::now)
    }

    /// Learns what time it is there.
    pub(super) fn note(&self, now: i64) {
        self.ahead.store(now.saturating_sub(Micros::now().0), Ordering::Relaxed);
    }

    fn known(&self) -> Option<Micros> {
        let ahead = self.ahead.load(Ordering::Relaxed);
        (ahead != UNKNOWN).then(|| Micros(Micros::now().0.saturating_add(ahead)))
    }

    /// Calls a script that takes a deadline. `None` is no answer in time.
    pub(super) async fn call<'a, T: FromRedisValue>(
        &self,
        connection: &Connection,
        script: impl Fn(i64) -> ScriptInvocation<'a>,
    ) -> Result<T, Option<RedisError>> {
        let last_start = Instant::now() + DEADLINE - ANSWER;
        let left = || {
            let left = last_start.saturating_duration_since(Instant::now());
            i64::try_from(left.as_micros()).unwrap_or(i64::MAX)
        };
        // Who does not know the time is late, and is told.
        let mut deadline = self.known().map_or(0, |now| now.0.saturating_add(left()));
        let asking = async {
            loop {
                let answer = script(deadline).invoke_async(&mut connection.clone()).await;
                let Some(now) = answer.as_ref().err().and_then(told) else { return answer };
                self.note(now);
                if left() == 0 {
                    return answer;
                }
                deadline = now.saturating_add(left());
            }
        };
        within(asking).await
    }
}

/// The time that a call which came too late was told.
fn told(error: &RedisError) -> Option<i64> {
    (error.code() == Some("LATE")).then(|| error.detail()?.trim().parse().ok())?
}
