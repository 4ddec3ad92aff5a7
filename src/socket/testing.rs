//! What the tests of this module share: client frames, and a real pair of connected sockets.

use std::sync::Arc;

use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};

use super::{Limits, Outbox, Shared, Socket};
use crate::telemetry::Metrics;

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
