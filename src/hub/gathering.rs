//! The seats of one topic on this instance, and the delivery to them.
//!
//! One short lock a topic keeps its order: events are sequenced, joined seats are filtered and frames are pushed under
//! it. Nothing here waits.

mod deliver;
mod held;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use self::deliver::Round;
use self::held::Held;
use super::Watcher;
use super::seat::{Crowd, Delivery, Entry};
use super::seats::Seats;
use super::sequence::{Hole, Sequence};
use super::watch::Version;
use crate::bus::{Envelope, Foreign, Position};
use crate::domain::{ConnectionId, Hidden, Topic, UserId};
use crate::socket::{Frame, Outbox};
use crate::telemetry::Metrics;
use crate::wire::event::Place;

/// Above this many online, joins and leaves of a room are sent as one `presence_diff` a second.
pub const CROWD: u64 = 200;

/// How often Postgres is asked about one topic's holes at most.
const MEND_EVERY: Duration = Duration::from_millis(500);

#[derive(Default)]
struct State {
    seats: Seats<Entry>,
    /// What all seats are being given; whatever else comes is held behind it.
    round: Option<Round>,
    held: Held,
    /// Who gets numbers only.
    watchers: Vec<Arc<Watcher>>,
    /// The number that they know: of people online, or 1 for a user who is. The version rises with every announcement.
    value: Option<u64>,
    version: u64,
    /// Set once this was taken out of the hub, so that nobody joins what no event reaches.
    retired: bool,
    sequence: Sequence,
    /// When Postgres was last asked about a hole.
    mended: Option<Instant>,
    /// When the subscription was asked for.
    begun_at: Option<Instant>,
    /// How often the subscription had been interrupted when nothing was known to be missing last.
    whole_at: u64,
    /// What came before this place may be lost to seats here.
    lost: Option<Place>,
    /// Joins and leaves since the last `presence_diff`.
    crowd: Crowd,
}

impl State {
    fn is_empty(&self) -> bool {
        self.seats.is_empty() && self.watchers.is_empty()
    }

    /// Notes that something before the next place is lost to all seats.
    fn lose(&mut self) {
        self.lost = Some(self.sequence.next());
        self.seats.iter_mut().for_each(|(_, seat)| seat.lose());
    }

    /// Looks whether another epoch has begun. If the subscription was interrupted since all was known to be there, the
    /// end of the last one may be lost.
    fn turn(&mut self, interruptions: u64) -> bool {
        if !self.sequence.has_turned() {
            return false;
        }
        if self.whole_at == interruptions {
            self.lost = None;
            return false;
        }
        self.lose();
        self.whole_at = interruptions;
        true
    }

    fn announce(&mut self, topic: Topic, value: u64) {
        self.version += 1;
        self.value = Some(value);
        for watcher in &self.watchers {
            watcher.note(topic, value);
        }
    }
}

/// What became of a batch of envelopes.
pub(super) struct Accepted {
    /// The topic needs to be looked at again soon.
    pub restless: bool,
    /// Something is lost, and seats need a state.
    pub lost: bool,
    /// When the topic has something to send again, whether or not anything comes.
    pub due: Option<Instant>,
}

/// A topic with seats on this instance.
pub struct Gathering {
    topic: Topic,
    state: Mutex<State>,
    subscribed: AtomicBool,
    /// Wakes those who wait for that. Apart, because a channel that holds the value takes ten times the memory, and there
    /// is one for each room.
    told: Notify,
    outbox_limit: usize,
    metrics: Arc<Metrics>,
}

impl Gathering {
    pub(super) fn new(topic: Topic, outbox_limit: usize, metrics: Arc<Metrics>) -> Self {
        let (state, subscribed, told) = (Mutex::default(), AtomicBool::new(false), Notify::new());
        Self { topic, state, subscribed, told, outbox_limit, metrics }
    }

    /// Resolves when the topic's channel is subscribed to.
    pub(super) async fn subscribed(&self) {
        let mut told = pin!(self.told.notified());
        // Listens before it looks, so that what is set in between is heard.
        told.as_mut().enable();
        while !self.is_subscribed() {
            told.as_mut().await;
            told.set(self.told.notified());
            told.as_mut().enable();
        }
    }

    pub(super) fn set_subscribed(&self) {
        self.subscribed.store(true, Ordering::Release);
        self.told.notify_waiters();
    }

    pub(super) fn is_subscribed(&self) -> bool {
        self.subscribed.load(Ordering::Acquire)
    }

