//! From a client's text to a typed command.
//!
//! The text has arrived whole and is UTF-8. Unknown fields are ignored, unknown types refused by name, and nothing here
//! ends a connection.

mod resume;
mod thread;
mod watch;

use std::cell::RefCell;

use serde_json::value::RawValue;
use simd_json::prelude::*;
use simd_json::{BorrowedValue, Buffers};
use uuid::Uuid;

pub use thread::{MAX_TITLE_CHARS, ThreadCommand};
pub use watch::{MAX_WATCHED, Watched};

use super::event::Place;
use super::{Code, Refusal};
use crate::domain::{Emoji, MessageId, ThreadId, UserId};

/// The longest message, in code points, after trimming.
pub const MAX_CONTENT_CHARS: usize = 4000;
/// The most attachments of one message.
pub const MAX_ATTACHMENTS: usize = 10;
/// The most people that one message mentions.
pub const MAX_MENTIONS: usize = 20;
/// The longest `client_id`, in characters.
pub const MAX_CLIENT_ID_CHARS: usize = 64;
/// The longest reason of a report, in characters, after trimming.
pub const MAX_REASON_CHARS: usize = 500;
/// The largest page of history.
pub const MAX_HISTORY: u16 = 100;
/// The page of history a client gets that does not say how many.
pub const DEFAULT_HISTORY: u16 = 50;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientCommand {
    Ping,
    SendMessage(SendMessage),
    Typing {
        is_typing: bool,
    },
    ReadReceipt {
        message_id: MessageId,
    },
    RequestHistory {
        cursor: Option<MessageId>,
        limit: u16,
        /// Of this thread; of the room outside threads when `None`.
        thread: Option<ThreadId>,
    },
    EditMessage {
        message_id: MessageId,
        content: String,
    },
    DeleteMessage {
        message_id: MessageId,
    },
    /// `pin_message` and `unpin_message`.
    PinMessage {
        message_id: MessageId,
        pinned: bool,
    },
    /// `add_reaction` and `remove_reaction`.
    React {
        message_id: MessageId,
        emoji: Emoji,
        added: bool,
    },
    /// The reason is trimmed and may be empty.
    ReportMessage {
        message_id: MessageId,
        reason: String,
    },
    /// `resume`: what came after this place, once more.
    Resume(Place),
    Watch(Watched),
    Unwatch(Watched),
    Thread(ThreadCommand),
}

/// A message that a client wants to post; the text is trimmed and has 1 to 4000 characters.
#[derive(Clone, Debug, PartialEq)]
pub struct SendMessage {
    pub content: String,
    pub reply_to: Option<MessageId>,
    /// The thread inside the room that it is for.
    pub thread: Option<ThreadId>,
    pub attachments: Vec<Attachment>,
    /// Whom it mentions besides those whose names stand in the text; at most [`MAX_MENTIONS`], each once.
    pub mentions: Vec<UserId>,
    /// The sender's own name for this message, echoed in the ack and the event.
    pub client_id: Option<String>,
}

/// A file that the client has uploaded before, as it describes it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Attachment {
    pub url: String,
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// MIME type.
    #[serde(rename = "type")]
    pub mime: String,
}

impl ClientCommand {
    /// Says whether the answer is a page of messages, which costs more than other answers.
    #[must_use]
    pub fn reads_page(&self) -> bool {
        matches!(self, Self::RequestHistory { .. } | Self::Resume(_) | Self::Thread(ThreadCommand::Open(..)))
    }

    /// The thread inside the room that it is about, if it names one.
    #[must_use]
    pub fn thread(&self) -> Option<ThreadId> {
        match self {
            Self::SendMessage(message) => message.thread,
            Self::RequestHistory { thread, .. } => *thread,
            Self::Thread(command) => command.thread(),
            _ => None,
        }
    }

    /// The frame's `type`, for metrics and refusals.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::SendMessage(_) => "send_message",
            Self::Typing { .. } => "typing",
            Self::ReadReceipt { .. } => "read_receipt",
            Self::RequestHistory { .. } => "request_history",
            Self::EditMessage { .. } => "edit_message",
            Self::DeleteMessage { .. } => "delete_message",
            Self::PinMessage { pinned: true, .. } => "pin_message",
            Self::PinMessage { pinned: false, .. } => "unpin_message",
            Self::React { added: true, .. } => "add_reaction",
            Self::React { added: false, .. } => "remove_reaction",
            Self::ReportMessage { .. } => "report_message",
            Self::Resume(_) => "resume",
            Self::Watch(_) => "watch",
            Self::Unwatch(_) => "unwatch",
            Self::Thread(command) => command.name(),
        }
    }

    /// The sender's own name for this frame, if it gave one.
    #[must_use]
    pub fn client_id(&self) -> Option<&str> {
        match self {
            Self::SendMessage(message) => message.client_id.as_deref(),
            _ => None,
        }
    }

    /// Decodes one text message. The bytes are used as the parser's working space and are garbage afterwards.
    ///
    /// # Errors
    /// A refusal that names what is wrong with the frame.
    pub fn decode(text: &mut [u8]) -> Result<Self, Refusal> {
        thread_local! {
            static SPACE: RefCell<(Buffers, Vec<u8>)> = RefCell::new((Buffers::new(1024), Vec::new()));
        }
        SPACE.with_borrow_mut(|(buffers, original)| {
            original.clear();
            original.extend_from_slice(text);
            let decoded = match simd_json::to_borrowed_value_with_buffers(text, buffers) {
                Ok(value) => from_value(&value),
                Err(_) => Err(Refusal::new(why_unreadable(original))),
            };
            if original.capacity() > 64 * 1024 {
                *original = Vec::new();
            }
            decoded
        })
    }
}

