//! The connection's own task: reads, answers control frames, and writes on when others could not.
//!
//! Owns the read side and the end of the stream. Between two awaits everything is synchronous, so dropping a future of
//! this file at any await loses nothing.

use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::task::coop;

use super::decode::{Event, Violation};
use super::ending::Ending;
use super::frame::Frame;
use super::limits::Shared;
use super::outbox::Outbox;
use super::queue::Class;
use super::reader::{Read, ReadError, Reader};
use crate::transport::Stream;
use crate::wire::Close;

/// Unsent bytes that the kernel may hold for one connection, beyond what is in flight.
///
/// Without this it takes megabytes for a reader that stands still: memory that no limit of ours sees, and old news when
/// the reader goes on. Enough for a first state of 50 messages in one write.
const UNSENT_IN_KERNEL: u32 = 128 * 1024;

/// A whole text message, which was UTF-8 when it arrived. Mutable, so that a parser may work in place.
#[derive(Debug, PartialEq, Eq)]
pub struct TextMessage(Vec<u8>);

impl TextMessage {
    /// The text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text, for a parser that writes into its input.
    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// What [`Socket::next`] brings.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A whole text message.
    Text(TextMessage),
    /// A whole binary message; only with [`Limits::accept_binary`](super::Limits::accept_binary).
    Binary(Vec<u8>),
    /// A ping (answered), a pong or a fragment. There is nothing to do but to count it against a limit on frames.
    Control,
    /// The end is decided, by either side: leave, then call [`Socket::finish`].
    Closed(Ending),
}

/// One WebSocket after its upgrade. Dropped without [`Socket::finish`], it closes with 1011.
pub struct Socket {
    outbox: Arc<Outbox>,
    reader: Reader,
    input: Input,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    Open,
    /// The peer broke the rules; what it sends can no longer be understood.
    Garbled,
    /// The same, and our side of the stream has ended.
    Draining,
}

impl Socket {
    /// Takes the stream after the upgrade, with the bytes that came together with the request (`early`).
    ///
    /// Sets `TCP_NODELAY` and `TCP_NOTSENT_LOWAT`. The outbox may be shared with anyone who has something to send.
    #[must_use]
    pub fn new(stream: impl Into<Stream>, early: &Bytes, shared: &Arc<Shared>) -> (Self, Arc<Outbox>) {
        // A socket that refuses these options still works; if it is broken, the first read says so.
        let stream = stream.into();
        let _ = stream.tcp().set_nodelay(true);
        #[cfg(target_os = "linux")]
        let _ = socket2::SockRef::from(stream.tcp()).set_tcp_notsent_lowat(UNSENT_IN_KERNEL);
        let outbox = Arc::new(Outbox::new(stream, Arc::clone(shared)));
        let socket = Self { outbox: Arc::clone(&outbox), reader: Reader::new(early), input: Input::Open };
        (socket, outbox)
    }

