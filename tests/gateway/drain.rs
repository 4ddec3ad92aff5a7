//! SIGTERM: no new work, everybody told, nothing lost.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::app_stage::{open, user_becomes};
use crate::dm::conversation;
use crate::support::{ChaosProxy, RoomSpec, Stack, TestClient, TestGateway, TestRoom, eventually};

/// A gateway with so many people in one room.
async fn crowded(stack: &Stack, people: i32, drain_seconds: u32) -> (TestGateway, TestRoom, Vec<TestClient>) {
    let gateway =
        stack.gateway().env("GATEWAY_DRAIN_SECONDS", drain_seconds).env("GATEWAY_HANDSHAKE_RATE", 0).start().await;
    let room = stack.room(RoomSpec::default()).await;
    let users = stack.users("user", people).await;
    let entering = users.iter().map(|user| gateway.enter_by_jwt(&room, user));
    let clients = futures_util::stream::iter(entering).buffer_unordered(16).collect().await;
    (gateway, room, clients)
}

#[tokio::test]
async fn clients_are_told_to_come_back_and_then_closed_with_1001() {
    let stack = Stack::start().await;
    let (mut gateway, _room, clients) = crowded(&stack, 3, 10).await;
    gateway.begin_termination();
    for mut client in clients {
        let told = client.wait_for("reconnect").await;
        let delay = told["delayMs"].as_u64().unwrap();
        assert!((200..=5_200).contains(&delay), "{told}");
        assert_eq!(told["reason"], "drain");
        assert_eq!(client.expect_close().await.0, 1001);
    }
    assert_eq!(gateway.exit_code().await, 0);
}

#[tokio::test]
async fn it_is_not_ready_at_once_and_takes_nobody_in() {
    let stack = Stack::start().await;
    // Enough people that the drain takes its time.
    let (mut gateway, _room, clients) = crowded(&stack, 300, 8).await;
    gateway.begin_termination();
    gateway.wait_for_log("draining").await;
    let ready = gateway.ops("/readyz").await;
    assert_eq!(ready.status, 503, "{}", ready.body);
    assert!(ready.body.contains("draining"), "{}", ready.body);
    assert_eq!(gateway.ops("/livez").await.status, 200);
    eventually("nobody is taken in", || async { tokio::net::TcpStream::connect(gateway.public).await.is_err() }).await;
    drop(clients);
    assert_eq!(gateway.exit_code().await, 0);
}

#[tokio::test]
async fn until_balancers_had_time_to_notice_it_is_not_ready_and_takes_people_in() {
    let stack = Stack::start().await;
    let mut gateway = stack.gateway().env("GATEWAY_DRAIN_WAIT_SECONDS", 600).start().await;
    let (room, ada, grace) =
        (stack.room(RoomSpec::default()).await, stack.user("ada").await, stack.user("grace").await);
    let mut early = gateway.enter(&room, &ada).await;
    gateway.begin_termination();
    eventually("it is not ready", || async {
        let ready = gateway.ops("/readyz").await;
        ready.status == 503 && ready.body.contains("draining")
    })
    .await;
    let mut late = gateway.enter(&room, &grace).await;
    late.send(json!({"type": "send_message", "content": "in time"})).await;
    assert_eq!(early.wait_for("new_message").await["message"]["content"], "in time");
    gateway.terminate().await; // the second signal ends the wait too
}

#[tokio::test]
async fn after_that_time_it_drains() {
    let stack = Stack::start().await;
    let mut gateway = stack.gateway().env("GATEWAY_DRAIN_WAIT_SECONDS", 1).start().await;
    let mut client = gateway.enter(&stack.room(RoomSpec::default()).await, &stack.user("ada").await).await;
    let begun = Instant::now();
    gateway.begin_termination();
    assert_eq!(client.wait_for("reconnect").await["reason"], "drain");
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(client.expect_close().await.0, 1001);
    assert_eq!(gateway.exit_code().await, 0);
}

