//! Orders from Django on `community:control`.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::domain::{ConnectionId, Decision, MessageId, RoomId, ThreadId, UserId};

/// An order that this gateway obeys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// End every session of a user.
    Disconnect { user: UserId },
    /// End a user's sessions that are older than a session version.
    Logout { user: UserId, session_version: i64 },
    /// End a user's sessions in a room.
    Kick { room: RoomId, user: UserId },
    /// Look up rights again: of a user, of a room or a direct conversation, or of a user in one.
    Refresh { room: Option<RoomId>, user: Option<UserId>, thread: Option<ThreadId> },
    /// Orders may have been missed: look everything up again. Not an order of Django, but of the subscriber.
    CatchUp,
    /// Read a room's settings again.
    RoomChanged { room: RoomId },
    /// Read the blocks of these users again.
    BlockChanged { users: Vec<UserId> },
    /// Tell of what a human decided of a message; the row says so already.
    Moderation { message: MessageId, decision: Decision },
    /// Read what can be changed while the process runs again.
    Reload,
    /// Tell those in a room, or everybody, something.
    Notice { room: Option<RoomId>, text: Words },
    /// Log more of a user or a room for a while.
    Follow { user: Option<UserId>, room: Option<Uuid>, level: Detail },
    /// End a socket in whose place another one came. Not an order of Django, but of the instance that the client is on now.
    Replaced { user: UserId, connection: ConnectionId },
    /// Answer an operator's question, if it is for this instance.
    Ask { id: Uuid, instance: Option<String>, question: Value },
}

/// A text for people, which is no matter for the log.
#[derive(Clone, PartialEq, Eq)]
pub struct Words(pub String);

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Detail {
    Off,
    Debug,
    Trace,
}

/// Why an order is not obeyed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    #[error("the message is not a JSON object with a string `action`")]
    Malformed,
    #[error("the action is not known to this version")]
    Unknown,
    #[error("the action lacks a field or has one of the wrong type")]
    Field,
}

/// Ids are strings in the contract; numbers are taken for users, because Django's keys are numbers.
#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Text(String),
    Number(i64),
}

#[derive(Deserialize)]
struct Order {
    action: String,
    user: Option<Id>,
    room: Option<Uuid>,
    thread: Option<Uuid>,
    session_version: Option<i64>,
    users: Option<Vec<Id>>,
    message: Option<Uuid>,
    decision: Option<String>,
    text: Option<String>,
    level: Option<Detail>,
    connection: Option<u64>,
    id: Option<Uuid>,
    instance: Option<String>,
    question: Option<Value>,
}

impl Id {
    fn user(self) -> Result<UserId, ControlError> {
        match self {
            Self::Number(number) => Ok(UserId(number)),
            Self::Text(text) => text.parse().map_err(|_| ControlError::Field),
        }
    }
}

