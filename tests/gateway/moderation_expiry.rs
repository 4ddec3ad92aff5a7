//! Mutes and bans that were given for a time, and those that were not.

use serde_json::json;
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::support::{RoomSpec, Stack, TestClient, TestGateway, TestRoom, TestUser, eventually};

/// Leaves the record of a mute or a ban, as Django does; `expires` is SQL.
async fn punish(stack: &Stack, kind: &str, user: &TestUser, room: Option<&TestRoom>, expires: &str) {
    let insert = format!(
        "INSERT INTO community_moderationaction (id, action_type, source, reason, expires_at, is_active, ai_scores, \
             created_at, target_user_id, target_room_id) \
         VALUES ($1, $2, 'admin', '', {expires}, true, '{{}}', now(), $3, $4)"
    );
    sqlx::query(sqlx::AssertSqlSafe(insert))
        .bind(Uuid::new_v4())
        .bind(kind)
        .bind(user.id)
        .bind(room.map(|room| room.id))
        .execute(stack.db())
        .await
        .unwrap();
}

async fn time_passes(stack: &Stack) {
    let update = "UPDATE community_moderationaction SET expires_at = now() - interval '1 second' \
                   WHERE expires_at IS NOT NULL";
    sqlx::query(update).execute(stack.db()).await.unwrap();
}

/// What a message is answered: `message_ack`, or an error's code.
async fn answer(client: &mut TestClient) -> String {
    let client_id = Uuid::new_v4().to_string();
    client.send(json!({"type": "send_message", "content": "may I?", "client_id": client_id})).await;
    let answer = client
        .wait_until("an answer", |event| {
            ["message_ack", "error"].iter().any(|kind| event["event"] == *kind)
                && event["clientId"] == client_id.as_str()
        })
        .await;
    answer["code"].as_str().unwrap_or("message_ack").to_owned()
}

async fn is_let_in(stack: &Stack, gateway: &TestGateway, room: &TestRoom, user: &TestUser) -> bool {
    let mut client = gateway.dial(&room.path()).token(&stack.token(user).await).connect().await;
    loop {
        match client.next_message().await {
            Message::Text(text) if text.contains("\"event\":\"room_state\"") => return true,
            Message::Close(_) => return false,
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mute_ends_on_time_on_an_open_socket() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().env("GATEWAY_LIMIT_FRAMES_PER_SECOND", 0).start().await;
    let room = stack.room(RoomSpec::default()).await;
    let (here, everywhere, for_ever) = (stack.user("ada").await, stack.user("grace").await, stack.user("mary").await);
    for user in [&here, &everywhere, &for_ever] {
        stack.member(&room, user, "muted").await;
    }
    let hour = "now() + interval '1 hour'";
    punish(&stack, "mute", &here, Some(&room), hour).await;
    punish(&stack, "mute", &everywhere, None, hour).await;
    // An old mute that is over, and one that has no end.
    punish(&stack, "mute", &for_ever, Some(&room), hour).await;
    punish(&stack, "mute", &for_ever, Some(&room), "NULL").await;
    let mut clients = Vec::new();
    for user in [&here, &everywhere, &for_ever] {
        let mut client = gateway.enter(&room, user).await;
        assert_eq!(answer(&mut client).await, "cannot_send");
        clients.push(client);
    }
    time_passes(&stack).await;
    for client in &mut clients[..2] {
        let client = tokio::sync::Mutex::new(client);
        let may_write = || async {
            let mut client = client.lock().await;
            answer(&mut client).await == "message_ack"
        };
        eventually("the mute is over", may_write).await;
    }
    // Later than both: what was remembered of the third is looked up again too.
    stack.order(json!({"action": "refresh", "room": room.id})).await;
    assert_eq!(answer(&mut clients[2]).await, "cannot_send");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ban_ends_on_time() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().env("GATEWAY_LIMIT_CONNECTS_PER_MINUTE", 0).start().await;
    let (room, other) = (stack.room(RoomSpec::default()).await, stack.room(RoomSpec::default()).await);
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    stack.member(&room, &ada, "banned").await;
    stack.member(&room, &grace, "banned").await;
    punish(&stack, "ban", &ada, Some(&room), "now() + interval '1 hour'").await;
    // Of another room: it says nothing of this one, where nobody gave an end.
    punish(&stack, "ban", &grace, Some(&other), "now() + interval '1 hour'").await;
    assert!(!is_let_in(&stack, &gateway, &room, &ada).await);
    time_passes(&stack).await;
    assert!(is_let_in(&stack, &gateway, &room, &ada).await);
    assert!(!is_let_in(&stack, &gateway, &room, &grace).await);
}
