//! Threads inside a room: begun, locked, archived, opened on a room's socket, and what replies become in rooms with `auto_thread`.

use std::sync::Arc;
use std::time::Duration;

use super::enter::{EnterError, STATE_MESSAGES, settled};
use super::{Actor, Commands, Entrance, Replies};
use crate::access::Grant;
use crate::domain::{MessageId, Micros, Thread, ThreadId, Topic};
use crate::store::{ChangeError, NewThread, Rejection, Reserved, StoreError, ThreadState, Threaded, WriteError};
use crate::telemetry::trace;
use crate::wire::command::ThreadCommand;
use crate::wire::event::{self, Place, State};
use crate::wire::{Code, Refusal};

/// What a send is answered when its thread cannot be found out.
const UNAVAILABLE: WriteError = WriteError::Unavailable { retry_after: Duration::from_secs(1) };

impl Commands {
    /// Must run to its end: what is committed must be told.
    pub(super) async fn thread(
        &self,
        actor: &Actor,
        grant: &Grant,
        command: ThreadCommand,
    ) -> Result<Replies, Refusal> {
        match command {
            ThreadCommand::Create { parent, title } => {
                if let Some(title) = &title {
                    self.judge_title(grant, title, actor.topic).await?;
                }
                match self.begin_thread(actor, grant, parent, title).await? {
                    Threaded::AlreadySo(Some(thread)) => Ok(vec![event::thread_created(&thread, None)]),
                    Threaded::Done { .. } | Threaded::AlreadySo(None) => Ok(Vec::new()),
                    Threaded::Within(_) | Threaded::Unknown => Err(Refusal::new(Code::MessageNotFound)),
                }
            }
            ThreadCommand::Lock { thread, locked } => {
                self.set_thread(actor, grant, thread, ThreadState::Locked(locked)).await
            }
            ThreadCommand::Archive { thread, archived } => {
                self.set_thread(actor, grant, thread, ThreadState::Archived(archived)).await
            }
            // Which threads a socket has open is the session's affair: it holds the seats.
            ThreadCommand::Open(..) | ThreadCommand::Close(_) => Ok(Vec::new()),
        }
    }

    async fn begin_thread(
        &self,
        actor: &Actor,
        grant: &Grant,
        parent: Option<MessageId>,
        title: Option<String>,
    ) -> Result<Threaded, Refusal> {
        let new = NewThread { room: grant.room.id, creator: grant.person.id, parent, title };
        let threaded =
            self.store.create_thread(&new, &grant.hidden, &*self.outlet).await.map_err(|error| away(&error))?;
        if let Threaded::Done { thread, place } = &threaded {
            let place = of(*place);
            let body = event::thread_created(thread, Some(place));
            self.outlet.announce(actor.topic, place, Some(grant.person.id), None, body, trace::current()).await;
        }
        Ok(threaded)
    }

    async fn set_thread(
        &self,
        actor: &Actor,
        grant: &Grant,
        thread: ThreadId,
        state: ThreadState,
    ) -> Result<Replies, Refusal> {
        match self.store.set_thread(grant.room.id, thread, state, &*self.outlet).await {
            Ok(Threaded::Done { thread, place }) => {
                // Who does not see the moderator must learn of it all the same.
                let body = event::thread_updated(&thread, of(place));
                self.outlet.announce(actor.topic, of(place), None, None, body, trace::current()).await;
                Ok(Vec::new())
            }
            Ok(Threaded::AlreadySo(_)) => Ok(Vec::new()),
            Ok(Threaded::Within(_) | Threaded::Unknown) => Err(Refusal::new(Code::ThreadNotFound)),
            Err(error) => Err(away(&error)),
        }
    }

    /// The thread that a message goes into: the one it names, or, in a room with `auto_thread`, the one of the message
    /// that it answers, begun if there is none and the message `begins` one.
    pub(super) async fn thread_for(
        &self,
        actor: &Actor,
        grant: &Arc<Grant>,
        named: Option<ThreadId>,
        reply_to: Option<MessageId>,
        begins: bool,
    ) -> Result<Option<ThreadId>, WriteError> {
        let thread = match (named, reply_to) {
            (Some(_), _) if grant.dm.is_some() => return Err(WriteError::Rejected(Rejection::UnknownThread)),
            (Some(thread), _) => Some(thread),
            (None, Some(parent)) if grant.room.auto_thread && grant.dm.is_none() => {
                match self.store.thread_of(grant.room.id, parent).await.map_err(|error| unread(&error))? {
                    Some(thread) => Some(thread),
                    None if !begins => None,
                    None => match self.begin_thread(actor, grant, Some(parent), None).await.map_err(|_| UNAVAILABLE)? {
                        Threaded::Done { thread, .. } | Threaded::AlreadySo(Some(thread)) => Some(thread.id),
                        Threaded::Within(thread) => Some(thread),
                        // Without the message that it answers, it is a message to the room like any other.
                        Threaded::AlreadySo(None) | Threaded::Unknown => None,
                    },
                }
            }
            _ => None,
        };
        if let Some(thread) = thread {
            // The log of a thread that nobody has opened may not have begun. It must begin before the message gets its
            // time: who opens the thread takes what is older than the log for published.
            self.log.position(Topic::Thread(thread)).await.map_err(|error| {
                tracing::warn!(%error, "a thread's log could not be begun");
                UNAVAILABLE
            })?;
        }
        Ok(thread)
    }
}

impl Entrance {
    /// Says whether a room has a thread.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn has_thread(&self, grant: &Grant, thread: ThreadId) -> Result<bool, StoreError> {
        Ok(self.store.thread(grant.room.id, thread).await?.is_some())
    }

    /// Reads a thread's first state, and the place after which events follow; `None` when the room has no such thread.
    /// The seat must have been taken, and its topic subscribed to, before.
    ///
    /// # Errors
    /// When a dependency does not answer.
    pub async fn open_thread(&self, grant: &Grant, thread: ThreadId) -> Result<Option<(Place, Vec<u8>)>, EnterError> {
        // The place first, the messages second, as for a room.
        let (position, notes) = self.log.position_and_notes(Topic::Thread(thread)).await?;
        let page = self.store.latest_in(grant.room.id, thread, STATE_MESSAGES).await?;
        let found: Option<Thread> = self.store.thread(grant.room.id, thread).await?;
        let (Some(page), Some(thread)) = (page, found) else { return Ok(None) };
        let is_settled = settled(position, &notes, Micros::now());
        let seen = page.seen(|message| is_settled(message).then(|| grant.hidden.filter(message))?);
        let state = State { messages: &seen, has_more: page.has_more, cursor: page.cursor, place: position.place() };
        Ok(Some((position.place(), event::thread_state(&thread, &state))))
    }
}

fn of(place: Reserved) -> Place {
    Place { epoch: place.epoch, offset: place.first }
}

fn unread(error: &StoreError) -> WriteError {
    tracing::warn!(%error, "the thread of a message could not be read");
    UNAVAILABLE
}

fn away(error: &ChangeError) -> Refusal {
    tracing::warn!(%error, "a thread could not be read or changed");
    Refusal::after(Code::Unavailable, Duration::from_secs(1))
}
