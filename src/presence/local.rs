//! What this instance knows of its own seats: how many tabs a user has in a room, and who is about to leave. Pure
//! bookkeeping: no I/O, no clock of its own, and no lock is held across an await.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::domain::{Person, RoomId, UserId};

/// Parts of the books, one of which is renewed at a time, so that a round of renewals is spread over its period.
pub(super) const SHARDS: usize = 32;

/// This instance's seats.
pub(super) struct Books {
    shards: Box<[Mutex<HashMap<RoomId, Room>>]>,
    /// Who leaves when, in order, for the grace is the same for all. Those who came back stay in it until their time.
    leaving: Mutex<VecDeque<(Instant, RoomId, UserId)>>,
}

#[derive(Default)]
struct Room {
    /// The life of the room's presence that was last seen in Redis; 0 before the first.
    epoch: u64,
    users: HashMap<UserId, Here>,
}

struct Here {
    tabs: u32,
    /// Redis has confirmed the seat.
    held: bool,
    /// When the last tab's grace is over.
    ends: Option<Instant>,
    /// The leave is on its way to Redis; nobody may enter before it is answered.
    going: bool,
    /// Who it is, to be announced again if Redis forgets.
    person: Arc<Person>,
}

/// Users of one room that leave together.
pub(super) struct Departure {
    pub(super) room: RoomId,
    pub(super) epoch: u64,
    /// With each user, whether Redis ever confirmed the seat.
    pub(super) users: Vec<(UserId, bool)>,
}

/// A room to be renewed.
pub(super) struct Visit {
    pub(super) room: RoomId,
    pub(super) epoch: u64,
    pub(super) users: Vec<UserId>,
}

impl Books {
    pub(super) fn new() -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, leaving: Mutex::default() }
    }

    pub(super) fn shard_of(room: RoomId) -> usize {
        usize::from(room.0.as_bytes()[15]) % SHARDS
    }

    fn shard(&self, room: RoomId) -> &Mutex<HashMap<RoomId, Room>> {
        &self.shards[Self::shard_of(room)]
    }

    /// Counts a tab. False when the user's leave is on its way: try again when it is answered.
    pub(super) fn arrive(&self, room: RoomId, person: &Arc<Person>) -> bool {
        let mut shard = self.shard(room).lock();
        let here = shard.entry(room).or_default().users.entry(person.id).or_insert_with(|| Here {
            tabs: 0,
            held: false,
            ends: None,
            going: false,
            person: Arc::clone(person),
        });
        if here.going {
            return false;
        }
        here.tabs += 1;
        here.ends = None;
        here.person = Arc::clone(person);
        true
    }

    /// Notes that Redis has the seat.
    pub(super) fn confirm(&self, room: RoomId, user: UserId, epoch: u64) {
        if let Some(known) = self.shard(room).lock().get_mut(&room)
            && let Some(here) = known.users.get_mut(&user)
        {
            here.held = true;
            known.epoch = epoch;
        }
    }

    /// Counts a tab less. With the last one the user leaves at `ends`, or is forgotten at once if there is none. True
    /// when somebody waits for leaves who must hear of this one.
    pub(super) fn depart(&self, room: RoomId, user: UserId, ends: Option<Instant>) -> bool {
        let mut shard = self.shard(room).lock();
        let Some(here) = shard.get_mut(&room).and_then(|known| known.users.get_mut(&user)) else {
            return false;
        };
        here.tabs = here.tabs.saturating_sub(1);
        if here.tabs > 0 || here.going {
            return false;
        }
        let Some(at) = ends else {
            remove(&mut shard, room, user);
            return false;
        };
        here.ends = ends;
        let mut leaving = self.leaving.lock();
        leaving.push_back((at, room, user));
        leaving.len() == 1
    }

    /// When the next leave is due.
    pub(super) fn next_departure(&self) -> Option<Instant> {
        self.leaving.lock().front().map(|(at, ..)| *at)
    }

    /// Takes the leaves that are due, room by room, and closes the door behind them until [`Books::departed`].
    pub(super) fn take_due(&self, now: Instant) -> Vec<Departure> {
        let due: Vec<_> = {
            let mut leaving = self.leaving.lock();
            let count = leaving.partition_point(|(at, ..)| *at <= now);
            leaving.drain(..count).collect()
        };
        let mut rooms: HashMap<RoomId, Departure> = HashMap::new();
        for (at, room, user) in due {
            let mut shard = self.shard(room).lock();
            let Some(known) = shard.get_mut(&room) else { continue };
            let Some(here) = known.users.get_mut(&user) else { continue };
            if here.ends != Some(at) || here.going {
                continue; // came back, and may be leaving again, but later
            }
            here.going = true;
            let departure = rooms.entry(room).or_insert_with(|| Departure { room, epoch: 0, users: Vec::new() });
            departure.epoch = known.epoch;
            departure.users.push((user, here.held));
        }
        rooms.into_values().collect()
    }

    /// Forgets those whose leave was answered, or failed.
    pub(super) fn departed(&self, departure: &Departure) {
        let mut shard = self.shard(departure.room).lock();
        for (user, _) in &departure.users {
            remove(&mut shard, departure.room, *user);
        }
    }

    /// The rooms of one shard with the users whose seats Redis has.
    pub(super) fn visits(&self, shard: usize) -> Vec<Visit> {
        let shard = self.shards[shard % SHARDS].lock();
        shard.iter().filter_map(|(room, known)| visit(*room, known)).collect()
    }

    /// The same for one room.
    pub(super) fn visit(&self, room: RoomId) -> Option<Visit> {
        self.shard(room).lock().get(&room).and_then(|known| visit(room, known))
    }

    /// Notes which life of the room's presence now holds all seats of the visit.
    pub(super) fn renewed(&self, room: RoomId, epoch: u64) {
        if let Some(known) = self.shard(room).lock().get_mut(&room) {
            known.epoch = epoch;
        }
    }

    /// Who a user is.
    pub(super) fn person(&self, room: RoomId, user: UserId) -> Option<Arc<Person>> {
        let shard = self.shard(room).lock();
        shard.get(&room)?.users.get(&user).map(|here| Arc::clone(&here.person))
    }

    /// Forgets all leaves to come, and who waits for theirs.
    pub(super) fn forget_leaves(&self) {
        let leaving = std::mem::take(&mut *self.leaving.lock());
        for (at, room, user) in leaving {
            let mut shard = self.shard(room).lock();
            let waits = shard.get(&room).and_then(|known| known.users.get(&user));
            if waits.is_some_and(|here| here.ends == Some(at) && !here.going) {
                remove(&mut shard, room, user);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| shard.lock().is_empty())
    }
}

