//! Postgres: Django's tables. The only SQL in the gateway, and the only module that names sqlx.
//!
//! Reads are bounded in rows and in time. Writes of messages go through [`Writer`], which alone decides the order of a
//! room. The store never creates or alters a table: Django's migrations do.

mod account;
mod app;
mod change;
mod decide;
mod error;
mod flight;
mod gather;
mod history;
mod link;
mod mark;
mod pooler;
mod report;
mod row;
pub mod schema;
mod settings;
mod sql;
mod thread;
mod writer;

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::Connection;
use sqlx::postgres::{PgArguments, PgConnection, PgPool, PgRow};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

pub use account::{Admission, DirectConversation, Fingerprint};
pub use app::{Overview, Unread};
pub use change::{Change, ChangeError, Changed, Effect, Target};
pub use decide::Decided;
pub use error::{Refusal, StoreError};
pub use history::{Page, Sent, Stretch};
pub use mark::Mark;
pub use pooler::{Pooler, look as look_for_pooler};
pub use report::{Report, Reported};
pub use row::{Account, Membership};
pub use settings::{PLANNING, Settings, is_identifier};
pub use sql::{NamedQuery, queries};
pub use thread::{NewThread, ThreadState, Threaded};
pub use writer::{
    Committed, Draft, Outlet, OutletError, Rejection, Reserved, Stored, Subject, WriteError, Writer, WriterSettings,
};

use crate::domain::{Message, RoomId, UserId, Venue};
use crate::telemetry::Metrics;
use flight::Flights;
use gather::Gathering;
use link::{ACQUIRE, Link};
use sql::Sql;

/// How long the first connection may take.
const CONNECT: Duration = Duration::from_secs(3);

/// How long a read may take, once it has a connection.
const READ: Duration = Duration::from_secs(5);

/// The gateway's access to Postgres. Cloning is cheap and gives the same pool.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    pool: PgPool,
    /// Readers take a permit first, so that a storm of joins never takes the writers' last connections.
    readers: Semaphore,
    sql: Sql,
    pgbouncer: bool,
    statement_timeout: Duration,
    admissions: Gathering<(Venue, UserId), Result<Admission, StoreError>>,
    latest: Flights<(RoomId, u32), Result<Arc<Page>, StoreError>>,
    stretches: Flights<Stretch, Result<Arc<Vec<Message>>, StoreError>>,
    metrics: Arc<Metrics>,
}

impl Store {
    /// Connects once, to say at the start what is wrong, and prepares the pool.
    ///
    /// # Errors
    /// [`StoreError::Settings`] when it can never work, any other when it does not now; within three seconds.
    pub async fn connect(settings: Settings, metrics: Arc<Metrics>) -> Result<Self, StoreError> {
        let options = settings.options()?;
        let first = async {
            let mut connection = PgConnection::connect_with(&options).await?;
            let found = sqlx::query_scalar(sql::HAS_DM_PERMISSION).bind(&settings.user_table);
            // Behind pgbouncer a statement is prepared and run on one server connection only inside a transaction.
            let mut work = connection.begin().await?;
            let dm_permission: bool = found.persistent(false).fetch_one(&mut *work).await?;
            work.commit().await?;
            connection.close().await?;
            Ok::<_, sqlx::Error>(dm_permission)
        };
        let dm_permission = timeout(CONNECT, first).await.map_err(|_| StoreError::Timeout)??;
        // Three in ten are the writers': enough for their lanes at the default of ten.
        let readers = settings.pool - (settings.pool * 3 / 10).max(1);
        Ok(Self {
            inner: Arc::new(Inner {
                pool: link::pool(options, settings.pool, (!settings.pgbouncer).then(|| sql::prepare().into())),
                readers: Semaphore::new(readers as usize),
                sql: Sql::new(&settings.user_table, dm_permission),
                pgbouncer: settings.pgbouncer,
                statement_timeout: settings.statement_timeout,
                admissions: Gathering::new(account::LANES, account::TOGETHER),
                latest: Flights::new(),
                stretches: Flights::new(),
                metrics,
            }),
        })
    }

