//! One order per room, for everybody, and counters that are exact.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{GatewayBuilder, RoomSpec, Stack, TestClient, TestGateway, TestRoom, TestUser, eventually};

fn without_limits(stack: &Stack) -> GatewayBuilder {
    stack.gateway().env("GATEWAY_LIMIT_MESSAGES_PER_MINUTE", 0).env("GATEWAY_LIMIT_MESSAGES_PER_HOUR", 0)
}

/// The next `count` messages that a client sees, as (id, createdAt, offset).
async fn next_messages(client: &mut TestClient, count: usize) -> Vec<(String, String, u64)> {
    let mut seen = Vec::with_capacity(count);
    while seen.len() < count {
        seen.push(place(&client.wait_for("new_message").await));
    }
    seen
}

fn place(event: &Value) -> (String, String, u64) {
    let text = |field: &str| event["message"][field].as_str().unwrap().to_owned();
    (text("id"), text("createdAt"), event["offset"].as_u64().unwrap())
}

/// Members of a room, each with a tab on one of two instances.
async fn members(
    stack: &Stack,
    room: &TestRoom,
    gateways: [&TestGateway; 2],
    count: i32,
) -> (Vec<TestUser>, Vec<TestClient>) {
    let users = stack.users("user", count).await;
    for user in &users {
        stack.member(room, user, "member").await;
    }
    let entering = users.iter().enumerate().map(|(at, user)| gateways[at % 2].enter_by_jwt(room, user));
    let clients = join_all(entering).await;
    (users, clients)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_sends_at_once_from_forty_users_are_seen_by_all_in_one_order() {
    let stack = Stack::start().await;
    let (one, two) = (without_limits(&stack).start().await, without_limits(&stack).start().await);
    let room = stack.room(RoomSpec::default()).await;
    let (_users, clients) = members(&stack, &room, [&one, &two], 40).await;

    let talking = clients.into_iter().map(|mut client| async move {
        for n in 0..5 {
            client.send(json!({"type": "send_message", "content": format!("message {n}")})).await;
        }
        next_messages(&mut client, 200).await
    });
    let seen = join_all(talking).await;
    assert!(seen.iter().all(|order| *order == seen[0]), "everybody saw the same 200 in the same order");
    assert!(seen[0].iter().map(|message| message.2).eq(1..=200), "offsets have no gaps");
    assert!(seen[0].is_sorted_by(|earlier, later| earlier.1 < later.1), "and the order is that of createdAt");

    let stored: Vec<String> = sqlx::query_scalar("SELECT id::text FROM community_message ORDER BY created_at")
        .fetch_all(stack.db())
        .await
        .unwrap();
    assert!(stored.iter().eq(seen[0].iter().map(|message| &message.0)), "history has the same order");
    let counted: (i32, i64, i32, i32) = sqlx::query_as(
        "SELECT message_count, (SELECT count(*) FROM community_message), \
                (SELECT min(messages_sent) FROM community_roommembership), \
                (SELECT max(messages_sent) FROM community_roommembership) FROM community_room",
    )
    .fetch_one(stack.db())
    .await
    .unwrap();
    assert_eq!(counted, (200, 200, 5, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_in_the_middle_sees_every_message_once() {
    let stack = Stack::start().await;
    let (one, two) = (without_limits(&stack).start().await, without_limits(&stack).start().await);
    let room = stack.room(RoomSpec::default()).await;
    let (_users, mut senders) = members(&stack, &room, [&one, &two], 4).await;
    let newcomers = stack.users("newcomer", 24).await;
    const EACH: usize = 12; // 48 in all: the first state holds whatever had been said

    let talking = senders.iter_mut().map(|client| async move {
        for n in 0..EACH {
            client
                .send(json!({"type": "send_message", "content": format!("message {n}"), "client_id": format!("c{n}")}))
                .await;
            client.wait_for("message_ack").await;
        }
    });
    let coming = newcomers.iter().enumerate().map(|(at, user)| {
        let (stack, room, gateway) = (&stack, &room, [&one, &two][at % 2]);
        async move {
            // One after the other, so that they come all the time.
            let said =
                || sqlx::query_scalar::<_, i32>("SELECT message_count FROM community_room").fetch_one(stack.db());
            let enough = i32::try_from(at * 2).unwrap();
            eventually("enough has been said", || async { said().await.unwrap() >= enough }).await;
            let mut client = gateway.dial(&room.path()).jwt(&stack.jwt(user)).connect().await;
            let state = client.expect_event("room_state").await;
            let first = state["messages"].as_array().unwrap().iter().map(|message| message["id"].clone());
            let mut ids: Vec<Value> = first.collect();
            let mut offset = state["offset"].as_u64().unwrap();
            while ids.len() < 4 * EACH {
                let event = client.wait_for("new_message").await;
                assert_eq!(event["offset"], offset + 1, "what follows the state follows its offset");
                offset += 1;
                ids.push(event["message"]["id"].clone());
            }
            ids
        }
    });
    let (_, seen) = tokio::join!(join_all(talking), join_all(coming));
    let stored: Vec<String> = sqlx::query_scalar("SELECT id::text FROM community_message ORDER BY created_at")
        .fetch_all(stack.db())
        .await
        .unwrap();
    let stored: Vec<Value> = stored.into_iter().map(Value::from).collect();
    for ids in seen {
        let mut times = BTreeMap::new();
        for id in &ids {
            *times.entry(id.to_string()).or_insert(0) += 1;
        }
        assert!(times.values().all(|times| *times == 1), "a message came twice: {times:?}");
        assert_eq!(ids, stored, "all of them, in order");
    }
}

#[tokio::test]
async fn messages_of_one_sender_keep_their_order() {
    let stack = Stack::start().await;
    let gateway = without_limits(&stack).start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let mut client = gateway.enter(&room, &ada).await;
    let texts: Vec<String> = (0..30).map(|n| format!("message {n}")).collect();
    for text in &texts {
        client.send(json!({"type": "send_message", "content": text})).await;
    }
    for text in &texts {
        assert_eq!(client.wait_for("new_message").await["message"]["content"], *text);
    }
}
