//! Rows into the words of the domain, by position: `sql` says in which order the columns stand.

use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgRow, PgTypeInfo, PgValueFormat, PgValueRef};
use sqlx::{Decode, Postgres, Row, Type};
use uuid::Uuid;

use super::StoreError;
use crate::domain::{
    Author, Message, MessageId, Micros, Person, ReplyPreview, Role, Room, RoomId, Thread, ThreadId, UserId, Visibility,
};

/// The user behind a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// As others see them.
    pub person: Person,
    /// Inactive users are not authenticated.
    pub is_active: bool,
    /// `team` marks an agent.
    pub tier: String,
    /// When the account was made.
    pub date_joined: Micros,
}

/// A row of `community_roommembership`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// What the member may do.
    pub role: Role,
    /// Inactive memberships admit nobody.
    pub is_active: bool,
    /// The time of the newest message the member has read.
    pub last_read_at: Option<Micros>,
    /// Messages the member has sent in this room.
    pub messages_sent: i32,
}

/// A `timestamptz`, which Postgres sends as microseconds since 2000.
pub(super) struct Stamp(pub i64);

/// 2000-01-01T00:00:00Z in microseconds since 1970.
const Y2000: i64 = 946_684_800_000_000;

impl Type<Postgres> for Stamp {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(1184)) // timestamptz, the same in every Postgres
    }
}

impl<'r> Decode<'r, Postgres> for Stamp {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        match value.format() {
            PgValueFormat::Binary => {
                let since_2000 = i64::from_be_bytes(value.as_bytes()?.try_into()?);
                Ok(Self(since_2000.saturating_add(Y2000)))
            }
            PgValueFormat::Text => Err("a time came as text".into()),
        }
    }
}

/// Reads a row's columns from left to right.
pub(super) struct Columns<'r> {
    row: &'r PgRow,
    next: usize,
}

impl<'r> Columns<'r> {
    pub(super) fn of(row: &'r PgRow) -> Self {
        Self { row, next: 0 }
    }

    /// The columns from one on.
    pub(super) fn at(row: &'r PgRow, next: usize) -> Self {
        Self { row, next }
    }

    /// The next column.
    pub(super) fn take<T>(&mut self) -> Result<T, StoreError>
    where
        T: Decode<'r, Postgres> + Type<Postgres>,
    {
        let at = self.next;
        self.next += 1;
        Ok(self.row.try_get(at)?)
    }

    pub(super) fn time(&mut self) -> Result<Option<Micros>, StoreError> {
        Ok(self.take::<Option<Stamp>>()?.map(|stamp| Micros(stamp.0)))
    }

    pub(super) fn account(&mut self) -> Result<Option<Account>, StoreError> {
        let Some(id) = self.take::<Option<i64>>()? else {
            self.next += 6;
            return Ok(None);
        };
        let (username, avatar_url, is_staff) = (self.take()?, self.take()?, self.take()?);
        Ok(Some(Account {
            person: Person { id: UserId(id), username, avatar_url, is_staff },
            is_active: self.take()?,
            tier: self.take()?,
            date_joined: self.time()?.unwrap_or_default(),
        }))
    }

    pub(super) fn room(&mut self) -> Result<Option<Room>, StoreError> {
        let Some(id) = self.take::<Option<Uuid>>()? else {
            self.next += 13;
            return Ok(None);
        };
        Ok(Some(Room {
            id: RoomId(id),
            name: self.take()?,
            description: self.take()?,
            icon: self.take()?,
            room_type: self.take()?,
            visibility: if self.take::<&str>()? == "public" { Visibility::Public } else { Visibility::Closed },
            member_count: self.take()?,
            is_archived: self.take()?,
            is_active: self.take()?,
            circle_id: self.take()?,
            slow_mode_seconds: self.take()?,
            min_trust_to_join: self.take()?,
            min_trust_to_post: self.take()?,
            auto_thread: self.take()?,
        }))
    }

    pub(super) fn membership(&mut self) -> Result<Option<Membership>, StoreError> {
        let Some(role) = self.take::<Option<&str>>()? else {
            self.next += 3;
            return Ok(None);
        };
        Ok(Some(Membership {
            role: Role::from_stored(role),
            is_active: self.take()?,
            last_read_at: self.time()?,
            messages_sent: self.take()?,
        }))
    }

    /// A message, or `None` where an outer join found none.
    pub(super) fn message(&mut self) -> Result<Option<Message>, StoreError> {
        let Some(id) = self.take::<Option<Uuid>>()? else {
            return Ok(None);
        };
        let room_id = RoomId(self.take()?);
        let thread_id = self.take::<Option<Uuid>>()?.map(ThreadId);
        let author = match (self.take::<Option<i64>>()?, self.take::<Option<String>>()?, self.take()?) {
            (Some(id), Some(username), avatar_url) => Author { id: Some(UserId(id)), username, avatar_url },
            _ => Author::unknown(),
        };
        let (content, message_type) = (self.take()?, self.take()?);
        let (attachments, embeds, mentions, reaction_counts) = (self.take()?, self.take()?, self.take()?, self.take()?);
        let reply_to_id = self.take::<Option<Uuid>>()?.map(MessageId);
        let answered = self.take::<Option<Uuid>>()?.map(MessageId);
        let reply_to = self.reply_of(answered)?;
        Ok(Some(Message {
            id: MessageId(id),
            room_id,
            thread_id,
            author,
            content,
            message_type,
            attachments,
            embeds,
            mentions,
            reaction_counts,
            reply_to,
            reply_to_id,
            is_edited: self.take()?,
            edited_at: self.time()?,
            is_pinned: self.take()?,
            created_at: self.time()?.unwrap_or_default(),
        }))
    }

    /// A thread, or `None` where an outer join found none.
    pub(super) fn thread(&mut self) -> Result<Option<Thread>, StoreError> {
        let Some(id) = self.take::<Option<Uuid>>()? else {
            return Ok(None);
        };
        Ok(Some(Thread {
            id: ThreadId(id),
            room_id: RoomId(self.take()?),
            title: self.take()?,
            parent_message_id: self.take::<Option<Uuid>>()?.map(MessageId),
            creator_id: self.take::<Option<i64>>()?.map(UserId),
            is_locked: self.take()?,
            is_pinned: self.take()?,
            is_resolved: self.take()?,
            is_archived: self.take()?,
            message_count: self.take()?,
            last_message_at: self.time()?,
            created_at: self.time()?.unwrap_or_default(),
        }))
    }

    /// What a reply shows of the message it answers: its text, its author's id and name.
    pub(super) fn reply_of(&mut self, answered: Option<MessageId>) -> Result<Option<ReplyPreview>, StoreError> {
        let content = self.take::<Option<String>>()?;
        let (author_id, username) = (self.take::<Option<i64>>()?, self.take::<Option<String>>()?);
        Ok(answered.map(|id| ReplyPreview {
            id,
            content: content.unwrap_or_default(),
            author_id: author_id.map(UserId),
            author_username: username.unwrap_or_else(|| Author::unknown().username),
        }))
    }
}
