//! A message that is stored: it has an id and a time, so it is committed.

use super::{MessageId, Micros, RoomId, ThreadId, UserId};

/// Who wrote a message, as readers see them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// `None` when the account is gone.
    pub id: Option<UserId>,
    /// `Unknown` when the account is gone.
    pub username: String,
    pub avatar_url: Option<String>,
}

impl Author {
    /// The author of a message whose account is gone.
    #[must_use]
    pub fn unknown() -> Self {
        Self { id: None, username: "Unknown".to_owned(), avatar_url: None }
    }
}

/// What a reply shows of the message it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyPreview {
    pub id: MessageId,
    /// First 200 characters of the text.
    pub content: String,
    pub author_id: Option<UserId>,
    pub author_username: String,
}

/// A row of `community_message` with what readers need of its neighbours.
///
/// JSON columns are kept as the text Postgres gives: they are passed on, never looked into here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub id: MessageId,
    pub room_id: RoomId,
    pub thread_id: Option<ThreadId>,
    pub author: Author,
    pub content: String,
    /// `text`, `image`, `file`, `embed`, `system` or `deleted`.
    pub message_type: String,
    /// JSON array of `{url,name,size,type}`.
    pub attachments: String,
    /// JSON array of `{url,title,description,thumbnail}`.
    pub embeds: String,
    /// JSON array of user ids.
    pub mentions: String,
    /// JSON object emoji → count.
    pub reaction_counts: String,
    pub reply_to: Option<ReplyPreview>,
    /// Set even when the answered message itself is hidden or gone and has no preview.
    pub reply_to_id: Option<MessageId>,
    pub is_edited: bool,
    pub edited_at: Option<Micros>,
    pub is_pinned: bool,
    pub created_at: Micros,
}

impl Message {
    /// Whom it mentions.
    #[must_use]
    pub fn mentioned(&self) -> Vec<UserId> {
        user_ids(&self.mentions)
    }

    /// Whom it mentions, and another text did not. `before` is what that mentioned, as a JSON array of user ids.
    #[must_use]
    pub fn mentioned_newly(&self, before: &str) -> Vec<UserId> {
        let before = user_ids(before);
        self.mentioned().into_iter().filter(|user| !before.contains(user)).collect()
    }
}

/// User ids of a JSON array; what else Django may have put there mentions nobody.
#[must_use]
pub fn user_ids(mentions: &str) -> Vec<UserId> {
    let ids: Vec<i64> = serde_json::from_str(mentions).unwrap_or_default();
    ids.into_iter().map(UserId).collect()
}
