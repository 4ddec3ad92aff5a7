//! What happens to messages that exist. Each has its place in the topic's log; in a thread's log it names the thread.

use serde::Serialize;

use super::message::{Text, json};
use super::{Place, encode, with_message};
use crate::domain::{Message, MessageId, ThreadId, UserId};

/// `message_edited`, with the message as it is now.
#[must_use]
pub fn message_edited(message: &Message, place: Place) -> Vec<u8> {
    with_message(br#"{"event":"message_edited","message":"#, message, place)
}

/// `message_deleted`. Who did it is not known of what Django does without a record.
#[must_use]
pub fn message_deleted(thread: Option<ThreadId>, message: MessageId, by: Option<UserId>, place: Place) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Event {
        event: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        thread_id: Option<Text<ThreadId>>,
        message_id: Text<MessageId>,
        deleted_by: Option<Text<UserId>>,
        epoch: Text<u64>,
        offset: u64,
    }
    encode(&Event {
        event: "message_deleted",
        thread_id: thread.map(Text),
        message_id: Text(message),
        deleted_by: by.map(Text),
        epoch: Text(place.epoch),
        offset: place.offset,
    })
}

/// `message_pinned`: pinned, or not any more.
#[must_use]
pub fn message_pinned(
    thread: Option<ThreadId>,
    message: MessageId,
    is_pinned: bool,
    by: UserId,
    place: Place,
) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Event {
        event: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        thread_id: Option<Text<ThreadId>>,
        message_id: Text<MessageId>,
        is_pinned: bool,
        by: Text<UserId>,
        epoch: Text<u64>,
        offset: u64,
    }
    encode(&Event {
        event: "message_pinned",
        thread_id: thread.map(Text),
        message_id: Text(message),
        is_pinned,
        by: Text(by),
        epoch: Text(place.epoch),
        offset: place.offset,
    })
}

/// `reaction_updated`. `counts` is a JSON object emoji → count, as it is stored.
#[must_use]
pub fn reaction_updated(
    thread: Option<ThreadId>,
    message: MessageId,
    emoji: &str,
    user: UserId,
    added: bool,
    counts: &str,
    place: Place,
) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Event<'a> {
        event: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        thread_id: Option<Text<ThreadId>>,
        message_id: Text<MessageId>,
        emoji: &'a str,
        user_id: Text<UserId>,
        added: bool,
        reaction_counts: &'a serde_json::value::RawValue,
        epoch: Text<u64>,
        offset: u64,
    }
    encode(&Event {
        event: "reaction_updated",
        thread_id: thread.map(Text),
        message_id: Text(message),
        emoji,
        user_id: Text(user),
        added,
        reaction_counts: json(counts, "{}"),
        epoch: Text(place.epoch),
        offset: place.offset,
    })
}
