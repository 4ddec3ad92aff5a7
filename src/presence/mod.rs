//! Who is online in a room, across instances.
//!
//! A user is online while any tab on any instance is in the room. Each instance holds one *lease* for a user and room,
//! however many tabs, and renews it. What is announced is every change of the room's set in Redis, by the script that
//! makes the change, so it happens exactly once: invariant 9, *a presence ends when the last tab on the last instance
//! is gone plus the grace, or when the lease runs out; never by one tab's closing, never twice*.
//!
//! Published is what the caller made, followed by the number online after the change, in decimal: the caller's bytes
//! are a format of the bus that is not looked into. Must never announce from anywhere but a script, and never start a
//! task for one leave.

mod census;
mod local;
mod scripts;
mod typing;
mod upkeep;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

pub use typing::Typing;

use crate::domain::{InstanceName, Person, RoomId, UserId};
use crate::lifecycle::Lifecycle;
use crate::realtime::Connection;
use crate::telemetry::Metrics;
use local::Books;
use scripts::{Joined, Scripts};

/// How long one call may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(2);

/// Why presence could not be told or changed.
#[derive(Debug, thiserror::Error)]
pub enum PresenceError {
    /// Redis did not answer within the deadline.
    #[error("the presence in Redis did not answer in time")]
    Late,
    /// Redis refused, or the connection broke.
    #[error("the presence in Redis failed: {0}")]
    Redis(#[source] redis::RedisError),
}

/// How long users count as online.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How long the users of an instance that died stay online at most; also the keys' time to live.
    pub span: Duration,
    /// Time between a user's last tab and the leave, so that a reload does not show.
    pub grace: Duration,
}

/// Makes the bytes of announcements.
#[derive(Clone, Copy)]
pub struct Words {
    /// Somebody came.
    pub joined: fn(&Person) -> Vec<u8>,
    /// Somebody left; for any user, because those of an instance that died are announced by another.
    pub left: fn(UserId) -> Vec<u8>,
}

/// Hears of an announcement: the room, and the bytes that were announced.
type Announced = dyn Fn(RoomId, &[u8]) + Send + Sync;

/// The presence of this instance's users. Cloning is cheap and gives the same one.
#[derive(Clone)]
pub struct Presence(Arc<Inner>);

struct Inner {
    scripts: Scripts,
    timing: Timing,
    metrics: Arc<Metrics>,
    words: Words,
    announced: Box<Announced>,
    books: Books,
    connection: Connection,
    /// Rooms whose number has changed since they were last noted in Redis.
    changed: Mutex<HashSet<RoomId>>,
    /// Rooms in which a join saw ended leases: renewed and swept at once.
    urgent: Mutex<HashSet<RoomId>>,
    /// Wakes the upkeep.
    wake: Notify,
    /// Wakes those who want to enter while their leave is on its way.
    settled: Notify,
    handed_over: AtomicBool,
}

/// What one sees on entering.
#[derive(Debug)]
pub struct Entered {
    /// Whether the user was not online before, anywhere; then the join was announced.
    pub first: bool,
    /// Number of users online, the newcomer counted.
    pub online: u64,
    /// Up to 100 users online, those renewed last first; the newcomer is among them.
    pub sample: Vec<UserId>,
    /// The tab's place: dropping it leaves.
    pub stay: Stay,
}

/// One tab in a room. Dropping the last of a user starts the grace, and after it the leave.
#[must_use = "dropping it leaves"]
pub struct Stay {
    presence: Presence,
    room: RoomId,
    user: UserId,
}

