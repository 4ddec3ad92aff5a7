//! `add_reaction`, `remove_reaction`: one a user and emoji; the counts equal the rows.

use super::{Actor, Commands, Replies};
use crate::access::Grant;
use crate::domain::{Emoji, MessageId};
use crate::store::Change;
use crate::wire::Refusal;

impl Commands {
    pub(super) async fn react(
        &self,
        actor: &Actor,
        grant: &Grant,
        message: MessageId,
        emoji: Emoji,
        added: bool,
    ) -> Result<Replies, Refusal> {
        self.change(actor, grant, message, &Change::React { emoji, added }).await
    }
}
