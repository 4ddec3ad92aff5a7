//! From what happened to the JSON that clients read. Encoded once, shared by all receivers.
//!
//! Field names and shapes are those of the existing Django consumers; what is added is additive.

mod app;
mod change;
mod json;
mod message;
mod moderation;
mod resume;
mod thread;

use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;

pub use app::{mention, presence_state, presence_update, unread};
pub use change::{message_deleted, message_edited, message_pinned, reaction_updated};
pub use message::MessagesJson;
use message::Text;
pub use moderation::{Moderation, message_reported};
pub use resume::{Resumed, resumed, session};
pub use thread::{thread_counted, thread_created, thread_in, thread_state, thread_updated};

use super::Refusal;
use crate::domain::{Message, MessageId, Micros, Person, Room, RoomId, ThreadId, UserId};

/// The place of an event in its topic's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which life of the log.
    pub epoch: u64,
    /// Contiguous within the epoch, from 1.
    pub offset: u64,
}

/// The first state of a room or a direct conversation.
#[derive(Debug)]
pub struct State<'a> {
    /// In JSON with commas between, oldest first: see [`MessagesJson`].
    pub messages: &'a [u8],
    pub has_more: bool,
    pub cursor: Option<MessageId>,
    /// Events after this place follow live.
    pub place: Place,
}

