//! The last step of a gathering: what may be delivered, framed once and given to every seat.
//!
//! Runs under the gathering's lock and must never wait.

use std::time::Instant;

use super::super::seat::{Delivery, key};
use super::{CROWD, Gathering, State};
use crate::bus::{Envelope, Foreign, Kind};
use crate::domain::RoomId;
use crate::socket::Class;
use crate::telemetry::Leg;
use crate::telemetry::trace::{self, Span};
use crate::wire::event;

impl Gathering {
    /// Gives events to all seats, in order, and notes what they say of who is here.
    pub(super) fn deliver_all(&self, state: &mut State, ready: Vec<Envelope>) {
        let legs = &self.metrics.leg_seconds;
        for envelope in &ready {
            if let Some(arrived) = envelope.arrived {
                legs.observe(Leg::Hub, self.topic, arrived.elapsed());
            }
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
        }
        let mut spans: Vec<_> = ready.iter().filter(|envelope| envelope.trace.is_some()).map(span).collect();
        let deliveries: Vec<_> = ready.into_iter().filter_map(|envelope| frame(state, envelope)).collect();
        if deliveries.is_empty() || state.seats.is_empty() {
            return;
        }
        let began = Instant::now();
        for seat in &mut state.seats {
            seat.give(&deliveries, self.outbox_limit, &self.metrics);
        }
        legs.observe(Leg::Socket, self.topic, began.elapsed());
        for span in &mut spans {
            span.note("topic", self.topic.kind());
            span.note("seats", state.seats.len());
            span.ended_part("socket", began);
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
                state.crowd.insert(user, joined.then_some(envelope.body));
                state.crowd_online = envelope.online;
                return None;
            }
            if let Some(user) = envelope.user {
                state.crowd.remove(&user); // older news of the same user must not come after this
            }
            Class::Latest(key(1, envelope.user))
        }
        Kind::Typing => Class::Latest(key(2, envelope.user)),
        Kind::Thread => {
            Class::Latest(event::thread_in(&envelope.body).map_or(3, |thread| thread.0.as_u64_pair().1 << 2 | 3))
        }
    };
    Some(Delivery::of(envelope, class))
}
