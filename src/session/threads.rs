//! The seats of one socket: the one it came for, and one for each thread that it has open. Held by the session and given
//! back with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::resume::{Replay, not_recovered};
use super::{ENTER_DEADLINE, Sessions};
use crate::access::Grant;
use crate::command::{Actor, EnterError, Replies};
use crate::domain::{ThreadId, Topic};
use crate::hub::{Member, Seat};
use crate::socket::{Frame, Outbox};
use crate::wire::command::ThreadCommand;
use crate::wire::event::Place;
use crate::wire::{ClientCommand, Code, Refusal};

/// How many threads one socket may have open.
const MOST_OPEN: usize = 20;

/// A session's seats: its own, and those of its open threads.
pub(super) struct OpenThreads {
    home: Seat,
    seats: BTreeMap<ThreadId, Seat>,
    /// Whose they are: knows the open threads too, for those who look for this member's seats.
    member: Arc<Member>,
}

/// Opening or closing: what only the session can do.
pub(super) enum Seating {
    Open(ThreadId, Option<Place>),
    Close(ThreadId),
    Resume(Place),
}

impl Seating {
    pub(super) fn of(command: &ClientCommand) -> Option<Self> {
        match command {
            ClientCommand::Thread(ThreadCommand::Open(thread, since)) => Some(Self::Open(*thread, *since)),
            ClientCommand::Thread(ThreadCommand::Close(thread)) => Some(Self::Close(*thread)),
            ClientCommand::Resume(since) => Some(Self::Resume(*since)),
            _ => None,
        }
    }
}

impl OpenThreads {
    pub(super) fn new(home: Seat, member: &Arc<Member>) -> Self {
        Self { home, seats: BTreeMap::new(), member: Arc::clone(member) }
    }

    /// The seat that the session came for.
    pub(super) fn home(&self) -> &Seat {
        &self.home
    }

    pub(super) fn outbox(&self) -> &Outbox {
        &self.member.outbox
    }

    fn close(&mut self, thread: ThreadId) {
        self.seats.remove(&thread);
        self.member.also.remove(Topic::Thread(thread));
    }
}

impl Sessions {
    /// Opens a thread, which the client may have open: it gets a fresh state then. Or closes one.
    pub(super) async fn seat(
        &self,
        actor: &Actor,
        grant: &Grant,
        threads: &mut OpenThreads,
        seating: Seating,
    ) -> Result<Replies, Refusal> {
        let (thread, since) = match seating {
            Seating::Resume(since) => return self.resume(actor, grant, threads, since).await,
            Seating::Close(thread) => {
                threads.close(thread);
                return Ok(Vec::new());
            }
            Seating::Open(thread, since) => (thread, since),
        };
        threads.close(thread);
        if threads.seats.len() >= MOST_OPEN {
            return Err(Refusal::new(Code::TooManyThreads).to("open_thread", None));
        }
        let opening =
            tokio::time::timeout(ENTER_DEADLINE, self.open_thread(actor, grant, threads, thread, since)).await;
        let code = match opening {
            Ok(Ok(true)) => return Ok(Vec::new()),
            Ok(Ok(false)) => Code::ThreadNotFound,
            Ok(Err(error)) => {
                tracing::warn!(%thread, %error, "a thread could not be opened");
                Code::Unavailable
            }
            Err(_) => {
                tracing::warn!(%thread, "a thread could not be opened in time");
                Code::Unavailable
            }
        };
        threads.close(thread);
        let refusal = match code {
            Code::Unavailable => Refusal::after(code, std::time::Duration::from_secs(1)),
            _ => Refusal::new(code),
        };
        Err(refusal.to("open_thread", None))
    }

    /// The seat first, the state second, as for a room. Says whether there is such a thread: nobody subscribes to
    /// channels of threads that are none of this room's.
    async fn open_thread(
        &self,
        actor: &Actor,
        grant: &Grant,
        threads: &mut OpenThreads,
        thread: ThreadId,
        since: Option<Place>,
    ) -> Result<bool, EnterError> {
        if !self.entrance.has_thread(grant, thread).await? {
            return Ok(false);
        }
        let topic = Topic::Thread(thread);
        threads.member.also.insert(topic);
        let seat = self.hub.join(topic, actor.connection, actor.user, &threads.member.outbox, &grant.hidden);
        threads.member.judged.forget();
        seat.subscribed().await;
        let replay = Replay { seat: &seat, outbox: threads.outbox(), topic, thread: Some(thread), grant, ticket: None };
        let resumed = match since {
            Some(since) => self.replay(&replay, since, false).await?.map_err(Some),
            None => Err(None),
        };
        if let Err(untold) = resumed {
            let Some((after, state)) = self.entrance.open_thread(grant, thread).await? else { return Ok(false) };
            let lost = untold.map(|why| not_recovered(Some(thread), why, after));
            seat.go_live(after, &lost.into_iter().chain([state]).map(|event| Frame::text(&event)).collect::<Vec<_>>());
        }
        threads.seats.insert(thread, seat);
        Ok(true)
    }
}
