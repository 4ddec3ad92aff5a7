//! What is left when everybody has gone: nothing.

use std::path::PathBuf;

use futures_util::StreamExt;
use serde_json::json;

use crate::support::{RoomSpec, Stack, TestGateway, TestRoom, TestUser, eventually};

/// Sockets of one wave, and how many of them are connecting at once.
const SOCKETS: usize = 1_000;
const AT_ONCE: usize = 32;

/// Files and threads of a process, without its connections to Postgres: there are as many as were ever needed at once.
async fn held(gateway: &TestGateway) -> (f64, f64) {
    let entries = |of: &str| {
        let path: PathBuf = ["/proc", &gateway.pid().to_string(), of].iter().collect();
        std::fs::read_dir(path).unwrap().count() as f64
    };
    (entries("fd") - gauge(gateway, "store_connections_open").await, entries("task"))
}

async fn gauge(gateway: &TestGateway, name: &str) -> f64 {
    gateway.metric(&format!("community_gateway_{name}"), &[]).await
}

/// Opens all sockets, then closes them: a third with a goodbye, a third by breaking off, a third in the midst of typing.
async fn wave(gateway: &TestGateway, rooms: &[TestRoom], users: &[TestUser]) {
    let places = rooms.iter().flat_map(|room| users.iter().map(move |user| (room, user))).take(SOCKETS);
    let entering = places.map(|(room, user)| gateway.enter_by_jwt(room, user));
    let clients: Vec<_> = futures_util::stream::iter(entering).buffer_unordered(AT_ONCE).collect().await;
    assert_eq!(clients.len(), SOCKETS);
    assert_eq!(gauge(gateway, "seats_open").await, SOCKETS as f64);
    let closing = clients.into_iter().enumerate().map(|(at, mut client)| async move {
        match at % 3 {
            0 => client.close().await,
            1 => drop(client),
            _ => client.send(json!({"type": "typing", "is_typing": true})).await,
        }
    });
    futures_util::stream::iter(closing).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
    eventually("all sockets are closed", || async { gauge(gateway, "sockets_open").await == 0.0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_sockets_ten_times_leave_nothing_behind() {
    let stack = Stack::start().await;
    let gateway = stack
        .gateway()
        .env("GATEWAY_HANDSHAKE_RATE", 0)
        .env("GATEWAY_LIMIT_CONNECTIONS_PER_USER", 1_000)
        .env("GATEWAY_LIMIT_CONNECTS_PER_MINUTE", 0)
        .env("GATEWAY_LIMIT_CONNECTIONS_PER_ADDRESS", 0)
        .env("GATEWAY_PRESENCE_GRACE_SECONDS", 0)
        .start()
        .await;
    let users = stack.users("user", 10).await; // small rooms: the noise of arrivals is for others to test
    let mut rooms = Vec::new();
    for _ in 0..SOCKETS / users.len() {
        rooms.push(stack.room(RoomSpec::default()).await);
    }
    wave(&gateway, &rooms, &users).await; // threads are at their full number now
    eventually("channels are given back", || async { gauge(&gateway, "topics_open").await == 0.0 }).await;
    let before = held(&gateway).await;
    for _ in 1..10 {
        wave(&gateway, &rooms, &users).await;
    }
    for name in ["seats_open", "topics_open", "sessions_open", "sockets_open", "handshakes_open", "outbox_bytes"] {
        eventually(name, || async { gauge(&gateway, name).await == 0.0 }).await;
    }
    eventually("only control and the probe are subscribed to", || async {
        let channels: Vec<String> =
            redis::cmd("PUBSUB").arg("CHANNELS").query_async(&mut stack.redis().await).await.unwrap();
        gauge(&gateway, "subscriptions_open").await == 2.0 && channels.len() == 2
    })
    .await;
    for kind in ["presence", "seats", "places", "presence_state", "sockets", "typing"] {
        eventually(kind, || async {
            let pattern = format!("community:{kind}:*");
            let keys: Vec<String> =
                redis::cmd("KEYS").arg(pattern).query_async(&mut stack.redis().await).await.unwrap();
            keys.is_empty()
        })
        .await;
    }
    eventually("files and threads are as before", || async {
        let now = held(&gateway).await;
        now.0 <= before.0 && now.1 <= before.1
    })
    .await;
    let pool = gauge(&gateway, "store_connections_open").await;
    assert!(pool <= 10.0, "GATEWAY_DB_POOL's default: {pool}");
}
