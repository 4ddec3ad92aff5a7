//! What travels on a fan-out channel: our own envelope, or a JSON object that Django published.
//!
//! Ours is a fixed header of little-endian numbers and the event's JSON, complete, so that a receiver only puts a frame
//! header before it. The first byte tells the two apart: JSON begins with `{`, an envelope with its version.
//!
//! ```text
//! 0 version │ 1 kind │ 2 epoch u64 │ 10 offset u64 │ 18 user i64 │ 26 time i64 │ 34 sent i64 │ 42 shown i64 │ 50 length u32 │ 54 body │ tail
//! ```
//!
//! The tail is a decimal number that a script appends: how many are online after a join or a leave.

use std::collections::HashSet;
use std::fmt;

use bytes::Bytes;
use serde::de::{self, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::domain::{Micros, UserId};
use crate::wire::event::Place;

/// The version that this build writes and the only one that it reads.
const VERSION: u8 = 1;
/// Bytes before the body.
const HEADER: usize = 54;
/// Where the log's script finds `time`, counted from 1 as Lua does.
pub(super) const LUA_TIME: usize = 27;
/// How an envelope begins that a script makes of what Django published.
pub(super) const PLAIN_HEAD: [u8; 2] = [VERSION, Kind::Plain as u8];
/// The largest object of Django's that is logged; larger ones would push everything else out.
const MOST_KEPT: usize = 64 * 1024;
/// What Django may publish and nobody needs to hear of later.
const PASSING: [&str; 4] = ["typing", "user_joined", "user_left", "presence_diff"];

/// What an envelope carries, which decides how it is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A new message: logged, delivered by offset, never dropped.
    Message = 1,
    /// A user's first seat in a room. The tail is the number online.
    Joined = 2,
    /// A user's last seat in a room is gone. The tail is the number online.
    Left = 3,
    /// Somebody types, or stops: the latest of a user is enough.
    Typing = 4,
    /// An offset that will never carry an event.
    Void = 5,
    /// Any other change of what is in the room: logged, delivered by offset, never dropped.
    Change = 6,
    /// How many messages a thread has: told in its room, the latest of a thread is enough.
    Thread = 7,
    /// What Django published plainly, with its audience: logged, delivered by offset, never dropped. The body is the object
    /// that Django published, with `epoch` and `offset` at its end.
    Plain = 8,
    /// A user's first socket, anywhere. No body.
    Online = 16,
    /// A user's last socket is gone. No body.
    Offline = 17,
    /// Something for one user, on the user's own topic.
    Notice = 18,
    /// What a user has not read in a room has changed. The body is the room's id, 16 bytes.
    Unread = 19,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Message,
            2 => Self::Joined,
            3 => Self::Left,
            4 => Self::Typing,
            5 => Self::Void,
            6 => Self::Change,
            7 => Self::Thread,
            8 => Self::Plain,
            16 => Self::Online,
            17 => Self::Offline,
            18 => Self::Notice,
            19 => Self::Unread,
            _ => return None,
        })
    }

    /// The word in metric labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Joined => "joined",
            Self::Left => "left",
            Self::Typing => "typing",
            Self::Void => "void",
            Self::Change => "change",
            Self::Thread => "thread",
            Self::Plain => "plain",
            Self::Online => "online",
            Self::Offline => "offline",
            Self::Notice => "notice",
            Self::Unread => "unread",
        }
    }
}

/// One event between instances.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    pub kind: Kind,
    /// Its place in the topic's log; `None` for what is not logged.
    pub place: Option<Place>,
    /// Who caused it: seats that must not see this user are skipped by this number, without looking into the body.
    pub user: Option<UserId>,
    /// Whose words the body shows besides: the author of the message that is answered.
    pub shown: Option<UserId>,
    /// `created_at` of a message; 0 for everything else.
    pub time: Micros,
    /// When it was published, by the publisher's clock.
    pub sent: Micros,
    /// The event's JSON.
    pub body: Bytes,
    /// How many are online, for joins and leaves.
    pub online: u64,
}

