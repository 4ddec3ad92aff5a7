//! What a user may do in a room: judged from Django's rows, and remembered from one look to the next.
//!
//! A grant is a memory, never the truth: it is forgotten when Django says that something changed, and soon by itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::memory::Memory;
use crate::domain::{Hidden, Micros, Person, Role, Room, RoomId, ThreadId, Topic, Trust, UserId, Venue, Visibility};
use crate::store::{Admission, Fingerprint, Store, StoreError};
use crate::wire::Code;

/// How much longer than a round a grant is believed without asking again: the grants of those who are in are taken for true
/// again in each, which may be late.
const LATE: Duration = Duration::from_secs(5);
/// How long one is believed that forbids to write: it may end by the clock alone, as a mute does.
const FORBIDDEN: Duration = Duration::from_secs(5);
/// How long it is believed of who returns, at least: what those may is looked up within a second.
const RETURNING: Duration = Duration::from_secs(30);

/// What one user may do in one room or direct conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub person: Arc<Person>,
    /// One for all who are in it.
    pub room: Arc<Room>,
    /// Where events of this room go: a direct conversation has one topic, by whichever path it was entered.
    pub topic: Topic,
    pub trust: Trust,
    /// May edit what belongs to others: delete, pin, lock, archive.
    pub moderates: bool,
    /// Why the user may not write, if so.
    pub may_write: Result<(), Code>,
    /// Set in a direct conversation.
    pub dm: Option<Box<Dm>>,
    /// With whom the user shares nothing in a room, because one blocked the other. Empty in direct conversations, which
    /// a block closes for writing and leaves to be read.
    pub hidden: Hidden,
}

/// The other side of a direct conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dm {
    pub thread: ThreadId,
    pub others: Vec<UserId>,
    /// Those of the others who are agents.
    pub agents: Vec<UserId>,
}

/// Why somebody is not let in, or not any longer.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    #[error("there is no such user, or the user is inactive")]
    NotAuthenticated,
    #[error("there is no such room or conversation, or it is inactive")]
    NotFound,
    #[error("the user has no access to this room or conversation")]
    Forbidden,
    #[error("rights cannot be looked up: {0}")]
    Unavailable(#[from] StoreError),
}

impl Grant {
    /// Judges what Django's tables say, at the time `now`.
    ///
    /// Public rooms are open to every authenticated user whose trust suffices, others to active members and, for a
    /// circle's room, to the circle's active members; whoever is a member has been let in and needs no trust to join.
    /// Whoever is banned stays out of public rooms too. A direct conversation is its participants' alone.
    ///
    /// # Errors
    /// Why the user is not let in.
    pub fn judge(admission: Admission, now: Micros) -> Result<Self, Denied> {
        let account = admission.account.filter(|account| account.is_active).ok_or(Denied::NotAuthenticated)?;
        let room = admission.room.filter(|room| room.is_active).ok_or(Denied::NotFound)?;
        let role = admission.membership.as_ref().map(|membership| membership.role);
        let is_member = admission.membership.is_some_and(|membership| membership.is_active);
        let is_staff = account.person.is_staff;
        let trust = Trust::of(admission.messages_total, account.date_joined, now, role, is_staff);
        let is_circles = room.circle_id.is_some() && admission.circle_member;
        let is_open = match (&admission.dm, room.visibility) {
            (Some(dm), _) => dm.takes_part,
            (None, Visibility::Public) => is_member || trust >= Trust::from_stored(room.min_trust_to_join),
            (None, Visibility::Closed) => is_member || is_circles,
        };
        if role == Some(Role::Banned) || !is_open {
            return Err(Denied::Forbidden);
        }
        let dm = admission.dm;
        let may_write = match role {
            _ if room.is_archived => Err(Code::Archived),
            Some(Role::Muted) => Err(Code::CannotSend),
            _ if dm.as_ref().is_some_and(|dm| dm.blocked) => Err(Code::Blocked),
            _ if dm.as_ref().is_some_and(|dm| dm.refused) => Err(Code::NotAdmitted),
            _ if dm.is_none() && trust < Trust::from_stored(room.min_trust_to_post) => Err(Code::TrustTooLow),
            _ => Ok(()),
        };
        Ok(Self {
            topic: dm.as_ref().map_or(Topic::Room(room.id), |dm| Topic::Dm(dm.thread)),
            moderates: is_staff || role.is_some_and(Role::moderates),
            person: Arc::new(account.person),
            room: Arc::new(room),
            trust,
            may_write,
            hidden: if dm.is_some() { Hidden::default() } else { admission.blocks.into_iter().collect() },
            dm: dm.map(|dm| Box::new(Dm { thread: dm.thread, others: dm.others, agents: dm.agents })),
        })
    }

    /// How long it is believed, of the time that is right for those that allow to write.
    fn life(&self, most: Duration) -> Duration {
        if self.may_write.is_ok() { most } else { most.min(FORBIDDEN) }
    }
}

