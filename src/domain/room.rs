//! A room as the gateway knows it.

use super::RoomId;

/// Who may find and enter a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// Any authenticated user reads and writes.
    Public,
    /// Members only (`private` and `unlisted`, and any word we do not know: the safe reading).
    Closed,
}

/// The columns of `community_room` that the gateway uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    pub id: RoomId,
    pub name: String,
    pub description: String,
    pub icon: String,
    /// `forum`, `circle` or `dm`; passed on as it is stored.
    pub room_type: String,
    pub visibility: Visibility,
    pub member_count: i32,
    /// Archived rooms are read, not written.
    pub is_archived: bool,
    /// Inactive rooms are closed to everybody.
    pub is_active: bool,
    /// Set when this is a circle's chat: the circle's active members are admitted.
    pub circle_id: Option<uuid::Uuid>,
    /// Seconds between two sends of one user; 0 is off.
    pub slow_mode_seconds: i32,
    pub min_trust_to_join: i32,
    pub min_trust_to_post: i32,
    /// Answers to a message go into its thread.
    pub auto_thread: bool,
}
