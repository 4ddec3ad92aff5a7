//! One borrowed connection, and the deadlines of what is done with it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::IntGauge;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgPool, PgPoolOptions, PgRow};
use sqlx::{AssertSqlSafe, Connection, Postgres};
use tokio::time::timeout;

use super::StoreError;
use crate::telemetry::Metrics;
use crate::telemetry::trace::{Kind, Span};

/// How long a caller waits for a free connection.
pub(super) const ACQUIRE: Duration = Duration::from_secs(2);

/// How long a connection may have been idle before it is tried with a ping when it is taken.
const TRUSTED_IDLE: Duration = Duration::from_secs(5);

/// Builds the pool, whose connections are told `first` when they are new. Nothing is connected yet.
pub(super) fn pool(options: PgConnectOptions, size: u32, first: Option<Arc<str>>) -> PgPool {
    PgPoolOptions::new()
        .max_connections(size)
        .acquire_timeout(ACQUIRE)
        .idle_timeout(Duration::from_secs(300))
        .max_lifetime(Duration::from_secs(1800))
        // The stock test pings at every acquire, a round trip for each query; busy connections need none.
        .test_before_acquire(false)
        .after_connect(move |connection, _| {
            let first = first.clone();
            Box::pin(async move {
                if let Some(first) = first {
                    // Where there are no tables yet, whoever needs it is told so, and the next connection is.
                    let _ = sqlx::raw_sql(AssertSqlSafe(first)).execute(connection).await;
                }
                Ok(())
            })
        })
        .before_acquire(|connection, about| {
            Box::pin(async move {
                if about.idle_for > TRUSTED_IDLE {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_lazy_with(options)
}

/// A connection that is only given back when whoever used it says that it is in order. Otherwise (an error, a deadline,
/// a dropped future) it is closed: nobody may inherit half a transaction or somebody else's answer.
pub(super) struct Link {
    connection: sqlx::pool::PoolConnection<Postgres>,
    busy: IntGauge,
    persistent: bool,
    in_order: bool,
}

impl Link {
    /// Takes a connection, at most [`ACQUIRE`] from now.
    pub(super) async fn take(pool: &PgPool, persistent: bool, metrics: &Metrics) -> Result<Self, StoreError> {
        let began = Instant::now();
        let connection = pool.acquire().await;
        metrics.store_wait_seconds.observe(began.elapsed().as_secs_f64());
        metrics.store_connections_open.set(i64::from(pool.size()));
        let connection = connection?;
        let busy = metrics.store_connections_busy.clone();
        busy.inc();
        Ok(Self { connection, busy, persistent, in_order: false })
    }

    /// Sends statements without parameters and waits until all are done.
    pub(super) async fn command(&mut self, sql: String, limit: Duration) -> Result<(), sqlx::Error> {
        within(limit, sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *self.connection)).await?;
        Ok(())
    }

    /// Runs one statement and takes all its rows.
    pub(super) async fn rows(
        &mut self,
        sql: &Arc<str>,
        arguments: PgArguments,
        limit: Duration,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        let query = sqlx::query_with(AssertSqlSafe(Arc::clone(sql)), arguments).persistent(self.persistent);
        within(limit, query.fetch_all(&mut *self.connection)).await
    }

    /// Runs one statement and tells how many rows it changed.
    pub(super) async fn change(
        &mut self,
        sql: &Arc<str>,
        arguments: PgArguments,
        limit: Duration,
    ) -> Result<u64, sqlx::Error> {
        let query = sqlx::query_with(AssertSqlSafe(Arc::clone(sql)), arguments).persistent(self.persistent);
        Ok(within(limit, query.execute(&mut *self.connection)).await?.rows_affected())
    }

    /// Gives the connection back: it is outside of any transaction, and nothing is in flight.
    pub(super) fn give_back(mut self) {
        self.in_order = true;
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.busy.dec();
        if !self.in_order {
            self.connection.close_on_drop();
        }
    }
}

/// Turns a missed deadline into the error that a broken connection gives.
async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    let mut span = Span::child("postgres", Kind::Client);
    let result = match timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
    };
    if result.is_err() {
        span.fail();
    }
    result
}
