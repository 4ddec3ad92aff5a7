//! One connected person on one topic: the table of contents of the product.
//!
//! A session logs in, is admitted, takes its seat, gets its state, and then takes one command at a time until the end.
//! What it holds is given back by guards, on every path, a panic included. The features are elsewhere: in `access`,
//! `command` and `hub`.

mod control;
mod drain;
mod guards;
mod warden;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;

pub use control::obey;
pub use drain::drain;
pub use warden::watch;

use crate::access::admission::{Admission, AdmissionError, Admitted, Reason};
use crate::access::bucket::{Bucket, Rate};
use crate::access::{Access, Denied, Grant};
use crate::command::{Actor, Commands, Entrance, Keyboard, Replies};
use crate::domain::{ConnectionId, Micros, RoomId, Topic, UserId};
use crate::hub::{Hub, Member};
use crate::identity::{Credentials, Identity, Login, LoginError};
use crate::socket::{By, Class, Ending, Frame, Heartbeat, Incoming, Outbox, Shared, Socket, TextMessage};
use crate::telemetry::Metrics;
use crate::wire::{ClientCommand, Close, Code, Refusal, event};

/// How long a newcomer may wait for the first state before it is asked to come back.
const ENTER_DEADLINE: Duration = Duration::from_secs(10);
/// How many frames in a row may be wrong before the connection ends.
const MOST_WRONG: u32 = 20;

/// What all sessions of a gateway work with.
pub struct Sessions {
    pub login: Login,
    pub admission: Admission,
    pub access: Access,
    pub entrance: Entrance,
    pub commands: Commands,
    pub hub: Arc<Hub>,
    pub sockets: Arc<Shared>,
    pub heartbeat: Arc<Heartbeat>,
    pub frames: Rate,
    /// The sessions that are open; the end of the process waits for them.
    pub open: TaskTracker,
    pub metrics: Arc<Metrics>,
}

/// A connection that was upgraded and not looked at.
pub struct Visitor {
    pub stream: TcpStream,
    /// What came right after the upgrade request.
    pub early: Bytes,
    pub room: RoomId,
    pub credentials: Credentials,

    /// What the connection holds outside: dropped when the session has ended.
    pub holds: Box<dyn std::any::Any + Send>,
}