    /// How many have a seat.
    pub(super) fn seats(&self) -> usize {
        self.state.lock().seats.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.state.lock().is_empty()
    }

    /// Ends the gathering if nobody is in it; says whether it has ended.
    pub(super) fn retire_if_empty(&self) -> bool {
        let mut state = self.state.lock();
        state.retired |= state.is_empty();
        state.retired
    }

    /// Adds a seat; says no when the gathering has ended and another must be made.
    pub(super) fn add(&self, connection: ConnectionId, user: UserId, outbox: &Arc<Outbox>, hidden: &Hidden) -> bool {
        let mut state = self.state.lock();
        if !state.retired {
            let before = state.held.len(); // came before this seat
            state.seats.add(connection, Entry::new(user, outbox, hidden.clone(), before));
        }
        !state.retired
    }

    /// Changes whose events a seat is spared, from the next event on.
    pub(super) fn hide(&self, connection: ConnectionId, hidden: &Hidden) {
        let mut state = self.state.lock();
        if let Some(seat) = state.seats.find(connection) {
            seat.hidden = hidden.clone();
        }
    }

    /// Removes a seat by its own id; says whether none is left.
    pub(super) fn remove(&self, connection: ConnectionId) -> bool {
        let mut state = self.state.lock();
        state.seats.remove(connection);
        state.is_empty()
    }

    /// Adds who gets numbers only; says no when the gathering has ended and another must be made.
    pub(super) fn add_watcher(&self, watcher: &Arc<Watcher>) -> bool {
        let mut state = self.state.lock();
        if !state.retired {
            state.watchers.push(Arc::clone(watcher));
        }
        !state.retired
    }

    /// Removes a watcher; says whether nobody is left.
    pub(super) fn remove_watcher(&self, connection: ConnectionId) -> bool {
        let mut state = self.state.lock();
        state.watchers.retain(|watcher| watcher.connection != connection);
        state.is_empty()
    }

    pub(super) fn is_watched(&self) -> bool {
        !self.state.lock().watchers.is_empty()
    }

    pub(super) fn version(&self) -> Version {
        Version(self.state.lock().version)
    }

    /// Takes a number that was looked up since a version; returns the number that holds.
    pub(super) fn settle(&self, version: Version, value: u64) -> u64 {
        let mut state = self.state.lock();
        match state.value {
            Some(newer) if state.version != version.0 => newer,
            known => {
                if known != Some(value) {
                    state.announce(self.topic, value);
                }
                value
            }
        }
    }

    /// Ends a seat's entering: sends it the first state, then what came since, then everything as it comes. Says no when
    /// something was lost since its state, so that it needs another.
    pub(super) fn go_live(&self, connection: ConnectionId, after: Place, first: &[Frame]) -> bool {
        let mut state = self.state.lock();
        let is_late = |lost: Place| after.epoch != lost.epoch || after.offset + 1 < lost.offset;
        let late = state.lost.is_some_and(is_late);
        if let Some(seat) = state.seats.find(connection) {
            seat.go_live(after, first, &self.metrics);
            seat.stray = late;
        }
        !late
    }

    /// Pauses some of the seats that something is lost to, and names them.
    pub(super) fn strays(&self, most: usize) -> Vec<(ConnectionId, UserId)> {
        let mut state = self.state.lock();
        let strays = state.seats.iter_mut().filter(|(_, seat)| seat.stray).take(most);
        strays
            .map(|(connection, seat)| {
                seat.pause();
                seat.stray = true;
                (connection, seat.user)
            })
            .collect()
    }

    /// Gives a state to a seat that something is lost to, unless it has got one meanwhile.
    pub(super) fn restore(&self, connection: ConnectionId, after: Place, first: &[Frame]) {
        let mut state = self.state.lock();
        self.send_all(&mut state, Instant::now()); // what the state has already goes before it
        if let Some(seat) = state.seats.find(connection).filter(|seat| seat.stray) {
            seat.restore(after, first, &self.metrics);
        }
    }

    /// Keeps what comes for a seat from now on, until it goes live again.
    pub(super) fn pause(&self, connection: ConnectionId) {
        let mut state = self.state.lock();
        if let Some(seat) = state.seats.find(connection) {
            seat.pause();
        }
    }

    /// Tells the sequence where the topic stands, if it does not know, and delivers what had waited for that.
    /// `interruptions` is how many the subscription had before, `asked` when it was asked for.
    pub(super) fn begin(&self, position: Position, interruptions: u64, asked: Instant) {
        let mut state = self.state.lock();
        (state.whole_at, state.begun_at) = (interruptions, Some(asked));
        let ready = state.sequence.begin(position);
        self.deliver_now(&mut state, ready);
    }

