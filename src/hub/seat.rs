//! One seat of a gathering: what it is given, and what it is spared.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::bus::{Envelope, Foreign};
use crate::domain::{Hidden, UserId};
use crate::socket::{Class, Frame, Outbox, Pushed};
use crate::telemetry::Metrics;
use crate::telemetry::trace::Span;
use crate::wire::Close;
use crate::wire::event::{self, Place};

/// A seat as the gathering keeps it.
pub(super) struct Entry {
    pub user: UserId,
    pub outbox: Arc<Outbox>,
    /// Whose events this seat is spared.
    pub hidden: Hidden,
    /// Something is lost to it: it needs a whole state.
    pub stray: bool,
    /// So many of the events that it is given next came before it did.
    before: u32,
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
    pub class: Class,
    body: Bytes,
    /// Set when it is for some only.
    audience: Option<Foreign>,
    /// Set when it tells of many, each of whom some may not see.
    crowd: Option<Crowd>,
    /// The same without those words, made when the first seat needs it.
    spared: OnceCell<Option<Frame>>,
    /// When it came here over the subscription.
    pub arrived: Option<Instant>,
    /// Lasts until every seat has it.
    pub span: Span,
}

/// The joins (with the event's JSON) and leaves of a while, the latest for each user.
#[derive(Default)]
pub(super) struct Crowd {
    pub users: BTreeMap<UserId, Option<Bytes>>,
    /// How many are online after them.
    pub online: u64,
}

impl Crowd {
    /// All of them as one event, as somebody sees it who does not see some users.
    fn seen_by(&self, hidden: &Hidden) -> Vec<u8> {
        let seen = || self.users.iter().filter(|(user, _)| !hidden.hides(**user));
        let joined: Vec<&RawValue> =
            seen().filter_map(|(_, json)| serde_json::from_slice(json.as_ref()?).ok()).collect();
        let left: Vec<UserId> = seen().filter(|(_, json)| json.is_none()).map(|(user, _)| *user).collect();
        event::presence_diff(&joined, &left, self.online)
    }

    fn has_hidden(&self, hidden: &Hidden) -> bool {
        self.users.keys().any(|user| hidden.hides(*user))
    }
}

/// Events that leave together, in order: in one write for each seat.
#[derive(Default)]
pub(super) struct Batch {
    deliveries: Vec<Delivery>,
    /// The same as they are written for a seat that is spared nothing.
    frames: Vec<(Frame, Class)>,
    /// At least one is not for all.
    has_audience: bool,
}

impl Batch {
    pub(super) fn add(&mut self, delivery: Delivery) {
        self.has_audience |= delivery.audience.is_some();
        self.frames.push((delivery.frame.clone(), delivery.class));
        self.deliveries.push(delivery);
    }

    pub(super) fn len(&self) -> usize {
        self.deliveries.len()
    }

    pub(super) fn deliveries(&self) -> &[Delivery] {
        &self.deliveries
    }

    /// Whether there is news of the moment among them.
    pub(super) fn is_passing(&self) -> bool {
        self.frames.iter().any(|(_, class)| matches!(class, Class::Latest(_)))
    }

    pub(super) fn into_spans(self) -> impl Iterator<Item = Span> {
        self.deliveries.into_iter().map(|delivery| delivery.span)
    }
}

/// What became of events at some seats, to be counted once for all.
#[derive(Default)]
pub(super) struct Tally {
    delivered: u64,
    written: u64,
}

impl Tally {
    fn note(&mut self, pushed: Pushed, frames: usize) {
        match pushed {
            Pushed::Written => {
                self.delivered += frames as u64;
                self.written += frames as u64;
            }
            Pushed::Queued | Pushed::Coalesced => self.delivered += frames as u64,
            Pushed::Overflow | Pushed::Closed => {}
        }
    }

    pub(super) fn count(&self, metrics: &Metrics) {
        metrics.deliveries_total.inc_by(self.delivered);
        metrics.deliveries_direct_total.inc_by(self.written);
    }
}

