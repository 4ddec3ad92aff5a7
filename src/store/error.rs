//! What can go wrong with Postgres, in the words the rest of the gateway acts on.
//!
//! A text here goes into logs: it names tables and codes, never a value of a row.

use std::fmt;

/// Why a call to the store gave nothing. Cheap to clone, so that shared reads can share it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The settings cannot work, whatever Postgres does.
    #[error("database settings: {0}")]
    Settings(String),
    /// There is no connection, or it broke.
    #[error("Postgres cannot be reached: {0}")]
    Unreachable(String),
    /// The answer did not come within the deadline.
    #[error("Postgres did not answer in time")]
    Timeout,
    /// Every connection of the pool was in use for too long.
    #[error("no connection to Postgres became free in time")]
    Exhausted,
    /// Postgres refused a statement.
    #[error("Postgres refused a statement: {0}")]
    Refused(Refusal),
    /// A row was not as Django's tables have it.
    #[error("a row could not be read: {0}")]
    Unreadable(String),
    /// The cursor is not a message of this room.
    #[error("the cursor is not a message of this room")]
    UnknownCursor,
}

impl StoreError {
    /// The metric label.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Settings(_) => "settings",
            Self::Unreachable(_) => "unreachable",
            Self::Timeout => "timeout",
            Self::Exhausted => "exhausted",
            Self::Refused(_) => "refused",
            Self::Unreadable(_) => "unreadable",
            Self::UnknownCursor => "unknown_cursor",
        }
    }
}

/// Postgres's own word for a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The SQLSTATE, five characters.
    pub code: String,
    /// What it was about, where that is the name of a table, a column or a constraint.
    pub about: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.about)
    }
}

impl Refusal {
    fn of(error: &dyn sqlx::error::DatabaseError) -> Self {
        let code = error.code().unwrap_or_default().into_owned();
        // Messages of these classes speak of names (tables, databases, roles); others may quote what a user wrote.
        let about = match code.get(..2) {
            Some("28" | "3D" | "3F" | "42" | "53" | "55" | "57") => error.message().to_owned(),
            _ => error.constraint().or_else(|| error.table()).unwrap_or_default().to_owned(),
        };
        Self { code, about }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) => {
                let refusal = Refusal::of(error.as_ref());
                match refusal.code.as_str() {
                    "57014" => Self::Timeout, // statement_timeout
                    "57P01" | "57P02" | "57P03" => Self::Unreachable(refusal.to_string()),
                    code if code.starts_with("08") => Self::Unreachable(refusal.to_string()),
                    _ => Self::Refused(refusal),
                }
            }
            sqlx::Error::PoolTimedOut => Self::Exhausted,
            sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => Self::Unreachable("the pool is closed".to_owned()),
            sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::TimedOut => Self::Timeout,
            sqlx::Error::Io(error) => Self::Unreachable(error.to_string()),
            sqlx::Error::Tls(error) => Self::Unreachable(format!("TLS: {error}")),
            sqlx::Error::Protocol(text) => Self::Unreachable(format!("protocol: {text}")),
            sqlx::Error::Configuration(error) => Self::Settings(error.to_string()),
            other => Self::Unreadable(kind(&other).to_owned()),
        }
    }
}

/// Names an error of decoding without the value that could not be decoded.
fn kind(error: &sqlx::Error) -> &'static str {
    match error {
        sqlx::Error::RowNotFound => "no row",
        sqlx::Error::ColumnIndexOutOfBounds { .. } | sqlx::Error::ColumnNotFound(_) => "a column is missing",
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => "a column has another type",
        sqlx::Error::TypeNotFound { .. } => "a type is missing",
        _ => "unexpected",
    }
}
