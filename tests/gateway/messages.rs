//! What a message may hold: mentions and attachments.

use serde_json::{Value, json};

use crate::app_stage::open;
use crate::support::{RoomSpec, Stack, UserSpec};

#[tokio::test(flavor = "multi_thread")]
async fn mentions_are_the_ids_of_those_who_may_read_the_room() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().env("GATEWAY_LIMIT_MESSAGES_PER_MINUTE", 0).start().await;
    let open = stack.room(RoomSpec::default()).await;
    let closed = stack.room(RoomSpec { visibility: "private", ..RoomSpec::default() }).await;
    let (ada, grace, eve) = (stack.user("ada").await, stack.user("grace.h").await, stack.user("eve").await);
    let gone = stack.user_with("gone", UserSpec { active: false, ..UserSpec::default() }).await;
    let banned = stack.user("banned").await;
    stack.member(&open, &banned, "banned").await;
    for user in [&ada, &grace, &gone] {
        stack.member(&closed, user, "member").await;
    }
    let text = "@grace.h. and @eve, @nobody @gone @banned me@eve @grace.h";
    for (room, expected) in [(&open, json!([grace.id, eve.id])), (&closed, json!([grace.id]))] {
        let mut client = gateway.enter(room, &ada).await;
        client.send(json!({"type": "send_message", "content": text})).await;
        let told = client.wait_for("new_message").await;
        assert_eq!(told["message"]["mentions"], expected);
        let id = uuid::Uuid::parse_str(told["message"]["id"].as_str().unwrap()).unwrap();
        let stored: Value = sqlx::query_scalar("SELECT mentions FROM community_message WHERE id = $1")
            .bind(id)
            .fetch_one(stack.db())
            .await
            .unwrap();
        assert_eq!(stored, expected);
        client.send(json!({"type": "edit_message", "message_id": id, "content": "only @ada"})).await;
        assert_eq!(client.wait_for("message_edited").await["message"]["mentions"], json!([ada.id]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attachments_come_from_the_configured_hosts() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().env("GATEWAY_ATTACHMENT_HOSTS", "cdn.example,minio.example:9000").start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    stack.member(&room, &ada, "trusted").await;
    let mut client = gateway.enter(&room, &ada).await;
    let file = |url: &str, size: u64, mime: &str| json!({"url": url, "name": "a", "size": size, "type": mime});
    let send = |file: Value| json!({"type": "send_message", "content": "look", "attachments": [file]});
    for url in ["https://cdn.example/a.png", "https://minio.example:9000/a.png"] {
        let given = file(url, 25 * 1024 * 1024, "image/png");
        client.send(send(given.clone())).await;
        let told = client.wait_for("new_message").await;
        assert_eq!(
            (&told["message"]["attachments"], &told["message"]["messageType"]),
            (&json!([given]), &json!("image"))
        );
    }
    for wrong in [
        file("http://cdn.example/a.png", 1, "image/png"),
        file("https://elsewhere.example/a.png", 1, "image/png"),
        file("https://cdn.example/a.png", 25 * 1024 * 1024 + 1, "image/png"),
        file("https://cdn.example/a.html", 1, "text/html"),
        file("https://cdn.example/a.png", 1, ""),
    ] {
        client.send(send(wrong.clone())).await;
        assert_eq!(client.wait_for("error").await["code"], "invalid_attachments", "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mentions_are_also_given_by_id() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let room = stack.room(RoomSpec { visibility: "private", ..RoomSpec::default() }).await;
    let [ada, grace, eve, stranger] =
        [stack.user("ada").await, stack.user("grace").await, stack.user("eve").await, stack.user("stranger").await];
    for member in [&ada, &grace, &eve] {
        stack.member(&room, member, "member").await;
    }
    let (mut hers, ..) = open(&stack, &gateway, &grace).await;
    let mut client = gateway.enter(&room, &ada).await;
    let given = [grace.id.to_string(), stranger.id.to_string(), "987654".to_owned(), grace.id.to_string()];
    client.send(json!({"type": "send_message", "content": "hello @eve, @grace", "mentions": given})).await;
    let message = client.wait_for("new_message").await["message"].clone();
    assert_eq!(message["mentions"], json!([grace.id, eve.id]), "those who may read the room, each once");
    assert_eq!(hers.wait_for("mention").await["messageId"], message["id"]);

    for wrong in [json!("1"), json!([1]), json!([null]), json!(["x"]), json!(vec!["1"; 21])] {
        client.send(json!({"type": "send_message", "content": "hello", "mentions": wrong})).await;
        let error = client.wait_for("error").await;
        assert_eq!((&error["code"], &error["requestType"]), (&json!("invalid_mentions"), &json!("send_message")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_are_mentioned_whether_given_or_named() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().env("GATEWAY_SPAM_MENTIONS", "off").start().await;
    let room = stack.room(RoomSpec::default()).await;
    let users = stack.users("user", 30).await;
    let mut client = gateway.enter(&room, &users[0]).await;
    let given: Vec<_> = users[..15].iter().map(|user| user.id.to_string()).collect();
    let text: String = users[10..].iter().map(|user| format!("@{} ", user.username)).collect();
    client.send(json!({"type": "send_message", "content": text, "mentions": given})).await;
    let expected: Vec<_> = users[..20].iter().map(|user| user.id).collect();
    assert_eq!(client.wait_for("new_message").await["message"]["mentions"], json!(expected));
}
