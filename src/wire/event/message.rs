//! A message as JSON. The order and names of its fields are the contract's.

use std::borrow::Cow;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::json;
use crate::domain::{Author, Message, ReplyPreview};

/// A value written as its `Display` text in quotes.
pub(super) struct Text<T>(pub T);

impl<T: std::fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// Messages in JSON with commas between, encoded once for all who see them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessagesJson {
    json: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
}

impl MessagesJson {
    /// Encodes messages.
    #[must_use]
    pub fn of(messages: &[Message]) -> Self {
        let mut encoded = Self { json: Vec::with_capacity(messages.len() * 768), ends: Vec::new() };
        for message in messages {
            push(&mut encoded.json, |json| write(json, message));
            encoded.ends.push(encoded.json.len());
        }
        encoded
    }

    /// Those of them that somebody sees. `messages` are what was encoded; `seen` says how one of them is seen. Nothing is
    /// copied for who sees all as they are.
    pub fn seen<'m>(
        &self,
        messages: &'m [Message],
        seen: impl Fn(&'m Message) -> Option<Cow<'m, Message>>,
    ) -> Cow<'_, [u8]> {
        let mut json = Cow::Borrowed(self.json.as_slice());
        let mut start = 0;
        for (message, end) in messages.iter().zip(&self.ends) {
            let as_it_is = &self.json[start..*end];
            match (seen(message), &mut json) {
                (Some(Cow::Borrowed(_)), Cow::Borrowed(_)) => {}
                (Some(Cow::Borrowed(_)), Cow::Owned(json)) => push(json, |json| json.extend_from_slice(as_it_is)),
                (Some(Cow::Owned(message)), json) => {
                    push(own(json, &self.json[..start]), |json| write(json, &message));
                }
                (None, json) => {
                    own(json, &self.json[..start]);
                }
            }
            start = end + 1;
        }
        json
    }
}

/// The bytes as somebody's own, who until now saw everything up to here, a comma included.
fn own<'j>(json: &'j mut Cow<'_, [u8]>, until_here: &[u8]) -> &'j mut Vec<u8> {
    if let Cow::Borrowed(_) = json {
        *json = Cow::Owned(until_here.strip_suffix(b",").unwrap_or(until_here).to_vec());
    }
    json.to_mut()
}

/// Adds one to values with commas between.
fn push(json: &mut Vec<u8>, add: impl FnOnce(&mut Vec<u8>)) {
    if !json.is_empty() {
        json.push(b',');
    }
    add(json);
}

