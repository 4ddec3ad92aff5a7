//! The last step of a gathering: what may be delivered, framed once and given to every seat.
//!
//! Runs under the gathering's lock and must never wait. Many seats are served in parts, and the lock is free in between:
//! whatever comes then is held behind what is under way, so that every seat has everything in one order.

use std::time::Instant;

use super::super::seat::{Batch, COMING, Delivery, Tally, key};
use super::{CROWD, Gathering, State};
use crate::bus::{Envelope, Foreign, Kind};
use crate::domain::RoomId;
use crate::socket::Class;
use crate::telemetry::Leg;
use crate::telemetry::trace::{self, Span};
use crate::wire::event;

/// How many seats are served before others have their turn: a few milliseconds.
const PART: usize = 512;

/// What all seats are being given.
pub(super) struct Round {
    batch: Batch,
    began: Instant,
}

impl Gathering {
    /// Takes events that are next in order, and notes what they say of who is here.
    pub(super) fn take(&self, state: &mut State, ready: Vec<Envelope>, now: Instant) {
        for envelope in ready {
            match envelope.kind {
                Kind::Joined | Kind::Left => state.announce(self.topic, envelope.online),
                Kind::Online => state.announce(self.topic, 1),
                Kind::Offline => state.announce(self.topic, 0),
                Kind::Unread => {
                    let room = uuid::Uuid::from_slice(&envelope.body).map(RoomId);
                    state.watchers.iter().for_each(|watcher| watcher.note_unread(room.iter().copied()));
                }
                _ => {}
            }
            let arrived = envelope.arrived;
            let span = if envelope.trace.is_some() { span(&envelope) } else { Span::default() };
            match frame(state, envelope).filter(|_| !state.seats.is_empty()) {
                Some(mut delivery) => {
                    (delivery.arrived, delivery.span) = (arrived, span);
                    state.held.add(delivery, now);
                }
                None => self.note_turn(arrived),
            }
        }
    }

    /// Gives the seats what it is time for, a part of them at most. Returns when to come again.
    pub(super) fn go_on(&self, state: &mut State, now: Instant) -> Option<Instant> {
        self.go_on_by(state, now, PART)
    }

    pub(super) fn go_on_by(&self, state: &mut State, now: Instant, part: usize) -> Option<Instant> {
        if state.round.is_none() {
            let due = state.held.due(state.seats.len())?;
            if due > now {
                return Some(due);
            }
            self.begin_round(state, now);
        }
        // Where events come faster than they leave, the queue behind this must fill, and not what is held.
        self.serve(state, if state.held.is_full() { usize::MAX } else { part });
        if state.round.is_some() { Some(now) } else { state.held.due(state.seats.len()) }
    }

    /// Gives the seats everything, whatever the time.
    pub(super) fn send_all(&self, state: &mut State, now: Instant) {
        self.serve(state, usize::MAX);
        if state.held.len() > 0 {
            self.begin_round(state, now);
            self.serve(state, usize::MAX);
        }
    }

    fn begin_round(&self, state: &mut State, now: Instant) {
        let batch = state.held.take(now);
        batch.deliveries().iter().for_each(|delivery| self.note_turn(delivery.arrived));
        state.seats.begin();
        state.round = Some(Round { batch, began: Instant::now() });
    }

    /// Goes on with the round that is under way; ends it behind the last seat.
    fn serve(&self, state: &mut State, most: usize) {
        let State { seats, round: under_way, .. } = state;
        let Some(round) = under_way else { return };
        let mut tally = Tally::default();
        for seat in seats.next(most) {
            seat.give(&round.batch, self.outbox_limit, &self.metrics, &mut tally);
        }
        tally.count(&self.metrics);
        if seats.is_served()
            && let Some(Round { batch, began }) = under_way.take()
        {
            self.metrics.leg_seconds.observe(Leg::Socket, self.topic, began.elapsed());
            for mut span in batch.into_spans() {
                span.note("topic", self.topic.kind());
                span.note("seats", seats.len());
                span.ended_part("socket", began);
            }
        }
    }

    /// Notes that it is the turn of an event that came over the subscription.
    fn note_turn(&self, arrived: Option<Instant>) {
        if let Some(arrived) = arrived {
            self.metrics.leg_seconds.observe(Leg::Hub, self.topic, arrived.elapsed());
        }
    }
}

/// The delivery of an event that somebody traces, from its arrival on.
fn span(envelope: &Envelope) -> Span {
    Span::following(envelope.trace, "deliver", trace::Kind::Consumer, envelope.arrived.unwrap_or_else(Instant::now))
}

/// Frames an event for all seats; joins and leaves of a crowd are put aside for the next `presence_diff`.
fn frame(state: &mut State, envelope: Envelope) -> Option<Delivery> {
    let class = match envelope.kind {
        Kind::Void | Kind::Online | Kind::Offline | Kind::Unread => return None,
        Kind::Plain => return Foreign::within(&envelope).ok().map(|foreign| Delivery::plain(foreign, envelope.place)),
        Kind::Message | Kind::Change | Kind::Notice => Class::Message,
        Kind::Joined | Kind::Left => {
            if let Some(user) = envelope.user.filter(|_| envelope.online > CROWD) {
                let joined = envelope.kind == Kind::Joined;
                state.crowd.users.insert(user, joined.then_some(envelope.body));
                state.crowd.online = envelope.online;
                return None;
            }
            if let Some(user) = envelope.user {
                state.crowd.users.remove(&user); // older news of the same user must not come after this
            }
            Class::Latest(key(COMING, envelope.user))
        }
        Kind::Typing => Class::Latest(key(2, envelope.user)),
        Kind::Thread => {
            Class::Latest(event::thread_in(&envelope.body).map_or(3, |thread| thread.0.as_u64_pair().1 << 2 | 3))
        }
    };
    Some(Delivery::of(envelope, class))
}
