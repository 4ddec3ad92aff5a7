//! Direct conversations: who gets in, who may write, one conversation by two paths.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{RoomSpec, Stack, TestGateway, TestRoom, TestUser};

/// A conversation between users, as Django makes one: the thread, its room, a participant and a membership each.
pub async fn conversation(stack: &Stack, users: &[&TestUser]) -> (Uuid, TestRoom) {
    let spec = RoomSpec { room_type: "dm", visibility: "unlisted", ..RoomSpec::default() };
    let room = stack.room(spec).await;
    let thread = Uuid::new_v4();
    sqlx::query(
        "INSERT INTO community_directmessagethread (id, is_group, name, created_at, updated_at, created_by_id, room_id)
         VALUES ($1, $2, '', now(), now(), $3, $4)",
    )
    .bind(thread)
    .bind(users.len() > 2)
    .bind(users[0].id)
    .bind(room.id)
    .execute(stack.db())
    .await
    .unwrap();
    for user in users {
        sqlx::query(
            "INSERT INTO community_directmessagethread_participants (directmessagethread_id, user_id) VALUES ($1, $2)",
        )
        .bind(thread)
        .bind(user.id)
        .execute(stack.db())
        .await
        .unwrap();
        stack.member(&room, user, "member").await;
    }
    (thread, room)
}

