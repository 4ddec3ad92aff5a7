//! The one subscription of this instance: wants channels, and has them again after every kind of loss.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use parking_lot::Mutex;
use redis::aio::ConnectionManager;
use redis::cluster_async::ClusterConnection;
use redis::{PushInfo, PushKind, RedisError, RedisResult, Value};
use tokio::sync::Notify;

use super::dialer::Generation;
use super::{COMMAND_DEADLINE, Connection, Dialer, Way};

/// Takes pushes. Runs inside the connection's task and must never wait.
pub type Pushes = Box<dyn Fn(PushInfo) + Send + Sync>;

/// Channels that are asked for at once.
const AT_ONCE: usize = 512;

/// Channels that Redis has not confirmed, and why.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Unconfirmed {
    /// In a Cluster, those of the shards that do not answer; else all.
    pub channels: HashSet<String>,
    /// What was said of the first of them.
    #[source]
    pub error: RedisError,
}

impl From<Unconfirmed> for RedisError {
    fn from(unconfirmed: Unconfirmed) -> Self {
        unconfirmed.error
    }
}

/// What stands between the connections and the one who takes their pushes.
pub(super) struct Gate {
    pushes: Pushes,
    generation: Generation,
    wanted: Mutex<HashSet<String>>,
    /// Channels that are wanted as ordinary ones too.
    plain: Mutex<HashSet<String>>,
    /// Channels that a Cluster took away because their slot moved; nobody else says so, and they would stay silent.
    taken: Mutex<HashSet<String>>,
    /// A connection was lost. In a Cluster the client tries once to have its channels again; that may be too early.
    lost: AtomicBool,
    pub(super) wake: Notify,
}

impl Gate {
    pub(super) fn new(pushes: Pushes) -> Arc<Self> {
        Arc::new(Self {
            pushes,
            generation: Generation::default(),
            wanted: Mutex::default(),
            plain: Mutex::default(),
            taken: Mutex::default(),
            lost: AtomicBool::new(false),
            wake: Notify::new(),
        })
    }

    /// Passes on what a connection pushed, unless another has taken its place.
    pub(super) fn pass(&self, generation: u64, push: PushInfo) {
        if !self.generation.is_current(generation) {
            return;
        }
        if push.kind == PushKind::Disconnection {
            self.lost.store(true, Ordering::Release);
            self.wake.notify_one();
        }
        if push.kind == PushKind::SUnsubscribe
            && let Some(Value::BulkString(channel)) = push.data.first()
            && let Ok(channel) = std::str::from_utf8(channel)
            && self.wanted.lock().contains(channel)
        {
            self.taken.lock().insert(channel.to_owned());
            self.wake.notify_one();
        }
        (self.pushes)(push);
    }
}

/// The subscription. Cloning is cheap and gives the same one.
#[derive(Clone)]
pub struct Listener {
    way: Way,
    pub(super) gate: Arc<Gate>,
    /// One change at a time, so that a connection that is made again has all channels.
    changing: Arc<tokio::sync::Mutex<()>>,
}

impl Listener {
    pub(super) fn new(way: Way, gate: Arc<Gate>) -> Self {
        Self { way, gate, changing: Arc::default() }
    }

    /// Subscribes to channels; all are confirmed when this returns. In a Cluster, to the sharded channels.
    ///
    /// # Errors
    /// When Redis does not confirm, with the channels; in a Cluster the others are subscribed to all the same.
    pub async fn subscribe(&self, channels: &[String]) -> Result<(), Unconfirmed> {
        let _turn = self.changing.lock().await;
        self.gate.wanted.lock().extend(channels.iter().cloned());
        self.ask_for(channels).await
    }

    async fn ask_for(&self, channels: &[String]) -> Result<(), Unconfirmed> {
        match &self.way {
            Way::Server(current) => {
                let asked = ConnectionManager::clone(&current.load()).subscribe(channels).await;
                asked.map_err(|error| Unconfirmed { channels: channels.iter().cloned().collect(), error })
            }
            Way::Cluster(current) => ask_shards_for(&current.load_full(), channels).await,
        }
    }

    /// Subscribes to a channel of which nobody knows whether it is published to as a sharded one: to both, in a Cluster.
    ///
    /// # Errors
    /// When Redis does not confirm.
    pub async fn subscribe_both(&self, channel: &str) -> RedisResult<()> {
        if let Way::Cluster(current) = &self.way {
            self.gate.plain.lock().insert(channel.to_owned());
            in_time(ClusterConnection::clone(&current.load()).subscribe(channel)).await?;
        }
        Ok(self.subscribe(&[channel.to_owned()]).await?)
    }

    /// Unsubscribes from channels.
    ///
    /// # Errors
    /// When Redis does not confirm.
    pub async fn unsubscribe(&self, channels: &[String]) -> RedisResult<()> {
        let _turn = self.changing.lock().await;
        {
            let mut wanted = self.gate.wanted.lock();
            channels.iter().for_each(|channel| _ = wanted.remove(channel));
        }
        match &self.way {
            Way::Server(current) => ConnectionManager::clone(&current.load()).unsubscribe(channels).await,
            Way::Cluster(current) => {
                for channels in channels.chunks(AT_ONCE) {
                    let asked = channels.iter().map(|channel| {
                        let mut connection = ClusterConnection::clone(&current.load());
                        async move { in_time(connection.sunsubscribe(channel)).await }
                    });
                    join_all(asked).await.into_iter().fold(Ok(()), Result::and)?;
                }
                Ok(())
            }
        }
    }

