//! One presence socket as the hub knows it: what it watches, what it was told, and what has changed since.
//!
//! Gets numbers only, never a room's messages. What it was told and what it is sent are kept under one lock, so that no
//! older number is sent after a newer one; it is sent by whoever empties the [`Pulse`], at most once a second.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Hub, Watch};
use crate::domain::{ConnectionId, RoomId, Topic, UserId};
use crate::socket::{Class, Frame, Outbox};
use crate::wire::event;

/// How often one socket is sent changes at most.
pub const BEAT: Duration = Duration::from_secs(1);

/// Watchers with something to send.
#[derive(Default)]
pub struct Pulse {
    due: Mutex<Vec<Arc<Watcher>>>,
    wake: Notify,
}

impl Pulse {
    /// Takes the watchers with something to send; waits until there is one.
    ///
    /// # Cancel safety
    /// Safe: nothing is lost when it is dropped.
    pub async fn take(&self) -> Vec<Arc<Watcher>> {
        loop {
            let due = self.take_now();
            if !due.is_empty() {
                return due;
            }
            self.wake.notified().await;
        }
    }

    /// Takes the watchers with something to send, if there are any.
    #[must_use]
    pub fn take_now(&self) -> Vec<Arc<Watcher>> {
        std::mem::take(&mut *self.due.lock())
    }

    fn queue(&self, watcher: &Arc<Watcher>) {
        self.due.lock().push(Arc::clone(watcher));
        self.wake.notify_one();
    }
}

/// A presence socket.
pub struct Watcher {
    pub user: UserId,
    pub connection: ConnectionId,
    outbox: Arc<Outbox>,
    pulse: Arc<Pulse>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    seats: HashMap<Topic, Watch>,
    /// What the client knows.
    told: HashMap<Topic, u64>,
    /// What is different from that, or of topics that the client has not been told of.
    news: HashMap<Topic, u64>,
    /// Rooms in which what the user has not read has changed.
    unread: BTreeSet<RoomId>,
    /// The first state was sent.
    live: bool,
    queued: bool,
    sent: Option<Instant>,
}

impl Watcher {
    /// A socket that watches nothing yet.
    #[must_use]
    pub fn new(hub: &Hub, connection: ConnectionId, user: UserId, outbox: &Arc<Outbox>) -> Arc<Self> {
        let (outbox, pulse) = (Arc::clone(outbox), Arc::clone(hub.pulse()));
        Arc::new(Self { user, connection, outbox, pulse, state: Mutex::default() })
    }

    /// What is watched.
    #[must_use]
    pub fn watched(&self) -> Vec<Topic> {
        self.state.lock().seats.keys().copied().collect()
    }

    /// Takes seats; returns the topics whose seats were not taken before.
    pub fn watch(self: &Arc<Self>, hub: &Arc<Hub>, topics: impl IntoIterator<Item = Topic>) -> Vec<Topic> {
        let mut taken = Vec::new();
        for topic in topics {
            if self.state.lock().seats.contains_key(&topic) {
                continue;
            }
            // Taken without the lock, because a gathering's lock comes before a watcher's.
            let seat = hub.watch(topic, self);
            self.state.lock().seats.insert(topic, seat);
            taken.push(topic);
        }
        taken
    }

    /// Gives seats up.
    pub fn unwatch(&self, topics: &[Topic]) {
        self.give_up(topics);
        self.forget(&mut self.state.lock(), topics);
    }

    /// Gives up the seats of users who are not to be seen any more, and tells them as offline: nobody learns why.
    pub fn conceal(&self, users: &[UserId]) {
        let topics: Vec<_> = users.iter().copied().map(Topic::Online).collect();
        self.give_up(&topics);
        let mut state = self.state.lock();
        let seen = |user: &UserId| state.told.get(&Topic::Online(*user)).is_some_and(|online| *online > 0);
        let gone: Vec<_> = users.iter().copied().filter(seen).map(|user| (user, false)).collect();
        self.forget(&mut state, &topics);
        if !gone.is_empty() {
            self.send(&event::presence_update(&[], &gone));
        }
    }