    /// Delivers a batch of envelopes as they arrived, or holds them until it is time.
    pub(super) fn accept(&self, envelopes: Vec<Envelope>, interruptions: u64, now: Instant) -> Accepted {
        let mut state = self.state.lock();
        let ready = self.in_order(&mut state, envelopes, now);
        self.take(&mut state, ready, now);
        let due = self.go_on(&mut state, now);
        let lost = state.turn(interruptions);
        Accepted { restless: state.sequence.is_waiting() || !state.crowd.users.is_empty(), lost, due }
    }

    /// Delivers what was missing, and what had waited for it, at once. Says whether something is lost.
    pub(super) fn accept_missed(&self, envelopes: Vec<Envelope>, interruptions: u64) -> bool {
        let mut state = self.state.lock();
        let ready = self.in_order(&mut state, envelopes, Instant::now());
        self.deliver_now(&mut state, ready);
        state.turn(interruptions)
    }

    fn in_order(&self, state: &mut State, envelopes: Vec<Envelope>, now: Instant) -> Vec<Envelope> {
        let mut ready = Vec::with_capacity(envelopes.len());
        for envelope in envelopes {
            let waiting = state.sequence.is_waiting();
            ready.extend(state.sequence.accept(envelope, now));
            if !waiting && state.sequence.is_waiting() {
                self.metrics.bus_reordered_total.inc();
            }
        }
        ready
    }

    fn deliver_now(&self, state: &mut State, ready: Vec<Envelope>) {
        let now = Instant::now();
        self.take(state, ready, now);
        self.send_all(state, now);
    }

    /// Goes on with what is under way or due. Returns when to come again.
    pub(super) fn send_due(&self, now: Instant) -> Option<Instant> {
        self.go_on(&mut self.state.lock(), now)
    }

    /// Delivers what Django published, to those it is for.
    pub(super) fn accept_foreign(&self, foreign: &Foreign) {
        let (mut state, now) = (self.state.lock(), Instant::now());
        if !state.seats.is_empty() {
            state.held.add(Delivery::plain(foreign.clone(), None), now);
            self.send_all(&mut state, now);
        }
    }

    /// Sends the crowd's joins and leaves of the last second, if there were any. Returns when to come again.
    pub(super) fn flush_crowd(&self, now: Instant) -> Option<Instant> {
        let mut state = self.state.lock();
        let crowd = Crowd { online: state.crowd.online, users: std::mem::take(&mut state.crowd.users) };
        if !crowd.users.is_empty() && !state.seats.is_empty() {
            state.held.add(Delivery::crowd(crowd), now);
        }
        self.go_on(&mut state, now)
    }

    pub(super) fn has_crowd(&self) -> bool {
        !self.state.lock().crowd.users.is_empty()
    }

    pub(super) fn hole(&self, now: Instant) -> Option<Hole> {
        self.state.lock().sequence.hole(now)
    }

    /// Compares with where Redis says that the topic stands. Returns the hole behind which this instance is, if any, and
    /// whether something is lost. `interruptions` is from before the position was read.
    pub(super) fn compare(&self, position: Position, interruptions: u64) -> (Option<Hole>, bool) {
        let mut state = self.state.lock();
        let hole = state.sequence.compare(position);
        let lost = state.turn(interruptions);
        if hole.is_none() {
            state.whole_at = interruptions;
        }
        (hole, lost)
    }

    pub(super) fn tail(&self, position: Position, now: Instant) -> Option<Hole> {
        self.state.lock().sequence.tail(position, now)
    }

    /// Says whether Postgres may be asked about a hole again, and notes that it is.
    pub(super) fn may_mend(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        let may = state.mended.is_none_or(|last| now.saturating_duration_since(last) >= MEND_EVERY);
        if may {
            state.mended = Some(now);
        }
        may
    }

    pub(super) fn begun_at(&self) -> Option<Instant> {
        self.state.lock().begun_at
    }

    pub(super) fn has_begun(&self) -> bool {
        self.state.lock().sequence.has_begun()
    }

    /// Gives up on everything before a place: it is lost to all seats.
    pub(super) fn skip_to(&self, place: Place) {
        let mut state = self.state.lock();
        let ready = state.sequence.skip_to(place);
        state.lose();
        self.deliver_now(&mut state, ready);
    }
}

#[cfg(test)]
#[path = "gathering/tests.rs"]
mod tests;
