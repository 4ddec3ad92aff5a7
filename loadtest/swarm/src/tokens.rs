//! Connection tokens, put into Django's cache for a minute: in JSON, or as Django itself would, for servers that are Django.

use std::time::{SystemTime, UNIX_EPOCH};

use rand::RngExt;
use redis::aio::ConnectionManager;

/// How a token is written. The names are those of `community-gateway token`.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Format {
    Json,
    Django,
}

impl Format {
    fn value(self, user: u64, now: f64) -> String {
        match self {
            Self::Json => format!(
                "{{\"user_id\":{user},\"username\":\"swarm{user}\",\"connection_id\":null,\"created_at\":{now},\"used\":false}}"
            ),
            // The same as a pickle, in the protocol that is text.
            Self::Django => format!(
                "(dVuser_id\nI{user}\nsVusername\nVswarm{user}\nsVconnection_id\nNsVcreated_at\nF{now}\nsVused\nI00\ns."
            ),
        }
    }
}

/// Where tokens are put.
#[derive(Clone)]
pub struct Tokens {
    connection: ConnectionManager,
    /// `<KEY_PREFIX>:<VERSION>:`
    prefix: String,
    format: Format,
}

impl Tokens {
    pub async fn connect(url: &str, prefix: &str, version: &str, format: Format) -> Result<Self, redis::RedisError> {
        let connection = redis::Client::open(url)?.get_connection_manager().await?;
        Ok(Self { connection, prefix: format!("{prefix}:{version}:"), format })
    }

    /// A token of one use for a user.
    pub async fn mint(&self, user: u64) -> Result<String, redis::RedisError> {
        let token = token();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let value = self.format.value(user, now);
        let key = format!("{}ws_conn_token:{token}", self.prefix);
        let mut set = redis::cmd("SET");
        set.arg(key).arg(value).arg("EX").arg(60);
        set.query_async::<()>(&mut self.connection.clone()).await?;
        Ok(token)
    }
}

fn token() -> String {
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut random = rand::rng();
    (0..43).map(|_| char::from(letters[random.random_range(0..64)])).collect()
}
