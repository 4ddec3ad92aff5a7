//! One connected person on one topic: the table of contents of the product.
//!
//! A session logs in, is admitted, takes its seat, gets its state, and then takes one command at a time until the end.
//! What it holds is given back by guards, on every path, a panic included. The features are elsewhere: in `access`,
//! `command` and `hub`.

mod app;
mod census;
mod control;
mod converse;
mod drain;
mod guards;
mod login;
mod pulse;
mod reload;
mod resume;
mod room;
mod threads;
mod ticket;
mod warden;

use std::any::Any;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio_util::task::TaskTracker;

pub use census::census;
pub use control::{Errand, Question, obey};
pub use drain::drain;
pub use pulse::{beat, compare};
pub use reload::reload;
pub use ticket::{Tickets, renew};
pub use warden::watch;

use converse::Party;

use crate::access::address::Guesses;
use crate::access::admission::{Admission, Admitted};
use crate::access::bucket::Rate;
use crate::access::{Access, Grant, Hits};
use crate::command::{Commands, Entrance};
use crate::config::Live;
use crate::domain::{ConnectionId, UserId, Venue};
use crate::hub::Hub;
use crate::identity::{Credentials, Identity, Login};
use crate::socket::{Ending, Heartbeat, Shared, Socket};
use crate::telemetry::Metrics;
use crate::transport::Stream;
use crate::wire::Close;
use crate::wire::event::Place;

/// How long a newcomer may wait for the first state before it is asked to come back.
const ENTER_DEADLINE: Duration = Duration::from_secs(10);

/// What all sessions of a gateway work with.
pub struct Sessions {
    pub login: Login,
    pub tickets: Tickets,
    pub admission: Admission,
    pub access: Access,
    pub entrance: Entrance,
    pub commands: Commands,
    pub hub: Arc<Hub>,
    pub sockets: Arc<Shared>,
    pub heartbeat: Arc<Heartbeat>,
    pub frames: Live<Rate>,
    /// Who guesses.
    pub guesses: Guesses,
    /// Who has hit which limits, for operators.
    pub hits: Hits,
    /// How fast one connection may read pages of messages.
    pub pages: Live<Rate>,
    /// The sessions that are open; the end of the process waits for them.
    pub open: TaskTracker,
    pub metrics: Arc<Metrics>,
}

/// A connection that was upgraded and not looked at.
pub struct Visitor {
    pub stream: Stream,
    /// What came right after the upgrade request.
    pub early: Bytes,
    pub venue: Venue,
    pub credentials: Credentials,
    /// Where it comes from. Not for logs.
    pub address: IpAddr,
    /// The last place that the client knows, if it was here before.
    pub since: Option<Place>,
    /// What it holds outside while it enters: dropped when it is in, or is not let in.
    pub entering: Box<dyn Any + Send>,
    /// What the connection holds outside: dropped when the session has ended.
    pub holds: Box<dyn Any + Send>,
}

/// Somebody who was let in.
struct Guest {
    identity: Identity,
    /// Set where the socket is one of a room or a conversation.
    grant: Option<Arc<Grant>>,
    /// It came with a ticket, and its rights may be a few seconds old.
    returned: bool,
    /// Of its resume tickets; `None` when it gets none.
    generation: Option<u64>,
    admitted: Admitted,
}

/// Numbers for the one line that a session leaves in the log.
#[derive(Default)]
struct Tally {
    frames: u64,
    refused: u64,
}

/// One connection from its upgrade to its end.
struct Session {
    connection: ConnectionId,
    venue: Venue,
    started: Instant,
    user: Option<UserId>,
    /// Set while commands are taken.
    party: Option<Party>,
    socket: Socket,
    tally: Tally,
    /// What the connection holds outside.
    holds: Box<dyn Any + Send>,
}

