//! Events of ours on their way to Django's consumers: looked for first, and sent only where there are any.
//!
//! That nobody is in a group is asked for each batch anew, in one round trip for all its topics, because who joins just
//! now must miss nothing; a room without consumers costs no more than its part in that. That somebody is there is
//! believed until a send finds nobody.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::LayerError;
use super::core::Sent;
use super::members::Members;
use crate::domain::Topic;
use crate::keyspace::channels::MESSAGE_SECONDS;
use crate::lifecycle::Lifecycle;
use crate::telemetry::Metrics;

/// How many events wait for the layer's Redis before the next is dropped.
pub(super) const QUEUE: usize = 8_192;
/// How many events are taken at once.
const BATCH: usize = 256;
/// How many events, and how many bytes, one script sends.
const TOGETHER: usize = 64;
const TOGETHER_BYTES: usize = 256 * 1024;
/// How long between two tries while Redis is away.
const RETRY: Duration = Duration::from_millis(200);
/// How long what is left may take at the end.
const LAST: Duration = Duration::from_millis(300);
/// Of how many topics it is remembered that somebody is there.
const REMEMBERED: usize = 10_000;

/// An event for the consumers of a topic.
pub(super) struct Offer {
    topic: Topic,
    event: Bytes,
    since: Instant,
}

impl Offer {
    pub(super) fn new(topic: Topic, event: Bytes) -> Self {
        Self { topic, event, since: Instant::now() }
    }
}

/// Events of one topic that are sent in one call, under a mark that makes repeating it harmless.
struct Parcel {
    topic: Topic,
    mark: String,
    events: Vec<Bytes>,
}

/// Sends events of ours.
pub(super) struct Sender {
    members: Arc<Members>,
    metrics: Arc<Metrics>,
    /// Topics with consumers.
    known: HashSet<Topic>,
}

impl Sender {
    pub(super) fn new(members: Arc<Members>, metrics: Arc<Metrics>) -> Self {
        Self { members, metrics, known: HashSet::new() }
    }

