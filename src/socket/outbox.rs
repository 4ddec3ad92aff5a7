//! The write side of one connection, shared by everyone who has something to say to it.
//!
//! Owns the socket's writes: whoever pushes writes the frame itself while nothing waits, without waking a task; what
//! the kernel does not take waits in the queue, and the connection's task goes on when it does. One short lock a
//! connection keeps the order of frames whoever writes. Must never wait, and must never send anything after the
//! decision to close but the rest of a half-written frame and the close frame (invariant 6).

use std::io::{self, ErrorKind, IoSlice};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use super::ending::{By, Ending};
use super::frame::Frame;
use super::limits::Shared;
use super::queue::{Added, Class, Queue};
use crate::transport::Stream;
use crate::wire::Close;

/// Frames that leave in one system call at most.
const BATCH: usize = 64;

/// What became of a pushed frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "Overflow and Closed end the connection"]
pub enum Pushed {
    /// Written to the socket at once.
    Written,
    /// Waits its turn.
    Queued,
    /// Took the place of an older frame with its key, which will not be sent.
    Coalesced,
    /// The queue is full: this push closed the connection with 4008, and the frame is lost to it.
    Overflow,
    /// The connection was closing already; the frame is lost to it.
    Closed,
}

/// The write side of one connection. Dropping the last one closes the file descriptor.
pub struct Outbox {
    stream: Stream,
    state: Mutex<State>,
    /// The connection's task, waiting for work.
    owner: AtomicWaker,
    /// The tick of the last bytes from the peer.
    heard: AtomicU32,
    /// The peer has sent pings of its own.
    pings: AtomicBool,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct State {
    queue: Queue,
    /// The tick at which bytes were last taken, or the queue began to wait.
    progress: u32,
    /// The decision to close; the first one stays.
    ending: Option<Ending>,
    /// A command of the peer is being run.
    is_busy: bool,
    /// The gateway goes away as soon as that command is answered.
    goes_away: bool,
    /// The peer's close frame has come.
    is_answered: bool,
    /// Nothing can be written any more.
    is_lost: bool,
}

impl Outbox {
    pub(super) fn new(stream: Stream, shared: Arc<Shared>) -> Self {
        let heard = AtomicU32::new(shared.tick());
        let pings = AtomicBool::new(false);
        Self { stream, state: Mutex::default(), owner: AtomicWaker::new(), heard, pings, shared }
    }

    /// Sends a frame: writes it now when nothing waits, else queues it. Never waits; may be called from any thread.
    pub fn push(&self, frame: &Frame, class: Class) -> Pushed {
        self.with(|state| {
            if state.ending.is_some() {
                return Pushed::Closed;
            }
            let mut sent = 0;
            if state.queue.is_empty() {
                match self.stream.try_write(frame.as_bytes()) {
                    Ok(count) if count == frame.len() => return Pushed::Written,
                    Ok(count) => sent = count,
                    Err(error) if would_block(&error) => {}
                    Err(_) => return state.lose(),
                }
            }
            self.enqueue(state, frame, sent, class)
        })
    }

    /// Sends several frames in order, in one system call when nothing waits.
    ///
    /// `Written` means all of them, `Queued` that at least one waits (or has replaced one that does); with `Overflow`
    /// those before the one that did not fit may have been sent.
    pub fn push_many(&self, frames: &[(Frame, Class)]) -> Pushed {
        self.with(|state| {
            if state.ending.is_some() {
                return Pushed::Closed;
            }
            let (mut done, mut sent) = (0, 0);
            while state.queue.is_empty() && done < frames.len() && sent == 0 {
                let mut slices = [IoSlice::new(&[]); BATCH];
                let mut batch = 0;
                for (slot, (frame, _)) in slices.iter_mut().zip(&frames[done..]) {
                    *slot = IoSlice::new(frame.as_bytes());
                    batch += 1;
                }
                match self.stream.try_write_vectored(&slices[..batch]) {
                    Ok(count) => sent = count,
                    Err(error) if would_block(&error) => break,
                    Err(_) => return state.lose(),
                }
                while done < frames.len() && sent >= frames[done].0.len() {
                    sent -= frames[done].0.len();
                    done += 1;
                }
            }
            for (frame, class) in &frames[done..] {
                if self.enqueue(state, frame, sent, *class) == Pushed::Overflow {
                    return Pushed::Overflow;
                }
                sent = 0;
            }
            if done == frames.len() { Pushed::Written } else { Pushed::Queued }
        })
    }