/// The grants of this instance.
pub struct Grants {
    store: Store,
    memory: Memory,
    /// How long a grant is believed without asking again.
    life: Duration,
}

impl Grants {
    /// Remembers nothing yet. Each `round`, somebody looks whether what is remembered of those who are in is still so.
    #[must_use]
    pub fn new(store: Store, round: Duration) -> Self {
        Self { store, memory: Memory::default(), life: round + LATE }
    }

    /// What a user may do, remembered or looked up.
    ///
    /// # Errors
    /// Why the user may do nothing, or that it cannot be told.
    pub async fn of(&self, venue: Venue, user: UserId) -> Result<Arc<Grant>, Denied> {
        match self.memory.recall(venue, user, Instant::now(), |grant| grant.life(self.life)) {
            Some(grant) => Ok(grant),
            None => self.look_up(venue, user).await,
        }
    }

    /// What a user may do who was here a moment ago: remembered for longer, because it is looked up again right after.
    ///
    /// # Errors
    /// Why the user may do nothing, or that it cannot be told.
    pub async fn of_returning(&self, venue: Venue, user: UserId) -> Result<Arc<Grant>, Denied> {
        match self.memory.recall(venue, user, Instant::now(), |_| RETURNING.max(self.life)) {
            Some(grant) => Ok(grant),
            None => self.look_up(venue, user).await,
        }
    }

    /// Takes what was judged elsewhere from rows of this fingerprint, and is true now.
    pub fn remember(&self, venue: Venue, user: UserId, grant: Grant, fingerprint: Fingerprint) -> Arc<Grant> {
        self.memory.remember(venue, user, grant, Some(fingerprint), Instant::now())
    }

    /// The fingerprint of the rows that what is remembered was judged from, however old it is.
    #[must_use]
    pub fn fingerprint(&self, venue: Venue, user: UserId) -> Option<Fingerprint> {
        self.memory.fingerprint(venue, user)
    }

    /// Takes what was judged from rows of this fingerprint for true now, for they are as they were. `None` when something
    /// else is remembered by now, or nothing.
    #[must_use]
    pub fn renew(&self, venue: Venue, user: UserId, fingerprint: Fingerprint) -> Option<Arc<Grant>> {
        self.memory.renew(venue, user, fingerprint, Instant::now())
    }

    /// What a user may do, looked up now.
    ///
    /// # Errors
    /// Why the user may do nothing, or that it cannot be told.
    pub async fn look_up(&self, venue: Venue, user: UserId) -> Result<Arc<Grant>, Denied> {
        let admission = self.store.admission(venue, user).await?;
        match Grant::judge(admission, Micros::now()) {
            Ok(grant) => Ok(self.memory.remember(venue, user, grant, None, Instant::now())),
            Err(denied) => {
                self.memory.remove(venue, user);
                Err(denied)
            }
        }
    }

    /// Forgets the grants of a room, of a user, of a user in a room, or all.
    pub fn forget(&self, room: Option<RoomId>, user: Option<UserId>) {
        self.memory.keep(|of_user, grant| {
            room.is_some_and(|room| room != grant.room.id) || user.is_some_and(|user| user != of_user)
        });
    }

    /// Forgets the grants of a direct conversation, by whichever path it was entered: of all, or of one user.
    pub fn forget_conversation(&self, thread: ThreadId, user: Option<UserId>) {
        self.memory.keep(|of_user, grant| grant.topic != Topic::Dm(thread) || user.is_some_and(|user| user != of_user));
    }

    /// Gives back the memory of grants that nobody will believe any more. From time to time.
    pub fn sweep(&self) {
        self.memory.sweep(Instant::now(), RETURNING.max(self.life));
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::store::{Account, DirectConversation, Membership};

    #[test]
    fn what_time_may_end_is_believed_for_seconds_and_the_rest_until_the_next_round() {
        let round = Duration::from_secs(15);
        assert_eq!(grant().life(round), round);
        let muted = Grant { may_write: Err(Code::CannotSend), ..grant() };
        assert_eq!(muted.life(round), FORBIDDEN);
        assert_eq!(muted.life(Duration::from_secs(1)), Duration::from_secs(1));
    }

    fn admission(visibility: Visibility, role: Option<(Role, bool)>) -> Admission {
        let person = Person { id: UserId(1), username: "ada".to_owned(), avatar_url: None, is_staff: false };
        let room = Room {
            id: RoomId(uuid::Uuid::from_u128(1)),
            name: "The Lounge".to_owned(),
            description: String::new(),
            icon: String::new(),
            room_type: "forum".to_owned(),
            visibility,
            member_count: 0,
            is_archived: false,
            is_active: true,
            circle_id: None,
            slow_mode_seconds: 0,
            min_trust_to_join: 0,
            min_trust_to_post: 0,
            auto_thread: false,
        };
        Admission {
            account: Some(Account { person, is_active: true, tier: String::new(), date_joined: Micros(0) }),
            room: Some(room),
            membership: role.map(|(role, is_active)| Membership {
                role,
                is_active,
                last_read_at: None,
                messages_sent: 0,
            }),
            circle_member: false,
            messages_total: 0,
            blocks: vec![UserId(9)],
            dm: None,
        }
    }

    pub(in crate::access) fn grant() -> Grant {
        Grant::judge(admission(Visibility::Public, None), Micros(0)).expect("may write")
    }

    fn verdict(admission: Admission) -> &'static str {
        match Grant::judge(admission, Micros(0)) {
            Ok(Grant { may_write: Ok(()), .. }) => "write",
            Ok(_) => "read",
            Err(Denied::NotAuthenticated) => "4001",
            Err(Denied::NotFound) => "4004",
            Err(Denied::Forbidden) => "4003",
            Err(Denied::Unavailable(_)) => "1013",
        }
    }

