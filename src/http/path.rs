//! Which topic a path asks for.

use uuid::Uuid;

use crate::domain::{RoomId, ThreadId};

/// Length of a UUID with hyphens. The other spellings that a UUID has are all of other lengths.
const HYPHENATED: usize = 36;

/// A path that speaks WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketPath {
    /// `/ws/community/room/<uuid>/`: a room.
    Room(RoomId),
    /// `/ws/community/dm/<uuid>/`: a direct conversation, by its thread's id.
    Dm(ThreadId),
    /// `/ws/community/presence/`: one socket for the whole app.
    Presence,
}

impl SocketPath {
    /// Says whether these bytes, as they came, are the whole head of a request for a path below ours, well formed or not.
    pub(super) fn is_whole_request(bytes: &[u8]) -> bool {
        bytes.starts_with(b"GET /ws/community/") && bytes.windows(4).any(|end| end == b"\r\n\r\n")
    }

    /// Reads a path, with or without its last slash, the UUID in any case.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let rest = path.strip_prefix("/ws/community/")?;
        if matches!(rest, "presence" | "presence/") {
            return Some(Self::Presence);
        }
        let (kind, id) = rest.split_once('/')?;
        let id = id.strip_suffix('/').unwrap_or(id);
        let id = Some(id).filter(|id| id.len() == HYPHENATED).and_then(|id| Uuid::try_parse(id).ok())?;
        match kind {
            "room" => Some(Self::Room(RoomId(id))),
            "dm" => Some(Self::Dm(ThreadId(id))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

    #[test]
    fn a_room_is_found_with_and_without_the_last_slash_and_in_any_case() {
        let room = Some(SocketPath::Room(RoomId(Uuid::try_parse(ID).expect("is a UUID"))));
        for id in [ID.to_owned(), ID.to_uppercase()] {
            assert_eq!(SocketPath::parse(&format!("/ws/community/room/{id}")), room);
            assert_eq!(SocketPath::parse(&format!("/ws/community/room/{id}/")), room);
        }
    }

    #[test]
    fn a_direct_conversation_is_found_likewise() {
        let thread = Some(SocketPath::Dm(ThreadId(Uuid::try_parse(ID).expect("is a UUID"))));
        assert_eq!(SocketPath::parse(&format!("/ws/community/dm/{ID}/")), thread);
        assert_eq!(SocketPath::parse(&format!("/ws/community/dm/{ID}")), thread);
    }

    #[test]
    fn the_presence_socket_has_no_id() {
        for path in ["/ws/community/presence/", "/ws/community/presence"] {
            assert_eq!(SocketPath::parse(path), Some(SocketPath::Presence));
        }
    }

    #[test]
    fn any_other_path_is_nothing() {
        let simple = ID.replace('-', "");
        for path in [
            "",
            "/",
            "/ws/community/room",
            "/ws/community/room/",
            "/ws/community/room//",
            "/ws/community/presence//",
            &format!("/ws/community/presence/{ID}/"),
            &format!("/ws/community/thread/{ID}/"),
            &format!("/ws/community/room/{ID}//"),
            &format!("/ws/community/room//{ID}/"),
            &format!("/ws/community/room/{ID}/x"),
            &format!("/ws/community/room/{ID}0"),
            &format!("/ws/community/room/{simple}/"),
            &format!("/ws/community/room/{{{ID}}}/"),
            &format!("/ws/community/room/urn:uuid:{ID}/"),
            &format!("/ws/community/Room/{ID}/"),
            &format!("ws/community/room/{ID}/"),
            "/ws/community/room/0f8fad5b%2Dd9cb-469f-a165-70867728950e/",
            "/ws/community/room/0f8fad5bd-9cb-469f-a165-70867728950e/",
            "/ws/community/room/0f8fad5b-d9cb-469f-a165-70867728950g/",
        ] {
            assert_eq!(SocketPath::parse(path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_path_makes_it_panic(path in ".*", id in ".{36}") {
            let _ = SocketPath::parse(&path);
            let _ = SocketPath::parse(&format!("/ws/community/room/{id}"));
        }
    }
}