impl Control {
    /// The action's word, for metrics.
    #[must_use]
    pub fn action(&self) -> &'static str {
        match self {
            Self::Disconnect { .. } => "disconnect",
            Self::Logout { .. } => "logout",
            Self::Kick { .. } => "kick",
            Self::Refresh { .. } => "refresh",
            Self::CatchUp => "catch_up",
            Self::RoomChanged { .. } => "room_changed",
            Self::BlockChanged { .. } => "block_changed",
            Self::Moderation { .. } => "moderation",
            Self::Reload => "reload",
            Self::Notice { .. } => "notice",
            Self::Follow { .. } => "follow",
            Self::Replaced { .. } => "replaced",
            Self::Ask { .. } => "ask",
        }
    }

    /// Reads an order.
    ///
    /// # Errors
    /// When it is malformed, unknown, or lacks what it needs.
    pub fn decode(bytes: &[u8]) -> Result<Self, ControlError> {
        #[derive(Deserialize)]
        struct Named {
            action: String,
        }
        let named: Named = serde_json::from_slice(bytes).map_err(|_| ControlError::Malformed)?;
        let order: Order = match named.action.as_str() {
            "disconnect" | "logout" | "kick" | "refresh" | "room_changed" | "block_changed" | "moderation"
            | "reload" | "notice" | "follow" | "replaced" | "ask" => {
                serde_json::from_slice(bytes).map_err(|_| ControlError::Field)?
            }
            _ => return Err(ControlError::Unknown),
        };
        let user = order.user.map(Id::user).transpose()?;
        let room = order.room.map(RoomId);
        let needed_user = user.ok_or(ControlError::Field);
        let needed_room = room.ok_or(ControlError::Field);
        Ok(match order.action.as_str() {
            "disconnect" => Self::Disconnect { user: needed_user? },
            "logout" => {
                Self::Logout { user: needed_user?, session_version: order.session_version.ok_or(ControlError::Field)? }
            }
            "kick" => Self::Kick { room: needed_room?, user: needed_user? },
            "room_changed" => Self::RoomChanged { room: needed_room? },
            "block_changed" => {
                let users = order.users.ok_or(ControlError::Field)?;
                Self::BlockChanged { users: users.into_iter().map(Id::user).collect::<Result<_, _>>()? }
            }
            "reload" => Self::Reload,
            "notice" => Self::Notice { room, text: Words(order.text.ok_or(ControlError::Field)?) },
            "follow" => {
                let level = order.level.ok_or(ControlError::Field)?;
                Self::Follow { user, room: order.room, level }
            }
            "replaced" => {
                let connection = order.connection.map(ConnectionId).ok_or(ControlError::Field)?;
                Self::Replaced { user: needed_user?, connection }
            }
            "ask" => Self::Ask {
                id: order.id.ok_or(ControlError::Field)?,
                instance: order.instance,
                question: order.question.ok_or(ControlError::Field)?,
            },
            "moderation" => {
                let decision = order.decision.as_deref().and_then(Decision::parse);
                let message = order.message.map(MessageId);
                let (message, decision) = message.zip(decision).ok_or(ControlError::Field)?;
                Self::Moderation { message, decision }
            }
            _ => Self::Refresh { room, user, thread: order.thread.map(ThreadId) },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_and_bad_ones_named() {
        let room = "3f2504e0-4f89-41d3-9a0c-0305e82c3301";
        let id = RoomId(room.parse().expect("is an id"));
        let read = |text: &str| Control::decode(text.as_bytes());
        assert_eq!(
            read(r#"{"action":"disconnect","user":"7","by":"admin"}"#),
            Ok(Control::Disconnect { user: UserId(7) })
        );
        assert_eq!(
            read(&format!(r#"{{"action":"kick","room":"{room}","user":7}}"#)),
            Ok(Control::Kick { room: id, user: UserId(7) })
        );
        assert_eq!(
            read(r#"{"action":"block_changed","users":["1",2]}"#),
            Ok(Control::BlockChanged { users: vec![UserId(1), UserId(2)] })
        );
        let decided =
            |decision: &str| read(&format!(r#"{{"action":"moderation","message":"{room}","decision":"{decision}"}}"#));
        let message = MessageId(id.0);
        assert_eq!(decided("approved"), Ok(Control::Moderation { message, decision: Decision::Approved }));
        assert_eq!(decided("doubted"), Err(ControlError::Field));
        assert_eq!(read(r#"{"action":"block_changed"}"#), Err(ControlError::Field));
        assert_eq!(read(r#"{"action":"reload"}"#), Ok(Control::Reload));
        let notice = read(r#"{"action":"notice","text":"We move at noon."}"#).expect("is read");
        assert_eq!(notice, Control::Notice { room: None, text: Words("We move at noon.".to_owned()) });
        assert!(!format!("{notice:?}").contains("noon"), "what is said is not logged");
        assert_eq!(
            read(&format!(r#"{{"action":"follow","room":"{room}","level":"debug"}}"#)),
            Ok(Control::Follow { user: None, room: Some(id.0), level: Detail::Debug })
        );
        assert_eq!(read(r#"{"action":"follow","user":"7","level":"loud"}"#), Err(ControlError::Field));
        assert_eq!(
            read(&format!(r#"{{"action":"ask","id":"{room}","question":{{"user":"7"}}}}"#)),
            Ok(Control::Ask { id: id.0, instance: None, question: serde_json::json!({"user": "7"}) })
        );
        let replaced = Control::Replaced { user: UserId(7), connection: ConnectionId(4_503_599_627_370_497) };
        assert_eq!(read(r#"{"action":"replaced","user":"7","connection":4503599627370497}"#), Ok(replaced));
        assert_eq!(read(r#"{"action":"replaced","user":"7"}"#), Err(ControlError::Field));
        assert_eq!(read(r#"{"action":"refresh"}"#), Ok(Control::Refresh { room: None, user: None, thread: None }));
        assert_eq!(
            read(&format!(r#"{{"action":"refresh","thread":"{room}"}}"#)),
            Ok(Control::Refresh { room: None, user: None, thread: Some(ThreadId(id.0)) })
        );
        assert_eq!(read(r#"{"action":"refresh","thread":"all"}"#), Err(ControlError::Field));
        assert_eq!(read(r#"{"action":"kick","user":"7"}"#), Err(ControlError::Field));
        assert_eq!(read(r#"{"action":"disconnect","user":"07"}"#), Err(ControlError::Field));
        assert_eq!(read(r#"{"action":"dance"}"#), Err(ControlError::Unknown));
        assert_eq!(read("[]"), Err(ControlError::Malformed));
    }
}
