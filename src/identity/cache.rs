//! Django's cache database: connection tokens, session versions, activity.
//!
//! Speaks the few commands that login needs, each with a deadline. It keeps nothing, and it writes only what Django
//! reads back. Errors never hold a key: a key may end in a credential.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use fred::clients::Client;
use fred::interfaces::{ClientLike, KeysInterface};
use fred::types::{Expiration, SetOptions};

use super::cached::{self, CachedError};
use super::pickle::{self, Value};
use super::token;
use crate::django::{self, COMMAND_TIMEOUT};
use crate::domain::{Micros, UserId};
use crate::keyspace;

/// How long the first connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Commands that may wait for the connection; one more fails at once.
const WAITING_COMMANDS: usize = 8_192;

/// Why the cache gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error("the cache's URL is not one: {0}")]
    Url(#[source] fred::error::Error),
    #[error("the cache cannot be reached: {0}")]
    Connect(#[source] fred::error::Error),
    #[error("the cache could not be reached within {} s", CONNECT_TIMEOUT.as_secs())]
    ConnectTimeout,
    #[error("the cache did not answer: {0}")]
    Command(#[source] fred::error::Error),
    #[error("the cache holds a session version that Django did not write: {0}")]
    Value(#[source] CachedError),
    #[error("the cache holds a session version that is no integer of 64 bits")]
    NotAVersion,
}

/// Django's cache. Cloning is cheap and shares the connection.
#[derive(Clone)]
pub struct DjangoCache {
    pub(super) client: Client,
    prefix: String,
    version: String,
}

impl fmt::Debug for DjangoCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DjangoCache").field("prefix", &self.prefix).field("version", &self.version).finish()
    }
}

impl DjangoCache {
    /// Connects. `prefix` and `version` are Django's `KEY_PREFIX` and `VERSION`. After this the connection comes back
    /// by itself, however often it is lost.
    ///
    /// # Errors
    /// When the URL is wrong, or the server does not answer within three seconds.
    pub async fn connect(url: &str, prefix: &str, version: &str) -> Result<Self, CacheError> {
        let client = django::client(url, WAITING_COMMANDS, true).map_err(CacheError::Url)?;
        let cache = Self { client, prefix: prefix.to_owned(), version: version.to_owned() };
        match tokio::time::timeout(CONNECT_TIMEOUT, cache.client.init()).await {
            Ok(Ok(_)) => Ok(cache),
            Ok(Err(error)) => Err(CacheError::Connect(error)),
            Err(_) => {
                cache.close().await;
                Err(CacheError::ConnectTimeout)
            }
        }
    }

    /// Takes a connection token's value out of the cache, atomically: of any number of takers one gets it. `None` when
    /// there is none, which is known without asking when the string cannot be a token.
    ///
    /// # Errors
    /// When the cache does not answer. The token may be used up all the same.
    pub async fn take_token(&self, token: &str) -> Result<Option<Bytes>, CacheError> {
        if !token::is_plausible(token) {
            return Ok(None);
        }
        self.client.getdel(self.key(&keyspace::connection_token(token))).await.map_err(CacheError::Command)
    }

    /// Puts a token's value into the cache, as Django does, which keeps it for [`keyspace::CONNECTION_TOKEN_SECONDS`].
    ///
    /// # Errors
    /// When the cache does not answer.
    pub async fn put_token(&self, token: &str, value: Vec<u8>, seconds: i64) -> Result<(), CacheError> {
        let expiry = Expiration::EX(seconds);
        self.set(&keyspace::connection_token(token), value, expiry, None).await.map(|_| ())
    }

    /// The version of a user's session. `None` when Django keeps none, which makes every version valid.
    ///
    /// # Errors
    /// When the cache does not answer, or holds something that is no version.
    pub async fn session_version(&self, user: UserId) -> Result<Option<i64>, CacheError> {
        let value: Option<Bytes> =
            self.client.get(self.key(&keyspace::session_version(user))).await.map_err(CacheError::Command)?;
        value.map(|bytes| version(&bytes)).transpose()
    }

    /// The same for many users at once, in their order. What is no version counts as none.
    ///
    /// # Errors
    /// When the cache does not answer.
    pub async fn session_versions(&self, users: &[UserId]) -> Result<Vec<Option<i64>>, CacheError> {
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<String> = users.iter().map(|user| self.key(&keyspace::session_version(*user))).collect();
        let values: Vec<Option<Bytes>> = self.client.mget(keys).await.map_err(CacheError::Command)?;
        Ok(values.into_iter().map(|value| version(&value?).ok()).collect())
    }

    /// Notes that a user is active, at most once in [`keyspace::SESSION_DEBOUNCE_SECONDS`], as Django does.
    ///
    /// # Errors
    /// When the cache does not answer.
    pub async fn refresh_activity(&self, user: UserId, now: Micros) -> Result<(), CacheError> {
        let debounce = Expiration::EX(keyspace::SESSION_DEBOUNCE_SECONDS);
        let due = self
            .set(&keyspace::session_debounce(user), pickle::write_text("1"), debounce, Some(SetOptions::NX))
            .await?;
        if due {
            let expiry = Expiration::EX(keyspace::SESSION_ACTIVITY_SECONDS);
            self.set(&keyspace::session_activity(user), pickle::write_text(&now.to_string()), expiry, None).await?;
        }
        Ok(())
    }

    /// Asks the server for a sign of life.
    ///
    /// # Errors
    /// When it gives none within two seconds.
    pub async fn ping(&self) -> Result<(), CacheError> {
        self.client.ping::<()>(None).await.map_err(CacheError::Command)
    }

    /// Ends the connection and its task. Commands after this fail.
    pub async fn close(&self) {
        // The server may be gone, and then there is nobody to say goodbye to.
        let _ = tokio::time::timeout(COMMAND_TIMEOUT, self.client.quit()).await;
    }

    /// Says whether the value was set.
    async fn set(
        &self,
        name: &str,
        value: Vec<u8>,
        expiry: Expiration,
        options: Option<SetOptions>,
    ) -> Result<bool, CacheError> {
        let reply: Option<String> = self
            .client
            .set(self.key(name), Bytes::from(value), Some(expiry), options, false)
            .await
            .map_err(CacheError::Command)?;
        Ok(reply.is_some())
    }

    pub(super) fn key(&self, name: &str) -> String {
        keyspace::cache_key(&self.prefix, &self.version, name)
    }
}

/// Reads a session version as Django's cache holds it.
fn version(bytes: &[u8]) -> Result<i64, CacheError> {
    match cached::read(bytes).map_err(CacheError::Value)? {
        Value::Int(version) => i64::try_from(version).map_err(|_| CacheError::NotAVersion),
        _ => Err(CacheError::NotAVersion),
    }
}
