//! What one connection may use, and what all connections share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::decode::Rules;
use crate::telemetry::Metrics;

/// What one connection may use. The defaults are the contract's.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest message from the client in bytes, its fragments added up; a larger one closes with 1009.
    pub max_message: usize,
    /// Bytes that may wait for the client behind the frame being written; a push that finds as many there closes with
    /// 4008.
    pub outbox_bytes: usize,
    /// Silence after which we ping, on average: each wait is up to a fifth shorter or longer.
    pub ping_after: Duration,
    /// Silence that closes with 4008.
    pub idle_after: Duration,
    /// How long the client may take nothing while something waits for it, before that closes with 4008.
    pub write_deadline: Duration,
    /// How long a close handshake may take, the rest of the queue included.
    pub close_deadline: Duration,
    /// Whether binary messages are taken rather than closed with 1003. The gateway never does.
    pub accept_binary: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message: 32 * 1024,
            outbox_bytes: 256 * 1024,
            ping_after: Duration::from_secs(25),
            idle_after: Duration::from_secs(60),
            write_deadline: Duration::from_secs(10),
            close_deadline: Duration::from_secs(2),
            accept_binary: false,
        }
    }
}

/// What all connections of a gateway share: one pointer in each.
#[derive(Debug)]
pub struct Shared {
    pub(super) limits: Limits,
    pub(super) metrics: Arc<Metrics>,
    /// Seconds as [`Heartbeat`](super::Heartbeat) counts them, so that noting the time of a read is no system call.
    tick: AtomicU32,
}

impl Shared {
    /// Shares these limits and metrics.
    #[must_use]
    pub fn new(limits: Limits, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { limits, metrics, tick: AtomicU32::new(0) })
    }

    pub(super) fn rules(&self) -> Rules {
        Rules { max_message: self.limits.max_message, accept_binary: self.limits.accept_binary }
    }

    pub(super) fn tick(&self) -> u32 {
        self.tick.load(Ordering::Relaxed)
    }

    pub(super) fn set_tick(&self, tick: u32) {
        self.tick.store(tick, Ordering::Relaxed);
    }
}