    #[test]
    fn every_role_in_every_kind_of_room() {
        use Role::{Admin, Banned, Member, Moderator, Muted, Owner, Trusted};
        use Visibility::{Closed, Public};
        let rows = [
            (None, "write", "4003"),
            (Some((Owner, true)), "write", "write"),
            (Some((Admin, true)), "write", "write"),
            (Some((Moderator, true)), "write", "write"),
            (Some((Trusted, true)), "write", "write"),
            (Some((Member, true)), "write", "write"),
            (Some((Muted, true)), "read", "read"),
            (Some((Banned, true)), "4003", "4003"),
            (Some((Member, false)), "write", "4003"),
            (Some((Banned, false)), "4003", "4003"),
        ];
        for (role, public, closed) in rows {
            assert_eq!(verdict(admission(Public, role)), public, "{role:?} in a public room");
            assert_eq!(verdict(admission(Closed, role)), closed, "{role:?} in a closed room");
        }
    }

    #[test]
    fn circles_archives_and_what_is_gone() {
        let mut circle = admission(Visibility::Closed, None);
        circle.circle_member = true;
        assert_eq!(verdict(circle.clone()), "4003", "a circle member in a room of no circle");
        circle.room.as_mut().expect("has a room").circle_id = Some(uuid::Uuid::from_u128(2));
        assert_eq!(verdict(circle), "write");

        let mut archived = admission(Visibility::Public, None);
        archived.room.as_mut().expect("has a room").is_archived = true;
        assert_eq!(verdict(archived), "read");

        let mut inactive = admission(Visibility::Public, None);
        inactive.room.as_mut().expect("has a room").is_active = false;
        assert_eq!(verdict(inactive), "4004");
        assert_eq!(verdict(Admission { room: None, ..admission(Visibility::Public, None) }), "4004");

        let mut gone = admission(Visibility::Public, None);
        gone.account.as_mut().expect("has an account").is_active = false;
        assert_eq!(verdict(gone), "4001");
        assert_eq!(verdict(Admission { account: None, ..admission(Visibility::Public, None) }), "4001");
    }

    #[test]
    fn trust_opens_rooms_and_mouths() {
        let mut joining = admission(Visibility::Public, None);
        joining.room.as_mut().expect("has a room").min_trust_to_join = 1;
        assert_eq!(verdict(joining.clone()), "4003");
        joining.membership = admission(Visibility::Public, Some((Role::Member, true))).membership;
        assert_eq!(verdict(joining), "write", "a member has been let in before");

        let mut posting = admission(Visibility::Public, None);
        posting.room.as_mut().expect("has a room").min_trust_to_post = 2;
        assert_eq!(verdict(posting.clone()), "read");
        posting.account.as_mut().expect("has an account").person.is_staff = true;
        assert_eq!(verdict(posting), "write");
    }

    #[test]
    fn a_direct_conversation_is_its_participants() {
        let thread = ThreadId(uuid::Uuid::from_u128(3));
        let dm = DirectConversation {
            thread,
            is_group: false,
            takes_part: true,
            others: vec![UserId(2)],
            agents: Vec::new(),
            blocked: false,
            refused: false,
        };
        let with = |dm: DirectConversation| Admission { dm: Some(dm), ..admission(Visibility::Closed, None) };
        assert_eq!(verdict(with(dm.clone())), "write");
        assert_eq!(verdict(with(DirectConversation { takes_part: false, ..dm.clone() })), "4003");
        let code = |dm| Grant::judge(with(dm), Micros(0)).expect("may read").may_write;
        assert_eq!(code(DirectConversation { blocked: true, ..dm.clone() }), Err(Code::Blocked));
        assert_eq!(code(DirectConversation { refused: true, ..dm.clone() }), Err(Code::NotAdmitted));
        let grant = Grant::judge(with(dm), Micros(0)).expect("may read");
        assert_eq!(grant.topic, Topic::Dm(thread));
        assert!(!grant.hidden.hides(UserId(9)), "a conversation of two stays readable");
        let room = Grant::judge(admission(Visibility::Public, None), Micros(0)).expect("may read");
        assert!(room.hidden.hides(UserId(9)) && !room.hidden.hides(UserId(8)));
    }
}
