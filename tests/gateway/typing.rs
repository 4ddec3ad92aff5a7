//! `typing`: told to everybody, seldom, and kept in nothing but an expiring hash.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::support::{RoomSpec, Stack, TestClient, TestGateway, TestRoom, TestUser, eventually};

struct Pair {
    stack: Stack,
    _gateways: [TestGateway; 2],
    room: TestRoom,
    ada: TestUser,
    a: TestClient,
    b: TestClient,
}

/// Ada and Grace in one room, on two instances, after the first events.
async fn pair() -> Pair {
    let stack = Stack::start().await;
    let gateways = [stack.gateway().start().await, stack.gateway().start().await];
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let mut a = gateways[0].enter(&room, &ada).await;
    a.expect_event("user_joined").await;
    let mut b = gateways[1].enter(&room, &grace).await;
    b.expect_event("user_joined").await;
    a.expect_event("user_joined").await;
    Pair { stack, _gateways: gateways, room, ada, a, b }
}

impl Pair {
    async fn typists(&self) -> HashMap<String, String> {
        let mut all = redis::cmd("HGETALL");
        all.arg(format!("community:typing:{}", self.room.id));
        all.query_async(&mut self.stack.redis().await).await.unwrap()
    }
}

fn typing(is_typing: bool) -> Value {
    json!({"type": "typing", "is_typing": is_typing})
}

#[tokio::test]
async fn typing_reaches_everybody_and_the_typist_too() {
    let mut pair = pair().await;
    for is_typing in [true, false] {
        pair.a.send(typing(is_typing)).await;
        let expected =
            json!({"event": "typing", "userId": pair.ada.id.to_string(), "username": "ada", "isTyping": is_typing});
        assert_eq!(pair.a.expect_event("typing").await, expected);
        assert_eq!(pair.b.expect_event("typing").await, expected);
    }
}

#[tokio::test]
async fn who_goes_on_typing_is_told_of_seldom() {
    let mut pair = pair().await;
    for _ in 0..10 {
        pair.a.send(typing(true)).await;
    }
    pair.a.send(json!({"type": "ping"})).await;
    pair.a.wait_for("pong").await; // all were dealt with
    pair.b.send(json!({"type": "send_message", "content": "marker"})).await;
    let seen = pair.b.events_until("new_message").await;
    assert!((1..=3).contains(&(seen.len() - 1)), "ten key presses in a moment: {seen:?}");
}

#[tokio::test]
async fn who_types_is_in_a_hash_that_expires() {
    let mut pair = pair().await;
    pair.a.send(typing(true)).await;
    pair.b.expect_event("typing").await;
    eventually("it is kept", || async { pair.typists().await.contains_key(&pair.ada.id.to_string()) }).await;
    let key = format!("community:typing:{}", pair.room.id);
    let left: i64 = redis::cmd("PTTL").arg(&key).query_async(&mut pair.stack.redis().await).await.unwrap();
    assert!(left > 0 && left <= 10_000, "{left} ms");

    pair.a.send(typing(false)).await;
    pair.b.expect_event("typing").await;
    eventually("it is forgotten", || async { pair.typists().await.is_empty() }).await;
}

#[tokio::test]
async fn a_message_ends_its_authors_typing() {
    let mut pair = pair().await;
    pair.a.send(typing(true)).await;
    assert_eq!(pair.b.expect_event("typing").await["isTyping"], true);
    pair.a.send(json!({"type": "send_message", "content": "there"})).await;
    assert_eq!(pair.b.wait_for("typing").await["isTyping"], false);
    eventually("it is forgotten", || async { pair.typists().await.is_empty() }).await;
}

#[tokio::test]
async fn leaving_ends_typing() {
    let mut pair = pair().await;
    pair.a.send(typing(true)).await;
    assert_eq!(pair.b.expect_event("typing").await["isTyping"], true);
    drop(pair.a);
    let ended = pair.b.expect_event("typing").await;
    assert_eq!((&ended["isTyping"], &ended["userId"]), (&json!(false), &json!(pair.ada.id.to_string())));
}

#[tokio::test]
async fn who_may_not_write_types_unseen() {
    let mut pair = pair().await;
    let bob = pair.stack.user("bob").await;
    pair.stack.member(&pair.room, &bob, "muted").await;
    let mut bob = pair._gateways[0].enter(&pair.room, &bob).await;
    pair.b.expect_event("user_joined").await;
    bob.send(typing(true)).await;
    bob.send(json!({"type": "ping"})).await;
    bob.wait_for("pong").await;
    pair.a.send(json!({"type": "send_message", "content": "marker"})).await;
    pair.b.expect_event("new_message").await;
    assert!(pair.typists().await.is_empty());
}
