//! A thread inside a room.

use super::{MessageId, Micros, RoomId, ThreadId, UserId};

/// A row of `community_thread`, as readers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    pub id: ThreadId,
    pub room_id: RoomId,
    pub title: String,
    /// The message it began with, if any.
    pub parent_message_id: Option<MessageId>,
    /// `None` when the account is gone.
    pub creator_id: Option<UserId>,
    /// Only moderators write in a locked thread.
    pub is_locked: bool,
    pub is_pinned: bool,
    pub is_resolved: bool,
    /// Nobody writes in an archived thread.
    pub is_archived: bool,
    pub message_count: i32,
    pub last_message_at: Option<Micros>,
    pub created_at: Micros,
}
