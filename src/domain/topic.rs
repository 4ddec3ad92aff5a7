//! What is joined and published to.

use std::fmt;

use uuid::Uuid;

use super::{RoomId, ThreadId, UserId};

/// What the path of a socket names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Venue {
    /// A room, by its own id.
    Room(RoomId),
    /// A direct conversation, by its thread's id.
    Dm(ThreadId),
    /// No place: the one socket of the whole app, for what concerns its user.
    App,
}

impl Venue {
    /// The id of the place, if it is one.
    #[must_use]
    pub fn id(self) -> Option<Uuid> {
        match self {
            Self::Room(id) => Some(id.0),
            Self::Dm(id) => Some(id.0),
            Self::App => None,
        }
    }
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
            Self::App => f.write_str("app"),
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
    /// What concerns one user, on the user's own sockets.
    User(UserId),
    /// Whether one user is online, for those who watch.
    Online(UserId),
}

impl Topic {
    /// Says whether events of this topic have a place in a log. What has none may be lost while Redis is away.
    #[must_use]
    pub fn is_logged(self) -> bool {
        !matches!(self, Self::User(_) | Self::Online(_))
    }

    /// The kind as the word that keys, logs and metric labels use.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Room(_) => "room",
            Self::Dm(_) => "dm",
            Self::Thread(_) => "thread",
            Self::User(_) => "user",
            Self::Online(_) => "online",
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind();
        match self {
            Self::Room(id) => write!(f, "{kind}:{id}"),
            Self::Dm(id) | Self::Thread(id) => write!(f, "{kind}:{id}"),
            Self::User(id) | Self::Online(id) => write!(f, "{kind}:{id}"),
        }
    }
}
