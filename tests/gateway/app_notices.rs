//! What arrives on the presence socket about its user: unread messages, and what Django publishes.

use serde_json::{Value, json};

use crate::app_stage::open;
use crate::dm::{conversation, path};
use crate::support::{RoomSpec, Stack, TestClient};

/// Waits until the last word about a conversation, or a room, is this number.
async fn unread_becomes(client: &mut TestClient, kind: &str, id: uuid::Uuid, count: u64) {
    let id = id.to_string();
    let said = |event: &Value| event["event"] == "unread" && event[kind][&id] == count;
    client.wait_until("the unread messages to be so many", said).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_direct_message_and_a_receipt_change_what_is_unread_on_another_instance() {
    let stack = Stack::start().await;
    let (one, two) = (stack.gateway().start().await, stack.gateway().start().await);
    let (ada, grace, eve) = (stack.user("ada").await, stack.user("grace").await, stack.user("eve").await);
    let (thread, room) = conversation(&stack, &[&ada, &grace, &eve]).await;
    let (mut hers, _, unread) = open(&stack, &one, &grace).await;
    assert_eq!(unread, json!({"event": "unread", "rooms": {}, "threads": {}}));
    let (mut own, ..) = open(&stack, &one, &ada).await;

    let mut author = two.dial(&path(thread)).token(&stack.token(&ada).await).connect().await;
    author.expect_event("dm_state").await;
    let mut last = Value::Null;
    for text in ["one", "two", "three"] {
        author.send(json!({"type": "send_message", "content": text})).await;
        last = author.wait_for("new_message").await;
    }
    unread_becomes(&mut hers, "threads", thread, 3).await;

    let mut tab = two.dial(&room.path()).token(&stack.token(&grace).await).connect().await;
    tab.expect_event("room_state").await;
    tab.send(json!({"type": "read_receipt", "message_id": last["message"]["id"]})).await;
    unread_becomes(&mut hers, "threads", thread, 0).await;

    let forum = stack.room(RoomSpec::default()).await;
    stack.member(&forum, &grace, "member").await;
    let posts = stack.messages(&forum, &ada, 3).await;
    crate::app_stage::has_read(&stack, &grace, 3600.0).await;
    let mut reader = two.enter(&forum, &grace).await;
    reader.send(json!({"type": "read_receipt", "message_id": posts[0]})).await;
    unread_becomes(&mut hers, "rooms", forum.id, 2).await;
    let told = own.seen().iter().filter(|text| text.contains("\"event\":\"unread\"")).count();
    own.expect_silence().await;
    assert_eq!(told, 1, "one's own messages are not unread, and others' receipts are theirs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_threads_messages_are_unread_in_its_room_and_those_of_the_hidden_are_not() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let (ada, grace, eve) = (stack.user("ada").await, stack.user("grace").await, stack.user("eve").await);
    let room = stack.room(RoomSpec::default()).await;
    stack.member(&room, &grace, "member").await;
    stack.block(&grace, &eve).await;
    crate::app_stage::has_read(&stack, &grace, 3600.0).await;
    stack.messages(&room, &eve, 4).await;
    let mut author = gateway.enter(&room, &ada).await;
    author.send(json!({"type": "create_thread", "title": "News"})).await;
    let thread = author.wait_for("thread_created").await["thread"]["id"].clone();
    let mut ids = Vec::new();
    for (at, within) in [&thread, &thread, &Value::Null].into_iter().enumerate() {
        let client_id = at.to_string();
        author.send(json!({"type": "send_message", "thread_id": within, "content": "x", "client_id": client_id})).await;
        ids.push(author.wait_for("message_ack").await["messageId"].clone());
    }
    // Two in the thread and one beside it: as many as Django's own counter of the room grew by.
    let (mut hers, _, unread) = open(&stack, &gateway, &grace).await;
    assert_eq!(unread, json!({"event": "unread", "rooms": {room.id.to_string(): 3}, "threads": {}}));
    let counted: i32 = sqlx::query_scalar("SELECT message_count FROM community_room WHERE id = $1")
        .bind(room.id)
        .fetch_one(stack.db())
        .await
        .unwrap();
    assert_eq!(counted, 3);
    // One position for all: who has read the thread's second message has read what is older.
    let mut reader = gateway.enter(&room, &grace).await;
    reader.send(json!({"type": "read_receipt", "message_id": ids[1]})).await;
    unread_becomes(&mut hers, "rooms", room.id, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_conversation_is_told_to_its_participants_when_django_says_so_and_by_its_first_message() {
    let stack = Stack::start().await;
    let (one, two) = (stack.gateway().start().await, stack.gateway().start().await);
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let (mut a, ..) = open(&stack, &one, &ada).await;
    let (mut g, ..) = open(&stack, &two, &grace).await;
    let (thread, _) = conversation(&stack, &[&ada, &grace]).await;
    let event = json!({"event": "dm_thread_created", "threadId": thread, "participants": [ada.id.to_string()]});
    for (user, client) in [(&ada, &mut a), (&grace, &mut g)] {
        stack.publish(&format!("community:user:{}", user.id), event.to_string().as_bytes()).await;
        assert_eq!(client.wait_for("dm_thread_created").await, event);
    }
    let mut author = one.dial(&path(thread)).token(&stack.token(&ada).await).connect().await;
    author.expect_event("dm_state").await;
    author.send(json!({"type": "send_message", "content": "hello"})).await;
    unread_becomes(&mut g, "threads", thread, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_django_publishes_for_a_user_arrives_as_it_is() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let (mut hers, ..) = open(&stack, &gateway, &ada).await;
    let (mut other, ..) = open(&stack, &gateway, &grace).await;
    let verdict = json!({"event": "moderation", "messageId": null, "action": "removed", "reason": "spam"});
    let mut redis = stack.redis().await;
    let channel = format!("community:user:{}", ada.id);
    redis::cmd("PUBLISH").arg(channel).arg(verdict.to_string()).exec_async(&mut redis).await.unwrap();
    assert_eq!(hers.wait_for("moderation").await, verdict);
    let marker = json!({"event": "marker"}).to_string();
    let channel = format!("community:user:{}", grace.id);
    redis::cmd("PUBLISH").arg(channel).arg(marker).exec_async(&mut redis).await.unwrap();
    let before = other.events_until("marker").await;
    assert!(before.iter().all(|event| event["event"] != "moderation"), "{before:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_mentioned_is_told_wherever() {
    let stack = Stack::start().await;
    let (one, two) = (stack.gateway().start().await, stack.gateway().start().await);
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let room = stack.room(RoomSpec::default()).await;
    let (mut hers, ..) = open(&stack, &one, &grace).await;
    let mut author = two.enter(&room, &ada).await;
    author.send(json!({"type": "send_message", "content": "look, @grace and @ada"})).await;
    let message = author.wait_for("new_message").await;
    let mention = hers.wait_for("mention").await;
    assert_eq!(mention["roomId"], room.id.to_string());
    assert_eq!(mention["messageId"], message["message"]["id"]);
    assert_eq!(mention["author"], message["message"]["author"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_mentions_whom_its_text_names_and_tells_those_who_are_new() {
    let stack = Stack::start().await;
    let (one, two) = (stack.gateway().start().await, stack.gateway().start().await);
    let (ada, grace, eve) = (stack.user("ada").await, stack.user("grace").await, stack.user("eve").await);
    let zoe = stack.user("zoe").await;
    let room = stack.room(RoomSpec::default()).await;
    let (mut graces, ..) = open(&stack, &one, &grace).await;
    let (mut eves, ..) = open(&stack, &one, &eve).await;
    let mut author = two.enter(&room, &ada).await;
    let by_id = json!([zoe.id.to_string()]);
    author.send(json!({"type": "send_message", "content": "look, @grace", "mentions": by_id})).await;
    let message = author.wait_for("new_message").await["message"].clone();
    assert_eq!(message["mentions"], json!([zoe.id, grace.id]));
    graces.wait_for("mention").await;

    let edit = |content: &str| json!({"type": "edit_message", "message_id": message["id"], "content": content});
    author.send(edit("look, @grace and @eve")).await;
    let edited = author.wait_for("message_edited").await["message"].clone();
    assert_eq!(edited["mentions"], json!([grace.id, eve.id]), "those named by id went with the text");
    let mention = eves.wait_for("mention").await;
    assert_eq!((&mention["messageId"], &mention["roomId"]), (&message["id"], &json!(room.id)));
    assert_eq!(mention["author"], message["author"]);
    // Who was mentioned before is not told again, but by the next message.
    author.send(edit("look, @grace, @eve!")).await;
    author.wait_for("message_edited").await;
    author.send(json!({"type": "send_message", "content": "@grace @eve"})).await;
    let next = author.wait_until("the next", |event| event["event"] == "new_message").await["message"]["id"].clone();
    for socket in [&mut graces, &mut eves] {
        assert_eq!(socket.wait_for("mention").await["messageId"], next);
    }
    author.send(edit("nobody")).await;
    assert_eq!(author.wait_for("message_edited").await["message"]["mentions"], json!([]));
}
