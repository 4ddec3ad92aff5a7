//! Refusals: no, and the connection lives. Codes are stable, texts are those of the existing Django consumers.

use std::borrow::Cow;
use std::time::Duration;

/// The stable, machine-readable half of an `error` event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    InvalidJson,
    UnknownType,
    ContentRequired,
    ContentTooLong,
    RateLimited,
    RoomNotFound,
    CannotSend,
    AuthenticationRequired,
    InvalidFrame,
    InvalidAttachments,
    InvalidMentions,
    UnknownCursor,
    Archived,
    Blocked,
    NotAdmitted,
    TrustTooLow,
    LinksNotAllowed,
    AttachmentsNotAllowed,
    SlowMode,
    WrongSocket,
    TooManyWatched,
    MessageNotFound,
    NotAllowed,
    InvalidEmoji,
    ThreadNotFound,
    ThreadLocked,
    ThreadArchived,
    TooManyThreads,
    ContentRefused,
    Unavailable,
}

impl Code {
    /// The word in `code`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidJson => "invalid_json",
            Self::UnknownType => "unknown_type",
            Self::ContentRequired => "content_required",
            Self::ContentTooLong => "content_too_long",
            Self::RateLimited => "rate_limited",
            Self::RoomNotFound => "room_not_found",
            Self::CannotSend => "cannot_send",
            Self::AuthenticationRequired => "authentication_required",
            Self::InvalidFrame => "invalid_frame",
            Self::InvalidAttachments => "invalid_attachments",
            Self::InvalidMentions => "invalid_mentions",
            Self::UnknownCursor => "unknown_cursor",
            Self::Archived => "room_archived",
            Self::Blocked => "blocked",
            Self::NotAdmitted => "not_admitted",
            Self::TrustTooLow => "trust_too_low",
            Self::LinksNotAllowed => "links_not_allowed",
            Self::AttachmentsNotAllowed => "attachments_not_allowed",
            Self::SlowMode => "slow_mode",
            Self::WrongSocket => "wrong_socket",
            Self::TooManyWatched => "too_many_watched",
            Self::MessageNotFound => "message_not_found",
            Self::NotAllowed => "not_allowed",
            Self::InvalidEmoji => "invalid_emoji",
            Self::ThreadNotFound => "thread_not_found",
            Self::ThreadLocked => "thread_locked",
            Self::ThreadArchived => "thread_archived",
            Self::TooManyThreads => "too_many_threads",
            Self::ContentRefused => "content_refused",
            Self::Unavailable => "unavailable",
        }
    }

    /// The text in `message`; verbatim from the old consumers where they had one.
    fn text(self) -> &'static str {
        match self {
            Self::InvalidJson => "Invalid JSON format",
            Self::UnknownType => "Unknown message type",
            Self::ContentRequired => "Message content is required",
            Self::ContentTooLong => "Message too long (max 4000 characters)",
            Self::RateLimited => "Rate limit exceeded. Please slow down.",
            Self::RoomNotFound => "Room not found",
            Self::CannotSend | Self::Archived => "You cannot send messages in this room",
            Self::AuthenticationRequired => "Authentication required",
            Self::InvalidFrame
            | Self::InvalidAttachments
            | Self::InvalidMentions
            | Self::UnknownCursor
            | Self::WrongSocket => "Failed to process message",
            Self::TooManyWatched => "You cannot watch so many at once",
            // The same text whoever blocked, so that nobody learns it.
            Self::Blocked => "You cannot send messages to this user",
            Self::NotAdmitted => "This user does not accept messages from you",
            Self::TrustTooLow => "You need more trust to post in this room",
            Self::LinksNotAllowed => "New members cannot post links yet",
            Self::AttachmentsNotAllowed => "New members cannot post attachments yet",
            Self::SlowMode => "Slow mode is on in this room. Please wait.",
            Self::MessageNotFound => "Message not found",
            Self::NotAllowed => "You cannot do this in this room",
            Self::InvalidEmoji => "Not an emoji",
            Self::ThreadNotFound => "Thread not found",
            Self::ThreadLocked => "This thread is locked",
            Self::ThreadArchived => "This thread is archived",
            Self::TooManyThreads => "Too many open threads. Please close one.",
            Self::ContentRefused => "This message cannot be posted",
            Self::Unavailable => "Temporarily unavailable. Please try again.",
        }
    }

    /// Says whether the frame itself was wrong, as opposed to what it asked for at this time.
    #[must_use]
    pub fn is_protocol_error(self) -> bool {
        matches!(self, Self::InvalidJson | Self::UnknownType | Self::InvalidFrame)
    }
}

/// A no to one frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// What is wrong.
    pub code: Code,
    /// For people.
    pub message: Cow<'static, str>,
    /// After how long the same frame may succeed.
    pub retry_after: Option<Duration>,
    /// The frame's own `client_id`, so that its sender can tell which send failed.
    pub client_id: Option<String>,
    /// The frame's `type`.
    pub request_type: Option<&'static str>,
}

impl Refusal {
    /// A refusal with the text of its code.
    #[must_use]
    pub fn new(code: Code) -> Self {
        Self { code, message: Cow::Borrowed(code.text()), retry_after: None, client_id: None, request_type: None }
    }

    /// `Unknown message type: <type>`; the type is cut to 64 characters.
    #[must_use]
    pub fn unknown_type(given: &str) -> Self {
        let shown: String = given.chars().take(64).collect();
        Self { message: Cow::Owned(format!("{}: {shown}", Code::UnknownType.text())), ..Self::new(Code::UnknownType) }
    }

    /// `This message cannot be posted: <reason>`.
    #[must_use]
    pub fn refused_content(reason: &str) -> Self {
        let message = Cow::Owned(format!("{}: {reason}", Code::ContentRefused.text()));
        Self { message, ..Self::new(Code::ContentRefused) }
    }

    /// A refusal that waiting helps.
    #[must_use]
    pub fn after(code: Code, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..Self::new(code) }
    }

    /// Names the frame that is refused.
    #[must_use]
    pub fn to(mut self, request_type: &'static str, client_id: Option<String>) -> Self {
        self.request_type = Some(request_type);
        self.client_id = client_id;
        self
    }
}
