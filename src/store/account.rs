//! Users, and what a room says about one: everything that decides who gets in.

use sqlx::postgres::{PgArguments, PgRow};
use tokio::time::timeout;
use uuid::Uuid;

use super::link::ACQUIRE;
use super::row::{Account, Columns, Membership};
use super::{READ, Store, StoreError, arguments};

use crate::domain::{Person, Room, RoomId, ThreadId, UserId, Venue};

/// Reads of admissions at once. Two: who comes while one runs need not wait for the slowest of it.
pub(super) const LANES: usize = 2;
/// The most admissions of one read.
pub(super) const TOGETHER: usize = 256;

/// A hash of all that an [`Admission`] is made of: while it is the same, so are the rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub i64);

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
    /// Messages that the user has sent in all rooms.
    pub messages_total: i64,
    /// Whom the user blocked, and who blocked the user.
    pub blocks: Vec<UserId>,
    /// Set when the room holds a direct conversation.
    pub dm: Option<DirectConversation>,
}

/// What Django's tables say about a direct conversation and one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectConversation {
    pub thread: ThreadId,
    pub is_group: bool,
    /// The user takes part in it.
    pub takes_part: bool,
    /// The other participants.
    pub others: Vec<UserId>,
    /// Those of the others who are agents: users of tier `team`.
    pub agents: Vec<UserId>,
    /// One of two blocked the other.
    pub blocked: bool,
    /// The other of two does not admit messages from this user.
    pub refused: bool,
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

    /// Reads all that decides whether a user may enter a room, in one round trip, together with others who want in at
    /// the same moment.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn admission(&self, venue: impl Into<Venue>, user: UserId) -> Result<Admission, StoreError> {
        let read = self.inner.admissions.read((venue.into(), user), |wanted| self.each_admission(wanted));
        timeout(ACQUIRE + READ, read).await.unwrap_or_else(|_| self.counted(Err(StoreError::Exhausted)))
    }

    /// Each by itself: a row that nobody can read keeps nobody else out.
    async fn each_admission(&self, wanted: Vec<(Venue, UserId)>) -> Vec<Result<Admission, StoreError>> {
        match self.admission_rows(&wanted).await {
            Ok(rows) => rows.iter().map(Columns::of).map(admission).collect(),
            Err(error) => vec![Err(error); wanted.len()],
        }
    }

    /// Reads the same for many users and rooms, in one round trip and in their order.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn admissions(&self, wanted: &[(Venue, UserId)]) -> Result<Vec<Admission>, StoreError> {
        self.admission_rows(wanted).await?.iter().map(Columns::of).map(admission).collect()
    }

    /// Reads the same of those alone for whom it is not as it was: each with its place among them. Each by itself: a row that
    /// nobody can read hides no other's.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn changed_admissions(
        &self,
        known: &[(Venue, UserId, Option<Fingerprint>)],
    ) -> Result<Vec<(usize, Result<(Fingerprint, Admission), StoreError>)>, StoreError> {
        if known.is_empty() {
            return Ok(Vec::new());
        }
        let before: Vec<_> = known.iter().map(|(.., known)| known.map(|Fingerprint(known)| known)).collect();
        let keys = keys(known.iter().map(|(venue, user, _)| (*venue, *user)))?;
        let rows = self.read(|sql| &sql.changed_admission, arguments!(keys; before)).await?;
        let changed = rows.iter().map(|row| {
            let mut columns = Columns::of(row);
            let place = usize::try_from(columns.take::<i64>()? - 1).ok().filter(|place| *place < known.len());
            let place =
                place.ok_or_else(|| StoreError::Unreadable("an admission that was not asked for".to_owned()))?;
            let fingerprint = columns.take().map(Fingerprint);
            Ok((place, fingerprint.and_then(|fingerprint| Ok((fingerprint, admission(columns)?)))))
        });
        changed.collect()
    }

    async fn admission_rows(&self, wanted: &[(Venue, UserId)]) -> Result<Vec<PgRow>, StoreError> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self.read(|sql| &sql.admission, keys(wanted.iter().copied())).await?;
        if rows.len() != wanted.len() {
            return Err(StoreError::Unreadable("not one row of admission for each pair".to_owned()));
        }
        Ok(rows)
    }

    /// Finds active users by their exact names, in no particular order.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn users_named(&self, names: &[&str]) -> Result<Vec<(String, UserId)>, StoreError> {
        let rows = self.read(|sql| &sql.named, arguments!(names)).await?;
        let user = |row| {
            let mut columns = Columns::of(row);
            let id = columns.take()?;
            Ok((columns.take()?, UserId(id)))
        };
        rows.iter().map(user).collect()
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

/// Whose rights where: a venue is a room or a conversation, or neither, and then it is about the user alone.
fn keys(wanted: impl Iterator<Item = (Venue, UserId)>) -> Result<PgArguments, StoreError> {
    let (mut rooms, mut threads, mut users) = (Vec::new(), Vec::new(), Vec::new());
    for (venue, user) in wanted {
        let (room, thread): (Option<Uuid>, Option<Uuid>) = match venue {
            Venue::Room(RoomId(id)) => (Some(id), None),
            Venue::Dm(ThreadId(id)) => (None, Some(id)),
            Venue::App => (None, None),
        };
        rooms.push(room);
        threads.push(thread);
        users.push(user.0);
    }
    arguments!(rooms, threads, users)
}

/// Reads all columns that are left.
fn admission(mut columns: Columns<'_>) -> Result<Admission, StoreError> {
    Ok(Admission {
        account: columns.account()?,
        room: columns.room()?,
        membership: columns.membership()?,
        circle_member: columns.take()?,
        messages_total: columns.take()?,
        blocks: user_ids(columns.take()?),
        dm: direct(&mut columns)?,
    })
}

fn direct(columns: &mut Columns<'_>) -> Result<Option<DirectConversation>, StoreError> {
    let thread: Option<Uuid> = columns.take()?;
    let is_group: Option<bool> = columns.take()?;
    let takes_part = columns.take()?;
    let (others, agents): (Vec<i64>, Vec<i64>) = (columns.take()?, columns.take()?);
    let (blocked, refused) = (columns.take()?, columns.take()?);
    Ok(thread.map(|thread| DirectConversation {
        thread: ThreadId(thread),
        is_group: is_group.unwrap_or_default(),
        takes_part,
        others: user_ids(others),
        agents: user_ids(agents),
        blocked,
        refused,
    }))
}

fn user_ids(ids: Vec<i64>) -> Vec<UserId> {
    ids.into_iter().map(UserId).collect()
}
