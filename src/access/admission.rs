//! Who may open another socket: so many open at once and so many new ones in a while for each user, across instances.
//!
//! A socket's place in Redis is a lease that this instance renews; after a crash the count heals when the leases end.
//! Leaving never waits: a place is given back by the one task behind this, or if the queue to it is full, by time. Who
//! returns takes the place of the socket that it had, which may be half open and count still; that one is ended.
//!
//! The places tell who is online at all: a user with a place, or within the grace after the last one. The first place
//! and the end of the grace are announced by the scripts; who watches must look again from time to time, because the
//! end of an instance that died is announced by nobody.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use redis::{Cmd, RedisError, Script};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::quota::{micros, within};
use crate::config::Live;
use crate::domain::{ConnectionId, Topic, UserId};
use crate::keyspace;
use crate::lifecycle::Lifecycle;
use crate::realtime::{self, Connection};
use crate::telemetry::Metrics;

static ADMIT: LazyLock<Script> = LazyLock::new(|| realtime::script(include_str!("lua/admit.lua")));
static RELEASE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/release.lua")));
static SETTLE: LazyLock<Script> = LazyLock::new(|| realtime::script(include_str!("lua/settle.lua")));
static HOLD: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/hold.lua")));

/// Time in which new sockets are counted.
pub const MINUTE: Duration = Duration::from_secs(60);
/// When to try again after too many open sockets, at the latest: one may be closed at any time.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// Parts of the books, one of which is renewed at a time.
const SHARDS: usize = 32;
/// Users that are renewed, and places that are given back, at once.
const PIPELINED: usize = 64;
/// How much later than its end a grace is looked at, so that Redis's clock has surely passed it.
const MARGIN: Duration = Duration::from_millis(50);
/// Users whose grace is over that are looked at before renewals have their turn.
const SETTLED: usize = 1_024;
/// Places waiting to be given back; what comes beyond is left to its lease.
const QUEUE: usize = 65_536;

/// The limits; 0 turns one off.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open sockets a user, across instances.
    pub connections: u32,
    /// New sockets a user in [`MINUTE`], across instances; resumed ones do not count.
    pub connects: u32,
    /// How long a socket counts after its last renewal: what it takes until the places of an instance that died are free.
    pub lease: Duration,
    /// How long a user without sockets stays online, so that a reload does not show.
    pub grace: Duration,
}

/// Why a socket is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The user has too many open.
    Connections,
    /// The user opened too many in the last minute.
    Connects,
}

/// Why a socket is not admitted, or why nobody knows.
#[derive(Debug, thiserror::Error)]
pub enum AdmissionError {
    /// A limit is reached.
    #[error("a limit is reached: {reason:?}, try again after {retry_after:?}")]
    Refused {
        /// Which.
        reason: Reason,
        /// When to try again: exact for [`Reason::Connects`], a suggestion for [`Reason::Connections`].
        retry_after: Duration,
    },
    /// Redis did not answer within the deadline.
    #[error("the admission in Redis did not answer in time")]
    Late,
    /// Redis refused, or the connection broke.
    #[error("the admission in Redis failed: {0}")]
    Redis(#[source] RedisError),
}

/// The open sockets of some users, in the least memory: nearly everybody has one.
type Held = BTreeSet<(UserId, ConnectionId)>;

/// Users whose last socket is gone, in the order in which their graces end.
type Leaving = VecDeque<(Instant, UserId)>;

/// The admission of users. Cloning is cheap and gives the same one.
#[derive(Clone)]
pub struct Admission(Arc<Inner>);

struct Inner {
    connection: Connection,
    limits: Live<Limits>,
    metrics: Arc<Metrics>,
    announcement: Box<dyn Fn(UserId, bool) -> Vec<u8> + Send + Sync>,
    held: Box<[Mutex<Held>]>,
    released: mpsc::Sender<(UserId, ConnectionId)>,
    queue: Mutex<Option<mpsc::Receiver<(UserId, ConnectionId)>>>,
    handed_over: AtomicBool,
}

/// A socket's place. Dropping it gives the place back.
#[must_use = "dropping it gives the place back"]
pub struct Admitted {
    admission: Admission,
    user: UserId,
    connection: ConnectionId,
    /// Redis may have the place, or will get it with the next renewal.
    taken: bool,
}

impl Admission {
    /// Makes the admission of an instance. `announcement` makes the bytes that say that a user is online, or no longer.
    #[must_use]
    pub fn new(
        connection: Connection,
        limits: Limits,
        metrics: Arc<Metrics>,
        announcement: impl Fn(UserId, bool) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let (released, queue) = mpsc::channel(QUEUE);
        let held = (0..SHARDS).map(|_| Mutex::default()).collect();
        let (queue, announcement, limits) = (Mutex::new(Some(queue)), Box::new(announcement), Live::new(limits));
        let handed_over = AtomicBool::new(false);
        Self(Arc::new(Inner { connection, limits, metrics, announcement, held, released, queue, handed_over }))
    }

    /// Makes the graces of those who leave from now on as long as a lease, and announces no end of theirs: the clients
    /// return on another instance, or it is as if this one had died. Their places are free at once nevertheless.
    pub fn hand_over(&self) {
        self.0.handed_over.store(true, Ordering::Release);
    }

