//! The messages of Django's channel layer: msgpack to the JSON that clients read, and back.
//!
//! Pure. Reading trusts nothing: size and depth are bounded, keys are strings, and what is not a message is an error
//! with a word for the metrics. Writing makes only messages that a consumer of Django can take, because one that it
//! cannot take ends that consumer: a map with string keys, and the `type` that belongs to the group.

use rmpv::Value;
use uuid::Uuid;

use crate::domain::{RoomId, ThreadId, Topic};

/// Longest message that is read, in bytes.
pub const MAX_BYTES: usize = 1 << 20;
/// Random bytes before a message in an inbox: they keep equal messages apart.
pub const PREFIX: usize = 12;
/// How deep `rmpv` may go; each level of nesting counts twice.
const DEPTH: usize = 200;
/// In a message: the channels that it is for.
const ADDRESS: &str = "__asgi_channel__";
/// In a message: which handler of the consumer takes it.
const TYPE: &str = "type";
/// The header of a map with a count of four bytes. `msgpack` for Python never writes it for so few entries, so it tells
/// our own messages from Django's where everybody gets everything.
const MAP_32: u8 = 0xdf;

/// Why a message is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("the message is shorter than its prefix, or too long")]
    Length,
    #[error("the message is not msgpack, or goes too deep")]
    Msgpack,
    #[error("the message is not a map with string keys, each of them once")]
    Shape,
    #[error("the message has no string `type`")]
    NoType,
    #[error("the message's `type` is not that of its group")]
    Type,
    #[error("the message does not say for which channel of ours it is")]
    Address,
    #[error("the message holds what JSON cannot: bytes, or a number that is none")]
    Json,
}

impl Unreadable {
    /// The word in metric labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Msgpack => "msgpack",
            Self::Shape => "shape",
            Self::NoType => "no_type",
            Self::Type => "type",
            Self::Address => "address",
            Self::Json => "json",
        }
    }
}

/// A message as Django's code sent it to a group.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    kind: String,
    address: Option<Value>,
    /// All but `type` and the address.
    fields: Vec<(String, Value)>,
}

impl Message {
    /// Reads the msgpack of a message, without a prefix.
    ///
    /// # Errors
    /// When it is not the msgpack of a message.
    pub fn read(bytes: &[u8]) -> Result<Self, Unreadable> {
        if bytes.len() > MAX_BYTES {
            return Err(Unreadable::Length);
        }
        let mut rest = bytes;
        let value = rmpv::decode::read_value_with_max_depth(&mut rest, DEPTH).map_err(|_| Unreadable::Msgpack)?;
        if !rest.is_empty() {
            return Err(Unreadable::Msgpack);
        }
        let Value::Map(entries) = value else { return Err(Unreadable::Shape) };
        let mut message = Self { kind: String::new(), address: None, fields: Vec::with_capacity(entries.len()) };
        let (mut kind, mut known) = (None, std::collections::HashSet::new());
        for (key, value) in entries {
            let Value::String(key) = key else { return Err(Unreadable::Shape) };
            let key = key.into_str().ok_or(Unreadable::Msgpack)?;
            check(&value)?;
            if !known.insert(key.clone()) {
                return Err(Unreadable::Shape);
            }
            match key.as_str() {
                TYPE => kind = Some(value.as_str().ok_or(Unreadable::NoType)?.to_owned()),
                ADDRESS => message.address = Some(value),
                _ => message.fields.push((key, value)),
            }
        }
        message.kind = kind.ok_or(Unreadable::NoType)?;
        Ok(message)
    }

    /// Reads a message as it lies in an inbox, behind its random bytes.
    ///
    /// # Errors
    /// When it is not one.
    pub fn read_member(bytes: &[u8]) -> Result<Self, Unreadable> {
        Self::read(bytes.get(PREFIX..).ok_or(Unreadable::Length)?)
    }

    /// Its `type`.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The topics that it came to the inbox of this client for.
    ///
    /// # Errors
    /// When it is for no channel of ours, or for another's too.
    pub fn topics(&self, client: &str) -> Result<Vec<Topic>, Unreadable> {
        let names: Vec<&str> = match self.address.as_ref().ok_or(Unreadable::Address)? {
            Value::String(name) => vec![name.as_str().ok_or(Unreadable::Address)?],
            Value::Array(names) => {
                names.iter().map(|name| name.as_str().ok_or(Unreadable::Address)).collect::<Result<_, _>>()?
            }
            _ => return Err(Unreadable::Address),
        };
        if names.is_empty() {
            return Err(Unreadable::Address);
        }
        let id = |name: &str| -> Option<Uuid> {
            name.strip_prefix("specific.")?.strip_prefix(client)?.strip_prefix('!')?.parse().ok()
        };
        names.into_iter().map(|name| self.topic_of(id(name).ok_or(Unreadable::Address)?)).collect()
    }

    fn topic_of(&self, id: Uuid) -> Result<Topic, Unreadable> {
        [Topic::Room(RoomId(id)), Topic::Dm(ThreadId(id))]
            .into_iter()
            .find(|topic| handler(*topic) == Some(&self.kind))
            .ok_or(Unreadable::Type)
    }

