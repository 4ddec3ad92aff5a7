//! The way to the realtime Redis, whether it is one server, a service that Sentinels watch, or a Cluster.
//!
//! Owns the connections and their healing: a server that moved is followed, a connection that died in silence is made
//! again. Knows no key and no message. Must never let a caller see which setup it speaks to, except where the commands
//! differ: channels are sharded in a Cluster, and a call there may only touch keys of one slot.

mod dialer;
mod keeper;
mod listener;
mod sentinel;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use futures_util::future::try_join_all;
use redis::aio::{ConnectionLike, ConnectionManager};
use redis::cluster_async::ClusterConnection;
use redis::{Cmd, FromRedisValue, Pipeline, RedisFuture, RedisResult, Script, Value};

pub use dialer::{DialError, Dialer};
pub use keeper::keep;
pub use listener::{Listener, Pushes, Unconfirmed};

use crate::keyspace;
use crate::telemetry::Metrics;
use crate::telemetry::trace::{Kind, Span};

/// How long one command may take before it counts as failed.
pub const COMMAND_DEADLINE: Duration = Duration::from_secs(2);

/// The connection for commands: cheap to clone, pipelined, made again by itself.
#[derive(Clone)]
pub struct Connection {
    way: Way,
    /// Where its calls are counted.
    metrics: Option<Arc<Metrics>>,
}

/// A call that waits for its answer. Noted however it ends: also when its caller waits no longer.
struct Call {
    metrics: Arc<Metrics>,
    began: Instant,
    _span: Span,
}

impl Drop for Call {
    fn drop(&mut self) {
        self.metrics.redis_calls_open.dec();
        self.metrics.redis_call_seconds.observe(self.began.elapsed().as_secs_f64());
    }
}

#[derive(Clone)]
enum Way {
    Server(Arc<ArcSwap<ConnectionManager>>),
    Cluster(Arc<ArcSwap<ClusterConnection>>),
}

impl Way {
    fn server(connection: ConnectionManager) -> Self {
        Self::Server(Arc::new(ArcSwap::from_pointee(connection)))
    }

    fn cluster(connection: ClusterConnection) -> Self {
        Self::Cluster(Arc::new(ArcSwap::from_pointee(connection)))
    }
}

impl Connection {
    fn new(way: Way) -> Self {
        Self { way, metrics: None }
    }

    /// The same connection, with its calls counted.
    #[must_use]
    pub fn counted(self, metrics: Arc<Metrics>) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    fn call(&self) -> Option<Call> {
        let metrics = Arc::clone(self.metrics.as_ref()?);
        metrics.redis_calls_open.inc();
        Some(Call { metrics, began: Instant::now(), _span: Span::child("redis", Kind::Client) })
    }

    /// Asks many things that need no order, each about keys of one slot; one round trip.
    ///
    /// # Errors
    /// When one of them fails.
    pub async fn all<T: FromRedisValue>(&self, commands: Vec<Cmd>) -> RedisResult<Vec<T>> {
        match &self.way {
            Way::Server(_) => {
                let mut pipe = Pipeline::with_capacity(commands.len());
                for command in commands {
                    pipe.add_command(command);
                }
                pipe.query_async(&mut self.clone()).await
            }
            Way::Cluster(current) => {
                let _call = self.call();
                let asked = commands.iter().map(|command| {
                    let mut connection = ClusterConnection::clone(&current.load());
                    async move { command.query_async(&mut connection).await }
                });
                try_join_all(asked).await
            }
        }
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        let call = self.call();
        match &mut self.way {
            Way::Server(current) => {
                let mut connection = ConnectionManager::clone(&current.load());
                async move {
                    let _call = call;
                    connection.send_packed_command(command).await
                }
                .boxed()
            }
            Way::Cluster(current) => {
                let mut connection = ClusterConnection::clone(&current.load());
                async move {
                    let _call = call;
                    connection.req_packed_command(command).await
                }
                .boxed()
            }
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        let call = self.call();
        match &mut self.way {
            Way::Server(current) => {
                let mut connection = ConnectionManager::clone(&current.load());
                async move {
                    let _call = call;
                    connection.send_packed_commands(pipeline, offset, count).await
                }
                .boxed()
            }
            Way::Cluster(current) => {
                let mut connection = ClusterConnection::clone(&current.load());
                async move {
                    let _call = call;
                    connection.req_packed_commands(pipeline, offset, count).await
                }
                .boxed()
            }
        }
    }

    fn get_db(&self) -> i64 {
        match &self.way {
            Way::Server(current) => current.load().get_db(),
            Way::Cluster(current) => current.load().get_db(),
        }
    }
}

/// A script that publishes with `redis.call('PUBLISH', …)`; in a Cluster, it publishes to the channel's shard.
#[must_use]
pub fn script(text: &str) -> Script {
    if keyspace::are_ids_tagged() { Script::new(&text.replace("'PUBLISH'", "'SPUBLISH'")) } else { Script::new(text) }
}

/// Publishes on a channel; in a Cluster, on its shard.
#[must_use]
pub fn publish(channel: &str, payload: &[u8]) -> Cmd {
    let mut publish = redis::cmd(if keyspace::are_ids_tagged() { "SPUBLISH" } else { "PUBLISH" });
    publish.arg(channel).arg(payload);
    publish
}
