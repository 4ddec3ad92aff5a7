//! What all instances are told and one shall do: decisions of humans about messages.
//!
//! The first to ask gets it; while it works, the others wait, and when it is gone for too long the next takes over. Done
//! is what was done last: after another decision of the same message, the first one is news again. Must never let two
//! instances do the same at once.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use redis::Script;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::quota::within;
use crate::domain::{Decision, MessageId};
use crate::keyspace;
use crate::realtime::Connection;
use crate::telemetry::Metrics;

static CLAIM: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/once.lua")));

/// `ARGV`: owner, and what was done; empty when it is given back, which leaves what was done before.
static END: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return end
          redis.call('HSET', KEYS[1], 'until', 0)
          if ARGV[2] ~= '' then redis.call('HSET', KEYS[1], 'last', ARGV[2]) end",
    )
});

/// How long one instance may take.
const LEASE: Duration = Duration::from_secs(15);
/// How long another waits for it: until it could take over.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(100);

/// The right to tell of a decision.
#[derive(Debug)]
pub struct Turn {
    key: String,
    owner: String,
    what: &'static str,
}

/// Redis did not answer in time, or failed.
#[derive(Debug, thiserror::Error)]
#[error("whose turn it is cannot be told")]
pub struct OnceError;

/// The turns of all instances. Cloning is cheap.
#[derive(Clone)]
pub struct Once {
    connection: Connection,
    metrics: Arc<Metrics>,
}

impl Once {
    /// Turns over a connection to the realtime database.
    #[must_use]
    pub fn new(connection: Connection, metrics: Arc<Metrics>) -> Self {
        Self { connection, metrics }
    }

    /// Asks for a decision's turn; `None` when somebody has done it.
    ///
    /// # Errors
    /// When Redis does not answer, or somebody else takes too long.
    pub async fn claim(&self, message: MessageId, decision: Decision) -> Result<Option<Turn>, OnceError> {
        let turn =
            Turn { key: keyspace::decision(message), owner: Uuid::new_v4().to_string(), what: decision.as_str() };
        let give_up = Instant::now() + PATIENCE;
        loop {
            let mut call = CLAIM.key(&turn.key);
            call.arg(turn.what).arg(&turn.owner);
            call.arg(u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX)).arg(keyspace::DECISION_SECONDS);
            let word: Result<String, _> = within(call.invoke_async(&mut self.connection.clone())).await;
            match word.map_err(|_| self.failed())?.as_str() {
                "yours" => return Ok(Some(turn)),
                "done" => return Ok(None),
                _ if Instant::now() >= give_up => return Err(OnceError),
                _ => sleep(LOOK).await,
            }
        }
    }

    /// Says that it is done.
    pub async fn settle(&self, turn: &Turn) {
        self.end(turn, turn.what).await;
    }

    /// Leaves it to the next.
    pub async fn release(&self, turn: &Turn) {
        self.end(turn, "").await;
    }

    async fn end(&self, turn: &Turn, done: &str) {
        let mut call = END.key(&turn.key);
        call.arg(&turn.owner).arg(done);
        if within(call.invoke_async::<()>(&mut self.connection.clone())).await.is_err() {
            self.failed();
        }
    }

    fn failed(&self) -> OnceError {
        self.metrics.redis_failures_total.with_label_values(&["once"]).inc();
        OnceError
    }
}
