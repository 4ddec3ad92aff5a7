//! Names of people, for the list of who is online.
//!
//! Those of who is in are learned again with their rights, and cost nothing. Older ones are shown once more and asked for
//! behind, so that nobody waits for names who enters where all were seen a while ago.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use quick_cache::sync::Cache;

use crate::domain::{Person, UserId};
use crate::store::{Store, StoreError};

/// How long a person's name is believed.
const FRESH: Duration = Duration::from_secs(60);
/// How long it is shown all the same, while it is asked for again.
const SHOWN: Duration = Duration::from_secs(10 * 60);
/// How many people are remembered.
const MOST: usize = 65_536;
/// How many are asked for at once; the others are left to when they are shown next.
const AT_ONCE: usize = 500;

/// Names of people, remembered for a while.
pub struct Directory {
    store: Store,
    names: Names,
}

impl Directory {
    /// Knows nobody yet.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, names: Names::new() }
    }

    /// Remembers a person.
    pub fn learn(&self, person: Arc<Person>) {
        self.names.learn(person, Instant::now());
    }

    /// Asks again for those who were shown by an old name, with one query. From time to time.
    ///
    /// # Errors
    /// When Postgres does not answer; they are asked for after they are shown next.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let stale = self.names.take_stale();
        if !stale.is_empty() {
            self.store.people(&stale).await?.into_iter().for_each(|person| self.learn(Arc::new(person)));
        }
        Ok(())
    }

    /// The people of these ids, in their order; those that do not exist are left out. At most one query, and none when
    /// everybody was seen in the last minutes.
    pub(super) async fn look_up(&self, users: &[UserId]) -> Result<Vec<Person>, StoreError> {
        self.known_for(users, SHOWN).await
    }

    /// The same, for somebody who was here a moment ago: names are shown however old they are. No query as long as
    /// everybody was seen before.
    pub(super) async fn names(&self, users: &[UserId]) -> Result<Vec<Person>, StoreError> {
        self.known_for(users, Duration::MAX).await
    }

    async fn known_for(&self, users: &[UserId], shown: Duration) -> Result<Vec<Person>, StoreError> {
        let mut found = self.names.of(users, shown, Instant::now());
        let unknown: Vec<_> = users.iter().filter(|user| !found.contains_key(user)).copied().collect();
        if !unknown.is_empty() {
            for person in self.store.people(&unknown).await?.into_iter().map(Arc::new) {
                self.learn(Arc::clone(&person));
                found.insert(person.id, person);
            }
        }
        Ok(users.iter().filter_map(|user| found.get(user)).map(|person| Person::clone(person)).collect())
    }
}

/// What is remembered.
struct Names {
    /// With when it was learned.
    people: Cache<UserId, (Instant, Arc<Person>)>,
    /// Who was shown by an old name.
    stale: Mutex<HashSet<UserId>>,
}

impl Names {
    fn new() -> Self {
        Self { people: Cache::new(MOST), stale: Mutex::default() }
    }

    fn learn(&self, person: Arc<Person>, now: Instant) {
        self.people.insert(person.id, (now, person));
    }

    /// Those of these people whose names are no older than that. Notes whose are to be asked for again.
    fn of(&self, users: &[UserId], shown: Duration, now: Instant) -> HashMap<UserId, Arc<Person>> {
        let (mut found, mut old) = (HashMap::with_capacity(users.len()), Vec::new());
        for (learned, person) in users.iter().filter_map(|user| self.people.get(user)) {
            let age = now.saturating_duration_since(learned);
            if age > shown {
                continue;
            }
            if age > FRESH {
                old.push(person.id);
            }
            found.insert(person.id, person);
        }
        if !old.is_empty() {
            let mut stale = self.stale.lock();
            let room = AT_ONCE.saturating_sub(stale.len());
            stale.extend(old.into_iter().take(room));
        }
        found
    }

    fn take_stale(&self) -> Vec<UserId> {
        std::mem::take(&mut *self.stale.lock()).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_name_is_shown_and_asked_for_again() {
        let (names, began) = (Names::new(), Instant::now());
        let person = |id| Person { id: UserId(id), username: format!("user{id}"), avatar_url: None, is_staff: false };
        let everybody: Vec<_> = (0..1_000).map(UserId).collect();
        for user in &everybody {
            names.learn(Arc::new(person(user.0)), began);
        }
        let found = |after: Duration, shown| names.of(&everybody, shown, began + after).len();
        assert_eq!(found(FRESH, SHOWN), 1_000);
        assert!(names.take_stale().is_empty(), "fresh names are asked for");
        assert_eq!(found(FRESH * 2, SHOWN), 1_000);
        assert_eq!(names.take_stale().len(), AT_ONCE, "so many at once");
        assert!(names.take_stale().is_empty(), "asked for twice");
        let late = SHOWN + Duration::from_secs(1);
        assert_eq!(found(late, SHOWN), 0);
        assert!(names.take_stale().is_empty(), "who is not shown by an old name is looked up at once");
        assert_eq!(found(late, Duration::MAX), 1_000);
        assert_eq!(names.take_stale().len(), AT_ONCE);
    }
}
