//! Threads inside a room: made, locked, read. Their messages are written by the writer like all others.

use std::sync::Arc;

use sqlx::postgres::{PgArguments, PgRow};
use uuid::Uuid;

use super::change::LOCK_WAIT;
use super::history::Page;
use super::link::Link;
use super::row::Columns;
use super::sql::{self, Sql};
use super::{ChangeError, Outlet, Reserved, Store, StoreError, arguments};
use crate::domain::{Hidden, MessageId, RoomId, Thread, ThreadId, Topic, UserId};

/// A thread that somebody wants to begin.
#[derive(Clone, Debug)]
pub struct NewThread {
    pub room: RoomId,
    pub creator: UserId,
    /// The message that it begins with.
    pub parent: Option<MessageId>,
    /// At most 200 characters; else the beginning of the parent's text.
    pub title: Option<String>,
}

/// How a moderator sets a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadState {
    Locked(bool),
    /// A thread that archived itself and is taken out does so no more.
    Archived(bool),
}

/// What became of making or changing a thread.
#[derive(Debug)]
pub enum Threaded {
    /// It is committed and has this place in the room's log, where the caller must publish it.
    Done { thread: Thread, place: Reserved },
    /// It was so already; with the thread, if somebody wanted it made.
    AlreadySo(Option<Thread>),
    /// The parent is itself in this thread.
    Within(ThreadId),
    /// The room has no such parent to show, or no such thread.
    Unknown,
}

impl Store {
    /// Begins a thread, or finds the one that its parent has. To somebody from whom the parent's author is hidden there
    /// is no such parent.
    ///
    /// # Errors
    /// As [`Store::change_message`].
    ///
    /// # Cancel safety
    /// As [`Store::change_message`]: it must not be dropped.
    pub async fn create_thread<O: Outlet>(
        &self,
        new: &NewThread,
        hidden: &Hidden,
        outlet: &O,
    ) -> Result<Threaded, ChangeError> {
        let parent = new.parent.map(|parent| parent.0);
        let id = Uuid::now_v7();
        let arguments = arguments!(new.room.0, id, new.creator.0, parent, new.title.as_deref());
        self.change_thread(new.room, |sql| Arc::clone(&sql.create_thread), arguments?, hidden, outlet).await
    }

    /// Locks or archives a thread, or undoes it.
    ///
    /// # Errors
    /// As [`Store::change_message`].
    ///
    /// # Cancel safety
    /// As [`Store::change_message`]: it must not be dropped.
    pub async fn set_thread<O: Outlet>(
        &self,
        room: RoomId,
        thread: ThreadId,
        state: ThreadState,
        outlet: &O,
    ) -> Result<Threaded, ChangeError> {
        let arguments = match state {
            ThreadState::Locked(so) | ThreadState::Archived(so) => arguments!(room.0, thread.0, so)?,
        };
        let statement = |sql: &Sql| match state {
            ThreadState::Locked(_) => Arc::clone(&sql.lock_thread),
            ThreadState::Archived(_) => Arc::clone(&sql.archive_thread),
        };
        self.change_thread(room, statement, arguments, &Hidden::default(), outlet).await
    }

    async fn change_thread<O: Outlet>(
        &self,
        room: RoomId,
        statement: impl Fn(&Sql) -> Arc<str>,
        arguments: PgArguments,
        hidden: &Hidden,
        outlet: &O,
    ) -> Result<Threaded, ChangeError> {
        let _permit = self.reader().await?;
        let limit = self.inner.statement_timeout;
        let begin = sql::begin(&[room.0], LOCK_WAIT.as_millis(), limit.as_millis(), !self.inner.pgbouncer);
        let mut link = self.link().await?;
        let mut locked = link.command(begin.clone(), LOCK_WAIT + limit).await;
        if locked.as_ref().is_err_and(|error| matches!(error, sqlx::Error::Io(_))) {
            link = self.link().await?; // the first connection was dead: nothing was begun
            locked = link.command(begin, LOCK_WAIT + limit).await;
        }
        locked.map_err(StoreError::from)?;
        let rows = link.rows(&statement(&self.inner.sql), arguments, limit).await.map_err(StoreError::from)?;
        match Answer::read(&rows, hidden)? {
            Answer::Changed { thread, xid } => {
                let place = self.conclude(link, &xid, Topic::Room(room), &[], outlet).await?;
                Ok(Threaded::Done { thread, place })
            }
            Answer::Nothing(threaded) => {
                self.undo(link).await?;
                Ok(threaded)
            }
        }
    }

