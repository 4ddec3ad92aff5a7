//! What moderation tells people: the author of a message, and who reported one.

use serde::Serialize;

use super::encode;
use super::message::Text;
use crate::domain::MessageId;

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
