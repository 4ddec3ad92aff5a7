//! Who may open another socket: so many open at once and so many new ones in a while for each user, across instances;
//! and on this instance alone so many for each client address, and so many handshakes a second.
//!
//! A socket's place in Redis is a lease that this instance renews; after a crash the count heals when the leases end.
//! Leaving never waits: a place is given back by the one task behind this, or if the queue to it is full, by time. Must
//! never hold anything that names a client's address longer than its sockets are open.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use parking_lot::Mutex;
use redis::aio::ConnectionManager;
use redis::{RedisError, Script};
use tokio::sync::mpsc;

use super::bucket::{Bucket, Rate, Wait};
use super::quota::{micros, within};
use crate::domain::{ConnectionId, InstanceName, UserId};
use crate::keyspace;
use crate::lifecycle::Lifecycle;
use crate::telemetry::Metrics;

static ADMIT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/admit.lua")));
static HOLD: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/hold.lua")));

/// Time in which new sockets are counted.
pub const MINUTE: Duration = Duration::from_secs(60);
/// When to try again after too many open sockets, at the latest: one may be closed at any time.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// Parts of the books, one of which is renewed at a time.
const SHARDS: usize = 32;
/// Users that are renewed, and places that are given back, at once.
const PIPELINED: usize = 64;
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

/// The open sockets of some users.
type Held = HashMap<UserId, Vec<ConnectionId>>;

/// The admission of users. Cloning is cheap and gives the same one.
#[derive(Clone)]
pub struct Admission(Arc<Inner>);

struct Inner {
    connection: ConnectionManager,
    instance: InstanceName,
    limits: Limits,
    metrics: Arc<Metrics>,
    held: Box<[Mutex<Held>]>,
    released: mpsc::Sender<(UserId, ConnectionId)>,
    queue: Mutex<Option<mpsc::Receiver<(UserId, ConnectionId)>>>,
}

/// A socket's place. Dropping it gives the place back.
#[must_use = "dropping it gives the place back"]
pub struct Admitted {
    admission: Admission,
    user: UserId,
    connection: ConnectionId,
    /// Redis may have the place.
    taken: bool,
}

impl Admission {
    /// Makes the admission of an instance.
    #[must_use]
    pub fn new(connection: ConnectionManager, instance: InstanceName, limits: Limits, metrics: Arc<Metrics>) -> Self {
        let (released, queue) = mpsc::channel(QUEUE);
        let held = (0..SHARDS).map(|_| Mutex::default()).collect();
        let queue = Mutex::new(Some(queue));
        Self(Arc::new(Inner { connection, instance, limits, metrics, held, released, queue }))
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

    /// Admits one socket of a user.
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
        resumed: bool,
    ) -> Result<Admitted, AdmissionError> {
        let (inner, limits) = (&self.0, self.0.limits);
        let taken = limits.connections > 0 || limits.connects > 0;
        let mut admitted = Admitted { admission: self.clone(), user, connection, taken };
        if !taken {
            return Ok(admitted);
        }
        let mut call = ADMIT.key(keyspace::sockets(user));
        call.key(keyspace::connect_window(user)).arg(inner.member(connection)).arg(micros(limits.lease));
        call.arg(limits.connections).arg(u8::from(resumed)).arg(micros(MINUTE)).arg(limits.connects);
        let mut redis = inner.connection.clone();
        let asked: Result<(u8, u64), _> = within(call.invoke_async(&mut redis)).await;
        let (answer, wait) = asked.map_err(|error| {
            inner.count_failure();
            error.map_or(AdmissionError::Late, AdmissionError::Redis)
        })?;
        let wait = Duration::from_micros(wait);
        let (reason, retry_after, label) = match answer {
            0 => {
                inner.held(user).lock().entry(user).or_default().push(connection);
                return Ok(admitted);
            }
            1 => (Reason::Connections, wait.min(TRY_AGAIN), "connections"),
            _ => (Reason::Connects, wait, "connects"),
        };
        admitted.taken = false;
        inner.metrics.limited_total.with_label_values(&[label]).inc();
        Err(AdmissionError::Refused { reason, retry_after })
    }
}

impl Inner {
    fn member(&self, connection: ConnectionId) -> String {
        format!("{}/{connection}", self.instance)
    }

    fn held(&self, user: UserId) -> &Mutex<Held> {
        &self.held[usize::from(user.0.to_le_bytes()[0]) % SHARDS]
    }

    fn count_failure(&self) {
        self.metrics.redis_failures_total.with_label_values(&["admission"]).inc();
    }

    async fn upkeep(&self, lifecycle: &Lifecycle, mut queue: mpsc::Receiver<(UserId, ConnectionId)>) {
        let pause = (self.limits.lease / 3 / u32::try_from(SHARDS).unwrap_or(1)).max(Duration::from_millis(1));
        let mut tick = tokio::time::interval(pause);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut shard, mut missed) = (0, [false; SHARDS]);
        let mut batch = Vec::with_capacity(PIPELINED);
        loop {
            tokio::select! {
                _ = tick.tick() => {
                    missed[shard] = true;
                    self.renew(shard, &mut missed).await;
                    shard = (shard + 1) % SHARDS;
                }
                _ = queue.recv_many(&mut batch, PIPELINED) => self.give_back(&mut batch).await,
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
            let users: Vec<_> = self.held[shard].lock().iter().map(|(user, held)| (*user, held.clone())).collect();
            for users in users.chunks(PIPELINED) {
                let calls = users.iter().map(|(user, connections)| self.hold(*user, connections));
                if join_all(calls).await.contains(&false) {
                    *missed = [true; SHARDS]; // time is being lost for all
                    return;
                }
            }
            missed[shard] = false;
        }
    }

