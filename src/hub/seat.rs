//! One seat of a gathering: what it is given, and what it is spared.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::bus::{Envelope, Foreign};
use crate::domain::{ConnectionId, Hidden, UserId};
use crate::socket::{Class, Frame, Outbox, Pushed};
use crate::telemetry::Metrics;
use crate::wire::Close;
use crate::wire::event::{self, Place};

/// A seat as the gathering keeps it.
pub(super) struct Entry {
    pub connection: ConnectionId,
    pub user: UserId,
    pub outbox: Arc<Outbox>,
    /// Whose events this seat is spared.
    pub hidden: Hidden,
    /// Something is lost to it: it needs a whole state.
    pub stray: bool,
    stage: Stage,
}

enum Stage {
    /// Joined, but the first state is still being read: what comes is kept, up to the outbox's limit.
    Entering { kept: Vec<(Option<Place>, Frame, Class)>, bytes: usize },
    /// Gets what comes after this place.
    Live { after: Place },
}

/// One event, framed once for all seats.
pub(super) struct Delivery {
    place: Option<Place>,
    /// Who caused it.
    user: Option<UserId>,
    /// Whose words it shows besides.
    shown: Option<UserId>,
    frame: Frame,
    class: Class,
    body: Bytes,
    /// Set when it is for some only.
    audience: Option<Foreign>,
    /// The same without those words, made when the first seat needs it.
    spared: OnceCell<Option<Frame>>,
}

impl Delivery {
    pub(super) fn new(body: Bytes, class: Class) -> Self {
        let frame = Frame::text(&body);
        Self { place: None, user: None, shown: None, frame, class, body, audience: None, spared: OnceCell::new() }
    }

    /// Frames an envelope.
    pub(super) fn of(envelope: Envelope, class: Class) -> Self {
        let mut delivery = Self::new(envelope.body, class);
        (delivery.place, delivery.user, delivery.shown) = (envelope.place, envelope.user, envelope.shown);
        delivery
    }

    /// A crowd's joins and leaves as one event, as somebody sees it who does not see some users.
    pub(super) fn crowd(crowd: &BTreeMap<UserId, Option<Bytes>>, online: u64, hidden: &Hidden) -> Self {
        let seen = || crowd.iter().filter(|(user, _)| !hidden.hides(**user));
        let joined: Vec<&RawValue> =
            seen().filter_map(|(_, json)| serde_json::from_slice(json.as_ref()?).ok()).collect();
        let left: Vec<UserId> = seen().filter(|(_, json)| json.is_none()).map(|(user, _)| *user).collect();
        Self::new(Bytes::from(event::presence_diff(&joined, &left, online)), Class::Message)
    }

    /// Frames what Django published, for those it is for.
    pub(super) fn plain(foreign: Foreign, place: Option<Place>) -> Self {
        let mut delivery = Self::new(foreign.body.clone(), Class::Message);
        delivery.place = place;
        delivery.audience = (!foreign.is_for_all()).then_some(foreign);
        delivery
    }

    /// The frame for somebody who does not see some users, if there is one.
    fn seen_by(&self, user: UserId, hidden: &Hidden) -> Option<Frame> {
        if self.audience.as_ref().is_some_and(|audience| !audience.is_for(user)) {
            return None;
        }
        if self.user.is_some_and(|user| hidden.hides(user)) {
            return None;
        }
        if self.shown.is_some_and(|user| hidden.hides(user)) {
            let spare = || event::without_reply(&self.body).map(|body| Frame::text(&body));
            return self.spared.get_or_init(spare).clone();
        }
        Some(self.frame.clone())
    }
}

impl Entry {
    pub(super) fn new(connection: ConnectionId, user: UserId, outbox: &Arc<Outbox>, hidden: Hidden) -> Self {
        let stage = Stage::Entering { kept: Vec::new(), bytes: 0 };
        Self { connection, user, outbox: Arc::clone(outbox), hidden, stray: false, stage }
    }