fn visit(room: RoomId, known: &Room) -> Option<Visit> {
    let users: Vec<_> =
        known.users.iter().filter(|(_, here)| here.held && !here.going).map(|(user, _)| *user).collect();
    (!users.is_empty()).then_some(Visit { room, epoch: known.epoch, users })
}

fn remove(shard: &mut HashMap<RoomId, Room>, room: RoomId, user: UserId) {
    if let Some(known) = shard.get_mut(&room) {
        known.users.remove(&user);
        if known.users.is_empty() {
            shard.remove(&room);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;

    const ROOM: RoomId = RoomId(Uuid::from_u128(7));
    const ADA: UserId = UserId(1);

    fn person(id: UserId) -> Arc<Person> {
        Arc::new(Person { id, username: "ada".to_owned(), avatar_url: None, is_staff: false })
    }

    fn due(books: &Books, at: Instant) -> Vec<(UserId, bool)> {
        books.take_due(at).into_iter().flat_map(|departure| departure.users).collect()
    }

    #[test]
    fn only_the_last_tab_leaves() {
        let (books, now) = (Books::new(), Instant::now());
        assert!(books.arrive(ROOM, &person(ADA)) && books.arrive(ROOM, &person(ADA)));
        assert!(!books.depart(ROOM, ADA, Some(now)));
        assert_eq!(books.next_departure(), None);
        assert!(books.depart(ROOM, ADA, Some(now)));
        assert_eq!(due(&books, now), [(ADA, false)]);
    }

    #[test]
    fn who_returns_within_the_grace_has_not_left_and_the_later_leave_counts() {
        let (books, now) = (Books::new(), Instant::now());
        let later = now + Duration::from_secs(5);
        books.arrive(ROOM, &person(ADA));
        books.confirm(ROOM, ADA, 9);
        books.depart(ROOM, ADA, Some(now));
        assert!(books.arrive(ROOM, &person(ADA)));
        books.depart(ROOM, ADA, Some(later));
        assert_eq!(due(&books, now), []);
        assert_eq!(due(&books, later), [(ADA, true)]);
    }

    #[test]
    fn nobody_enters_while_the_leave_is_on_its_way() {
        let (books, now) = (Books::new(), Instant::now());
        books.arrive(ROOM, &person(ADA));
        books.depart(ROOM, ADA, Some(now));
        let departures = books.take_due(now);
        assert!(!books.arrive(ROOM, &person(ADA)));
        books.departed(&departures[0]);
        assert!(books.is_empty());
        assert!(books.arrive(ROOM, &person(ADA)));
    }

    #[test]
    fn only_confirmed_seats_are_renewed() {
        let books = Books::new();
        books.arrive(ROOM, &person(ADA));
        assert!(books.visits(Books::shard_of(ROOM)).is_empty());
        books.confirm(ROOM, ADA, 9);
        let visits = books.visits(Books::shard_of(ROOM));
        assert_eq!((visits[0].epoch, visits[0].users.as_slice()), (9, [ADA].as_slice()));
    }

    #[test]
    fn a_handover_forgets_who_waits_to_leave_and_keeps_who_is_here() {
        let (books, now) = (Books::new(), Instant::now());
        books.arrive(ROOM, &person(ADA));
        books.arrive(ROOM, &person(UserId(2)));
        books.depart(ROOM, ADA, Some(now));
        books.forget_leaves();
        assert_eq!(due(&books, now), []);
        assert!(!books.is_empty());
        books.depart(ROOM, UserId(2), None);
        assert!(books.is_empty());
    }
}
