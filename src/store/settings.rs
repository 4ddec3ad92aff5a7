//! What the store must be told: where Postgres is and how to speak to it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;

use super::StoreError;

/// How Postgres plans what a connection prepares: once, for any values and for tables of any size.
///
/// Every statement looks its rows up by key. Left to itself, Postgres plans the large ones anew each time, at a quarter of what
/// a message costs it, and reads small tables whole, by a plan that is kept while they grow. Where a plan cannot help
/// reading one, its cost would let it be compiled, which takes longer than any of them.
pub const PLANNING: [(&str, &str); 3] =
    [("plan_cache_mode", "force_generic_plan"), ("enable_seqscan", "off"), ("jit", "off")];

/// How to reach Django's database.
#[derive(Clone)]
pub struct Settings {
    /// `postgres://…`, with the password in it. Never printed.
    pub url: String,
    /// Connections to Postgres, at least 2.
    pub pool: u32,
    /// Postgres stands behind pgbouncer in transaction mode: no prepared statements, no session settings, and every
    /// query inside a transaction.
    pub pgbouncer: bool,
    /// Django's user table, a plain identifier.
    pub user_table: String,
    /// The longest that any one statement may run.
    pub statement_timeout: Duration,
}

impl Settings {
    /// The defaults of the contract for a database.
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            pool: 10,
            pgbouncer: false,
            user_table: "users_user".to_owned(),
            statement_timeout: Duration::from_secs(5),
        }
    }

    /// What sqlx needs to connect.
    pub(super) fn options(&self) -> Result<PgConnectOptions, StoreError> {
        if self.pool < 2 {
            return Err(StoreError::Settings("the pool needs at least 2 connections".to_owned()));
        }
        if !is_identifier(&self.user_table) {
            return Err(StoreError::Settings("the user table's name is not a plain identifier".to_owned()));
        }
        let options = PgConnectOptions::from_str(&self.url)
            .map_err(|_| StoreError::Settings("the database URL cannot be read".to_owned()))?
            .application_name("community-gateway")
            .disable_statement_logging();
        Ok(if self.pgbouncer {
            options.statement_cache_capacity(0).extra_float_digits(None)
        } else {
            let limit = self.statement_timeout.as_millis().to_string();
            options.options([("statement_timeout", limit.as_str()), ("timezone", "UTC")]).options(PLANNING)
        })
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("pool", &self.pool)
            .field("pgbouncer", &self.pgbouncer)
            .field("user_table", &self.user_table)
            .field("statement_timeout", &self.statement_timeout)
            .finish_non_exhaustive()
    }
}

/// Says whether a name may stand in SQL as it is: letters, digits and `_`, no digit first, at most 63 bytes.
#[must_use]
pub fn is_identifier(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= 63
        && bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_identifiers_are_taken_for_the_user_table() {
        for good in ["users_user", "_t", "Auth2"] {
            assert!(is_identifier(good), "{good}");
        }
        for bad in ["", "2users", "users-user", "a.b", "users\"; DROP TABLE x; --", "é", &"a".repeat(64)] {
            assert!(!is_identifier(bad), "{bad}");
        }
    }

    #[test]
    fn a_connection_plans_by_keys_and_pgbouncer_is_asked_for_nothing() {
        let asked = |pgbouncer| {
            let settings = Settings { pgbouncer, ..Settings::new("postgres://django@db/app") };
            settings.options().expect("the settings are good").get_options().map(str::to_owned)
        };
        let direct = asked(false).expect("something is asked for");
        for (name, value) in PLANNING {
            assert!(direct.contains(&format!("-c {name}={value}")), "{direct}");
        }
        assert_eq!(asked(true), None, "it would refuse the connection");
    }

    #[test]
    fn settings_never_print_the_url() {
        let settings = Settings::new("postgres://django:secret@db/app");
        assert!(!format!("{settings:?}").contains("secret"));
    }
}
