//! Opening a listener, and accepting from it whatever happens.

use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

/// Connections that may wait for `accept`; the kernel takes the smaller of this and `net.core.somaxconn`, which
/// `deploy/sysctl.d` raises to the same.
const BACKLOG: i32 = 16_384;
/// The first and the longest pause after an `accept` that failed.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Opens a listener. It does not block, and it is not yet tied to a runtime.
///
/// The options are set on the listener because accepted sockets inherit them: one call instead of one for each.
/// There is no TCP keepalive and no `TCP_USER_TIMEOUT`: the WebSocket heartbeat already finds a peer that is gone, and
/// follows the configured times.
///
/// # Errors
/// When the operating system refuses the address: taken, not local, or not permitted.
pub(super) fn listen(address: SocketAddr) -> io::Result<StdTcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts the next connection. A failure is waited out, never returned: without file descriptors, for example, the
/// connections wait in the kernel until some are free.
///
/// # Cancel safety
/// Safe: a connection is either returned or still in the kernel's queue.
pub(super) async fn next(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let (mut pause, longest) = PAUSE;
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections: trying again");
                tokio::time::sleep(pause).await;
                pause = longest.min(pause * 2);
            }
        }
    }
}

fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_accepted_socket_sends_without_delay() {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).expect("binds");
        let listener = TcpListener::from_std(listener).expect("has a runtime");
        let address = listener.local_addr().expect("is bound");
        let (accepted, client) = tokio::join!(next(&listener), TcpStream::connect(address));
        assert!(client.is_ok());
        assert!(accepted.0.nodelay().expect("is open"));
    }

    #[tokio::test]
    async fn an_address_can_be_listened_on_once() {
        let first = listen(SocketAddr::from(([127, 0, 0, 1], 0))).expect("binds");
        let taken = listen(first.local_addr().expect("is bound")).expect_err("is taken");
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
    }
}
