//! `edit_message`: its author gives a message another text.

use std::time::Duration;

use super::{Actor, Commands, Replies};
use crate::access::Grant;
use crate::domain::MessageId;
use crate::store::Change;
use crate::wire::{Code, Refusal};

impl Commands {
    pub(super) async fn edit(
        &self,
        actor: &Actor,
        grant: &Grant,
        message: MessageId,
        content: String,
    ) -> Result<Replies, Refusal> {
        let mentions = self.mentions(grant, &content, &[]).await.map_err(|error| {
            tracing::warn!(%error, "mentions could not be looked up");
            Refusal::after(Code::Unavailable, Duration::from_secs(1))
        })?;
        self.change(actor, grant, message, &Change::Edit { content, mentions }).await
    }
}
