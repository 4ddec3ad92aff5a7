//! What the tests of the presence socket share.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Stack, TestClient, TestGateway, TestUser};

pub const PATH: &str = "/ws/community/presence/";

/// Connects to the presence socket; returns the client and its first two events.
pub async fn open(stack: &Stack, gateway: &TestGateway, user: &TestUser) -> (TestClient, Value, Value) {
    let mut client = gateway.dial(PATH).token(&stack.token(user).await).connect().await;
    let state = client.expect_event("presence_state").await;
    let unread = client.expect_event("unread").await;
    (client, state, unread)
}

/// Waits until everything that was announced about a user adds up to this.
pub async fn user_becomes(client: &mut TestClient, user: &TestUser, online: bool) {
    let id = user.id.to_string();
    let said = |event: &Value| event["event"] == "presence_update" && event["users"][&id] == online;
    client.wait_until("the user to change", said).await;
}

/// The same for the number online in a room.
pub async fn room_becomes(client: &mut TestClient, room: Uuid, online: u64) {
    let id = room.to_string();
    let said = |event: &Value| event["event"] == "presence_update" && event["rooms"][&id] == online;
    client.wait_until("the room to change", said).await;
}

/// Watches, and returns the state that answers it.
pub async fn watch(client: &mut TestClient, rooms: &[Uuid], users: &[&TestUser]) -> Value {
    let users: Vec<_> = users.iter().map(|user| user.id.to_string()).collect();
    client.send(json!({"type": "watch", "room_ids": rooms, "user_ids": users})).await;
    client.wait_for("presence_state").await
}

/// Sets when a user has read up to, in seconds before now.
pub async fn has_read(stack: &Stack, user: &TestUser, seconds_ago: f64) {
    sqlx::query(
        "UPDATE community_roommembership SET last_read_at = now() - make_interval(secs => $2) WHERE user_id = $1",
    )
    .bind(user.id)
    .bind(seconds_ago)
    .execute(stack.db())
    .await
    .unwrap();
}
