//! Rooms: the conversation itself, across instances.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::support::{RoomSpec, Stack, TestClient, TestGateway, TestRoom};

/// One room on one instance, and somebody in it who may post anything.
async fn one_in_a_room(env: &[(&str, &str)]) -> (Stack, TestGateway, TestRoom, TestClient) {
    let stack = Stack::start().await;
    let builder = env.iter().fold(stack.gateway(), |builder, (name, value)| builder.env(name, value));
    let gateway = builder.start().await;
    let room = stack.room(RoomSpec::default()).await;
    let ada = stack.user("ada").await;
    stack.member(&room, &ada, "trusted").await;
    let mut client = gateway.enter(&room, &ada).await;
    client.expect_event("user_joined").await;
    (stack, gateway, room, client)
}

fn say(content: &str) -> Value {
    json!({"type": "send_message", "content": content})
}

#[tokio::test]
async fn a_message_reaches_everybody_on_both_instances() {
    let stack = Stack::start().await;
    let (one, two) = (stack.gateway().start().await, stack.gateway().start().await);
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);

    let mut a = one.enter(&room, &ada).await;
    let mut b = two.enter(&room, &grace).await;
    a.send(say("  hello \n")).await;
    let seen: Value = b.wait_for("new_message").await;
    assert_eq!(seen["message"]["content"], "hello");
    assert_eq!(seen["message"]["author"]["id"], ada.id.to_string());
    assert_eq!(seen, a.wait_for("new_message").await, "one order, one text, for the sender too");
}

#[tokio::test]
async fn a_message_has_exactly_the_fields_of_the_contract() {
    let (stack, gateway, room, mut ada) = one_in_a_room(&[]).await;
    let mut other = TestClient::connect(&gateway, &room.path(), &stack.token(&stack.user("grace").await).await).await;
    let epoch = other.wait_for("room_state").await["epoch"].clone();
    ada.send(json!({"type": "send_message", "content": "hello", "client_id": "c-1"})).await;
    let event = ada.wait_for("new_message").await;
    let stored: (Uuid, String) = sqlx::query_as(
        "SELECT id, to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"+00:00\"') FROM community_message",
    )
    .fetch_one(stack.db())
    .await
    .unwrap();
    let author: i64 =
        sqlx::query_scalar("SELECT id FROM users_user WHERE username = 'ada'").fetch_one(stack.db()).await.unwrap();
    let expected = json!({
        "event": "new_message",
        "message": {
            "id": stored.0.to_string(),
            "roomId": room.id.to_string(),
            "threadId": null,
            "author": {"id": author.to_string(), "username": "ada", "avatarUrl": null},
            "content": "hello",
            "messageType": "text",
            "attachments": [],
            "embeds": [],
            "mentions": [],
            "replyToId": null,
            "replyTo": null,
            "reactionCounts": {},
            "isEdited": false,
            "editedAt": null,
            "isPinned": false,
            "createdAt": stored.1,
        },
        "epoch": epoch,
        "offset": 1,
        "clientId": "c-1",
    });
    assert_eq!(event, expected);
}

#[tokio::test]
async fn an_ack_comes_to_the_sender_alone_and_after_the_commit() {
    let (stack, gateway, room, mut ada) = one_in_a_room(&[]).await;
    let grace = stack.user("grace").await;
    let mut grace = gateway.enter(&room, &grace).await;
    ada.send(json!({"type": "send_message", "content": "hello", "client_id": "c-1"})).await;
    let ack = ada.wait_for("message_ack").await;
    let stored: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM community_message").fetch_all(stack.db()).await.unwrap();
    assert_eq!(stored.len(), 1, "it is stored when the ack comes");
    assert_eq!((&ack["clientId"], &ack["offset"]), (&json!("c-1"), &json!(1)));
    assert_eq!(ack["messageId"], stored[0].to_string());

    let event = grace.wait_for("new_message").await;
    assert_eq!(event["message"]["createdAt"], ack["createdAt"]);
    ada.send(say("no ack for this")).await;
    let until = grace.events_until("new_message").await;
    assert_eq!(until.len(), 1, "nobody else gets an ack: {until:?}");
    ada.wait_until("the second message", |event| event["message"]["content"] == "no ack for this").await;
    ada.expect_silence().await;
}

