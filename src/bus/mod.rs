//! Between instances, and from Django, over the realtime Redis.
//!
//! Owns the envelope, the topics' logs and offsets, and the one subscription of this instance. Knows no seat and no
//! socket: what arrives goes into bounded queues that the hub empties.

pub mod check;
pub mod control;
pub mod envelope;
pub mod log;
pub mod subscriber;

use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::io::tcp::TcpSettings;
use redis::{Client, IntoConnectionInfo, ProtocolVersion};

pub use control::Control;
pub use envelope::{Envelope, Foreign, Kind, Malformed, Payload};
pub use log::{Log, Position};
pub use subscriber::{Inbound, Inbox, Subscriber, Subscription};

use crate::telemetry::Metrics;

/// How long one command may take before it counts as failed.
pub const COMMAND_DEADLINE: Duration = Duration::from_secs(2);

/// A failure to talk to the realtime Redis.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The URL cannot be used; the text says why and holds no password.
    #[error("the realtime Redis URL cannot be used: {0}")]
    Url(String),
    /// No answer, or an error, while doing what is named.
    #[error("the realtime Redis failed while {doing}: {source}")]
    Redis { doing: &'static str, source: redis::RedisError },
    /// No answer within the deadline, while doing what is named.
    #[error("the realtime Redis did not answer in time while {0}")]
    Late(&'static str),
    /// No answer at start within the deadline.
    #[error("the realtime Redis did not answer within {0:?}")]
    NoAnswer(Duration),
}

impl BusError {
    /// Gives a call its deadline: while the connection is being made again, the client would wait without end.
    async fn within<T>(doing: &'static str, call: impl Future<Output = redis::RedisResult<T>>) -> Result<T, Self> {
        let answer = tokio::time::timeout(COMMAND_DEADLINE, call).await.map_err(|_| Self::Late(doing))?;
        answer.map_err(Self::redis(doing))
    }

    pub(crate) fn redis(doing: &'static str) -> impl FnOnce(redis::RedisError) -> Self {
        move |source| Self::Redis { doing, source }
    }
}

/// The realtime Redis: one pipelined connection for commands, one for the subscription.
#[derive(Clone)]
pub struct Bus {
    client: Client,
    connection: ConnectionManager,
    log: Log,
}

impl Bus {
    /// Connects for commands.
    ///
    /// # Errors
    /// When the URL cannot be used, or Redis does not answer within three seconds.
    pub async fn connect(url: &str, metrics: Arc<Metrics>) -> Result<Self, BusError> {
        let info = url.into_connection_info().map_err(|error| BusError::Url(error.to_string()))?;
        let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let info = info.set_redis_settings(redis).set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let client = Client::open(info).map_err(|error| BusError::Url(error.to_string()))?;
        let deadline = Duration::from_secs(3);
        // The connection below tries again without end and would not say why; this one tells what is wrong.
        tokio::time::timeout(deadline, client.get_multiplexed_async_connection())
            .await
            .map_err(|_| BusError::NoAnswer(deadline))?
            .map_err(BusError::redis("connecting"))?;
        let connecting = ConnectionManager::new_with_config(client.clone(), Self::settings());
        let connection = tokio::time::timeout(deadline, connecting)
            .await
            .map_err(|_| BusError::NoAnswer(deadline))?
            .map_err(BusError::redis("connecting"))?;
        let log = Log::new(connection.clone(), metrics);
        Ok(Self { client, connection, log })
    }

    /// Retries without end, one second apart at most, so that an outage of any length heals by itself.
    fn settings() -> ConnectionManagerConfig {
        ConnectionManagerConfig::new()
            .set_number_of_retries(usize::MAX)
            .set_min_delay(Duration::from_millis(50))
            .set_max_delay(Duration::from_secs(1))
            .set_connection_timeout(Some(Duration::from_secs(2)))
            .set_response_timeout(Some(COMMAND_DEADLINE))
    }

    /// The command connection: cheap to clone, pipelined, for the other modules that keep state in Redis.
    #[must_use]
    pub fn connection(&self) -> ConnectionManager {
        self.connection.clone()
    }

    /// The topics' logs.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }
}
