//! What humans decide in Django: told once over all instances, and only what the rows say.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::app_stage;
use crate::dm::{conversation, path};
use crate::support::{RoomSpec, Stack, TestClient, TestGateway, TestRoom, TestUser};

struct Scene {
    stack: Stack,
    one: TestGateway,
    two: TestGateway,
    room: TestRoom,
    author: TestUser,
    reader: TestUser,
}

impl Scene {
    async fn start() -> Self {
        let stack = Stack::start().await;
        let (one, two) = (stack.gateway().start().await, stack.gateway().start().await);
        let room = stack.room(RoomSpec::default()).await;
        let (author, reader) = (stack.user("author").await, stack.user("reader").await);
        stack.member(&room, &author, "member").await;
        Self { stack, one, two, room, author, reader }
    }

    async fn enter(&self) -> (TestClient, TestClient) {
        (self.one.enter(&self.room, &self.author).await, self.two.enter(&self.room, &self.reader).await)
    }

    async fn sql(&self, statement: &str, message: Uuid) {
        sqlx::query(sqlx::AssertSqlSafe(statement.to_owned())).bind(message).execute(self.stack.db()).await.unwrap();
    }

    async fn set_hidden(&self, message: Uuid, hidden: bool) {
        self.sql(&format!("UPDATE community_message SET is_hidden = {hidden} WHERE id = $1"), message).await;
    }

    async fn order(&self, message: Uuid, decision: &str) {
        self.stack.order(json!({"action": "moderation", "message": message, "decision": decision})).await;
    }

    async fn record(&self, message: Uuid, source: &str, moderator: Option<&TestUser>) {
        sqlx::query(
            "INSERT INTO community_moderationaction (id, action_type, source, reason, is_active, ai_scores, created_at, \
                 moderator_id, target_message_id, target_user_id) \
             SELECT gen_random_uuid(), 'hide', $2, '', true, '{}', now(), $3, id, author_id \
               FROM community_message WHERE id = $1",
        )
        .bind(message)
        .bind(source)
        .bind(moderator.map(|user| user.id))
        .execute(self.stack.db())
        .await
        .unwrap();
    }

    /// A message that was blocked: hidden, uncounted, with the gateway's record. Of two that surround it, only those count.
    async fn blocked(&self) -> Uuid {
        let messages = self.stack.messages(&self.room, &self.author, 3).await;
        self.set_hidden(messages[1], true).await;
        self.record(messages[1], "ai", None).await;
        messages[1]
    }

    /// Waits until each client has seen a decision that is taken after all those before.
    async fn finish(&self, clients: &mut [&mut TestClient]) {
        let last = self.stack.messages(&self.room, &self.author, 1).await[0];
        self.set_hidden(last, true).await;
        self.record(last, "admin", None).await;
        self.order(last, "hidden").await;
        for client in clients {
            client.wait_until("the last decision", |event| event["messageId"] == json!(last)).await;
        }
    }
}

fn seen(client: &TestClient, name: &str) -> Vec<Value> {
    let events = client.seen().iter().map(|text| serde_json::from_str::<Value>(text).unwrap());
    events.filter(|event| event["event"] == name).collect()
}

