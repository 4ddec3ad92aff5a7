//! Ten thousand connections from one address, as fast as they come: few of them are let in, and others are.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinSet;

use crate::http_raw::upgrade;
use crate::support::{RoomSpec, Stack};

const CONNECTIONS: usize = 10_000;
/// How many of them are on their way at once.
const AT_ONCE: usize = 64;
/// How many of them stay, if they may: `GATEWAY_LIMIT_CONNECTIONS_PER_ADDRESS`.
const STAY: usize = 1_000;

/// `GATEWAY_HANDSHAKE_RATE`, far below what any machine can ask for.
const RATE: u32 = 50;

/// One handshake without credentials: the status of its answer, and the connection. 0 when there was none.
async fn knock(address: SocketAddr, request: &str) -> (u16, Option<TcpStream>) {
    let attempt = async {
        let socket = TcpSocket::new_v4()?;
        socket.set_zero_linger()?;
        let mut stream = socket.connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await?;
        let status = std::str::from_utf8(&head[9..]).ok().and_then(|digits| digits.parse().ok()).unwrap_or(0);
        Ok::<_, std::io::Error>((status, Some(stream)))
    };
    attempt.await.unwrap_or((0, None))
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_connections_from_one_address_leave_the_door_open_for_others() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().env("GATEWAY_HANDSHAKE_RATE", RATE).start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    // Each is a stranger to the login, which answers late; so a socket that got in stays for a while.
    let request = upgrade(&format!("{}?connection_token=00112233445566778899aabbccddeeff", room.path()), "");
    let (address, request) = (gateway.public, Arc::new(request));
    let (left, answers, kept) =
        (Arc::new(AtomicUsize::new(CONNECTIONS)), Arc::new(Mutex::new(BTreeMap::new())), Arc::default());
    let kept: Arc<Mutex<Vec<TcpStream>>> = kept;
    let (entered, is_crowded) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
    let mut crowd = JoinSet::new();
    let begun = Instant::now();
    for _ in 0..AT_ONCE {
        let (left, answers, kept, request) =
            (Arc::clone(&left), Arc::clone(&answers), Arc::clone(&kept), Arc::clone(&request));
        let (entered, is_crowded) = (Arc::clone(&entered), Arc::clone(&is_crowded));
        crowd.spawn(async move {
            // The last of them come when the honest one is in: that one meets the flood and not its end.
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
                || !entered.load(Ordering::Relaxed)
            {
                if left.load(Ordering::Relaxed) <= CONNECTIONS - 1_000 {
                    is_crowded.notify_one();
                }
                let (status, stream) = knock(address, &request).await;
                *answers.lock().await.entry(status).or_insert(0_usize) += 1;
                let mut kept = kept.lock().await;
                if let Some(stream) = stream.filter(|_| status == 101 && kept.len() < STAY) {
                    kept.push(stream);
                }
            }
        });
    }
    is_crowded.notified().await;
    let honest = gateway.dial(&room.path()).jwt(&stack.jwt(&ada)).source("127.0.0.2");
    let mut honest = honest.connect().await;
    honest.wait_for("user_joined").await;
    entered.store(true, Ordering::Relaxed);
    let open = gateway.metric("community_gateway_sockets_open", &[]).await;
    assert!(open <= STAY as f64 + 1.0, "{open} sockets are open");
    while crowd.join_next().await.is_some() {}
    let answers = answers.lock().await;
    let (all, refused) = (answers.values().sum::<usize>(), answers.iter().filter(|(status, _)| **status != 101));
    let refused: usize = refused.map(|(_, count)| count).sum();
    assert!(all >= CONNECTIONS && refused > 0, "{answers:?}");
    // The burst, and what came free since.
    let most = f64::from(RATE) * (begun.elapsed().as_secs_f64() + 1.0);
    assert!((all - refused) as f64 <= most, "at most {most} are let in: {answers:?}");
    assert!(answers.keys().all(|status| [0, 101, 429, 503].contains(status)), "{answers:?}");
    honest.expect_silence().await;
    gateway.ready().await;
}
