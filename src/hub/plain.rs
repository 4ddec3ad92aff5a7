//! What Django publishes plainly: on its way into the log, and from there to the seats.
//!
//! What is heard waits here for its place and is delivered when it comes back with one. What cannot get one is
//! delivered as it came: told once to who is here now, and to nobody later.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::Hub;
use crate::bus::{Adopter, Foreign, Payload, Plain};
use crate::domain::Topic;
use crate::lifecycle::Lifecycle;

/// How many events wait at most; what comes then is delivered as it is.
pub(super) const WAITING: usize = 8 * 1024;
/// How long it is tried to log an event.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long between two tries.
const RETRY: Duration = Duration::from_millis(200);

/// Hands an event on that was heard on a topic: into the queue for the log, or to the seats.
pub(super) fn hear(hub: &Hub, topic: Topic, foreign: &Foreign, payload: &Bytes, unbroken: Instant) {
    hub.metrics.bus_received_total.with_label_values(&["django"]).inc();
    let Some(gathering) = hub.gathering(topic) else { return };
    if foreign.lasting
        && topic.is_logged()
        && let Some(begun) = gathering.begun_at()
    {
        let body = payload.slice_ref(payload.trim_ascii());
        let plain = Plain { topic, body, heard: Instant::now(), since: begun.max(unbroken) };
        if hub.plain.try_send(plain).is_ok() {
            return;
        }
        hub.metrics.bus_dropped_total.inc();
        tracing::error!(%topic, "too much that Django published waits for the log: an event is told and not logged");
    }
    gathering.accept_foreign(foreign);
}

/// Logs what was heard, in its order, until the process stops delivering.
pub(super) async fn run(hub: Arc<Hub>, mut queue: mpsc::Receiver<Plain>, lifecycle: Lifecycle) {
    let mut adopter = Adopter::default();
    let logging = async {
        while let Some(plain) = queue.recv().await {
            log(&hub, &mut adopter, &plain).await;
        }
    };
    tokio::select! {
        () = lifecycle.aborted() => {}
        () = logging => {}
    }
}

async fn log(hub: &Hub, adopter: &mut Adopter, plain: &Plain) {
    let topic = plain.topic;
    while let Err(error) = adopter.adopt(hub.bus.log(), plain).await {
        hub.metrics.bus_publish_failures_total.inc();
        if plain.heard.elapsed() >= PATIENCE {
            tracing::error!(%topic, %error, "what Django published could not be logged: it is told and not logged");
            if let (Some(gathering), Ok(Payload::Foreign(foreign))) =
                (hub.gathering(topic), Payload::decode(&plain.body))
            {
                gathering.accept_foreign(&foreign);
            }
            return;
        }
        tokio::time::sleep(RETRY).await;
    }
}
