//! `pin_message`, `unpin_message`: for moderators, which `access` has made sure of.

use super::{Actor, Commands, Replies};
use crate::access::Grant;
use crate::domain::MessageId;
use crate::store::Change;
use crate::wire::Refusal;

impl Commands {
    pub(super) async fn pin(
        &self,
        actor: &Actor,
        grant: &Grant,
        message: MessageId,
        pinned: bool,
    ) -> Result<Replies, Refusal> {
        self.change(actor, grant, message, &Change::Pin { pinned }).await
    }
}
