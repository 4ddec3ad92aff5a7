//! Which limits a user has hit lately on this instance, for operators. Bounded, forgotten with the process, and never asked
//! by a decision.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use quick_cache::sync::Cache;

use crate::domain::{Micros, UserId};

/// How many users are remembered.
const USERS: usize = 4_096;

/// How often a limit was hit, and when last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    pub count: u64,
    pub last: Micros,
}

type OfUser = Arc<Mutex<BTreeMap<&'static str, Hit>>>;

/// The limits that were hit.
pub struct Hits {
    users: Cache<UserId, OfUser>,
}

impl Default for Hits {
    fn default() -> Self {
        Self { users: Cache::new(USERS) }
    }
}

impl Hits {
    /// Notes that a user hit a limit: the frame's type, or a word for the connection.
    pub fn note(&self, user: UserId, limit: &'static str) {
        let made = self.users.get_or_insert_with(&user, || Ok::<_, std::convert::Infallible>(OfUser::default()));
        let Ok(of_user) = made;
        let mut of_user = of_user.lock();
        let hit = of_user.entry(limit).or_insert(Hit { count: 0, last: Micros(0) });
        *hit = Hit { count: hit.count + 1, last: Micros::now() };
    }

    /// What a user has hit.
    #[must_use]
    pub fn of(&self, user: UserId) -> Vec<(&'static str, Hit)> {
        let found = self.users.get(&user);
        found.map(|hits| hits.lock().iter().map(|(limit, hit)| (*limit, *hit)).collect()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_are_counted_for_each_user_and_limit() {
        let hits = Hits::default();
        for limit in ["send_message", "frames", "send_message"] {
            hits.note(UserId(7), limit);
        }
        let counts: Vec<_> = hits.of(UserId(7)).into_iter().map(|(limit, hit)| (limit, hit.count)).collect();
        assert_eq!(counts, [("frames", 1), ("send_message", 2)]);
        assert!(hits.of(UserId(8)).is_empty());
    }
}
