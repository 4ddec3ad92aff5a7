//! Reports of messages: a row in Django's review queue, exact when several report at once.

use sqlx::postgres::PgArguments;
use uuid::Uuid;

use super::change::{GRACE, LOCK_WAIT};
use super::row::Columns;
use super::sql::change;
use super::{Store, StoreError, arguments};
use crate::domain::{Hidden, MessageId, RoomId, UserId};

/// How many different users must report a message for it to be flagged.
const FLAG: i32 = 3;

/// That somebody thinks a message must not stand.
#[derive(Clone, Debug)]
pub struct Report {
    pub room: RoomId,
    pub message: MessageId,
    pub reporter: UserId,
    pub reason: String,
}

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reported {
    /// It waits for a human.
    Queued,
    /// The same user reported the same message before.
    Already,
    /// The room has no such message to show to the reporter.
    Unknown,
    /// The message is the reporter's own.
    Own,
}

impl Store {
    /// Puts a report into the review queue; the third user's flags the message. Those of `hidden` have no messages for
    /// the reporter.
    ///
    /// # Errors
    /// When Postgres does not answer. Whether it is stored is then not known; the same report may be made again.
    pub async fn report_message(&self, report: &Report, hidden: &Hidden) -> Result<Reported, StoreError> {
        let hidden: Vec<i64> = hidden.users().map(|user| user.0).collect();
        let arguments = arguments!(
            report.room.0,
            report.message.0,
            report.reporter.0,
            Uuid::new_v4(),
            hidden,
            report.reason.as_str(),
            FLAG
        )?;
        let work = async {
            let _permit = self.reader().await?;
            match self.report_once(report.message, arguments.clone()).await {
                Err(StoreError::Unreachable(_)) => self.report_once(report.message, arguments).await,
                other => other,
            }
        };
        self.counted(work.await)
    }

    async fn report_once(&self, message: MessageId, arguments: PgArguments) -> Result<Reported, StoreError> {
        let timeout = self.inner.statement_timeout;
        let mut link = self.link().await?;
        let begin = change::begin(message.0, LOCK_WAIT.as_millis(), timeout.as_millis());
        link.command(begin, LOCK_WAIT + timeout + GRACE).await?;
        let rows = link.rows(&self.inner.sql.report, arguments, timeout + GRACE).await?;
        let verdict: Option<&str> = rows.first().map(|row| Columns::of(row).take()).transpose()?;
        let reported = match verdict {
            Some("ok") => Reported::Queued,
            Some("same") => Reported::Already,
            Some("forbidden") => Reported::Own,
            _ => Reported::Unknown,
        };
        link.command("COMMIT".to_owned(), timeout + GRACE).await?;
        link.give_back();
        Ok(reported)
    }
}