    /// The write side.
    #[must_use]
    pub fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    /// Brings the next message, or the end. Meanwhile answers pings, and writes what is queued.
    ///
    /// After `Closed` it brings `Closed` again.
    ///
    /// # Cancel safety
    /// Safe: whatever was read is either returned by the poll that read it, or kept for the next call.
    pub async fn next(&mut self) -> Incoming {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Runs `work` to its end while what is queued goes on being written; nothing is read meanwhile.
    ///
    /// # Cancel safety
    /// As safe as `work`.
    pub async fn while_writing<F: Future>(&mut self, work: F) -> F::Output {
        let mut work = pin!(work);
        poll_fn(|cx| {
            self.outbox.poll_flush(cx);
            work.as_mut().poll(cx)
        })
        .await
    }

    /// Sends what the decision to close left to send, waits for the peer's close frame, and ends the stream; all of it
    /// within [`Limits::close_deadline`](super::Limits::close_deadline). Without a decision it closes with 1000.
    pub async fn finish(mut self) -> Ending {
        self.outbox.close(Close::NORMAL);
        let deadline = self.outbox.shared().limits.close_deadline;
        let _ = tokio::time::timeout(deadline, poll_fn(|cx| self.poll_finish(cx))).await;
        self.outbox.ending().unwrap_or(Ending::LOST)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Incoming> {
        if let Some(ending) = self.outbox.poll_flush(cx) {
            return Poll::Ready(Incoming::Closed(ending));
        }
        // Frames that lie in the buffer already cost no poll of the stream: they must not starve other tasks.
        let budget = ready!(coop::poll_proceed(cx));
        let incoming = match ready!(self.poll_event(cx)) {
            Some(Event::Text(text)) => Incoming::Text(TextMessage(text)),
            Some(Event::Binary(bytes)) => Incoming::Binary(bytes),
            Some(Event::Ping(payload)) => {
                self.outbox.note_ping();
                // A full queue does not refuse control frames, and an end is seen by the next poll.
                let _ = self.outbox.push(&Frame::pong(&payload), Class::Control);
                Incoming::Control
            }
            Some(Event::Pong | Event::Fragment) => Incoming::Control,
            Some(Event::Close(code)) => {
                self.outbox.peer_closed(code);
                Incoming::Closed(self.outbox.ending().unwrap_or(Ending::LOST))
            }
            None => Incoming::Closed(self.outbox.ending().unwrap_or(Ending::LOST)),
        };
        budget.made_progress();
        Poll::Ready(incoming)
    }

    /// The next event; `None` when there will be none, which the outbox knows by then.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let rules = self.outbox.shared().rules();
        match self.reader.buffered(&rules) {
            Ok(Some(event)) => return Poll::Ready(Some(event)),
            Ok(None) => {}
            Err(violation) => return Poll::Ready(self.refuse(violation)),
        }
        loop {
            let stream = self.outbox.stream();
            if ready!(stream.poll_read_ready(cx)).is_err() {
                self.outbox.lose();
                return Poll::Ready(None);
            }
            match self.reader.read(&rules, |buffer| stream.try_read(buffer)) {
                Ok(Read::Event(event)) => {
                    self.outbox.note_heard();
                    return Poll::Ready(Some(event));
                }
                Ok(Read::Incomplete) => self.outbox.note_heard(),
                Err(ReadError::Io(error)) if is_retry(&error) => {}
                Err(ReadError::Violation(violation)) => return Poll::Ready(self.refuse(violation)),
                Ok(Read::End) | Err(ReadError::Io(_)) => {
                    self.outbox.lose();
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn refuse(&mut self, violation: Violation) -> Option<Event> {
        self.input = Input::Garbled;
        let shared = self.outbox.shared();
        shared.metrics.protocol_errors_total.with_label_values(&[&violation.to_string()]).inc();
        self.outbox.close(violation.close());
        None
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.outbox.poll_flush(cx);
            if self.outbox.is_done() {
                return Poll::Ready(());
            }
            if self.input != Input::Open {
                return self.poll_drain(cx);
            }
            // What else the peer says is of no interest any more, but its close frame may stand behind it.
            if let Some(Event::Close(code)) = ready!(self.poll_event(cx)) {
                self.outbox.peer_closed(code);
            }
        }
    }

    /// Waits for the peer to close its side after a violation. To close over unread bytes would reset the connection,
    /// and the peer might never see the close frame that says why.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.input == Input::Garbled && self.outbox.is_flushed() {
                self.outbox.shutdown(Shutdown::Write);
                self.input = Input::Draining;
            }
            let stream = self.outbox.stream();
            if ready!(stream.poll_read_ready(cx)).is_err() {
                return Poll::Ready(());
            }
            match Reader::discard(|buffer| stream.try_read(buffer)) {
                Ok(false) => {}
                Err(error) if is_retry(&error) => {}
                Ok(true) | Err(_) => return Poll::Ready(()),
            }
        }
    }
}

impl Drop for Socket {
    /// On every path, a panic of the session included, the peer is told and the hub finds the outbox closed.
    fn drop(&mut self) {
        self.outbox.close(Close::INTERNAL);
        self.outbox.lose();
        self.outbox.shutdown(Shutdown::Both);
    }
}

fn is_retry(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
