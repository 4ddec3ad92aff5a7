//! The grants that are remembered, and how: what is the same for many, or as before, is in memory once.
//!
//! Every open socket has one, so its size is part of what an idle person costs. Must never decide how old a grant may be.

use std::sync::Arc;
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;

use super::grant::Grant;
use crate::domain::{Room, RoomId, UserId, Venue};

/// How many grants are remembered.
const GRANTS: usize = 65_536;
/// How many rooms are remembered, to be shared by grants.
const ROOMS: usize = 16_384;

#[derive(Clone)]
struct Remembered {
    grant: Arc<Grant>,
    /// When it was true.
    at: Instant,
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
    /// The grant, if it was true less than `life` ago.
    pub(super) fn recall(&self, venue: Venue, user: UserId, now: Instant, life: Duration) -> Option<Arc<Grant>> {
        self.grants.get(&(venue, user)).filter(|known| known.at + life > now).map(|known| known.grant)
    }

    /// Takes a grant that is true now. One that is as before stays the same in memory, for sessions hold it.
    pub(super) fn remember(&self, venue: Venue, user: UserId, grant: Grant, now: Instant) -> Arc<Grant> {
        let grant = match self.grants.get(&(venue, user)) {
            Some(known) if *known.grant == grant => known.grant,
            _ => Arc::new(Grant { room: self.shared(grant.room), ..grant }),
        };
        self.grants.insert((venue, user), Remembered { grant: Arc::clone(&grant), at: now });
        grant
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
        memory.remember(VENUE, UserId(1), grant(), start);
        let late = start + LIFE;
        assert!(memory.recall(VENUE, UserId(1), late - Duration::from_nanos(1), LIFE).is_some());
        assert!(memory.recall(VENUE, UserId(1), late, LIFE).is_none());
        memory.sweep(late, LIFE);
        assert_eq!(memory.grants.len(), 0);
        memory.sweep(late, LIFE);
        assert_eq!(memory.rooms.len(), 0);
    }

    #[test]
    fn what_is_the_same_is_in_memory_once() {
        let (memory, start) = (Memory::default(), Instant::now());
        let first = memory.remember(VENUE, UserId(1), grant(), start);
        let again = memory.remember(VENUE, UserId(1), grant(), start + LIFE);
        assert!(Arc::ptr_eq(&first, &again), "as before");
        assert!(memory.recall(VENUE, UserId(1), start + LIFE, LIFE).is_some(), "and true again");
        let other = memory.remember(VENUE, UserId(2), grant(), start);
        assert!(Arc::ptr_eq(&first.room, &other.room), "two in one room");
        let renamed = Arc::new(Room { name: "New".to_owned(), ..Room::clone(&first.room) });
        let changed = memory.remember(VENUE, UserId(1), Grant { room: renamed, ..grant() }, start);
        assert_eq!(changed.room.name, "New");
    }
}
