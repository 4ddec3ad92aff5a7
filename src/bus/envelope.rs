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
//!
//! What belongs to a trace says so at the end of the event's JSON, as `"traceparent"`. That is taken off again here; a gateway
//! that does not know it passes it on to clients, who pass over fields that they do not know. So versions understand each other.

mod foreign;

use std::time::Instant;

use bytes::Bytes;

pub use foreign::Foreign;

use crate::domain::{Micros, UserId};
use crate::telemetry::trace::Context;
use crate::wire::event::Place;

/// The version that this build writes and the only one that it reads.
const VERSION: u8 = 1;
/// Bytes before the body.
const HEADER: usize = 54;
/// Where the log's script finds `time`, counted from 1 as Lua does.
pub(super) const LUA_TIME: usize = 27;
/// How an envelope begins that a script makes of what Django published.
pub(super) const PLAIN_HEAD: [u8; 2] = [VERSION, Kind::Plain as u8];
/// How the mark of a trace begins.
const MARK: &str = ",\"traceparent\":\"";

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
    /// The span that published it, if that is traced.
    pub trace: Option<Context>,
    /// When it came here. Does not travel; `None` for what did not come over the subscription.
    pub arrived: Option<Instant>,
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
            trace: None,
            arrived: None,
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
            trace: None,
            arrived: None,
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
        let mark = self.trace.filter(|_| self.body.ends_with(b"}")).map(|trace| format!("{MARK}{trace}\"}}"));
        let (body, mark) = match &mark {
            Some(mark) => (&self.body[..self.body.len() - 1], mark.as_str()),
            None => (&self.body[..], ""),
        };
        bytes.extend_from_slice(&u32::try_from(body.len() + mark.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(mark.as_bytes());
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
        let (body, trace) = unmarked(bytes.slice(HEADER..end));
        Ok(Self {
            kind,
            place: (place.offset != 0).then_some(place),
            user: (user != 0).then_some(UserId(user)),
            shown: (shown != 0).then_some(UserId(shown)),
            time: Micros(i64::from_le_bytes(number(26)?)),
            sent: Micros(i64::from_le_bytes(number(34)?)),
            body,
            online,
            trace,
            arrived: None,
        })
    }
}

/// Takes the mark of a trace off an event's JSON. Only what the publisher put at its end is one: in a text of the event it
/// would be quoted.
fn unmarked(body: Bytes) -> (Bytes, Option<Context>) {
    let read = |body: &Bytes| {
        let begins = body.len().checked_sub(MARK.len() + Context::LENGTH + 2)?;
        let trace = body[begins..].strip_prefix(MARK.as_bytes())?.strip_suffix(b"\"}")?;
        Some((begins, Context::read(trace)?))
    };
    match read(&body) {
        Some((begins, trace)) => ([&body[..begins], b"}"].concat().into(), Some(trace)),
        None => (body, None),
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

#[cfg(test)]
#[path = "envelope_tests.rs"]
mod tests;
