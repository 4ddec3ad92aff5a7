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
const POOL: Variable = Variable::new("GATEWAY_DB_POOL", "10", "connections to Postgres");
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
    /// Django's user table, `table` or `schema.table`; letters, digits and underscores only, safe to put in SQL.
    pub user_table: String,
}

impl Database {
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let url =
            reader.take(&URL, |text| parse::url(text, &["postgres", "postgresql"]).map(|_| Secret::new(text.trim())));
        let pgbouncer = reader.take(&PGBOUNCER, parse::boolean);
        let pool = reader.take(&POOL, parse::whole(1..=1000));
        let user_table = reader.take(&USER_TABLE, table);
        Some(Self { url: url?, pool: pool?, pgbouncer: pgbouncer?, user_table: user_table? })
    }
}

fn table(text: &str) -> Result<String, String> {
    let identifier = |part: &str| {
        (1..=63).contains(&part.len())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && !part.starts_with(|first: char| first.is_ascii_digit())
    };
    let parts: Vec<&str> = text.split('.').collect();
    if parts.len() <= 2 && parts.into_iter().all(identifier) {
        Ok(text.to_owned())
    } else {
        Err(format!("\"{text}\" is not a table's name: letters, digits and underscores, with or without a schema"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_an_identifier() {
        assert!(table("users_user").is_ok());
        assert!(table("app.users_user").is_ok());
        for text in ["", "a b", "a;b", "1a", "a.b.c", "a.", "\"a\""] {
            assert!(table(text).is_err(), "{text}");
        }
    }
}
