//! What leaves: one complete, unmasked server frame, encoded once and shared by everyone it goes to.

use bytes::Bytes;
use fastwebsockets::OpCode;

use crate::wire::Close;

/// The most that the payload of a control frame may hold (RFC 6455, 5.5).
pub(super) const CONTROL_MAX: usize = 125;

/// A complete server frame, header and payload. Cloning shares the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame(Bytes);

impl Frame {
    /// Frames a text message, which the caller knows to be UTF-8: JSON that the gateway wrote or checked.
    #[must_use]
    pub fn text(json: &[u8]) -> Self {
        Self::encode(OpCode::Text, json)
    }

    /// Frames a binary message. The gateway sends none; the echo example does.
    #[must_use]
    pub fn binary(payload: &[u8]) -> Self {
        Self::encode(OpCode::Binary, payload)
    }

    /// An empty ping, the same for everyone.
    pub(super) fn ping() -> Self {
        Self(Bytes::from_static(&[0x89, 0]))
    }

    /// The answer to a ping: its payload, at most 125 bytes of it.
    pub(super) fn pong(payload: &[u8]) -> Self {
        Self::encode(OpCode::Pong, &payload[..payload.len().min(CONTROL_MAX)])
    }

    /// A close frame with a code and a text, which is cut to fit at a character's boundary.
    pub(super) fn close(close: Close) -> Self {
        let mut end = close.reason.len().min(CONTROL_MAX - 2);
        while !close.reason.is_char_boundary(end) {
            end -= 1;
        }
        Self::encode(OpCode::Close, &[&close.code.to_be_bytes(), &close.reason.as_bytes()[..end]].concat())
    }

    /// The answer to a close frame: the code it had, or none.
    pub(super) fn close_echo(code: Option<u16>) -> Self {
        match code {
            Some(code) => Self::encode(OpCode::Close, &code.to_be_bytes()),
            None => Self::encode(OpCode::Close, &[]),
        }
    }

    /// The frame as it goes on the wire.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Length on the wire, in bytes; never 0.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a frame has at least its header")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The payload without its header.
    #[cfg(test)]
    pub(super) fn payload(&self) -> &[u8] {
        let header = match self.0.get(1) {
            Some(127) => 10,
            Some(126) => 4,
            _ => 2,
        };
        self.0.get(header..).unwrap_or_default()
    }

    fn encode(opcode: OpCode, payload: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(payload.len() + 10);
        bytes.push(0x80 | opcode as u8);
        match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
            (Ok(short), _) if short < 126 => bytes.push(short),
            (_, Ok(medium)) => {
                bytes.push(126);
                bytes.extend_from_slice(&medium.to_be_bytes());
            }
            _ => {
                bytes.push(127);
                bytes.extend_from_slice(&(payload.len() as u64).to_be_bytes());
            }
        }
        bytes.extend_from_slice(payload);
        Self(Bytes::from(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_in_the_shortest_form() {
        for (len, header) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let frame = Frame::text(&vec![b'x'; len]);
            assert_eq!(frame.len(), header + len, "{len}");
            assert_eq!(frame.payload().len(), len);
            assert_eq!(frame.as_bytes()[0], 0x81);
        }
        assert_eq!(&Frame::text(&[b'x'; 300]).as_bytes()[..4], [0x81, 126, 1, 44]);
        assert_eq!(Frame::binary(&[1]).as_bytes(), [0x82, 1, 1]);
    }

    #[test]
    fn control_frames_stay_within_125_bytes() {
        let long: &'static str = "é".repeat(100).leak();
        let close = Frame::close(Close { code: 4001, reason: long });
        assert_eq!(close.len(), 2 + 2 + 122, "cut between two characters");
        assert!(std::str::from_utf8(&close.payload()[2..]).is_ok());
        assert_eq!(Frame::pong(&[0; 200]).payload().len(), CONTROL_MAX);
        assert_eq!(Frame::close_echo(Some(1000)).as_bytes(), [0x88, 2, 3, 232]);
        assert_eq!(Frame::close_echo(None).as_bytes(), [0x88, 0]);
    }
}
