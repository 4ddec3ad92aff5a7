//! The other channel layer, `RedisPubSubChannelLayer`, both ways.

use community_gateway::bus::channels::message::{self, Delivery};
use community_gateway::keyspace::channels as keys;
use serde_json::json;

use crate::channels_stage::{Listener, bare, marker, names, topic};
use crate::support::{RoomSpec, Stack, eventually};

#[tokio::test]
async fn both_ways_and_no_echo() {
    let stack = Stack::start().await;
    let start = || stack.gateway().env("GATEWAY_CHANNELS", "pubsub").start();
    let (one, two) = (start().await, start().await);
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let (mut a, mut b) = (one.enter(&room, &ada).await, two.enter(&room, &grace).await);

    // Nobody listens yet.
    a.send(json!({"type": "send_message", "content": "alone"})).await;
    a.wait_for("new_message").await;
    b.wait_for("new_message").await;
    let mut consumer = Listener::to(&stack.redis_server().url(3), topic(&room)).await;
    a.send(json!({"type": "send_message", "content": "hello"})).await;
    let ours = b.wait_for("new_message").await;
    let mut events = consumer.until("new_message").await;
    // Sockets come first: what was said before somebody listened may still have been on its way to the layer.
    while events.last().is_some_and(|event| event["message"]["content"] == "alone") {
        events = consumer.until("new_message").await;
    }
    assert_eq!((names(&events), events.last()), (vec!["new_message"], Some(&ours)));

    // As Django writes it: the map's header is as short as can be.
    let channel = keys::group_channel("asgi", &keys::group(topic(&room)).unwrap());
    for event in [json!({"event": "new_message", "message": {"n": 1}}), marker()] {
        let mut payload = message::write(topic(&room), event.to_string().as_bytes(), Delivery::Inbox).unwrap();
        payload[0] -= 1; // no address
        stack.publish(&channel, &payload).await;
    }
    stack.publish(&channel, b"\xc1").await;
    for client in [&mut a, &mut b] {
        let mut seen = client.events_until("marker").await;
        seen.retain(|event| event["event"] == "new_message" && event["message"]["content"] != "hello");
        assert_eq!(bare(seen), [json!({"event": "new_message", "message": {"n": 1}})], "once, and none of ours again");
    }
    for gateway in [&one, &two] {
        eventually("what is malformed is counted", || async {
            gateway.metric("community_gateway_channels_malformed_total", &[]).await == 1.0
        })
        .await;
    }
}
