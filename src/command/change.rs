//! What edits, deletions, pins and reactions have in common: committed first, then told to everybody over the bus.

use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::future::join;

use super::{Actor, Commands, Replies, notice, owed};
use crate::access::Grant;
use crate::domain::{Message, MessageId, Topic, UserId};
use crate::handover::{Cause, Occasion, Owed};
use crate::store::{Change, Changed, Effect, Target};
use crate::telemetry::Leg;
use crate::telemetry::trace::{Kind, Span};
use crate::wire::event::{self, Place};
use crate::wire::{Code, Refusal};

impl Commands {
    /// Changes a message and publishes the event. Must run to its end: what is committed must be told.
    pub(super) async fn change(
        &self,
        actor: &Actor,
        grant: &Grant,
        message: MessageId,
        change: &Change,
    ) -> Result<Replies, Refusal> {
        let user = grant.person.id;
        let target = Target { room: grant.room.id, message, user, hidden: &grant.hidden, topic: actor.topic };
        let began = Instant::now();
        let span = Span::child("commit", Kind::Internal);
        let changed = span.within(pin!(self.store.change_message(&target, change, &*self.outlet))).await;
        let trace = span.context();
        drop(span);
        let (effect, author, topic, place) = match changed {
            Ok(Changed::Done { effect, author, topic, place }) => {
                self.outlet.note(Leg::Commit, topic, began);
                (effect, author, topic, Place { epoch: place.epoch, offset: place.first })
            }
            Ok(Changed::AlreadySo) => return Ok(Vec::new()),
            Ok(Changed::Unknown) => return Err(Refusal::new(Code::MessageNotFound)),
            Ok(Changed::NotTheirs) => return Err(Refusal::new(Code::NotAllowed)),
            Ok(Changed::Archived) => return Err(Refusal::new(Code::ThreadArchived)),
            Err(error) => {
                tracing::warn!(%error, "a message could not be changed");
                return Err(Refusal::after(Code::Unavailable, Duration::from_secs(1)));
            }
        };
        // Who does not see the author does not see the message: nothing of it is told but that it is gone, which must
        // reach whoever has it on the screen. Who does not see the moderator is told all the same.
        let thread = if let Topic::Thread(thread) = topic { Some(thread) } else { None };
        let (mut mentions, mut occasions, mut notes) = (Vec::new(), Vec::new(), Vec::new());
        let (whose, shown, body) = match effect {
            Effect::Edited { message, mentioned } => {
                let mentioned = message.mentioned_newly(&mentioned);
                mentions = notice::of_edit(grant, &message, &mentioned);
                let answered = message.reply_to.as_ref().and_then(|reply| reply.author_id);
                if !mentioned.is_empty() {
                    notes.push(Owed::edited(message.id, &mentioned));
                    occasions.push(occasion(grant, &message, mentioned));
                }
                (Some(user), answered, event::message_edited(&message, place))
            }
            Effect::Deleted => (None, None, event::message_deleted(thread, message, Some(user), place)),
            Effect::Pinned { pinned } => (author, None, event::message_pinned(thread, message, pinned, user, place)),
            Effect::Reacted { emoji, added, counts } => {
                let body = event::reaction_updated(thread, message, emoji.as_str(), user, added, &counts, place);
                (Some(user), author, body)
            }
        };
        let announcing = self.outlet.announce(topic, place, whose, shown, body, trace);
        join(announcing, self.outlet.hand_over(&occasions, &notes)).await;
        notice::tell(&self.log, &mentions).await;
        Ok(Vec::new())
    }
}

/// What Celery's tasks need to know of an edit.
fn occasion(grant: &Grant, message: &Message, mentioned: Vec<UserId>) -> Occasion {
    let occasion = Occasion {
        cause: Cause::Edited,
        message: message.id,
        author: grant.person.id,
        since: owed::since(Cause::Edited, message),
        dm: grant.dm.as_ref().map(|dm| dm.thread),
        others: grant.dm.iter().flat_map(|dm| dm.others.iter().copied()).collect(),
        agents: grant.dm.iter().flat_map(|dm| dm.agents.iter().copied()).collect(),
        mentioned,
        answered: message.reply_to.as_ref().and_then(|reply| reply.author_id),
    };
    occasion.without(&grant.hidden)
}
