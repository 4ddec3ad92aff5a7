//! Django's Postgres.

use super::parse;
use super::secret::Secret;
use super::variable::{Reader, Variable};

const URL: Variable = Variable::required(
    "DATABASE_URL",
    "postgres://app:password@127.0.0.1:5432/app",
    "Django's Postgres, directly or through pgbouncer in transaction mode (`GATEWAY_PGBOUNCER=true`)",
)
.url();
const PGBOUNCER: Variable =
    Variable::new("GATEWAY_PGBOUNCER", "false", "`DATABASE_URL` leads to pgbouncer: keep no prepared statements")
        .example("true");
const POOL: Variable = Variable::new("GATEWAY_DB_POOL", "10", "connections to Postgres, at least 2");
const USER_TABLE: Variable = Variable::new("GATEWAY_USER_TABLE", "users_user", "Django's user table");

pub(super) const VARIABLES: &[Variable] = &[URL, PGBOUNCER, POOL, USER_TABLE];

/// How Postgres is reached.
#[derive(Clone, Debug)]
pub struct Database {
    /// `postgres://…`.
    pub url: Secret,
    /// Most connections held open.
    pub pool: u32,
    /// The address leads to pgbouncer in transaction mode, so nothing may be kept in a database session.
    pub pgbouncer: bool,
    /// Django's user table, a plain identifier, safe to put in SQL.
    pub user_table: String,
}

impl Database {
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let url =
            reader.take(&URL, |text| parse::url(text, &["postgres", "postgresql"]).map(|_| Secret::new(text.trim())));
        let pgbouncer = reader.take(&PGBOUNCER, parse::boolean);
        let pool = reader.take(&POOL, parse::whole(2..=1000));
        let user_table = reader.take(&USER_TABLE, table);
        Some(Self { url: url?, pool: pool?, pgbouncer: pgbouncer?, user_table: user_table? })
    }
}

fn table(text: &str) -> Result<String, String> {
    let fits = (1..=63).contains(&text.len()) && !text.starts_with(|first: char| first.is_ascii_digit());
    if fits && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        Ok(text.to_owned())
    } else {
        Err(format!("\"{text}\" is not a table's plain name: letters, digits and underscores"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_an_identifier() {
        assert!(table("users_user").is_ok());
        for text in ["", "a b", "a;b", "1a", "a.b", "\"a\""] {
            assert!(table(text).is_err(), "{text}");
        }
    }
}