/// Tells text that is not JSON from JSON that cannot be held, such as a lone surrogate, which Python's parser takes.
fn why_unreadable(text: &[u8]) -> Code {
    match serde_json::from_slice::<&RawValue>(text) {
        Ok(_) => Code::InvalidFrame,
        Err(_) => Code::InvalidJson,
    }
}

fn from_value(value: &BorrowedValue<'_>) -> Result<ClientCommand, Refusal> {
    let Some(frame) = value.as_object() else { return Err(Refusal::new(Code::InvalidFrame)) };
    let fields = Fields(frame);
    let kind = match frame.get("type") {
        None => return Err(Refusal::unknown_type("None")),
        Some(kind) if kind.is_null() => return Err(Refusal::unknown_type("None")),
        Some(kind) => kind.as_str().ok_or_else(|| Refusal::new(Code::InvalidFrame))?,
    };
    match kind {
        "ping" => Ok(ClientCommand::Ping),
        "send_message" => {
            let client_id = fields.client_id().map_err(|refusal| refusal.to("send_message", None))?;
            send_message(&fields, client_id.clone()).map_err(|refusal| refusal.to("send_message", client_id))
        }
        "typing" => {
            fields.boolean("is_typing").map(|is_typing| ClientCommand::Typing { is_typing }).map_err(to("typing"))
        }
        "read_receipt" => read_receipt(&fields).map_err(to("read_receipt")),
        "request_history" => request_history(&fields).map_err(to("request_history")),
        "edit_message" => edit_message(&fields).map_err(to("edit_message")),
        "delete_message" => {
            fields.message().map(|message_id| ClientCommand::DeleteMessage { message_id }).map_err(to("delete_message"))
        }
        "pin_message" => pin(&fields, true).map_err(to("pin_message")),
        "unpin_message" => pin(&fields, false).map_err(to("unpin_message")),
        "add_reaction" => react(&fields, true).map_err(to("add_reaction")),
        "remove_reaction" => react(&fields, false).map_err(to("remove_reaction")),
        "report_message" => report(&fields).map_err(to("report_message")),
        "resume" => resume(&fields).map_err(to("resume")),
        "watch" => fields.watched().map(ClientCommand::Watch).map_err(to("watch")),
        "unwatch" => fields.watched().map(ClientCommand::Unwatch).map_err(to("unwatch")),
        other => thread::decode(other, &fields).unwrap_or_else(|| Err(Refusal::unknown_type(other))),
    }
}

fn resume(fields: &Fields<'_, '_>) -> Result<ClientCommand, Refusal> {
    fields.since()?.map(ClientCommand::Resume).ok_or_else(|| Refusal::new(Code::InvalidFrame))
}

fn to(request: &'static str) -> impl Fn(Refusal) -> Refusal {
    move |refusal| refusal.to(request, None)
}

fn send_message(fields: &Fields<'_, '_>, client_id: Option<String>) -> Result<ClientCommand, Refusal> {
    Ok(ClientCommand::SendMessage(SendMessage {
        content: fields.content()?,
        reply_to: fields.message_id("reply_to_id")?,
        thread: fields.thread_id()?,
        attachments: fields.attachments()?,
        mentions: fields.mentions()?,
        client_id,
    }))
}

fn edit_message(fields: &Fields<'_, '_>) -> Result<ClientCommand, Refusal> {
    Ok(ClientCommand::EditMessage { message_id: fields.message()?, content: fields.content()? })
}

fn pin(fields: &Fields<'_, '_>, pinned: bool) -> Result<ClientCommand, Refusal> {
    Ok(ClientCommand::PinMessage { message_id: fields.message()?, pinned })
}

fn react(fields: &Fields<'_, '_>, added: bool) -> Result<ClientCommand, Refusal> {
    let message_id = fields.message()?;
    let given = fields.text("emoji")?.ok_or_else(|| Refusal::new(Code::InvalidFrame))?;
    let emoji = Emoji::parse(given).ok_or_else(|| Refusal::new(Code::InvalidEmoji))?;
    Ok(ClientCommand::React { message_id, emoji, added })
}

fn report(fields: &Fields<'_, '_>) -> Result<ClientCommand, Refusal> {
    let reason = fields.text("reason")?.unwrap_or_default().trim();
    if reason.contains('\0') || reason.chars().count() > MAX_REASON_CHARS {
        return Err(Refusal::new(Code::InvalidFrame));
    }
    Ok(ClientCommand::ReportMessage { message_id: fields.message()?, reason: reason.to_owned() })
}

