//! Is this Django's database, and can the gateway work with it: the questions of `check`.
//!
//! Every statement of the gateway is prepared, not run: Postgres itself then names the table, column or function that
//! is missing, and no second list of columns can go stale. Nothing is changed.

use std::sync::Arc;

use sqlx::postgres::PgArguments;

use super::row::Columns;
use super::sql::COLUMNS;
use super::{READ, Store, StoreError, arguments, queries};
use crate::domain::Micros;

/// The oldest Postgres that has the functions we use (`hash_record_extended`): 14.
pub const OLDEST: i32 = 14;

/// What the gateway does with which table, beyond reading it.
const WRITES: [(&str, &str); 10] = [
    ("community_message", "INSERT"),
    ("community_room", "UPDATE"),
    ("community_roommembership", "UPDATE"),
    ("community_directmessagethread", "UPDATE"),
    ("community_thread", "UPDATE"),
    ("community_moderationaction", "INSERT"),
    ("community_moderationaction", "UPDATE"),
    ("community_moderationqueue", "INSERT"),
    ("community_moderationqueue", "UPDATE"),
    ("community_moderationqueue_reporters", "INSERT"),
];

/// Tables and the columns that an index must begin with, or common reads look at whole tables.
const INDEXED: [(&str, &str); 9] = [
    ("community_message", "room_id,created_at"),
    ("community_message", "thread_id,created_at"),
    ("community_messagereaction", "message_id"),
    ("community_roommembership", "user_id"),
    ("community_roommembership", "room_id"),
    ("community_directmessagethread_participants", "user_id"),
    ("community_directmessagethread_participants", "directmessagethread_id"),
    ("community_userblock", "blocker_id"),
    ("community_userblock", "blocked_id"),
];

/// What was found out about a database that answers.
#[derive(Clone, Debug)]
pub struct Findings {
    /// `server_version`, as Postgres tells it.
    pub version: String,
    /// Its first part.
    pub major: i32,
    /// The server takes no writes: a standby, or set read-only.
    pub read_only: bool,
    /// Its clock minus ours, in microseconds.
    pub clock_skew: i64,
    /// The port that Postgres itself listens on; `None` over a Unix socket.
    pub port: Option<i32>,
    /// Tables and columns without an index, in words.
    pub slow: Vec<String>,
    /// What is missing or not allowed, in words; empty when all is there.
    pub missing: Vec<String>,
}

impl Store {
    /// Looks whether the database has all that the gateway uses.
    ///
    /// # Errors
    /// When Postgres does not answer; what it lacks is no error but a finding.
    pub async fn examine(&self) -> Result<Findings, StoreError> {
        let before = Micros::now().0;
        let facts = "SELECT current_setting('server_version'), current_setting('server_version_num')::int / 10000, \
                     pg_is_in_recovery() OR current_setting('transaction_read_only')::bool, \
                     (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, inet_server_port()";
        let rows = self.read_once(&facts.into(), PgArguments::default()).await?;
        let row = rows.first().ok_or_else(|| StoreError::Unreadable("no row of facts".to_owned()))?;
        let mut columns = Columns::of(row);
        let (version, major, read_only) = (columns.take()?, columns.take()?, columns.take()?);
        let (clock, port): (i64, Option<i32>) = (columns.take()?, columns.take()?);
        let clock_skew = clock - i64::midpoint(before, Micros::now().0);
        let mut missing = self.refused_statements().await?;
        if missing.is_empty() {
            missing.extend(self.forbidden_writes().await?);
            missing.extend(self.unknown_columns().await?);
        }
        let slow = self.missing_indexes().await?;
        Ok(Findings { version, major, read_only, clock_skew, port, slow, missing })
    }

    /// Prepares every statement and collects what Postgres says against it.
    async fn refused_statements(&self) -> Result<Vec<String>, StoreError> {
        let mut refused = Vec::new();
        for query in queries(&self.inner.sql.user_table, self.inner.sql.dm_permission) {
            let sql = &query.sql;
            let command = format!("PREPARE community_check AS {sql}; DEALLOCATE community_check");
            let mut link = self.link().await?;
            match link.command(command, READ).await.map_err(StoreError::from) {
                Ok(()) => link.give_back(),
                Err(StoreError::Refused(refusal)) => {
                    if !refused.contains(&refusal.about) {
                        refused.push(refusal.about);
                    }
                }
                Err(other) => return Err(other),
            }
        }
        Ok(refused)
    }

    /// Writes that this database user may not do.
    async fn forbidden_writes(&self) -> Result<Vec<String>, StoreError> {
        let (tables, rights): (Vec<&str>, Vec<&str>) = WRITES.into_iter().unzip();
        let sql: Arc<str> = "SELECT current_user || ' may not ' || w.right || ' ' || w.table \
                             FROM unnest($1::text[], $2::text[]) AS w(\"table\", \"right\") \
                             WHERE NOT has_table_privilege(w.table, w.right)"
            .into();
        self.texts(&sql, arguments!(tables, rights)?).await
    }

    /// Columns of a message that must be given and that this version of the gateway does not know.
    async fn unknown_columns(&self) -> Result<Vec<String>, StoreError> {
        let given: Vec<&str> = COLUMNS.split(", ").collect();
        let sql: Arc<str> =
            "SELECT 'community_message.' || attname || ' must be given, and this version does not know it' \
                             FROM pg_attribute WHERE attrelid = 'community_message'::regclass AND attnum > 0 \
                             AND NOT attisdropped AND attnotnull AND NOT atthasdef AND attidentity = '' \
                             AND attname <> ALL ($1::text[]) ORDER BY attnum"
                .into();
        self.texts(&sql, arguments!(given)?).await
    }

    /// Columns that no index begins with.
    async fn missing_indexes(&self) -> Result<Vec<String>, StoreError> {
        let (tables, columns): (Vec<&str>, Vec<&str>) = INDEXED.into_iter().unzip();
        let sql: Arc<str> = "SELECT w.name || ' (' || w.columns || ')' FROM unnest($1::text[], $2::text[]) AS w (name, columns) \
                             WHERE to_regclass(w.name) IS NOT NULL AND NOT EXISTS (SELECT FROM pg_index AS i \
                             WHERE i.indrelid = to_regclass(w.name) AND i.indisvalid AND i.indpred IS NULL AND starts_with( \
                             (SELECT string_agg(a.attname, ',' ORDER BY k.place) || ',' \
                             FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, place) \
                             JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.number), w.columns || ','))"
            .into();
        self.texts(&sql, arguments!(tables, columns)?).await
    }

    async fn texts(&self, sql: &Arc<str>, arguments: PgArguments) -> Result<Vec<String>, StoreError> {
        self.read_once(sql, arguments).await?.iter().map(|row| Columns::of(row).take()).collect()
    }
}
