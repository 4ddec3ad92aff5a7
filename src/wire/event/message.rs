//! A message as JSON. The order and names of its fields are the contract's.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::domain::{Author, Message, ReplyPreview, UserId};

/// A value written as its `Display` text in quotes.
pub(super) struct Text<T>(pub T);

impl<T: std::fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A message as clients read it; the contract's field names in the contract's order.
pub(super) struct MessageJson<'a>(pub &'a Message);

impl Serialize for MessageJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let message = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &Text(message.id))?;
        map.serialize_entry("roomId", &Text(message.room_id))?;
        map.serialize_entry("threadId", &message.thread_id.map(Text))?;
        map.serialize_entry("author", &AuthorJson(&message.author))?;
        map.serialize_entry("content", &message.content)?;
        map.serialize_entry("messageType", &message.message_type)?;
        map.serialize_entry("attachments", &json(&message.attachments, "[]"))?;
        map.serialize_entry("embeds", &json(&message.embeds, "[]"))?;
        map.serialize_entry("mentions", &json(&message.mentions, "[]"))?;
        map.serialize_entry("replyToId", &message.reply_to_id.map(Text))?;
        map.serialize_entry("replyTo", &message.reply_to.as_ref().map(ReplyJson))?;
        map.serialize_entry("reactionCounts", &json(&message.reaction_counts, "{}"))?;
        map.serialize_entry("isEdited", &message.is_edited)?;
        map.serialize_entry("editedAt", &message.edited_at.map(Text))?;
        map.serialize_entry("isPinned", &message.is_pinned)?;
        map.serialize_entry("createdAt", &Text(message.created_at))?;
        map.end()
    }
}

/// Passes stored JSON on as it is; an empty text, which Postgres never gives, becomes the empty value.
pub(super) fn json<'a>(stored: &'a str, empty: &'static str) -> &'a RawValue {
    serde_json::from_str(stored).or_else(|_| serde_json::from_str(empty)).unwrap_or(RawValue::NULL)
}

struct AuthorJson<'a>(&'a Author);

impl Serialize for AuthorJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("id", &self.0.id.map(Text))?;
        map.serialize_entry("username", &self.0.username)?;
        map.serialize_entry("avatarUrl", &self.0.avatar_url)?;
        map.end()
    }
}

struct ReplyJson<'a>(&'a ReplyPreview);

impl Serialize for ReplyJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct ReplyAuthor<'a> {
            id: Option<Text<UserId>>,
            username: &'a str,
        }
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("id", &Text(self.0.id))?;
        map.serialize_entry("content", &self.0.content)?;
        map.serialize_entry(
            "author",
            &ReplyAuthor { id: self.0.author_id.map(Text), username: &self.0.author_username },
        )?;
        map.end()
    }
}
