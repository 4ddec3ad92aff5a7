//! `request_history`: paging through a room's past.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{RoomSpec, Stack, TestClient, TestGateway, TestRoom, TestUser};

struct Reader {
    stack: Stack,
    _gateway: TestGateway,
    room: TestRoom,
    ada: TestUser,
    ids: Vec<Uuid>,
    client: TestClient,
}

/// Somebody in a room with so many messages, after the first events.
async fn reader(messages: i32) -> Reader {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let ids = stack.messages(&room, &ada, messages).await;
    let mut client = gateway.enter(&room, &ada).await;
    client.wait_for("user_joined").await;
    Reader { stack, _gateway: gateway, room, ada, ids, client }
}

impl Reader {
    async fn ask(&mut self, request: Value) -> Value {
        let mut frame = json!({"type": "request_history"});
        frame.as_object_mut().unwrap().extend(request.as_object().unwrap().clone());
        self.client.send(frame).await;
        self.client.wait_until("an answer", |_| true).await
    }
}

fn ids(page: &Value) -> Vec<Uuid> {
    let messages = page["messages"].as_array().unwrap();
    messages.iter().map(|message| message["id"].as_str().unwrap().parse().unwrap()).collect()
}

#[tokio::test]
async fn paging_to_the_end_over_equal_times_repeats_and_skips_nothing() {
    let mut reader = reader(60).await;
    // Nine times of seven messages each, so that pages of five always end within one.
    sqlx::query(
        "UPDATE community_message SET created_at = date_trunc('hour', now()) + place / 7 * interval '1 second' \
         FROM (SELECT id AS of, row_number() OVER (ORDER BY id) AS place FROM community_message) AS placed WHERE id = of",
    )
    .execute(reader.stack.db())
    .await
    .unwrap();
    let mut pages: Vec<Vec<Uuid>> = Vec::new();
    let mut request = json!({"limit": 5});
    loop {
        let page = reader.ask(request).await;
        assert_eq!(page["event"], "message_history", "{page}");
        let found = ids(&page);
        let oldest = found[0];
        pages.push(found);
        if page["hasMore"] == false {
            assert_eq!(page["cursor"], Value::Null);
            break;
        }
        assert_eq!(page["cursor"], oldest.to_string(), "the cursor is the oldest of the page");
        request = json!({"limit": 5, "cursor": page["cursor"]});
    }
    assert_eq!(pages.len(), 12);
    let seen: Vec<Uuid> = pages.into_iter().rev().flatten().collect();
    // Within one time as Django's index has it.
    let in_order = "SELECT id FROM community_message ORDER BY created_at, id DESC";
    assert_eq!(seen, sqlx::query_scalar::<_, Uuid>(in_order).fetch_all(reader.stack.db()).await.unwrap());
}

#[tokio::test]
async fn a_page_has_between_1_and_100_messages_and_50_unless_told() {
    let mut reader = reader(110).await;
    for (request, length) in [
        (json!({}), 50),
        (json!({"limit": null}), 50),
        (json!({"limit": 1}), 1),
        (json!({"limit": 0}), 1),
        (json!({"limit": -5}), 1),
        (json!({"limit": 100}), 100),
        (json!({"limit": 101}), 100),
        (json!({"limit": 1_000_000}), 100),
    ] {
        let page = reader.ask(request.clone()).await;
        assert_eq!(ids(&page), reader.ids[110 - length..], "{request}");
        assert_eq!(page["hasMore"], true);
    }
}

#[tokio::test]
async fn an_unknown_cursor_is_refused() {
    let mut reader = reader(3).await;
    let error = reader.ask(json!({"cursor": Uuid::new_v4()})).await;
    assert_eq!(
        error,
        json!({"event": "error", "message": "Failed to process message", "code": "unknown_cursor",
               "requestType": "request_history"})
    );
    let error = reader.ask(json!({"cursor": "yesterday"})).await;
    assert_eq!((&error["code"], &error["message"]), (&json!("invalid_frame"), &json!("Failed to process message")));
}

#[tokio::test]
async fn a_cursor_of_another_room_is_refused() {
    let mut reader = reader(3).await;
    let other = reader.stack.room(RoomSpec { visibility: "private", ..RoomSpec::default() }).await;
    let elsewhere = reader.stack.messages(&other, &reader.ada, 3).await;
    let error = reader.ask(json!({"cursor": elsewhere[2]})).await;
    assert_eq!((&error["event"], &error["code"]), (&json!("error"), &json!("unknown_cursor")));
}

#[tokio::test]
async fn the_oldest_message_has_nothing_before_it() {
    let mut reader = reader(3).await;
    let page = reader.ask(json!({"cursor": reader.ids[0]})).await;
    assert_eq!(page, json!({"event": "message_history", "messages": [], "hasMore": false, "cursor": null}));
}

#[tokio::test]
async fn paging_goes_on_from_a_message_that_was_hidden_meanwhile() {
    let mut reader = reader(5).await;
    sqlx::query("UPDATE community_message SET is_hidden = true WHERE id = $1")
        .bind(reader.ids[2])
        .execute(reader.stack.db())
        .await
        .unwrap();
    let page = reader.ask(json!({"cursor": reader.ids[2]})).await;
    assert_eq!(ids(&page), reader.ids[..2]);
}

#[tokio::test]
async fn history_is_for_the_asker_alone() {
    let mut reader = reader(3).await;
    let grace = reader.stack.user("grace").await;
    let mut grace = reader._gateway.enter(&reader.room, &grace).await;
    grace.expect_event("user_joined").await;
    reader.ask(json!({"limit": 1})).await; // grace's arrival
    reader.client.wait_for("message_history").await;
    reader.client.send(json!({"type": "send_message", "content": "marker"})).await;
    grace.expect_event("new_message").await;
}

#[tokio::test]
async fn pages_have_a_limit_of_their_own_and_other_frames_do_not_count() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().env("GATEWAY_LIMIT_HISTORY_PER_MINUTE", 1).start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let mut client = gateway.enter(&room, &ada).await;
    client.send(json!({"type": "request_history"})).await;
    client.wait_for("message_history").await;
    let thread = Uuid::new_v4();
    for frame in [
        json!({"type": "request_history"}),
        json!({"type": "open_thread", "thread_id": thread}),
        json!({"type": "resume", "epoch": "1", "offset": 0}),
    ] {
        client.send(frame.clone()).await;
        let error = client.wait_for("error").await;
        assert_eq!((&error["code"], &error["requestType"]), (&json!("rate_limited"), &frame["type"]));
        let wait = error["retryAfter"].as_f64().unwrap();
        assert!(wait > 0.0 && wait <= 60.0, "{error}");
    }
    client.send(json!({"type": "send_message", "content": "hello", "client_id": "1"})).await;
    client.wait_for("message_ack").await;
    // Each connection has its own.
    let mut tab = gateway.enter(&room, &ada).await;
    tab.send(json!({"type": "request_history"})).await;
    tab.wait_for("message_history").await;
    assert_eq!(gateway.metric("community_gateway_limited_total", &[("limit", "history")]).await, 3.0);
}
