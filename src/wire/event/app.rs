//! The events of the presence socket.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::encode;
use super::message::Text;
use crate::domain::{Author, MessageId, RoomId, ThreadId, UserId};

/// Pairs as a JSON object, ids as its keys.
struct Pairs<'a, K, V>(&'a [(K, V)]);

impl<K: std::fmt::Display, V: Serialize> Serialize for Pairs<'_, K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in self.0 {
            map.serialize_entry(&Text(key), value)?;
        }
        map.end()
    }
}

#[derive(Serialize)]
struct Online<'a> {
    event: &'static str,
    rooms: Pairs<'a, RoomId, u64>,
    users: Pairs<'a, UserId, bool>,
}

/// `presence_state`: how many are online in rooms, and which users are.
#[must_use]
pub fn presence_state(rooms: &[(RoomId, u64)], users: &[(UserId, bool)]) -> Vec<u8> {
    encode(&Online { event: "presence_state", rooms: Pairs(rooms), users: Pairs(users) })
}

/// `presence_update`: what of that has changed.
#[must_use]
pub fn presence_update(rooms: &[(RoomId, u64)], users: &[(UserId, bool)]) -> Vec<u8> {
    encode(&Online { event: "presence_update", rooms: Pairs(rooms), users: Pairs(users) })
}

/// `unread`: how many messages wait, in rooms and in direct conversations.
#[must_use]
pub fn unread(rooms: &[(RoomId, u32)], threads: &[(ThreadId, u32)]) -> Vec<u8> {
    #[derive(Serialize)]
    struct Event<'a> {
        event: &'static str,
        rooms: Pairs<'a, RoomId, u32>,
        threads: Pairs<'a, ThreadId, u32>,
    }
    encode(&Event { event: "unread", rooms: Pairs(rooms), threads: Pairs(threads) })
}

/// `mention`: somebody, `user`, wrote the receiver's name.
#[must_use]
pub fn mention(room: RoomId, message: MessageId, user: UserId, author: &Author) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct AuthorJson<'a> {
        id: Text<UserId>,
        username: &'a str,
        avatar_url: Option<&'a str>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Event<'a> {
        event: &'static str,
        room_id: Text<RoomId>,
        message_id: Text<MessageId>,
        author: AuthorJson<'a>,
    }
    let (id, username, avatar_url) = (Text(user), author.username.as_str(), author.avatar_url.as_deref());
    encode(&Event {
        event: "mention",
        room_id: Text(room),
        message_id: Text(message),
        author: AuthorJson { id, username, avatar_url },
    })
}
