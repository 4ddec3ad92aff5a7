//! Frames about threads inside a room.

use super::{ClientCommand, Fields};
use crate::domain::{MessageId, ThreadId};
use crate::wire::event::Place;
use crate::wire::{Code, Refusal};

/// The longest title of a thread, in characters.
pub const MAX_TITLE_CHARS: usize = 200;

/// What a client wants of a thread.
#[derive(Clone, Debug, PartialEq)]
pub enum ThreadCommand {
    /// `create_thread`; a title is trimmed and not empty.
    Create { parent: Option<MessageId>, title: Option<String> },
    /// `open_thread`: this socket gets the thread's events as well; those after a place, if it was open before.
    Open(ThreadId, Option<Place>),
    /// `close_thread`: not any longer.
    Close(ThreadId),
    /// `lock_thread` and `unlock_thread`.
    Lock { thread: ThreadId, locked: bool },
    /// `archive_thread` and `unarchive_thread`.
    Archive { thread: ThreadId, archived: bool },
}

impl ThreadCommand {
    pub(super) fn thread(&self) -> Option<ThreadId> {
        match self {
            Self::Create { .. } => None,
            Self::Open(thread, _) | Self::Close(thread) => Some(*thread),
            Self::Lock { thread, .. } | Self::Archive { thread, .. } => Some(*thread),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create_thread",
            Self::Open(..) => "open_thread",
            Self::Close(_) => "close_thread",
            Self::Lock { locked: true, .. } => "lock_thread",
            Self::Lock { locked: false, .. } => "unlock_thread",
            Self::Archive { archived: true, .. } => "archive_thread",
            Self::Archive { archived: false, .. } => "unarchive_thread",
        }
    }
}

/// Reads a frame of one of these types; `None` for any other type.
pub(super) fn decode(kind: &str, fields: &Fields<'_, '_>) -> Option<Result<ClientCommand, Refusal>> {
    let (name, command) = match kind {
        "create_thread" => ("create_thread", create(fields)),
        "open_thread" => ("open_thread", open(fields)),
        "close_thread" => ("close_thread", fields.thread().map(ThreadCommand::Close)),
        "lock_thread" => ("lock_thread", lock(fields, true)),
        "unlock_thread" => ("unlock_thread", lock(fields, false)),
        "archive_thread" => ("archive_thread", archive(fields, true)),
        "unarchive_thread" => ("unarchive_thread", archive(fields, false)),
        _ => return None,
    };
    Some(command.map(ClientCommand::Thread).map_err(|refusal| refusal.to(name, None)))
}

fn create(fields: &Fields<'_, '_>) -> Result<ThreadCommand, Refusal> {
    let title = fields.text("title")?.map(str::trim).filter(|title| !title.is_empty());
    if title.is_some_and(|title| title.contains('\0') || title.chars().count() > MAX_TITLE_CHARS) {
        return Err(Refusal::new(Code::InvalidFrame));
    }
    Ok(ThreadCommand::Create { parent: fields.message_id("parent_message_id")?, title: title.map(str::to_owned) })
}

fn open(fields: &Fields<'_, '_>) -> Result<ThreadCommand, Refusal> {
    Ok(ThreadCommand::Open(fields.thread()?, fields.since()?))
}

fn lock(fields: &Fields<'_, '_>, locked: bool) -> Result<ThreadCommand, Refusal> {
    fields.thread().map(|thread| ThreadCommand::Lock { thread, locked })
}

fn archive(fields: &Fields<'_, '_>, archived: bool) -> Result<ThreadCommand, Refusal> {
    fields.thread().map(|thread| ThreadCommand::Archive { thread, archived })
}

impl Fields<'_, '_> {
    /// `thread_id`, if it is there.
    pub(super) fn thread_id(&self) -> Result<Option<ThreadId>, Refusal> {
        Ok(self.message_id("thread_id")?.map(|id| ThreadId(id.0)))
    }

    /// `thread_id`, which must be there.
    fn thread(&self) -> Result<ThreadId, Refusal> {
        self.thread_id()?.ok_or_else(|| Refusal::new(Code::InvalidFrame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(text: &str) -> Result<ClientCommand, Refusal> {
        ClientCommand::decode(&mut text.as_bytes().to_vec())
    }

    #[test]
    fn a_title_is_trimmed_and_counted_in_characters() {
        let create = |title: &str| decode(&format!(r#"{{"type":"create_thread","title":"{title}"}}"#));
        let made = |title: Option<&str>| {
            Ok(ClientCommand::Thread(ThreadCommand::Create { parent: None, title: title.map(str::to_owned) }))
        };
        assert_eq!(create("  News\\n"), made(Some("News")));
        assert_eq!(create("  "), made(None));
        assert_eq!(create(&"ä".repeat(200)), made(Some(&"ä".repeat(200))));
        let refused = create(&"ä".repeat(201)).expect_err("too long");
        assert_eq!((refused.code, refused.request_type), (Code::InvalidFrame, Some("create_thread")));
    }

    #[test]
    fn a_thread_is_named_by_its_id() {
        let thread = ThreadId(uuid::Uuid::from_u128(7));
        for (kind, command) in [
            ("open_thread", ThreadCommand::Open(thread, None)),
            ("close_thread", ThreadCommand::Close(thread)),
            ("lock_thread", ThreadCommand::Lock { thread, locked: true }),
            ("unlock_thread", ThreadCommand::Lock { thread, locked: false }),
            ("archive_thread", ThreadCommand::Archive { thread, archived: true }),
            ("unarchive_thread", ThreadCommand::Archive { thread, archived: false }),
        ] {
            let decoded = decode(&format!(r#"{{"type":"{kind}","thread_id":"{thread}"}}"#)).expect("is a command");
            assert_eq!(decoded.name(), kind);
            assert_eq!(decoded, ClientCommand::Thread(command));
            for wrong in ["null", "7", r#""x""#] {
                let refused = decode(&format!(r#"{{"type":"{kind}","thread_id":{wrong}}}"#)).expect_err("no id");
                assert_eq!(refused.code, Code::InvalidFrame, "{kind} {wrong}");
            }
        }
    }
}
