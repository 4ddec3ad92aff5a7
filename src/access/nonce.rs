//! A sender's own name for a message, `client_id`: the same of the same user within ten minutes is the same message, on
//! any instance, after any reconnect.
//!
//! The name is bound to a message's id before anything is written, and to its ack afterwards. While one connection writes
//! it, the others who ask wait for its ack. A claim that Redis runs too late binds nothing, and a connection whose claim was
//! answered with nothing may claim again. Must never give a name two ids.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use redis::Script;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::clock::Clock;
use super::quota::within;
use crate::domain::{ConnectionId, MessageId, UserId};
use crate::keyspace;
use crate::realtime::Connection;
use crate::telemetry::Metrics;

static CLAIM: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/nonce.lua")));

/// Lets the next one write, unless that one does already.
static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new("if redis.call('HGET', KEYS[1], 'owner') == ARGV[1] then redis.call('HSET', KEYS[1], 'until', 0) end")
});

/// How long one connection may take to write. Longer than the writer's own deadlines.
const LEASE: Duration = Duration::from_secs(20);
/// How long another waits for its ack.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(25);

/// The right to write the message of a name, with this id and no other.
#[derive(Debug)]
pub struct Nonce {
    key: String,
    owner: String,
    pub id: MessageId,
}

/// What is known of a name.
#[derive(Debug)]
pub enum Claim {
    /// Its message is stored, and this is the ack in JSON.
    Stored(Vec<u8>),
    /// Nobody asked before.
    New(Nonce),
    /// Somebody asked before and did not hear of a success: the message may be stored or not.
    Again(Nonce),
}

/// Why a name cannot be claimed now.
#[derive(Debug, thiserror::Error)]
pub enum NonceError {
    /// Another connection is writing it.
    #[error("the message is still being written")]
    Busy,
    /// Redis does not answer in time, or fails.
    #[error("what became of a `client_id` cannot be told")]
    Unavailable,
}

/// The names of all messages of ten minutes. Cloning is cheap.
#[derive(Clone)]
pub struct Nonces {
    connection: Connection,
    clock: Clock,
    metrics: Arc<Metrics>,
}

impl Nonces {
    /// Names over a connection to the realtime database.
    #[must_use]
    pub fn new(connection: Connection, clock: Clock, metrics: Arc<Metrics>) -> Self {
        Self { connection, clock, metrics }
    }

    /// Claims a name for a user, waiting for who writes its message now. A connection that claims a name once more has it:
    /// it takes one command after the other, so the first one is over, and its claim may only not have been answered.
    ///
    /// # Errors
    /// When somebody else writes it for too long, or Redis does not answer.
    pub async fn claim(&self, connection: ConnectionId, user: UserId, client_id: &str) -> Result<Claim, NonceError> {
        let (key, owner) = (keyspace::nonce(user, client_id), connection.to_string());
        let fresh = MessageId::generate().to_string();
        let lease = u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX);
        let give_up = Instant::now() + PATIENCE;
        loop {
            let claiming = |deadline| {
                let mut call = CLAIM.key(&key);
                call.arg(deadline).arg(&fresh).arg(&owner).arg(lease).arg(keyspace::NONCE_SECONDS);
                call
            };
            let asked = self.clock.call::<(String, String, Vec<u8>)>(&self.connection, claiming).await;
            let (word, id, ack) = asked.map_err(|_| self.failed())?;
            let id = Uuid::parse_str(&id).map(MessageId).map_err(|_| self.failed())?;
            match word.as_str() {
                "stored" => return Ok(Claim::Stored(ack)),
                "new" => return Ok(Claim::New(Nonce { key, owner, id })),
                "again" => return Ok(Claim::Again(Nonce { key, owner, id })),
                _ if Instant::now() >= give_up => return Err(NonceError::Busy),
                _ => sleep(LOOK).await,
            }
        }
    }

    /// Binds a name to its message's ack. If Redis does not answer, the next who asks finds the message in Postgres.
    pub async fn settle(&self, nonce: &Nonce, ack: &[u8]) {
        let mut calls = redis::pipe();
        calls.cmd("HSET").arg(&nonce.key).arg("id").arg(nonce.id.to_string()).arg("ack").arg(ack).ignore();
        calls.cmd("EXPIRE").arg(&nonce.key).arg(keyspace::NONCE_SECONDS).ignore();
        if within(calls.exec_async(&mut self.connection.clone())).await.is_err() {
            self.failed();
        }
    }

    /// Gives the right to write back. The name keeps its id, because a write whose outcome is unknown may come through.
    pub async fn release(&self, nonce: &Nonce) {
        let mut call = RELEASE.key(&nonce.key);
        call.arg(&nonce.owner);
        if within(call.invoke_async::<()>(&mut self.connection.clone())).await.is_err() {
            self.failed();
        }
    }

    fn failed(&self) -> NonceError {
        self.metrics.redis_failures_total.with_label_values(&["nonce"]).inc();
        NonceError::Unavailable
    }
}
