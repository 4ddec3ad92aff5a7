//! What the tests of this module share: client frames, and a real pair of connected sockets.

use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Class, Frame, Limits, Outbox, Pushed, Shared, Socket};
use crate::telemetry::Metrics;
use crate::wire::Close;

/// A client frame with this first byte (flags and opcode).
pub(crate) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first];
    match payload.len() {
        len @ ..126 => frame.push(0x80 | len as u8),
        len @ ..65_536 => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

pub(crate) fn shared(limits: Limits) -> Arc<Shared> {
    Shared::new(limits, Arc::new(Metrics::new().expect("metrics")))
}

/// Two ends of one loopback connection: ours, and the peer's.
pub(crate) async fn streams() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("has an address");
    let (ours, theirs) = tokio::join!(listener.accept(), TcpStream::connect(address));
    (ours.expect("accepts").0, theirs.expect("connects"))
}

pub(crate) async fn socket(shared: &Arc<Shared>, early: &[u8]) -> (Socket, Arc<Outbox>, TcpStream) {
    let (ours, theirs) = streams().await;
    let (socket, outbox) = Socket::new(ours, &Bytes::copy_from_slice(early), shared);
    (socket, outbox, theirs)
}

/// Splits what a server sent into frames: the first byte of each, and its payload. Panics at half a frame.
pub(crate) fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [first, short, rest @ ..] = bytes {
        let (len, rest) = match short {
            127 => {
                let (len, rest) = rest.split_first_chunk::<8>().expect("a whole header");
                (u64::from_be_bytes(*len) as usize, rest)
            }
            126 => {
                let (len, rest) = rest.split_first_chunk::<2>().expect("a whole header");
                (usize::from(u16::from_be_bytes(*len)), rest)
            }
            short => (usize::from(*short), rest),
        };
        let (payload, rest) = rest.split_at(len);
        frames.push((*first, payload.to_vec()));
        bytes = rest;
    }
    assert!(bytes.is_empty(), "half a header");
    frames
}

/// Reads as a well-behaved peer does: up to the close frame, which it answers, and then to the end of the stream.
pub(crate) async fn read_to_close<P: AsyncRead + AsyncWrite + Unpin>(peer: &mut P) -> Vec<(u8, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = peer.read(&mut buffer).await.expect("reads");
        assert!(count > 0, "the stream ended without a close frame");
        bytes.extend_from_slice(&buffer[..count]);
        if ends_with_close(&bytes) {
            break;
        }
    }
    peer.write_all(&masked(0x88, &[])).await.expect("answers the close frame");
    let end = peer.read_to_end(&mut bytes).await.expect("reads to the end");
    assert_eq!(end, 0, "something came after the close frame");
    frames(&bytes)
}

/// The close frame with this code and reason, as [`frames`] shows it.
pub(crate) fn closed(close: Close) -> (u8, Vec<u8>) {
    (0x88, [&close.code.to_be_bytes()[..], close.reason.as_bytes()].concat())
}

/// Pushes numbered messages until the socket takes no more. Returns how many there were, the queued one included.
pub(crate) fn fill(outbox: &Outbox) -> usize {
    for number in 0..10_000 {
        match outbox.push(&numbered(number), Class::Message) {
            Pushed::Written => {}
            Pushed::Queued => return number + 1,
            other => panic!("{other:?} while filling"),
        }
    }
    panic!("the socket takes everything")
}

/// The message of [`fill`] with this number: odd in length, so that the kernel ends within one.
pub(crate) fn numbered(number: usize) -> Frame {
    Frame::text(format!("{number:030001}").as_bytes())
}

fn ends_with_close(mut bytes: &[u8]) -> bool {
    loop {
        let len = match bytes {
            [0x88, len, rest @ ..] => return rest.len() >= usize::from(*len),
            [_, 126, a, b, ..] => 4 + usize::from(u16::from_be_bytes([*a, *b])),
            [_, short @ ..126, ..] => 2 + usize::from(*short),
            _ => return false,
        };
        match bytes.get(len..) {
            Some(rest) => bytes = rest,
            None => return false,
        }
    }
}
