//! What `check` wants to know about the realtime Redis: is it new enough, does it write, does pub/sub deliver, do the
//! clocks agree.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{InfoDict, PushInfo, PushKind};
use tokio::sync::Notify;
use uuid::Uuid;

use super::BusError;
use crate::config::Deployment;
use crate::domain::Micros;
use crate::keyspace;
use crate::realtime::{self, Connection, Dialer};

/// The oldest Redis that has all the commands we send (`GETDEL`, `ZADD … GT`): 6.2.
pub const OLDEST: (u32, u32) = (6, 2);

/// How long a published message may take to come back.
const DELIVERY: Duration = Duration::from_secs(2);

/// What was found out about a Redis that answers.
#[derive(Clone, Debug)]
pub struct Report {
    /// `redis_version` as the server tells it.
    pub version: String,
    /// The server takes writes: it is no read-only replica.
    pub writable: bool,
    /// The server may throw our keys away before their time, when its memory is full: its `maxmemory-policy`.
    pub evicts: Option<String>,
    /// A message that was published came back to a subscriber.
    pub delivers: bool,
    /// What may wait for one subscriber before the server cuts it off, in bytes; `None` when that is no limit, or the server does
    /// not say.
    pub pubsub_buffer: Option<u64>,
    /// Its clock minus ours, in microseconds.
    pub clock_skew: i64,
}

impl Report {
    /// Says whether the version is one we can work with.
    #[must_use]
    pub fn is_new_enough(&self) -> bool {
        let mut parts = self.version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= OLDEST
    }
}

/// Looks at the Redis behind an address. Leaves nothing behind.
///
/// # Errors
/// When the address cannot be used, or Redis does not answer in time.
pub async fn examine(deployment: &Deployment) -> Result<Report, BusError> {
    let dialer = Dialer::new(deployment)?;
    let mut server = dialer.look().await?;
    let info: InfoDict =
        redis::cmd("INFO").query_async(&mut server).await.map_err(BusError::redis("asking for its version"))?;
    let clock_skew = skew(&mut server).await?;
    let connection = dialer.connect().await?;
    let writable = write(&mut connection.clone()).await;
    let policy: Option<String> = info.get("maxmemory_policy");
    Ok(Report {
        version: info.get("redis_version").unwrap_or_default(),
        writable,
        evicts: policy.filter(|policy| policy != "noeviction"),
        delivers: delivers(&dialer, connection).await?,
        pubsub_buffer: pubsub_buffer(&mut server).await,
        clock_skew,
    })
}

/// The hard limit of `client-output-buffer-limit` for subscribers. Managed servers often keep it to themselves.
async fn pubsub_buffer(server: &mut MultiplexedConnection) -> Option<u64> {
    let mut ask = redis::cmd("CONFIG");
    ask.arg("GET").arg("client-output-buffer-limit");
    let said: HashMap<String, String> = ask.query_async(server).await.ok()?;
    hard_limit(said.values().next()?)
}

/// Reads `normal 0 0 0 slave … pubsub 33554432 8388608 60`; 0 is no limit.
fn hard_limit(said: &str) -> Option<u64> {
    let (_, limits) = said.split_once("pubsub ")?;
    limits.split(' ').next()?.parse().ok().filter(|limit| *limit > 0)
}

async fn write(connection: &mut Connection) -> bool {
    let key = keyspace::check(Uuid::new_v4());
    redis::cmd("SET").arg(key).arg(1).arg("PX").arg(1).query_async::<()>(connection).await.is_ok()
}

/// The server's clock minus ours; half of the round trip is taken for the way back.
async fn skew(connection: &mut MultiplexedConnection) -> Result<i64, BusError> {
    let before = Micros::now().0;
    let (seconds, micros): (i64, i64) =
        redis::cmd("TIME").query_async(connection).await.map_err(BusError::redis("asking for its time"))?;
    let middle = i64::midpoint(before, Micros::now().0);
    Ok(seconds * 1_000_000 + micros - middle)
}

/// Subscribes on a second connection, publishes on the first and waits for the message.
async fn delivers(dialer: &Dialer, mut connection: Connection) -> Result<bool, BusError> {
    let channel = keyspace::check(Uuid::new_v4());
    let came = Arc::new(Notify::new());
    let coming = Arc::clone(&came);
    let pushes = move |push: PushInfo| {
        if matches!(push.kind, PushKind::Message | PushKind::SMessage) {
            coming.notify_one();
        }
    };
    let listener = dialer.listen(Box::new(pushes)).await?;
    let probe = async {
        listener.subscribe(std::slice::from_ref(&channel)).await?;
        realtime::publish(&channel, b"check").exec_async(&mut connection).await?;
        came.notified().await;
        Ok(true)
    };
    match tokio::time::timeout(DELIVERY, probe).await {
        Ok(delivered) => delivered.map_err(BusError::redis("trying pub/sub")),
        Err(_) => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_subscribers_is_read() {
        let said = "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60";
        assert_eq!(hard_limit(said), Some(32 << 20));
        assert_eq!(hard_limit("normal 0 0 0 pubsub 0 0 0"), None);
        assert_eq!(hard_limit(""), None);
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        let report = |version: &str| Report {
            version: version.to_owned(),
            writable: true,
            evicts: None,
            delivers: true,
            pubsub_buffer: None,
            clock_skew: 0,
        };
        for version in ["6.2.0", "7.0.15", "10.0.0", "6.10.1"] {
            assert!(report(version).is_new_enough(), "{version}");
        }
        for version in ["6.0.16", "5.0.7", "", "unknown"] {
            assert!(!report(version).is_new_enough(), "{version}");
        }
    }
}
