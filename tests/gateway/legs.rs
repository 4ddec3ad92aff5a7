//! Where a message is: the time of each leg of its way, by kind of topic, on the instance of its sender and on another.

use serde_json::json;

use super::dm::{conversation, path};
use crate::support::{FakeOpenAi, GatewayBuilder, RoomSpec, Stack, TestClient, TestGateway, eventually};

const KINDS: [&str; 3] = ["room", "dm", "thread"];

/// How often a leg was taken, on one instance.
async fn taken(gateway: &TestGateway, leg: &str, topic: &str) -> f64 {
    gateway.metric("community_gateway_leg_seconds_count", &[("leg", leg), ("topic", topic)]).await
}

async fn say(author: &mut TestClient, reader: &mut TestClient, thread: Option<&str>, content: &str) {
    author.send(json!({"type": "send_message", "content": content, "thread_id": thread, "client_id": content})).await;
    author.wait_for("message_ack").await;
    let is_it = |event: &serde_json::Value| event["message"]["content"] == content;
    reader.wait_until("the message", is_it).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_leg_of_a_message_is_timed_where_it_goes() {
    let (stack, api) = (Stack::start().await, FakeOpenAi::start().await);
    let set = |builder: GatewayBuilder| {
        builder
            .env("OPENAI_BASE_URL", api.url())
            .env("OPENAI_API_KEY", FakeOpenAi::KEY)
            .env("GATEWAY_MODERATION_DEADLINE_SECONDS", 10)
            .env("GATEWAY_MODERATE_DMS", "full")
    };
    let (one, two) = (set(stack.gateway()).start().await, set(stack.gateway()).start().await);
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let room = stack.room(RoomSpec::default()).await;
    let (conversation, _) = conversation(&stack, &[&ada, &grace]).await;

    let (mut a, mut g) = (one.enter(&room, &ada).await, two.enter(&room, &grace).await);
    a.send(json!({"type": "create_thread", "title": "Legs"})).await;
    let thread = g.wait_for("thread_created").await["thread"]["id"].as_str().unwrap().to_owned();
    for client in [&mut a, &mut g] {
        client.send(json!({"type": "open_thread", "thread_id": thread})).await;
        client.wait_for("thread_state").await;
    }
    let mut in_dm = Vec::new();
    for (gateway, user) in [(&one, &ada), (&two, &grace)] {
        let mut client = gateway.dial(&path(conversation)).token(&stack.token(user).await).connect().await;
        client.expect_event("dm_state").await;
        in_dm.push(client);
    }
    let [a_in_dm, g_in_dm] = &mut in_dm[..] else { panic!("two sockets") };

    let decoded = [taken(&one, "decode", "room").await, 0.0, taken(&one, "decode", "thread").await];
    say(&mut a, &mut g, None, "to the room").await;
    say(a_in_dm, g_in_dm, None, "to grace").await;
    say(&mut a, &mut g, Some(&thread), "into the thread").await;

    for (topic, before) in KINDS.into_iter().zip(decoded) {
        assert_eq!(taken(&one, "decode", topic).await, before + 1.0, "one frame more was read: {topic}");
        // The room's second text is the title of the thread, which is judged as well.
        let judged = if topic == "room" { 2.0 } else { 1.0 };
        for (leg, times) in [("patterns", judged), ("classifier", judged), ("commit", 1.0)] {
            assert_eq!(taken(&one, leg, topic).await, times, "{leg} of {topic}");
        }
        assert!(taken(&one, "access", topic).await >= 1.0, "{topic}");
        // Noted when Redis has answered, which may be after the message has come.
        eventually("the publish is noted", || async { taken(&one, "publish", topic).await >= 1.0 }).await;
        for gateway in [&one, &two] {
            for leg in ["bus", "hub", "socket"] {
                assert!(taken(gateway, leg, topic).await >= 1.0, "{leg} of {topic}");
            }
        }
        // Who only listens writes nothing.
        for leg in ["patterns", "classifier", "commit", "publish"] {
            assert_eq!(taken(&two, leg, topic).await, 0.0, "{leg} of {topic}");
        }
    }
    for gateway in [&one, &two] {
        // Nothing but the message goes through a thread.
        assert_eq!(taken(gateway, "bus", "thread").await, 1.0);
        assert_eq!(taken(gateway, "hub", "thread").await, 1.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_and_goes_is_counted_by_state_and_reason() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let room = stack.room(RoomSpec::default()).await;
    let ada = stack.user("ada").await;
    let client = gateway.enter(&room, &ada).await;
    let passing = || gateway.metric("community_gateway_sessions_passing", &[]);
    eventually("she is in", || async { passing().await == 0.0 }).await;
    assert_eq!(gateway.metric("community_gateway_sessions_open", &[("topic", "room")]).await, 1.0);
    assert!(gateway.metric("community_gateway_store_wait_seconds_count", &[]).await >= 1.0);
    assert!(gateway.metric("community_gateway_store_connections_open", &[]).await >= 1.0);
    assert!(gateway.metric("community_gateway_redis_call_seconds_count", &[]).await >= 1.0);

    stack.order(json!({"action": "disconnect", "user": ada.id.to_string()})).await;
    let ended = async |by: &str, reason: &str| {
        gateway.metric("community_gateway_ends_total", &[("by", by), ("reason", reason)]).await
    };
    eventually("she is out", || async { ended("us", "session ended").await == 1.0 }).await;
    eventually("nobody is on the way", || async { passing().await == 0.0 }).await;
    drop(client);

    drop(gateway.enter(&room, &stack.user("grace").await).await);
    eventually("one has gone without a word", || async { ended("lost", "none").await == 1.0 }).await;
}
