//! Who types in a room, for those who ask Redis; the events themselves go over the bus. Kept nowhere else.

use std::sync::{Arc, LazyLock};

use redis::Script;

use super::PresenceError;
use super::scripts::within;
use crate::domain::{RoomId, UserId};
use crate::keyspace;
use crate::realtime::Connection;
use crate::telemetry::Metrics;

/// How long somebody counts as typing after the last sign of it, in milliseconds.
const LIVE: u64 = 10_000;

static TYPING: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/typing.lua")));

/// Writes who types. Cloning is cheap.
#[derive(Clone)]
pub struct Typing {
    connection: Connection,
    metrics: Arc<Metrics>,
}

impl Typing {
    /// Typing over a connection to the realtime database.
    #[must_use]
    pub fn new(connection: Connection, metrics: Arc<Metrics>) -> Self {
        Self { connection, metrics }
    }

    /// Notes that a user types, or no longer does.
    ///
    /// # Errors
    /// When Redis does not answer in time, or fails.
    pub async fn set(&self, room: RoomId, user: UserId, typing: bool) -> Result<(), PresenceError> {
        let mut call = TYPING.key(keyspace::typing(room));
        call.arg(user.0).arg(u8::from(typing)).arg(LIVE);
        within(call.invoke_async(&mut self.connection.clone()))
            .await
            .inspect_err(|_| self.metrics.redis_failures_total.with_label_values(&["presence"]).inc())
    }
}
