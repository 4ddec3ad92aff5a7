//! Makes connections to the realtime Redis, as its setup wants it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{AsyncConnectionConfig, Client, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, PushInfo, RedisError};
use url::Url;

use super::listener::Gate;
use super::sentinel::{Place, Sentinel};
use super::{COMMAND_DEADLINE, Connection, Listener, Pushes, Way};
use crate::config::{Deployment, Secret};
use crate::keyspace;

/// How long connecting may take at start.
const START: Duration = Duration::from_secs(3);
/// How long connecting may take later.
const CONNECT: Duration = Duration::from_secs(2);
/// How long connecting to a Cluster may take later: some of its nodes may say nothing.
const CONNECT_ALL: Duration = Duration::from_secs(5);
/// How long what was sent may stay without an answer of the other side's kernel.
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The URL cannot be used; the text says why and holds no password.
    #[error("the realtime Redis URL cannot be used: {0}")]
    Url(String),
    /// No Sentinel answers, or none knows the service.
    #[error("no Sentinel says where the service \"{0}\" is")]
    Unknown(String),
    /// No answer within the deadline.
    #[error("the realtime Redis did not answer within {0:?}")]
    NoAnswer(Duration),
    /// Redis refused, or could not be reached.
    #[error("the realtime Redis failed while connecting: {0}")]
    Redis(#[source] RedisError),
}

impl DialError {
    pub(super) fn url(error: impl std::fmt::Display) -> Self {
        Self::Url(error.to_string())
    }
}

/// Knows the setup and makes connections. Cloning is cheap.
#[derive(Clone)]
pub struct Dialer(Arc<Inner>);

struct Inner {
    setup: Setup,
    /// The server that the newest connections were made to, when Sentinels name it.
    served: Mutex<Option<Place>>,
}

enum Setup {
    Server(Client),
    Sentinel { sentinel: Sentinel, server: Secret },
    Cluster(Vec<ConnectionInfo>),
}

impl Dialer {
    /// A dialer for a setup. From now on, ids in the names of keys are hash tags if it is a Cluster.
    ///
    /// # Errors
    /// When a URL cannot be used.
    pub fn new(deployment: &Deployment) -> Result<Self, DialError> {
        let setup = match deployment {
            Deployment::Server(url) => Setup::Server(client(url.expose())?),
            Deployment::Sentinel { sentinels, service, server } => {
                Setup::Sentinel { sentinel: Sentinel::new(sentinels, service)?, server: server.clone() }
            }
            Deployment::Cluster(nodes) => {
                keyspace::tag_ids();
                let nodes = nodes.iter().map(|node| node.expose().into_connection_info().map_err(DialError::url));
                Setup::Cluster(nodes.collect::<Result<_, _>>()?)
            }
        };
        Ok(Self(Arc::new(Inner { setup, served: Mutex::default() })))
    }

    /// Connects for commands.
    ///
    /// # Errors
    /// When Redis does not answer within three seconds.
    pub async fn connect(&self) -> Result<Connection, DialError> {
        let connecting = async {
            if let Setup::Cluster(nodes) = &self.0.setup {
                return Ok(Connection::new(Way::cluster(cluster(nodes, None).await?)));
            }
            // The connection below tries again without end and would not say why; this one tells what is wrong.
            let client = self.find().await?;
            client.get_multiplexed_async_connection().await.map_err(DialError::Redis)?;
            Ok(Connection::new(Way::server(manager(client, settings()).await?)))
        };
        tokio::time::timeout(START, connecting).await.map_err(|_| DialError::NoAnswer(START))?
    }

    /// Connects for a subscription whose pushes go to `pushes`, which must not wait.
    ///
    /// # Errors
    /// When Redis does not answer within three seconds.
    pub async fn listen(&self, pushes: Pushes) -> Result<Listener, DialError> {
        let gate = Gate::new(pushes);
        let connecting = async {
            let way = match &self.0.setup {
                Setup::Cluster(nodes) => Way::cluster(cluster(nodes, Some((&gate, 0))).await?),
                _ => Way::server(manager(self.find().await?, listening(&gate, 0)).await?),
            };
            Ok(Listener::new(way, gate))
        };
        tokio::time::timeout(START, connecting).await.map_err(|_| DialError::NoAnswer(START))?
    }

    /// A plain connection to one server, which is the only one or any node: for looking at it.
    ///
    /// # Errors
    /// When it does not answer in time.
    pub async fn look(&self) -> Result<redis::aio::MultiplexedConnection, DialError> {
        let client = match &self.0.setup {
            Setup::Cluster(nodes) => {
                let first = nodes.first().cloned().ok_or_else(|| DialError::url("names no node"))?;
                Client::open(first).map_err(DialError::url)?
            }
            _ => self.find().await?,
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(START))
            .set_response_timeout(Some(COMMAND_DEADLINE));
        client.get_multiplexed_async_connection_with_config(&config).await.map_err(DialError::Redis)
    }

    /// Whether the server may become another one.
    pub(super) fn may_move(&self) -> bool {
        matches!(self.0.setup, Setup::Sentinel { .. })
    }

    /// Where Sentinels say that the server is, if that is not where the connections go.
    pub(super) async fn moved(&self) -> Option<Place> {
        let Setup::Sentinel { sentinel, .. } = &self.0.setup else { return None };
        let place = sentinel.find().await.ok()?;
        (self.0.served.lock().as_ref() != Some(&place)).then_some(place)
    }

    /// Takes the connections for such to another server than the Sentinels name, so that [`Dialer::moved`] says so.
    pub(super) fn forget(&self) {
        *self.0.served.lock() = None;
    }