    fn give_up(&self, topics: &[Topic]) {
        let seats: Vec<_> = {
            let mut state = self.state.lock();
            topics.iter().filter_map(|topic| state.seats.remove(topic)).collect()
        };
        drop(seats); // without the lock, as above; no number comes after this
    }

    fn forget(&self, state: &mut State, topics: &[Topic]) {
        for topic in topics {
            state.told.remove(topic);
            state.news.remove(topic);
        }
    }

    /// Ends the watching: the seats hold what holds this, so they must be given up by hand.
    pub fn end(&self) {
        let seats = {
            let mut state = self.state.lock();
            state.live = false;
            std::mem::take(&mut state.seats)
        };
        drop(seats);
    }

    /// Sends the state of topics: `presence_state`. Changes of them follow.
    pub fn tell(self: &Arc<Self>, values: &[(Topic, u64)]) {
        let mut state = self.state.lock();
        for (topic, value) in values {
            state.told.insert(*topic, *value);
            if state.news.get(topic) == Some(value) {
                state.news.remove(topic);
            }
        }
        let (rooms, users) = split(values);
        let _ = self.outbox.push(&Frame::text(&event::presence_state(&rooms, &users)), Class::Message);
        state.live = true;
        self.queue(&mut state);
    }

    /// Takes a number that was announced.
    pub(super) fn note(self: &Arc<Self>, topic: Topic, value: u64) {
        let mut state = self.state.lock();
        if state.told.get(&topic) == Some(&value) {
            state.news.remove(&topic);
        } else {
            state.news.insert(topic, value);
        }
        self.queue(&mut state);
    }

    /// Takes that what the user has not read in a room has changed.
    pub fn note_unread(self: &Arc<Self>, rooms: impl IntoIterator<Item = RoomId>) {
        let mut state = self.state.lock();
        state.unread.extend(rooms);
        self.queue(&mut state);
    }

    fn queue(self: &Arc<Self>, state: &mut State) {
        if state.live && !state.queued && (!state.news.is_empty() || !state.unread.is_empty()) {
            state.queued = true;
            self.pulse.queue(self);
        }
    }

    /// Sends what has changed, and returns the rooms whose unread messages are to be counted. When the last time is less
    /// than a [`BEAT`] ago, returns when to come again.
    ///
    /// # Errors
    /// The time to come again.
    pub fn flush(&self, now: Instant) -> Result<Vec<RoomId>, Instant> {
        let mut state = self.state.lock();
        if let Some(next) = state.sent.map(|sent| sent + BEAT).filter(|next| *next > now) {
            return Err(next);
        }
        state.queued = false;
        let State { told, news, .. } = &mut *state;
        // What the client has not been told of waits for its state.
        let changes: Vec<_> = news.extract_if(|topic, _| told.contains_key(topic)).collect();
        for (topic, value) in &changes {
            told.insert(*topic, *value);
        }
        let unread: Vec<_> = std::mem::take(&mut state.unread).into_iter().collect();
        if !changes.is_empty() {
            let (rooms, users) = split(&changes);
            let _ = self.outbox.push(&Frame::text(&event::presence_update(&rooms, &users)), Class::Message);
        }
        if !changes.is_empty() || !unread.is_empty() {
            state.sent = Some(now);
        }
        Ok(unread)
    }

    /// Sends an event in JSON.
    pub fn send(&self, event: &[u8]) {
        let _ = self.outbox.push(&Frame::text(event), Class::Message);
    }
}

/// How many are online in rooms, and which users are.
type Numbers = (Vec<(RoomId, u64)>, Vec<(UserId, bool)>);

fn split(values: &[(Topic, u64)]) -> Numbers {
    let (mut rooms, mut users) = (Vec::new(), Vec::new());
    for (topic, value) in values {
        match topic {
            Topic::Room(room) => rooms.push((*room, *value)),
            Topic::Online(user) => users.push((*user, *value > 0)),
            _ => {}
        }
    }
    rooms.sort_unstable();
    users.sort_unstable();
    (rooms, users)
}