#[tokio::test]
async fn counters_grow_with_every_message() {
    let (stack, _gateway, _room, mut ada) = one_in_a_room(&[]).await;
    for content in ["one", "two", "three"] {
        ada.send(say(content)).await;
        ada.wait_for("new_message").await;
    }
    let counted: (i32, i32, bool) = sqlx::query_as(
        "SELECT room.message_count, member.messages_sent, \
                room.last_message_at = (SELECT max(created_at) FROM community_message) \
         FROM community_room room JOIN community_roommembership member ON member.room_id = room.id",
    )
    .fetch_one(stack.db())
    .await
    .unwrap();
    assert_eq!(counted, (3, 3, true));
}

#[tokio::test]
async fn content_is_trimmed_and_has_at_most_4000_code_points() {
    let (stack, _gateway, _room, mut ada) = one_in_a_room(&[]).await;
    // 4,000 characters of four bytes, no two the same: one repeated is refused as spam.
    let longest: String = (0x2_0000..0x2_0000 + 4000).filter_map(char::from_u32).collect();
    ada.send(say(&format!(" \n\t\u{2003}{longest}\u{a0} "))).await;
    assert_eq!(ada.wait_for("new_message").await["message"]["content"], longest);
    for (content, text, code) in [
        ("🦀".repeat(4001), "Message too long (max 4000 characters)", "content_too_long"),
        ("x".repeat(4001), "Message too long (max 4000 characters)", "content_too_long"),
        (" \n\u{2003}".to_owned(), "Message content is required", "content_required"),
        (String::new(), "Message content is required", "content_required"),
    ] {
        ada.send(say(&content)).await;
        let error = ada.expect_event("error").await;
        assert_eq!((error["message"].as_str(), error["code"].as_str()), (Some(text), Some(code)));
    }
    let stored: i64 = sqlx::query_scalar("SELECT count(*) FROM community_message").fetch_one(stack.db()).await.unwrap();
    assert_eq!(stored, 1);
}

