//! What moderation tells people: the author of a message, and who reported one.

use serde::Serialize;

use super::encode;
use super::message::Text;
use crate::domain::{MessageId, RoomId, UserId};

/// `message_reported`: to who reported a message, once or again.
#[must_use]
pub fn message_reported(message: MessageId) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Event {
        event: &'static str,
        message_id: Text<MessageId>,
    }
    encode(&Event { event: "message_reported", message_id: Text(message) })
}

/// `moderation`: what became of a message, to its author alone.
#[derive(Clone, Copy, Debug)]
pub struct Moderation<'a> {
    pub room: RoomId,
    pub message: MessageId,
    /// The author's own name for it.
    pub client_id: Option<&'a str>,
    /// `blocked`, `flagged` or `removed`.
    pub action: &'static str,
    pub reason: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ModerationJson<'a> {
    event: &'static str,
    room_id: Text<RoomId>,
    message_id: Text<MessageId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
    action: &'static str,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<[Text<UserId>; 1]>,
}

impl<'a> Moderation<'a> {
    /// It is hidden, or an edit of it was not made.
    #[must_use]
    pub fn blocked(room: RoomId, message: MessageId, client_id: Option<&'a str>, reason: &'a str) -> Self {
        Self { room, message, client_id, action: "blocked", reason }
    }

    /// It is shown, and a human will look at it.
    #[must_use]
    pub fn flagged(room: RoomId, message: MessageId, client_id: Option<&'a str>, reason: &'a str) -> Self {
        Self { action: "flagged", ..Self::blocked(room, message, client_id, reason) }
    }

    /// A human took the message away.
    #[must_use]
    pub fn removed(room: RoomId, message: MessageId) -> Self {
        Self { room, message, client_id: None, action: "removed", reason: "removed by a moderator" }
    }

    /// The event.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(&self.json(None))
    }

    /// The event with `to`, for a channel that others read too.
    #[must_use]
    pub fn to_author(&self, author: UserId) -> Vec<u8> {
        encode(&self.json(Some([Text(author)])))
    }

    fn json(&self, to: Option<[Text<UserId>; 1]>) -> ModerationJson<'_> {
        ModerationJson {
            event: "moderation",
            room_id: Text(self.room),
            message_id: Text(self.message),
            client_id: self.client_id,
            action: self.action,
            reason: self.reason,
            to,
        }
    }
}
