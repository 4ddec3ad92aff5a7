//! The conversation of one session: one frame after the other, each answered before the next is looked at.

use std::time::Instant;

use super::app::Desk;
use super::threads::{OpenThreads, Seating};
use super::{Sessions, Tally};
use crate::access::bucket::Bucket;
use crate::command::{Actor, Replies};
use crate::domain::{ConnectionId, Micros, UserId};
use crate::socket::{Class, Frame, Incoming, Outbox, Socket, TextMessage};
use crate::telemetry::follow;
use crate::wire::{ClientCommand, Close, Code, Refusal, event};

/// How many frames in a row may be wrong before the connection ends.
const MOST_WRONG: u32 = 20;

/// Who a conversation is with.
pub(super) enum Party<'a> {
    /// Somebody in a room or a direct conversation.
    Room(&'a mut Actor, &'a mut OpenThreads),
    /// A presence socket.
    App(&'a mut Desk),
}

impl Party<'_> {
    fn user(&self) -> UserId {
        match self {
            Self::Room(actor, _) => actor.user,
            Self::App(desk) => desk.user(),
        }
    }

    /// The level of the log for this user and place, if it is another than for everybody.
    fn detail(&self) -> Option<tracing::Level> {
        match self {
            Self::Room(actor, _) => follow::level(actor.user, actor.venue.id()),
            Self::App(desk) => follow::level(desk.user(), None),
        }
    }

    fn connection(&self) -> ConnectionId {
        match self {
            Self::Room(actor, _) => actor.connection,
            Self::App(desk) => desk.connection(),
        }
    }
}

impl Sessions {
    /// Takes frames until the connection ends.
    pub(super) async fn converse(
        &self,
        party: &mut Party<'_>,
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
            let rate = **self.frames.load();
            let reply = match (bucket.take(&rate, Instant::now()), text) {
                (Ok(()), Some(text)) => {
                    outbox.set_busy(true); // a drain waits until the answer is pushed
                    socket.while_writing(follow::scoped(party.detail(), Box::pin(self.answer(party, text)))).await
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
                        tracing::info!(connection = %party.connection(), code = refusal.code.as_str(), "a wrong frame");
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
    async fn answer(&self, party: &mut Party<'_>, mut text: TextMessage) -> Result<Replies, Refusal> {
        let started = Instant::now();
        let decoded = ClientCommand::decode(text.as_bytes_mut());
        drop(text);
        let name = decoded.as_ref().map_or("none", ClientCommand::name);
        let result = match decoded {
            // A ping is answered in every state, whatever else is down.
            Ok(ClientCommand::Ping) => Ok(vec![event::pong(Micros::now())]),
            Ok(command) => match party {
                Party::Room(actor, threads) => self.check_and_run(actor, threads, command).await,
                Party::App(desk) => self.run_app(desk, command).await,
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
        tracing::debug!(
            connection = %party.connection(),
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
    ) -> Result<Replies, Refusal> {
        if command.reads_page() {
            actor.pages.take(&self.pages.load(), Instant::now()).map_err(|wait| {
                self.metrics.limited_total.with_label_values(&["history"]).inc();
                Refusal::after(Code::RateLimited, wait.after).to(command.name(), None)
            })?;
        }
        let seating = Seating::of(&command);
        let mut permit = self.access.check(actor.venue, actor.user, command).await?;
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
