//! Which resume tickets are good: each once, none after its time, none that was revoked. In Redis, for all instances.
//!
//! A user's tickets are revoked by another generation, or up to a session version; what says so lives longer than any
//! ticket that was given before. Must never take a ticket for good when Redis does not answer.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use redis::Script;
use uuid::Uuid;

use super::clock::Clock;
use super::quota::within;
use crate::domain::{Micros, UserId};
use crate::keyspace;
use crate::realtime::Connection;
use crate::telemetry::Metrics;

static REDEEM: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/redeem.lua")));
static GENERATION: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/generation.lua")));

/// Why a ticket is not good, or why nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReturnError {
    #[error("the resume ticket has expired")]
    Expired,
    #[error("the resume ticket was revoked")]
    Revoked,
    #[error("the resume ticket was used before")]
    Replayed,
    /// Redis does not answer in time, or fails.
    #[error("resume tickets cannot be checked now")]
    Unavailable,
}

/// The ledger of resume tickets.
pub struct Returns {
    connection: Connection,
    life: Duration,
    clock: Clock,
    metrics: Arc<Metrics>,
}

impl Returns {
    /// Over a connection to the realtime database. `life` is how long a ticket is good.
    #[must_use]
    pub fn new(connection: Connection, clock: Clock, life: Duration, metrics: Arc<Metrics>) -> Self {
        Self { connection, life, clock, metrics }
    }

    /// When a ticket expires that is given now.
    #[must_use]
    pub fn expiry(&self) -> Micros {
        let life = i64::try_from(self.life.as_micros()).unwrap_or(i64::MAX);
        Micros(self.clock.now().0.saturating_add(life))
    }

    /// The generation of the tickets that a user is given now, and when the user's sessions were logged out last: what
    /// Django gave out before to log in with is no good.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub async fn generation(&self, user: UserId) -> Result<(u64, Micros), ReturnError> {
        let call = GENERATION.key(keyspace::resume_ended(user));
        let asked: Result<(Option<u64>, i64, Option<i64>), _> =
            within(call.invoke_async(&mut self.connection.clone())).await;
        let (generation, now, ended) = asked.map_err(|_| self.failed())?;
        self.clock.note(now);
        Ok((generation.unwrap_or(0), Micros(ended.unwrap_or(0))))
    }

    /// Uses a ticket up. When Redis does not answer in time, it does not later either: the ticket stays good.
    ///
    /// # Errors
    /// Why it is not good.
    pub async fn redeem(
        &self,
        id: Uuid,
        user: UserId,
        session_version: Option<i64>,
        generation: u64,
        expires: Micros,
    ) -> Result<(), ReturnError> {
        let version = session_version.map(|version| version.to_string()).unwrap_or_default();
        let redeeming = |deadline| {
            let mut call = REDEEM.key(keyspace::resume_used(user, id));
            call.key(keyspace::resume_ended(user));
            call.arg(deadline).arg(expires.0).arg(generation).arg(&version);
            call
        };
        let asked = self.clock.call::<(String, i64)>(&self.connection, redeeming).await;
        let (word, now) = asked.map_err(|_| self.failed())?;
        self.clock.note(now);
        match word.as_str() {
            "ok" => Ok(()),
            "expired" => Err(ReturnError::Expired),
            "revoked" => Err(ReturnError::Revoked),
            _ => Err(ReturnError::Replayed),
        }
    }

    /// Revokes a user's tickets: all, or those of sessions older than a version.
    pub async fn revoke(&self, user: UserId, older_than: Option<i64>) {
        let key = keyspace::resume_ended(user);
        let mut revoke = redis::pipe();
        match older_than {
            Some(version) => revoke.atomic().hset(&key, "version", version).hset(&key, "at", self.clock.now().0),
            None => revoke.atomic().hset(&key, "generation", rand::random::<u64>() | 1),
        };
        // Longer than any ticket given before, whatever the clocks say of its time.
        revoke.cmd("PEXPIRE").arg(&key).arg(u64::try_from(self.life.as_millis()).unwrap_or(u64::MAX) * 2 + 60_000);
        if within(revoke.exec_async(&mut self.connection.clone())).await.is_err() {
            self.failed();
            tracing::error!(user = user.0, "resume tickets could not be revoked: they are good until they expire");
        }
    }

    fn failed(&self) -> ReturnError {
        self.metrics.redis_failures_total.with_label_values(&["resume"]).inc();
        ReturnError::Unavailable
    }
}
