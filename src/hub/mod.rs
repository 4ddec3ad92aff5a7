//! Who is here, on this instance: topics, their seats, and the way from the bus to the outboxes.
//!
//! Owns which channels are wanted, the order of delivery, and the list of this instance's members. Never waits for a
//! client: a push either fits into an outbox or ends that one connection.

mod dispatch;
mod gathering;
mod interest;
mod members;
mod plain;
mod repair;
mod seat;
mod seats;
mod sequence;
mod topics;
mod watch;
mod watcher;

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

pub use gathering::CROWD;
use gathering::Gathering;
pub use members::{Judged, Member, MemberKey, Members, Membership};
pub use topics::Topics;
pub use watch::{Version, Watch};
pub use watcher::{BEAT, Pulse, Watcher};

use crate::bus::{Bus, ChannelLayer, Inbox, Mend, Plain, Subscriber};
use crate::domain::{ConnectionId, Hidden, Topic, UserId};
use crate::lifecycle::Lifecycle;
use crate::socket::{Frame, Outbox};
use crate::telemetry::Metrics;
use crate::wire::event::Place;

/// How long a topic stays subscribed after its last seat: reloads and flapping clients cost nothing.
const LINGER: Duration = Duration::from_secs(2);

/// Everything of this instance that events are delivered to.
pub struct Hub {
    topics: DashMap<Topic, Arc<Gathering>>,
    members: Members,
    pulse: Arc<Pulse>,
    bus: Bus,
    mender: Box<dyn Mend>,
    subscriber: Subscriber,
    channels: ChannelLayer,
    /// Topics whose interest may have changed since the reconciler looked.
    changed: Mutex<Vec<Topic>>,
    change: Notify,
    /// Topics whose position must be compared with Redis.
    doubtful: Mutex<std::collections::HashSet<Topic>>,
    doubt: Notify,
    /// Topics at whose end something was taken and not published when they were last compared.
    unpublished: Mutex<std::collections::HashSet<Topic>>,
    /// Topics with seats that something is lost to.
    lost: Mutex<std::collections::HashSet<Topic>>,
    loss: Notify,
    /// What Django published plainly and is to be logged.
    plain: mpsc::Sender<Plain>,
    outbox_limit: usize,
    metrics: Arc<Metrics>,
}

impl Hub {
    /// Starts the hub's tasks: one dispatcher a shard, the reconciler of subscriptions, the repairer of gaps.
    ///
    /// `outbox_limit` is in bytes and bounds what is kept for a seat whose first state is still being read.
    #[expect(clippy::too_many_arguments, reason = "the parts that a hub is made of")]
    pub fn start(
        bus: Bus,
        mender: impl Mend,
        subscriber: Subscriber,
        inboxes: Vec<Inbox>,
        channels: ChannelLayer,
        outbox_limit: usize,
        lifecycle: &Lifecycle,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let (plain, heard) = mpsc::channel(plain::WAITING);
        let hub = Arc::new(Self {
            topics: DashMap::new(),
            members: Members::default(),
            pulse: Arc::default(),
            bus,
            mender: Box::new(mender),
            subscriber,
            channels,
            changed: Mutex::default(),
            change: Notify::new(),
            doubtful: Mutex::default(),
            doubt: Notify::new(),
            unpublished: Mutex::default(),
            lost: Mutex::default(),
            loss: Notify::new(),
            plain,
            outbox_limit,
            metrics,
        });
        for inbox in inboxes {
            lifecycle.spawn_service("dispatch", dispatch::run(Arc::clone(&hub), inbox, lifecycle.clone()));
        }
        lifecycle.spawn_service("plain", plain::run(Arc::clone(&hub), heard, lifecycle.clone()));
        lifecycle.spawn_service("interest", interest::run(Arc::clone(&hub), lifecycle.clone()));
        lifecycle.spawn_service("repair", repair::run(Arc::clone(&hub), lifecycle.clone()));
        hub
    }

    /// Takes a seat. Events are kept for it from now on and sent once it goes live.
    ///
    /// The seat leaves when it is dropped, on every path, a panic included.
    #[must_use]
    pub fn join(
        self: &Arc<Self>,
        topic: Topic,
        connection: ConnectionId,
        user: UserId,
        outbox: &Arc<Outbox>,
        hidden: &Hidden,
    ) -> Seat {
        let gathering = self.gather(topic, |gathering| gathering.add(connection, user, outbox, hidden));
        Seat { hub: Arc::clone(self), gathering, topic, connection }
    }

