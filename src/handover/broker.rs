//! Celery's broker, a Redis of Django's: one script, that pushes a task and remembers that it did.

use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::{ClientLike, LuaInterface};
use fred::types::InfoKind;

use super::Task;
use crate::{django, keyspace};

/// Commands that may wait for the connection; one more fails at once.
const WAITING_COMMANDS: usize = 256;

/// KEYS: mark of the task, list; ARGV: seconds that the mark lives, element. Returns 1 if it was pushed now. Left, as kombu
/// does: workers take from the right.
const PUSH: &str = r"
    if not redis.call('SET', KEYS[1], 1, 'NX', 'EX', ARGV[1]) then return 0 end
    redis.call('LPUSH', KEYS[2], ARGV[2])
    return 1
";

/// Why a task was not pushed.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    #[error("the broker's URL is not one: {0}")]
    Url(#[source] fred::error::Error),
    #[error("the broker did not answer: {0}")]
    Command(#[source] fred::error::Error),
}

/// The broker.
pub struct Broker {
    client: Client,
}

impl Broker {
    /// Begins to connect, and goes on by itself, however often the connection is lost.
    ///
    /// # Errors
    /// When the URL is wrong.
    pub fn connect(url: &str) -> Result<Self, BrokerError> {
        // The broker may be away when the gateway starts.
        let client = django::client(url, WAITING_COMMANDS, false).map_err(BrokerError::Url)?;
        // Its task ends with the client.
        drop(client.connect());
        Ok(Self { client })
    }

    /// Pushes a task's element. Says whether that was news: a task is pushed once, however often this is repeated.
    ///
    /// # Errors
    /// When the broker does not answer. The task may have been pushed all the same.
    pub async fn push(&self, task: &Task, element: Vec<u8>) -> Result<bool, BrokerError> {
        let keys = vec![keyspace::handed_over(task.id), task.queue.clone()];
        let arguments = vec![keyspace::HANDED_OVER_SECONDS.to_string().into_bytes(), element];
        let arguments: Vec<fred::types::Value> =
            arguments.into_iter().map(|bytes| fred::types::Value::Bytes(bytes.into())).collect();
        self.client.eval::<bool, _, _, _>(PUSH, keys, arguments).await.map_err(BrokerError::Command)
    }

    /// The server's `maxmemory-policy`, if it may throw tasks away when its memory is full.
    ///
    /// # Errors
    /// When it does not answer within two seconds.
    pub async fn evicts(&self) -> Result<Option<String>, BrokerError> {
        let info: String = self.client.info(Some(InfoKind::Memory)).await.map_err(BrokerError::Command)?;
        let policy = django::field_of(&info, "maxmemory_policy").filter(|policy| *policy != "noeviction");
        Ok(policy.map(str::to_owned))
    }

    /// Ends the connection and its task.
    pub async fn close(&self) {
        // The server may be gone, and then there is nobody to say goodbye to.
        let _ = tokio::time::timeout(Duration::from_millis(200), self.client.quit()).await;
    }
}
