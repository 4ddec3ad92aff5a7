//! What Django publishes on a room's channel.

use serde_json::json;

use crate::channels_stage::bare;
use crate::support::{RoomSpec, Stack, TestClient, TestGateway, TestRoom, TestUser, eventually};

struct Audience {
    stack: Stack,
    gateways: [TestGateway; 2],
    room: TestRoom,
    people: [TestUser; 2],
    clients: [TestClient; 2],
}

/// Ada and Grace in one room, on two instances, after the first events.
async fn audience() -> Audience {
    let stack = Stack::start().await;
    let gateways = [stack.gateway().start().await, stack.gateway().start().await];
    let room = stack.room(RoomSpec::default()).await;
    let people = [stack.user("ada").await, stack.user("grace").await];
    let mut ada = gateways[0].enter(&room, &people[0]).await;
    ada.expect_event("user_joined").await;
    let mut grace = gateways[1].enter(&room, &people[1]).await;
    grace.expect_event("user_joined").await;
    ada.expect_event("user_joined").await;
    Audience { stack, gateways, room, people, clients: [ada, grace] }
}

impl Audience {
    async fn publish(&self, text: &str) {
        self.stack.publish(&self.room.channel(), text.as_bytes()).await;
    }
}

#[tokio::test]
async fn an_event_of_django_reaches_everybody_byte_by_byte() {
    let mut audience = audience().await;
    let text = r#"{ "event": "new_message", "message": {"author": {"firstName": "Sage", "tier": "team"}, "n": 1.50, "é": null} }"#;
    audience.publish(text).await;
    for client in &mut audience.clients {
        client.expect_event("new_message").await;
        let (seen, place) = client.seen().last().unwrap().split_at(text.len() - 1);
        assert_eq!(seen, text.strip_suffix('}').unwrap(), "but for its place, which stands at the end");
        assert!(place.starts_with(r#","epoch":"#) && place.contains(r#""offset":"#), "{place}");
    }
}

#[tokio::test]
async fn an_event_may_be_for_some_only() {
    let mut audience = audience().await;
    let [ada, grace] = audience.people.each_ref().map(|user| user.id.to_string());
    audience.publish(&json!({"event": "hint", "n": 1, "to": [ada]}).to_string()).await;
    audience.publish(&json!({"event": "hint", "n": 2, "except": [ada]}).to_string()).await;
    audience.publish(&json!({"event": "hint", "n": 3, "to": [ada, grace], "except": [grace]}).to_string()).await;
    audience.publish(&json!({"event": "hint", "n": 4, "to": []}).to_string()).await;
    audience.publish(&json!({"event": "marker"}).to_string()).await;
    let [ada, grace] = &mut audience.clients;
    let hint = |n: u32| json!({"event": "hint", "n": n});
    let marker = json!({"event": "marker"});
    assert_eq!(bare(ada.events_until("marker").await), [hint(1), hint(3), marker.clone()], "the fields are removed");
    assert_eq!(bare(grace.events_until("marker").await), [hint(2), marker]);
}

#[tokio::test]
async fn what_is_malformed_is_counted_and_hurts_nobody() {
    let mut audience = audience().await;
    for payload in [
        "",
        "{",
        "7",
        "null",
        "[]",
        "hello",
        "{}",
        r#"{"event":7}"#,
        r#"{"event":"x","to":"7"}"#,
        r#"{"event":"x","except":[{}]}"#,
        "\u{1}",
        "\u{1}\u{1}abc",
        "\u{7f}\u{0}\u{0}",
    ] {
        audience.publish(payload).await;
    }
    let mut nested = vec![b'['; 200_000];
    nested.splice(0..0, br#"{"event":"x","to":"#.iter().copied());
    audience.stack.publish(&audience.room.channel(), &nested).await;
    audience.stack.publish(&audience.room.channel(), &[0xff, 0xfe, 0x00]).await;
    audience.stack.publish("community:control", b"{\"action\":").await;
    audience.stack.publish("community:control", b"{\"action\":\"dance\"}").await;
    audience.publish(r#"{"event":"marker"}"#).await;
    for client in &mut audience.clients {
        assert_eq!(client.events_until("marker").await.len(), 1);
    }
    for gateway in &audience.gateways {
        eventually("all are counted", || async {
            gateway.metric("community_gateway_bus_malformed_total", &[]).await == 17.0
        })
        .await;
    }
}

#[tokio::test]
async fn events_of_other_rooms_do_not_come() {
    let mut audience = audience().await;
    let other = audience.stack.room(RoomSpec::default()).await;
    audience.stack.publish(&other.channel(), br#"{"event":"elsewhere"}"#).await;
    audience.publish(r#"{"event":"marker"}"#).await;
    for client in &mut audience.clients {
        assert_eq!(bare(client.events_until("marker").await), [json!({"event": "marker"})]);
    }
}