/// Writes a message as clients read it; the contract's field names in the contract's order.
pub(super) fn write(out: &mut Vec<u8>, message: &Message) {
    out.extend_from_slice(br#"{"id":"#);
    json::id(out, message.id.0);
    out.extend_from_slice(br#","roomId":"#);
    json::id(out, message.room_id.0);
    out.extend_from_slice(br#","threadId":"#);
    json::id_or_null(out, message.thread_id.map(|thread| thread.0));
    out.extend_from_slice(br#","author":"#);
    write_author(out, &message.author);
    out.extend_from_slice(br#","content":"#);
    json::text(out, &message.content);
    out.extend_from_slice(br#","messageType":"#);
    json::text(out, &message.message_type);
    out.extend_from_slice(br#","attachments":"#);
    json::stored(out, &message.attachments, "[]");
    out.extend_from_slice(br#","embeds":"#);
    json::stored(out, &message.embeds, "[]");
    out.extend_from_slice(br#","mentions":"#);
    json::stored(out, &message.mentions, "[]");
    out.extend_from_slice(br#","replyToId":"#);
    json::id_or_null(out, message.reply_to_id.map(|answered| answered.0));
    out.extend_from_slice(br#","replyTo":"#);
    match &message.reply_to {
        Some(reply) => write_reply(out, reply),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(br#","reactionCounts":"#);
    json::stored(out, &message.reaction_counts, "{}");
    out.extend_from_slice(br#","isEdited":"#);
    json::truth(out, message.is_edited);
    out.extend_from_slice(br#","editedAt":"#);
    match message.edited_at {
        Some(at) => json::time(out, at),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(br#","isPinned":"#);
    json::truth(out, message.is_pinned);
    out.extend_from_slice(br#","createdAt":"#);
    json::time(out, message.created_at);
    out.push(b'}');
}

fn write_author(out: &mut Vec<u8>, author: &Author) {
    out.extend_from_slice(br#"{"id":"#);
    match author.id {
        Some(id) => json::number(out, id.0),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(br#","username":"#);
    json::text(out, &author.username);
    out.extend_from_slice(br#","avatarUrl":"#);
    json::text_or_null(out, author.avatar_url.as_deref());
    out.push(b'}');
}

fn write_reply(out: &mut Vec<u8>, reply: &ReplyPreview) {
    out.extend_from_slice(br#"{"id":"#);
    json::id(out, reply.id.0);
    out.extend_from_slice(br#","content":"#);
    json::text(out, &reply.content);
    out.extend_from_slice(br#","author":{"id":"#);
    match reply.author_id {
        Some(id) => json::number(out, id.0),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(br#","username":"#);
    json::text(out, &reply.author_username);
    out.extend_from_slice(b"}}");
}

/// Passes stored JSON on as it is; an empty text, which Postgres never gives, becomes the empty value.
pub(super) fn json<'a>(stored: &'a str, empty: &'static str) -> &'a RawValue {
    serde_json::from_str(stored).or_else(|_| serde_json::from_str(empty)).unwrap_or(RawValue::NULL)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::{MessageId, Micros, RoomId, ThreadId, UserId};

    fn message(id: u128) -> Message {
        Message {
            id: MessageId(Uuid::from_u128(id)),
            room_id: RoomId(Uuid::from_u128(0xA)),
            thread_id: None,
            author: Author { id: Some(UserId(7)), username: "ada \"the\" first".to_owned(), avatar_url: None },
            content: "line\nbreak".to_owned(),
            message_type: "text".to_owned(),
            attachments: String::new(),
            embeds: "[]".to_owned(),
            mentions: "[7, 8]".to_owned(),
            reaction_counts: r#"{"👍": 2}"#.to_owned(),
            reply_to: None,
            reply_to_id: None,
            is_edited: false,
            edited_at: None,
            is_pinned: true,
            created_at: Micros(1_700_000_000_123_456),
        }
    }

    fn encoded(message: &Message) -> String {
        let mut out = Vec::new();
        write(&mut out, message);
        String::from_utf8(out).expect("is text")
    }

    #[test]
    fn a_message_is_written_field_by_field() {
        assert_eq!(
            encoded(&message(1)),
            r#"{"id":"00000000-0000-0000-0000-000000000001","roomId":"00000000-0000-0000-0000-00000000000a","threadId":null,"author":{"id":"7","username":"ada \"the\" first","avatarUrl":null},"content":"line\nbreak","messageType":"text","attachments":[],"embeds":[],"mentions":[7, 8],"replyToId":null,"replyTo":null,"reactionCounts":{"👍": 2},"isEdited":false,"editedAt":null,"isPinned":true,"createdAt":"2023-11-14T22:13:20.123456+00:00"}"#
        );
        let reply = ReplyPreview {
            id: MessageId(Uuid::from_u128(1)),
            content: "what?".to_owned(),
            author_id: None,
            author_username: "Unknown".to_owned(),
        };
        let full = Message {
            thread_id: Some(ThreadId(Uuid::from_u128(0xB))),
            author: Author { avatar_url: Some("https://cdn.example/a.png".to_owned()), ..Author::unknown() },
            reply_to_id: Some(reply.id),
            reply_to: Some(reply),
            is_edited: true,
            edited_at: Some(Micros(0)),
            ..message(2)
        };
        let json = encoded(&full);
        for part in [
            r#""threadId":"00000000-0000-0000-0000-00000000000b","author":{"id":null,"username":"Unknown","avatarUrl":"https://cdn.example/a.png"}"#,
            r#""replyToId":"00000000-0000-0000-0000-000000000001","replyTo":{"id":"00000000-0000-0000-0000-000000000001","content":"what?","author":{"id":null,"username":"Unknown"}},"#,
            r#""isEdited":true,"editedAt":"1970-01-01T00:00:00.000000+00:00","isPinned":true"#,
        ] {
            assert!(json.contains(part), "{part} in {json}");
        }
    }

    #[test]
    fn who_sees_a_part_gets_that_part() {
        let messages = [message(1), message(2), message(3)];
        let all = MessagesJson::of(&messages);
        let each: Vec<_> = messages.iter().map(encoded).collect();
        let seen = |wanted: &dyn Fn(usize) -> bool| {
            let seen = all.seen(&messages, |message| {
                let at = messages.iter().position(|one| one.id == message.id).expect("is one of them");
                wanted(at).then_some(Cow::Borrowed(message))
            });
            String::from_utf8(seen.into_owned()).expect("is text")
        };
        for mask in 0..8_usize {
            let wanted = |at: usize| mask >> at & 1 == 1;
            let expected: Vec<_> = (0..3).filter(|at| wanted(*at)).map(|at| each[at].clone()).collect();
            assert_eq!(seen(&wanted), expected.join(","), "{mask:03b}");
        }
        for other in 0..3 {
            let changed = Message { content: "changed".to_owned(), ..messages[other].clone() };
            let seen = all.seen(&messages, |message| {
                let is_other = message.id == changed.id;
                Some(if is_other { Cow::Owned(changed.clone()) } else { Cow::Borrowed(message) })
            });
            let mut expected = each.clone();
            expected[other] = encoded(&changed);
            assert_eq!(String::from_utf8(seen.into_owned()).expect("is text"), expected.join(","));
        }
        assert!(matches!(all.seen(&messages, |message| Some(Cow::Borrowed(message))), Cow::Borrowed(_)), "a copy");
        assert!(MessagesJson::of(&[]).seen(&[], |message| Some(Cow::Borrowed(message))).is_empty());
    }
}
