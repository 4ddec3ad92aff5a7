//! One topic's events in the order of their offsets.
//!
//! Pure: takes envelopes as they arrive and gives them back as they may be delivered. What comes early waits for its
//! predecessor; what was delivered before is dropped; a hole that stays is reported, so that the log can fill it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::bus::{Envelope, Kind, Position};
use crate::wire::event::Place;

/// How long an early event waits before the log is asked for its predecessor.
pub const ASK_LOG_AFTER: Duration = Duration::from_millis(50);
/// How long a hole stays before Postgres is asked what it is.
pub const MEND_AFTER: Duration = Duration::from_secs(1);
/// How long a hole stays before it is declared void. Its owner, between commit and publish, is gone or starved; waiting for
/// one that is only slow keeps the order, and a room that waits loses nothing.
pub const VOID_AFTER: Duration = Duration::from_secs(8);
/// How many early events wait at most; beyond that the hole is given to the log at once.
const MOST_EARLY: usize = 4_096;
/// How many void offsets are remembered, should their event come after all.
const MOST_VOID: usize = 64;

/// A missing piece of a topic's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The first missing place.
    pub first: Place,
    /// The last missing offset.
    pub last: u64,
    /// For how long it has been missing.
    pub age: Duration,
}

/// Where one topic's delivery stands.
#[derive(Debug, Default)]
pub struct Sequence {
    epoch: u64,
    previous_epoch: u64,
    /// The offset that is delivered next; 0 while nobody has said where the topic stands.
    next: u64,
    early: BTreeMap<u64, Envelope>,
    early_since: Option<Instant>,
    void: Vec<u64>,
    /// Offsets from this one on are taken and not published, since then.
    unpublished: Option<(u64, Instant)>,
    /// Another epoch has begun, and nobody has asked since.
    turned: bool,
}

