//! What a human decided of a message in Django becomes an event: once, whichever instance is first.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;

use super::{Commands, notice};
use crate::access::once::OnceError;
use crate::bus::{BusError, Envelope, Kind};
use crate::domain::{Decision, MessageId, Topic, UserId};
use crate::store::{ChangeError, Decided};
use crate::wire::event::{self, Moderation, Place};

/// How often a decision is tried when a dependency is away.
const TRIES: u32 = 5;
/// How long between two tries, at first; doubled each time.
const PAUSE: Duration = Duration::from_millis(250);

/// Why a decision was not told.
#[derive(Debug, thiserror::Error)]
enum DecideError {
    #[error(transparent)]
    Once(#[from] OnceError),
    #[error(transparent)]
    Change(#[from] ChangeError),
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl Commands {
    /// Tells of a decision, unless another instance does. The row in Postgres says what is so: a decision that the row
    /// does not know (any more) is not told. Must run to its end: what is committed must be told.
    pub async fn decide(&self, message: MessageId, decision: Decision) {
        let mut pause = PAUSE;
        for tries in 1..=TRIES {
            match self.decide_once(message, decision).await {
                Ok(()) => return,
                Err(error) if tries < TRIES => tracing::warn!(%message, %error, "a decision could not be told yet"),
                Err(error) => {
                    tracing::error!(%message, %error, "a decision was not told: those present do not see it yet");
                    return;
                }
            }
            sleep(pause).await;
            pause *= 2;
        }
    }

    async fn decide_once(&self, message: MessageId, decision: Decision) -> Result<(), DecideError> {
        let Some(turn) = self.once.claim(message, decision).await? else { return Ok(()) };
        match self.store.decide(message, decision, &*self.outlet).await {
            Ok(Some(decided)) => {
                self.tell_decision(decided, decision).await;
                self.once.settle(&turn).await;
                Ok(())
            }
            Ok(None) => {
                tracing::info!(%message, decision = decision.as_str(), "a decision that the row does not know");
                self.once.release(&turn).await;
                Ok(())
            }
            Err(error) => {
                self.once.release(&turn).await;
                Err(error.into())
            }
        }
    }

    async fn tell_decision(&self, decided: Decided, decision: Decision) {
        let Decided { message, moderator, dm, place } = decided;
        let author = message.author.id;
        if let Some((topic, reserved)) = place {
            let place = Place { epoch: reserved.epoch, offset: reserved.first };
            let (whose, shown, body) = match decision {
                Decision::Approved => {
                    let answered = message.reply_to.as_ref().and_then(|reply| reply.author_id);
                    (author, answered, event::new_message(&message, place, None))
                }
                // Who does not see the author must learn of it all the same: it may have been seen before a block.
                Decision::Hidden | Decision::Deleted => {
                    (None, None, event::message_deleted(message.thread_id, message.id, moderator, place))
                }
            };
            self.outlet.announce(topic, place, whose, shown, body, None).await;
            if decision == Decision::Approved && message.id.is_ours() {
                self.hand_over_shown(&message).await;
            }
        }
        if let (Decision::Hidden | Decision::Deleted, Some(author)) = (decision, author) {
            let told = Moderation::removed(message.room_id, message.id);
            self.tell_author(dm.map_or(Topic::Room(message.room_id), Topic::Dm), author, &told).await;
        }
    }

    /// Tells an author on the sockets in the room, and on those of the app.
    async fn tell_author(&self, topic: Topic, author: UserId, told: &Moderation<'_>) {
        if let Err(error) = self.log.tell(topic, told.to_author(author)).await {
            tracing::debug!(%error, "an author was not told");
        }
        self.tell_app(author, told).await;
    }

    /// Tells an author on the sockets of the app.
    pub(super) async fn tell_app(&self, author: UserId, told: &Moderation<'_>) {
        let body = Bytes::from(told.encode());
        let envelope = Envelope { body, ..Envelope::passing(Kind::Notice, author, Vec::new()) };
        notice::tell(&self.log, &[(author, envelope)]).await;
    }
}
