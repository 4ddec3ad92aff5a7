//! What is owed for a message: a note that waits among the tasks from before the commit until they are kept, so that
//! whoever lives makes them when the message's owner is gone. It says no more than where to look.

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Occasion;
use crate::domain::{MessageId, UserId};

/// Why tasks are made of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It is new.
    New,
    /// Its author gave it another text.
    Edited,
    /// A human let it pass.
    Shown,
}

/// A note. Its bytes are always the same for the same message and cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    #[serde(rename = "owed")]
    pub cause: Cause,
    message: Uuid,
    /// Whom an edit mentions and the text before did not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    mentioned: Vec<i64>,
    /// It was looked for once, and not there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) again: bool,
}

/// Finds out, from the truth, what tasks need to know.
pub trait Witness: Send + Sync + 'static {
    /// Says for each note, in their order, what its tasks are made of; `None` where nothing is committed, or nothing is
    /// there to tell of any more.
    fn occasions<'a>(&'a self, owed: &'a [Owed]) -> BoxFuture<'a, Result<Vec<Option<Occasion>>, WitnessError>>;
}

/// The truth cannot be asked now.
#[derive(Clone, Debug, thiserror::Error)]
#[error("what became of a message cannot be asked: {0}")]
pub struct WitnessError(pub String);

impl Owed {
    /// A note about a message that is not edited.
    #[must_use]
    pub fn new(cause: Cause, message: MessageId) -> Self {
        Self { cause, message: message.0, mentioned: Vec::new(), again: false }
    }

    /// A note about an edit, and whom it mentions newly.
    #[must_use]
    pub fn edited(message: MessageId, mentioned: &[UserId]) -> Self {
        let mentioned = mentioned.iter().map(|user| user.0).collect();
        Self { mentioned, ..Self::new(Cause::Edited, message) }
    }

    /// The message.
    #[must_use]
    pub fn message(&self) -> MessageId {
        MessageId(self.message)
    }

    /// Says whether a mention of a user is what it is about.
    #[must_use]
    pub fn concerns(&self, user: UserId) -> bool {
        self.cause != Cause::Edited || self.mentioned.contains(&user.0)
    }

    /// The same, looked for once.
    pub(super) fn second(&self) -> Self {
        Self { again: true, ..self.clone() }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        // Strings and numbers always encode.
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}
