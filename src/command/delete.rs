//! `delete_message`: the row stays, the text goes. Moderators may delete what others wrote, and leave a record.

use super::{Actor, Commands, Replies};
use crate::access::Grant;
use crate::domain::MessageId;
use crate::store::Change;
use crate::wire::Refusal;

impl Commands {
    pub(super) async fn delete(&self, actor: &Actor, grant: &Grant, message: MessageId) -> Result<Replies, Refusal> {
        let change = Change::Delete { moderates: grant.moderates, is_staff: grant.person.is_staff };
        self.change(actor, grant, message, &change).await
    }
}