impl Sequence {
    /// Says whether the place to begin at is known.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.next != 0
    }

    /// Says whether events wait for a predecessor.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.early.is_empty()
    }

    /// Begins after what was published when the subscription was known to work. Returns what had come since.
    pub fn begin(&mut self, position: Position) -> Vec<Envelope> {
        if self.has_begun() {
            return Vec::new();
        }
        self.epoch = position.epoch;
        self.next = position.published + 1;
        let mut early = std::mem::take(&mut self.early);
        early.retain(|_, event| event.place.is_some_and(|place| place.epoch == position.epoch));
        self.early = early.split_off(&self.next);
        self.drain()
    }

    /// Takes an envelope and returns all that may be delivered now, in order. Envelopes without a place pass at once.
    pub fn accept(&mut self, envelope: Envelope, now: Instant) -> Vec<Envelope> {
        let Some(place) = envelope.place else { return vec![envelope] };
        if !self.has_begun() {
            self.keep_early(place.offset, envelope, now);
            return Vec::new();
        }
        if place.epoch != self.epoch {
            if place.epoch == self.previous_epoch {
                return vec![envelope];
            }
            self.turn_to(place.epoch);
        }
        if place.offset < self.next {
            return self.late(place.offset, envelope);
        }
        if place.offset > self.next {
            self.keep_early(place.offset, envelope, now);
            return Vec::new();
        }
        self.next += 1;
        self.remember_void(&envelope);
        let mut ready = vec![envelope];
        ready.extend(self.drain());
        ready
    }

    /// Compares with where Redis says the topic stands. Returns the hole behind which this instance is, if any.
    pub fn compare(&mut self, position: Position) -> Option<Hole> {
        if !self.has_begun() {
            return None;
        }
        if position.epoch != self.epoch && position.epoch != self.previous_epoch {
            self.turn_to(position.epoch);
        }
        let behind = position.epoch == self.epoch && position.published >= self.next;
        behind.then(|| Hole {
            first: Place { epoch: self.epoch, offset: self.next },
            last: self.early.keys().next().map_or(position.published, |early| early - 1),
            age: Duration::ZERO,
        })
    }

    /// The hole before the first early event, if there is one.
    #[must_use]
    pub fn hole(&self, now: Instant) -> Option<Hole> {
        let first_early = *self.early.keys().next().filter(|_| self.has_begun())?;
        let age = if self.early.len() >= MOST_EARLY {
            VOID_AFTER
        } else {
            self.early_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
        };
        Some(Hole { first: Place { epoch: self.epoch, offset: self.next }, last: first_early - 1, age })
    }

    /// The hole at the end: offsets that are taken and not published, with nothing behind them.
    pub fn tail(&mut self, position: Position, now: Instant) -> Option<Hole> {
        let has_tail = position.epoch == self.epoch && position.taken >= self.next && self.early.is_empty();
        if !has_tail {
            self.unpublished = None;
            return None;
        }
        let since = match self.unpublished {
            Some((next, since)) if next == self.next => since,
            _ => now,
        };
        self.unpublished = Some((self.next, since));
        let first = Place { epoch: self.epoch, offset: self.next };
        Some(Hole { first, last: position.taken, age: now.saturating_duration_since(since) })
    }

    /// Gives up on everything before an offset: it is nowhere to be had. Returns what may be delivered now.
    pub fn skip_to(&mut self, place: Place) -> Vec<Envelope> {
        if place.epoch == self.epoch && place.offset > self.next {
            self.next = place.offset;
            self.early = self.early.split_off(&place.offset);
        }
        self.drain()
    }

    /// Says, once, whether another epoch has begun: what the last one had at its end may be lost.
    pub fn has_turned(&mut self) -> bool {
        std::mem::take(&mut self.turned)
    }

    /// The place that is delivered next.
    #[must_use]
    pub fn next(&self) -> Place {
        Place { epoch: self.epoch, offset: self.next }
    }

    fn turn_to(&mut self, epoch: u64) {
        self.turned = true;
        self.previous_epoch = self.epoch;
        self.epoch = epoch;
        self.next = 1;
        self.early.clear();
        self.early_since = None;
        self.void.clear();
    }

    fn keep_early(&mut self, offset: u64, envelope: Envelope, now: Instant) {
        self.early_since.get_or_insert(now);
        if self.early.len() < MOST_EARLY {
            self.early.insert(offset, envelope);
        }
    }

    /// An event of an offset that was passed: delivered before, unless the offset was void until now.
    fn late(&mut self, offset: u64, envelope: Envelope) -> Vec<Envelope> {
        match self.void.iter().position(|void| *void == offset) {
            Some(at) if envelope.kind != Kind::Void => {
                self.void.swap_remove(at);
                vec![envelope]
            }
            _ => Vec::new(),
        }
    }

    fn remember_void(&mut self, envelope: &Envelope) {
        if envelope.kind == Kind::Void
            && let Some(place) = envelope.place
        {
            if self.void.len() == MOST_VOID {
                self.void.remove(0);
            }
            self.void.push(place.offset);
        }
    }

    fn drain(&mut self) -> Vec<Envelope> {
        let mut ready = Vec::new();
        while let Some(envelope) = self.early.remove(&self.next) {
            self.next += 1;
            self.remember_void(&envelope);
            ready.push(envelope);
        }
        if self.early.is_empty() {
            self.early_since = None;
        } else if !ready.is_empty() {
            self.early_since = Some(Instant::now());
        }
        ready
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::domain::Micros;

    fn event(epoch: u64, offset: u64) -> Envelope {
        Envelope {
            kind: Kind::Message,
            place: Some(Place { epoch, offset }),
            user: None,
            shown: None,
            time: Micros(0),
            sent: Micros(0),
            body: Bytes::new(),
            online: 0,
            trace: None,
            arrived: None,
        }
    }

    fn offsets(events: &[Envelope]) -> Vec<u64> {
        events.iter().filter_map(|event| event.place).map(|place| place.offset).collect()
    }

    fn begun(published: u64) -> Sequence {
        let mut sequence = Sequence::default();
        sequence.begin(Position { epoch: 7, published, ..Position::default() });
        sequence
    }

    proptest! {
        #[test]
        fn any_arrival_order_with_repeats_is_delivered_once_and_in_order(
            order in Just((1_u64..=40).collect::<Vec<_>>()).prop_shuffle(),
            repeats in proptest::collection::vec(1_u64..=40, 0..20),
            published in 0_u64..10,
            begin_at in 0_usize..40,
        ) {
            let now = Instant::now();
            let mut sequence = Sequence::default();
            let mut delivered = Vec::new();
            for (step, offset) in order.iter().chain(&repeats).enumerate() {
                if step == begin_at {
                    delivered.extend(sequence.begin(Position { epoch: 7, published, ..Position::default() }));
                }
                delivered.extend(sequence.accept(event(7, *offset), now));
            }
            prop_assert_eq!(offsets(&delivered), (published + 1..=40).collect::<Vec<_>>());
            prop_assert!(!sequence.is_waiting());
        }
    }

    #[test]
    fn a_hole_is_reported_and_can_be_skipped() {
        let now = Instant::now();
        let mut sequence = begun(4);
        assert!(sequence.accept(event(7, 7), now).is_empty());
        let hole = sequence.hole(now + ASK_LOG_AFTER).expect("there is a hole");
        assert_eq!((hole.first.offset, hole.last, hole.age), (5, 6, ASK_LOG_AFTER));
        assert_eq!(offsets(&sequence.skip_to(Place { epoch: 7, offset: 7 })), [7]);
        assert_eq!(sequence.hole(now), None);
    }

    #[test]
    fn what_is_taken_and_not_published_is_a_hole_that_ages() {
        let now = Instant::now();
        let later = now + Duration::from_secs(2);
        let position = |published, taken| Position { epoch: 7, published, taken, time: None };
        let mut sequence = begun(4);
        assert_eq!(sequence.tail(position(4, 4), now), None);
        assert_eq!(sequence.tail(position(4, 6), now).map(|hole| hole.age), Some(Duration::ZERO));
        let hole = sequence.tail(position(4, 6), later).expect("is still there");
        assert_eq!((hole.first.offset, hole.last, hole.age), (5, 6, Duration::from_secs(2)));
        sequence.accept(event(7, 5), later);
        assert_eq!(sequence.tail(position(5, 6), later).map(|hole| hole.age), Some(Duration::ZERO), "another one");
    }

    #[test]
    fn falling_behind_is_seen_by_comparing() {
        let mut sequence = begun(4);
        assert_eq!(sequence.compare(Position { epoch: 7, published: 4, ..Position::default() }), None);
        let hole = sequence.compare(Position { epoch: 7, published: 9, ..Position::default() }).expect("is behind");
        assert_eq!((hole.first.offset, hole.last), (5, 9));
    }

    #[test]
    fn a_new_epoch_begins_at_one_and_the_old_one_ends_in_peace() {
        let now = Instant::now();
        let mut sequence = begun(4);
        assert!(sequence.accept(event(8, 2), now).is_empty());
        assert_eq!(offsets(&sequence.accept(event(8, 1), now)), [1, 2]);
        assert_eq!(offsets(&sequence.accept(event(7, 5), now)), [5]);
        assert_eq!((sequence.epoch, sequence.next), (8, 3));
    }

    #[test]
    fn an_event_that_comes_after_its_offset_was_declared_void_is_delivered_once() {
        let now = Instant::now();
        let mut sequence = begun(0);
        let void = Envelope { kind: Kind::Void, ..event(7, 1) };
        assert_eq!(sequence.accept(void.clone(), now).len(), 1);
        assert!(sequence.accept(void, now).is_empty());
        assert_eq!(offsets(&sequence.accept(event(7, 1), now)), [1]);
        assert!(sequence.accept(event(7, 1), now).is_empty());
    }
}
