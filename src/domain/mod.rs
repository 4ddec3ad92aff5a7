//! The words of the chat: ids, topics, members, messages, time.
//!
//! Pure: no I/O, no JSON, no knowledge of sockets or tables.

pub mod decision;
pub mod emoji;
pub mod hidden;
pub mod id;
pub mod member;
pub mod message;
pub mod room;
pub mod thread;
pub mod time;
pub mod topic;
pub mod trust;

pub use decision::Decision;
pub use emoji::Emoji;
pub use hidden::Hidden;
pub use id::{ConnectionId, InstanceName, MessageId, RoomId, ThreadId, UserId};
pub use member::{Person, Role};
pub use message::{Author, Message, ReplyPreview, user_ids};
pub use room::{Room, Visibility};
pub use thread::Thread;
pub use time::Micros;
pub use topic::{Topic, Venue};
pub use trust::Trust;
