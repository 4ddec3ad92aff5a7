//! A message, a room and the people in it, for benchmarks to start from.

use std::ops::Range;

use community_gateway::domain::{Author, Message, MessageId, Micros, Person, Room, RoomId, UserId, Visibility};
use uuid::Uuid;

const ROOM: RoomId = RoomId(Uuid::from_u128(1));

/// A message without anything besides its text.
pub fn message(content: String) -> Message {
    Message {
        id: MessageId(Uuid::from_u128(7)),
        room_id: ROOM,
        thread_id: None,
        author: Author { id: Some(UserId(1)), username: "ada".to_owned(), avatar_url: None },
        content,
        message_type: "text".to_owned(),
        attachments: "[]".to_owned(),
        embeds: "[]".to_owned(),
        mentions: "[]".to_owned(),
        reaction_counts: "{}".to_owned(),
        reply_to: None,
        reply_to_id: None,
        is_edited: false,
        edited_at: None,
        is_pinned: false,
        created_at: Micros(1_700_000_000_000_000),
    }
}

/// A room that everybody may enter.
pub fn room() -> Room {
    Room {
        id: ROOM,
        name: "The Lounge".to_owned(),
        description: "Say hello.".to_owned(),
        icon: "coffee".to_owned(),
        room_type: "forum".to_owned(),
        visibility: Visibility::Public,
        member_count: 50,
        is_archived: false,
        is_active: true,
        circle_id: None,
        slow_mode_seconds: 0,
        min_trust_to_join: 0,
        min_trust_to_post: 0,
        auto_thread: false,
    }
}

/// People of these ids.
pub fn people(ids: Range<i64>) -> Vec<Person> {
    let person =
        |user| Person { id: UserId(user), username: format!("person{user}"), avatar_url: None, is_staff: false };
    ids.map(person).collect()
}