impl State<'_> {
    /// Writes an event that a state is the end of: the messages, what stands `between`, and where they are.
    fn end(&self, mut json: Vec<u8>, between: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        json.reserve(self.messages.len() + 256);
        json.pop();
        json.extend_from_slice(br#","messages":["#);
        json.extend_from_slice(self.messages);
        json.push(b']');
        between(&mut json);
        json.extend_from_slice(br#","hasMore":"#);
        json::truth(&mut json, self.has_more);
        json.extend_from_slice(br#","cursor":"#);
        json::id_or_null(&mut json, self.cursor.map(|cursor| cursor.0));
        self.place.end(json)
    }
}

impl Place {
    /// Writes the end of an event that has a place.
    fn end(self, mut json: Vec<u8>) -> Vec<u8> {
        json.extend_from_slice(br#","epoch":"#);
        json::number(&mut json, self.epoch);
        json.extend_from_slice(br#","offset":"#);
        json::value(&mut json, &self.offset);
        json.push(b'}');
        json
    }
}

/// `room_state`: the first event on a room socket.
#[must_use]
pub fn room_state(room: &Room, state: &State<'_>, online: &[Person], online_count: u64) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct RoomJson<'a> {
        id: Text<RoomId>,
        name: &'a str,
        description: &'a str,
        icon: &'a str,
        room_type: &'a str,
        member_count: i32,
    }
    #[derive(Serialize)]
    struct Head<'a> {
        event: &'static str,
        room: RoomJson<'a>,
    }
    let head = encode(&Head {
        event: "room_state",
        room: RoomJson {
            id: Text(room.id),
            name: &room.name,
            description: &room.description,
            icon: &room.icon,
            room_type: &room.room_type,
            member_count: room.member_count,
        },
    });
    state.end(head, |json| {
        json.reserve(online.len() * 64);
        json::online_users(json, online);
        json.extend_from_slice(br#","onlineCount":"#);
        json::value(json, &online_count);
    })
}

/// `dm_state`: the first event on a direct conversation's socket.
#[must_use]
pub fn dm_state(thread: ThreadId, state: &State<'_>) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Head {
        event: &'static str,
        thread_id: Text<ThreadId>,
    }
    state.end(encode(&Head { event: "dm_state", thread_id: Text(thread) }), |_| {})
}

/// `message_history`: a page of older messages, oldest first, in JSON with commas between; of a thread inside the room,
/// with its `threadId`.
#[must_use]
pub fn message_history(
    thread: Option<ThreadId>,
    messages: &[u8],
    has_more: bool,
    cursor: Option<MessageId>,
) -> Vec<u8> {
    let mut json = Vec::with_capacity(messages.len() + 256);
    json.extend_from_slice(br#"{"event":"message_history""#);
    if let Some(thread) = thread {
        json.extend_from_slice(br#","threadId":"#);
        json::id(&mut json, thread.0);
    }
    json.extend_from_slice(br#","messages":["#);
    json.extend_from_slice(messages);
    json.extend_from_slice(br#"],"hasMore":"#);
    json::truth(&mut json, has_more);
    json.extend_from_slice(br#","cursor":"#);
    json::id_or_null(&mut json, cursor.map(|cursor| cursor.0));
    json.push(b'}');
    json
}

/// `new_message`, with its place in the log and, for its sender's sake, the `client_id`.
#[must_use]
pub fn new_message(message: &Message, place: Place, client_id: Option<&str>) -> Vec<u8> {
    let mut json = with_message(br#"{"event":"new_message","message":"#, message, place);
    if let Some(client_id) = client_id {
        json.pop();
        json.extend_from_slice(br#","clientId":"#);
        json::text(&mut json, client_id);
        json.push(b'}');
    }
    json
}

/// An event that is a message and its place, behind its beginning.
fn with_message(begins: &[u8], message: &Message, place: Place) -> Vec<u8> {
    let mut json = Vec::with_capacity(message.content.len() + 768);
    json.extend_from_slice(begins);
    message::write(&mut json, message);
    place.end(json)
}

/// How the `new_message` of a message begins, so that it can be found among others.
#[must_use]
pub fn new_message_begins(message: MessageId) -> Vec<u8> {
    format!(r#"{{"event":"new_message","message":{{"id":"{message}""#).into_bytes()
}

/// A `new_message` or `message_edited` without what the message answers, for those who must not see its author.
///
/// Gives `None` for anything that is not such an event of ours.
#[must_use]
pub fn without_reply(event: &[u8]) -> Option<Vec<u8>> {
    let mut event: serde_json::Value = serde_json::from_slice(event).ok()?;
    *event.get_mut("message")?.get_mut("replyTo")? = serde_json::Value::Null;
    Some(encode(&event))
}

/// `user_joined`: a user's first socket in a room, on any instance.
#[must_use]
pub fn user_joined(person: &Person) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Event<'a> {
        event: &'static str,
        user_id: Text<UserId>,
        username: &'a str,
        avatar_url: Option<&'a str>,
    }
    encode(&Event {
        event: "user_joined",
        user_id: Text(person.id),
        username: &person.username,
        avatar_url: person.avatar_url.as_deref(),
    })
}

/// `user_left`: a user's last socket in a room, on any instance, is gone.
#[must_use]
pub fn user_left(user: UserId) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Event {
        event: &'static str,
        user_id: Text<UserId>,
    }
    encode(&Event { event: "user_left", user_id: Text(user) })
}

/// `presence_diff`: what joins and leaves become in a big room. `joined` holds the objects of `user_joined`.
#[must_use]
pub fn presence_diff(joined: &[&RawValue], left: &[UserId], online: u64) -> Vec<u8> {
    #[derive(Serialize)]
    struct Event<'a> {
        event: &'static str,
        joined: &'a [&'a RawValue],
        left: Vec<Text<UserId>>,
        online: u64,
    }
    encode(&Event { event: "presence_diff", joined, left: left.iter().copied().map(Text).collect(), online })
}

/// `typing`.
#[must_use]
pub fn typing(user: UserId, username: &str, is_typing: bool) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Event<'a> {
        event: &'static str,
        user_id: Text<UserId>,
        username: &'a str,
        is_typing: bool,
    }
    encode(&Event { event: "typing", user_id: Text(user), username, is_typing })
}

/// `room_updated`: the room's settings changed in Django.
#[must_use]
pub fn room_updated(room: &Room) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct RoomJson<'a> {
        id: Text<crate::domain::RoomId>,
        name: &'a str,
        description: &'a str,
        icon: &'a str,
        room_type: &'a str,
        member_count: i32,
        is_archived: bool,
        slow_mode_seconds: i32,
    }
    #[derive(Serialize)]
    struct Event<'a> {
        event: &'static str,
        room: RoomJson<'a>,
    }
    encode(&Event {
        event: "room_updated",
        room: RoomJson {
            id: Text(room.id),
            name: &room.name,
            description: &room.description,
            icon: &room.icon,
            room_type: &room.room_type,
            member_count: room.member_count,
            is_archived: room.is_archived,
            slow_mode_seconds: room.slow_mode_seconds,
        },
    })
}

/// `message_ack`: to the sender, after the commit. It has no `offset` when the event's place is not known any more.
#[must_use]
pub fn message_ack(client_id: &str, message: MessageId, created_at: Micros, place: Option<Place>) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Event<'a> {
        event: &'static str,
        client_id: &'a str,
        message_id: Text<MessageId>,
        created_at: Text<Micros>,
        #[serde(skip_serializing_if = "Option::is_none")]
        epoch: Option<Text<u64>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        offset: Option<u64>,
    }
    encode(&Event {
        event: "message_ack",
        client_id,
        message_id: Text(message),
        created_at: Text(created_at),
        epoch: place.map(|place| Text(place.epoch)),
        offset: place.map(|place| place.offset),
    })
}

