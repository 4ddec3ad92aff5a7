//! In which groups this instance is, kept equal to which it wants to be in, whatever becomes of the layer's Redis.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Mutex as Turn;

use super::core::Sent;
use super::{Backend, LayerError};
use crate::domain::Topic;
use crate::lifecycle::Lifecycle;
use crate::telemetry::Metrics;

/// How often the lease is renewed, and what is missing is made up for.
const ROUND: Duration = Duration::from_secs(5);
/// How often all memberships are said again, which otherwise end after a day.
const AGAIN: Duration = Duration::from_secs(3_600);
/// How long those who enter wait for a membership.
const PATIENCE: Duration = Duration::from_millis(500);
/// How many groups are joined or left at once.
const BATCH: usize = 500;

/// The memberships.
pub(super) struct Members {
    backend: Backend,
    /// The topics wanted, and whether their groups were joined.
    wanted: Mutex<HashMap<Topic, bool>>,
    /// The layer's Redis answered the last time.
    healthy: AtomicBool,
    /// One at a time joins and leaves, so that the order in Redis is the order here.
    turn: Turn<()>,
    metrics: Arc<Metrics>,
}

impl Members {
    pub(super) fn new(backend: Backend, metrics: Arc<Metrics>) -> Self {
        let healthy = AtomicBool::new(false);
        Self { backend, wanted: Mutex::default(), healthy, turn: Turn::new(()), metrics }
    }

    pub(super) fn backend(&self) -> &Backend {
        &self.backend
    }

    /// While the layer's Redis is away nobody waits for it.
    pub(super) async fn join(&self, topics: &[Topic]) {
        let topics: Vec<_> = topics.iter().copied().filter(|topic| super::message::handler(*topic).is_some()).collect();
        if topics.is_empty() {
            return;
        }
        self.wanted.lock().extend(topics.iter().map(|topic| (*topic, false)));
        if self.healthy.load(Ordering::Acquire) && tokio::time::timeout(PATIENCE, self.add(&topics)).await.is_err() {
            self.healthy.store(false, Ordering::Release);
        }
    }

    pub(super) async fn leave(&self, topics: &[Topic]) {
        let topics: Vec<_> = {
            let mut wanted = self.wanted.lock();
            let left = topics.iter().copied().filter(|topic| wanted.remove(topic).is_some()).collect();
            self.count(&wanted);
            left
        };
        if topics.is_empty() || !self.healthy.load(Ordering::Acquire) {
            return; // what is left in Redis ends with the lease, or with the day
        }
        let leaving = async {
            let _turn = self.turn.lock().await;
            for batch in topics.chunks(BATCH) {
                if let Err(error) = self.backend.leave(batch).await {
                    tracing::debug!(%error, groups = batch.len(), "groups of the channel layer were not left");
                }
            }
        };
        let _ = tokio::time::timeout(PATIENCE, leaving).await;
    }

    /// Joins the groups of those topics that are still wanted.
    async fn add(&self, topics: &[Topic]) {
        for batch in topics.chunks(BATCH) {
            let _turn = self.turn.lock().await;
            let batch: Vec<_> = {
                let wanted = self.wanted.lock();
                batch.iter().copied().filter(|topic| wanted.contains_key(topic)).collect()
            };
            match self.backend.join(&batch).await {
                Ok(()) => {
                    let mut wanted = self.wanted.lock();
                    for topic in &batch {
                        if let Some(joined) = wanted.get_mut(topic) {
                            *joined = true;
                        }
                    }
                    self.count(&wanted);
                }
                Err(error) => return self.failed(&error),
            }
        }
    }

    fn count(&self, wanted: &HashMap<Topic, bool>) {
        let joined = wanted.values().filter(|joined| **joined).count();
        self.metrics.channels_groups.set(i64::try_from(joined).unwrap_or(i64::MAX));
    }

    fn failed(&self, error: &LayerError) {
        self.metrics.redis_failures_total.with_label_values(&["channels"]).inc();
        if self.healthy.swap(false, Ordering::AcqRel) {
            tracing::warn!(%error, "the channel layer's Redis does not answer");
        }
    }

    /// Renews the lease and joins what is wanted and not joined; everything, when the lease had ended.
    pub(super) async fn renew(&self) {
        match self.backend.renew().await {
            Ok(held) => {
                if !held {
                    self.wanted.lock().values_mut().for_each(|joined| *joined = false);
                }
                self.healthy.store(true, Ordering::Release);
                let missing: Vec<_> = {
                    let wanted = self.wanted.lock();
                    wanted.iter().filter(|(_, joined)| !**joined).map(|(topic, _)| *topic).collect()
                };
                if !missing.is_empty() {
                    self.add(&missing).await;
                }
            }
            Err(error) => self.failed(&error),
        }
    }
}

/// Keeps the memberships until the process stops delivering, and ends them then.
pub(super) async fn keep(members: Arc<Members>, lifecycle: Lifecycle) {
    let mut said = Instant::now();
    loop {
        tokio::select! {
            () = lifecycle.aborted() => break,
            () = tokio::time::sleep(ROUND) => {}
        }
        if said.elapsed() >= AGAIN {
            said = Instant::now();
            members.wanted.lock().values_mut().for_each(|joined| *joined = false);
        }
        tokio::select! {
            () = lifecycle.aborted() => break,
            () = members.renew() => {}
        }
    }
    if let Ok(Err(error)) = tokio::time::timeout(PATIENCE, members.backend.end()).await {
        tracing::debug!(%error, "the channel layer was not left in order: others will clean up");
    }
}

impl Backend {
    async fn join(&self, topics: &[Topic]) -> Result<(), LayerError> {
        match self {
            Self::Core(core) => core.join(topics).await,
            Self::PubSub(pubsub) => pubsub.join(topics).await,
        }
    }

    async fn leave(&self, topics: &[Topic]) -> Result<(), LayerError> {
        match self {
            Self::Core(core) => core.leave(topics).await,
            Self::PubSub(pubsub) => pubsub.leave(topics).await,
        }
    }

    async fn renew(&self) -> Result<bool, LayerError> {
        match self {
            Self::Core(core) => core.renew().await,
            Self::PubSub(pubsub) => pubsub.renew().await,
        }
    }

    async fn end(&self) -> Result<(), LayerError> {
        match self {
            Self::Core(core) => core.end().await,
            // Subscriptions end with the connection.
            Self::PubSub(_) => Ok(()),
        }
    }

    pub(super) async fn look(&self, topics: &[Topic]) -> Result<Vec<bool>, LayerError> {
        match self {
            Self::Core(core) => core.look(topics).await,
            Self::PubSub(pubsub) => pubsub.look(topics).await,
        }
    }

    pub(super) async fn send(&self, topic: Topic, mark: &str, events: &[&[u8]]) -> Result<Sent, LayerError> {
        match self {
            Self::Core(core) => core.send(topic, mark, events).await,
            Self::PubSub(pubsub) => pubsub.send(topic, mark, events).await,
        }
    }
}
