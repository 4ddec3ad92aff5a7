//! Users, and what a room says about one: everything that decides who gets in.

use super::row::{Account, Columns, Membership};
use super::{Store, StoreError, arguments};
use crate::domain::{Person, Room, RoomId, UserId};

/// What Django's tables say about one user and one room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// `None` when there is no such user.
    pub account: Option<Account>,
    /// `None` when there is no such room.
    pub room: Option<Room>,
    /// `None` when the user has no row in the room.
    pub membership: Option<Membership>,
    /// The room is a circle's chat and the user an active member of the circle.
    pub circle_member: bool,
}

impl Store {
    /// Reads a user.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn account(&self, user: UserId) -> Result<Option<Account>, StoreError> {
        let rows = self.read(|sql| &sql.account, arguments!(user.0)).await?;
        rows.first().map_or(Ok(None), |row| Columns::of(row).account())
    }

    /// Reads all that decides whether a user may enter a room, in one round trip.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn admission(&self, room: RoomId, user: UserId) -> Result<Admission, StoreError> {
        let found = self.admissions(&[(room, user)]).await?;
        found.into_iter().next().ok_or_else(|| StoreError::Unreadable("no row of admission".to_owned()))
    }

    /// Reads the same for many users and rooms, in one round trip and in their order.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn admissions(&self, wanted: &[(RoomId, UserId)]) -> Result<Vec<Admission>, StoreError> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let (rooms, users): (Vec<_>, Vec<_>) = wanted.iter().map(|(room, user)| (room.0, user.0)).unzip();
        let rows = self.read(|sql| &sql.admission, arguments!(rooms, users)).await?;
        if rows.len() != wanted.len() {
            return Err(StoreError::Unreadable("not one row of admission for each pair".to_owned()));
        }
        rows.iter()
            .map(|row| {
                let mut columns = Columns::of(row);
                Ok(Admission {
                    account: columns.account()?,
                    room: columns.room()?,
                    membership: columns.membership()?,
                    circle_member: columns.take()?,
                })
            })
            .collect()
    }

    /// Reads users by id, in no particular order; those that do not exist are left out.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn people(&self, users: &[UserId]) -> Result<Vec<Person>, StoreError> {
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<i64> = users.iter().map(|user| user.0).collect();
        let rows = self.read(|sql| &sql.people, arguments!(ids)).await?;
        let accounts = rows.iter().map(|row| Columns::of(row).account());
        accounts.filter_map(|account| account.map(|found| found.map(|account| account.person)).transpose()).collect()
    }
}