impl Delivery {
    pub(super) fn new(body: Bytes, class: Class) -> Self {
        let frame = Frame::text(&body);
        Self {
            place: None,
            user: None,
            shown: None,
            frame,
            class,
            body,
            audience: None,
            crowd: None,
            spared: OnceCell::new(),
            arrived: None,
            span: Span::default(),
        }
    }

    /// Frames an envelope.
    pub(super) fn of(envelope: Envelope, class: Class) -> Self {
        let mut delivery = Self::new(envelope.body, class);
        (delivery.place, delivery.user, delivery.shown) = (envelope.place, envelope.user, envelope.shown);
        delivery
    }

    /// Frames a crowd's joins and leaves.
    pub(super) fn crowd(crowd: Crowd) -> Self {
        let for_all = crowd.seen_by(&Hidden::default());
        Self { crowd: Some(crowd), ..Self::new(Bytes::from(for_all), Class::Message) }
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
        if let Some(crowd) = self.crowd.as_ref().filter(|crowd| !hidden.is_empty() && crowd.has_hidden(hidden)) {
            return Some(Frame::text(&crowd.seen_by(hidden)));
        }
        Some(self.frame.clone())
    }
}

impl Entry {
    /// A seat that came behind the first `before` events of those that wait.
    pub(super) fn new(user: UserId, outbox: &Arc<Outbox>, hidden: Hidden, before: usize) -> Self {
        let stage = Stage::Entering { kept: Vec::new(), bytes: 0 };
        let before = u32::try_from(before).unwrap_or(u32::MAX);
        Self { user, outbox: Arc::clone(outbox), hidden, stray: false, before, stage }
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
        self.send(&frames, metrics);
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
            self.send(&frames, metrics);
            self.stray = false;
            self.go_live(after, state, metrics);
        }
    }

    /// Gives the seat events. While it enters they are kept, at most `limit` bytes.
    pub(super) fn give(&mut self, batch: &Batch, limit: usize, metrics: &Metrics, tally: &mut Tally) {
        let before = std::mem::take(&mut self.before) as usize;
        let deliveries = batch.deliveries.get(before..).unwrap_or_default();
        match &mut self.stage {
            Stage::Live { after } => {
                let after = *after;
                let are_news = || deliveries.iter().all(|delivery| is_after(delivery.place, after));
                // The common case, without a single allocation.
                if !batch.has_audience && self.hidden.is_empty() && are_news() {
                    self.push(batch.frames.get(before..).unwrap_or_default(), tally);
                    return;
                }
                let wanted = deliveries.iter().filter(|delivery| is_after(delivery.place, after));
                let frames: Vec<_> = wanted
                    .filter_map(|delivery| {
                        delivery.seen_by(self.user, &self.hidden).map(|frame| (frame, delivery.class))
                    })
                    .collect();
                self.push(&frames, tally);
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

    fn send(&self, frames: &[(Frame, Class)], metrics: &Metrics) {
        let mut tally = Tally::default();
        self.push(frames, &mut tally);
        tally.count(metrics);
    }

    fn push(&self, frames: &[(Frame, Class)], tally: &mut Tally) {
        let pushed = match frames {
            [] => return,
            [(frame, class)] => self.outbox.push(frame, *class),
            many => self.outbox.push_many(many),
        };
        tally.note(pushed, frames.len());
    }
}

/// Says whether a seat that has everything up to a place still needs an event. Another epoch's offsets do not compare.
fn is_after(place: Option<Place>, after: Place) -> bool {
    place.is_none_or(|place| place.epoch != after.epoch || place.offset > after.offset)
}

/// The sort of joins and leaves.
pub(super) const COMING: u64 = 1;

/// Whether a key is that of a join or a leave.
pub(super) fn is_coming(key: u64) -> bool {
    key & 3 == COMING
}

/// The key under which a newer event of the same sort and user replaces a queued one.
pub(super) fn key(sort: u64, user: Option<UserId>) -> u64 {
    user.map_or(0, |user| user.0.cast_unsigned()) << 2 | sort
}