    /// Lets other numbers hold from now on, for who comes.
    pub fn set(&self, connections: u32, connects: u32) {
        let limits = **self.0.limits.load();
        self.0.limits.set(Limits { connections, connects, ..limits });
    }

    /// Starts the one task that renews leases and gives places back. It ends when the lifecycle is stopping and the
    /// last place was given back, and at once when it is aborted.
    pub fn start(&self, lifecycle: &Lifecycle) {
        let Some(queue) = self.0.queue.lock().take() else { return };
        let (admission, lives) = (self.clone(), lifecycle.clone());
        lifecycle.spawn_vital("admission", async move {
            tokio::select! {
                () = lives.aborted() => {}
                () = admission.0.upkeep(&lives, queue) => {}
            }
        });
    }

    /// Admits one socket of a user: one that returns in place of the one it had.
    ///
    /// # Errors
    /// When a limit is reached, or Redis does not answer within two seconds, or fails.
    ///
    /// # Cancel safety
    /// Safe: if it is dropped, the place is given back.
    pub async fn admit(
        &self,
        user: UserId,
        connection: ConnectionId,
        former: Option<ConnectionId>,
    ) -> Result<Admitted, AdmissionError> {
        let (inner, limits) = (&self.0, **self.0.limits.load());
        let mut admitted = Admitted { admission: self.clone(), user, connection, taken: true };
        let mut call = ADMIT.key(keyspace::sockets(user));
        call.key(keyspace::connect_window(user)).arg(connection.0).arg(micros(limits.lease));
        call.arg(limits.connections).arg(u8::from(former.is_some())).arg(micros(MINUTE)).arg(limits.connects);
        call.arg(keyspace::channel(Topic::Online(user))).arg((inner.announcement)(user, true));
        let (replaced, order) = former.map(|former| (former.0.to_string(), replace(user, former))).unwrap_or_default();
        call.arg(replaced).arg(keyspace::CONTROL).arg(order);
        let mut redis = inner.connection.clone();
        let asked: Result<(u8, u64), _> = within(call.invoke_async(&mut redis)).await;
        let (answer, wait) = match asked {
            Ok(answer) => answer,
            Err(error) => {
                inner.count_failure();
                if limits.connections > 0 || limits.connects > 0 {
                    return Err(error.map_or(AdmissionError::Late, AdmissionError::Redis));
                }
                (0, 0) // nothing is limited: the next renewal tells Redis
            }
        };
        let wait = Duration::from_micros(wait);
        let (reason, retry_after, label) = match answer {
            0 => {
                inner.held(user).lock().insert((user, connection));
                return Ok(admitted);
            }
            1 => (Reason::Connections, wait.min(TRY_AGAIN), "connections"),
            _ => (Reason::Connects, wait, "connects"),
        };
        admitted.taken = false;
        inner.metrics.limited_total.with_label_values(&[label]).inc();
        Err(AdmissionError::Refused { reason, retry_after })
    }

    /// Says of each user whether any socket, anywhere, is open, in one round trip.
    ///
    /// # Errors
    /// When Redis does not answer within two seconds, or fails.
    pub async fn online(&self, users: &[UserId]) -> Result<Vec<bool>, AdmissionError> {
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let all = users.iter().map(|user| Cmd::exists(keyspace::sockets(*user))).collect();
        within(self.0.connection.all(all)).await.map_err(|error| {
            self.0.count_failure();
            error.map_or(AdmissionError::Late, AdmissionError::Redis)
        })
    }
}

impl Inner {
    fn held(&self, user: UserId) -> &Mutex<Held> {
        &self.held[usize::from(user.0.to_le_bytes()[0]) % SHARDS]
    }

    fn count_failure(&self) {
        self.metrics.redis_failures_total.with_label_values(&["admission"]).inc();
    }

    async fn upkeep(&self, lifecycle: &Lifecycle, mut queue: mpsc::Receiver<(UserId, ConnectionId)>) {
        let pause = (self.limits.load().lease / 3 / u32::try_from(SHARDS).unwrap_or(1)).max(Duration::from_millis(1));
        let mut tick = tokio::time::interval(pause);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut shard, mut missed) = (0, [false; SHARDS]);
        let mut batch = Vec::with_capacity(PIPELINED);
        let mut leaving = Leaving::new();
        loop {
            let first = leaving.front().map(|(at, _)| *at);
            tokio::select! {
                _ = tick.tick() => {
                    missed[shard] = true;
                    self.renew(shard, &mut missed).await;
                    shard = (shard + 1) % SHARDS;
                }
                _ = queue.recv_many(&mut batch, PIPELINED) => {
                    let at = Instant::now() + self.limits.load().grace + MARGIN;
                    leaving.extend(self.give_back(&mut batch).await.into_iter().map(|user| (at, user)));
                }
                () = tokio::time::sleep_until(first.unwrap_or_else(Instant::now)), if first.is_some() => {
                    let users = take_due(&mut leaving, Instant::now());
                    let at = Instant::now() + MARGIN;
                    leaving.extend(self.settle(&users).await.into_iter().map(|user| (at, user)));
                    leaving.make_contiguous().sort_unstable();
                }
            }
            if lifecycle.is_stopping() && queue.is_empty() && self.held.iter().all(|shard| shard.lock().is_empty()) {
                return;
            }
        }
    }

