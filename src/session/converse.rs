//! The conversation of one session: one frame after the other, each answered before the next is looked at.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use super::app::InApp;
use super::room::InRoom;
use super::threads::{OpenThreads, Seating};
use super::{Sessions, Tally};
use crate::access::bucket::Bucket;
use crate::command::{Actor, Replies};
use crate::domain::{ConnectionId, Micros, Topic, UserId};
use crate::socket::{Class, Frame, Incoming, Outbox, Socket, TextMessage};
use crate::telemetry::trace::{Kind, Span};
use crate::telemetry::{Leg, follow};
use crate::wire::{ClientCommand, Close, Code, Refusal, event};

/// How many frames in a row may be wrong before the connection ends.
const MOST_WRONG: u32 = 20;

/// Who a conversation is with, and what they hold as long as it lasts, given back in the order of the fields.
pub(super) enum Party {
    /// Somebody in a room or a direct conversation.
    Room(InRoom),
    /// A presence socket.
    App(InApp),
}

impl Party {
    fn user(&self) -> UserId {
        match self {
            Self::Room(room) => room.actor.user,
            Self::App(app) => app.desk.user,
        }
    }

    /// Where a command belongs, or a frame that is none: the thread that it names, else the place of the socket.
    fn topic_of(&self, command: Option<&ClientCommand>) -> Topic {
        match (self, command.and_then(ClientCommand::thread)) {
            (Self::Room(_), Some(thread)) => Topic::Thread(thread),
            (Self::Room(room), None) => room.actor.topic,
            (Self::App(app), _) => Topic::User(app.desk.user),
        }
    }

    /// The level of the log for this user and place, if it is another than for everybody.
    fn detail(&self) -> Option<tracing::Level> {
        match self {
            Self::Room(room) => follow::level(room.actor.user, room.actor.venue.id()),
            Self::App(app) => follow::level(app.desk.user, None),
        }
    }
}

impl Sessions {
    /// Takes frames until the connection ends.
    pub(super) async fn converse(
        &self,
        connection: ConnectionId,
        party: &mut Party,
        socket: &mut Socket,
        tally: &mut Tally,
    ) {
        let outbox = Arc::clone(socket.outbox());
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
            let rate = **self.frames.load();
            let reply = match (bucket.take(&rate, Instant::now()), text) {
                (Ok(()), Some(text)) => {
                    outbox.set_busy(true); // a drain waits until the answer is pushed
                    socket
                        .while_writing(follow::scoped(
                            party.detail(),
                            Box::pin(self.answer(connection, &outbox, party, text)),
                        ))
                        .await
                }
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
                    if refusal.code.is_protocol_error() && tally.refused == 0 {
                        // The first of a session; the summary at its end says how many followed.
                        tracing::info!(%connection, code = refusal.code.as_str(), "a wrong frame");
                    }
                    tally.refused += 1;
                    if matches!(refusal.code, Code::RateLimited | Code::SlowMode) {
                        self.hits.note(party.user(), refusal.request_type.unwrap_or("frames"));
                    }
                    wrong_in_a_row = if refusal.code.is_protocol_error() { wrong_in_a_row + 1 } else { 0 };
                    let _ = outbox.push(&Frame::text(&event::error(&refusal)), Class::Message);
                }
            }
            outbox.set_busy(false);
            if wrong_in_a_row >= MOST_WRONG || too_often {
                outbox.close(Close::PROTOCOL_ERRORS);
            }
        }
    }

    /// Decode, check, run.
    async fn answer(
        &self,
        connection: ConnectionId,
        outbox: &Outbox,
        party: &mut Party,
        mut text: TextMessage,
    ) -> Result<Replies, Refusal> {
        let started = Instant::now();
        let decoded = ClientCommand::decode(text.as_bytes_mut());
        drop(text);
        let topic = party.topic_of(decoded.as_ref().ok());
        self.metrics.leg_seconds.observe(Leg::Decode, topic, started.elapsed());
        let name = decoded.as_ref().map_or("none", ClientCommand::name);
        let mut span = Span::root(name, started);
        span.ended_part("decode", started);
        span.note("topic", topic.kind());
        let result = match decoded {
            // A ping is answered in every state, whatever else is down.
            Ok(ClientCommand::Ping) => {
                outbox.note_ping();
                Ok(vec![event::pong(Micros::now())])
            }
            Ok(command) => match party {
                Party::Room(room) => {
                    let running = pin!(self.check_and_run(&mut room.actor, &mut room.threads, command, topic));
                    span.within(running).await
                }
                Party::App(app) => span.within(pin!(self.run_app(&mut app.desk, command))).await,
            },
            Err(refusal) => {
                self.metrics.protocol_errors_total.with_label_values(&[refusal.code.as_str()]).inc();
                Err(refusal)
            }
        };
        let outcome = result.as_ref().map_or_else(|refusal| refusal.code.as_str(), |_| "ok");
        self.metrics.commands_total.with_label_values(&[name, outcome]).inc();
        let elapsed = started.elapsed();
        self.metrics.command_seconds.observe(elapsed.as_secs_f64());
        span.note("outcome", outcome);
        let log = span.log();
        tracing::debug!(
            parent: log,
            %connection,
            user = party.user().0,
            command = name,
            outcome,
            micros = elapsed.as_micros(),
            "a command was run"
        );
        result
    }

    async fn check_and_run(
        &self,
        actor: &mut Actor,
        threads: &mut OpenThreads,
        command: ClientCommand,
        topic: Topic,
    ) -> Result<Replies, Refusal> {
        if command.reads_page() {
            actor.pages.take(&self.pages.load(), Instant::now()).map_err(|wait| {
                self.metrics.limited_total.with_label_values(&["history"]).inc();
                Refusal::after(Code::RateLimited, wait.after).to(command.name(), None)
            })?;
        }
        let seating = Seating::of(&command);
        let began = Instant::now();
        let span = Span::child("access", Kind::Internal);
        let permit = span.within(pin!(self.access.check(actor.connection, actor.venue, actor.user, command))).await;
        drop(span);
        self.metrics.leg_seconds.observe(Leg::Access, topic, began.elapsed());
        let mut permit = permit?;
        let tickets = permit.take_tickets();
        if let Some(seating) = seating {
            return self.seat(actor, &permit.into_parts().1, threads, seating).await;
        }
        let result = self.commands.run(actor, permit).await;
        if let Err(Refusal { code: Code::Unavailable, .. }) = &result {
            self.access.give_back(tickets).await;
        }
        result
    }
}
