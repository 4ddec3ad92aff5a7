//! Pages of a room's messages outside its threads, and how far a member has read.
//!
//! A page is cut by time and id together, so that of two messages of one instant none is skipped or repeated.

use std::borrow::Cow;
use std::sync::Arc;

use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::row::Columns;
use super::{Store, StoreError, arguments};
use crate::domain::{Message, MessageId, Micros, RoomId, ThreadId, Topic, UserId};
use crate::wire::event::MessagesJson;

/// A stretch of a room's history. Hidden messages are in none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Oldest first.
    pub messages: Vec<Message>,
    /// There are older ones.
    pub has_more: bool,
    /// The oldest message of the page, from where the next page goes on; `None` when there are no older ones.
    pub cursor: Option<MessageId>,
    /// The messages as clients read them.
    json: MessagesJson,
}

/// A stretch of a topic's log: topic, epoch, first offset, number of offsets.
pub type Stretch = (Topic, u64, u64, u64);

/// A message that was stored before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub at: Micros,
    /// The thread inside its room that it went into.
    pub thread: Option<ThreadId>,
    /// Why it was hidden at once and is so still: the source and the reason of the record.
    pub blocked: Option<(String, String)>,
}

impl Page {
    /// Makes a page of rows that stand newest first, one more than `limit` if there are older ones.
    pub(super) fn of(rows: &[PgRow], limit: u32) -> Result<Self, StoreError> {
        let limit = limit as usize;
        let found = rows.iter().map(|row| Columns::of(row).message()).collect::<Result<Vec<_>, _>>()?;
        let mut messages: Vec<Message> = found.into_iter().flatten().collect();
        let has_more = messages.len() > limit;
        messages.truncate(limit);
        messages.reverse();
        let cursor = if has_more { messages.first().map(|oldest| oldest.id) } else { None };
        let json = MessagesJson::of(&messages);
        Ok(Self { messages, has_more, cursor, json })
    }

    /// The messages as somebody sees them, in JSON with commas between: encoded once for all who share the page.
    pub fn seen<'p>(&'p self, seen: impl Fn(&'p Message) -> Option<Cow<'p, Message>>) -> Cow<'p, [u8]> {
        self.json.seen(&self.messages, seen)
    }
}

impl Store {
    /// The newest messages of a room. Callers that ask at once share a read that started after the last of them asked.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn latest(&self, room: RoomId, limit: u32) -> Result<Arc<Page>, StoreError> {
        let read = async || {
            let rows = self.read(|sql| &sql.latest, arguments!(room.0, i64::from(limit) + 1)).await?;
            Page::of(&rows, limit).map(Arc::new)
        };
        let (page, shared) = self.inner.latest.read((room, limit), read).await;
        if shared {
            self.inner.metrics.reads_shared_total.inc();
        }
        page
    }

    /// The messages of a room right before one of them.
    ///
    /// # Errors
    /// [`StoreError::UnknownCursor`] when `before` is not a message of this room; others when Postgres does not answer.
    pub async fn history(&self, room: RoomId, before: MessageId, limit: u32) -> Result<Page, StoreError> {
        let arguments = arguments!(room.0, before.0, i64::from(limit) + 1);
        let rows = self.read(|sql| &sql.history, arguments).await?;
        if rows.is_empty() {
            return Err(StoreError::UnknownCursor);
        }
        Page::of(&rows, limit)
    }

    /// Messages by their ids, in any order. Those that are hidden or do not exist are missing.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn messages(&self, ids: &[MessageId]) -> Result<Vec<Message>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<_> = ids.iter().map(|id| id.0).collect();
        let rows = self.read(|sql| &sql.messages, arguments!(ids)).await?;
        let found = rows.iter().map(|row| Columns::of(row).message()).collect::<Result<Vec<_>, _>>()?;
        Ok(found.into_iter().flatten().collect())
    }

    /// The same for the messages that a stretch of a topic's log is about: callers that ask for the same stretch at once
    /// share a read. A stretch is a topic, an epoch, an offset and how many offsets, and has always the same ids.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn messages_of(&self, stretch: Stretch, ids: &[MessageId]) -> Result<Arc<Vec<Message>>, StoreError> {
        let read = async || self.messages(ids).await.map(Arc::new);
        let (messages, shared) = self.inner.stretches.read(stretch, read).await;
        if shared {
            self.inner.metrics.reads_shared_total.inc();
        }
        messages
    }

    /// When a message of this author's was sent, and into which thread; `None` when there is no such message.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn sent_at(&self, message: MessageId, author: UserId) -> Result<Option<Sent>, StoreError> {
        let rows = self.read(|sql| &sql.sent_at, arguments!(message.0, author.0)).await?;
        let Some(mut columns) = rows.first().map(Columns::of) else { return Ok(None) };
        let at = columns.time()?.unwrap_or_default();
        let thread = columns.take::<Option<Uuid>>()?.map(ThreadId);
        let (source, reason): (Option<String>, Option<String>) = (columns.take()?, columns.take()?);
        Ok(Some(Sent { at, thread, blocked: source.zip(reason) }))
    }

    /// Who wrote a message of a room; `None` when there is no such message, or its author is gone.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn author_of(&self, room: RoomId, message: MessageId) -> Result<Option<UserId>, StoreError> {
        let rows = self.read(|sql| &sql.author_of, arguments!(room.0, message.0)).await?;
        let author = rows.first().map_or(Ok(None), |row| Columns::of(row).take::<Option<i64>>())?;
        Ok(author.map(UserId))
    }

    /// Notes that a member has read up to a message. Says whether that is news: it is not when the member had read
    /// further, has no row in the room, or the message is not of this room.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn mark_read(&self, room: RoomId, user: UserId, message: MessageId) -> Result<bool, StoreError> {
        let changed = self.change(|sql| &sql.mark_read, arguments!(room.0, user.0, message.0)).await?;
        Ok(changed > 0)
    }
}
