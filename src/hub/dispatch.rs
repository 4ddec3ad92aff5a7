//! One shard's way from the bus to the gatherings.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Hub, plain, sequence};
use crate::bus::{Envelope, Inbound, Inbox, Malformed, Payload};
use crate::domain::{Micros, Topic};
use crate::lifecycle::Lifecycle;
use crate::telemetry::Leg;

/// How many messages are taken from the queue at once: what waits for one topic leaves in one write a seat.
const BATCH: usize = 256;
/// How often restless topics are looked at.
const TICK: Duration = Duration::from_millis(25);
/// How often a crowd's joins and leaves are sent.
const CROWD_EVERY: Duration = Duration::from_secs(1);

/// How often dropped payloads are told to the operator.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// Payloads that could not be read: every one is counted, one a minute gets a log line, which tells of the others.
#[derive(Default)]
struct Complaints {
    told: Option<Instant>,
    untold: u64,
}

impl Complaints {
    fn note(&mut self, topic: Topic, error: Malformed) {
        self.untold += 1;
        if self.told.is_none_or(|told| told.elapsed() >= COMPLAIN_EVERY) {
            tracing::warn!(%topic, %error, payloads = self.untold, "payloads were dropped, this one last");
            *self = Self { told: Some(Instant::now()), untold: 0 };
        }
    }
}

/// When topics are to be looked at that have something to send, or are in the midst of it.
#[derive(Default)]
struct Agenda {
    /// The one entry of each topic.
    at: HashMap<Topic, Instant>,
    order: BTreeSet<(Instant, Topic)>,
}

impl Agenda {
    /// Notes that a topic is to be looked at; an earlier time that was noted before stays.
    fn note(&mut self, topic: Topic, due: Option<Instant>) {
        let Some(due) = due else { return };
        if let Some(known) = self.at.insert(topic, due) {
            if known <= due {
                self.at.insert(topic, known);
                return;
            }
            self.order.remove(&(known, topic));
        }
        self.order.insert((due, topic));
    }

    fn first(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes the topics whose time has come.
    fn take(&mut self, now: Instant) -> Vec<Topic> {
        let mut due = Vec::new();
        while let Some((at, topic)) = self.order.first().copied()
            && at <= now
        {
            self.order.pop_first();
            self.at.remove(&topic);
            due.push(topic);
        }
        due
    }
}

/// What a dispatcher has to come back to.
#[derive(Default)]
struct Unrest {
    agenda: Agenda,
    /// Topics with events that wait for a predecessor, or with a crowd's joins to send.
    restless: HashSet<Topic>,
    complaints: Complaints,
}

/// Delivers what arrives until the process stops delivering.
pub(super) async fn run(hub: Arc<Hub>, mut inbox: Inbox, lifecycle: Lifecycle) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut unrest = Unrest::default();
    let (mut looked, mut crowd_sent) = (Instant::now(), Instant::now());
    loop {
        let look = (!unrest.restless.is_empty()).then_some(looked + TICK);
        let next = unrest.agenda.first().into_iter().chain(look).min();
        tokio::select! {
            biased;
            () = lifecycle.aborted() => return,
            received = inbox.queue.recv_many(&mut batch, BATCH) => {
                if received == 0 {
                    return;
                }
                dispatch(&hub, batch.drain(..), &mut unrest);
            }
            () = until(next) => {}
        }
        if inbox.has_dropped() {
            hub.doubt_all();
        }
        let now = Instant::now();
        if !unrest.restless.is_empty() && looked + TICK <= now {
            looked = now;
            let flush = crowd_sent.elapsed() >= CROWD_EVERY;
            if flush {
                crowd_sent = now;
            }
            calm(&hub, &mut unrest, flush, now);
        }
        for topic in unrest.agenda.take(now) {
            let due = hub.gathering(topic).and_then(|gathering| gathering.send_due(now));
            unrest.agenda.note(topic, due);
        }
        if unrest.agenda.first().is_some_and(|first| first <= now) {
            // Somewhere a round is under way: everybody else has a turn between two parts of it.
            tokio::task::yield_now().await;
        }
    }
}

async fn until(next: Option<Instant>) {
    match next {
        Some(next) if next > Instant::now() => tokio::time::sleep_until(next.into()).await,
        Some(_) => {}
        None => std::future::pending().await,
    }
}

fn dispatch(hub: &Hub, batch: impl Iterator<Item = Inbound>, unrest: &mut Unrest) {
    let mut by_topic: HashMap<Topic, Vec<Envelope>> = HashMap::new();
    for inbound in batch {
        match inbound {
            Inbound::Subscribed { topic } => hub.doubt(topic),
            Inbound::Message { topic, payload, arrived, unbroken } => match Payload::decode(&payload) {
                Ok(Payload::Envelope(mut envelope)) => {
                    count(hub, topic, &envelope, arrived);
                    envelope.arrived = Some(arrived);
                    by_topic.entry(topic).or_default().push(envelope);
                }
                Ok(Payload::Foreign(foreign)) => {
                    // What came before it for the same topic goes first.
                    deliver(hub, topic, by_topic.remove(&topic).unwrap_or_default(), unrest);
                    plain::hear(hub, topic, &foreign, &payload, unbroken);
                }
                Err(error) => {
                    hub.metrics.bus_malformed_total.with_label_values(&[error.as_str()]).inc();
                    unrest.complaints.note(topic, error);
                }
            },
        }
    }
    for (topic, envelopes) in by_topic {
        deliver(hub, topic, envelopes, unrest);
    }
}

fn deliver(hub: &Hub, topic: Topic, envelopes: Vec<Envelope>, unrest: &mut Unrest) {
    let Some(gathering) = hub.gathering(topic).filter(|_| !envelopes.is_empty()) else { return };
    let accepted = gathering.accept(envelopes, hub.subscriber.interruptions(), Instant::now());
    if accepted.restless {
        unrest.restless.insert(topic);
    }
    unrest.agenda.note(topic, accepted.due);
    if accepted.lost {
        hub.lose(topic);
    }
}

/// Looks at restless topics: holes go to the repairer, crowds are sent.
fn calm(hub: &Hub, unrest: &mut Unrest, flush: bool, now: Instant) {
    unrest.restless.retain(|topic| {
        let Some(gathering) = hub.gathering(*topic) else { return false };
        let hole = gathering.hole(now);
        if hole.is_some_and(|hole| hole.age >= sequence::ASK_LOG_AFTER) {
            hub.doubt(*topic);
        }
        if flush {
            unrest.agenda.note(*topic, gathering.flush_crowd(now));
        }
        hole.is_some() || gathering.has_crowd()
    });
}

fn count(hub: &Hub, topic: Topic, envelope: &Envelope, arrived: Instant) {
    hub.metrics.bus_received_total.with_label_values(&[envelope.kind.as_str()]).inc();
    let lag = Micros::now().0.saturating_sub(envelope.sent.0).max(0);
    let lag = Duration::from_micros(lag.cast_unsigned());
    hub.metrics.bus_lag_seconds.observe(lag.as_secs_f64());
    hub.metrics.leg_seconds.observe(Leg::Bus, topic, lag.saturating_sub(arrived.elapsed()));
}
