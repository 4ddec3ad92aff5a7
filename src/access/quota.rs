//! Sliding windows across instances: how often a user may do something in any 60 seconds, any hour, and so on.
//!
//! One script call takes a place in all windows of a verb, or in none: what is refused is not recorded, so patience is
//! always rewarded. Redis's clock decides. Must never let anything pass that it could not record.

use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use redis::{RedisError, Script};

use crate::config::Live;
use crate::domain::{Micros, UserId};
use crate::realtime::Connection;
use crate::telemetry::Metrics;

static TAKE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/quota.lua")));

/// How many in how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The length: a place taken at *t* is free again at *t* + this.
    pub length: Duration,
    /// Places in it; 0 turns the window off.
    pub places: u32,
}

/// Why nothing was taken.
#[derive(Debug, thiserror::Error)]
pub enum QuotaError {
    /// The windows are full.
    #[error("the limit is reached for another {:?}", .0.retry_after)]
    Limited(Limited),
    /// Redis did not answer within the deadline.
    #[error("the limits in Redis did not answer in time")]
    Late,
    /// Redis refused, or the connection broke.
    #[error("the limits in Redis failed: {0}")]
    Redis(#[source] RedisError),
}

/// The windows are full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limited {
    /// After this, to the microsecond, a place is free in all of them.
    pub retry_after: Duration,
    /// When that was found, by Redis's clock.
    pub at: Micros,
}

/// A place taken, to be given back if what it was for failed through no fault of the user's.
#[derive(Clone, Debug)]
pub struct Ticket {
    key: String,
    /// `None` when no window is on.
    member: Option<String>,
    /// When it was taken, by Redis's clock; 0 when no window is on.
    pub at: Micros,
}

/// The limits of one verb. Cloning is cheap.
#[derive(Clone)]
pub struct Quota {
    connection: Connection,
    verb: &'static str,
    key: fn(UserId) -> String,
    windows: Live<Arc<[Window]>>,
    metrics: Arc<Metrics>,
}

impl Quota {
    /// The limits of a verb, whose word is a label of `limited_total`. `key` names the user's ZSET; see
    /// [`crate::keyspace::send_window`].
    #[must_use]
    pub fn new(
        connection: Connection,
        verb: &'static str,
        key: fn(UserId) -> String,
        windows: &[Window],
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { connection, verb, key, windows: Live::new(on(windows)), metrics }
    }

    /// Lets other windows hold from now on.
    pub fn set(&self, windows: &[Window]) {
        self.windows.set(on(windows));
    }

    /// Takes a place in all windows, or in none.
    ///
    /// # Errors
    /// When a window is full, or Redis does not answer within two seconds, or fails.
    pub async fn take(&self, user: UserId) -> Result<Ticket, QuotaError> {
        let windows = Arc::clone(&self.windows.load());
        self.take_from(self.verb, (self.key)(user), &windows).await
    }

    /// Takes a place in windows of another verb, under a key of its own: slow mode, which depends on the room.
    ///
    /// # Errors
    /// As [`Quota::take`].
    pub async fn take_of(&self, verb: &'static str, key: String, windows: &[Window]) -> Result<Ticket, QuotaError> {
        self.take_from(verb, key, windows).await
    }

    async fn take_from(&self, verb: &'static str, key: String, windows: &[Window]) -> Result<Ticket, QuotaError> {
        if windows.is_empty() {
            return Ok(Ticket { key, member: None, at: Micros(0) });
        }
        let member = unique();
        let mut call = TAKE.key(&key);
        call.arg(&member);
        for window in windows {
            call.arg(micros(window.length)).arg(window.places);
        }
        let mut connection = self.connection.clone();
        let asked: Result<(u64, i64), _> = within(call.invoke_async(&mut connection)).await;
        let (wait, at) = asked.map_err(|error| {
            self.metrics.redis_failures_total.with_label_values(&["quota"]).inc();
            error.map_or(QuotaError::Late, QuotaError::Redis)
        })?;
        if wait > 0 {
            self.metrics.limited_total.with_label_values(&[verb]).inc();
            return Err(QuotaError::Limited(Limited { retry_after: Duration::from_micros(wait), at: Micros(at) }));
        }
        Ok(Ticket { key, member: Some(member), at: Micros(at) })
    }

    /// Gives a place back. If Redis does not answer, it stays taken.
    pub async fn give_back(&self, ticket: Ticket) {
        let Some(member) = ticket.member else { return };
        let mut command = redis::cmd("ZREM");
        command.arg(ticket.key).arg(member);
        if within(command.exec_async(&mut self.connection.clone())).await.is_err() {
            self.metrics.redis_failures_total.with_label_values(&["quota"]).inc();
        }
    }
}

/// The windows that are on.
fn on(windows: &[Window]) -> Arc<[Window]> {
    windows.iter().copied().filter(|window| window.places > 0 && !window.length.is_zero()).collect()
}

/// A member that no other instance makes.
fn unique() -> String {
    let mut text = String::with_capacity(16);
    // Writing to a string cannot fail.
    let _ = write!(text, "{:016x}", rand::random::<u64>());
    text
}

/// How long one call may take.
pub(super) const DEADLINE: Duration = Duration::from_secs(2);

/// Gives a call its deadline: while the connection is being made again, the client would wait without end. `None` is
/// no answer in time.
pub(super) async fn within<T>(call: impl Future<Output = redis::RedisResult<T>>) -> Result<T, Option<RedisError>> {
    tokio::time::timeout(DEADLINE, call).await.map_err(|_| None)?.map_err(Some)
}

/// A length as the scripts take it.
pub(super) fn micros(length: Duration) -> u64 {
    u64::try_from(length.as_micros()).unwrap_or(u64::MAX)
}
