//! `report_message`: somebody thinks that a message must not stand. A human decides, in Django.

use std::time::Duration;

use super::{Commands, Replies};
use crate::access::Grant;
use crate::access::quota::QuotaError;
use crate::domain::MessageId;
use crate::store::{Report, Reported};
use crate::wire::{Code, Refusal, event};

impl Commands {
    /// Once a user and message; what changes nothing takes no place of the quota.
    pub(super) async fn report(&self, grant: &Grant, message: MessageId, reason: String) -> Result<Replies, Refusal> {
        let reporter = grant.person.id;
        let ticket = self.reports.take(reporter).await.map_err(|error| match error {
            QuotaError::Limited(limited) => Refusal::after(Code::RateLimited, limited.retry_after),
            QuotaError::Late | QuotaError::Redis(_) => {
                tracing::warn!(%error, "a report could not be counted");
                Refusal::after(Code::Unavailable, Duration::from_secs(1))
            }
        })?;
        let report = Report { room: grant.room.id, message, reporter, reason };
        let reported = self.store.report_message(&report, &grant.hidden).await;
        if !matches!(reported, Ok(Reported::Queued)) {
            self.reports.give_back(ticket).await;
        }
        match reported {
            Ok(Reported::Queued | Reported::Already) => Ok(vec![event::message_reported(message)]),
            Ok(Reported::Unknown) => Err(Refusal::new(Code::MessageNotFound)),
            Ok(Reported::Own) => Err(Refusal::new(Code::NotAllowed)),
            Err(error) => {
                tracing::warn!(%error, "a report could not be stored");
                Err(Refusal::after(Code::Unavailable, Duration::from_secs(1)))
            }
        }
    }
}
