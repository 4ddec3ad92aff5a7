//! What Django publishes plainly: any JSON object with an `event`, and whom it is for.
//!
//! Values stay as they came, byte for byte.

use std::collections::HashSet;
use std::fmt;

use bytes::Bytes;
use serde::de::{self, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Envelope, Kind, Malformed};
use crate::domain::UserId;

/// The largest object of Django's that is logged; larger ones would push everything else out.
pub(super) const MOST_KEPT: usize = 64 * 1024;
/// What Django may publish and nobody needs to hear of later.
const PASSING: [&str; 4] = ["typing", "user_joined", "user_left", "presence_diff"];

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

impl Foreign {
    pub(super) fn decode(bytes: &Bytes) -> Result<Self, Malformed> {
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
