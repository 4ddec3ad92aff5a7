//! Who is online, as the people in a room see it.

use std::collections::HashSet;

use bytes::Bytes;
use community_gateway::bus::{Envelope, Kind};
use community_gateway::domain::{Micros, RoomId, Topic, UserId};
use community_gateway::keyspace;
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::support::{GatewayBuilder, RoomSpec, Stack, TestClient, TestUser, eventually};

/// Sends a message and returns what the watcher saw before it.
async fn seen_before_marker(watcher: &mut TestClient) -> Vec<Value> {
    watcher.send(json!({"type": "send_message", "content": "marker"})).await;
    let mut seen = watcher.events_until("new_message").await;
    seen.pop();
    seen
}

fn left(user: &TestUser) -> Value {
    json!({"event": "user_left", "userId": user.id.to_string()})
}

fn joined(user: &TestUser) -> Value {
    json!({"event": "user_joined", "userId": user.id.to_string(), "username": user.username, "avatarUrl": null})
}

fn with_grace(stack: &Stack, seconds: f64) -> GatewayBuilder {
    stack.gateway().env("GATEWAY_PRESENCE_GRACE_SECONDS", seconds)
}

#[tokio::test]
async fn two_tabs_on_two_instances_come_once_and_go_once() {
    let stack = Stack::start().await;
    let (one, two) = (with_grace(&stack, 0.0).start().await, with_grace(&stack, 0.0).start().await);
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let mut watcher = one.enter(&room, &grace).await;
    watcher.expect_event("user_joined").await;

    let first = one.enter(&room, &ada).await;
    let second = two.enter(&room, &ada).await;
    assert_eq!(seen_before_marker(&mut watcher).await, [joined(&ada)]);
    first.close().await;
    eventually("the first tab is gone", || async { one.metric("community_gateway_seats_open", &[]).await == 1.0 })
        .await;
    assert_eq!(seen_before_marker(&mut watcher).await, [] as [Value; 0], "one tab is left");
    second.close().await;
    assert_eq!(watcher.expect_event("user_left").await, left(&ada));
    assert_eq!(seen_before_marker(&mut watcher).await, [] as [Value; 0]);
}

#[tokio::test]
async fn a_connection_that_breaks_is_a_leave_too() {
    let stack = Stack::start().await;
    let gateway = with_grace(&stack, 0.0).start().await;
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let mut watcher = gateway.enter(&room, &grace).await;
    watcher.expect_event("user_joined").await;
    drop(gateway.enter(&room, &ada).await);
    assert_eq!(watcher.expect_event("user_joined").await, joined(&ada));
    assert_eq!(watcher.expect_event("user_left").await, left(&ada));
}

#[tokio::test]
async fn a_reload_within_the_grace_goes_unnoticed() {
    let stack = Stack::start().await;
    let (one, two) = (with_grace(&stack, 30.0).start().await, with_grace(&stack, 30.0).start().await);
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let mut watcher = one.enter(&room, &grace).await;
    watcher.expect_event("user_joined").await;
    let tab = one.enter(&room, &ada).await;
    watcher.expect_event("user_joined").await;
    tab.close().await;
    for gateway in [&one, &two] {
        gateway.enter(&room, &ada).await.close().await;
    }
    assert_eq!(seen_before_marker(&mut watcher).await, [] as [Value; 0]);
}

#[tokio::test]
async fn the_users_of_a_killed_instance_leave_when_their_leases_end() {
    let stack = Stack::start().await;
    let builder = || with_grace(&stack, 0.0).env("GATEWAY_PRESENCE_SECONDS", 3);
    let (mut one, two) = (builder().start().await, builder().start().await);
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let mut watcher = two.enter(&room, &grace).await;
    watcher.expect_event("user_joined").await;
    let (_first, _second) = (one.enter(&room, &ada).await, one.enter(&room, &grace).await);
    watcher.expect_event("user_joined").await;
    one.kill9().await;
    assert_eq!(watcher.expect_event("user_left").await, left(&ada));
    assert_eq!(seen_before_marker(&mut watcher).await, [] as [Value; 0], "who is elsewhere too has not left");
}

