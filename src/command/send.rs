//! `send_message`: stored, then seen by everybody, the sender too, over the bus.

use std::sync::Arc;
use std::time::Duration;

use super::{Actor, Commands, Echo, Replies};
use crate::access::{Grant, Nonce, Sending};
use crate::domain::{MessageId, Topic};
use crate::store::{Draft, Rejection, Sent, Stored, WriteError};
use crate::wire::command::{Attachment, SendMessage};
use crate::wire::event::{self, Place};
use crate::wire::{Code, Refusal};

/// When a client may try again what a dependency could not do.
const SOON: Duration = Duration::from_secs(1);

impl Commands {
    /// Writes a message, or answers for one that was written before under the same `client_id`.
    pub(super) async fn send(
        &self,
        actor: &mut Actor,
        grant: &Arc<Grant>,
        message: SendMessage,
        sending: Option<Sending>,
    ) -> Result<Replies, Refusal> {
        let client_id = message.client_id.clone().unwrap_or_default();
        let nonce = match sending {
            Some(Sending::Acknowledged(ack)) => return Ok(vec![ack]),
            Some(Sending::Stored { nonce, sent }) => {
                return Ok(vec![self.acknowledge_again(actor.topic, &nonce, &client_id, sent).await]);
            }
            Some(Sending::Unsent(nonce)) => Some(nonce),
            None => None,
        };
        let id = nonce.as_ref().map_or_else(MessageId::generate, |nonce| nonce.id);
        let written = self.write(actor, grant, id, message).await;
        let Some(nonce) = nonce else { return written.map(|_| Vec::new()).map_err(refusal) };
        match written {
            Ok(stored) => {
                let place = Place { epoch: stored.epoch, offset: stored.offset };
                let ack = event::message_ack(&client_id, id, stored.created_at, Some(place));
                self.nonces.settle(&nonce, &ack).await;
                Ok(vec![ack])
            }
            // A write before this one, of whose end nobody knew, has come through.
            Err(WriteError::Rejected(Rejection::Duplicate)) => match self.store.sent_at(id, grant.person.id).await {
                Ok(Some(sent)) => Ok(vec![self.acknowledge_again(actor.topic, &nonce, &client_id, sent).await]),
                _ => {
                    self.nonces.release(&nonce).await;
                    Err(Refusal::after(Code::Unavailable, SOON))
                }
            },
            Err(error) => {
                self.nonces.release(&nonce).await;
                Err(refusal(error))
            }
        }
    }

    async fn write(
        &self,
        actor: &mut Actor,
        grant: &Arc<Grant>,
        id: MessageId,
        message: SendMessage,
    ) -> Result<Stored, WriteError> {
        let mentions = self.mentions(grant, &message.content, &message.mentions).await.map_err(|error| {
            tracing::warn!(%error, "mentions could not be looked up");
            WriteError::Unavailable { retry_after: SOON }
        })?;
        let reply_to = self.answered(grant, message.reply_to).await?;
        let thread = self.thread_for(actor, grant, message.thread, reply_to).await?;
        let draft = Draft {
            id,
            room_id: grant.room.id,
            dm_thread: grant.dm.as_ref().map(|dm| dm.thread),
            thread_id: thread,
            moderates: grant.moderates,
            author: grant.person.id,
            message_type: message_type(&message.attachments),
            // Plain structures of strings and numbers always encode.
            attachments: serde_json::to_string(&message.attachments).unwrap_or_else(|_| "[]".to_owned()),
            content: message.content,
            mentions,
            reply_to,
            topic: thread.map_or(actor.topic, Topic::Thread),
        };
        let echo = Echo { grant: Arc::clone(grant), client_id: message.client_id };
        let stored = self.writer.send(draft, echo).await?;
        // A message ends its author's typing: clients that count on `typing` alone would show it for ever.
        self.type_(actor, grant, false).await;
        Ok(stored)
    }

    /// What a message answers: nothing, if whoever wrote that does not exist for its author. Asks nobody when nobody is
    /// hidden.
    async fn answered(&self, grant: &Grant, reply_to: Option<MessageId>) -> Result<Option<MessageId>, WriteError> {
        let Some(answered) = reply_to.filter(|_| !grant.hidden.is_empty()) else { return Ok(reply_to) };
        let author = self.store.author_of(grant.room.id, answered).await.map_err(|error| {
            tracing::warn!(%error, "what a message answers could not be looked up");
            WriteError::Unavailable { retry_after: SOON }
        })?;
        Ok(reply_to.filter(|_| author.is_none_or(|author| !grant.hidden.hides(author))))
    }

    /// The ack of a message that is stored, but whose first ack was lost with its connection or its instance. Where its
    /// event stands is looked up in the log: its thread's, if it went into one, whatever the frame says; else `topic`'s.
    async fn acknowledge_again(&self, topic: Topic, nonce: &Nonce, client_id: &str, sent: Sent) -> Vec<u8> {
        let Sent { at: created_at, thread } = sent;
        let topic = thread.map_or(topic, Topic::Thread);
        let place = self.log.place_of(topic, nonce.id).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "the place of a message could not be looked up");
            None
        });
        let ack = event::message_ack(client_id, nonce.id, created_at, place);
        self.nonces.settle(nonce, &ack).await;
        ack
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
        WriteError::Rejected(Rejection::UnknownThread) => Refusal::new(Code::ThreadNotFound),
        WriteError::Rejected(Rejection::ThreadLocked) => Refusal::new(Code::ThreadLocked),
        WriteError::Rejected(Rejection::ThreadArchived) => Refusal::new(Code::ThreadArchived),
        WriteError::Rejected(Rejection::AuthorGone) => Refusal::new(Code::AuthenticationRequired),
        WriteError::Rejected(_) => Refusal::new(Code::InvalidFrame),
        WriteError::Unavailable { retry_after } => Refusal::after(Code::Unavailable, retry_after),
        WriteError::Busy | WriteError::Uncertain => Refusal::after(Code::Unavailable, Duration::from_secs(2)),
    }
}
