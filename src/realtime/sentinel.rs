//! Asks Sentinels which server a service has now.

use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisResult};

use super::DialError;
use crate::config::Secret;

/// How long a Sentinel may take to answer.
const DEADLINE: Duration = Duration::from_secs(1);

/// Where the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) host: String,
    pub(super) port: u16,
}

/// The Sentinels of one service.
pub(super) struct Sentinel {
    service: String,
    sentinels: Vec<(Client, Mutex<Option<MultiplexedConnection>>)>,
}

impl Sentinel {
    pub(super) fn new(urls: &[Secret], service: &str) -> Result<Self, DialError> {
        let open = |url: &Secret| Client::open(url.expose()).map(|client| (client, Mutex::default()));
        let sentinels = urls.iter().map(open).collect::<RedisResult<_>>().map_err(DialError::url)?;
        Ok(Self { service: service.to_owned(), sentinels })
    }

    /// The server as those Sentinels know it that were told of the latest failover. One that was cut off from the
    /// others may still name the old server, so all are asked.
    pub(super) async fn find(&self) -> Result<Place, DialError> {
        let answers = join_all(self.sentinels.iter().map(|(client, connection)| self.ask(client, connection))).await;
        let latest = answers.into_iter().flatten().max_by_key(|(epoch, _)| *epoch);
        latest.map(|(_, place)| place).ok_or_else(|| DialError::Unknown(self.service.clone()))
    }

    async fn ask(&self, client: &Client, kept: &Mutex<Option<MultiplexedConnection>>) -> Option<(u64, Place)> {
        let asking = async {
            let there = kept.lock().take();
            let mut connection = match there {
                Some(connection) => connection,
                None => {
                    let config = AsyncConnectionConfig::new()
                        .set_connection_timeout(Some(DEADLINE))
                        .set_response_timeout(Some(DEADLINE));
                    client.get_multiplexed_async_connection_with_config(&config).await.ok()?
                }
            };
            let mut master = redis::cmd("SENTINEL");
            master.arg("MASTER").arg(&self.service);
            let fields: std::collections::HashMap<String, String> = master.query_async(&mut connection).await.ok()?;
            *kept.lock() = Some(connection);
            let number = |name: &str| fields.get(name)?.parse::<u64>().ok();
            let place = Place { host: fields.get("ip")?.clone(), port: u16::try_from(number("port")?).ok()? };
            Some((number("config-epoch")?, place))
        };
        tokio::time::timeout(DEADLINE, asking).await.ok().flatten()
    }
}
