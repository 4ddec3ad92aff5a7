//! Between instances, and from Django, over the realtime Redis.
//!
//! Owns the envelope, the topics' logs and offsets, and the one subscription of this instance. Knows no seat and no
//! socket: what arrives goes into bounded queues that the hub empties.

pub mod adopt;
pub mod channels;
pub mod check;
pub mod control;
pub mod envelope;
pub mod log;
pub mod orders;
pub mod roster;
pub mod subscriber;
pub mod tasks;

use std::sync::Arc;

use futures_util::future::BoxFuture;

pub use adopt::{Adopter, Plain};
pub use channels::ChannelLayer;
pub use control::Control;
pub use envelope::{Envelope, Foreign, Kind, Malformed, Payload};
pub use log::{Log, Note, Position, Trace};
pub use orders::Orders;
pub use roster::{Known, Roster};
pub use subscriber::{Door, Inbound, Inbox, Subscriber, Subscription};
pub use tasks::TaskQueue;

use crate::config::Deployment;
use crate::domain::Topic;
use crate::lifecycle::Lifecycle;
use crate::realtime::{self, COMMAND_DEADLINE, Connection, DialError, Dialer};
use crate::telemetry::Metrics;
use crate::wire::event::Place;

/// Finds out what became of offsets that were taken and never published.
pub trait Mend: Send + Sync + 'static {
    /// Publishes at the offsets from `first` to `last` what was committed for them. With `give_up`, what was not is
    /// declared void, so that all instances agree. May be called again and again, by all at once.
    fn mend(&self, topic: Topic, first: Place, last: u64, give_up: bool) -> BoxFuture<'_, Result<(), BusError>>;

    /// Tells again what was published at the offsets from `first` to `last` and is in the log no more, one envelope for
    /// each; `None` when that cannot be told whole.
    fn retell(&self, topic: Topic, first: Place, last: u64) -> Retelling<'_>;
}

/// What was told again, if it could be.
pub type Retelling<'a> = BoxFuture<'a, Result<Option<Vec<Envelope>>, BusError>>;

/// A failure to talk to the realtime Redis.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// There is no connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// No answer, or an error, while doing what is named.
    #[error("the realtime Redis failed while {doing}: {source}")]
    Redis { doing: &'static str, source: redis::RedisError },
    /// No answer within the deadline, while doing what is named.
    #[error("the realtime Redis did not answer in time while {0}")]
    Late(&'static str),
    /// Postgres did not say what was published before; the text says why.
    #[error("what was published before cannot be told: {0}")]
    Past(String),
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
    dialer: Dialer,
    connection: Connection,
    log: Log,
}

impl Bus {
    /// Connects for commands.
    ///
    /// # Errors
    /// When the URL cannot be used, or Redis does not answer within three seconds.
    pub async fn connect(deployment: &Deployment, metrics: Arc<Metrics>) -> Result<Self, BusError> {
        let dialer = Dialer::new(deployment)?;
        let connection = dialer.connect().await?.counted(Arc::clone(&metrics));
        let log = Log::new(connection.clone(), metrics);
        Ok(Self { dialer, connection, log })
    }

    /// The command connection: cheap to clone, pipelined, for the other modules that keep state in Redis.
    #[must_use]
    pub fn connection(&self) -> Connection {
        self.connection.clone()
    }

    /// The topics' logs.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The tasks that wait to be handed over to Celery.
    #[must_use]
    pub fn tasks(&self) -> TaskQueue {
        TaskQueue::new(self.connection.clone())
    }

    /// Which instances there are.
    #[must_use]
    pub fn roster(&self) -> Roster {
        Roster::new(self.connection.clone())
    }

    /// Keeps the connections of use, wherever the server goes, until the process stops delivering.
    pub async fn keep(self, subscriber: Subscriber, lifecycle: Lifecycle) {
        realtime::keep(self.dialer, self.connection, subscriber.listener, lifecycle).await;
    }
}
