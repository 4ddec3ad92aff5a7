//! Opens sockets in rooms and keeps them: what does a connected person cost?
//!
//! Reads lines of `room-id token` from standard input, connects each to the gateway at the address given as the only
//! argument (`127.0.0.1:8001`), waits for every `room_state`, prints `open N` and holds all of them until it is killed,
//! answering the gateway's pings and discarding everything else. `loadtest/idle` runs it and does the arithmetic.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a tool, not the gateway"
)]

use std::io::BufRead;
use std::net::SocketAddr;

use futures_util::{StreamExt, stream};
use tokio::net::TcpSocket;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// Handshakes at a time.
const AT_ONCE: usize = 64;

#[tokio::main]
async fn main() {
    let address: SocketAddr = std::env::args().nth(1).expect("usage: idle ADDRESS < pairs").parse().unwrap();
    let pairs: Vec<String> = std::io::stdin().lock().lines().map(Result::unwrap).collect();
    let connecting = stream::iter(pairs.into_iter().enumerate()).map(|(number, pair)| async move {
        let (room, token) = pair.split_once(' ').unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        // Many source addresses, because a limit counts sockets for each.
        socket.bind(format!("127.0.{}.{}:0", 1 + number / 250 % 250, 1 + number % 250).parse().unwrap()).unwrap();
        let stream = socket.connect(address).await.unwrap();
        let url = format!("ws://{address}/ws/community/room/{room}/?connection_token={token}");
        let settings = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0);
        let (mut client, _) =
            tokio_tungstenite::client_async_with_config(url, stream, Some(settings)).await.expect("is upgraded");
        loop {
            let event = client.next().await.expect("a state").expect("is a frame");
            if event.to_text().is_ok_and(|text| text.contains("room_state")) {
                return client;
            }
        }
    });
    let mut open = Vec::new();
    let mut connected = connecting.buffer_unordered(AT_ONCE);
    while let Some(client) = connected.next().await {
        open.push(tokio::spawn(client.for_each(|_| std::future::ready(()))));
    }
    println!("open {}", open.len());
    for ended in open {
        let _ = ended.await;
    }
}