    /// Asks Postgres for a sign of life.
    ///
    /// # Errors
    /// When there is none within the deadlines of a read.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let work = async {
            let mut link = self.link().await?;
            link.command("SELECT 1".to_owned(), READ).await?;
            link.give_back();
            Ok(())
        };
        self.counted(work.await)
    }

    /// Closes every connection, waiting for those in use.
    pub async fn close(&self) {
        self.inner.pool.close().await;
    }

    /// Runs a read, and once more when the connection turns out to be dead: a restart of Postgres leaves a pool full
    /// of such.
    async fn read(
        &self,
        sql: impl Fn(&Sql) -> &Arc<str>,
        arguments: Result<PgArguments, StoreError>,
    ) -> Result<Vec<PgRow>, StoreError> {
        let (sql, arguments) = (sql(&self.inner.sql), arguments?);
        let work = async {
            let _permit = self.reader().await?;
            match self.read_once(sql, arguments.clone()).await {
                Err(StoreError::Unreachable(_)) => self.read_once(sql, arguments).await,
                other => other,
            }
        };
        self.counted(work.await)
    }

    async fn read_once(&self, sql: &Arc<str>, arguments: PgArguments) -> Result<Vec<PgRow>, StoreError> {
        let mut link = self.link().await?;
        // Behind pgbouncer a statement is prepared and run on one server connection only inside a transaction.
        if self.inner.pgbouncer {
            link.command("BEGIN".to_owned(), READ).await?;
        }
        let rows = link.rows(sql, arguments, READ).await?;
        if self.inner.pgbouncer {
            link.command("COMMIT".to_owned(), READ).await?;
        }
        link.give_back();
        Ok(rows)
    }

    /// Runs a statement that changes rows, and may be run twice: once more when the connection was dead.
    async fn change(
        &self,
        sql: impl Fn(&Sql) -> &Arc<str>,
        arguments: Result<PgArguments, StoreError>,
    ) -> Result<u64, StoreError> {
        let (sql, arguments) = (sql(&self.inner.sql), arguments?);
        let work = async {
            let _permit = self.reader().await?;
            match self.change_once(sql, arguments.clone()).await {
                Err(StoreError::Unreachable(_)) => self.change_once(sql, arguments).await,
                other => other,
            }
        };
        self.counted(work.await)
    }

    async fn change_once(&self, sql: &Arc<str>, arguments: PgArguments) -> Result<u64, StoreError> {
        let mut link = self.link().await?;
        if self.inner.pgbouncer {
            link.command("BEGIN".to_owned(), READ).await?;
        }
        let changed = link.change(sql, arguments, READ).await?;
        if self.inner.pgbouncer {
            link.command("COMMIT".to_owned(), READ).await?;
        }
        link.give_back();
        Ok(changed)
    }

    async fn link(&self) -> Result<Link, StoreError> {
        Link::take(&self.inner.pool, !self.inner.pgbouncer, &self.inner.metrics).await
    }

    async fn reader(&self) -> Result<SemaphorePermit<'_>, StoreError> {
        let began = Instant::now();
        let permit = timeout(ACQUIRE, self.inner.readers.acquire()).await;
        self.inner.metrics.store_wait_seconds.observe(began.elapsed().as_secs_f64());
        match permit {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(StoreError::Exhausted),
        }
    }

    fn counted<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error) = &result {
            self.inner.metrics.store_failures_total.with_label_values(&[error.reason()]).inc();
        }
        result
    }
}

/// Packs the parameters of a statement.
macro_rules! arguments {
    ($($value:expr),+ $(,)?) => { $crate::store::arguments!(sqlx::postgres::PgArguments::default(); $($value),+) };
    // Behind others.
    ($before:expr; $($value:expr),+ $(,)?) => {{
        let mut arguments = $before;
        let packed: Result<(), sqlx::error::BoxDynError> = (|| {
            $( sqlx::Arguments::add(&mut arguments, $value)?; )+
            Ok(())
        })();
        packed
            .map(|()| arguments)
            .map_err(|_| $crate::store::StoreError::Unreadable("a parameter could not be packed".to_owned()))
    }};
}
use arguments;
