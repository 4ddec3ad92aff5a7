//! The strict side of RFC 6455, pure: bytes in, events out, no I/O.
//!
//! Owns what a client may put on the wire: a mask on every frame, no reserved bits, control frames whole and at most
//! 125 bytes, lengths in their shortest form, one size for a message whether fragmented or not, UTF-8. Must never
//! allocate because of a length that was only declared: memory follows the bytes that have arrived.

use fastwebsockets::{CloseCode, OpCode, unmask};

use super::frame::CONTROL_MAX;
use crate::wire::Close;

/// What a client may send; the rest is a [`Violation`].
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Largest message in bytes, its fragments added up.
    pub max_message: usize,
    /// Whether binary messages are taken.
    pub accept_binary: bool,
}

/// Something whole that has arrived.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A whole text message, checked to be UTF-8.
    Text(Vec<u8>),
    /// A whole binary message.
    Binary(Vec<u8>),
    /// A fragment that did not end its message.
    Fragment,
    Ping(Vec<u8>),
    Pong,
    /// A close frame with its code, if it had one.
    Close(Option<u16>),
}

/// How a client broke the rules. It cannot be read any further after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A frame without a mask (RFC 6455, 5.1).
    #[error("unmasked")]
    Unmasked,
    /// A reserved bit is set without an extension (5.2).
    #[error("reserved_bits")]
    ReservedBits,
    /// An opcode that is not defined (5.2).
    #[error("unknown_opcode")]
    UnknownOpcode,
    /// A length not in its shortest form, or over 63 bits (5.2).
    #[error("length")]
    Length,
    /// A control frame that is fragmented or longer than 125 bytes (5.5).
    #[error("control_frame")]
    ControlFrame,
    /// A continuation of nothing, or a new message within a fragmented one (5.4).
    #[error("fragmentation")]
    Fragmentation,
    /// A close frame of one byte, or with a code that must not be sent (5.5.1, 7.4).
    #[error("close_frame")]
    CloseFrame,
    /// A binary message where only text is taken.
    #[error("binary")]
    Binary,
    /// Text or a close reason that is not UTF-8 (8.1).
    #[error("not_utf8")]
    NotUtf8,
    /// A message over the limit.
    #[error("too_big")]
    TooBig,
}

impl Violation {
    /// The goodbye that this violation earns.
    #[must_use]
    pub fn close(self) -> Close {
        match self {
            Self::Binary => Close::BINARY,
            Self::NotUtf8 => Close::NOT_UTF8,
            Self::TooBig => Close::TOO_BIG,
            _ => Close::BAD_FRAMING,
        }
    }
}

/// Decodes one client's stream. At rest, between messages, it holds nothing.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The message that has begun and not ended; boxed, for most connections have none.
    message: Option<Box<Message>>,
}

#[derive(Debug)]
struct Message {
    is_text: bool,
    data: Vec<u8>,
    /// How much of `data` is known to be UTF-8: all but a character that may still be completed.
    checked: usize,
    /// The frame that has begun and not ended.
    frame: Option<OpenFrame>,
}

#[derive(Debug)]
struct OpenFrame {
    /// Bytes of payload still to come.
    left: usize,
    /// Rotated so that it starts with the byte for the next byte to come.
    mask: [u8; 4],
    is_final: bool,
}

impl Decoder {
    /// Decodes up to one event from the start of `input`. Returns how many bytes are done with, and the event.
    ///
    /// Without an event, `input[used..]` is an incomplete header or control frame (under 14 + 125 bytes): call again
    /// with it and more behind it. Payload of data frames is taken as it comes, so it never waits there.
    ///
    /// # Errors
    /// When the client breaks the rules. As early as that can be told: a size from the header, text that cannot become
    /// UTF-8 in the middle of a frame.
    pub fn decode(&mut self, input: &[u8], rules: &Rules) -> Result<(usize, Option<Event>), Violation> {
        let mut message = self.message.take().map(|boxed| *boxed);
        let mut used = 0;
        loop {
            if let Some(open) = &mut message
                && let Some(frame) = &mut open.frame
            {
                used += frame.take(&mut open.data, &input[used..]);
                let (is_whole, is_final) = (frame.left == 0, frame.is_final);
                open.check_text(is_whole && is_final)?;
                if !is_whole {
                    break;
                }
                open.frame = None;
                if is_final && let Some(done) = message.take() {
                    return Ok((used, Some(done.into_event())));
                }
                self.message = message.map(Box::new);
                return Ok((used, Some(Event::Fragment)));
            }
            let Some(header) = Header::parse(&input[used..])? else { break };
            let payload = &input[used + header.len..];
            if header.is_control() {
                let Some(payload) = payload.get(..header.payload) else { break };
                used += header.len + header.payload;
                self.message = message.map(Box::new);
                return Ok((used, Some(header.control(payload)?)));
            }
            used += header.len;
            message = Some(header.open(message, rules)?);
        }
        self.message = message.map(Box::new);
        Ok((used, None))
    }

