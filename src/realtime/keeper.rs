//! Keeps the connections of use: follows a server that moved, replaces a connection that died in silence, takes back
//! channels that a Cluster took away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{RedisResult, Value};

use super::{Connection, Dialer, Listener, Way};
use crate::lifecycle::Lifecycle;

/// How often the connections are looked at.
const EVERY: Duration = Duration::from_millis(500);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// After so long without an answer a connection is made again, if Redis answers on a new one.
const SILENT: Duration = Duration::from_secs(3);

/// Looks after the connections until the process stops delivering.
pub async fn keep(dialer: Dialer, connection: Connection, listener: Listener, lifecycle: Lifecycle) {
    let (mut commands, mut pushes) = (Instant::now(), Instant::now());
    loop {
        tokio::select! {
            () = lifecycle.aborted() => return,
            () = listener.gate.wake.notified() => {}
            () = tokio::time::sleep(EVERY) => {}
        }
        if listener.is_cluster()
            && let Err(error) = listener.take_back().await
        {
            tracing::debug!(%error, "channels are not subscribed to yet, trying again");
        }
        if dialer.moved().await.is_some() {
            let told = connection.dial_again(&dialer).await;
            let heard = listener.dial_again(&dialer).await;
            tracing::warn!(commands = told, subscription = heard, "the server moved: following it");
            if !(told && heard) {
                dialer.forget();
            }
        }
        let subscription = listener.connection();
        let answers = futures_util::future::join(serves(&connection, &dialer), serves(&subscription, &dialer)).await;
        let (told, heard) = (silent(answers.0, &mut commands), silent(answers.1, &mut pushes));
        let replaced = futures_util::future::join(async { told && connection.dial_again(&dialer).await }, async {
            heard && listener.dial_again(&dialer).await
        });
        let replaced = replaced.await;
        if replaced.0 {
            tracing::warn!("Redis answers on a new connection: replaced the one for commands");
            commands = Instant::now();
        }
        if replaced.1 {
            tracing::warn!("Redis answers on a new connection: replaced the subscription's");
            pushes = Instant::now();
        }
    }
}

/// Whether the server, or each master of a Cluster, answers, and is no replica if Sentinels could name its primary.
async fn serves(connection: &Connection, dialer: &Dialer) -> bool {
    let mut connection = connection.clone();
    let asking = async {
        if dialer.may_move() {
            let role: Value = redis::cmd("ROLE").query_async(&mut connection).await?;
            let Value::Array(parts) = role else { return Ok(true) };
            return Ok(parts.first() == Some(&Value::BulkString(b"master".to_vec())));
        }
        redis::cmd("PING").exec_async(&mut connection).await.map(|()| true)
    };
    let answer: Result<RedisResult<bool>, _> = tokio::time::timeout(PATIENCE, asking).await;
    matches!(answer, Ok(Ok(true)))
}

fn silent(answers: bool, last: &mut Instant) -> bool {
    if answers {
        *last = Instant::now();
    }
    last.elapsed() >= SILENT
}

impl Connection {
    /// Makes the connection again; says whether that worked. Calls on the old one fail by their deadlines.
    async fn dial_again(&self, dialer: &Dialer) -> bool {
        match &self.way {
            Way::Server(current) => {
                let Ok(made) = dialer.again().await else { return false };
                current.store(Arc::new(made));
            }
            Way::Cluster(current) => {
                let Ok(made) = dialer.cluster_again(None).await else { return false };
                current.store(Arc::new(made));
            }
        }
        true
    }
}