#[tokio::test]
async fn redis_has_the_ids_of_those_online_and_nothing_when_all_have_left() {
    let stack = Stack::start().await;
    let gateway = with_grace(&stack, 0.0).start().await;
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let (a, b) = (gateway.enter(&room, &ada).await, gateway.enter(&room, &grace).await);
    let mut redis = stack.redis().await;
    let key = format!("community:presence:{}", room.id);
    let members: HashSet<i64> = redis::cmd("ZRANGE").arg(&key).arg(0).arg(-1).query_async(&mut redis).await.unwrap();
    assert_eq!(members, [ada.id, grace.id].into());
    let left: i64 = redis::cmd("PTTL").arg(&key).query_async(&mut redis).await.unwrap();
    assert!(left > 0 && left <= 60_000, "{left} ms");
    a.close().await;
    b.close().await;
    eventually("nothing is left", || {
        let mut redis = redis.clone();
        async move {
            let mut keys = Vec::new();
            for kind in ["presence", "seats", "places"] {
                let found: Vec<String> =
                    redis::cmd("KEYS").arg(format!("community:{kind}*")).query_async(&mut redis).await.unwrap();
                keys.extend(found);
            }
            keys.is_empty()
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn above_200_online_people_are_counted_and_not_listed() {
    let stack = Stack::start().await;
    let builder = || with_grace(&stack, 0.0).env("GATEWAY_HANDSHAKE_RATE", 0);
    let (one, two) = (builder().start().await, builder().start().await);
    let room = stack.room(RoomSpec::default()).await;
    let crowd = stack.users("user", 205).await;
    let watching = stack.user("watcher").await;
    let mut watcher = one.enter(&room, &watching).await;
    watcher.expect_event("user_joined").await;

    let entering = crowd.iter().enumerate().map(|(at, user)| [&one, &two][at % 2].enter_by_jwt(&room, user));
    let mut tabs: Vec<TestClient> = futures_util::stream::iter(entering).buffer_unordered(16).collect().await;

    // Everybody is announced once: the first 200 online one by one, the rest in differences.
    let (mut announced, mut singly, mut online) = (HashSet::new(), 0, 0);
    while announced.len() < crowd.len() {
        let event = watcher.wait_until("an arrival", |_| true).await;
        let arrivals = match event["event"].as_str().unwrap() {
            "user_joined" => {
                singly += 1;
                vec![event.clone()]
            }
            "presence_diff" => {
                online = event["online"].as_u64().unwrap();
                assert_eq!(event["left"], json!([]));
                event["joined"].as_array().unwrap().clone()
            }
            other => panic!("{other}"),
        };
        for arrival in arrivals {
            assert!(announced.insert(arrival["userId"].as_str().unwrap().to_owned()), "twice: {arrival}");
        }
    }
    assert_eq!((singly, online), (199, 206), "with the watcher, 200 are no crowd yet");

    let late = stack.user("late").await;
    let mut newcomer = two.dial(&room.path()).jwt(&stack.jwt(&late)).connect().await;
    let state = newcomer.expect_event("room_state").await;
    assert_eq!((&state["onlineCount"], state["onlineUsers"].as_array().unwrap().len()), (&json!(207), 100));
    let first = watcher.wait_for("presence_diff").await;
    assert_eq!(first["joined"], json!([joined(&late)]), "{first}");

    tabs.pop().unwrap().close().await;
    let gone = watcher.wait_for("presence_diff").await;
    assert_eq!((gone["left"].as_array().unwrap().len(), &gone["online"]), (1, &json!(206)));
}

#[tokio::test]
async fn what_people_do_at_once_is_told_together_and_nothing_need_follow() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let room = stack.room(RoomSpec::default()).await;
    let mut clients = Vec::new();
    for user in stack.users("user", 10).await {
        clients.push(gateway.enter_by_jwt(&room, &user).await);
        let id = user.id.to_string();
        for client in &mut clients {
            let came = |event: &Value| event["event"] == "user_joined" && event["userId"] == *id;
            client.wait_until("the join", came).await;
        }
    }
    let writes = || gateway.metric("community_gateway_leg_seconds_count", &[("leg", "socket"), ("topic", "room")]);
    let before = writes().await;
    let channel = keyspace::channel(Topic::Room(RoomId(room.id)));
    let mut at_once = redis::pipe();
    for typist in 1..=20 {
        let event = json!({"event": "typing", "userId": typist.to_string(), "isTyping": true});
        let envelope = Envelope {
            kind: Kind::Typing,
            place: None,
            user: Some(UserId(typist)),
            shown: None,
            time: Micros(0),
            sent: Micros::now(),
            body: Bytes::from(event.to_string()),
            online: 0,
            trace: None,
            arrived: None,
        };
        at_once.publish(&channel, envelope.encode()).ignore();
    }
    let () = at_once.query_async(&mut stack.redis().await).await.unwrap();
    for client in &mut clients {
        for typist in 1..=20 {
            assert_eq!(client.expect_event("typing").await["userId"], typist.to_string());
        }
    }
    assert!(writes().await - before < 10.0, "twenty events");
}