    /// Begins the entering once more: from now on what comes is kept. Who does this brings it to life again.
    pub(super) fn pause(&mut self) {
        self.stray = false;
        if let Stage::Live { .. } = self.stage {
            self.stage = Stage::Entering { kept: Vec::new(), bytes: 0 };
        }
    }

    /// Ends the entering: sends the first state, then what was kept and comes after `after`.
    pub(super) fn go_live(&mut self, after: Place, first: &[Frame], metrics: &Metrics) {
        let mut frames: Vec<_> = first.iter().map(|frame| (frame.clone(), Class::Message)).collect();
        if let Stage::Entering { kept, .. } = std::mem::replace(&mut self.stage, Stage::Live { after }) {
            let kept = kept.into_iter().filter(|(place, ..)| is_after(*place, after));
            frames.extend(kept.map(|(_, frame, class)| (frame, class)));
        }
        count(metrics, self.outbox.push_many(&frames), frames.len());
    }

    /// Something is lost to the seat. One that enters does not know yet what it has.
    pub(super) fn lose(&mut self) {
        self.stray |= matches!(self.stage, Stage::Live { .. });
    }

    /// Sends a live seat that was paused a state: behind what the state has already, before what comes after it.
    pub(super) fn restore(&mut self, after: Place, state: &[Frame], metrics: &Metrics) {
        if let Stage::Entering { kept, .. } = &mut self.stage {
            let known = kept.extract_if(.., |(place, ..)| !is_after(*place, after));
            let frames: Vec<_> = known.map(|(_, frame, class)| (frame, class)).collect();
            count(metrics, self.outbox.push_many(&frames), frames.len());
            self.stray = false;
            self.go_live(after, state, metrics);
        }
    }

    /// Gives the seat events. While it enters they are kept, at most `limit` bytes.
    pub(super) fn give(&mut self, deliveries: &[Delivery], limit: usize, metrics: &Metrics) {
        match &mut self.stage {
            Stage::Live { after } => {
                let after = *after;
                // The common case, without a single allocation.
                if let ([only @ Delivery { audience: None, .. }], true) = (deliveries, self.hidden.is_empty()) {
                    if is_after(only.place, after) {
                        count(metrics, self.outbox.push(&only.frame, only.class), 1);
                    }
                    return;
                }
                let wanted = deliveries.iter().filter(|delivery| is_after(delivery.place, after));
                let frames: Vec<_> = wanted
                    .filter_map(|delivery| {
                        delivery.seen_by(self.user, &self.hidden).map(|frame| (frame, delivery.class))
                    })
                    .collect();
                if !frames.is_empty() {
                    count(metrics, self.outbox.push_many(&frames), frames.len());
                }
            }
            Stage::Entering { kept, bytes } => {
                for delivery in deliveries {
                    let Some(frame) = delivery.seen_by(self.user, &self.hidden) else { continue };
                    *bytes += frame.len();
                    kept.push((delivery.place, frame, delivery.class));
                }
                if *bytes > limit {
                    if self.outbox.close(Close::TOO_SLOW) {
                        metrics.outbox_overflow_total.with_label_values(&["message"]).inc();
                    }
                    kept.clear();
                }
            }
        }
    }
}

fn count(metrics: &Metrics, pushed: Pushed, frames: usize) {
    let frames = frames as u64;
    match pushed {
        Pushed::Written => {
            metrics.deliveries_total.inc_by(frames);
            metrics.deliveries_direct_total.inc_by(frames);
        }
        Pushed::Queued | Pushed::Coalesced => metrics.deliveries_total.inc_by(frames),
        Pushed::Overflow | Pushed::Closed => {}
    }
}

/// Says whether a seat that has everything up to a place still needs an event. Another epoch's offsets do not compare.
fn is_after(place: Option<Place>, after: Place) -> bool {
    place.is_none_or(|place| place.epoch != after.epoch || place.offset > after.offset)
}

/// The key under which a newer event of the same sort and user replaces a queued one.
pub(super) fn key(sort: u64, user: Option<UserId>) -> u64 {
    user.map_or(0, |user| user.0.cast_unsigned()) << 2 | sort
}
