//! `edit_message`: its author gives a message another text.

use super::{Actor, Commands, Replies};
use crate::access::Grant;
use crate::domain::MessageId;
use crate::store::Change;
use crate::wire::Refusal;

impl Commands {
    pub(super) async fn edit(
        &self,
        actor: &Actor,
        grant: &Grant,
        message: MessageId,
        content: String,
    ) -> Result<Replies, Refusal> {
        self.change(actor, grant, message, &Change::Edit { content, mentions: "[]".to_owned() }).await
    }
}