    /// Whether one connection, to a Cluster of them, may be of no use while others work.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.way, Way::Cluster(_))
    }

    /// The connection as one for commands: a subscription of RESP3 takes them too.
    pub(super) fn connection(&self) -> Connection {
        Connection::new(self.way.clone())
    }

    /// Subscribes to all that is wanted once more, on another connection or, in a Cluster, on those there are; says
    /// whether that worked.
    pub async fn renew(&self, dialer: &Dialer) -> bool {
        if self.is_cluster() { self.have_all_again().await.is_ok() } else { self.dial_again(dialer).await }
    }

    /// Makes the connection again and subscribes to all that is wanted; says whether that worked. What comes twice
    /// meanwhile is left to who takes the pushes, and so is what did not come: every channel is confirmed anew.
    pub(super) async fn dial_again(&self, dialer: &Dialer) -> bool {
        match &self.way {
            Way::Server(current) => {
                let _turn = self.changing.lock().await;
                let generation = self.gate.generation.next();
                let Ok(mut connection) = dialer.listen_again(&self.gate, generation).await else { return false };
                for channels in self.wanted().chunks(AT_ONCE) {
                    if connection.subscribe(channels).await.is_err() {
                        return false;
                    }
                }
                self.gate.generation.turn_to(generation);
                current.store(Arc::new(connection));
            }
            Way::Cluster(current) => {
                // Shards that answer are subscribed to meanwhile. Nobody else does this to a Cluster.
                let generation = self.gate.generation.next();
                let made = dialer.cluster_again(Some((&self.gate, generation))).await;
                let Ok(connection) = made else { return false };
                let _turn = self.changing.lock().await;
                if self.ask_all_for(&connection).await.is_err() {
                    return false;
                }
                self.gate.generation.turn_to(generation);
                current.store(Arc::new(connection));
            }
        }
        true
    }

    fn wanted(&self) -> Vec<String> {
        self.gate.wanted.lock().iter().cloned().collect()
    }

    /// Takes back what a Cluster took away, and after the loss of a connection everything: nobody says which channels
    /// it carried, and subscribing twice does no harm.
    pub(super) async fn take_back(&self) -> RedisResult<()> {
        if self.gate.lost.swap(false, Ordering::AcqRel) {
            let result = self.have_all_again().await;
            if result.is_err() {
                self.gate.lost.store(true, Ordering::Release);
                return result;
            }
        }
        let _turn = self.changing.lock().await;
        let taken: Vec<String> = std::mem::take(&mut *self.gate.taken.lock()).into_iter().collect();
        let wanted: Vec<String> = {
            let wanted = self.gate.wanted.lock();
            taken.into_iter().filter(|channel| wanted.contains(channel)).collect()
        };
        if wanted.is_empty() {
            return Ok(());
        }
        tracing::info!(channels = wanted.len(), "the Cluster moved channels: subscribing to them again");
        let result = self.ask_for(&wanted).await;
        result.map_err(|unconfirmed| {
            self.gate.taken.lock().extend(unconfirmed.channels);
            unconfirmed.error
        })
    }

    async fn have_all_again(&self) -> RedisResult<()> {
        let _turn = self.changing.lock().await;
        match &self.way {
            Way::Server(_) => Ok(self.ask_for(&self.wanted()).await?),
            Way::Cluster(current) => self.ask_all_for(&current.load_full()).await,
        }
    }

    async fn ask_all_for(&self, connection: &ClusterConnection) -> RedisResult<()> {
        let plain: Vec<String> = self.gate.plain.lock().iter().cloned().collect();
        for channel in plain {
            in_time(connection.clone().subscribe(channel)).await?;
        }
        Ok(ask_shards_for(connection, &self.wanted()).await?)
    }
}

/// Not given up at the first failure: the other shards work.
async fn ask_shards_for(connection: &ClusterConnection, channels: &[String]) -> Result<(), Unconfirmed> {
    let (mut failed, mut first) = (HashSet::new(), None);
    for channels in channels.chunks(AT_ONCE) {
        let asked = channels.iter().map(|channel| {
            let mut connection = connection.clone();
            async move { in_time(connection.ssubscribe(channel)).await.map_err(|error| (channel.clone(), error)) }
        });
        for (channel, error) in join_all(asked).await.into_iter().filter_map(Result::err) {
            failed.insert(channel);
            first.get_or_insert(error);
        }
    }
    first.map_or(Ok(()), |error| Err(Unconfirmed { channels: failed, error }))
}

/// A node of a Cluster that does not answer is asked again and again by the client: this ends it.
async fn in_time(asked: impl Future<Output = RedisResult<()>>) -> RedisResult<()> {
    let late = |_| RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
    tokio::time::timeout(COMMAND_DEADLINE, asked).await.map_err(late)?
}