#[tokio::test]
async fn refusals_have_the_texts_of_the_existing_consumers() {
    let (_stack, gateway, _room, mut ada) = one_in_a_room(&[]).await;
    for (frame, message, code, request) in [
        ("{", "Invalid JSON format", "invalid_json", None),
        ("", "Invalid JSON format", "invalid_json", None),
        ("hello", "Invalid JSON format", "invalid_json", None),
        (r#"{"type":"dance"}"#, "Unknown message type: dance", "unknown_type", None),
        ("{}", "Unknown message type: None", "unknown_type", None),
        ("[]", "Failed to process message", "invalid_frame", None),
        ("7", "Failed to process message", "invalid_frame", None),
        (r#"{"type":7}"#, "Failed to process message", "invalid_frame", None),
        (r#"{"type":"send_message"}"#, "Message content is required", "content_required", Some("send_message")),
        (r#"{"type":"send_message","content":7}"#, "Failed to process message", "invalid_frame", Some("send_message")),
        (
            r#"{"type":"send_message","content":"a\u0000b"}"#,
            "Failed to process message",
            "invalid_frame",
            Some("send_message"),
        ),
        (r#"{"type":"send_message","content":"\ud800"}"#, "Failed to process message", "invalid_frame", None),
        (r#"{"type":"typing","is_typing":"yes"}"#, "Failed to process message", "invalid_frame", Some("typing")),
        (r#"{"type":"read_receipt"}"#, "Failed to process message", "invalid_frame", Some("read_receipt")),
        (
            r#"{"type":"request_history","limit":"all"}"#,
            "Failed to process message",
            "invalid_frame",
            Some("request_history"),
        ),
    ] {
        ada.send_text(frame).await;
        let error = ada.expect_event("error").await;
        assert_eq!(error["message"], message, "{frame}");
        assert_eq!(error["code"], code, "{frame}");
        assert_eq!(error.get("requestType").and_then(Value::as_str), request, "{frame}");
        ada.expect_silence().await;
    }
    assert_eq!(gateway.metric("community_gateway_sockets_open", &[]).await, 1.0);
}

#[tokio::test]
async fn a_refused_send_names_its_client_id() {
    let (_stack, _gateway, _room, mut ada) = one_in_a_room(&[]).await;
    ada.send(json!({"type": "send_message", "content": " ", "client_id": "c-9"})).await;
    let error = ada.expect_event("error").await;
    assert_eq!(
        error,
        json!({"event": "error", "message": "Message content is required", "code": "content_required",
               "clientId": "c-9", "requestType": "send_message"})
    );
}

#[tokio::test]
async fn unknown_fields_change_nothing() {
    let (_stack, _gateway, _room, mut ada) = one_in_a_room(&[]).await;
    ada.send(json!({"type": "ping", "x": [1.5e300, {"y": null}]})).await;
    ada.expect_event("pong").await;
    ada.send(json!({"type": "send_message", "content": "hello", "colour": "red", "reply_to_id": null})).await;
    assert_eq!(ada.wait_for("new_message").await["message"]["content"], "hello");
}

#[tokio::test]
async fn a_frame_nested_as_deeply_as_it_is_long_hurts_nobody() {
    let (_stack, gateway, room, mut ada) = one_in_a_room(&[]).await;
    let deep = 16_000;
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let levels = deep / open.len();
        let nested = format!(r#"{{"type":"ping","x":{}1{}}}"#, open.repeat(levels), close.repeat(levels));
        ada.send_text(&nested).await;
        let answer = ada.wait_until("any answer", |_| true).await;
        assert_eq!(answer["event"], "error");
        assert_eq!(answer["message"], "Failed to process message");
    }
    ada.send(say("still here")).await;
    ada.wait_for("new_message").await;
    assert_eq!(gateway.get(&room.path()).await.status, 426, "the gateway lives");
}

#[tokio::test]
async fn a_ping_is_answered_with_the_time() {
    let (_stack, _gateway, _room, mut ada) = one_in_a_room(&[]).await;
    ada.send(json!({"type": "ping"})).await;
    let pong = ada.expect_event("pong").await;
    let time = pong["timestamp"].as_str().unwrap();
    let pattern: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(pattern, "0000-00-00T00:00:00.000000");
    assert_eq!(pong.as_object().unwrap().len(), 2);
}

#[tokio::test]
async fn control_frames_and_fragments_do_not_end_a_session() {
    // Without tickets, which would come in between.
    let (_stack, _gateway, _room, mut ada) = one_in_a_room(&[("GATEWAY_RESUME_SECONDS", "0")]).await;
    ada.send_message(Message::Pong(Vec::new().into())).await;
    ada.send_message(Message::Ping(b"hi".to_vec().into())).await;
    assert_eq!(ada.next_message().await, Message::Pong(b"hi".to_vec().into()));
    // `{"type":"ping"}` in three frames, with a ping between them; the mask is zero.
    for (head, part) in [(0x01, r#"{"type""#), (0x89, "between"), (0x00, r#":"pi"#), (0x80, r#"ng"}"#)] {
        let mut frame = vec![head, 0x80 | u8::try_from(part.len()).unwrap(), 0, 0, 0, 0];
        frame.extend_from_slice(part.as_bytes());
        ada.send_raw(&frame).await;
    }
    assert_eq!(ada.next_message().await, Message::Pong(b"between".to_vec().into()));
    ada.expect_event("pong").await;
    ada.expect_silence().await;
}

#[tokio::test]
async fn a_reply_shows_what_it_answers() {
    let (stack, _gateway, room, mut ada) = one_in_a_room(&[]).await;
    let grace = stack.user("grace").await;
    let parent = stack.messages(&room, &grace, 1).await[0];
    ada.send(json!({"type": "send_message", "content": "indeed", "reply_to_id": parent})).await;
    let message = &ada.wait_for("new_message").await["message"];
    assert_eq!(message["replyToId"], parent.to_string());
    assert_eq!(
        message["replyTo"],
        json!({"id": parent, "content": "message 1", "author": {"id": grace.id.to_string(), "username": "grace"}})
    );
}

#[tokio::test]
async fn a_reply_to_what_is_not_in_the_room_is_no_reply() {
    let (stack, _gateway, _room, mut ada) = one_in_a_room(&[]).await;
    let other = stack.room(RoomSpec::default()).await;
    let grace = stack.user("grace").await;
    let elsewhere = stack.messages(&other, &grace, 1).await[0];
    for target in [elsewhere, Uuid::new_v4()] {
        ada.send(json!({"type": "send_message", "content": "indeed", "reply_to_id": target})).await;
        let message = &ada.wait_for("new_message").await["message"];
        assert_eq!((&message["replyToId"], &message["replyTo"]), (&Value::Null, &Value::Null));
    }
}

#[tokio::test]
async fn attachments_decide_the_type_of_a_message() {
    let (_stack, _gateway, _room, mut ada) = one_in_a_room(&[]).await;
    let file = |name: &str, mime: &str| json!({"url": format!("https://files.example/{name}"), "name": name, "size": 7, "type": mime});
    for (attachments, kind) in [
        (json!([file("a.png", "image/png"), file("b.gif", "image/gif")]), "image"),
        (json!([file("a.png", "image/png"), file("c.pdf", "application/pdf")]), "file"),
        (json!([]), "text"),
    ] {
        ada.send(json!({"type": "send_message", "content": "look", "attachments": attachments})).await;
        let message = &ada.wait_for("new_message").await["message"];
        assert_eq!((&message["messageType"], &message["attachments"]), (&json!(kind), &attachments));
    }
}

#[tokio::test]
async fn attachments_of_another_shape_are_refused() {
    let (stack, _gateway, _room, mut ada) = one_in_a_room(&[]).await;
    let good = json!({"url": "https://files.example/a.png", "name": "a.png", "size": 7, "type": "image/png"});
    for attachments in [json!({}), json!([{"url": "javascript:alert(1)"}]), json!(vec![&good; 11]), json!(["x"])] {
        ada.send(json!({"type": "send_message", "content": "look", "attachments": attachments})).await;
        let error = ada.expect_event("error").await;
        assert_eq!(
            (&error["message"], &error["code"]),
            (&json!("Failed to process message"), &json!("invalid_attachments"))
        );
    }
    let stored: i64 = sqlx::query_scalar("SELECT count(*) FROM community_message").fetch_one(stack.db()).await.unwrap();
    assert_eq!(stored, 0);
}

#[tokio::test]
async fn a_muted_member_reads_and_does_not_write() {
    let (stack, gateway, room, mut ada) = one_in_a_room(&[]).await;
    let bob = stack.user("bob").await;
    stack.member(&room, &bob, "muted").await;
    let mut bob = gateway.enter(&room, &bob).await;
    bob.send(json!({"type": "send_message", "content": "hmpf", "client_id": "c"})).await;
    let error = bob.wait_for("error").await;
    assert_eq!(error["message"], "You cannot send messages in this room");
    assert_eq!((&error["code"], &error["clientId"]), (&json!("cannot_send"), &json!("c")));
    ada.send(say("hello bob")).await;
    assert_eq!(bob.wait_for("new_message").await["message"]["content"], "hello bob");
}

#[tokio::test]
async fn nobody_writes_in_an_archived_room() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let room = stack.room(RoomSpec { archived: true, ..RoomSpec::default() }).await;
    let ada = stack.user("ada").await;
    stack.messages(&room, &ada, 1).await;
    let mut ada = gateway.enter(&room, &ada).await;
    ada.send(say("anybody?")).await;
    assert_eq!(ada.wait_for("error").await["message"], "You cannot send messages in this room");
    ada.send(json!({"type": "request_history"})).await;
    assert_eq!(ada.wait_for("message_history").await["messages"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn reading_moves_forward_only() {
    let (stack, _gateway, room, mut ada) = one_in_a_room(&[]).await;
    let grace = stack.user("grace").await;
    let ids = stack.messages(&room, &grace, 3).await;
    let read_up_to = "SELECT message.id FROM community_roommembership member \
                      JOIN community_message message ON message.created_at = member.last_read_at";
    for (marked, expected) in [(1, 1), (0, 1), (2, 2), (1, 2)] {
        ada.send(json!({"type": "read_receipt", "message_id": ids[marked]})).await;
        ada.expect_silence().await; // nothing answers a receipt, and when the pong comes it has been dealt with
        let last: Uuid = sqlx::query_scalar(read_up_to).fetch_one(stack.db()).await.unwrap();
        assert_eq!(last, ids[expected], "after message {marked}");
    }
}