/// A JSON object that Django published.
#[derive(Clone, Debug, PartialEq)]
pub struct Foreign {
    /// What clients get: the object without `to` and `except`.
    pub body: Bytes,
    /// Only these users, if given.
    pub to: Option<HashSet<UserId>>,
    /// Not these users.
    pub except: HashSet<UserId>,
    /// Who comes back should hear of it: it is no sign of the moment, not for nobody, and not too large.
    pub lasting: bool,
}

/// What a payload on a fan-out channel may be.
#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    Envelope(Envelope),
    Foreign(Foreign),
}

/// Why a payload is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("the payload is empty, cut short or longer than it says")]
    Length,
    #[error("the payload is of a version that this gateway does not know")]
    Version,
    #[error("the payload is of a kind that this gateway does not know")]
    Kind,
    #[error("the payload is not a JSON object")]
    Json,
    #[error("the JSON object has no string `event`")]
    NoEvent,
    #[error("`to` or `except` is not a list of user ids")]
    Audience,
}

impl Malformed {
    /// The word in metric labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Version => "version",
            Self::Kind => "kind",
            Self::Json => "json",
            Self::NoEvent => "no_event",
            Self::Audience => "audience",
        }
    }
}

impl Envelope {
    /// An envelope that is not logged.
    #[must_use]
    pub fn passing(kind: Kind, user: UserId, body: Vec<u8>) -> Self {
        Self {
            kind,
            place: None,
            user: Some(user),
            shown: None,
            time: Micros(0),
            sent: Micros::now(),
            body: Bytes::from(body),
            online: 0,
        }
    }

    /// Envelopes that say that `count` offsets from `first` on will never carry an event.
    #[must_use]
    pub fn voids(first: Place, count: u64) -> Vec<Self> {
        let void = |offset| Self {
            kind: Kind::Void,
            place: Some(Place { epoch: first.epoch, offset }),
            user: None,
            shown: None,
            time: Micros(0),
            sent: Micros::now(),
            body: Bytes::new(),
            online: 0,
        };
        (first.offset..first.offset + count).map(void).collect()
    }

