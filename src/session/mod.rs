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
mod threads;
mod ticket;
mod warden;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;

pub use census::census;
pub use control::{Errand, Question, obey};
pub use drain::drain;
pub use pulse::{beat, compare};
pub use reload::reload;
pub use ticket::{Tickets, renew};
pub use warden::watch;

use converse::Party;
use resume::Replay;

use crate::access::address::Guesses;
use crate::access::admission::{Admission, Admitted};
use crate::access::bucket::{Bucket, Rate};
use crate::access::{Access, Grant, Hits};
use crate::command::{Actor, Commands, Entrance, Keyboard};
use crate::config::Live;
use crate::domain::{ConnectionId, Micros, UserId, Venue};
use crate::hub::{Hub, Member, Topics};
use crate::identity::{Credentials, Identity, Login};
use crate::socket::{By, Ending, Heartbeat, Outbox, Shared, Socket};
use crate::telemetry::Metrics;
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
    pub stream: TcpStream,
    /// What came right after the upgrade request.
    pub early: Bytes,
    pub venue: Venue,
    pub credentials: Credentials,
    /// Where it comes from. Not for logs.
    pub address: IpAddr,
    /// The last place that the client knows, if it was here before.
    pub since: Option<Place>,
    /// What the connection holds outside: dropped when the session has ended.
    pub holds: Box<dyn std::any::Any + Send>,
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
    _admitted: Admitted,
}

/// Numbers for the one line that a session leaves in the log.
#[derive(Default)]
struct Tally {
    frames: u64,
    refused: u64,
}

impl Sessions {
    /// Runs one session from the upgrade to the end of the connection.
    pub async fn run(&self, visitor: Visitor) {
        let started = Instant::now();
        let connection = ConnectionId::next();
        let (mut socket, outbox) = Socket::new(visitor.stream, &visitor.early, &self.sockets);
        self.heartbeat.register(&outbox);
        let mut tally = Tally::default();
        let venue = visitor.venue;
        // What is long and soon over (here, on entering, and for each command) is boxed: the task of a connection keeps
        // room for the largest thing it ever awaits, for as long as it lives.
        let letting_in = Box::pin(self.let_in(connection, venue, visitor.credentials, &outbox));
        let user = match socket.while_writing(letting_in).await {
            Ok(guest) => {
                let user = guest.identity.user;
                match guest.grant.clone() {
                    Some(grant) => {
                        let since = visitor.since;
                        self.stay(connection, venue, guest, grant, since, &mut socket, &outbox, &mut tally).await
                    }
                    None => self.stay_in_app(connection, guest, &mut socket, &outbox, &mut tally).await,
                }
                Some(user)
            }
            Err(close) => {
                if close == Close::NOT_AUTHENTICATED {
                    let wait = self.guesses.failed(visitor.address, Instant::now());
                    socket.while_writing(Box::pin(tokio::time::sleep(wait))).await;
                }
                outbox.close(close);
                None
            }
        };
        let ending = socket.finish().await;
        drop(visitor.holds);
        self.summarise(connection, venue, user, started, ending, &tally);
    }

    /// The seat, the state, and one command after the other.
    #[expect(clippy::too_many_arguments, reason = "the connection in its parts, each borrowed by itself")]
    async fn stay(
        &self,
        connection: ConnectionId,
        venue: Venue,
        guest: Guest,
        grant: Arc<Grant>,
        since: Option<Place>,
        socket: &mut Socket,
        outbox: &Arc<Outbox>,
        tally: &mut Tally,
    ) {
        let (topic, room, user) = (grant.topic, grant.room.id, guest.identity.user);
        let _open = guards::OpenSession::count(&self.metrics, topic);
        let also = Topics::default();
        let _member = self.hub.members().add(
            &self.hub,
            Member {
                connection,
                user,
                venue,
                room: Some(room),
                topic,
                also: also.clone(),
                session_version: guest.identity.session_version,
                generation: guest.generation,
                outbox: Arc::clone(outbox),
                since: Micros::now(),
                watcher: None,
            },
        );
        if guest.returned {
            self.tickets.returned.lock().push(user);
        }
        if self.open.is_closed() {
            // The drain has begun and may not have seen this session.
            outbox.close(Close::GOING_AWAY);
            return;
        }
        let seat = self.hub.join(topic, connection, user, outbox, &grant.hidden);
        let replay = Replay { seat: &seat, outbox, topic, thread: None, grant: &grant };
        let entering = self.open(venue, &replay, since);
        let _present = match socket.while_writing(Box::pin(tokio::time::timeout(ENTER_DEADLINE, entering))).await {
            Ok(Ok(present)) => present,
            Ok(Err(error)) => {
                tracing::warn!(%topic, %error, "a room could not be entered");
                outbox.close(Close::TRY_LATER);
                return;
            }
            Err(_) => {
                tracing::warn!(%topic, "a room could not be entered in time");
                outbox.close(Close::TRY_LATER);
                return;
            }
        };
        self.tickets.give(&guest.identity, guest.generation, outbox);

        let mut actor =
            Actor { connection, user, venue, topic, keyboard: Keyboard::default(), pages: Bucket::new(Instant::now()) };
        let mut threads = threads::OpenThreads::new(seat, outbox, also);
        self.converse(&mut Party::Room(&mut actor, &mut threads), socket, outbox, tally).await;
        drop(threads);
        Box::pin(self.commands.leave(&mut actor, &grant)).await;
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
        let by = match ending.by {
            By::Us => "us",
            By::Peer => "peer",
            By::Lost => "lost",
        };
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
