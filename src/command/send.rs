//! `send_message`: stored, then seen by everybody, the sender too, over the bus.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::judge::Judged;
use super::{Actor, Commands, Echo, Replies};
use crate::access::{Grant, Nonce, Sending};
use crate::domain::{MessageId, Topic};
use crate::moderation::told;
use crate::store::{Draft, Mark, Rejection, Sent, Stored, WriteError};
use crate::telemetry::Leg;
use crate::telemetry::trace::{Kind, Span};
use crate::wire::command::{Attachment, SendMessage};
use crate::wire::event::{self, Moderation, Place};
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
        let client_id = message.client_id.clone();
        let nonce = match sending {
            Some(Sending::Acknowledged(ack)) => return Ok(vec![ack]),
            Some(Sending::Stored { nonce, sent }) => {
                let client_id = client_id.unwrap_or_default();
                return Ok(vec![self.acknowledge_again(actor.topic, grant, &nonce, &client_id, sent).await]);
            }
            Some(Sending::Unsent(nonce)) => Some(nonce),
            None => None,
        };
        let result = self.send_new(actor, grant, message, client_id.as_deref(), nonce.as_ref()).await;
        if let (Err(_), Some(nonce)) = (&result, &nonce) {
            self.nonces.release(nonce).await;
        }
        result
    }

    /// Judges and writes a message. What it answers is bound to the nonce; without an answer the nonce is the caller's.
    async fn send_new(
        &self,
        actor: &mut Actor,
        grant: &Arc<Grant>,
        message: SendMessage,
        client_id: Option<&str>,
        nonce: Option<&Nonce>,
    ) -> Result<Replies, Refusal> {
        let topic = message.thread.map_or(actor.topic, Topic::Thread);
        let Judged { mark, told, alike } = self.judge_message(grant, &message.content, topic).await?;
        let id = nonce.map_or_else(MessageId::generate, |nonce| nonce.id);
        let hidden = mark.as_ref().map(|mark| mark.hidden);
        let stored = match (self.write(actor, grant, id, message, mark).await, nonce, client_id) {
            (Ok(stored), ..) => stored,
            // A write before this one, of whose end nobody knew, has come through.
            (Err(WriteError::Rejected(Rejection::Duplicate)), Some(nonce), Some(client_id)) => {
                self.forget(alike).await;
                return match self.store.sent_at(id, grant.person.id).await {
                    Ok(Some(sent)) => {
                        Ok(vec![self.acknowledge_again(actor.topic, grant, nonce, client_id, sent).await])
                    }
                    _ => Err(Refusal::after(Code::Unavailable, SOON)),
                };
            }
            (Err(error), ..) => {
                self.forget(alike).await;
                return Err(refusal(error));
            }
        };
        let mut replies = Vec::new();
        if hidden != Some(true)
            && let Some(client_id) = client_id
        {
            let place = Place { epoch: stored.epoch, offset: stored.offset };
            replies.push(event::message_ack(client_id, id, stored.created_at, Some(place)));
        }
        if let Some(hidden) = hidden {
            let make = if hidden { Moderation::blocked } else { Moderation::flagged };
            let moderation = make(grant.room.id, id, client_id, &told);
            replies.push(moderation.encode());
            self.tell_app(grant.person.id, &moderation).await;
        }
        if let (Some(nonce), Some(answer)) = (nonce, replies.first()) {
            self.nonces.settle(nonce, answer).await;
        }
        Ok(replies)
    }

    async fn write(
        &self,
        actor: &mut Actor,
        grant: &Arc<Grant>,
        id: MessageId,
        message: SendMessage,
        mark: Option<Mark>,
    ) -> Result<Stored, WriteError> {
        let mentions = self.mentions(grant, &message.content, &message.mentions).await.map_err(|error| {
            tracing::warn!(%error, "mentions could not be looked up");
            WriteError::Unavailable { retry_after: SOON }
        })?;
        let reply_to = self.answered(grant, message.reply_to).await?;
        // What nobody sees begins no thread.
        let begins = mark.as_ref().is_none_or(|mark| !mark.hidden);
        let thread = self.thread_for(actor, grant, message.thread, reply_to, begins).await?;
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
            mark,
        };
        let mut span = Span::child("commit", Kind::Internal);
        let echo = Echo { grant: Arc::clone(grant), client_id: message.client_id, trace: span.context() };
        let (topic, began) = (draft.topic, Instant::now());
        let stored = span.within(pin!(self.writer.send(draft, echo))).await;
        if stored.is_err() {
            span.fail();
        }
        drop(span);
        let stored = stored?;
        self.outlet.note(Leg::Commit, topic, began);
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

    /// The answer for a message that is stored, but whose first ack was lost with its connection or its instance. Where its
    /// event stands is looked up in the log: its thread's, if it went into one, whatever the frame says; else `topic`'s.
    async fn acknowledge_again(
        &self,
        topic: Topic,
        grant: &Grant,
        nonce: &Nonce,
        client_id: &str,
        sent: Sent,
    ) -> Vec<u8> {
        let Sent { at: created_at, thread, blocked } = sent;
        if let Some((source, reason)) = blocked {
            let reason = told(source == Mark::AI, &reason);
            let answer = Moderation::blocked(grant.room.id, nonce.id, Some(client_id), reason).encode();
            self.nonces.settle(nonce, &answer).await;
            return answer;
        }
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
