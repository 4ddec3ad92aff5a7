//! What happens to threads inside a room.

use serde::{Deserialize, Serialize};

use super::message::Text;
use super::{Place, State, encode};
use crate::domain::{MessageId, Micros, RoomId, Thread, ThreadId, UserId};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ThreadJson<'a> {
    id: Text<ThreadId>,
    room_id: Text<RoomId>,
    title: &'a str,
    parent_message_id: Option<Text<MessageId>>,
    creator_id: Option<Text<UserId>>,
    is_locked: bool,
    is_pinned: bool,
    is_resolved: bool,
    is_archived: bool,
    message_count: i32,
    last_message_at: Option<Text<Micros>>,
    created_at: Text<Micros>,
}

impl<'a> From<&'a Thread> for ThreadJson<'a> {
    fn from(thread: &'a Thread) -> Self {
        Self {
            id: Text(thread.id),
            room_id: Text(thread.room_id),
            title: &thread.title,
            parent_message_id: thread.parent_message_id.map(Text),
            creator_id: thread.creator_id.map(Text),
            is_locked: thread.is_locked,
            is_pinned: thread.is_pinned,
            is_resolved: thread.is_resolved,
            is_archived: thread.is_archived,
            message_count: thread.message_count,
            last_message_at: thread.last_message_at.map(Text),
            created_at: Text(thread.created_at),
        }
    }
}

#[derive(Serialize)]
struct ThreadEvent<'a> {
    event: &'static str,
    thread: ThreadJson<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<Text<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
}

impl<'a> ThreadEvent<'a> {
    fn new(event: &'static str, thread: &'a Thread, place: Option<Place>) -> Self {
        Self {
            event,
            thread: thread.into(),
            epoch: place.map(|place| Text(place.epoch)),
            offset: place.map(|place| place.offset),
        }
    }
}

/// `thread_created`. Without a place it tells one asker of a thread that was there before.
#[must_use]
pub fn thread_created(thread: &Thread, place: Option<Place>) -> Vec<u8> {
    encode(&ThreadEvent::new("thread_created", thread, place))
}

/// `thread_updated`, with the whole thread: it was locked or unlocked.
#[must_use]
pub fn thread_updated(thread: &Thread, place: Place) -> Vec<u8> {
    encode(&ThreadEvent::new("thread_updated", thread, Some(place)))
}

/// `thread_updated`, with nothing but what a new message changed. The latest is enough.
#[must_use]
pub fn thread_counted(thread: ThreadId, message_count: i32, last_message_at: Micros) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Counted {
        id: Text<ThreadId>,
        message_count: i32,
        last_message_at: Text<Micros>,
    }
    #[derive(Serialize)]
    struct Event {
        event: &'static str,
        thread: Counted,
    }
    let thread = Counted { id: Text(thread), message_count, last_message_at: Text(last_message_at) };
    encode(&Event { event: "thread_updated", thread })
}

/// Reads which thread a `thread_updated` is about.
#[must_use]
pub fn thread_in(event: &[u8]) -> Option<ThreadId> {
    #[derive(Deserialize)]
    struct Counted {
        id: uuid::Uuid,
    }
    #[derive(Deserialize)]
    struct Event {
        thread: Counted,
    }
    serde_json::from_slice(event).ok().map(|event: Event| ThreadId(event.thread.id))
}

/// `thread_state`: the first event after `open_thread`.
#[must_use]
pub fn thread_state(thread: &Thread, state: &State<'_>) -> Vec<u8> {
    state.end(encode(&ThreadEvent::new("thread_state", thread, None)), |_| {})
}