    /// Decides to close; the first decision stays. Returns whether this was it.
    ///
    /// From here on pushes are refused. What waits is sent first when the gateway ends a connection that did nothing
    /// wrong (1000, 1001, 1011, 1013); in all other cases it is dropped, for the peer is too slow for it (4008), must
    /// not see it (4001, 4003, …) or cannot be trusted to understand it (1002 to 1009). The rest of a half-written
    /// frame is always sent: a close frame in its midst would be data.
    pub fn close(&self, close: Close) -> bool {
        self.with(|state| {
            if state.ending.is_some() {
                return false;
            }
            self.decide(state, Ending { code: close.code, reason: close.reason, by: By::Us }, &Frame::close(close));
            true
        })
    }

    /// Closes with 1001, but not before the answer to a command that is being run was pushed.
    pub fn go_away(&self) {
        let is_busy = self.with(|state| {
            state.goes_away |= state.is_busy;
            state.is_busy
        });
        if !is_busy {
            self.close(Close::GOING_AWAY);
        }
    }

    /// Notes that a command of the peer is being run, or that its answer was pushed.
    pub fn set_busy(&self, is_busy: bool) {
        let goes_away = self.with(|state| {
            state.is_busy = is_busy;
            state.goes_away
        });
        if goes_away && !is_busy {
            self.close(Close::GOING_AWAY);
        }
    }

    /// Whether the decision to close has been made, by whichever side.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state.lock().ending.is_some()
    }

    /// How the connection ends, once that is decided.
    pub(super) fn ending(&self) -> Option<Ending> {
        self.state.lock().ending
    }