/// `pong`, with the naive UTC time that the old consumers wrote.
#[must_use]
pub fn pong(now: Micros) -> Vec<u8> {
    format!(r#"{{"event":"pong","timestamp":"{}"}}"#, now.naive()).into_bytes()
}

/// `error`, of a refusal or before a close.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorEvent<'a> {
    event: &'static str,
    message: &'a str,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_type: Option<&'static str>,
}

/// `error`: a refusal.
#[must_use]
pub fn error(refusal: &Refusal) -> Vec<u8> {
    encode(&ErrorEvent {
        event: "error",
        message: &refusal.message,
        code: refusal.code.as_str(),
        retry_after: refusal.retry_after.map(seconds_up),
        client_id: refusal.client_id.as_deref(),
        request_type: refusal.request_type,
    })
}

/// `error` that precedes a close, for clients that read events and not close codes.
#[must_use]
pub fn closing_error(message: &str, code: &'static str, retry_after: Option<Duration>) -> Vec<u8> {
    let retry_after = retry_after.map(seconds_up);
    encode(&ErrorEvent { event: "error", message, code, retry_after, client_id: None, request_type: None })
}

/// `reconnect`: precedes a drain.
#[must_use]
pub fn reconnect(delay: Duration, reason: &'static str) -> Vec<u8> {
    format!(r#"{{"event":"reconnect","delayMs":{},"reason":"{reason}"}}"#, delay.as_millis()).into_bytes()
}

/// `notice`: what an operator has to say, to those in a room or to everybody.
#[must_use]
pub fn notice(text: &str, room: Option<RoomId>) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Notice<'a> {
        event: &'static str,
        message: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        room_id: Option<String>,
    }
    encode(&Notice { event: "notice", message: text, room_id: room.map(|room| room.to_string()) })
}

/// Seconds with one digit, rounded up: a client that waits this long is never early.
fn seconds_up(wait: Duration) -> f64 {
    (wait.as_secs_f64() * 10.0).ceil() / 10.0
}

fn encode(event: &impl Serialize) -> Vec<u8> {
    // The types above hold only strings, numbers, booleans and valid raw JSON, whose encoding cannot fail.
    serde_json::to_vec(event).unwrap_or_default()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OnlineUser<'a> {
    user_id: Text<UserId>,
    username: &'a str,
}

impl<'a> From<&'a Person> for OnlineUser<'a> {
    fn from(person: &'a Person) -> Self {
        Self { user_id: Text(person.id), username: &person.username }
    }
}
