//! What the presence socket asks for: a user's rooms, conversations and partners, and what is unread in them.

use std::collections::HashSet;

use super::row::Columns;
use super::sql::app::MOST;
use super::{Store, StoreError, arguments};
use crate::domain::{RoomId, ThreadId, UserId};

/// How many rooms that were left behind are looked at.
const MOST_ROOMS: i64 = 10_000;

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

    /// Those of some pairs of users of whom one blocked the other.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn blocked(&self, pairs: &[(UserId, UserId)]) -> Result<HashSet<(UserId, UserId)>, StoreError> {
        if pairs.is_empty() {
            return Ok(HashSet::new());
        }
        let (users, others): (Vec<i64>, Vec<i64>) = pairs.iter().map(|(user, other)| (user.0, other.0)).unzip();
        let rows = self.read(|sql| &sql.blocked, arguments!(users, others)).await?;
        let pair = |row| {
            let mut columns = Columns::of(row);
            Ok((UserId(columns.take()?), UserId(columns.take()?)))
        };
        rows.iter().map(pair).collect()
    }

    /// Rooms with somebody online, as Django's table says; 10,000 at most.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn rooms_online(&self) -> Result<Vec<RoomId>, StoreError> {
        let rows = self.read(|sql| &sql.rooms_online, arguments!(MOST_ROOMS)).await?;
        rows.iter().map(|row| Columns::of(row).take().map(RoomId)).collect()
    }

    /// Writes how many are online in rooms, where that is not what stands there, in one round trip. Returns the rooms
    /// that were left out, because somebody is writing in them right now.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn count_online(&self, counts: &[(RoomId, u64)]) -> Result<Vec<RoomId>, StoreError> {
        let number = |online: u64| i32::try_from(online).unwrap_or(i32::MAX);
        let (rooms, online): (Vec<uuid::Uuid>, Vec<i32>) =
            counts.iter().map(|(room, online)| (room.0, number(*online))).unzip();
        let rows = self.read(|sql| &sql.count_online, arguments!(rooms, online)).await?;
        rows.iter().map(|row| Columns::of(row).take().map(RoomId)).collect()
    }
}

fn counted(count: i32) -> u32 {
    u32::try_from(count).unwrap_or(0)
}
