//! What `check` wants to know about the realtime Redis: is it new enough, does it write, does pub/sub deliver, do the
//! clocks agree.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, InfoDict};
use uuid::Uuid;

use super::{BusError, COMMAND_DEADLINE};
use crate::domain::Micros;
use crate::keyspace;

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
pub async fn examine(url: &str) -> Result<Report, BusError> {
    let client = Client::open(url).map_err(|error| BusError::Url(error.to_string()))?;
    let settings = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(Duration::from_secs(3)))
        .set_response_timeout(Some(COMMAND_DEADLINE));
    let mut connection =
        client.get_multiplexed_async_connection_with_config(&settings).await.map_err(BusError::redis("connecting"))?;
    let info: InfoDict =
        redis::cmd("INFO").query_async(&mut connection).await.map_err(BusError::redis("asking for its version"))?;
    let writable = write(&mut connection).await;
    let clock_skew = skew(&mut connection).await?;
    let policy: Option<String> = info.get("maxmemory_policy");
    Ok(Report {
        version: info.get("redis_version").unwrap_or_default(),
        writable,
        evicts: policy.filter(|policy| policy != "noeviction"),
        delivers: delivers(&client, &mut connection).await?,
        clock_skew,
    })
}

async fn write(connection: &mut MultiplexedConnection) -> bool {
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
async fn delivers(client: &Client, connection: &mut MultiplexedConnection) -> Result<bool, BusError> {
    use futures_util::StreamExt;

    let channel = keyspace::check(Uuid::new_v4());
    let probe = async {
        let mut subscription = client.get_async_pubsub().await?;
        subscription.subscribe(&channel).await?;
        redis::cmd("PUBLISH").arg(&channel).arg("check").query_async::<()>(connection).await?;
        Ok(subscription.on_message().next().await.is_some())
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
    fn versions_are_compared_as_numbers() {
        let report = |version: &str| Report {
            version: version.to_owned(),
            writable: true,
            evicts: None,
            delivers: true,
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
