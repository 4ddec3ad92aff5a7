//! What the presence socket asks for: a user's rooms, conversations and partners, and what is unread in them.

use std::collections::HashSet;

use super::row::Columns;
use super::sql::app::MOST;
use super::{Store, StoreError, arguments};
use crate::domain::{RoomId, ThreadId, UserId};

/// Where a user belongs. Each list is bounded, those with the newest messages first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overview {
    /// Rooms with their unread messages, at most a hundred each.
    pub rooms: Vec<(RoomId, u32)>,
    /// Direct conversations with theirs.
    pub threads: Vec<(ThreadId, u32)>,
    /// With whom the user has these conversations, blocks of either side left out.
    pub partners: Vec<UserId>,
}

/// How many messages of a room a user has not read, at most a hundred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unread {
    pub user: UserId,
    pub room: RoomId,
    /// Set when the room holds a direct conversation.
    pub thread: Option<ThreadId>,
    pub count: u32,
}

impl Store {
    /// Reads where a user belongs, in one round trip.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn overview(&self, user: UserId) -> Result<Overview, StoreError> {
        let rows = self.read(|sql| &sql.overview, arguments!(user.0)).await?;
        let mut overview = Overview::default();
        let mut known = HashSet::new();
        for row in &rows {
            let mut columns = Columns::of(row);
            let (room, thread): (uuid::Uuid, Option<uuid::Uuid>) = (columns.take()?, columns.take()?);
            let partners: Vec<i64> = columns.take()?;
            let count = counted(columns.take()?);
            match thread {
                Some(thread) => overview.threads.push((ThreadId(thread), count)),
                None => overview.rooms.push((RoomId(room), count)),
            }
            overview.partners.extend(partners.into_iter().map(UserId).filter(|partner| known.insert(*partner)));
        }
        overview.partners.truncate(MOST as usize);
        Ok(overview)
    }

    /// Counts what users have not read in rooms, in one round trip and in no particular order.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn unread(&self, wanted: &[(UserId, RoomId)]) -> Result<Vec<Unread>, StoreError> {
        let (users, rooms): (Vec<i64>, Vec<uuid::Uuid>) = wanted.iter().map(|(user, room)| (user.0, room.0)).unzip();
        let rows = self.read(|sql| &sql.unread, arguments!(users, rooms)).await?;
        let unread = rows.iter().map(|row| {
            let mut columns = Columns::of(row);
            let (user, room): (i64, uuid::Uuid) = (columns.take()?, columns.take()?);
            let thread: Option<uuid::Uuid> = columns.take()?;
            let count = counted(columns.take()?);
            Ok(Unread { user: UserId(user), room: RoomId(room), thread: thread.map(ThreadId), count })
        });
        unread.collect()
    }

    /// Those of some users who blocked the user, or whom the user blocked.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn blocked(&self, user: UserId, others: &[UserId]) -> Result<HashSet<UserId>, StoreError> {
        if others.is_empty() {
            return Ok(HashSet::new());
        }
        let ids: Vec<i64> = others.iter().map(|other| other.0).collect();
        let rows = self.read(|sql| &sql.blocked, arguments!(user.0, ids)).await?;
        rows.iter().map(|row| Columns::of(row).take().map(UserId)).collect()
    }
}

fn counted(count: i32) -> u32 {
    u32::try_from(count).unwrap_or(0)
}
