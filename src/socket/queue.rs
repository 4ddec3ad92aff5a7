//! What waits to be written to one connection, pure: order, bounds, coalescing, holding back.
//!
//! Owns invariant 6 (bytes queued ≤ cap + one event) and the order of frames. Must never drop a frame of class
//! [`Class::Message`]: what does not fit is reported, and the connection ends.

use std::collections::VecDeque;
use std::io::IoSlice;

use super::frame::Frame;

/// What may happen to a frame that cannot be written at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Never dropped, never replaced.
    Message,
    /// Takes the place of a frame with the same key that is still queued: typing, presence, receipts. The key is the
    /// caller's hash of what the frame speaks about.
    Latest(u64),
    /// A WebSocket control frame. It goes ahead of all that waits, even of what is held back, takes no part in the
    /// bound, and replaces a queued control frame of its kind (RFC 6455, 5.5.3 lets a pong answer the last ping only).
    Control,
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
}

/// The queue of one connection. Empty, it holds no memory of its own.
#[derive(Debug, Default)]
pub(super) struct Queue {
    frames: VecDeque<Waiting>,
    /// Bytes of the first frame that are written already. Such a frame stays where it is, whatever comes.
    sent: usize,
    /// Bytes still to be written.
    bytes: usize,
    /// While holding back: how many of the first frames may be written all the same.
    before_hold: Option<usize>,
}

impl Queue {
    /// Bytes still to be written, held back or not.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a frame may go past the queue, straight to the socket.
    pub(super) fn lets_pass(&self, class: Class) -> bool {
        !self.is_due() && (self.before_hold.is_none() || class == Class::Control)
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether something waits that may be written now.
    pub(super) fn is_due(&self) -> bool {
        self.due() > 0
    }

    /// How many frames may be written now.
    fn due(&self) -> usize {
        self.before_hold.unwrap_or(self.frames.len())
    }

    /// Adds a frame, of which `sent` bytes are written already; that is only possible for one that the
    /// queue let pass.
    ///
    /// It is `Full` when `cap` bytes or more were waiting: so a frame larger than `cap` still passes, and the bound is
    /// the cap and one frame.
    pub(super) fn add(&mut self, frame: &Frame, sent: usize, class: Class, cap: usize) -> Added {
        debug_assert!(sent == 0 || self.lets_pass(class), "a half-written frame is the first");
        match class {
            Class::Control => return self.add_control(frame, sent),
            Class::Latest(_) => {
                if let Some(added) = self.replace(frame, class, cap) {
                    return added;
                }
            }
            Class::Message => {}
        }
        if self.bytes >= cap {
            return Added::Full;
        }
        self.append(frame, sent, class);
        Added::Queued
    }

    /// Adds a frame behind everything, whatever the bound: for the close frame.
    pub(super) fn append(&mut self, frame: &Frame, sent: usize, class: Class) {
        self.frames.push_back(Waiting { frame: frame.clone(), class });
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
        self.frames.insert(first + ahead, Waiting { frame: frame.clone(), class: Class::Control });
        self.bytes += frame.len() - sent;
        self.sent += sent; // none is when anything but a hold stands before it
        if let Some(due) = &mut self.before_hold {
            *due += 1;
        }
        Added::Queued
    }

    /// Replaces a queued frame of the same key; not the half-written one, and not one from before the hold.
    fn replace(&mut self, frame: &Frame, class: Class, cap: usize) -> Option<Added> {
        let from = usize::from(self.sent > 0).max(self.before_hold.unwrap_or(0));
        let at = (from..self.frames.len()).rev().find(|&at| self.frames[at].class == class)?;
        let old = self.frames[at].frame.len();
        if frame.len() > old && self.bytes - old >= cap {
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

    /// Holds back what is added from now on.
    pub(super) fn hold(&mut self) {
        self.before_hold.get_or_insert(self.frames.len());
    }

    /// Puts `first` before all that was held back, and ends the hold.
    pub(super) fn release(&mut self, first: &[Frame]) {
        let at = self.before_hold.take().unwrap_or(self.frames.len());
        let held = self.frames.split_off(at.min(self.frames.len()));
        for frame in first {
            self.append(frame, 0, Class::Message);
        }
        self.frames.extend(held);
    }

    /// Forgets all that waits but the rest of a half-written frame, and ends the hold.
    pub(super) fn cut(&mut self) {
        self.before_hold = None;
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
        for (slot, waiting) in slices.iter_mut().zip(self.frames.iter().take(self.due())) {
            let skip = if count == 0 { self.sent } else { 0 };
            *slot = IoSlice::new(&waiting.frame.as_bytes()[skip..]);
            count += 1;
        }
        count
    }

    /// Notes that `count` bytes of what [`Queue::slices`] showed are written.
    pub(super) fn wrote(&mut self, count: usize) {
        self.bytes -= count;
        self.sent += count;
        while let Some(first) = self.frames.front()
            && self.sent >= first.frame.len()
        {
            self.sent -= first.frame.len();
            self.frames.pop_front();
            if let Some(due) = &mut self.before_hold {
                *due -= 1;
            }
        }
        self.free_when_empty();
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
