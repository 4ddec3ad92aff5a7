//! Django's channel layer, both ways: what its code sends to the groups of rooms reaches our sockets, and events of ours
//! reach its consumers.
//!
//! Inward, this instance is a member of the groups of those topics that it has seats in; each instance is, and each
//! delivers to its own seats, so an event comes once to everybody. It goes through the same door as what Django
//! publishes. Outward, only the instance that published an event sends it on, and only
//! where somebody else than gateways is in the group. The layer's Redis may be away: both ways stop then, and nothing
//! else does. Nothing here may delay our own fan-out.

mod consumers;
mod core;
mod inbox;
mod members;
pub mod message;
mod pubsub;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::io::tcp::TcpSettings;
use redis::{Client, ErrorKind, IntoConnectionInfo, ProtocolVersion, ServerErrorKind};
use tokio::sync::mpsc;

use super::Door;
use crate::domain::{InstanceName, Topic};
use crate::lifecycle::Lifecycle;
use crate::telemetry::Metrics;
use consumers::Offer;
use core::Core;
use members::Members;
use pubsub::PubSub;

/// How long one command may take before it counts as failed.
const DEADLINE: Duration = Duration::from_secs(2);

/// A failure to talk to the layer's Redis.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The URL cannot be used; the text says why and holds no password.
    #[error("the channel layer's URL cannot be used: {0}")]
    Url(String),
    /// An error while doing what is named.
    #[error("the channel layer's Redis failed while {doing}: {source}")]
    Redis { doing: &'static str, source: redis::RedisError },
    /// No answer within the deadline, while doing what is named.
    #[error("the channel layer's Redis did not answer in time while {0}")]
    Late(&'static str),
}

impl LayerError {
    /// Gives a call its deadline: while the connection is being made again, the client would wait without end.
    async fn within<T>(doing: &'static str, call: impl Future<Output = redis::RedisResult<T>>) -> Result<T, Self> {
        let answer = tokio::time::timeout(DEADLINE, call).await.map_err(|_| Self::Late(doing))?;
        answer.map_err(Self::redis(doing))
    }

    fn redis(doing: &'static str) -> impl FnOnce(redis::RedisError) -> Self {
        move |source| Self::Redis { doing, source }
    }

    /// Says whether the same call may work later: Redis was not reached, as opposed to having refused.
    fn is_passing(&self) -> bool {
        match self {
            Self::Url(_) => false,
            Self::Late(_) => true,
            Self::Redis { source, .. } => {
                let loading = ErrorKind::Server(ServerErrorKind::BusyLoading);
                source.is_io_error()
                    || source.is_connection_dropped()
                    || source.is_timeout()
                    || source.kind() == loading
            }
        }
    }
}

/// Which of Django's two layers is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `channels_redis.core.RedisChannelLayer`.
    Core,
    /// `channels_redis.pubsub.RedisPubSubChannelLayer`.
    PubSub,
}

/// How the layer is set up in Django's settings.
#[derive(Clone, Debug)]
pub struct Settings {
    pub kind: Kind,
    pub url: String,
    pub prefix: String,
    /// How many messages an inbox of a Django process holds.
    pub capacity: u32,
}

/// This instance's part in the channel layer. Cloning is cheap and gives the same one.
#[derive(Clone)]
pub struct ChannelLayer(Option<Arc<Inner>>);

struct Inner {
    members: Arc<Members>,
    offers: mpsc::Sender<Offer>,
    metrics: Arc<Metrics>,
}

/// What the two kinds of layer do differently.
pub(super) enum Backend {
    Core(Core),
    PubSub(PubSub),
}

impl ChannelLayer {
    /// No layer: nothing comes and nothing goes.
    #[must_use]
    pub fn off() -> Self {
        Self(None)
    }

    /// Takes part in a layer. What comes goes through the door. Waits a moment for the layer's Redis, and no longer.
    ///
    /// # Errors
    /// When the URL cannot be used.
    pub async fn start(
        settings: &Settings,
        instance: &InstanceName,
        door: Door,
        lifecycle: &Lifecycle,
        metrics: Arc<Metrics>,
    ) -> Result<Self, LayerError> {
        let backend = match settings.kind {
            Kind::Core => {
                let core = Core::new(settings, instance)?;
                let inbox = inbox::Inbox::new(settings, core.client(), door, Arc::clone(&metrics))?;
                lifecycle.spawn_service("channel inbox", inbox.run(lifecycle.clone()));
                Backend::Core(core)
            }
            Kind::PubSub => Backend::PubSub(PubSub::new(settings, door, Arc::clone(&metrics))?),
        };
        let members = Arc::new(Members::new(backend, Arc::clone(&metrics)));
        members.renew().await;
        let (offers, queue) = mpsc::channel(consumers::QUEUE);
        lifecycle.spawn_service("channel members", members::keep(Arc::clone(&members), lifecycle.clone()));
        let sender = consumers::Sender::new(Arc::clone(&members), Arc::clone(&metrics));
        lifecycle.spawn_service("channel consumers", sender.run(queue, lifecycle.clone()));
        Ok(Self(Some(Arc::new(Inner { members, offers, metrics }))))
    }

    /// Becomes a member of the groups of these topics; those that have none are passed over. Returns when this is so, or
    /// soon when the layer's Redis does not answer: it is made up for then.
    pub async fn join(&self, topics: &[Topic]) {
        if let Some(inner) = &self.0 {
            inner.members.join(topics).await;
        }
    }

    /// Leaves the groups of these topics.
    pub async fn leave(&self, topics: &[Topic]) {
        if let Some(inner) = &self.0 {
            inner.members.leave(topics).await;
        }
    }

    /// Hands an event of ours to Django's consumers in the topic's group, if there are any. Never waits: when 8,192
    /// events wait already, this one is dropped and counted.
    pub fn tell(&self, topic: Topic, event: &Bytes) {
        let Some(inner) = &self.0 else { return };
        if message::handler(topic).is_some() && inner.offers.try_send(Offer::new(topic, event.clone())).is_err() {
            inner.metrics.channels_dropped_total.with_label_values(&["queue"]).inc();
        }
    }
}

/// A connection to the layer's Redis that is made when it is first needed and comes back by itself.
fn connect(
    url: &str,
    answer_within: Duration,
    adjust: impl FnOnce(ConnectionManagerConfig) -> ConnectionManagerConfig,
) -> Result<ConnectionManager, LayerError> {
    let info = url.into_connection_info().map_err(|error| LayerError::Url(error.to_string()))?;
    let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    let info = info.set_redis_settings(redis).set_tcp_settings(TcpSettings::default().set_nodelay(true));
    let client = Client::open(info).map_err(|error| LayerError::Url(error.to_string()))?;
    // Retries without end, a second apart at most, so that an outage of any length heals by itself.
    let config = ConnectionManagerConfig::new()
        .set_number_of_retries(usize::MAX)
        .set_min_delay(Duration::from_millis(50))
        .set_max_delay(Duration::from_secs(1))
        .set_connection_timeout(Some(DEADLINE))
        .set_response_timeout(Some(answer_within));
    ConnectionManager::new_lazy_with_config(client, adjust(config)).map_err(LayerError::redis("preparing a connection"))
}

fn connect_for_commands(url: &str) -> Result<ConnectionManager, LayerError> {
    connect(url, DEADLINE, |config| config)
}
