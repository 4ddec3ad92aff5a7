//! One timer for all connections: pings, and the deadlines of those that fell silent or stopped taking bytes.
//!
//! Owns a wheel of one-second slots with weak references; a connection that is gone leaves it by itself. Must never
//! keep a connection alive, and must never hold its lock while it looks at one.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::RngExt;

use super::frame::Frame;
use super::limits::Shared;
use super::outbox::Outbox;
use super::queue::Class;

/// Slots of the wheel; a connection is looked at more often than it turns.
const SLOTS: usize = 16;

/// Seconds that one turn of the timer may bring at most. When the whole process stood still for longer, its peers are
/// not to blame: what they sent meanwhile has not been read yet.
const LARGEST_STEP: u64 = 5;

/// Connections looked at before the task lets others run.
const BATCH: usize = 256;

/// The timer of all connections that share one [`Shared`].
///
/// Each is looked at every half of [`Limits::write_deadline`](super::Limits::write_deadline) (so that deadline is kept
/// to within half of itself), and pinged when nothing was heard from it for [`Limits::ping_after`](super::Limits::ping_after),
/// give or take a fifth. Who talks more often than that costs no ping and no pong, and its radio
/// may sleep. Whoever sends pings of its own (a page does, every 30 s) is waited for half the way from there to the end of
/// an idle connection: two who ask each other would both be woken twice as often.
pub struct Heartbeat {
    shared: Arc<Shared>,
    wheel: Mutex<Wheel>,
    ping: Frame,
}

struct Wheel {
    slots: [Vec<Entry>; SLOTS],
    /// Whole seconds counted so far; the slots up to here are empty.
    tick: u32,
    /// When `tick` began.
    since: Instant,
}

struct Entry {
    outbox: Weak<Outbox>,
    /// The tick at which the next ping is due, if nothing is heard until then.
    ping_at: u32,
    /// Seconds of silence before that ping.
    wait: u32,
}

impl Heartbeat {
    /// Makes a timer that starts counting at `now`.
    #[must_use]
    pub fn new(shared: &Arc<Shared>, now: Instant) -> Self {
        let wheel = Wheel { slots: Default::default(), tick: shared.tick(), since: now };
        Self { shared: Arc::clone(shared), wheel: Mutex::new(wheel), ping: Frame::ping() }
    }

    /// Looks after this connection from now on, until it is dropped or closing.
    pub fn register(&self, outbox: &Arc<Outbox>) {
        let mut wheel = self.wheel.lock();
        let wait = self.ping_wait();
        let entry = Entry { outbox: Arc::downgrade(outbox), ping_at: wheel.tick + wait, wait };
        let spread = wheel.tick + rand::rng().random_range(1..=self.look_every()); // of a burst of arrivals
        let first = spread.min(entry.ping_at);
        wheel.put(first, entry);
    }

    /// Does what is due every second, until `stop`.
    pub async fn run(&self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = &mut stop => return,
                now = second.tick() => {
                    for (number, entry) in self.due(now.into_std()).into_iter().enumerate() {
                        if number % BATCH == BATCH - 1 {
                            tokio::task::yield_now().await;
                        }
                        self.look_at(entry);
                    }
                }
            }
        }
    }

    /// What [`Heartbeat::run`] does by the time `now`, with the clock in the caller's hand.
    #[cfg(test)]
    fn advance(&self, now: Instant) {
        for entry in self.due(now) {
            self.look_at(entry);
        }
    }

    /// Connections that the timer knows, those that have gone since it last looked at them included.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.wheel.lock().slots.iter().map(Vec::len).sum()
    }

    /// Moves the clock on and takes out whom it is time to look at.
    fn due(&self, now: Instant) -> Vec<Entry> {
        let mut wheel = self.wheel.lock();
        let passed = now.saturating_duration_since(wheel.since).as_secs();
        wheel.since += Duration::from_secs(passed);
        let mut due = Vec::new();
        for _ in 0..passed.min(LARGEST_STEP) {
            wheel.tick += 1;
            let slot = wheel.tick as usize % SLOTS;
            due.append(&mut wheel.slots[slot]);
        }
        self.shared.set_tick(wheel.tick);
        due
    }

    fn look_at(&self, mut entry: Entry) {
        let tick = self.shared.tick();
        let Some(outbox) = entry.outbox.upgrade() else { return };
        if !outbox.check_deadlines(tick) {
            return;
        }
        if tick >= entry.ping_at {
            let grace = if outbox.pings() { self.grace() } else { 0 };
            entry.ping_at = outbox.heard() + (entry.wait + grace).min(self.latest());
        }
        if tick >= entry.ping_at {
            entry.wait = self.ping_wait();
            entry.ping_at = tick + entry.wait;
            let _ = outbox.push(&self.ping, Class::Control); // a connection that ends now needs no ping
        }
        let at = entry.ping_at.min(tick + self.look_every());
        self.wheel.lock().put(at, entry);
    }

    /// Seconds between two looks at one connection.
    fn look_every(&self) -> u32 {
        let half = self.shared.limits.write_deadline.as_secs() / 2;
        u32::try_from(half.clamp(1, SLOTS as u64 - 1)).unwrap_or(1)
    }

    /// Seconds that whoever sends pings of its own is given beyond those.
    fn grace(&self) -> u32 {
        let limits = &self.shared.limits;
        u32::try_from(limits.idle_after.saturating_sub(limits.ping_after).as_secs() / 2).unwrap_or(0)
    }

    /// Seconds of silence after which there is still time for an answer.
    fn latest(&self) -> u32 {
        u32::try_from(self.shared.limits.idle_after.as_secs() * 4 / 5).unwrap_or(u32::MAX / 4).max(1)
    }

    /// Seconds of silence before the next ping: the configured ones, up to a fifth more or less, so that connections which came
    /// together do not stay together.
    fn ping_wait(&self) -> u32 {
        let every =
            u32::try_from(self.shared.limits.ping_after.as_secs()).unwrap_or(u32::MAX / 4).clamp(1, u32::MAX / 4);
        let spread = every / 5;
        rand::rng().random_range(every - spread..=every + spread).min(self.latest())
    }
}

impl Wheel {
    /// Puts an entry where it is met at the tick `at`, which is less than one turn away.
    fn put(&mut self, at: u32, entry: Entry) {
        let at = at.clamp(self.tick + 1, self.tick + SLOTS as u32 - 1);
        self.slots[at as usize % SLOTS].push(entry);
    }
}

#[cfg(test)]
#[path = "heartbeat_tests.rs"]
mod tests;
