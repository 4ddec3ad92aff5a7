//! Between the kernel and the decoder: a scratch buffer lent by the thread, and the tail that is kept.
//!
//! Owns invariant 2: bytes that came with the upgrade are the first input, and of what was read only what is not yet
//! decoded is kept. Synchronous from the read to the event, so nothing can be lost between two awaits. Must never hold
//! a buffer while a connection is at rest.

use std::cell::RefCell;
use std::io;

use bytes::Bytes;

use super::decode::{Decoder, Event, Rules, Violation};

/// Bytes read at most by one call: many small frames, or a good piece of a large one.
const SCRATCH: usize = 64 * 1024;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// What one read brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    Event(Event),
    /// Bytes, but nothing whole yet.
    Incomplete,
    /// The peer has closed its side.
    End,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Violation(#[from] Violation),
}

/// The input of one connection. At rest it holds no memory of its own.
#[derive(Debug, Default)]
pub(super) struct Reader {
    decoder: Decoder,
    /// Bytes read and not decoded, from `at` on.
    tail: Vec<u8>,
    at: usize,
}

impl Reader {
    /// Starts with the bytes that came together with the upgrade request.
    pub(super) fn new(early: &Bytes) -> Self {
        Self { decoder: Decoder::default(), tail: early.to_vec(), at: 0 }
    }

    /// Decodes the next event out of what has been read already.
    pub(super) fn buffered(&mut self, rules: &Rules) -> Result<Option<Event>, Violation> {
        if self.tail.is_empty() {
            return Ok(None);
        }
        let (used, event) = self.decoder.decode(&self.tail[self.at..], rules)?;
        self.at += used;
        if self.at == self.tail.len() {
            (self.tail, self.at) = (Vec::new(), 0);
        } else if event.is_none() && self.at > 0 {
            (self.tail, self.at) = (self.tail[self.at..].to_vec(), 0);
        }
        Ok(event)
    }

    /// Calls `read` once with a buffer, and decodes the first event of what it brought.
    ///
    /// Call it only when [`Reader::buffered`] has nothing left: then the tail is an incomplete header or control frame.
    pub(super) fn read(
        &mut self,
        rules: &Rules,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> Result<Read, ReadError> {
        BUFFER.with_borrow_mut(|buffer| {
            let kept = self.tail.len() - self.at;
            buffer[..kept].copy_from_slice(&self.tail[self.at..]);
            let count = read(&mut buffer[kept..])?;
            if count == 0 {
                return Ok(Read::End);
            }
            let input = &buffer[..kept + count];
            let (used, event) = self.decoder.decode(input, rules)?;
            (self.tail, self.at) = (input[used..].to_vec(), 0);
            Ok(event.map_or(Read::Incomplete, Read::Event))
        })
    }

    /// Reads and throws away: what a peer sends that can no longer be understood. Returns whether it was the end.
    pub(super) fn discard(read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<bool> {
        BUFFER.with_borrow_mut(|buffer| read(buffer).map(|count| count == 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::testing::masked;

    const RULES: Rules = Rules { max_message: 1000, accept_binary: false };

    fn feed<'a>(bytes: &'a [u8]) -> impl FnOnce(&mut [u8]) -> io::Result<usize> + 'a {
        move |buffer| {
            buffer[..bytes.len()].copy_from_slice(bytes);
            Ok(bytes.len())
        }
    }

    #[test]
    fn early_bytes_come_first_and_only_a_tail_is_kept() {
        let one = masked(0x81, b"one");
        let two = masked(0x81, b"two");
        let mut reader = Reader::new(&Bytes::from([&one[..], &two[..5]].concat()));
        assert_eq!(reader.buffered(&RULES), Ok(Some(Event::Text(b"one".to_vec()))));
        assert_eq!(reader.buffered(&RULES), Ok(None));
        assert_eq!(reader.tail.len(), 5, "an incomplete header, and only that");
        let read = reader.read(&RULES, feed(&two[5..])).expect("valid");
        assert_eq!(read, Read::Event(Event::Text(b"two".to_vec())));
        assert_eq!(reader.tail.capacity(), 0, "nothing is held at rest");
    }

    #[test]
    fn frames_that_arrive_together_leave_one_by_one() {
        let together = [masked(0x81, b"a"), masked(0x89, b"p"), masked(0x81, b"b")].concat();
        let mut reader = Reader::default();
        let read = reader.read(&RULES, feed(&together)).expect("valid");
        assert_eq!(read, Read::Event(Event::Text(b"a".to_vec())));
        assert_eq!(reader.buffered(&RULES), Ok(Some(Event::Ping(b"p".to_vec()))));
        assert_eq!(reader.buffered(&RULES), Ok(Some(Event::Text(b"b".to_vec()))));
        assert_eq!(reader.buffered(&RULES), Ok(None));
        assert_eq!(reader.tail.capacity(), 0);
    }

    #[test]
    fn a_read_that_would_block_loses_nothing() {
        let frame = masked(0x81, b"kept");
        let mut reader = Reader::new(&Bytes::from(frame[..3].to_vec()));
        assert_eq!(reader.buffered(&RULES), Ok(None));
        let blocked = reader.read(&RULES, |_| Err(io::ErrorKind::WouldBlock.into()));
        assert!(matches!(blocked, Err(ReadError::Io(_))));
        let read = reader.read(&RULES, feed(&frame[3..])).expect("valid");
        assert_eq!(read, Read::Event(Event::Text(b"kept".to_vec())));
        assert_eq!(reader.read(&RULES, |_| Ok(0)).expect("an end"), Read::End);
    }
}
