//! Identifiers. One newtype per noun, so that a room's id is never taken for a message's.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use uuid::Uuid;

/// Django's user key: `bigint` in Postgres, a string in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(pub i64);

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for UserId {
    type Err = std::num::ParseIntError;

    /// Accepts the canonical decimal form only: no sign, no white space, no leading zero.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
        if canonical { text.parse().map(Self) } else { "".parse().map(Self) }
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }
    };
}

uuid_id! {
    /// A room's key in `community_room`.
    RoomId
}
uuid_id! {
    /// A thread's key: of a direct conversation or of a thread inside a room.
    ThreadId
}
uuid_id! {
    /// A message's key in `community_message`. Ours are version 7 (time-ordered), Django's version 4.
    MessageId
}

impl MessageId {
    /// Makes a new time-ordered id.
    #[must_use]
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }

    /// Says whether a gateway made this id: ours carry version 7, Django's version 4.
    #[must_use]
    pub fn is_ours(self) -> bool {
        self.0.get_version_num() == 7
    }
}

/// One socket, of this process or of another: where a process begins to count is random, so that it takes no number that
/// another has given out. Fits into the whole numbers of JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

impl ConnectionId {
    /// Takes the next id.
    #[must_use]
    pub fn next() -> Self {
        static NEXT: LazyLock<AtomicU64> =
            LazyLock::new(|| AtomicU64::new(u64::from(rand::random::<u32>() & 0xF_FFFF) << 32 | 1));
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of one gateway process on the bus and in logs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InstanceName(Arc<str>);

impl InstanceName {
    /// Wraps a name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(Arc::from(name))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
