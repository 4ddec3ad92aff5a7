//! The one inbox of this process, emptied as fast as it fills: when 3,000 messages wait there, Django drops the next.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use redis::aio::ConnectionManager;

use super::message::{Message, Unreadable};
use super::{LayerError, Settings, connect};
use crate::bus::Door;
use crate::domain::Topic;
use crate::keyspace::channels as keys;
use crate::lifecycle::Lifecycle;
use crate::telemetry::Metrics;

/// How long one command waits for a message, in seconds.
const WAIT: u64 = 2;
/// How many messages are taken at once.
const BATCH: usize = 500;
/// How long between two tries while Redis is away.
const RETRY: Duration = Duration::from_millis(200);
/// How often dropped messages are told to the operator.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// The way of a message to the hub.
pub(super) struct Route {
    door: Door,
    metrics: Arc<Metrics>,
    /// When the operator was last told of a dropped message.
    told: Mutex<Option<Instant>>,
}

impl Route {
    pub(super) fn new(door: Door, metrics: Arc<Metrics>) -> Self {
        Self { door, metrics, told: Mutex::new(None) }
    }

    pub(super) fn pass(&self, topic: Topic, event: &Bytes) {
        self.metrics.channels_received_total.inc();
        self.door.message(topic, event.clone());
    }

    /// Counts a message that could not be read; one a minute gets a line in the log.
    pub(super) fn complain(&self, error: Unreadable) {
        self.metrics.channels_malformed_total.with_label_values(&[error.as_str()]).inc();
        let mut told = self.told.lock();
        if told.is_none_or(|told| told.elapsed() >= COMPLAIN_EVERY) {
            tracing::warn!(%error, "a message from the channel layer was dropped");
            *told = Some(Instant::now());
        }
    }
}

/// The inbox.
pub(super) struct Inbox {
    connection: ConnectionManager,
    key: String,
    client: String,
    route: Route,
}

impl Inbox {
    pub(super) fn new(
        settings: &Settings,
        client: &str,
        door: Door,
        metrics: Arc<Metrics>,
    ) -> Result<Self, LayerError> {
        // A connection of its own: a command that waits holds up those behind it.
        let connection = connect(&settings.url, Duration::from_secs(WAIT * 2), |config| config)?;
        let key = keys::inbox(&settings.prefix, client);
        Ok(Self { connection, key, client: client.to_owned(), route: Route::new(door, metrics) })
    }

    /// Empties the inbox until the process stops delivering.
    pub(super) async fn run(self, lifecycle: Lifecycle) {
        loop {
            let taken = tokio::select! {
                () = lifecycle.aborted() => return,
                taken = self.take() => taken,
            };
            match taken {
                Ok(members) => members.iter().for_each(|member| self.deliver(member)),
                Err(error) => {
                    tracing::debug!(%error, "the channel layer's inbox could not be read");
                    tokio::select! {
                        () = lifecycle.aborted() => return,
                        () = tokio::time::sleep(RETRY) => {}
                    }
                }
            }
        }
    }

    /// Waits for a message, and takes those behind it too. What was taken and whose answer is lost is lost.
    async fn take(&self) -> Result<Vec<Vec<u8>>, LayerError> {
        let mut connection = self.connection.clone();
        let mut wait = redis::cmd("BZPOPMIN");
        wait.arg(&self.key).arg(WAIT);
        let first: Option<(String, Vec<u8>, f64)> =
            wait.query_async(&mut connection).await.map_err(LayerError::redis("waiting for messages"))?;
        let Some((_, first, _)) = first else { return Ok(Vec::new()) };
        let mut members = vec![first];
        let mut rest = redis::cmd("ZPOPMIN");
        rest.arg(&self.key).arg(BATCH);
        // The first is here and must be delivered, whatever becomes of the others.
        if let Ok(more) = rest.query_async::<Vec<(Vec<u8>, f64)>>(&mut connection).await {
            members.extend(more.into_iter().map(|(member, _)| member));
        }
        Ok(members)
    }

    fn deliver(&self, member: &[u8]) {
        let read = Message::read_member(member).and_then(|message| {
            let topics = message.topics(&self.client)?;
            Ok((topics, Bytes::from(message.into_json()?)))
        });
        match read {
            Ok((topics, event)) => topics.into_iter().for_each(|topic| self.route.pass(topic, &event)),
            Err(error) => self.route.complain(error),
        }
    }
}