    /// Finds or makes a topic's gathering and adds somebody to it.
    fn gather(&self, topic: Topic, add: impl Fn(&Gathering) -> bool) -> Arc<Gathering> {
        let gathering = loop {
            let gathering = Arc::clone(&self.topics.entry(topic).or_insert_with(|| {
                self.metrics.topics_open.inc();
                Arc::new(Gathering::new(topic, self.outbox_limit, Arc::clone(&self.metrics)))
            }));
            // Fails only against a gathering that is being removed this very moment.
            if add(&gathering) {
                break gathering;
            }
            std::hint::spin_loop();
        };
        self.metrics.seats_open.inc();
        if !gathering.is_subscribed() {
            self.interest_changed(topic);
        }
        gathering
    }

    /// Changes whose events a seat is spared, from the next event on.
    pub fn hide(&self, topic: Topic, connection: ConnectionId, hidden: &Hidden) {
        if let Some(gathering) = self.gathering(topic) {
            gathering.hide(connection, hidden);
        }
    }

    /// The members of this instance, by user.
    #[must_use]
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// The topics with the most seats on this instance, the busiest first.
    #[must_use]
    pub fn busiest(&self, most: usize) -> Vec<(Topic, usize)> {
        let places = self.topics.iter().filter(|entry| entry.key().is_logged());
        let mut all: Vec<_> = places.map(|entry| (*entry.key(), entry.value().seats())).collect();
        all.retain(|(_, seats)| *seats > 0);
        all.sort_unstable_by_key(|(topic, seats)| (std::cmp::Reverse(*seats), *topic));
        all.truncate(most);
        all
    }

    /// The presence sockets with something to send.
    #[must_use]
    pub fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    fn interest_changed(&self, topic: Topic) {
        self.changed.lock().push(topic);
        self.change.notify_one();
    }

    /// Topics with seats that something was lost to; waits until there are any.
    ///
    /// # Cancel safety
    /// Safe: nothing is taken before it returns.
    pub async fn lost(&self) -> Vec<Topic> {
        loop {
            let lost = std::mem::take(&mut *self.lost.lock());
            if !lost.is_empty() {
                return lost.into_iter().collect();
            }
            self.loss.notified().await;
        }
    }

    /// Notes that seats of a topic need a state.
    pub fn lose(&self, topic: Topic) {
        self.lost.lock().insert(topic);
        self.loss.notify_one();
    }

    /// Some of the seats of a topic that need a state: what comes for them is kept until they get it.
    #[must_use]
    pub fn strays(&self, topic: Topic, most: usize) -> Vec<(ConnectionId, UserId)> {
        self.gathering(topic).map(|gathering| gathering.strays(most)).unwrap_or_default()
    }

    /// Gives one of them its state, which has everything up to a place. Nothing that came meanwhile is left out.
    pub fn restore(&self, topic: Topic, connection: ConnectionId, after: Place, state: &[Frame]) {
        if let Some(gathering) = self.gathering(topic) {
            gathering.restore(connection, after, state);
        }
    }

    fn doubt(&self, topic: Topic) {
        if topic.is_logged() {
            self.doubtful.lock().insert(topic);
            self.doubt.notify_one();
        }
    }

    fn doubt_all(&self) {
        let topics: Vec<_> = self.topics.iter().map(|entry| *entry.key()).filter(|topic| topic.is_logged()).collect();
        self.doubtful.lock().extend(topics);
        self.doubt.notify_one();
    }

    /// Finds a topic's gathering; no guard outlives the call.
    fn gathering(&self, topic: Topic) -> Option<Arc<Gathering>> {
        self.topics.get(&topic).map(|entry| Arc::clone(&entry))
    }
}

/// A session's place in the hub. Leaves when dropped.
pub struct Seat {
    hub: Arc<Hub>,
    gathering: Arc<Gathering>,
    topic: Topic,
    connection: ConnectionId,
}

impl Seat {
    /// Resolves when the topic is subscribed to and its place in the log is known, so that nothing published from now
    /// on is missed.
    ///
    /// # Cancel safety
    /// Safe: nothing is lost when it is dropped.
    pub async fn subscribed(&self) {
        self.gathering.subscribed().await;
    }

    /// Keeps what comes from now on, until [`Seat::go_live`].
    pub fn pause(&self) {
        self.gathering.pause(self.connection);
    }

    /// Sends the first state, then what was kept since the join and comes after `after`, then all that comes.
    pub fn go_live(&self, after: Place, first: &[Frame]) {
        if !self.gathering.go_live(self.connection, after, first) {
            self.hub.lose(self.topic);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.hub.metrics.seats_open.dec();
        if self.gathering.remove(self.connection) {
            self.hub.interest_changed(self.topic);
        }
    }
}
