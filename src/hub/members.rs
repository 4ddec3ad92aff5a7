//! The connections of this instance, by user: whom an order from Django is about.

use std::collections::BTreeMap;
use std::sync::Arc;

use dashmap::DashMap;

use super::Watcher;
use crate::domain::{ConnectionId, Micros, RoomId, Topic, UserId, Venue};
use crate::socket::Outbox;

/// One connected person on one topic.
#[derive(Clone)]
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
}

/// All members of this instance.
#[derive(Default)]
pub struct Members {
    by_user: DashMap<UserId, Vec<Member>>,
}

impl Members {
    /// Adds a member; it is removed when the guard is dropped.
    #[must_use]
    pub fn add(self: &Members, hub: &Arc<super::Hub>, member: Member) -> Membership {
        let (user, connection) = (member.user, member.connection);
        // Nearly everybody has one: room for four from the start would be half a kilobyte each.
        self.by_user.entry(user).or_insert_with(|| Vec::with_capacity(1)).push(member);
        Membership { hub: Arc::clone(hub), user, connection }
    }

    /// The members of one user.
    #[must_use]
    pub fn of(&self, user: UserId) -> Vec<Member> {
        self.by_user.get(&user).map(|members| members.clone()).unwrap_or_default()
    }

    /// All members.
    #[must_use]
    pub fn all(&self) -> Vec<Member> {
        self.by_user.iter().flat_map(|entry| entry.value().clone()).collect()
    }

    /// Members that are wanted, in the order in which they came, after one of them: `limit` at most.
    #[must_use]
    pub fn page(&self, after: ConnectionId, limit: usize, wanted: impl Fn(&Member) -> bool) -> Vec<Member> {
        let mut page = BTreeMap::new();
        for entry in &self.by_user {
            for member in entry.value().iter().filter(|member| member.connection > after && wanted(member)) {
                page.insert(member.connection, member.clone());
                if page.len() > limit {
                    page.pop_last();
                }
            }
        }
        page.into_values().collect()
    }

    fn remove(&self, user: UserId, connection: ConnectionId) {
        self.by_user.remove_if_mut(&user, |_, members| {
            members.retain(|member| member.connection != connection);
            members.is_empty()
        });
    }
}

/// Keeps a member in the list.
pub struct Membership {
    hub: Arc<super::Hub>,
    user: UserId,
    connection: ConnectionId,
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.hub.members.remove(self.user, self.connection);
    }
}