#[tokio::test]
async fn who_comes_in_as_the_drain_begins_gets_a_ticket_to_come_in_elsewhere() {
    let stack = Stack::start().await;
    let proxy = ChaosProxy::before(stack.redis_server().address()).await;
    let url = format!("redis://{}/3", proxy.address);
    let mut gateway = stack.gateway().env("GATEWAY_REDIS_URL", url).start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    // It is on its way in for half a second, that the signal comes meanwhile.
    proxy.delay(Duration::from_millis(500));
    let mut client = gateway.dial(&room.path()).jwt(&stack.jwt(&ada)).connect().await;
    gateway.begin_termination();
    gateway.wait_for_log("draining").await;
    proxy.heal();
    assert_eq!(client.expect_close().await.0, 1001);
    let mut events = client.seen().iter().map(|event| serde_json::from_str::<Value>(event).unwrap());
    let ticket = events.find_map(|event| event["resumeToken"].as_str().map(str::to_owned)).expect("a ticket");
    assert_eq!(gateway.exit_code().await, 0);
    let other = stack.gateway().start().await;
    other.dial(&room.path()).query("resume_token", &ticket).connect().await.expect_event("room_state").await;
}

#[tokio::test]
async fn a_send_in_flight_is_stored_and_acknowledged() {
    let stack = Stack::start().await;
    let (mut gateway, room, mut clients) = crowded(&stack, 2, 20).await;
    let mut lock = stack.db().begin().await.unwrap();
    sqlx::query("SELECT FROM community_room WHERE id = $1 FOR UPDATE").bind(room.id).execute(&mut *lock).await.unwrap();
    clients[0].send(json!({"type": "send_message", "content": "in flight", "client_id": "c"})).await;
    eventually("the send waits for the room", || async {
        let waiting =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        sqlx::query_scalar::<_, i64>(waiting).fetch_one(stack.db()).await.unwrap() > 0
    })
    .await;
    gateway.begin_termination();
    clients[1].wait_for("reconnect").await;
    assert_eq!(clients[1].expect_close().await.0, 1001);
    lock.rollback().await.unwrap();
    let ack = clients[0].wait_for("message_ack").await;
    assert_eq!(clients[0].expect_close().await.0, 1001);
    assert_eq!(gateway.exit_code().await, 0);
    let stored: Vec<String> =
        sqlx::query_scalar("SELECT id::text FROM community_message").fetch_all(stack.db()).await.unwrap();
    assert_eq!(json!(stored), json!([ack["messageId"]]));
}

#[tokio::test]
async fn what_one_instance_stored_at_its_end_is_seen_on_another() {
    let stack = Stack::start().await;
    let (mut gateway, room, mut clients) = crowded(&stack, 1, 20).await;
    let other = stack.gateway().start().await;
    let grace = stack.user("grace").await;
    let mut grace = other.enter(&room, &grace).await;
    clients[0].send(json!({"type": "send_message", "content": "last words", "client_id": "c"})).await;
    clients[0].wait_for("message_ack").await;
    assert_eq!(gateway.terminate().await, 0);
    assert_eq!(grace.wait_for("new_message").await["message"]["content"], "last words");
}

#[tokio::test]
async fn nobody_is_announced_as_gone_who_comes_back_elsewhere() {
    let stack = Stack::start().await;
    let other = stack.gateway().env("GATEWAY_PRESENCE_GRACE_SECONDS", 0).start().await;
    let mut leaving = stack.gateway().env("GATEWAY_PRESENCE_GRACE_SECONDS", 0).start().await;
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let mut watcher = other.enter(&room, &grace).await;
    watcher.expect_event("user_joined").await;
    let mut tab = leaving.enter(&room, &ada).await;
    watcher.expect_event("user_joined").await;
    leaving.begin_termination();
    assert_eq!(tab.expect_close().await.0, 1001);
    assert_eq!(leaving.exit_code().await, 0);
    let _tab = other.enter(&room, &ada).await;
    watcher.send(json!({"type": "send_message", "content": "marker"})).await;
    watcher.expect_event("new_message").await;
}