    /// Writes the envelope without the tail, which scripts append.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let place = self.place.unwrap_or(Place { epoch: 0, offset: 0 });
        let mut bytes = Vec::with_capacity(HEADER + self.body.len());
        bytes.extend_from_slice(&[VERSION, self.kind as u8]);
        bytes.extend_from_slice(&place.epoch.to_le_bytes());
        bytes.extend_from_slice(&place.offset.to_le_bytes());
        bytes.extend_from_slice(&self.user.map_or(0, |user| user.0).to_le_bytes());
        bytes.extend_from_slice(&self.time.0.to_le_bytes());
        bytes.extend_from_slice(&self.sent.0.to_le_bytes());
        bytes.extend_from_slice(&self.shown.map_or(0, |user| user.0).to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(self.body.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// The event in an envelope that [`Envelope::encode`] wrote; empty for anything else.
    #[must_use]
    pub fn body_of(encoded: &[u8]) -> Bytes {
        Bytes::copy_from_slice(encoded.get(HEADER..).unwrap_or_default())
    }

    fn decode(bytes: &Bytes) -> Result<Self, Malformed> {
        let number = |at: usize| -> Result<[u8; 8], Malformed> {
            bytes.get(at..at + 8).and_then(|slice| slice.try_into().ok()).ok_or(Malformed::Length)
        };
        if bytes.first() != Some(&VERSION) {
            return Err(Malformed::Version);
        }
        let kind = Kind::from_byte(*bytes.get(1).ok_or(Malformed::Length)?).ok_or(Malformed::Kind)?;
        let place = Place { epoch: u64::from_le_bytes(number(2)?), offset: u64::from_le_bytes(number(10)?) };
        let (user, shown) = (i64::from_le_bytes(number(18)?), i64::from_le_bytes(number(42)?));
        let length: [u8; 4] = bytes.get(50..HEADER).and_then(|slice| slice.try_into().ok()).ok_or(Malformed::Length)?;
        let end = HEADER + u32::from_le_bytes(length) as usize;
        let tail = bytes.get(end..).ok_or(Malformed::Length)?;
        let online = match (kind, tail) {
            (Kind::Joined | Kind::Left, tail) => {
                std::str::from_utf8(tail).ok().and_then(|text| text.parse().ok()).ok_or(Malformed::Length)?
            }
            (_, []) => 0,
            _ => return Err(Malformed::Length),
        };
        Ok(Self {
            kind,
            place: (place.offset != 0).then_some(place),
            user: (user != 0).then_some(UserId(user)),
            shown: (shown != 0).then_some(UserId(shown)),
            time: Micros(i64::from_le_bytes(number(26)?)),
            sent: Micros(i64::from_le_bytes(number(34)?)),
            body: bytes.slice(HEADER..end),
            online,
        })
    }
}

impl Payload {
    /// Reads what came on a fan-out channel.
    ///
    /// # Errors
    /// When it is neither an envelope nor a JSON object with a string `event`.
    pub fn decode(bytes: &Bytes) -> Result<Self, Malformed> {
        match bytes.first() {
            None => Err(Malformed::Length),
            Some(b'{' | b' ' | b'\n' | b'\t' | b'\r') => Foreign::decode(bytes).map(Self::Foreign),
            Some(_) => Envelope::decode(bytes).map(Self::Envelope),
        }
    }
}

impl Foreign {
    fn decode(bytes: &Bytes) -> Result<Self, Malformed> {
        let fields: Fields<'_> = serde_json::from_slice(bytes).map_err(|_| Malformed::Json)?;
        let field = |name: &str| fields.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| *value);
        let event = field("event").and_then(|event| serde_json::from_str::<String>(event.get()).ok());
        let event = event.ok_or(Malformed::NoEvent)?;
        let to = field("to").map(users).transpose()?;
        let except = field("except").map(users).transpose()?;
        let somebody = to.as_ref().is_none_or(|to| !to.is_empty());
        let lasting = somebody && bytes.len() <= MOST_KEPT && !PASSING.contains(&event.as_str());
        let body = if to.is_none() && except.is_none() { bytes.clone() } else { without_audience(&fields) };
        Ok(Self { body, to, except: except.unwrap_or_default(), lasting })
    }

    /// Reads what Django published out of an envelope of that kind.
    ///
    /// # Errors
    /// When it is no such envelope's.
    pub fn within(envelope: &Envelope) -> Result<Self, Malformed> {
        if envelope.kind == Kind::Plain { Self::decode(&envelope.body) } else { Err(Malformed::Kind) }
    }

    /// Says whether everybody gets this event.
    #[must_use]
    pub fn is_for_all(&self) -> bool {
        self.to.is_none() && self.except.is_empty()
    }

    /// Says whether a user gets this event.
    #[must_use]
    pub fn is_for(&self, user: UserId) -> bool {
        self.to.as_ref().is_none_or(|to| to.contains(&user)) && !self.except.contains(&user)
    }
}

/// Writes the object again without `to` and `except`; every other byte of its values stays as it came.
fn without_audience(fields: &Fields<'_>) -> Bytes {
    let mut body = Vec::with_capacity(256);
    body.push(b'{');
    for (key, value) in fields.0.iter().filter(|(key, _)| key != "to" && key != "except") {
        if body.len() > 1 {
            body.push(b',');
        }
        // A string always encodes.
        body.extend_from_slice(serde_json::to_string(key).unwrap_or_default().as_bytes());
        body.push(b':');
        body.extend_from_slice(value.get().as_bytes());
    }
    body.push(b'}');
    Bytes::from(body)
}

/// User ids are strings; numbers are taken too, because a Django developer's first try will be one.
fn users(list: &RawValue) -> Result<HashSet<UserId>, Malformed> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Id {
        Text(String),
        Number(i64),
    }
    let ids: Vec<Id> = serde_json::from_str(list.get()).map_err(|_| Malformed::Audience)?;
    ids.into_iter()
        .map(|id| match id {
            Id::Text(text) => text.parse().map_err(|_| Malformed::Audience),
            Id::Number(number) => Ok(UserId(number)),
        })
        .collect()
}

/// A JSON object's fields in their order, values unread.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de> de::Deserialize<'de> for Fields<'de> {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry::<String, &'de RawValue>()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
#[path = "envelope_tests.rs"]
mod tests;
