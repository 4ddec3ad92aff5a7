//! What a task says: the one shape in which it waits, and from which its message to Celery is written.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::{MessageId, Micros, ThreadId, UserId};

/// What a task is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// An agent answers a direct message.
    AgentDm,
    /// Somebody is told that their name was written.
    Mention,
    /// Somebody is told that their message was answered.
    Reply,
    /// Somebody is told of a direct message.
    Dm,
}

impl Purpose {
    /// The word in metric labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AgentDm => "agent_dm",
            Self::Mention => "mention",
            Self::Reply => "reply",
            Self::Dm => "dm",
        }
    }
}

/// A task for Celery. Its arguments are ids, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The same for the same message, purpose and user, so that no task is handed over twice.
    pub id: Uuid,
    pub purpose: Purpose,
    /// The task's name in Celery.
    pub name: String,
    pub queue: String,
    pub message: Uuid,
    /// Set for agents.
    pub thread: Option<Uuid>,
    /// Who is told, or the agent.
    pub user: i64,
    /// After this it is not run any more, in microseconds since 1970.
    pub expires: i64,
}

impl Task {
    /// A task about a message, for a user.
    #[must_use]
    pub fn new(
        purpose: Purpose,
        (name, queue): (&str, &str),
        message: MessageId,
        thread: Option<ThreadId>,
        user: UserId,
        expires: Micros,
    ) -> Self {
        Self {
            id: id(purpose, message, user),
            purpose,
            name: name.to_owned(),
            queue: queue.to_owned(),
            message: message.0,
            thread: thread.map(|thread| thread.0),
            user: user.0,
            expires: expires.0,
        }
    }

    /// The bytes in which it waits: always the same for the same task.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // Strings, numbers and ids always encode.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a task that waited. `None` when another version wrote it, or nobody.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// Whom it is not for while they are online; agents need not be told of anything.
    #[must_use]
    pub fn only_offline(&self) -> Option<UserId> {
        (self.purpose != Purpose::AgentDm).then_some(UserId(self.user))
    }

    /// The arguments, in the order of the task's signature.
    #[must_use]
    pub fn arguments(&self) -> Vec<(&'static str, serde_json::Value)> {
        let message = ("message_id", self.message.to_string().into());
        match (self.purpose, self.thread) {
            (Purpose::AgentDm, thread) => vec![
                message,
                ("thread_id", thread.unwrap_or_default().to_string().into()),
                ("agent_user_id", self.user.into()),
            ],
            _ => vec![message, ("user_id", self.user.into())],
        }
    }
}

fn id(purpose: Purpose, message: MessageId, user: UserId) -> Uuid {
    let what = format!("{} {message} {user}", purpose.as_str());
    let digest = ring::digest::digest(&ring::digest::SHA256, what.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.as_ref()[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}