async fn counters(scene: &Scene) -> (i32, i32) {
    let room = "SELECT message_count FROM community_room WHERE id = $1";
    let member = "SELECT messages_sent FROM community_roommembership WHERE room_id = $1 AND user_id = $2";
    let room = sqlx::query_scalar(room).bind(scene.room.id).fetch_one(scene.stack.db()).await.unwrap();
    let member = sqlx::query_scalar(member).bind(scene.room.id).bind(scene.author.id);
    (room, member.fetch_one(scene.stack.db()).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_message_that_is_approved_appears_once_and_in_its_place() {
    let scene = Scene::start().await;
    let message = scene.blocked().await;
    let (mut a, mut b) = scene.enter().await;
    // Django has not changed the row yet: an order alone says nothing.
    scene.order(message, "approved").await;
    scene.finish(&mut [&mut a, &mut b]).await;
    assert_eq!(seen(&b, "new_message"), [] as [Value; 0]);
    scene.set_hidden(message, false).await;
    for _ in 0..3 {
        scene.order(message, "approved").await;
    }
    scene.finish(&mut [&mut a, &mut b]).await;
    for client in [&a, &b] {
        let told = seen(client, "new_message");
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!((&told[0]["message"]["id"], &told[0]["message"]["content"]), (&json!(message), &json!("message 2")));
        let offset = told[0]["offset"].as_u64().unwrap();
        assert!(seen(client, "message_deleted").iter().any(|event| event["offset"] == offset + 1), "one order");
    }
    assert_eq!(counters(&scene).await, (1, 1), "it counts from now on, once");
    let mut late = scene.one.dial(&scene.room.path()).token(&scene.stack.token(&scene.reader).await).connect().await;
    let state = late.wait_for("room_state").await;
    let texts: Vec<_> = state["messages"].as_array().unwrap().iter().map(|message| &message["content"]).collect();
    assert_eq!(texts[..3], ["message 1", "message 2", "message 3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_hidden_or_deleted_disappears_and_its_author_is_told() {
    let scene = Scene::start().await;
    let messages = scene.stack.messages(&scene.room, &scene.author, 2).await;
    let (mut a, mut b) = scene.enter().await;
    let (mut app, ..) = app_stage::open(&scene.stack, &scene.two, &scene.author).await;
    let moderator = scene.stack.user("moderator").await;
    scene.set_hidden(messages[0], true).await;
    scene.record(messages[0], "admin", Some(&moderator)).await;
    scene.order(messages[0], "hidden").await;
    scene.sql("UPDATE community_message SET message_type = 'deleted', content = '' WHERE id = $1", messages[1]).await;
    scene.order(messages[1], "deleted").await;
    scene.finish(&mut [&mut a, &mut b]).await;
    for client in [&a, &b] {
        let told = seen(client, "message_deleted");
        assert_eq!(told.len(), 3, "{told:?}");
        assert_eq!(told[0]["messageId"], json!(messages[0]));
        assert_eq!(told[0]["deletedBy"], json!(moderator.id.to_string()));
        assert_eq!((&told[1]["messageId"], &told[1]["deletedBy"]), (&json!(messages[1]), &Value::Null));
    }
    app.wait_until("the second to be told", |event| event["messageId"] == json!(messages[1])).await;
    for client in [&a, &app] {
        let told = seen(client, "moderation");
        for (told, message) in told.iter().zip(&messages) {
            assert_eq!((&told["messageId"], &told["action"]), (&json!(message), &json!("removed")));
            assert_eq!((&told["roomId"], told.get("to")), (&json!(scene.room.id), None));
        }
        assert!(told.len() >= 2, "{told:?}");
    }
    assert_eq!(seen(&b, "moderation"), [] as [Value; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn hidden_and_shown_again_and_again_is_told_each_time() {
    let scene = Scene::start().await;
    let message = scene.stack.messages(&scene.room, &scene.author, 1).await[0];
    scene.record(message, "admin", None).await;
    let (mut a, mut b) = scene.enter().await;
    for _ in 0..3 {
        for (hidden, decision, event) in [(true, "hidden", "message_deleted"), (false, "approved", "new_message")] {
            scene.set_hidden(message, hidden).await;
            scene.order(message, decision).await;
            for client in [&mut a, &mut b] {
                client.wait_for(event).await;
            }
        }
    }
    scene.finish(&mut [&mut a, &mut b]).await;
    for client in [&a, &b] {
        assert_eq!((seen(client, "new_message").len(), seen(client, "message_deleted").len()), (3, 4));
    }
    assert_eq!(counters(&scene).await, (0, 0), "it was counted when it was sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_saw_is_not_told_to_others() {
    let scene = Scene::start().await;
    let blocked = scene.blocked().await;
    let flagged = scene.stack.messages(&scene.room, &scene.author, 1).await[0];
    scene.sql("UPDATE community_message SET is_flagged = true WHERE id = $1", flagged).await;
    let (mut a, mut b) = scene.enter().await;
    // A block that is confirmed, a flag that is lifted, and a message that is none.
    scene.order(blocked, "hidden").await;
    scene.order(flagged, "approved").await;
    scene.order(Uuid::new_v4(), "deleted").await;
    let told = a.wait_for("moderation").await;
    assert_eq!(told["messageId"], json!(blocked));
    scene.finish(&mut [&mut a, &mut b]).await;
    for client in [&a, &b] {
        assert_eq!((seen(client, "new_message").len(), seen(client, "message_deleted").len()), (0, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conversations_are_told_too() {
    let scene = Scene::start().await;
    let (thread, room) = conversation(&scene.stack, &[&scene.author, &scene.reader]).await;
    let message = scene.stack.messages(&room, &scene.author, 1).await[0];
    scene.set_hidden(message, true).await;
    scene.record(message, "system", None).await;
    let mut b = scene.two.dial(&path(thread)).token(&scene.stack.token(&scene.reader).await).connect().await;
    assert_eq!(b.wait_for("dm_state").await["messages"], json!([]));
    scene.set_hidden(message, false).await;
    scene.order(message, "approved").await;
    assert_eq!(b.wait_for("new_message").await["message"]["id"], json!(message));
}
