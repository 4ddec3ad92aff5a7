//! What waits to be written to one connection, pure: order, bounds, coalescing.
//!
//! Owns invariant 6 (behind the frame that is being written, at most the cap and one frame more) and the order of
//! frames. Must never drop a frame of class
//! [`Class::Message`]: what does not fit is reported, and the connection ends.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::Instant;

use super::frame::Frame;

/// What may happen to a frame that cannot be written at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Never dropped, never replaced.
    Message,
    /// Takes the place of a frame with the same key that is still queued: typing, presence, receipts. The key is the
    /// caller's hash of what the frame speaks about.
    Latest(u64),
    /// A WebSocket control frame. It goes ahead of all that waits, takes no part in the bound, and replaces a queued
    /// control frame of its kind (RFC 6455, 5.5.3 lets a pong answer the last ping only).
    Control,
}

impl Class {
    /// The word in metric labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Latest(_) => "latest",
            Self::Control => "control",
        }
    }
}

/// What became of an added frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Added {
    Queued,
    Coalesced,
    /// It did not fit; nothing has changed.
    Full,
}

#[derive(Debug)]
struct Waiting {
    frame: Frame,
    class: Class,
    /// Since when; `None` of the close frame, which waits for nobody.
    since: Option<Instant>,
}

/// The queue of one connection. Empty, it holds no memory of its own.
#[derive(Debug, Default)]
pub(super) struct Queue {
    frames: VecDeque<Waiting>,
    /// Bytes of the first frame that are written already. Such a frame stays where it is, whatever comes.
    sent: usize,
    /// Bytes still to be written.
    bytes: usize,
}

impl Queue {
    /// Bytes still to be written.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that wait behind the first frame.
    fn behind(&self) -> usize {
        self.bytes - self.frames.front().map_or(0, |first| first.frame.len() - self.sent)
    }

    /// Whether nothing waits, so that a frame may go straight to the socket.
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Adds a frame, of which `sent` bytes are written already; that is only possible when nothing waits.
    ///
    /// It is `Full` when `cap` bytes or more wait behind the first frame. The first does not count, or a first state
    /// larger than the cap would make the next event close the connection, and every reconnect end the same way.
    pub(super) fn add(&mut self, frame: &Frame, sent: usize, class: Class, cap: usize) -> Added {
        debug_assert!(sent == 0 || self.is_empty(), "a half-written frame is the first");
        match class {
            Class::Control => return self.add_control(frame, sent),
            Class::Latest(_) => {
                if let Some(added) = self.replace(frame, class, cap) {
                    return added;
                }
            }
            Class::Message => {}
        }
        if self.behind() >= cap {
            return Added::Full;
        }
        self.put_last(frame, sent, class, Some(Instant::now()));
        Added::Queued
    }

    /// Adds a frame behind everything, whatever the bound: for the close frame.
    pub(super) fn append(&mut self, frame: &Frame, sent: usize, class: Class) {
        self.put_last(frame, sent, class, None);
    }

    fn put_last(&mut self, frame: &Frame, sent: usize, class: Class, since: Option<Instant>) {
        self.frames.push_back(Waiting { frame: frame.clone(), class, since });
        self.bytes += frame.len() - sent;
        if sent > 0 {
            self.sent = sent;
        }
    }

    fn add_control(&mut self, frame: &Frame, sent: usize) -> Added {
        let first = usize::from(self.sent > 0);
        let ahead = self.frames.iter().skip(first).take_while(|waiting| waiting.class == Class::Control).count();
        let same = |waiting: &Waiting| waiting.frame.as_bytes()[0] == frame.as_bytes()[0];
        if let Some(at) = (first..first + ahead).find(|&at| same(&self.frames[at])) {
            self.put(at, frame);
            return Added::Coalesced;
        }
        self.frames.insert(
            first + ahead,
            Waiting { frame: frame.clone(), class: Class::Control, since: Some(Instant::now()) },
        );
        self.bytes += frame.len() - sent;
        self.sent += sent;
        Added::Queued
    }

    /// Replaces a queued frame of the same key; not the half-written one.
    fn replace(&mut self, frame: &Frame, class: Class, cap: usize) -> Option<Added> {
        let from = usize::from(self.sent > 0);
        let at = (from..self.frames.len()).rev().find(|&at| self.frames[at].class == class)?;
        let old = self.frames[at].frame.len();
        if at > 0 && frame.len() > old && self.behind() - old >= cap {
            return Some(Added::Full);
        }
        self.put(at, frame);
        Some(Added::Coalesced)
    }

    fn put(&mut self, at: usize, frame: &Frame) {
        let waiting = &mut self.frames[at];
        self.bytes = self.bytes - waiting.frame.len() + frame.len();
        waiting.frame = frame.clone();
    }

    /// Forgets all that waits but the rest of a half-written frame.
    pub(super) fn cut(&mut self) {
        self.frames.truncate(usize::from(self.sent > 0));
        self.bytes = self.frames.front().map_or(0, |waiting| waiting.frame.len() - self.sent);
        self.free_when_empty();
    }

    /// Forgets everything: nothing can be written any more.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Fills `slices` with what may be written now, in order. Returns how many it filled.
    pub(super) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        for (slot, waiting) in slices.iter_mut().zip(&self.frames) {
            let skip = if count == 0 { self.sent } else { 0 };
            *slot = IoSlice::new(&waiting.frame.as_bytes()[skip..]);
            count += 1;
        }
        count
    }

    /// Notes that `count` bytes of what [`Queue::slices`] showed are written. Returns since when the first frame that is
    /// whole now had waited.
    pub(super) fn wrote(&mut self, count: usize) -> Option<Instant> {
        let mut waited = None;
        self.bytes -= count;
        self.sent += count;
        while let Some(first) = self.frames.front()
            && self.sent >= first.frame.len()
        {
            self.sent -= first.frame.len();
            let first = self.frames.pop_front();
            waited = waited.or(first.and_then(|first| first.since));
        }
        self.free_when_empty();
        waited
    }

    fn free_when_empty(&mut self) {
        if self.frames.is_empty() {
            self.frames = VecDeque::new();
        }
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
