//! The grants that are remembered, and how: what is the same for many, or as before, is in memory once.
//!
//! Every open socket has one, so its size is part of what an idle person costs. Must never decide how old a grant may be.

use std::sync::Arc;
use std::time::{Duration, Instant};

use quick_cache::sync::{Cache, EntryAction, EntryResult};

use super::grant::Grant;
use crate::domain::{Room, RoomId, UserId, Venue};
use crate::store::Fingerprint;

/// How many grants are remembered.
const GRANTS: usize = 65_536;
/// How many rooms are remembered, to be shared by grants.
const ROOMS: usize = 16_384;

#[derive(Clone)]
struct Remembered {
    grant: Arc<Grant>,
    /// When it was true.
    at: Instant,
    /// Of the rows that it was judged from, where that is known.
    fingerprint: Option<Fingerprint>,
}

/// Grants, with the time at which each was true.
pub(super) struct Memory {
    grants: Cache<(Venue, UserId), Remembered>,
    /// Those who are in a room share what is known of it.
    rooms: Cache<RoomId, Arc<Room>>,
}

impl Default for Memory {
    fn default() -> Self {
        Self { grants: Cache::new(GRANTS), rooms: Cache::new(ROOMS) }
    }
}

impl Memory {
    /// The grant, if it was true less than its `life` ago.
    pub(super) fn recall(
        &self,
        venue: Venue,
        user: UserId,
        now: Instant,
        life: impl Fn(&Grant) -> Duration,
    ) -> Option<Arc<Grant>> {
        self.grants.get(&(venue, user)).filter(|known| known.at + life(&known.grant) > now).map(|known| known.grant)
    }

    /// Takes a grant that is true now. One that is as before stays the same in memory, for sessions hold it.
    pub(super) fn remember(
        &self,
        venue: Venue,
        user: UserId,
        grant: Grant,
        fingerprint: Option<Fingerprint>,
        now: Instant,
    ) -> Arc<Grant> {
        let grant = match self.grants.get(&(venue, user)) {
            Some(known) if *known.grant == grant => known.grant,
            _ => Arc::new(Grant { room: self.shared(grant.room), ..grant }),
        };
        self.grants.insert((venue, user), Remembered { grant: Arc::clone(&grant), at: now, fingerprint });
        grant
    }

    /// The fingerprint of the rows that the grant was judged from, however old it is.
    pub(super) fn fingerprint(&self, venue: Venue, user: UserId) -> Option<Fingerprint> {
        self.grants.get(&(venue, user)).and_then(|known| known.fingerprint)
    }

    /// Believes the grant of that fingerprint anew, because it is true now. `None` when it was forgotten meanwhile, or is
    /// another one by now: it was looked up in between, and nobody knows from which rows.
    pub(super) fn renew(
        &self,
        venue: Venue,
        user: UserId,
        fingerprint: Fingerprint,
        now: Instant,
    ) -> Option<Arc<Grant>> {
        let renewed = self.grants.entry(&(venue, user), Some(Duration::ZERO), |_, known| {
            let is_same = known.fingerprint == Some(fingerprint);
            known.at = if is_same { now } else { known.at };
            EntryAction::Retain(is_same.then(|| Arc::clone(&known.grant)))
        });
        if let EntryResult::Retained(grant) = renewed { grant } else { None }
    }

    fn shared(&self, room: Arc<Room>) -> Arc<Room> {
        match self.rooms.get(&room.id) {
            Some(known) if known == room => known,
            _ => {
                self.rooms.insert(room.id, Arc::clone(&room));
                room
            }
        }
    }

    pub(super) fn remove(&self, venue: Venue, user: UserId) {
        self.grants.remove(&(venue, user));
    }

    /// Keeps those that `wanted` says yes to.
    pub(super) fn keep(&self, wanted: impl Fn(UserId, &Grant) -> bool) {
        self.grants.retain(|(_, user), remembered| wanted(*user, &remembered.grant));
    }

    /// Forgets grants older than `life`, and rooms that no grant shares.
    pub(super) fn sweep(&self, now: Instant, life: Duration) {
        self.grants.retain(|_, remembered| remembered.at + life > now);
        self.rooms.retain(|_, room| Arc::strong_count(room) > 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::grant::tests::grant;

    const LIFE: Duration = Duration::from_secs(5);
    const VENUE: Venue = Venue::Room(RoomId(uuid::Uuid::from_u128(1)));

    #[test]
    fn a_grant_is_believed_for_its_life_and_then_given_back() {
        let (memory, start) = (Memory::default(), Instant::now());
        memory.remember(VENUE, UserId(1), grant(), None, start);
        let late = start + LIFE;
        assert!(memory.recall(VENUE, UserId(1), late - Duration::from_nanos(1), |_| LIFE).is_some());
        assert!(memory.recall(VENUE, UserId(1), late, |_| LIFE).is_none());
        memory.sweep(late, LIFE);
        assert_eq!(memory.grants.len(), 0);
        memory.sweep(late, LIFE);
        assert_eq!(memory.rooms.len(), 0);
    }

    #[test]
    fn a_grant_is_renewed_only_while_it_is_the_one_that_was_judged() {
        let (memory, start) = (Memory::default(), Instant::now());
        let (one, other) = (Fingerprint(1), Fingerprint(2));
        let renew = |fingerprint| memory.renew(VENUE, UserId(1), fingerprint, start + LIFE);
        assert_eq!((memory.fingerprint(VENUE, UserId(1)), renew(one)), (None, None));
        assert_eq!(memory.grants.len(), 0, "nothing is made up");
        let known = memory.remember(VENUE, UserId(1), grant(), Some(one), start);
        assert_eq!(memory.fingerprint(VENUE, UserId(1)), Some(one));
        assert_eq!(renew(other), None);
        assert!(memory.recall(VENUE, UserId(1), start + LIFE, |_| LIFE).is_none(), "as old as it was");
        assert!(Arc::ptr_eq(&known, &renew(one).expect("is there")));
        assert!(memory.recall(VENUE, UserId(1), start + LIFE, |_| LIFE).is_some(), "true again");
        memory.remember(VENUE, UserId(1), grant(), None, start);
        assert_eq!(renew(one), None, "looked up in between");
        memory.keep(|_, _| false);
        assert_eq!(renew(one), None);
    }

    #[test]
    fn what_is_the_same_is_in_memory_once() {
        let (memory, start) = (Memory::default(), Instant::now());
        let first = memory.remember(VENUE, UserId(1), grant(), None, start);
        let again = memory.remember(VENUE, UserId(1), grant(), None, start + LIFE);
        assert!(Arc::ptr_eq(&first, &again), "as before");
        assert!(memory.recall(VENUE, UserId(1), start + LIFE, |_| LIFE).is_some(), "and true again");
        let other = memory.remember(VENUE, UserId(2), grant(), None, start);
        assert!(Arc::ptr_eq(&first.room, &other.room), "two in one room");
        let renamed = Arc::new(Room { name: "New".to_owned(), ..Room::clone(&first.room) });
        let changed = memory.remember(VENUE, UserId(1), Grant { room: renamed, ..grant() }, None, start);
        assert_eq!(changed.room.name, "New");
    }
}