pub fn path(thread: Uuid) -> String {
    format!("/ws/community/dm/{thread}/")
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_talk_on_two_instances_and_the_thread_moves() {
    let stack = Stack::start().await;
    let (one, two) = (stack.gateway().start().await, stack.gateway().start().await);
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let (thread, room) = conversation(&stack, &[&ada, &grace]).await;

    let mut a = one.dial(&path(thread)).token(&stack.token(&ada).await).connect().await;
    let state = a.expect_event("dm_state").await;
    assert_eq!(state["threadId"], thread.to_string());
    assert_eq!(state["messages"], json!([]));
    // The same conversation, entered by its room's path.
    let mut b = two.dial(&room.path()).token(&stack.token(&grace).await).connect().await;
    b.expect_event("room_state").await;

    a.send(json!({"type": "send_message", "content": "hello"})).await;
    let seen: Value = b.wait_for("new_message").await;
    assert_eq!(seen["message"]["roomId"], room.id.to_string());
    assert_eq!(seen, a.wait_for("new_message").await);
    b.send(json!({"type": "send_message", "content": "hello yourself"})).await;
    assert_eq!(a.wait_for("new_message").await["message"]["content"], "hello yourself");
    b.wait_for("new_message").await;
    a.expect_silence().await;
    b.expect_silence().await;

    let moved: bool = sqlx::query_scalar(
        "SELECT d.last_message_at = (SELECT max(created_at) FROM community_message m WHERE m.room_id = d.room_id)
           FROM community_directmessagethread d WHERE d.id = $1",
    )
    .bind(thread)
    .fetch_one(stack.db())
    .await
    .unwrap();
    assert!(moved, "last_message_at follows the newest message");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_participants_get_in() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let (ada, grace, eve) = (stack.user("ada").await, stack.user("grace").await, stack.user("eve").await);
    let (thread, room) = conversation(&stack, &[&ada, &grace]).await;
    for path in [path(thread), room.path()] {
        let mut client = gateway.dial(&path).token(&stack.token(&eve).await).connect().await;
        assert_eq!(client.expect_close().await.0, 4003);
    }
    let mut client = gateway.dial(&path(Uuid::new_v4())).token(&stack.token(&ada).await).connect().await;
    assert_eq!(client.expect_close().await.0, 4004);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_of_either_side_refuses_sending_in_the_same_words() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let (thread, _) = conversation(&stack, &[&ada, &grace]).await;
    stack.block(&grace, &ada).await;
    let mut texts = Vec::new();
    for user in [&ada, &grace] {
        let mut client = gateway.dial(&path(thread)).token(&stack.token(user).await).connect().await;
        client.expect_event("dm_state").await;
        client.send(json!({"type": "send_message", "content": "hello?"})).await;
        let error = client.wait_for("error").await;
        assert_eq!(error["code"], "blocked");
        texts.push(error["message"].clone());
    }
    assert_eq!(texts[0], texts[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_write_to_me_is_asked_when_django_stores_it() {
    let stack = Stack::start().await;
    sqlx::query("ALTER TABLE users_user ADD COLUMN dm_permission varchar(20) NOT NULL DEFAULT 'everyone'")
        .execute(stack.db())
        .await
        .unwrap();
    let gateway = stack.gateway().env("GATEWAY_LIMIT_CONNECTS_PER_MINUTE", 100).start().await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let set = async |permission: &str| {
        sqlx::query("UPDATE users_user SET dm_permission = $1 WHERE id = $2")
            .bind(permission)
            .bind(grace.id)
            .execute(stack.db())
            .await
            .unwrap();
    };
    let outcome = async || {
        // A conversation of its own each time: an answer in one is consent only there.
        let (thread, _) = conversation(&stack, &[&ada, &grace]).await;
        let mut client = gateway.dial(&path(thread)).token(&stack.token(&ada).await).connect().await;
        client.expect_event("dm_state").await;
        client.send(json!({"type": "send_message", "content": "hello?"})).await;
        let said = client.wait_until("an answer", |event| event["event"] == "error" || event["event"] == "new_message");
        said.await["code"].as_str().unwrap_or("sent").to_owned()
    };
    assert_eq!(outcome().await, "sent");
    for permission in ["none", "following", "connections"] {
        set(permission).await;
        assert_eq!(outcome().await, "not_admitted", "{permission}");
    }
    sqlx::query("INSERT INTO users_userfollow (created_at, follower_id, following_id) VALUES (now(), $1, $2)")
        .bind(grace.id)
        .bind(ada.id)
        .execute(stack.db())
        .await
        .unwrap();
    for (permission, expected) in [("none", "not_admitted"), ("following", "sent"), ("connections", "sent")] {
        set(permission).await;
        assert_eq!(outcome().await, expected, "{permission}, and she follows him");
    }
    set("none").await;
    let (thread, room) = conversation(&stack, &[&ada, &grace]).await;
    stack.messages(&room, &grace, 1).await;
    let mut client = gateway.dial(&path(thread)).token(&stack.token(&ada).await).connect().await;
    client.expect_event("dm_state").await;
    client.send(json!({"type": "send_message", "content": "thanks"})).await;
    client.wait_for("new_message").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_of_a_conversation_ends_those_who_have_left_it_by_either_path() {
    let stack = Stack::start().await;
    let (one, two) = (stack.gateway().start().await, stack.gateway().start().await);
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let (thread, room) = conversation(&stack, &[&ada, &grace]).await;
    let enter = async |gateway: &TestGateway, path: String, user: &TestUser, state: &str| {
        let mut client = gateway.dial(&path).token(&stack.token(user).await).connect().await;
        client.expect_event(state).await;
        client
    };
    let mut left = [
        enter(&one, path(thread), &ada, "dm_state").await,
        enter(&two, path(thread), &ada, "dm_state").await,
        enter(&two, room.path(), &ada, "room_state").await,
    ];
    let mut stays = enter(&one, path(thread), &grace, "dm_state").await;
    for leave in [
        "DELETE FROM community_directmessagethread_participants WHERE user_id = $1",
        "DELETE FROM community_roommembership WHERE user_id = $1",
    ] {
        sqlx::query(leave).bind(ada.id).execute(stack.db()).await.unwrap();
    }
    stack.order(json!({"action": "refresh", "thread": thread.to_string()})).await;
    for client in &mut left {
        assert_eq!(client.expect_close().await.0, 4003);
    }
    stays.send(json!({"type": "send_message", "content": "alone", "client_id": "1"})).await;
    stays.wait_for("message_ack").await;
}
