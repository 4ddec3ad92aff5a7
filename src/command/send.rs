//! `send_message`: stored, then seen by everybody, the sender too, over the bus.

use std::sync::Arc;
use std::time::Duration;

use super::{Actor, Commands, Echo, Replies};
use crate::access::Grant;
use crate::domain::MessageId;
use crate::store::{Draft, Rejection, WriteError};
use crate::wire::command::{Attachment, SendMessage};
use crate::wire::event::{self, Place};
use crate::wire::{Code, Refusal};

impl Commands {
    pub(super) async fn send(
        &self,
        actor: &mut Actor,
        grant: &Arc<Grant>,
        message: SendMessage,
    ) -> Result<Replies, Refusal> {
        let id = MessageId::generate();
        let draft = Draft {
            id,
            room_id: grant.room.id,
            dm_thread: grant.dm.as_ref().map(|dm| dm.thread),
            thread_id: None,
            author: grant.person.id,
            message_type: message_type(&message.attachments),
            // Plain structures of strings and numbers always encode.
            attachments: serde_json::to_string(&message.attachments).unwrap_or_else(|_| "[]".to_owned()),
            content: message.content,
            mentions: "[]".to_owned(),
            reply_to: message.reply_to,
            topic: actor.topic,
        };
        let echo = Echo { grant: Arc::clone(grant), client_id: message.client_id.clone() };
        let stored = self.writer.send(draft, echo).await.map_err(refusal)?;
        // A message ends its author's typing: clients that count on `typing` alone would show it for ever.
        self.type_(actor, grant, false).await;
        let place = Place { epoch: stored.epoch, offset: stored.offset };
        let ack = message.client_id.map(|client_id| event::message_ack(&client_id, id, stored.created_at, place));
        Ok(ack.into_iter().collect())
    }
}

/// `image` when all attachments are images, `file` when there are others, else `text`.
fn message_type(attachments: &[Attachment]) -> &'static str {
    match attachments {
        [] => "text",
        all if all.iter().all(|attachment| attachment.mime.starts_with("image/")) => "image",
        _ => "file",
    }
}

fn refusal(error: WriteError) -> Refusal {
    match error {
        WriteError::RoomGone => Refusal::new(Code::RoomNotFound),
        WriteError::Rejected(Rejection::Archived) => Refusal::new(Code::Archived),
        WriteError::Rejected(Rejection::AuthorGone) => Refusal::new(Code::AuthenticationRequired),
        WriteError::Rejected(_) => Refusal::new(Code::InvalidFrame),
        WriteError::Unavailable { retry_after } => Refusal::after(Code::Unavailable, retry_after),
        WriteError::Busy | WriteError::Uncertain => Refusal::after(Code::Unavailable, Duration::from_secs(2)),
    }
}