/// Somebody who was let in.
struct Guest {
    identity: Identity,
    grant: Arc<Grant>,
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
        let room = visitor.room;
        let user = match socket.while_writing(self.let_in(connection, room, visitor.credentials, &outbox)).await {
            Ok(guest) => {
                let user = guest.identity.user;
                self.stay(connection, room, guest, &mut socket, &outbox, &mut tally).await;
                Some(user)
            }
            Err(close) => {
                outbox.close(close);
                None
            }
        };
        let ending = socket.finish().await;
        drop(visitor.holds);
        self.summarise(connection, room, user, started, ending, &tally);
    }

    /// Login, admission, rights: in this order, so that a token is used up whatever is wrong with the rest.
    async fn let_in(
        &self,
        connection: ConnectionId,
        room: RoomId,
        credentials: Credentials,
        outbox: &Outbox,
    ) -> Result<Guest, Close> {
        let identity = self.identify(credentials).await?;
        self.note_activity(identity.user).await;
        let admitted = match self.admission.admit(identity.user, connection, false).await {
            Ok(admitted) => admitted,
            Err(AdmissionError::Refused { reason, retry_after }) => return Err(too_many(reason, retry_after, outbox)),
            Err(error) => {
                tracing::warn!(%error, "an admission could not be counted");
                return Err(Close::TRY_LATER);
            }
        };
        let grant = self.access.grants().look_up(room, identity.user).await.map_err(|denied| closes(&denied))?;
        Ok(Guest { identity, grant, _admitted: admitted })
    }

    async fn identify(&self, credentials: Credentials) -> Result<Identity, Close> {
        let result = self.login.identify(credentials, Micros::now()).await;
        let (credential, outcome) = match &result {
            Ok(identity) => (identity.credential.as_str(), "ok"),
            Err(error) => ("any", error.reason()),
        };
        self.metrics.logins_total.with_label_values(&[credential, outcome]).inc();
        result.map_err(|error| match error {
            LoginError::Unavailable(_) => {
                tracing::warn!(%error, "a login could not be checked");
                Close::TRY_LATER
            }
            LoginError::SessionEnded => Close::SESSION_ENDED,
            _ => Close::NOT_AUTHENTICATED,
        })
    }

    /// Tells Django that the user is active, as its own login would. Not worth a refusal when it fails.
    async fn note_activity(&self, user: UserId) {
        if let Err(error) = self.login.cache().refresh_activity(user, Micros::now()).await {
            tracing::debug!(%error, "activity was not refreshed");
        }
    }

    /// The seat, the state, and one command after the other.
    async fn stay(
        &self,
        connection: ConnectionId,
        room: RoomId,
        guest: Guest,
        socket: &mut Socket,
        outbox: &Arc<Outbox>,
        tally: &mut Tally,
    ) {
        let topic = Topic::Room(room);
        let user = guest.identity.user;
        let _open = guards::OpenSession::count(&self.metrics, topic);
        let _member = self.hub.members().add(
            &self.hub,
            Member {
                connection,
                user,
                topic,
                session_version: guest.identity.session_version,
                outbox: Arc::clone(outbox),
            },
        );
        if self.open.is_closed() {
            // The drain has begun and may not have seen this session.
            outbox.close(Close::GOING_AWAY);
            return;
        }
        let seat = self.hub.join(topic, connection, user, outbox);
        let entering = async {
            seat.subscribed().await;
            self.entrance.enter(topic, &guest.grant).await
        };
        let opening = match socket.while_writing(tokio::time::timeout(ENTER_DEADLINE, entering)).await {
            Ok(Ok(opening)) => opening,
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
        let _present = opening.stay;
        let first: Vec<_> = opening.events.iter().map(|event| Frame::text(event)).collect();
        seat.go_live(opening.after, &first);

        let mut actor = Actor { connection, topic, keyboard: Keyboard::default() };
        self.converse(room, user, &mut actor, socket, outbox, tally).await;
        drop(seat);
        self.commands.leave(&mut actor, &guest.grant).await;
    }

    async fn converse(
        &self,
        room: RoomId,
        user: UserId,
        actor: &mut Actor,
        socket: &mut Socket,
        outbox: &Outbox,
        tally: &mut Tally,
    ) {
        let mut bucket = Bucket::new(Instant::now());
        let (mut wrong_in_a_row, mut too_often) = (0, false);
        loop {
            let text = match socket.next().await {
                Incoming::Text(text) => Some(text),
                Incoming::Control => None, // a ping, a pong, a fragment: answered, but counted
                Incoming::Binary(_) | Incoming::Closed(_) => return,
            };
            if text.is_some() {
                tally.frames += 1;
                self.metrics.frames_received_total.inc();
            }
            let reply = match (bucket.take(&self.frames, Instant::now()), text) {
                (Ok(()), Some(text)) => socket.while_writing(self.answer(room, user, actor, text)).await,
                (Ok(()), None) => continue,
                (Err(wait), _) => {
                    self.metrics.limited_total.with_label_values(&["frames"]).inc();
                    too_often = wait.too_often;
                    Err(Refusal::after(Code::RateLimited, wait.after))
                }
            };
            match reply {
                Ok(events) => {
                    wrong_in_a_row = 0;
                    for event in events {
                        let _ = outbox.push(&Frame::text(&event), Class::Message);
                    }
                }
                Err(refusal) => {
                    tally.refused += 1;
                    wrong_in_a_row = if refusal.code.is_protocol_error() { wrong_in_a_row + 1 } else { 0 };
                    let _ = outbox.push(&Frame::text(&event::error(&refusal)), Class::Message);
                }
            }
            if wrong_in_a_row >= MOST_WRONG || too_often {
                outbox.close(Close::PROTOCOL_ERRORS);
            }
        }
    }

    /// Decode, check, run.
    async fn answer(
        &self,
        room: RoomId,
        user: UserId,
        actor: &mut Actor,
        mut text: TextMessage,
    ) -> Result<Replies, Refusal> {
        let started = Instant::now();
        let decoded = ClientCommand::decode(text.as_bytes_mut());
        drop(text);
        let name = decoded.as_ref().map_or("none", ClientCommand::name);
        let result = match decoded {
            // A ping is answered in every state, whatever else is down.
            Ok(ClientCommand::Ping) => Ok(vec![event::pong(Micros::now())]),
            Ok(command) => self.check_and_run(room, user, actor, command).await,
            Err(refusal) => {
                self.metrics.protocol_errors_total.with_label_values(&[refusal.code.as_str()]).inc();
                Err(refusal)
            }
        };
        let outcome = result.as_ref().map_or_else(|refusal| refusal.code.as_str(), |_| "ok");
        self.metrics.commands_total.with_label_values(&[name, outcome]).inc();
        self.metrics.command_seconds.observe(started.elapsed().as_secs_f64());
        result
    }

    async fn check_and_run(
        &self,
        room: RoomId,
        user: UserId,
        actor: &mut Actor,
        command: ClientCommand,
    ) -> Result<Replies, Refusal> {
        let mut permit = self.access.check(room, user, command).await?;
        let ticket = permit.take_ticket();
        let result = self.commands.run(actor, permit).await;
        if let (Some(ticket), Err(Refusal { code: Code::Unavailable, .. })) = (ticket, &result) {
            self.access.give_back(ticket).await;
        }
        result
    }

    fn summarise(
        &self,
        connection: ConnectionId,
        room: RoomId,
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
            %room,
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

/// Tells the client how long to wait, in an event, because a close frame cannot.
fn too_many(reason: Reason, retry_after: Duration, outbox: &Outbox) -> Close {
    let (close, code) = match reason {
        Reason::Connections => (Close::TOO_MANY_CONNECTIONS, "too_many_connections"),
        Reason::Connects => (Close::TOO_MANY_CONNECTS, "too_many_connects"),
    };
    let told = event::closing_error(close.reason, code, Some(retry_after));
    let _ = outbox.push(&Frame::text(&told), Class::Message);
    close
}

/// What a denial is at the door.
fn closes(denied: &Denied) -> Close {
    match denied {
        Denied::NotAuthenticated => Close::NOT_AUTHENTICATED,
        Denied::NotFound => Close::NOT_FOUND,
        Denied::Forbidden => Close::FORBIDDEN,
        Denied::Unavailable(error) => {
            tracing::warn!(%error, "rights could not be looked up");
            Close::TRY_LATER
        }
    }
}
