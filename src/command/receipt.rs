//! `read_receipt`: how far a member has read. Never backwards, answered by nothing.

use std::time::Duration;

use super::{Commands, Replies, notice};
use crate::access::Grant;
use crate::domain::MessageId;
use crate::wire::{Code, Refusal};

impl Commands {
    pub(super) async fn mark_read(&self, grant: &Grant, message: MessageId) -> Result<Replies, Refusal> {
        match self.store.mark_read(grant.room.id, grant.person.id, message).await {
            Ok(moved) => {
                if moved {
                    // The user's other tabs.
                    notice::tell(&self.log, &[(grant.person.id, notice::unread(grant.person.id, grant.room.id))]).await;
                }
                Ok(Vec::new())
            }
            Err(error) => {
                tracing::warn!(%error, "a receipt was not stored");
                Err(Refusal::after(Code::Unavailable, Duration::from_secs(1)))
            }
        }
    }
}