    async fn hold(&self, user: UserId, connections: &[ConnectionId]) -> bool {
        let mut call = HOLD.key(keyspace::sockets(user));
        call.arg(micros(self.limits.lease));
        for connection in connections {
            call.arg(self.member(*connection));
        }
        let mut redis = self.connection.clone();
        let held: Result<(), _> = within(call.invoke_async(&mut redis)).await;
        held.inspect_err(|_| self.count_failure()).is_ok()
    }

    /// Gives places back; those that Redis does not hear of are left to their leases.
    async fn give_back(&self, batch: &mut Vec<(UserId, ConnectionId)>) {
        let calls = batch.drain(..).map(|(user, connection)| async move {
            let mut command = redis::cmd("ZREM");
            command.arg(keyspace::sockets(user)).arg(self.member(connection));
            if within(command.exec_async(&mut self.connection.clone())).await.is_err() {
                self.count_failure();
            }
        });
        join_all(calls).await;
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let inner = &self.admission.0;
        if !self.taken {
            return;
        }
        {
            let mut held = inner.held(self.user).lock();
            if let Some(connections) = held.get_mut(&self.user) {
                connections.retain(|connection| *connection != self.connection);
                if connections.is_empty() {
                    held.remove(&self.user);
                }
            }
        }
        // Full, or the task has ended: the lease ends by itself.
        let _ = inner.released.try_send((self.user, self.connection));
    }
}

impl fmt::Debug for Admitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admitted").field("user", &self.user).field("connection", &self.connection).finish()
    }
}

/// Open sockets of each client address, on this instance. Cloning is cheap and gives the same one.
#[derive(Clone)]
pub struct Addresses {
    open: Arc<Mutex<HashMap<IpAddr, u32>>>,
    most: u32,
    metrics: Arc<Metrics>,
}

/// One socket of an address. Dropping it counts one less.
#[must_use = "dropping it counts the socket as closed"]
pub struct FromAddress {
    open: Arc<Mutex<HashMap<IpAddr, u32>>>,
    address: IpAddr,
}

impl Addresses {
    /// At most `most` open sockets an address; 0 is any number.
    #[must_use]
    pub fn new(most: u32, metrics: Arc<Metrics>) -> Self {
        Self { open: Arc::default(), most, metrics }
    }

    /// Counts one more socket of an address; `None` when it has as many as it may.
    #[must_use]
    pub fn enter(&self, address: IpAddr) -> Option<FromAddress> {
        let mut open = self.open.lock();
        let count = open.entry(address).or_default();
        if self.most > 0 && *count >= self.most {
            self.metrics.limited_total.with_label_values(&["addresses"]).inc();
            return None;
        }
        *count += 1;
        Some(FromAddress { open: Arc::clone(&self.open), address })
    }
}

impl Drop for FromAddress {
    fn drop(&mut self) {
        let mut open = self.open.lock();
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

/// New sockets a second, on this instance.
pub struct HandshakeRate {
    bucket: Mutex<Bucket>,
    rate: Rate,
    metrics: Arc<Metrics>,
}

impl HandshakeRate {
    /// So many in the long run and as many at once; 0 is any number.
    #[must_use]
    pub fn new(per_second: u32, metrics: Arc<Metrics>) -> Self {
        let bucket = Mutex::new(Bucket::new(Instant::now()));
        Self { bucket, rate: Rate::new(per_second, per_second), metrics }
    }

    /// Counts one handshake.
    ///
    /// # Errors
    /// When there are too many at this time.
    pub fn take(&self, now: Instant) -> Result<(), Wait> {
        let taken = self.bucket.lock().take(&self.rate, now);
        taken.inspect_err(|_| self.metrics.limited_total.with_label_values(&["handshakes"]).inc())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> Arc<Metrics> {
        Arc::new(Metrics::new().expect("names are valid"))
    }

    #[test]
    fn an_address_has_so_many_sockets_and_is_forgotten_with_the_last() {
        let addresses = Addresses::new(2, metrics());
        let (here, there) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let first = addresses.enter(here);
        let second = addresses.enter(here);
        assert!(first.is_some() && second.is_some() && addresses.enter(here).is_none());
        assert!(addresses.enter(there).is_some());
        drop(first);
        assert!(addresses.enter(here).is_some());
        drop(second);
        assert!(addresses.open.lock().is_empty());
    }

    #[test]
    fn a_limit_of_zero_is_any_number() {
        let addresses = Addresses::new(0, metrics());
        let sockets: Vec<_> = (0..2000).map(|_| addresses.enter(IpAddr::from([10, 0, 0, 1]))).collect();
        assert!(sockets.iter().all(Option::is_some));
        let rate = HandshakeRate::new(0, metrics());
        assert!((0..2000).all(|_| rate.take(Instant::now()).is_ok()));
    }

    #[test]
    fn handshakes_come_at_their_rate() {
        let metrics = metrics();
        let rate = HandshakeRate::new(1000, Arc::clone(&metrics));
        let now = Instant::now();
        assert_eq!((0..1500).filter(|_| rate.take(now).is_ok()).count(), 1000);
        assert_eq!((0..10).filter(|_| rate.take(now + Duration::from_millis(5)).is_ok()).count(), 5);
        assert_eq!(metrics.limited_total.with_label_values(&["handshakes"]).get(), 505);
    }
}
