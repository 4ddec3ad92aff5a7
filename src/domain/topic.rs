//! What is joined and published to.

use std::fmt;

use uuid::Uuid;

use super::{RoomId, ThreadId};

/// What the path of a socket names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Venue {
    /// A room, by its own id.
    Room(RoomId),
    /// A direct conversation, by its thread's id.
    Dm(ThreadId),
}

impl From<RoomId> for Venue {
    fn from(room: RoomId) -> Self {
        Self::Room(room)
    }
}

impl fmt::Display for Venue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Room(id) => write!(f, "room:{id}"),
            Self::Dm(id) => write!(f, "dm:{id}"),
        }
    }
}

/// A stream of events that sessions join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// Everybody in a room (a forum or a circle's chat).
    Room(RoomId),
    /// The participants of a direct conversation, by its thread's id.
    Dm(ThreadId),
    /// The readers of one thread inside a room.
    Thread(ThreadId),
}

impl Topic {
    /// The id alone, whatever it is of.
    #[must_use]
    pub fn uuid(self) -> Uuid {
        match self {
            Self::Room(id) => id.0,
            Self::Dm(id) | Self::Thread(id) => id.0,
        }
    }

    /// The kind as the word that keys, logs and metric labels use.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Room(_) => "room",
            Self::Dm(_) => "dm",
            Self::Thread(_) => "thread",
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind(), self.uuid().as_hyphenated())
    }
}
