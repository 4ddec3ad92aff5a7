//! What a user may do in a room: judged from Django's rows, remembered for a few seconds.
//!
//! A grant is a memory, never the truth: it is forgotten when Django says that something changed, and soon by itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;

use crate::domain::{Person, Role, Room, RoomId, UserId, Visibility};
use crate::store::{Admission, Store, StoreError};
use crate::wire::Code;

/// How long a grant is believed without asking again.
const LIFE: Duration = Duration::from_secs(5);
/// How many grants are remembered.
const REMEMBERED: usize = 65_536;

/// What one user may do in one room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub person: Person,
    pub room: Room,
    /// Why the user may not write, if so.
    pub may_write: Result<(), Code>,
}

/// Why somebody is not let in, or not any longer.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    #[error("there is no such user, or the user is inactive")]
    NotAuthenticated,
    #[error("there is no such room, or it is inactive")]
    NotFound,
    #[error("the user has no access to this room")]
    Forbidden,
    #[error("rights cannot be looked up: {0}")]
    Unavailable(#[from] StoreError),
}

impl Grant {
    /// Judges what Django's tables say.
    ///
    /// Public rooms are open to every authenticated user, others to active members and, for a circle's room, to the
    /// circle's active members. Whoever is banned stays out of public rooms too. Muted members and everybody in an
    /// archived room read and do not write.
    ///
    /// # Errors
    /// Why the user is not let in.
    pub fn judge(admission: Admission) -> Result<Self, Denied> {
        let account = admission.account.filter(|account| account.is_active).ok_or(Denied::NotAuthenticated)?;
        let room = admission.room.filter(|room| room.is_active).ok_or(Denied::NotFound)?;
        let role = admission.membership.as_ref().map(|membership| membership.role);
        let is_member = admission.membership.is_some_and(|membership| membership.is_active);
        let is_open = match room.visibility {
            Visibility::Public => true,
            Visibility::Closed => is_member || (room.circle_id.is_some() && admission.circle_member),
        };
        if role == Some(Role::Banned) || !is_open {
            return Err(Denied::Forbidden);
        }
        let may_write = match role {
            _ if room.is_archived => Err(Code::Archived),
            Some(Role::Muted) => Err(Code::CannotSend),
            _ => Ok(()),
        };
        Ok(Self { person: account.person, room, may_write })
    }
}

struct Remembered {
    grant: Arc<Grant>,
    until: Instant,
}

/// The grants of this instance.
pub struct Grants {
    store: Store,
    remembered: Cache<(RoomId, UserId), Arc<Remembered>>,
}

impl Grants {
    /// Remembers nothing yet.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, remembered: Cache::new(REMEMBERED) }
    }

    /// What a user may do, remembered or looked up.
    ///
    /// # Errors
    /// Why the user may do nothing, or that it cannot be told.
    pub async fn of(&self, room: RoomId, user: UserId) -> Result<Arc<Grant>, Denied> {
        match self.remembered.get(&(room, user)) {
            Some(remembered) if remembered.until > Instant::now() => Ok(Arc::clone(&remembered.grant)),
            _ => self.look_up(room, user).await,
        }
    }

    /// What a user may do, looked up now.
    ///
    /// # Errors
    /// Why the user may do nothing, or that it cannot be told.
    pub async fn look_up(&self, room: RoomId, user: UserId) -> Result<Arc<Grant>, Denied> {
        let judged = self.store.admission(room, user).await.map_err(Denied::from).and_then(Grant::judge);
        match judged {
            Ok(grant) => Ok(self.remember(grant)),
            Err(denied) => {
                self.remembered.remove(&(room, user));
                Err(denied)
            }
        }
    }

    fn remember(&self, grant: Grant) -> Arc<Grant> {
        let grant = Arc::new(grant);
        let until = Instant::now() + LIFE;
        let remembered = Remembered { grant: Arc::clone(&grant), until };
        self.remembered.insert((grant.room.id, grant.person.id), Arc::new(remembered));
        grant
    }

    /// Forgets the grants of a room, of a user, of a user in a room, or all.
    pub fn forget(&self, room: Option<RoomId>, user: Option<UserId>) {
        self.remembered.retain(|(of_room, of_user), _| {
            room.is_some_and(|room| room != *of_room) || user.is_some_and(|user| user != *of_user)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Micros;
    use crate::store::{Account, Membership};

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
        }
    }

    fn verdict(admission: Admission) -> &'static str {
        match Grant::judge(admission) {
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
}
