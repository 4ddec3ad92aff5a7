//! Does anything stand between us and Postgres that shares its connections out, as pgbouncer does? A question of `check`.
//!
//! Asked of behaviour, not of ports and names: a parameter of the start that Postgres takes and a pooler cannot pass on, and
//! two connections that are one to Postgres.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Row};
use tokio::time::timeout;

use super::StoreError;

/// How long each step may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often the two connections are compared: a busy pool may give each another one of Postgres's now and then.
const ROUNDS: usize = 8;
/// What Postgres takes and keeps for us, because of its dot, and no pooler knows.
const PARAMETER: &str = "community_gateway.check";

/// What stands between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooler {
    /// Nothing.
    Absent,
    /// It gives a connection of Postgres's away for as long as ours lives, as far as could be seen.
    Session,
    /// It gives one away for a transaction, or a statement.
    Transaction,
}

/// Looks what is behind a database's URL. Changes nothing.
///
/// # Errors
/// When it cannot be found out.
pub async fn look(url: &str) -> Result<Pooler, StoreError> {
    let options = PgConnectOptions::from_str(url)
        .map_err(|_| StoreError::Settings("the database URL cannot be read".to_owned()))?
        .application_name("community-gateway")
        .disable_statement_logging()
        .statement_cache_capacity(0)
        .extra_float_digits(None);
    if !is_between(&options).await? {
        return Ok(Pooler::Absent);
    }
    let (mut one, mut other) = (within(options.connect()).await?, within(options.connect()).await?);
    let (mut of_one, mut of_other) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..ROUNDS {
        of_one.insert(process(&mut one).await?);
        of_other.insert(process(&mut other).await?);
    }
    // Both are open all the time: what both had was given back in between.
    Ok(if of_one.is_disjoint(&of_other) { Pooler::Session } else { Pooler::Transaction })
}

async fn is_between(options: &PgConnectOptions) -> Result<bool, StoreError> {
    let options = options.clone().options([(PARAMETER, "1")]);
    let mut connection = match timeout(PATIENCE, options.connect()).await.map_err(|_| StoreError::Timeout)? {
        Ok(connection) => connection,
        Err(sqlx::Error::Database(refusal)) if refusal.message().contains("startup parameter") => return Ok(true),
        Err(error) => return Err(error.into()),
    };
    let asked = sqlx::raw_sql("SELECT current_setting('community_gateway.check', true)");
    let row = within(asked.fetch_one(&mut connection)).await?;
    // Left, not closed with ceremony: the process ends soon.
    let kept: Option<String> = row.try_get(0)?;
    Ok(kept.is_none_or(|kept| kept.is_empty()))
}

/// The process of Postgres's that serves a connection now.
async fn process(connection: &mut PgConnection) -> Result<i32, StoreError> {
    let row = within(sqlx::raw_sql("SELECT pg_backend_pid()").fetch_one(connection)).await?;
    Ok(row.try_get(0)?)
}

async fn within<T>(step: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, StoreError> {
    timeout(PATIENCE, step).await.map_err(|_| StoreError::Timeout)?.map_err(StoreError::from)
}
