//! Goodbyes: close codes, their texts, and whether the client should come back.

/// Why the gateway ends a connection.
///
/// The codes are the contract's; the text of a close frame has at most 123 bytes and is for developers, not users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close {
    /// The code in the close frame.
    pub code: u16,
    /// The text in the close frame.
    pub reason: &'static str,
}

macro_rules! closes {
    ($( $(#[$doc:meta])+ $name:ident = $code:literal $reason:literal; )+) => {
        impl Close {
            $( $(#[$doc])+ pub const $name: Self = Self { code: $code, reason: $reason }; )+
        }
    };
}

closes! {
    /// The client asked for it, or a session ended as it should; do not come back.
    NORMAL = 1000 "";
    /// The gateway goes away; come back after the delay that `reconnect` named.
    GOING_AWAY = 1001 "the gateway is going away, come back";
    /// The client broke the rules of WebSocket framing; do not come back.
    BAD_FRAMING = 1002 "protocol error";
    /// A binary frame; do not come back.
    BINARY = 1003 "text frames only";
    /// A text message or close reason that is not UTF-8; do not come back.
    NOT_UTF8 = 1007 "not UTF-8";
    /// Too many protocol errors or refused frames; do not come back.
    PROTOCOL_ERRORS = 1008 "too many protocol errors";
    /// A message over the size limit; do not come back.
    TOO_BIG = 1009 "message too big";
    /// A fault of ours; come back.
    INTERNAL = 1011 "internal fault";
    /// A dependency is down; come back later.
    TRY_LATER = 1013 "try again later";
    /// Token missing, unknown, used or expired; come back with a new one.
    NOT_AUTHENTICATED = 4001 "not authenticated";
    /// The session was ended in Django: logout, deactivation.
    SESSION_ENDED = 4001 "session ended";
    /// No access to this room, or banned, kicked or blocked; do not come back.
    FORBIDDEN = 4003 "forbidden";
    /// No such room or thread, or it is inactive; do not come back.
    NOT_FOUND = 4004 "no such room or thread";
    /// The queue for this client is full, or took nothing for too long; come back and resume.
    TOO_SLOW = 4008 "too slow";
    /// Nothing was heard of the client for too long; come back and resume.
    HEARTBEAT_MISSED = 4008 "heartbeat missed";
    /// Its client came back with a ticket, and this socket was half open; whoever hears it may come back.
    REPLACED = 4008 "its client came back on another socket";
    /// Too many connections of one user.
    TOO_MANY_CONNECTIONS = 4029 "too many connections";
    /// Too many new connections of one user within a minute.
    TOO_MANY_CONNECTS = 4029 "too many new connections";
}

#[cfg(test)]
mod tests {
    use super::Close;

    #[test]
    fn reasons_fit_into_a_control_frame() {
        for close in [Close::GOING_AWAY, Close::TOO_MANY_CONNECTS, Close::NOT_FOUND, Close::PROTOCOL_ERRORS] {
            assert!(close.reason.len() <= 123, "{}", close.reason);
        }
    }
}