#[tokio::test]
async fn nobody_is_shown_as_offline_in_the_app_who_comes_back_elsewhere() {
    let stack = Stack::start().await;
    let start = || {
        let builder = stack.gateway().env("GATEWAY_PRESENCE_GRACE_SECONDS", 0);
        builder.env("GATEWAY_LIMIT_CONNECTIONS_PER_USER", 1).start()
    };
    let (other, mut leaving) = (start().await, start().await);
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace, eve) = (stack.user("ada").await, stack.user("grace").await, stack.user("eve").await);
    conversation(&stack, &[&ada, &grace]).await;
    conversation(&stack, &[&eve, &grace]).await;
    let (mut watcher, ..) = open(&stack, &other, &ada).await;
    let mut tab = leaving.enter(&room, &grace).await;
    user_becomes(&mut watcher, &grace, true).await;
    leaving.begin_termination();
    assert_eq!(tab.expect_close().await.0, 1001);
    assert_eq!(leaving.exit_code().await, 0);
    let (_another, state, _) = open(&stack, &other, &eve).await;
    assert_eq!(state["users"][grace.id.to_string()], true, "she is on her way: {state}");
    let _tab = other.enter(&room, &grace).await; // although a user may have one socket only
    watcher.expect_silence().await;
    let said: Vec<_> = watcher.seen().iter().filter(|event| event.contains("presence_update")).collect();
    let of_grace: Vec<_> = said.iter().filter(|event| event.contains(&format!("\"{}\":", grace.id))).collect();
    assert_eq!(of_grace.len(), 1, "that she came, once: {said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_closed_one_after_the_other() {
    let stack = Stack::start().await;
    let (mut gateway, _room, clients) = crowded(&stack, 300, 8).await;
    gateway.begin_termination();
    let closes = clients.into_iter().map(|mut client| async move {
        let mut told = Value::Null;
        let code = loop {
            match client.next_message().await {
                tokio_tungstenite::tungstenite::Message::Text(text) => told = serde_json::from_str(&text).unwrap(),
                tokio_tungstenite::tungstenite::Message::Close(Some(frame)) => break u16::from(frame.code),
                _ => {}
            }
        };
        assert_eq!((code, &told["event"]), (1001, &json!("reconnect")), "told before it is closed");
        (Instant::now(), told["delayMs"].as_u64().unwrap())
    });
    let mut closes = join_all(closes).await;
    closes.sort_unstable();
    let (first, last) = (closes[0].0, closes[299].0);
    assert!(last - first >= Duration::from_millis(1_500), "all within {:?}", last - first);
    let delays: std::collections::HashSet<u64> = closes.iter().map(|close| close.1).collect();
    assert!(delays.len() > 100, "each has a delay of its own");
    assert_eq!(gateway.exit_code().await, 0);
}

#[tokio::test]
async fn a_client_that_does_not_answer_does_not_hold_up_the_end() {
    let stack = Stack::start().await;
    let (mut gateway, _room, _silent) = crowded(&stack, 3, 30).await;
    let begun = Instant::now();
    assert_eq!(gateway.terminate().await, 0);
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_gone_keeps_no_descriptor_while_others_are_waited_for() {
    let stack = Stack::start().await;
    let (mut gateway, _room, mut clients) = crowded(&stack, 20, 30).await;
    let _silent = clients.pop();
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", gateway.pid())).unwrap().count();
    let before = descriptors();
    gateway.begin_termination();
    join_all(clients.into_iter().map(|mut client| async move { assert_eq!(client.expect_close().await.0, 1001) }))
        .await;
    eventually("only the silent one has a descriptor", || async {
        gateway.metric("community_gateway_sockets_open", &[]).await == 1.0 && descriptors() <= before - 10
    })
    .await;
    assert_eq!(gateway.exit_code().await, 0);
}

#[tokio::test]
async fn a_second_sigterm_ends_it_at_once() {
    let stack = Stack::start().await;
    let (mut gateway, _room, _clients) = crowded(&stack, 300, 3_600).await; // a drain of half an hour
    gateway.begin_termination();
    gateway.wait_for_log("draining").await;
    gateway.terminate().await; // the harness waits for 40 seconds at most
}