    /// A client for the one server, wherever it is now.
    async fn find(&self) -> Result<Client, DialError> {
        match &self.0.setup {
            Setup::Server(client) => Ok(client.clone()),
            Setup::Sentinel { sentinel, server } => {
                let place = sentinel.find().await?;
                let client = client(&at(server, &place)?)?;
                *self.0.served.lock() = Some(place);
                Ok(client)
            }
            Setup::Cluster(_) => Err(DialError::url("a Cluster is no one server")),
        }
    }

    /// A new connection for commands, in place of one that is of no use. Answers only if it works.
    pub(super) async fn again(&self) -> Result<ConnectionManager, DialError> {
        self.made_again(settings()).await
    }

    /// A new connection for a subscription, whose pushes count from this generation on.
    pub(super) async fn listen_again(&self, gate: &Arc<Gate>, generation: u64) -> Result<ConnectionManager, DialError> {
        self.made_again(listening(gate, generation)).await
    }

    /// New connections to a Cluster, in place of those of which one is of no use; the pushes of a subscription's count
    /// from a generation on. Answers only if all its masters do.
    pub(super) async fn cluster_again(
        &self,
        pushes: Option<(&Arc<Gate>, u64)>,
    ) -> Result<ClusterConnection, DialError> {
        let Setup::Cluster(nodes) = &self.0.setup else { return Err(DialError::url("is no Cluster")) };
        let connecting = async {
            let mut connection = cluster(nodes, pushes).await?;
            redis::cmd("PING").exec_async(&mut connection).await.map_err(DialError::Redis)?;
            Ok(connection)
        };
        tokio::time::timeout(CONNECT_ALL, connecting).await.map_err(|_| DialError::NoAnswer(CONNECT_ALL))?
    }

    async fn made_again(&self, settings: ConnectionManagerConfig) -> Result<ConnectionManager, DialError> {
        let connecting = async { manager(self.find().await?, settings).await };
        tokio::time::timeout(CONNECT, connecting).await.map_err(|_| DialError::NoAnswer(CONNECT))?
    }
}

/// The URL of a server that stands elsewhere.
fn at(server: &Secret, place: &Place) -> Result<String, DialError> {
    let mut url = Url::parse(server.expose()).map_err(DialError::url)?;
    let host = if place.host.contains(':') { format!("[{}]", place.host) } else { place.host.clone() };
    url.set_host(Some(&host)).map_err(DialError::url)?;
    url.set_port(Some(place.port)).map_err(|()| DialError::url("no port"))?;
    Ok(url.into())
}

fn client(url: &str) -> Result<Client, DialError> {
    let info = url.into_connection_info().map_err(DialError::url)?;
    let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    Client::open(info.set_redis_settings(redis).set_tcp_settings(tcp())).map_err(DialError::url)
}

/// A peer whose machine is gone says nothing; the kernel finds out.
fn tcp() -> TcpSettings {
    let keepalive = TcpKeepalive::new().with_time(UNACKNOWLEDGED).with_interval(UNACKNOWLEDGED / 4);
    TcpSettings::default().set_nodelay(true).set_keepalive(keepalive).set_user_timeout(UNACKNOWLEDGED)
}

/// Retries without end, one second apart at most, so that an outage of any length heals by itself.
fn settings() -> ConnectionManagerConfig {
    ConnectionManagerConfig::new()
        .set_number_of_retries(usize::MAX)
        .set_min_delay(Duration::from_millis(50))
        .set_max_delay(Duration::from_secs(1))
        .set_connection_timeout(Some(CONNECT))
        .set_response_timeout(Some(COMMAND_DEADLINE))
}

fn listening(gate: &Arc<Gate>, generation: u64) -> ConnectionManagerConfig {
    settings().set_push_sender(sender(gate, generation)).set_automatic_resubscription()
}

fn sender(gate: &Arc<Gate>, generation: u64) -> impl Fn(PushInfo) -> Result<(), ()> + Send + Sync + 'static {
    let gate = Arc::clone(gate);
    move |push| {
        gate.pass(generation, push);
        Ok(())
    }
}

async fn manager(client: Client, settings: ConnectionManagerConfig) -> Result<ConnectionManager, DialError> {
    ConnectionManager::new_with_config(client, settings).await.map_err(DialError::Redis)
}

async fn cluster(nodes: &[ConnectionInfo], pushes: Option<(&Arc<Gate>, u64)>) -> Result<ClusterConnection, DialError> {
    let mut builder = ClusterClientBuilder::new(nodes.iter().cloned())
        .use_protocol(ProtocolVersion::RESP3)
        .tcp_settings(tcp())
        .connection_timeout(CONNECT)
        .response_timeout(COMMAND_DEADLINE)
        .min_retry_wait(20)
        .max_retry_wait(500);
    if let Some((gate, generation)) = pushes {
        builder = builder.push_sender(sender(gate, generation));
    }
    let client = builder.build().map_err(DialError::url)?;
    client.get_async_connection().await.map_err(DialError::Redis)
}

/// The number of the newest generation of a subscription's connections.
#[derive(Default)]
pub(super) struct Generation(AtomicU64);

impl Generation {
    pub(super) fn is_current(&self, generation: u64) -> bool {
        generation >= self.0.load(Ordering::Acquire)
    }

    pub(super) fn next(&self) -> u64 {
        self.0.load(Ordering::Acquire) + 1
    }

    pub(super) fn turn_to(&self, generation: u64) {
        self.0.store(generation, Ordering::Release);
    }
}
