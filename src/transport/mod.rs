//! One byte stream: plain TCP, or TLS over it.
//!
//! Owns TLS: the certificate, the handshake, and records while a socket is open. Everybody else sees bytes. Must never
//! look at what the bytes mean, and must cost a plain stream nothing: no byte of memory, no lock.
//!
//! A [`Stream`] is used by readiness, without a buffer of its own: wait with `poll_read_ready` or `poll_write_ready`,
//! then try. Before the upgrade it is an [`Accepted`], which reads and writes as HTTP wants it.

mod accepted;
mod certificate;
mod pinned;
mod secure;
#[cfg(test)]
pub(crate) mod testing;
mod validity;

use std::io::{self, ErrorKind, IoSlice, Read};
use std::net::Shutdown;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

pub use accepted::{Accepted, Failure, accept, has_ended, linger, peek, speaks_tls};
pub use certificate::{Certificate, CertificateError};
pub use pinned::connect;
use secure::Secure;
pub use validity::{Standing, Validity};

/// A connection after its upgrade.
#[derive(Debug)]
pub enum Stream {
    /// Bytes as they are.
    Plain(TcpStream),
    /// Bytes in TLS records. In a box, so that it costs plain streams nothing.
    Tls(Box<Secure>),
}

impl From<TcpStream> for Stream {
    fn from(tcp: TcpStream) -> Self {
        Self::Plain(tcp)
    }
}

impl Stream {
    /// The connection underneath, for its options and addresses.
    #[must_use]
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(secure) => secure.tcp(),
        }
    }

    /// Waits until there may be something to read.
    ///
    /// # Errors
    /// When the runtime is shutting down.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp().poll_read_ready(cx)
    }

    /// Waits until something may be written.
    ///
    /// # Errors
    /// When the runtime is shutting down.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp().poll_write_ready(cx)
    }

    /// Reads what is there; 0 is the end. The buffer must be larger than a TLS record (18 KiB), or bytes may wait here
    /// that no readiness tells of.
    ///
    /// # Errors
    /// `WouldBlock` and `Interrupted` when there is nothing yet; anything else is the end of the connection.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => try_read(tcp, buffer),
            Self::Tls(secure) => secure.try_read(buffer),
        }
    }

    /// Writes as much as the kernel takes now. Who was told of fewer bytes than it gave must come back with the rest
    /// before anything else: of a TLS record all bytes but the last count as written before the kernel has it.
    ///
    /// # Errors
    /// `WouldBlock` when the kernel takes nothing; anything else is the end of the connection.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.try_write(bytes),
            Self::Tls(secure) => secure.try_write(&[IoSlice::new(bytes)]),
        }
    }

    /// The same for several buffers, none of which is empty.
    ///
    /// # Errors
    /// As for [`Stream::try_write`].
    pub fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.try_write_vectored(slices),
            Self::Tls(secure) => secure.try_write(slices),
        }
    }

    /// Ends one or both directions; that it was ended already is no news. TLS says so to the peer first.
    pub fn shutdown(&self, how: Shutdown) {
        if let Self::Tls(secure) = self {
            secure.say_goodbye();
        }
        let _ = SockRef::from(self.tcp()).shutdown(how);
    }
}

/// Reads, and takes it that nothing more is there when the buffer was not filled, as tokio's own `AsyncRead` does: who reads
/// again waits for news from the kernel first. With `TcpStream::try_read` each message costs one more call that finds nothing.
fn try_read(tcp: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut last = None;
    let read = tcp.try_io(Interest::READABLE, || {
        let count = (&*SockRef::from(tcp)).read(buffer)?;
        if count == 0 || count == buffer.len() {
            return Ok(count);
        }
        last = Some(count);
        // Said to the readiness alone: what arrives from now on, and the end, is news to it.
        Err(ErrorKind::WouldBlock.into())
    });
    last.map_or(read, Ok)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::FutureExt;
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn a_read_that_does_not_fill_its_buffer_waits_for_news_before_the_next() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let mut peer = TcpStream::connect(listener.local_addr().expect("is bound")).await.expect("connects");
        let stream = Stream::from(listener.accept().await.expect("accepts").0);
        let ready = || poll_fn(|cx| stream.poll_read_ready(cx));
        let is_ready = || ready().now_or_never().is_some();

        peer.write_all(b"seven b").await.expect("is open");
        ready().await.expect("has a runtime");
        assert_eq!(stream.try_read(&mut [0; 4]).expect("there is something"), 4);
        assert!(is_ready(), "a full buffer may have left something");
        assert_eq!(stream.try_read(&mut [0; 4]).expect("there is more"), 3);
        assert!(!is_ready());

        peer.write_all(b"more").await.expect("is open");
        ready().await.expect("has a runtime");
        assert_eq!(stream.try_read(&mut [0; 64]).expect("there is something"), 4);
        drop(peer);
        ready().await.expect("has a runtime");
        assert_eq!(stream.try_read(&mut [0; 64]).expect("it is the end"), 0);
    }

    #[test]
    fn tls_costs_a_plain_stream_no_memory() {
        assert_eq!(size_of::<Stream>(), size_of::<TcpStream>());
    }
}
