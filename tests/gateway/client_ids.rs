//! `client_id`: one message, whatever is repeated, wherever.

use std::sync::Arc;

use community_gateway::access::Nonces;
use community_gateway::access::clock::Clock;
use community_gateway::access::nonce::Claim;
use community_gateway::bus::Bus;
use community_gateway::domain::{ConnectionId, UserId};
use community_gateway::telemetry::Metrics;
use serde_json::{Value, json};

use crate::support::{RedisServer, RoomSpec, Stack, TestClient};

fn send(client_id: &str) -> Value {
    json!({"type": "send_message", "content": "hello", "client_id": client_id})
}

async fn rows(stack: &Stack) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM community_message").fetch_one(stack.db()).await.unwrap()
}

/// How many times `new_message` came to a client before a message that `other` sends now.
async fn times_told(client: &mut TestClient, other: &mut TestClient) -> usize {
    other.send(json!({"type": "send_message", "content": "the end"})).await;
    client.wait_until("the end", |event| event["message"]["content"] == "the end").await;
    let told = |text: &&String| text.contains(r#""event":"new_message""#) && text.contains(r#""clientId""#);
    client.seen().iter().filter(told).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_repeats_on_two_instances_are_one_message() {
    let stack = Stack::start().await;
    // One message and no second: a repeat is not counted. Slow mode does not strike either.
    let gateway = || stack.gateway().env("GATEWAY_LIMIT_MESSAGES_PER_MINUTE", 1).start();
    let (one, two) = (gateway().await, gateway().await);
    let room = stack.room(RoomSpec { slow_mode_seconds: 600, ..RoomSpec::default() }).await;
    let ada = stack.user("ada").await;
    let mut tabs = Vec::new();
    for gateway in [&one, &two, &one, &two] {
        tabs.push(gateway.enter(&room, &ada).await);
    }
    let repeating = tabs.iter_mut().map(|tab| async move {
        for _ in 0..5 {
            tab.send(send("mine")).await;
        }
        let mut acks = Vec::new();
        while acks.len() < 5 {
            acks.push(
                tab.wait_until("an ack", |event| event["event"] == "message_ack" || event["event"] == "error").await,
            );
        }
        acks
    });
    let acks: Vec<Value> = futures_util::future::join_all(repeating).await.concat();
    assert_eq!(acks.len(), 20);
    assert!(acks.iter().all(|ack| *ack == acks[0]), "{acks:?}");
    assert_eq!((&acks[0]["event"], &acks[0]["clientId"]), (&json!("message_ack"), &json!("mine")));
    assert!(acks[0]["offset"].as_u64().unwrap() > 0 && acks[0]["createdAt"].is_string());
    assert_eq!(rows(&stack).await, 1);
    for (number, tab) in tabs.iter_mut().enumerate() {
        let mut other = one.enter(&room, &stack.user(&format!("user{number}")).await).await;
        assert_eq!(times_told(tab, &mut other).await, 1);
    }
    // Another name is another message, which the limits refuse; the same name of another user is another message too.
    tabs[0].send(send("another")).await;
    let error = tabs[0].wait_for("error").await;
    assert!(["rate_limited", "slow_mode"].contains(&error["code"].as_str().unwrap()), "{error}");
    assert_eq!(error["clientId"], "another");
    let mut eve = two.enter(&room, &stack.user("eve").await).await;
    eve.send(send("mine")).await;
    assert_ne!(eve.wait_for("message_ack").await["messageId"], acks[0]["messageId"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lost_the_ack_gets_it_after_a_reconnect() {
    let stack = Stack::start().await;
    let (one, two) = (stack.gateway().start().await, stack.gateway().start().await);
    let (room, ada, grace) =
        (stack.room(RoomSpec::default()).await, stack.user("ada").await, stack.user("grace").await);
    let mut first = one.enter(&room, &ada).await;
    first.send(send("lost")).await;
    let ack = first.wait_for("message_ack").await;
    drop(first);
    let mut again = two.enter(&room, &ada).await;
    again.send(send("lost")).await;
    assert_eq!(again.wait_for("message_ack").await, ack);

    // The instance died between the commit and the ack: the name is known, the ack is not. The message is found.
    let key = format!("community:nonce:{}:lost", ada.id);
    let mut redis = stack.redis().await;
    redis::cmd("HDEL").arg(&key).arg("ack").exec_async(&mut redis).await.unwrap();
    redis::cmd("HSET").arg(&key).arg("until").arg(0).exec_async(&mut redis).await.unwrap();
    again.send(send("lost")).await;
    assert_eq!(again.wait_for("message_ack").await, ack, "the place comes from the log");
    again.send(send("lost")).await;
    assert_eq!(again.wait_for("message_ack").await, ack);
    assert_eq!(rows(&stack).await, 1);

    // It died before the commit: the message is written now, with the id that the name has.
    let id = uuid::Uuid::now_v7();
    let key = format!("community:nonce:{}:unsent", ada.id);
    redis::cmd("HSET").arg(&key).arg(&["id", &id.to_string(), "until", "0"]).exec_async(&mut redis).await.unwrap();
    again.send(send("unsent")).await;
    assert_eq!(again.wait_for("message_ack").await["messageId"], id.to_string());
    assert_eq!(rows(&stack).await, 2);
    let mut other = one.enter(&room, &grace).await;
    assert_eq!(times_told(&mut again, &mut other).await, 1, "the first came before this tab");
    let seconds: i64 = redis::cmd("TTL").arg(&key).query_async(&mut redis).await.unwrap();
    assert!((590..=600).contains(&seconds), "{seconds}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_may_be_sent_again_under_the_same_name() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let mut client = gateway.enter(&room, &ada).await;
    client.send(json!({"type": "send_message", "content": "https://example.test", "client_id": "x"})).await;
    assert_eq!(client.wait_for("error").await["code"], "links_not_allowed");
    client.send(send("x")).await;
    assert_eq!(client.wait_for("message_ack").await["clientId"], "x");
    assert_eq!(rows(&stack).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_is_acknowledged_with_the_place_in_the_thread_that_the_message_went_into() {
    let stack = Stack::start().await;
    let (one, two) = (stack.gateway().start().await, stack.gateway().start().await);
    let room = stack.room(RoomSpec::default()).await;
    sqlx::query("UPDATE community_room SET auto_thread = true").execute(stack.db()).await.unwrap();
    let ada = stack.user("ada").await;
    let question = stack.messages(&room, &ada, 1).await[0];
    let mut client = one.enter(&room, &ada).await;
    let answer = json!({"type": "send_message", "content": "an answer", "client_id": "mine", "reply_to_id": question});
    client.send(answer.clone()).await;
    let ack = client.wait_for("message_ack").await;
    assert_eq!(ack["offset"], 1, "the first of its thread: {ack}");
    // The ack is lost: only the message itself still tells where it went.
    let key = format!("community:nonce:{}:mine", ada.id);
    let mut redis = stack.redis().await;
    redis::cmd("HDEL").arg(key).arg("ack").arg("until").exec_async(&mut redis).await.unwrap();
    let mut again = two.enter(&room, &ada).await;
    again.send(answer).await;
    assert_eq!(again.wait_for("message_ack").await, ack);
    assert_eq!(rows(&stack).await, 2, "the question and one answer");
}

#[tokio::test]
async fn a_connection_that_was_not_answered_claims_a_name_again_and_others_wait() {
    let server = RedisServer::start().await;
    let metrics = Arc::new(Metrics::new().unwrap());
    let bus = Bus::connect(&server.deployment(3), Arc::clone(&metrics)).await.unwrap();
    let nonces = Nonces::new(bus.connection(), Clock::default(), metrics);
    let (one, two) = (ConnectionId::next(), ConnectionId::next());
    let claim = async |connection| nonces.claim(connection, UserId(1), "x").await.unwrap();
    let Claim::New(first) = claim(one).await else { panic!("nobody asked before") };
    let Claim::Again(again) = claim(one).await else { panic!("it is its own") };
    assert_eq!(first.id, again.id);
    let (claimed, ()) = tokio::join!(claim(two), nonces.settle(&again, b"the ack"));
    assert!(matches!(&claimed, Claim::Stored(ack) if ack == b"the ack"), "it waits: {claimed:?}");
}
