//! Which rooms are to be counted for Django's `online_count`, and when: each at most once in [`EVERY`], whatever the
//! number of instances.
//!
//! A room stays in the list in Redis as long as Django's number may not be 0, so that it is counted again after whoever
//! was in it, or the instance, is gone without a word. Must never be asked by a join: a join notes the room in memory.

use std::sync::LazyLock;
use std::time::Duration;

use redis::Script;
use uuid::Uuid;

use super::scripts::within;
use super::{Presence, PresenceError};
use crate::domain::RoomId;
use crate::keyspace;

/// How often a room is counted at most.
pub const EVERY: Duration = Duration::from_secs(15);
/// How many rooms are taken at once.
const MOST: usize = 500;

static CENSUS: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/census.lua")));

impl Presence {
    /// Notes rooms whose number may not be what Django's table says.
    pub fn note(&self, rooms: impl IntoIterator<Item = RoomId>) {
        self.0.changed.lock().extend(rooms);
    }

    /// Takes rooms that are due, with the number online in each. No other instance gets them for 15 seconds.
    ///
    /// # Errors
    /// When Redis does not answer in time, or fails.
    ///
    /// # Cancel safety
    /// Not safe: what was taken is due again after 15 seconds.
    pub async fn due(&self) -> Result<Vec<(RoomId, u64)>, PresenceError> {
        let noted: Vec<RoomId> = {
            let mut changed = self.0.changed.lock();
            let some: Vec<_> = changed.iter().take(MOST).copied().collect();
            for room in &some {
                changed.remove(room);
            }
            some
        };
        let found = async {
            let mut call = CENSUS.key(keyspace::CENSUS);
            call.arg(u64::try_from(EVERY.as_millis()).unwrap_or(u64::MAX)).arg(keyspace::CENSUS_SECONDS).arg(MOST);
            for room in &noted {
                call.arg(room.to_string());
            }
            let due: Vec<String> = within(call.invoke_async(&mut self.0.connection.clone())).await?;
            let due: Vec<_> = due.iter().filter_map(|id| Uuid::parse_str(id).ok().map(RoomId)).collect();
            let counts = self.0.scripts.counts(&due).await?;
            Ok(due.into_iter().zip(counts).collect())
        };
        found.await.inspect_err(|_| {
            self.0.count_failure();
            self.note(noted);
        })
    }

    /// Takes empty rooms from the list. One that somebody has entered meanwhile is noted again: a join stands in Redis
    /// before it is noted.
    ///
    /// # Errors
    /// When Redis does not answer in time, or fails.
    pub async fn forget_empty(&self, rooms: &[RoomId]) -> Result<(), PresenceError> {
        if rooms.is_empty() {
            return Ok(());
        }
        let mut forget = redis::cmd("ZREM");
        forget.arg(keyspace::CENSUS);
        for room in rooms {
            forget.arg(room.to_string());
        }
        within(forget.exec_async(&mut self.0.connection.clone())).await?;
        let counts = self.0.scripts.counts(rooms).await.inspect_err(|_| self.note(rooms.iter().copied()))?;
        self.note(rooms.iter().zip(counts).filter(|(_, online)| *online > 0).map(|(room, _)| *room));
        Ok(())
    }
}