    pub(super) async fn undo(&self, mut link: Link) -> Result<(), StoreError> {
        link.command("ROLLBACK".to_owned(), self.inner.statement_timeout).await?;
        link.give_back();
        Ok(())
    }

    /// Reads a thread of a room.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn thread(&self, room: RoomId, thread: ThreadId) -> Result<Option<Thread>, StoreError> {
        let rows = self.read(|sql| &sql.thread, arguments!(room.0, thread.0)).await?;
        rows.first().map_or(Ok(None), |row| Columns::of(row).thread())
    }

    /// The thread that answers to a message of a room belong to, if there is one already: the one that the message is
    /// in, or the one that began with it.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn thread_of(&self, room: RoomId, message: MessageId) -> Result<Option<ThreadId>, StoreError> {
        let rows = self.read(|sql| &sql.thread_of, arguments!(room.0, message.0)).await?;
        let found = rows.first().map_or(Ok(None), |row| Columns::of(row).take::<Option<Uuid>>())?;
        Ok(found.map(ThreadId))
    }

    /// The newest messages of a thread; `None` when the room has no such thread.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn latest_in(&self, room: RoomId, thread: ThreadId, limit: u32) -> Result<Option<Page>, StoreError> {
        let arguments = arguments!(room.0, thread.0, i64::from(limit) + 1);
        let rows = self.read(|sql| &sql.thread_latest, arguments).await?;
        if rows.is_empty() { Ok(None) } else { Page::of(&rows, limit).map(Some) }
    }

    /// The messages of a thread right before one of them.
    ///
    /// # Errors
    /// [`StoreError::UnknownCursor`] when `before` is not a message of this thread; others when Postgres does not answer.
    pub async fn history_in(
        &self,
        room: RoomId,
        thread: ThreadId,
        before: MessageId,
        limit: u32,
    ) -> Result<Page, StoreError> {
        let arguments = arguments!(room.0, thread.0, before.0, i64::from(limit) + 1);
        let rows = self.read(|sql| &sql.thread_history, arguments).await?;
        if rows.is_empty() {
            return Err(StoreError::UnknownCursor);
        }
        Page::of(&rows, limit)
    }
}

/// What a changing statement says.
enum Answer {
    Nothing(Threaded),
    Changed { thread: Thread, xid: String },
}

impl Answer {
    fn read(rows: &[PgRow], hidden: &Hidden) -> Result<Self, StoreError> {
        let Some(row) = rows.first() else { return Ok(Self::Nothing(Threaded::Unknown)) };
        let mut columns = Columns::of(row);
        let (verdict, xid): (&str, String) = (columns.take()?, columns.take()?);
        let within: Option<Uuid> = columns.take()?;
        let author: Option<i64> = columns.take()?;
        let thread = columns.thread()?;
        if author.is_some_and(|author| hidden.hides(UserId(author))) {
            return Ok(Self::Nothing(Threaded::Unknown));
        }
        Ok(match (verdict, within, thread) {
            ("nested", Some(within), _) => Self::Nothing(Threaded::Within(ThreadId(within))),
            ("ok", _, Some(thread)) => Self::Changed { thread, xid },
            (_, _, thread) => Self::Nothing(Threaded::AlreadySo(thread)),
        })
    }
}