fn read_receipt(fields: &Fields<'_, '_>) -> Result<ClientCommand, Refusal> {
    Ok(ClientCommand::ReadReceipt { message_id: fields.message()? })
}

fn request_history(fields: &Fields<'_, '_>) -> Result<ClientCommand, Refusal> {
    let limit = match fields.present("limit") {
        None => DEFAULT_HISTORY,
        Some(value) => {
            let asked = value.as_i64().ok_or_else(|| Refusal::new(Code::InvalidFrame))?;
            u16::try_from(asked.clamp(1, i64::from(MAX_HISTORY))).unwrap_or(DEFAULT_HISTORY)
        }
    };
    Ok(ClientCommand::RequestHistory { cursor: fields.message_id("cursor")?, limit, thread: fields.thread_id()? })
}

/// Typed access to a frame's fields; `null` counts as absent.
struct Fields<'a, 'v>(&'a simd_json::borrowed::Object<'v>);

impl<'a, 'v> Fields<'a, 'v> {
    fn present(&self, name: &str) -> Option<&'a BorrowedValue<'v>> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn text(&self, name: &str) -> Result<Option<&'a str>, Refusal> {
        self.present(name).map(|value| value.as_str().ok_or_else(|| Refusal::new(Code::InvalidFrame))).transpose()
    }

    fn boolean(&self, name: &str) -> Result<bool, Refusal> {
        self.present(name).map_or(Ok(false), |value| value.as_bool().ok_or_else(|| Refusal::new(Code::InvalidFrame)))
    }

    fn message_id(&self, name: &str) -> Result<Option<MessageId>, Refusal> {
        self.text(name)?
            .map(|text| Uuid::parse_str(text).map(MessageId).map_err(|_| Refusal::new(Code::InvalidFrame)))
            .transpose()
    }

    /// `message_id`, which must be there.
    fn message(&self) -> Result<MessageId, Refusal> {
        self.message_id("message_id")?.ok_or_else(|| Refusal::new(Code::InvalidFrame))
    }

    /// `content`, trimmed, of 1 to [`MAX_CONTENT_CHARS`] characters.
    fn content(&self) -> Result<String, Refusal> {
        let content = self.text("content")?.unwrap_or_default().trim();
        if content.contains('\0') {
            return Err(Refusal::new(Code::InvalidFrame));
        }
        if content.is_empty() {
            return Err(Refusal::new(Code::ContentRequired));
        }
        // A text has at least as many bytes as characters: only a long one is counted.
        if content.len() > MAX_CONTENT_CHARS && content.chars().count() > MAX_CONTENT_CHARS {
            return Err(Refusal::new(Code::ContentTooLong));
        }
        Ok(content.to_owned())
    }

    fn client_id(&self) -> Result<Option<String>, Refusal> {
        let given = self.text("client_id")?;
        match given {
            Some(id) if id.is_empty() || id.chars().count() > MAX_CLIENT_ID_CHARS || id.contains('\0') => {
                Err(Refusal::new(Code::InvalidFrame))
            }
            _ => Ok(given.map(str::to_owned)),
        }
    }

    fn attachments(&self) -> Result<Vec<Attachment>, Refusal> {
        let wrong = || Refusal::new(Code::InvalidAttachments);
        let Some(value) = self.present("attachments") else { return Ok(Vec::new()) };
        let list = value.as_array().ok_or_else(wrong)?;
        if list.len() > MAX_ATTACHMENTS {
            return Err(wrong());
        }
        list.iter().map(|item| attachment(item).ok_or_else(wrong)).collect()
    }

    /// `mentions`, a list of at most [`MAX_MENTIONS`] user ids, which are strings.
    fn mentions(&self) -> Result<Vec<UserId>, Refusal> {
        let wrong = || Refusal::new(Code::InvalidMentions);
        let Some(value) = self.present("mentions") else { return Ok(Vec::new()) };
        let list = value.as_array().filter(|list| list.len() <= MAX_MENTIONS).ok_or_else(wrong)?;
        let mut users = Vec::with_capacity(list.len());
        for item in list {
            let user = item.as_str().and_then(|text| text.parse().ok()).ok_or_else(wrong)?;
            if !users.contains(&user) {
                users.push(user);
            }
        }
        Ok(users)
    }
}

/// Reads one attachment: exactly `url`, `name`, `size` and `type`, of the right types, without U+0000.
fn attachment(value: &BorrowedValue<'_>) -> Option<Attachment> {
    let object = value.as_object().filter(|object| object.len() == 4)?;
    let text = |name: &str, longest: usize| {
        let text = object.get(name)?.as_str()?;
        (!text.is_empty() && text.len() <= longest && !text.contains('\0')).then(|| text.to_owned())
    };
    let url = text("url", 2048)?;
    Some(Attachment { url, name: text("name", 255)?, size: object.get("size")?.as_u64()?, mime: text("type", 127)? })
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