    /// The event as clients read it: the message without what is the layer's own.
    ///
    /// # Errors
    /// When JSON cannot say it.
    pub fn into_json(self) -> Result<Vec<u8>, Unreadable> {
        let event: serde_json::Map<String, serde_json::Value> =
            self.fields.into_iter().map(|(key, value)| Ok((key, to_json(value)?))).collect::<Result<_, _>>()?;
        serde_json::to_vec(&event).map_err(|_| Unreadable::Json)
    }
}

/// The method of Django's consumers that takes the events of a topic.
#[must_use]
pub fn handler(topic: Topic) -> Option<&'static str> {
    match topic {
        Topic::Room(_) => Some("room_event"),
        Topic::Dm(_) => Some("dm_event"),
        Topic::Thread(_) | Topic::User(_) | Topic::Online(_) => None,
    }
}

/// What can be in no message, at any depth: bad UTF-8, keys that are no strings, extension types.
fn check(value: &Value) -> Result<(), Unreadable> {
    match value {
        Value::String(text) => text.as_str().map(|_| ()).ok_or(Unreadable::Msgpack),
        Value::Array(values) => values.iter().try_for_each(check),
        Value::Map(entries) => entries.iter().try_for_each(|(key, value)| {
            if key.is_str() { check(key).and_then(|()| check(value)) } else { Err(Unreadable::Shape) }
        }),
        Value::Ext(..) => Err(Unreadable::Msgpack),
        _ => Ok(()),
    }
}

fn to_json(value: Value) -> Result<serde_json::Value, Unreadable> {
    use serde_json::Value as Json;

    let number = |float: f64| serde_json::Number::from_f64(float).map(Json::Number).ok_or(Unreadable::Json);
    Ok(match value {
        Value::Nil => Json::Null,
        Value::Boolean(yes) => Json::Bool(yes),
        Value::Integer(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => Json::from(number),
            (None, Some(number)) => Json::from(number),
            (None, None) => return Err(Unreadable::Json),
        },
        Value::F32(float) => number(f64::from(float))?,
        Value::F64(float) => number(float)?,
        Value::String(text) => Json::String(text.into_str().ok_or(Unreadable::Json)?),
        Value::Array(values) => Json::Array(values.into_iter().map(to_json).collect::<Result<_, _>>()?),
        Value::Map(entries) => Json::Object(
            entries
                .into_iter()
                .map(|(key, value)| Ok((key.as_str().ok_or(Unreadable::Json)?.to_owned(), to_json(value)?)))
                .collect::<Result<_, _>>()?,
        ),
        Value::Binary(_) | Value::Ext(..) => return Err(Unreadable::Json),
    })
}

/// How a message ends up with its receivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// In inboxes: whoever puts it there adds one last entry, the address, which the map's header counts already.
    Inbox,
    /// To everybody who is subscribed: the map's header tells gateways that it is from one of them.
    Broadcast,
}

/// Writes an event of ours as a message to the group of its topic. `None` when it is no such event: not a JSON object,
/// or not of a topic that has a group.
#[must_use]
pub fn write(topic: Topic, event: &[u8], delivery: Delivery) -> Option<Vec<u8>> {
    let kind = handler(topic)?;
    let mut fields: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(event).ok()?;
    fields.remove(TYPE);
    fields.remove(ADDRESS);
    let mut bytes = Vec::with_capacity(event.len() + 32);
    let entries = u32::try_from(fields.len()).ok()? + 1;
    match delivery {
        Delivery::Inbox => header(&mut bytes, entries + 1),
        Delivery::Broadcast => {
            bytes.push(MAP_32);
            bytes.extend_from_slice(&entries.to_be_bytes());
        }
    }
    put(&mut bytes, &Value::from(TYPE))?;
    put(&mut bytes, &Value::from(kind))?;
    for (key, value) in fields {
        put(&mut bytes, &Value::from(key))?;
        put(&mut bytes, &from_json(value))?;
    }
    Some(bytes)
}

/// Says whether a gateway wrote a message for everybody.
#[must_use]
pub fn is_ours(message: &[u8]) -> bool {
    message.first() == Some(&MAP_32)
}

fn header(bytes: &mut Vec<u8>, entries: u32) {
    match (u8::try_from(entries), u16::try_from(entries)) {
        (Ok(few @ 0..16), _) => bytes.push(0x80 | few),
        (_, Ok(more)) => {
            bytes.push(0xde);
            bytes.extend_from_slice(&more.to_be_bytes());
        }
        _ => {
            bytes.push(MAP_32);
            bytes.extend_from_slice(&entries.to_be_bytes());
        }
    }
}

fn put(bytes: &mut Vec<u8>, value: &Value) -> Option<()> {
    rmpv::encode::write_value(bytes, value).ok()
}

fn from_json(value: serde_json::Value) -> Value {
    use serde_json::Value as Json;

    match value {
        Json::Null => Value::Nil,
        Json::Bool(yes) => Value::Boolean(yes),
        Json::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => Value::from(number),
            (None, Some(number)) => Value::from(number),
            (None, None) => Value::F64(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => Value::from(text),
        Json::Array(values) => Value::Array(values.into_iter().map(from_json).collect()),
        Json::Object(entries) => {
            Value::Map(entries.into_iter().map(|(key, value)| (Value::from(key), from_json(value))).collect())
        }
    }
}
