//! How a seat comes to life: with what its client missed, if that can be told whole, else with a state.
//!
//! The seat keeps what comes meanwhile. What is sent here ends at a place that was published before, and the seat goes on
//! right after it, so that there is neither a gap nor a repeat between the two.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::threads::OpenThreads;
use super::{ENTER_DEADLINE, Sessions};
use crate::access::Grant;
use crate::command::{Actor, EnterError, Replies, Untold};
use crate::domain::{Person, ThreadId, Topic, Venue};
use crate::hub::Seat;
use crate::presence::Stay;
use crate::socket::{Class, Frame, Outbox};
use crate::wire::event::{self, Place, Resumed};
use crate::wire::{Code, Refusal};

/// About how large a piece is, in bytes: one event at least.
const PIECE: usize = 32 * 1024;
/// How often it is looked whether the client has taken a piece.
const LOOK: Duration = Duration::from_millis(5);

/// What is replayed, and to whom.
pub(super) struct Replay<'a> {
    pub seat: &'a Seat,
    pub outbox: &'a Outbox,
    pub topic: Topic,
    /// Set when it is a thread's seat.
    pub thread: Option<ThreadId>,
    pub grant: &'a Grant,
    /// Sent with the state, or with what was missed: a ticket to come back with.
    pub ticket: Option<Frame>,
}

/// Events on their way into one frame.
struct Piece {
    thread: Option<ThreadId>,
    events: Vec<Bytes>,
    bytes: usize,
    retold: bool,
}

impl Piece {
    /// Frames what has come together, for a client that has everything up to `place` then.
    fn frame(&mut self, place: Place, has_more: bool, online: Option<(&[Person], u64)>) -> Frame {
        let events = std::mem::take(&mut self.events);
        self.bytes = 0;
        Frame::text(&event::resumed(&Resumed {
            thread: self.thread,
            recovered: true,
            reason: None,
            retold: std::mem::take(&mut self.retold),
            place,
            events: &events,
            has_more,
            online,
        }))
    }
}

impl Sessions {
    /// Brings the seat of a newcomer to life. The user is present in a room as long as what is returned lives.
    pub(super) async fn open(
        &self,
        venue: Venue,
        replay: &Replay<'_>,
        since: Option<Place>,
    ) -> Result<Option<Stay>, EnterError> {
        replay.seat.subscribed().await;
        let (mut stay, mut untold) = (None, None);
        if let Some(since) = since {
            stay = self.entrance.stay(venue, replay.grant).await?;
            match self.replay(replay, since, stay.is_some()).await? {
                Ok(()) => return Ok(stay),
                Err(why) => untold = Some(why),
            }
        }
        let opening = self.entrance.enter(venue, replay.grant).await?;
        drop(stay); // the new one holds the place now
        let lost = untold.map(|why| not_recovered(None, why, opening.after));
        let first = lost.into_iter().chain(opening.events).map(|event| Frame::text(&event));
        let first: Vec<_> = first.chain(replay.ticket.clone()).collect();
        replay.seat.go_live(opening.after, &first);
        Ok(opening.stay)
    }

    /// Answers a `resume` frame on a seat that is live: what came since, once more, or a whole state.
    pub(super) async fn resume(
        &self,
        actor: &Actor,
        grant: &Grant,
        threads: &OpenThreads,
        since: Place,
    ) -> Result<Replies, Refusal> {
        let (seat, outbox) = (threads.home(), threads.outbox());
        let replay = Replay { seat, outbox, topic: actor.topic, thread: None, grant, ticket: None };
        seat.pause();
        let resuming = async {
            let is_room = matches!(actor.topic, Topic::Room(_));
            if let Err(why) = self.replay(&replay, since, is_room).await? {
                let opening = self.entrance.state(actor.venue, grant).await?;
                let events = [not_recovered(None, why, opening.after)].into_iter().chain(opening.events);
                seat.go_live(opening.after, &events.map(|event| Frame::text(&event)).collect::<Vec<_>>());
            }
            Ok::<_, EnterError>(())
        };
        match tokio::time::timeout(ENTER_DEADLINE, resuming).await {
            Ok(Ok(())) => return Ok(Vec::new()),
            Ok(Err(error)) => tracing::warn!(topic = %actor.topic, %error, "what was missed could not be told"),
            Err(_) => tracing::warn!(topic = %actor.topic, "what was missed could not be told in time"),
        }
        // The seat has kept events that the client may have or not: it must come back.
        outbox.close(crate::wire::Close::TRY_LATER);
        Err(Refusal::after(Code::Unavailable, Duration::from_secs(1)).to("resume", None))
    }

    /// Sends what came after a place, and brings the seat to life behind it. Says why when it cannot be told whole; what
    /// was sent until then is true, and a state must follow.
    pub(super) async fn replay(
        &self,
        replay: &Replay<'_>,
        since: Place,
        tell_online: bool,
    ) -> Result<Result<(), Untold>, EnterError> {
        let started = Instant::now();
        let outcome = |word| self.metrics.resumes_total.with_label_values(&[word]).inc();
        let position = match self.entrance.position_since(replay.topic, since).await? {
            Ok(position) => position,
            Err(why) => {
                outcome("state");
                return Ok(Err(why));
            }
        };
        let mut piece = Piece { thread: replay.thread, events: Vec::new(), bytes: 0, retold: false };
        let (mut at, mut sent, mut retold) = (since, since, false);
        while at.offset < position.published {
            let missed = self.entrance.missed(replay.topic, replay.grant, at, position.published).await?;
            let Some(missed) = missed else {
                outcome("state");
                return Ok(Err(Untold::TooOld));
            };
            retold |= missed.retold;
            self.metrics.resumed_events_total.inc_by(missed.events.len() as u64);
            for (offset, event) in missed.events {
                if piece.bytes + event.len() > PIECE && !piece.events.is_empty() {
                    let _ = replay.outbox.push(&piece.frame(sent, true, None), Class::Message);
                    taken(replay.outbox).await;
                }
                piece.bytes += event.len();
                piece.retold |= missed.retold;
                piece.events.push(event);
                sent.offset = offset;
            }
            at.offset = missed.upto;
        }
        let online = if tell_online { Some(self.entrance.online(replay.grant).await?) } else { None };
        let online = online.as_ref().map(|(people, count)| (people.as_slice(), *count));
        let last = [piece.frame(position.place(), false, online)].into_iter().chain(replay.ticket.clone());
        replay.seat.go_live(position.place(), &last.collect::<Vec<_>>());
        outcome(if retold { "retold" } else { "recovered" });
        self.metrics.resume_seconds.observe(started.elapsed().as_secs_f64());
        Ok(Ok(()))
    }
}

/// `resumed` before a whole state.
pub(super) fn not_recovered(thread: Option<ThreadId>, why: Untold, place: Place) -> Vec<u8> {
    event::resumed(&Resumed {
        thread,
        recovered: false,
        reason: Some(why.as_str()),
        retold: false,
        place,
        events: &[],
        has_more: false,
        online: None,
    })
}

/// Waits until the client has taken what is queued, so that a long replay is never in memory as a whole.
async fn taken(outbox: &Outbox) {
    while outbox.queued_bytes() > 0 && !outbox.is_closed() {
        tokio::time::sleep(LOOK).await;
    }
}
