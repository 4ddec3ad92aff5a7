//! What humans decided of messages in Django: read from the rows, which are the truth, and made an event's matter.

use uuid::Uuid;

use super::change::{GRACE, LOCK_WAIT};
use super::link::Link;
use super::row::Columns;
use super::sql::change;
use super::{ChangeError, Outlet, Reserved, Store, StoreError, Subject, arguments};
use crate::domain::{Decision, Message, MessageId, ThreadId, Topic, UserId};

/// A decision that is to be told.
#[derive(Debug)]
pub struct Decided {
    pub message: Box<Message>,
    /// Who decided, if a record says so.
    pub moderator: Option<UserId>,
    /// The direct conversation that it is in.
    pub dm: Option<ThreadId>,
    /// The place of the event that tells those present; `None` when they never saw the message and do not now.
    pub place: Option<(Topic, Reserved)>,
}

impl Decided {
    /// Where those present are told.
    fn topic(message: &Message, dm: Option<ThreadId>) -> Topic {
        let in_room = dm.map_or(Topic::Room(message.room_id), Topic::Dm);
        message.thread_id.map_or(in_room, Topic::Thread)
    }
}

impl Store {
    /// Takes up a decision: counts a message that appears for the first time, and takes the place of the event. `None`
    /// when the row does not say what was decided, or there is no such message.
    ///
    /// # Errors
    /// As [`Store::change_message`]; it may be called again then.
    ///
    /// # Cancel safety
    /// As [`Store::change_message`]: it must not be dropped.
    pub async fn decide<O: Outlet>(
        &self,
        message: MessageId,
        decision: Decision,
        outlet: &O,
    ) -> Result<Option<Decided>, ChangeError> {
        let _permit = self.reader().await?;
        let (link, found) = match self.deciding(message, decision).await {
            Err(StoreError::Unreachable(_)) => self.deciding(message, decision).await?,
            other => other?,
        };
        let Some((verdict, xid, decided)) = found else {
            self.undo(link).await?;
            return Ok(None);
        };
        match verdict.as_str() {
            "ok" => {
                let topic = Decided::topic(&decided.message, decided.dm);
                let subject =
                    if decision == Decision::Approved { Subject::Shown(message) } else { Subject::Changed(message) };
                let place = self.conclude(link, &xid, topic, &[subject], outlet).await?;
                Ok(Some(Decided { place: Some((topic, place)), ..decided }))
            }
            "silent" => {
                self.undo(link).await?;
                Ok(Some(decided))
            }
            _ => {
                self.undo(link).await?;
                Ok(None)
            }
        }
    }

    async fn deciding(
        &self,
        message: MessageId,
        decision: Decision,
    ) -> Result<(Link, Option<(String, String, Decided)>), StoreError> {
        let timeout = self.inner.statement_timeout;
        let mut link = self.link().await?;
        let begin = change::begin(message.0, LOCK_WAIT.as_millis(), timeout.as_millis());
        link.command(begin, LOCK_WAIT + timeout + GRACE).await?;
        let arguments = arguments!(message.0, decision.as_str())?;
        let rows = link.rows(&self.inner.sql.decide, arguments, timeout + GRACE).await?;
        let Some(row) = rows.first() else { return Ok((link, None)) };
        let mut columns = Columns::of(row);
        let (verdict, xid): (String, String) = (columns.take()?, columns.take()?);
        let dm = columns.take::<Option<Uuid>>()?.map(ThreadId);
        let moderator = columns.take::<Option<i64>>()?.map(UserId);
        let message =
            columns.message()?.ok_or_else(|| StoreError::Unreadable("a decision without its message".to_owned()))?;
        Ok((link, Some((verdict, xid, Decided { message: Box::new(message), moderator, dm, place: None }))))
    }
}