impl Presence {
    /// Makes the presence of an instance. `announced` hears of each announcement that a script of this instance has made:
    /// of all instances, one does.
    #[must_use]
    pub fn new(
        connection: Connection,
        instance: InstanceName,
        timing: Timing,
        metrics: Arc<Metrics>,
        words: Words,
        announced: impl Fn(RoomId, &[u8]) + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Inner {
            scripts: Scripts::new(connection.clone(), instance, timing),
            connection,
            changed: Mutex::default(),
            timing,
            metrics,
            words,
            announced: Box::new(announced),
            books: Books::new(),
            urgent: Mutex::default(),
            wake: Notify::new(),
            settled: Notify::new(),
            handed_over: AtomicBool::new(false),
        }))
    }

    /// Starts the one task that renews, sweeps and leaves. It ends when the lifecycle is stopping and the last tab is
    /// gone, and at once when it is aborted.
    pub fn start(&self, lifecycle: &Lifecycle) {
        let (presence, lives) = (self.clone(), lifecycle.clone());
        lifecycle.spawn_vital("presence", async move {
            tokio::select! {
                () = lives.aborted() => {}
                () = presence.0.upkeep(&lives) => {}
            }
        });
    }

    /// Enters a room with one tab; announces the person, if nobody saw them before.
    ///
    /// # Errors
    /// When Redis does not answer within two seconds, or fails. The tab is not counted then.
    ///
    /// # Cancel safety
    /// Safe: if it is dropped, the tab leaves.
    pub async fn enter(&self, room: RoomId, person: &Arc<Person>) -> Result<Entered, PresenceError> {
        let (user, joined) = (person.id, (self.0.words.joined)(person));
        let entering = async {
            let stay = self.arrive(room, person).await;
            let found = self.0.scripts.join(room, user, &joined).await?;
            Ok((stay, found))
        };
        let entered = tokio::time::timeout(DEADLINE, entering).await.unwrap_or(Err(PresenceError::Late));
        let (stay, found) = entered.inspect_err(|_| self.0.count_failure())?;
        let Joined { first, online, epoch, expired, sample } = found;
        self.0.books.confirm(room, user, epoch);
        if first {
            self.0.has_joined(room, &joined);
        }
        if expired > 0 {
            self.0.urgent.lock().insert(room);
            self.0.wake.notify_one();
        }
        Ok(Entered { first, online, sample, stay })
    }

    /// Counts the tab, after a leave of the same user that is on its way: Redis must see the two in this order.
    async fn arrive(&self, room: RoomId, person: &Arc<Person>) -> Stay {
        loop {
            let settled = self.0.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            if self.0.books.arrive(room, person) {
                return Stay { presence: self.clone(), room, user: person.id };
            }
            settled.await;
        }
    }

    /// How many are online in a room, and up to 100 of them, those renewed last first.
    ///
    /// # Errors
    /// When Redis does not answer in time, or fails.
    pub async fn online(&self, room: RoomId) -> Result<(u64, Vec<UserId>), PresenceError> {
        self.0.scripts.online(room).await.inspect_err(|_| self.0.count_failure())
    }

    /// How many are online in each of the rooms, in one round trip.
    ///
    /// # Errors
    /// When Redis does not answer in time, or fails.
    pub async fn counts(&self, rooms: &[RoomId]) -> Result<Vec<u64>, PresenceError> {
        self.0.scripts.counts(rooms).await.inspect_err(|_| self.0.count_failure())
    }

    /// Stops announcing leaves, those in their grace included: the clients return on another instance, which renews
    /// their presence, or their leases end, which are renewed at once for longer than usual.
    pub fn hand_over(&self) {
        self.0.hand_over();
    }
}

impl Inner {
    fn hand_over(&self) {
        self.handed_over.store(true, Ordering::Release);
        self.books.forget_leaves();
        self.wake.notify_one();
    }

    fn depart(&self, room: RoomId, user: UserId) {
        let announced = !self.handed_over.load(Ordering::Acquire);
        let ends = announced.then(|| Instant::now() + self.timing.grace);
        if self.books.depart(room, user, ends) {
            self.wake.notify_one();
        }
    }

    fn has_joined(&self, room: RoomId, joined: &[u8]) {
        self.metrics.presence_changes_total.with_label_values(&["joined"]).inc();
        self.changed.lock().insert(room);
        (self.announced)(room, joined);
    }

    fn has_left(&self, room: RoomId, users: &[UserId]) {
        self.metrics.presence_changes_total.with_label_values(&["left"]).inc_by(users.len() as u64);
        self.changed.lock().insert(room);
        users.iter().for_each(|user| (self.announced)(room, &(self.words.left)(*user)));
    }

    fn count_failure(&self) {
        self.metrics.redis_failures_total.with_label_values(&["presence"]).inc();
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.presence.0.depart(self.room, self.user);
    }
}

impl fmt::Debug for Stay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stay").field("room", &self.room).field("user", &self.user).finish()
    }
}