    /// Bytes waiting now.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.state.lock().queue.bytes()
    }

    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Notes that bytes have come from the peer.
    pub(super) fn note_heard(&self) {
        self.heard.store(self.shared.tick(), Ordering::Relaxed);
    }

    /// The tick at which something came from the peer last.
    pub(super) fn heard(&self) -> u32 {
        self.heard.load(Ordering::Relaxed)
    }

    /// Notes that the peer sends pings of its own, of WebSocket or in words of the protocol that is spoken over it: it is given
    /// more time before it is pinged.
    pub fn note_ping(&self) {
        self.pings.store(true, Ordering::Relaxed);
    }

    /// Whether it does.
    pub(super) fn pings(&self) -> bool {
        self.pings.load(Ordering::Relaxed)
    }

    /// Writes what is due as far as the socket takes it, and has `cx` woken when there is more to do. Says how the
    /// connection ends once that is decided.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Option<Ending> {
        self.owner.register(cx.waker()); // before looking, so that no push goes unseen
        loop {
            {
                let state = self.state.lock();
                if state.queue.is_empty() {
                    return state.ending;
                }
            }
            match self.stream.poll_write_ready(cx) {
                Poll::Pending => return self.ending(),
                Poll::Ready(Ok(())) => self.with(|state| self.write_on(state)),
                Poll::Ready(Err(_)) => self.lose(),
            }
        }
    }

    /// The peer's close frame has come: answers it if it was the first word, dropping what waits.
    pub(super) fn peer_closed(&self, code: Option<u16>) {
        self.with(|state| {
            state.is_answered = true;
            if state.ending.is_none() {
                let ending = Ending { code: code.unwrap_or(Ending::NO_CODE), reason: "", by: By::Peer };
                self.decide(state, ending, &Frame::close_echo(code));
            }
        });
    }

    /// The connection broke: nothing can be written any more.
    pub(super) fn lose(&self) {
        let _ = self.with(State::lose);
    }

    /// Whether everything that will ever be sent has been.
    pub(super) fn is_flushed(&self) -> bool {
        let state = self.state.lock();
        state.is_lost || (state.ending.is_some() && state.queue.is_empty())
    }

    /// Whether both close frames have gone their way, or never will.
    pub(super) fn is_done(&self) -> bool {
        let state = self.state.lock();
        state.is_lost || (state.is_answered && state.queue.is_empty())
    }

    /// Ends one or both directions of the stream; that it was ended already is no news.
    pub(super) fn shutdown(&self, how: Shutdown) {
        self.stream.shutdown(how);
    }

    /// Closes the connection if it has missed a deadline by `tick`. Returns whether it is open.
    pub(super) fn check_deadlines(&self, tick: u32) -> bool {
        let limits = &self.shared.limits;
        let heard = self.heard();
        let stuck = self.with(|state| {
            self.write_on(state); // the peer is not to blame when our own task is too busy to write
            !state.queue.is_empty() && has_passed(state.progress, tick, limits.write_deadline)
        });
        if self.is_closed() {
            return false; // `Socket::finish` keeps the last deadline
        }
        if stuck {
            self.close(Close::TOO_SLOW);
        } else if has_passed(heard, tick, limits.idle_after) {
            self.close(Close::HEARTBEAT_MISSED);
        } else {
            return true;
        }
        false
    }

    /// Runs `change` under the lock, then does what follows from it: the gauge, and waking the connection's task when
    /// there is something new for it to do.
    fn with<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock();
        let (bytes, was_waiting, was_ending) = (state.queue.bytes(), !state.queue.is_empty(), state.ending.is_some());
        let result = change(&mut state);
        let begins_to_wait = !state.queue.is_empty() && !was_waiting;
        if begins_to_wait {
            state.progress = self.shared.tick();
        }
        let is_news = begins_to_wait || state.ending.is_some() != was_ending;
        let change = state.queue.bytes().cast_signed() - bytes.cast_signed();
        drop(state);
        if change != 0 {
            self.shared.metrics.outbox_bytes.add(change as i64);
        }
        if is_news {
            self.owner.wake();
        }
        result
    }

    fn enqueue(&self, state: &mut State, frame: &Frame, sent: usize, class: Class) -> Pushed {
        match state.queue.add(frame, sent, class, self.shared.limits.outbox_bytes) {
            Added::Queued => Pushed::Queued,
            Added::Coalesced => {
                self.shared.metrics.outbox_coalesced_total.with_label_values(&[class.as_str()]).inc();
                Pushed::Coalesced
            }
            Added::Full => {
                self.shared.metrics.outbox_overflow_total.with_label_values(&[class.as_str()]).inc();
                let close = Close::TOO_SLOW;
                let ending = Ending { code: close.code, reason: close.reason, by: By::Us };
                self.decide(state, ending, &Frame::close(close));
                Pushed::Overflow
            }
        }
    }

    fn decide(&self, state: &mut State, ending: Ending, last: &Frame) {
        state.ending = Some(ending);
        if ending.by != By::Us || !matches!(ending.code, 1000 | 1001 | 1011 | 1013) {
            state.queue.cut();
        }
        state.queue.append(last, 0, Class::Message);
        self.write_on(state);
    }

    /// Writes what is due until the socket takes no more.
    fn write_on(&self, state: &mut State) {
        while !state.queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); BATCH];
            let count = state.queue.slices(&mut slices);
            match self.stream.try_write_vectored(&slices[..count]) {
                Ok(count) => {
                    if let Some(since) = state.queue.wrote(count) {
                        self.shared.metrics.outbox_wait_seconds.observe(since.elapsed().as_secs_f64());
                    }
                    state.progress = self.shared.tick();
                }
                Err(error) if would_block(&error) => return,
                Err(_) => {
                    let _ = state.lose();
                    return;
                }
            }
        }
    }
}

impl State {
    fn lose(&mut self) -> Pushed {
        self.is_lost = true;
        self.queue.clear();
        self.ending.get_or_insert(Ending::LOST);
        Pushed::Closed
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let bytes = self.state.get_mut().queue.bytes();
        self.shared.metrics.outbox_bytes.sub(bytes as i64);
    }
}

fn would_block(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn has_passed(since: u32, tick: u32, limit: Duration) -> bool {
    u64::from(tick.saturating_sub(since)) >= limit.as_secs().max(1)
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
