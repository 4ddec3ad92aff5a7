//! Gaps: finds what a subscription missed and brings it from the log.
//!
//! A subscription that lost its connection, was renewed, or had messages dropped is a gap in every topic it carried
//! until its positions were compared. All topics are compared from time to time as well: silence proves nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::gathering::Gathering;
use super::sequence::{Hole, MEND_AFTER, VOID_AFTER};
use super::{Hub, sequence};
use crate::bus::{BusError, Envelope, Position};
use crate::domain::Topic;
use crate::lifecycle::Lifecycle;
use crate::wire::event::Place;

/// How often every topic is compared with Redis.
const COMPARE_EVERY: Duration = Duration::from_secs(5);
/// How soon a topic is compared again at whose end something is taken and not published.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// How many topics are compared at once, in one command.
const AT_ONCE: usize = 64;
/// How long after a failure the doubtful topics are tried again.
const RETRY: Duration = Duration::from_millis(250);

/// Repairs gaps until the process stops delivering.
pub(super) async fn run(hub: Arc<Hub>, lifecycle: Lifecycle) {
    let mut last = Instant::now();
    loop {
        tokio::select! {
            () = lifecycle.aborted() => return,
            () = hub.doubt.notified() => {}
            () = tokio::time::sleep(LOOK_AGAIN), if !hub.unpublished.lock().is_empty() => {
                hub.doubtful.lock().extend(hub.unpublished.lock().drain());
            }
            () = tokio::time::sleep(COMPARE_EVERY.saturating_sub(last.elapsed())) => {
                last = Instant::now();
                hub.doubt_all();
            }
        }
        let doubtful: Vec<_> = std::mem::take(&mut *hub.doubtful.lock()).into_iter().collect();
        let mut failed = Vec::new();
        for topics in doubtful.chunks(AT_ONCE) {
            // While Redis is away every call takes its whole deadline: one failure is enough to wait for better days.
            if failed.is_empty() {
                failed = repair_all(&hub, topics).await;
            } else {
                failed.extend_from_slice(topics);
            }
        }
        if !failed.is_empty() {
            hub.doubtful.lock().extend(failed);
            tokio::time::sleep(RETRY).await;
            hub.doubt.notify_one();
        }
    }
}

/// Repairs topics side by side; returns those that could not be compared.
async fn repair_all(hub: &Hub, topics: &[Topic]) -> Vec<Topic> {
    let begun = |topic: &Topic| hub.gathering(*topic).filter(|gathering| gathering.has_begun());
    let (topics, gatherings): (Vec<Topic>, Vec<_>) =
        topics.iter().filter_map(|topic| Some((*topic, begun(topic)?))).unzip();
    let interruptions = hub.subscriber.interruptions();
    let positions = hub.bus.log().positions(&topics).await;
    let repairs = topics.iter().zip(&gatherings).zip(positions).map(|((topic, gathering), position)| async move {
        let Some(position) = position else { return Some(*topic) };
        let error = repair(hub, *topic, gathering, position, interruptions).await.err()?;
        tracing::debug!(%topic, %error, "a topic could not be repaired, trying again");
        Some(*topic)
    });
    join_all(repairs).await.into_iter().flatten().collect()
}

/// Repairs a topic that stands there. `interruptions` is from before that was read.
async fn repair(
    hub: &Hub,
    topic: Topic,
    gathering: &Arc<Gathering>,
    position: Position,
    interruptions: u64,
) -> Result<(), BusError> {
    let (hole, lost) = gathering.compare(position, interruptions);
    if lost {
        tracing::warn!(%topic, "the log began anew while nobody listened: its clients get a state");
        hub.lose(topic);
    }
    if let Some(hole) = hole {
        return fill(hub, topic, gathering, hole, position).await;
    }
    let now = Instant::now();
    let tail = gathering.tail(position, now);
    if tail.is_some() {
        // Nothing comes behind it that would make somebody look again.
        hub.unpublished.lock().insert(topic);
    }
    let Some(hole) = gathering.hole(now).or(tail).filter(|hole| hole.age >= sequence::ASK_LOG_AFTER) else {
        return Ok(());
    };
    if hole.age >= MEND_AFTER && gathering.may_mend(now) {
        // Taken, and not published for so long: its owner is slow, or gone.
        hub.mender.mend(topic, hole.first, hole.last, hole.age >= VOID_AFTER).await?;
    }
    fill(hub, topic, gathering, hole, position).await
}

/// Brings what is missing from the log, and what the log has no more from Postgres. What cannot be told whole is lost,
/// and every client gets a state, which is better than a silent half.
async fn fill(
    hub: &Hub,
    topic: Topic,
    gathering: &Arc<Gathering>,
    hole: Hole,
    position: Position,
) -> Result<(), BusError> {
    let found = hub.bus.log().read(topic, hole.first.epoch, hole.first.offset, hole.last).await?;
    let first = found.first().and_then(|event| event.place).map_or(hole.last + 1, |place| place.offset);
    // Everything up to `published` was in the log once.
    let trimmed = (first - 1).min(position.published);
    if hole.first.offset <= trimmed {
        match hub.mender.retell(topic, hole.first, trimmed).await? {
            Some(told) => {
                hub.metrics.bus_gaps_total.inc();
                tracing::info!(%topic, events = told.len(), "a gap was filled from Postgres");
                deliver(hub, topic, gathering, told);
            }
            None => {
                tracing::warn!(%topic, "a gap is older than the log: its clients get a state");
                gathering.skip_to(Place { offset: trimmed + 1, ..hole.first });
                hub.lose(topic);
            }
        }
    }
    if !found.is_empty() {
        hub.metrics.bus_gaps_total.inc();
        hub.metrics.bus_gap_events_total.with_label_values(&["log"]).inc_by(found.len() as u64);
        tracing::info!(%topic, events = found.len(), "a gap was filled from the log");
        deliver(hub, topic, gathering, found);
    }
    Ok(())
}

fn deliver(hub: &Hub, topic: Topic, gathering: &Gathering, events: Vec<Envelope>) {
    if gathering.accept_missed(events, hub.subscriber.interruptions()) {
        hub.lose(topic);
    }
}