    /// Renews a shard, then those that were missed. The first failure ends the attempt.
    async fn renew(&self, first: usize, missed: &mut [bool; SHARDS]) {
        for step in 0..SHARDS {
            let shard = (first + step) % SHARDS;
            if !missed[shard] {
                continue;
            }
            let held: Vec<_> = self.held[shard].lock().iter().copied().collect();
            let users: Vec<_> = held.chunk_by(|(one, _), (other, _)| one == other).collect();
            // In a Cluster each user is in a slot of its own, and a script has keys of one.
            let together = if keyspace::are_ids_tagged() { 1 } else { PIPELINED };
            for users in users.chunks(PIPELINED) {
                let calls = users.chunks(together).map(|users| self.hold(users));
                if join_all(calls).await.contains(&false) {
                    *missed = [true; SHARDS]; // time is being lost for all
                    return;
                }
            }
            missed[shard] = false;
        }
    }

    /// Renews the sockets of some users.
    async fn hold(&self, users: &[&[(UserId, ConnectionId)]]) -> bool {
        let mut call = HOLD.prepare_invoke();
        call.arg(micros(self.limits.load().lease));
        for sockets in users {
            if let Some((user, _)) = sockets.first() {
                call.key(keyspace::sockets(*user)).arg(sockets.len());
            }
            for (_, connection) in *sockets {
                call.arg(connection.0);
            }
        }
        let mut redis = self.connection.clone();
        let held: Result<(), _> = within(call.invoke_async(&mut redis)).await;
        held.inspect_err(|_| self.count_failure()).is_ok()
    }

    /// Gives places back; those that Redis does not hear of are left to their leases. Returns whose last place it was, to
    /// be looked at after the grace.
    async fn give_back(&self, batch: &mut Vec<(UserId, ConnectionId)>) -> Vec<UserId> {
        let (limits, handed_over) = (**self.limits.load(), self.handed_over.load(Ordering::Acquire));
        let grace = if handed_over { limits.lease } else { limits.grace };
        let calls = batch.drain(..).map(|(user, connection)| async move {
            let mut call = RELEASE.key(keyspace::sockets(user));
            call.arg(connection.0).arg(micros(grace));
            let last: Result<u8, _> = within(call.invoke_async(&mut self.connection.clone())).await;
            last.inspect_err(|_| self.count_failure()).is_ok_and(|last| last == 1 && !handed_over).then_some(user)
        });
        join_all(calls).await.into_iter().flatten().collect()
    }

    /// Announces those whose grace is over. Returns whose is not, although it seemed so.
    async fn settle(&self, users: &[UserId]) -> Vec<UserId> {
        let mut early = Vec::new();
        for users in users.chunks(PIPELINED) {
            let calls = users.iter().map(|user| async move {
                let mut call = SETTLE.key(keyspace::sockets(*user));
                call.arg(keyspace::channel(Topic::Online(*user))).arg((self.announcement)(*user, false));
                let left: Result<u64, _> = within(call.invoke_async(&mut self.connection.clone())).await;
                left.inspect_err(|_| self.count_failure()).is_ok_and(|left| left > 0).then_some(*user)
            });
            early.extend(join_all(calls).await.into_iter().flatten());
        }
        early
    }
}

/// The order to end a socket in whose place another one came.
fn replace(user: UserId, former: ConnectionId) -> String {
    format!(r#"{{"action":"replaced","user":"{user}","connection":{former}}}"#)
}

/// Takes some of those whose grace is over.
fn take_due(leaving: &mut Leaving, now: Instant) -> Vec<UserId> {
    let due = leaving.partition_point(|(at, _)| *at <= now).min(SETTLED);
    leaving.drain(..due).map(|(_, user)| user).collect()
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let inner = &self.admission.0;
        if !self.taken {
            return;
        }
        inner.held(self.user).lock().remove(&(self.user, self.connection));
        // Full, or the task has ended: the lease ends by itself.
        let _ = inner.released.try_send((self.user, self.connection));
    }
}

impl fmt::Debug for Admitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admitted").field("user", &self.user).field("connection", &self.connection).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_whose_grace_is_over_are_taken_in_pieces_and_the_others_stay() {
        let (now, later) = (Instant::now(), Instant::now() + Duration::from_secs(60));
        let due: Vec<_> = (0..100_000).map(UserId).collect();
        let mut leaving: Leaving = due.iter().map(|user| (now, *user)).chain([(later, UserId(-1))]).collect();
        let mut taken = Vec::new();
        while leaving.len() > 1 {
            let some = take_due(&mut leaving, now);
            assert!((1..=SETTLED).contains(&some.len()), "{}", some.len());
            taken.extend(some);
        }
        assert_eq!((taken, leaving), (due, Leaving::from([(later, UserId(-1))])));
    }
}