    /// Memory held for a message that has not ended, in bytes.
    #[cfg(test)]
    fn held(&self) -> usize {
        self.message.as_ref().map_or(0, |message| message.data.capacity())
    }
}

impl OpenFrame {
    /// Moves what has arrived of the payload to the end of `data`, without its mask.
    fn take(&mut self, data: &mut Vec<u8>, input: &[u8]) -> usize {
        let count = self.left.min(input.len());
        let start = data.len();
        if data.capacity() - start < count {
            // Doubling, but never beyond what this frame can still bring.
            data.reserve_exact(count.max(start.min(self.left)));
        }
        data.extend_from_slice(&input[..count]);
        unmask(&mut data[start..], self.mask);
        self.mask.rotate_left(count % 4);
        self.left -= count;
        count
    }
}

impl Message {
    fn check_text(&mut self, is_end: bool) -> Result<(), Violation> {
        if !self.is_text {
            return Ok(());
        }
        match std::str::from_utf8(&self.data[self.checked..]) {
            Ok(_) => self.checked = self.data.len(),
            Err(error) if error.error_len().is_none() && !is_end => self.checked += error.valid_up_to(),
            Err(_) => return Err(Violation::NotUtf8),
        }
        Ok(())
    }

    fn into_event(self) -> Event {
        if self.is_text { Event::Text(self.data) } else { Event::Binary(self.data) }
    }
}

struct Header {
    opcode: OpCode,
    is_final: bool,
    mask: [u8; 4],
    /// Length of the header itself.
    len: usize,
    /// Length of the payload, as declared.
    payload: usize,
}

impl Header {
    /// Reads a header; `None` while it is incomplete. What two bytes tell is judged by two bytes.
    fn parse(input: &[u8]) -> Result<Option<Self>, Violation> {
        let &[first, second, ref rest @ ..] = input else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err(Violation::ReservedBits);
        }
        let opcode = OpCode::try_from(first & 0x0f).map_err(|_| Violation::UnknownOpcode)?;
        let (is_final, short) = (first & 0x80 != 0, second & 0x7f);
        if is_control(opcode) && (!is_final || usize::from(short) > CONTROL_MAX) {
            return Err(Violation::ControlFrame);
        }
        if second & 0x80 == 0 {
            return Err(Violation::Unmasked);
        }
        let (payload, rest) = match short {
            126 => {
                let Some((length, rest)) = rest.split_first_chunk::<2>() else { return Ok(None) };
                (u64::from(u16::from_be_bytes(*length)), rest)
            }
            127 => {
                let Some((length, rest)) = rest.split_first_chunk::<8>() else { return Ok(None) };
                (u64::from_be_bytes(*length), rest)
            }
            short => (u64::from(short), rest),
        };
        let is_shortest = match short {
            126 => payload > 125,
            127 => payload > 0xffff && payload >> 63 == 0,
            _ => true,
        };
        if !is_shortest {
            return Err(Violation::Length);
        }
        let payload = usize::try_from(payload).map_err(|_| Violation::TooBig)?;
        let Some((mask, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        Ok(Some(Self { opcode, is_final, mask: *mask, len: input.len() - rest.len(), payload }))
    }

    fn is_control(&self) -> bool {
        is_control(self.opcode)
    }

    /// Begins the payload of a data frame, of a new message or of the one that it continues.
    fn open(&self, message: Option<Message>, rules: &Rules) -> Result<Message, Violation> {
        let mut message = match (self.opcode, message) {
            (OpCode::Continuation, Some(message)) => message,
            (OpCode::Continuation, None) | (_, Some(_)) => return Err(Violation::Fragmentation),
            (OpCode::Binary, None) if !rules.accept_binary => return Err(Violation::Binary),
            (opcode, None) => Message { is_text: opcode == OpCode::Text, data: Vec::new(), checked: 0, frame: None },
        };
        if self.payload > rules.max_message.saturating_sub(message.data.len()) {
            return Err(Violation::TooBig);
        }
        message.frame = Some(OpenFrame { left: self.payload, mask: self.mask, is_final: self.is_final });
        Ok(message)
    }

    fn control(&self, payload: &[u8]) -> Result<Event, Violation> {
        let mut payload = payload.to_vec();
        unmask(&mut payload, self.mask);
        match self.opcode {
            OpCode::Ping => Ok(Event::Ping(payload)),
            OpCode::Pong => Ok(Event::Pong),
            _ => parse_close(&payload),
        }
    }
}

fn parse_close(payload: &[u8]) -> Result<Event, Violation> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() { Ok(Event::Close(None)) } else { Err(Violation::CloseFrame) };
    };
    let code = u16::from_be_bytes(*code);
    if !CloseCode::from(code).is_allowed() {
        return Err(Violation::CloseFrame);
    }
    std::str::from_utf8(reason).map_err(|_| Violation::NotUtf8)?;
    Ok(Event::Close(Some(code)))
}

fn is_control(opcode: OpCode) -> bool {
    matches!(opcode, OpCode::Close | OpCode::Ping | OpCode::Pong)
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
