//! Which channels this instance is subscribed to: the first seat subscribes, the last leaves late.
//!
//! Invariant 8: subscribed channels = topics with a local seat, once this is idle.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};

use super::{Hub, LINGER};
use crate::bus::Position;
use crate::domain::Topic;
use crate::lifecycle::Lifecycle;

/// How long after a failure the same topics are tried again.
const RETRY: Duration = Duration::from_millis(250);

/// Keeps subscriptions equal to interest until the process stops delivering.
pub(super) async fn run(hub: Arc<Hub>, lifecycle: Lifecycle) {
    let mut leaving: HashMap<Topic, Instant> = HashMap::new();
    loop {
        tokio::select! {
            () = lifecycle.aborted() => return,
            () = hub.change.notified() => {}
            () = sleep_until_first(&leaving) => {}
        }
        let mut changed = std::mem::take(&mut *hub.changed.lock());
        changed.sort_unstable();
        changed.dedup();
        let mut wanted = Vec::new();
        for topic in changed {
            let Some(gathering) = hub.gathering(topic) else { continue };
            if gathering.is_empty() {
                leaving.insert(topic, Instant::now() + LINGER);
            } else {
                leaving.remove(&topic);
                if !gathering.is_subscribed() {
                    wanted.push(topic);
                }
            }
        }
        subscribe(&hub, wanted).await;
        let now = Instant::now();
        let due: Vec<_> = leaving.extract_if(|_, when| *when <= now).map(|(topic, _)| topic).collect();
        unsubscribe(&hub, due).await;
    }
}

async fn sleep_until_first(leaving: &HashMap<Topic, Instant>) {
    match leaving.values().min() {
        Some(first) => tokio::time::sleep_until((*first).into()).await,
        None => std::future::pending().await,
    }
}

async fn subscribe(hub: &Hub, topics: Vec<Topic>) {
    if topics.is_empty() {
        return;
    }
    let (interruptions, asked) = (hub.subscriber.interruptions(), Instant::now());
    // Both before any state is read: what is sent later arrives.
    let ((confirmed, answer), ()) = join(hub.subscriber.subscribe(topics.clone()), hub.channels.join(&topics)).await;
    let mut failed = Vec::new();
    if let Err(error) = answer {
        let there: HashSet<Topic> = confirmed.iter().copied().collect();
        failed.extend(topics.iter().filter(|topic| !there.contains(topic)));
        tracing::warn!(%error, topics = failed.len(), "subscribing failed, trying again");
    }
    let topics = confirmed;
    // The place is read after the subscription is confirmed: what is published later arrives, what was before is state.
    let positions = join_all(topics.iter().map(|topic| async {
        if topic.is_logged() { hub.bus.log().position(*topic).await } else { Ok(Position::default()) }
    }))
    .await;
    for (topic, position) in topics.into_iter().zip(positions) {
        match (position, hub.gathering(topic)) {
            (Ok(position), Some(gathering)) => {
                gathering.begin(position, interruptions, asked);
                gathering.set_subscribed();
            }
            (Err(error), _) => {
                tracing::warn!(%error, %topic, "reading a position failed, trying again");
                failed.push(topic);
            }
            (Ok(_), None) => {}
        }
    }
    if !failed.is_empty() {
        retry(hub, failed).await;
    }
}

async fn retry(hub: &Hub, topics: Vec<Topic>) {
    tokio::time::sleep(RETRY).await;
    hub.changed.lock().extend(topics);
    hub.change.notify_one();
}

async fn unsubscribe(hub: &Hub, topics: Vec<Topic>) {
    // Removed first and only while empty: a seat that comes now makes a new gathering, which asks for its own
    // subscription, and this task serves it after the unsubscription below.
    let gone: Vec<_> = topics
        .into_iter()
        .filter(|topic| hub.topics.remove_if(topic, |_, gathering| gathering.retire_if_empty()).is_some())
        .collect();
    if gone.is_empty() {
        return;
    }
    hub.metrics.topics_open.sub(i64::try_from(gone.len()).unwrap_or(i64::MAX));
    let (unsubscribed, ()) = join(hub.subscriber.unsubscribe(&gone), hub.channels.leave(&gone)).await;
    if let Err(error) = unsubscribed {
        // Costs only what still arrives for topics without seats; a reconnect forgets them.
        tracing::warn!(%error, topics = gone.len(), "unsubscribing failed");
    }
}