    /// Sends what comes until the process stops delivering, and then what is left.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Offer>, lifecycle: Lifecycle) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let received = tokio::select! {
                biased;
                () = lifecycle.aborted() => break,
                received = queue.recv_many(&mut batch, BATCH) => received,
            };
            if received == 0 {
                return;
            }
            tokio::select! {
                () = lifecycle.aborted() => return,
                () = self.serve(batch.drain(..)) => {}
            }
        }
        while let Ok(offer) = queue.try_recv() {
            batch.push(offer);
        }
        let _ = tokio::time::timeout(LAST, self.serve(batch.drain(..))).await;
    }

    /// Sends a batch, trying again while Redis is away, until Django's consumers would not want it any more.
    async fn serve(&mut self, batch: impl Iterator<Item = Offer>) {
        let mut since = Instant::now();
        let mut topics: HashMap<Topic, usize> = HashMap::new();
        let mut waiting: Vec<(Topic, Vec<Bytes>)> = Vec::new();
        for offer in batch {
            since = since.min(offer.since);
            let at = *topics.entry(offer.topic).or_insert_with(|| {
                waiting.push((offer.topic, Vec::new()));
                waiting.len() - 1
            });
            waiting[at].1.push(offer.event);
        }
        let until = since + Duration::from_secs(MESSAGE_SECONDS);
        while let Err(error) = self.look(&mut waiting).await {
            let events = waiting.iter().map(|(_, events)| events.len()).sum();
            if self.gives_up(&error, until, events) {
                return;
            }
            tokio::time::sleep(RETRY).await;
        }
        let mut parcels: Vec<Parcel> = waiting.into_iter().flat_map(|(topic, events)| parcels(topic, events)).collect();
        while let Err(error) = self.send(&mut parcels).await {
            let events = parcels.iter().map(|parcel| parcel.events.len()).sum();
            if self.gives_up(&error, until, events) {
                return;
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    fn gives_up(&self, error: &LayerError, until: Instant, events: usize) -> bool {
        self.metrics.redis_failures_total.with_label_values(&["channels"]).inc();
        let late = Instant::now() >= until;
        if late {
            self.metrics.channels_dropped_total.with_label_values(&["late"]).inc_by(events as u64);
            tracing::warn!(%error, events, "events did not reach Django's consumers");
        }
        late
    }

    /// Leaves only the events of topics in which somebody but gateways is.
    async fn look(&mut self, waiting: &mut Vec<(Topic, Vec<Bytes>)>) -> Result<(), LayerError> {
        let unknown: Vec<Topic> =
            waiting.iter().map(|(topic, _)| *topic).filter(|topic| !self.known.contains(topic)).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let found = self.members.backend().look(&unknown).await?;
        let mut found: HashMap<Topic, bool> = unknown.into_iter().zip(found).collect();
        waiting.retain(|(topic, _)| found.get(topic).copied().unwrap_or(true));
        if self.known.len() > REMEMBERED {
            self.known.clear();
        }
        self.known.extend(found.drain().filter(|(_, somebody)| *somebody).map(|(topic, _)| topic));
        Ok(())
    }

    /// Sends parcels, the topics side by side and each topic's in order. Those that are done leave the list.
    async fn send(&mut self, parcels: &mut Vec<Parcel>) -> Result<(), LayerError> {
        while !parcels.is_empty() {
            let mut topics = HashSet::new();
            let (mut now, later): (Vec<_>, Vec<_>) =
                std::mem::take(parcels).into_iter().partition(|parcel| topics.insert(parcel.topic));
            *parcels = later;
            let backend = self.members.backend();
            let sending = now.iter().map(|parcel| async move {
                let events: Vec<&[u8]> = parcel.events.iter().map(AsRef::as_ref).collect();
                backend.send(parcel.topic, &parcel.mark, &events).await
            });
            let sent: Vec<_> = join_all(sending).await;
            let mut failure = None;
            let mut sent = sent.into_iter();
            now.retain(|parcel| match sent.next() {
                Some(Ok(sent)) => {
                    self.note(parcel, sent);
                    false
                }
                Some(Err(error)) if error.is_passing() => {
                    failure = Some(error);
                    true
                }
                Some(Err(error)) => {
                    self.refused(parcel, &error);
                    false
                }
                None => true,
            });
            if let Some(error) = failure {
                // Once more, before those that come after them.
                parcels.splice(0..0, now);
                return Err(error);
            }
        }
        Ok(())
    }

    fn refused(&self, parcel: &Parcel, error: &LayerError) {
        let events = parcel.events.len();
        self.metrics.channels_dropped_total.with_label_values(&["refused"]).inc_by(events as u64);
        tracing::warn!(topic = %parcel.topic, %error, events, "the channel layer's Redis refused events");
    }

    fn note(&mut self, parcel: &Parcel, sent: Sent) {
        if sent.somebody {
            self.metrics.channels_sent_total.inc_by(parcel.events.len() as u64);
        } else {
            self.known.remove(&parcel.topic);
        }
        if sent.dropped > 0 {
            self.metrics.channels_dropped_total.with_label_values(&["capacity"]).inc_by(sent.dropped);
            tracing::debug!(topic = %parcel.topic, dropped = sent.dropped, "an inbox of Django's consumers is full");
        }
    }
}

/// Cuts the events of a topic into what one call sends.
fn parcels(topic: Topic, events: Vec<Bytes>) -> Vec<Parcel> {
    let parcel = |events| Parcel { topic, mark: Uuid::new_v4().simple().to_string(), events };
    let (mut all, mut some, mut bytes) = (Vec::new(), Vec::new(), 0);
    for event in events {
        if some.len() == TOGETHER || bytes + event.len() > TOGETHER_BYTES && !some.is_empty() {
            all.push(parcel(std::mem::take(&mut some)));
            bytes = 0;
        }
        bytes += event.len();
        some.push(event);
    }
    if !some.is_empty() {
        all.push(parcel(some));
    }
    all
}
