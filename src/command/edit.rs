//! `edit_message`: its author gives a message another text.

use std::time::Duration;

use super::judge::Judged;
use super::{Actor, Commands, Replies};
use crate::access::Grant;
use crate::domain::MessageId;
use crate::store::Change;
use crate::wire::event::Moderation;
use crate::wire::{Code, Refusal};

impl Commands {
    /// What moderation blocks leaves the old text, and its author is told; what it flags is made and waits for a human.
    pub(super) async fn edit(
        &self,
        actor: &Actor,
        grant: &Grant,
        message: MessageId,
        content: String,
    ) -> Result<Replies, Refusal> {
        let Judged { mark, told, .. } = self.judge_edit(grant, &content, actor.topic).await?;
        let (author, hidden) = (grant.person.id, mark.as_ref().map(|mark| mark.hidden));
        if hidden == Some(true) {
            let moderation = Moderation::blocked(grant.room.id, message, None, &told);
            self.tell_app(author, &moderation).await;
            return Ok(vec![moderation.encode()]);
        }
        let mentions = self.mentions(grant, &content, &[]).await.map_err(|error| {
            tracing::warn!(%error, "mentions could not be looked up");
            Refusal::after(Code::Unavailable, Duration::from_secs(1))
        })?;
        let mut replies = self.change(actor, grant, message, &Change::Edit { content, mentions, mark }).await?;
        if hidden == Some(false) {
            let moderation = Moderation::flagged(grant.room.id, message, None, &told);
            self.tell_app(author, &moderation).await;
            replies.push(moderation.encode());
        }
        Ok(replies)
    }
}
