//! `watch` and `unwatch`: whose presence a client wants to follow.

use simd_json::prelude::*;
use uuid::Uuid;

use super::{Code, Fields, Refusal};
use crate::domain::{RoomId, UserId};

/// The most rooms and users that one socket may watch, and that one frame may name.
pub const MAX_WATCHED: usize = 500;

/// Rooms and users that a frame names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    pub rooms: Vec<RoomId>,
    pub users: Vec<UserId>,
}

impl Fields<'_, '_> {
    pub(super) fn watched(&self) -> Result<Watched, Refusal> {
        let room = |text: &str| Uuid::parse_str(text).ok().map(RoomId);
        let watched = Watched {
            rooms: self.list("room_ids", room)?,
            users: self.list("user_ids", |text: &str| text.parse().ok())?,
        };
        if watched.rooms.len() + watched.users.len() > MAX_WATCHED {
            return Err(Refusal::new(Code::TooManyWatched));
        }
        Ok(watched)
    }

    /// A list of ids, each once, in order.
    fn list<T: Ord>(&self, name: &str, read: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, Refusal> {
        let wrong = || Refusal::new(Code::InvalidFrame);
        let Some(value) = self.present(name) else { return Ok(Vec::new()) };
        let items = value.as_array().ok_or_else(wrong)?;
        let ids = items.iter().map(|item| item.as_str().and_then(&read).ok_or_else(wrong));
        let mut ids = ids.collect::<Result<Vec<_>, _>>()?;
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ClientCommand;

    const ROOM: &str = "0190a0a0-0000-7000-8000-000000000001";

    fn decode(text: &str) -> Result<ClientCommand, Refusal> {
        ClientCommand::decode(&mut text.as_bytes().to_vec())
    }

    #[test]
    fn ids_are_read_once_each() {
        let room = RoomId(Uuid::parse_str(ROOM).expect("is an id"));
        let watched = Watched { rooms: vec![room], users: vec![UserId(2), UserId(7)] };
        let frame = format!(r#"{{"type":"watch","room_ids":["{ROOM}","{ROOM}"],"user_ids":["7","2"]}}"#);
        assert_eq!(decode(&frame), Ok(ClientCommand::Watch(watched)));
        assert_eq!(decode(r#"{"type":"unwatch","user_ids":null}"#), Ok(ClientCommand::Unwatch(Watched::default())));
    }

    #[test]
    fn what_is_no_list_of_ids_or_too_long_is_refused() {
        for wrong in [r#""room_ids":["7"]"#, r#""user_ids":["x"]"#, r#""user_ids":[7]"#, r#""user_ids":"7""#] {
            let refused = decode(&format!(r#"{{"type":"watch",{wrong}}}"#)).expect_err("is refused");
            assert_eq!((refused.code, refused.request_type), (Code::InvalidFrame, Some("watch")), "{wrong}");
        }
        let ids: Vec<String> = (1..=501).map(|id| format!("\"{id}\"")).collect();
        let many = format!(r#"{{"type":"watch","user_ids":[{}]}}"#, ids.join(","));
        assert_eq!(decode(&many).expect_err("is refused").code, Code::TooManyWatched);
    }
}