impl Sessions {
    /// Runs one session from the upgrade to the end of the connection.
    ///
    /// The way in, the way out and every command are boxed: the task of a connection keeps room for the largest thing it
    /// ever awaits, for as long as it lives, and these are long and soon over. At rest there is a session and no more.
    pub async fn run(self: Arc<Self>, visitor: Box<Visitor>) {
        let mut session = Box::pin(self.arrive(visitor)).await;
        let Session { connection, party, socket, tally, .. } = &mut session;
        if let Some(party) = party {
            self.converse(*connection, party, socket, tally).await;
        }
        // By itself, so that who only waits for the last frames keeps room for these alone: a whole instance may leave at once.
        Box::pin(self.quit(session.party.take())).await;
        Box::pin(self.depart(session)).await;
    }

    /// From the upgrade to the state, or to the reason why there is none. Each step is boxed by itself, so that a newcomer
    /// keeps room for one of them at a time; the room of all together is four times as large.
    async fn arrive(&self, visitor: Box<Visitor>) -> Session {
        let Visitor { stream, early, venue, credentials, address, since, entering, holds } = *visitor;
        let _passing = guards::Passing::entering(&self.metrics);
        let (started, connection) = (Instant::now(), ConnectionId::next());
        let (mut socket, outbox) = Socket::new(stream, &early, &self.sockets);
        self.heartbeat.register(&outbox);
        let (mut user, mut party) = (None, None);
        match socket.while_writing(Box::pin(self.let_in(connection, venue, credentials, &outbox))).await {
            Ok(guest) => {
                user = Some(guest.identity.user);
                party = match guest.grant.clone() {
                    Some(grant) => {
                        let entering = self.enter(connection, venue, guest, grant, since, &mut socket);
                        Box::pin(entering).await.map(Party::Room)
                    }
                    None => Box::pin(self.enter_in_app(connection, guest, &mut socket)).await.map(Party::App),
                };
            }
            Err(close) => {
                drop(entering); // who guesses waits in nobody's way
                if close == Close::NOT_AUTHENTICATED {
                    let wait = self.guesses.failed(address, Instant::now());
                    socket.while_writing(tokio::time::sleep(wait)).await;
                }
                outbox.close(close);
            }
        }
        Session { connection, venue, started, user, party, socket, tally: Tally::default(), holds }
    }

    /// Gives back what was held.
    async fn quit(&self, party: Option<Party>) {
        let _passing = guards::Passing::leaving(&self.metrics);
        match party {
            Some(Party::Room(room)) => self.leave(room).await,
            party => drop(party),
        }
    }

    /// Says goodbye.
    async fn depart(&self, session: Session) {
        let _passing = guards::Passing::leaving(&self.metrics);
        let Session { connection, venue, started, user, socket, tally, holds, .. } = session;
        let ending = socket.finish().await;
        drop(holds);
        self.summarise(connection, venue, user, started, ending, &tally);
    }

    fn summarise(
        &self,
        connection: ConnectionId,
        venue: Venue,
        user: Option<UserId>,
        started: Instant,
        ending: Ending,
        tally: &Tally,
    ) {
        self.metrics.closes_total.with_label_values(&[guards::code_label(ending.code)]).inc();
        let by = guards::by_label(&ending);
        // The reasons are our own texts, so there are not many.
        let reason = if ending.reason.is_empty() { "none" } else { ending.reason };
        self.metrics.ends_total.with_label_values(&[by, reason]).inc();
        tracing::info!(
            %connection,
            %venue,
            user = user.map(|user| user.0),
            seconds = started.elapsed().as_secs(),
            frames = tally.frames,
            refused = tally.refused,
            code = ending.code,
            reason = ending.reason,
            by,
            "session ended"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the future of a method keeps room for, in bytes.
    fn room<'a, F>(_: impl FnOnce(&'a Sessions, Box<Visitor>) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_newcomer_keeps_room_for_one_step_at_a_time() {
        assert!(room(Sessions::arrive) < 2 * 1024, "{} bytes beside the step that is boxed", room(Sessions::arrive));
    }
}
