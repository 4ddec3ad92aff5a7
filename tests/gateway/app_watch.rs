//! Watching ends when the right to it does: by a block at once, by the regular look when nobody said anything.

use serde_json::{Value, json};

use crate::app_stage::{open, room_becomes, user_becomes, watch};
use crate::dm::conversation;
use crate::support::{RoomSpec, Stack, TestClient, TestUser, eventually};

/// Everything that a socket was told of a user.
fn told(client: &TestClient, user: &TestUser) -> Vec<Value> {
    let events = client.seen().iter().map(|text| serde_json::from_str::<Value>(text).unwrap());
    events.filter_map(|event| event["users"].get(user.id.to_string()).cloned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_ends_the_watching_on_both_sides_at_once() {
    let stack = Stack::start().await;
    let instance = || stack.gateway().env("GATEWAY_PRESENCE_GRACE_SECONDS", 0);
    let (one, two) = (instance().start().await, instance().start().await);
    let (ada, grace, eve) = (stack.user("ada").await, stack.user("grace").await, stack.user("eve").await);
    conversation(&stack, &[&ada, &grace]).await; // partners are watched from the beginning
    let (mut a, ..) = open(&stack, &one, &ada).await;
    let (mut g, ..) = open(&stack, &two, &grace).await;
    user_becomes(&mut a, &grace, true).await;
    watch(&mut g, &[], &[&eve]).await;

    stack.block(&grace, &ada).await;
    stack.order(json!({"action": "block_changed", "users": [ada.id.to_string(), grace.id.to_string()]})).await;
    user_becomes(&mut a, &grace, false).await;
    user_becomes(&mut g, &ada, false).await;
    // She goes and comes back, and nobody who may not know is told.
    let (before_a, before_g) = (told(&a, &grace), told(&g, &ada));
    g.close().await;
    let (mut g, state, _) = open(&stack, &two, &grace).await;
    assert_eq!(state["users"], json!({}));
    watch(&mut g, &[], &[&eve]).await;
    watch(&mut a, &[], &[&eve]).await;
    let _marker = open(&stack, &one, &eve).await;
    user_becomes(&mut a, &eve, true).await;
    user_becomes(&mut g, &eve, true).await;
    assert_eq!(told(&a, &grace), before_a);
    assert_eq!(before_g.last(), Some(&json!(false)));
    assert_eq!(told(&g, &ada), Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_may_no_longer_be_read_is_no_longer_counted_although_nobody_said_so() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().env("GATEWAY_PRESENCE_GRACE_SECONDS", 0).start().await;
    let (ada, grace, eve) = (stack.user("ada").await, stack.user("grace").await, stack.user("eve").await);
    let room = stack.room(RoomSpec { visibility: "private", ..RoomSpec::default() }).await;
    stack.member(&room, &ada, "member").await;
    stack.member(&room, &grace, "member").await;
    let (mut watcher, ..) = open(&stack, &gateway, &ada).await;
    watch(&mut watcher, &[], &[&eve]).await;
    let _other = open(&stack, &gateway, &eve).await;
    user_becomes(&mut watcher, &eve, true).await;
    let ended = "UPDATE community_roommembership SET is_active = false WHERE user_id = $1";
    sqlx::query(ended).bind(ada.id).execute(stack.db()).await.unwrap();
    stack.block(&eve, &ada).await;
    user_becomes(&mut watcher, &eve, false).await;
    eventually("of four topics, the room's and the other's are given up", || async {
        gateway.metric("community_gateway_topics_open", &[]).await == 2.0
    })
    .await;
    let _there = gateway.enter(&room, &grace).await;
    let marker = stack.room(RoomSpec::default()).await;
    watch(&mut watcher, &[marker.id], &[]).await;
    let _marker = gateway.enter(&marker, &grace).await;
    room_becomes(&mut watcher, marker.id, 1).await;
    let number = format!("\"{}\":1", room.id);
    assert_eq!(watcher.seen().iter().find(|text| text.contains(&number)), None);
}
