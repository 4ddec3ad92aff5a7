//! A connection from `accept` to its upgrade: the TLS handshake, and bytes as HTTP wants them.

use std::future::poll_fn;
use std::io::{self, IoSlice, Read};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::Error;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::certificate::Certificate;
use super::{Secure, Stream};

/// The first byte of a TLS connection: a record of the handshake.
const HANDSHAKE: u8 = 22;
/// How long, and for how many bytes, a connection that failed is read on.
const LINGER: (Duration, usize) = (Duration::from_millis(500), 64 * 1024);

/// A connection that speaks HTTP.
#[derive(Debug)]
pub enum Accepted {
    /// Without TLS.
    Plain(TcpStream),
    /// After the TLS handshake.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Why a TLS handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// What came is no TLS.
    Malformed,
    /// There is no version, cipher or protocol that both speak.
    Incompatible,
    /// The client does not want this certificate, or something else of ours, and said so.
    Refused,
    /// The client broke the rules of TLS.
    Misbehaved,
    /// The client went away.
    Abandoned,
    /// Anything else.
    Other,
}

impl Failure {
    /// The metric's label.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Incompatible => "incompatible",
            Self::Refused => "refused_by_client",
            Self::Misbehaved => "misbehaved",
            Self::Abandoned => "abandoned",
            Self::Other => "other",
        }
    }

    fn of(error: &io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(Error::InvalidMessage(_)) => Self::Malformed,
            Some(Error::PeerIncompatible(_) | Error::NoApplicationProtocol) => Self::Incompatible,
            Some(Error::AlertReceived(_)) => Self::Refused,
            Some(Error::PeerMisbehaved(_) | Error::InappropriateMessage { .. } | Error::DecryptError)
            | Some(Error::InappropriateHandshakeMessage { .. }) => Self::Misbehaved,
            Some(_) => Self::Other,
            None => Self::Abandoned,
        }
    }
}

/// Says whether a client begins as TLS does; `None` when it went away without a word. Takes nothing from the stream.
///
/// # Cancel safety
/// Safe.
pub async fn speaks_tls(tcp: &TcpStream) -> Option<bool> {
    peek(tcp, |bytes| bytes.first().map(|first| *first == HANDSHAKE)).await
}

/// Waits for a client's first bytes, and says what is to be said of as many as came at once, 4 KiB at most. Takes nothing
/// from the stream; of one that ended without a word there are none.
///
/// # Cancel safety
/// Safe.
pub async fn peek<T>(tcp: &TcpStream, look: impl Fn(&[u8]) -> T) -> T {
    poll_fn(|cx| {
        let mut buffer = [0; 4 * 1024]; // here, and not in the task, which would keep it
        let mut buffer = ReadBuf::new(&mut buffer);
        let _ = ready!(tcp.poll_peek(cx, &mut buffer));
        Poll::Ready(look(buffer.filled()))
    })
    .await
}

/// Says whether a client that has written something has ended its side, as far as the runtime has heard.
///
/// # Cancel safety
/// Safe.
pub async fn has_ended(tcp: &TcpStream) -> bool {
    tcp.ready(Interest::READABLE).await.is_ok_and(|ready| ready.is_read_closed())
}

/// Shakes hands. The caller keeps the deadline.
///
/// # Errors
/// The reason, and the connection: the client was told, and should be given a moment to read it ([`linger`]).
pub async fn accept(tcp: TcpStream, certificate: &Certificate) -> Result<Accepted, (Failure, TcpStream)> {
    let acceptor = TlsAcceptor::from(Arc::clone(certificate.config()));
    match acceptor.accept(tcp).into_fallible().await {
        Ok(stream) => Ok(Accepted::Tls(Box::new(stream))),
        Err((error, tcp)) => Err((Failure::of(&error), tcp)),
    }
}

/// Ends our side, and reads the other for a moment: to close over unread bytes would reset the connection, and the
/// client might never see why it was refused.
pub async fn linger(tcp: TcpStream) {
    let (longest, most) = LINGER;
    let _ = socket2::SockRef::from(&tcp).shutdown(Shutdown::Write);
    let reading = async {
        let (mut read, mut buffer) = (0, [0; 1024]);
        while read < most && tcp.readable().await.is_ok() {
            match tcp.try_read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => read += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    };
    let _ = tokio::time::timeout(longest, reading).await;
}

impl Accepted {
    /// Takes the connection out of HTTP's hands, with what TLS had decrypted and nobody has read yet.
    #[must_use]
    pub fn into_stream(self) -> (Stream, Vec<u8>) {
        match self {
            Self::Plain(tcp) => (Stream::Plain(tcp), Vec::new()),
            Self::Tls(stream) => {
                let (tcp, mut tls) = stream.into_inner();
                let mut unread = Vec::new();
                // It ends with `WouldBlock`, and what was read until then is there.
                let _ = tls.reader().read_to_end(&mut unread);
                (Stream::Tls(Box::new(Secure::new(tcp, tls))), unread)
            }
        }
    }
}

impl AsyncRead for Accepted {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(tcp) => tcp.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
