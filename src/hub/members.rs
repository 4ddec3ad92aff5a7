//! The connections of this instance, by user: whom an order from Django is about.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;

use super::Watcher;
use crate::domain::{ConnectionId, Micros, RoomId, Topic, UserId, Venue};
use crate::socket::Outbox;

/// Parts of the list, each under a lock of its own.
const SHARDS: usize = 32;

/// One connected person on one topic.
pub struct Member {
    pub connection: ConnectionId,
    pub user: UserId,
    /// What the path of its socket named.
    pub venue: Venue,
    /// The room whose messages it reads, if it is in one.
    pub room: Option<RoomId>,
    pub topic: Topic,
    /// What it has joined besides: threads.
    pub also: super::Topics,
    /// The session version the login was checked against; `None` when there was none.
    pub session_version: Option<i64>,
    /// The generation of its resume tickets; `None` when it gets none.
    pub generation: Option<u64>,
    pub outbox: Arc<Outbox>,
    /// When it came in.
    pub since: Micros,
    /// What it watches, if it is a presence socket.
    pub watcher: Option<Arc<Watcher>>,
    /// The fingerprint of the rights that it was judged by last in a round over all members.
    pub judged: Judged,
}

/// A fingerprint, or none yet. That of 0 counts as none: who has it is judged each time.
#[derive(Debug, Default)]
pub struct Judged(AtomicI64);

impl Judged {
    /// The fingerprint.
    #[must_use]
    pub fn get(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|known| *known != 0)
    }

    /// Notes one.
    pub fn set(&self, fingerprint: i64) {
        self.0.store(fingerprint, Ordering::Relaxed);
    }

    /// Forgets it. After a seat was taken: what was hidden meanwhile was not hidden there.
    pub fn forget(&self) {
        self.set(0);
    }
}

/// One of a user's connections.
pub type MemberKey = (UserId, ConnectionId);

/// A tree, because that takes the least for each entry: nearly every user has one.
type Shard = Mutex<BTreeMap<MemberKey, Arc<Member>>>;

/// All members of this instance.
pub struct Members {
    shards: Box<[Shard]>,
}

impl Default for Members {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }
}

impl Members {
    fn shard(&self, user: UserId) -> &Shard {
        &self.shards[usize::from(user.0.to_le_bytes()[0]) % SHARDS]
    }

    /// Adds a member; it is removed when the guard is dropped.
    #[must_use]
    pub fn add(self: &Members, hub: &Arc<super::Hub>, member: Member) -> Membership {
        let member = Arc::new(member);
        let key = (member.user, member.connection);
        self.shard(member.user).lock().insert(key, Arc::clone(&member));
        Membership { hub: Arc::clone(hub), member }
    }

    /// The members of one user.
    #[must_use]
    pub fn of(&self, user: UserId) -> Vec<Arc<Member>> {
        let all = (user, ConnectionId(0))..=(user, ConnectionId(u64::MAX));
        self.shard(user).lock().range(all).map(|(_, member)| Arc::clone(member)).collect()
    }

    /// One member, if it is still here.
    #[must_use]
    pub fn get(&self, key: MemberKey) -> Option<Arc<Member>> {
        self.shard(key.0).lock().get(&key).map(Arc::clone)
    }

    /// Members that are wanted, in the order in which they came, after one of them: `limit` at most.
    #[must_use]
    pub fn page(&self, after: ConnectionId, limit: usize, wanted: impl Fn(&Member) -> bool) -> Vec<Arc<Member>> {
        let mut page = BTreeMap::new();
        for shard in &self.shards {
            for member in shard.lock().values().filter(|member| member.connection > after && wanted(member)) {
                page.insert(member.connection, Arc::clone(member));
                if page.len() > limit {
                    page.pop_last();
                }
            }
        }
        page.into_values().collect()
    }

    /// All members. Not to be kept: their sockets stay open as long.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Member>> {
        self.shards.iter().flat_map(|shard| shard.lock().values().map(Arc::clone).collect::<Vec<_>>()).collect()
    }

    /// Who all members are.
    #[must_use]
    pub fn keys(&self) -> Vec<MemberKey> {
        self.shards.iter().flat_map(|shard| shard.lock().keys().copied().collect::<Vec<_>>()).collect()
    }
}

/// Keeps a member in the list.
pub struct Membership {
    hub: Arc<super::Hub>,
    member: Arc<Member>,
}

impl Membership {
    /// Who it keeps there.
    #[must_use]
    pub fn member(&self) -> &Arc<Member> {
        &self.member
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let Member { user, connection, .. } = *self.member;
        self.hub.members.shard(user).lock().remove(&(user, connection));
    }
}
