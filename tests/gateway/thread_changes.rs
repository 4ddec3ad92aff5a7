//! Edits, deletions, pins and reactions of messages in threads: told in the thread, in its order, and not in the room.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{RoomSpec, Stack, TestClient, TestGateway, TestRoom};

/// A room on two instances, a thread in it, and ada (a moderator) and grace, who have opened it, and eve, who has not.
struct Scene {
    stack: Stack,
    _gateways: [TestGateway; 2],
    room: TestRoom,
    thread: Uuid,
    ada: TestClient,
    grace: TestClient,
    eve: TestClient,
}

impl Scene {
    async fn start() -> Self {
        let stack = Stack::start().await;
        let room = stack.room(RoomSpec::default()).await;
        let gateways = [stack.gateway().start().await, stack.gateway().start().await];
        let (a, g, e) = (stack.user("ada").await, stack.user("grace").await, stack.user("eve").await);
        stack.member(&room, &a, "moderator").await;
        let mut ada = gateways[0].enter(&room, &a).await;
        let mut grace = gateways[1].enter(&room, &g).await;
        let eve = gateways[0].enter(&room, &e).await;
        ada.send(json!({"type": "create_thread", "title": "News"})).await;
        let thread = ada.wait_for("thread_created").await["thread"]["id"].as_str().unwrap().parse().unwrap();
        for client in [&mut ada, &mut grace] {
            client.send(json!({"type": "open_thread", "thread_id": thread})).await;
            client.wait_for("thread_state").await;
        }
        Self { stack, _gateways: gateways, room, thread, ada, grace, eve }
    }

    /// Grace writes in the thread; returns the message's id.
    async fn message(&mut self) -> Value {
        self.grace.send(json!({"type": "send_message", "thread_id": self.thread, "content": "hello"})).await;
        let told = self.ada.wait_for("new_message").await;
        assert_eq!(told, self.grace.wait_for("new_message").await);
        told["message"]["id"].clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_a_threads_message_are_told_to_those_who_have_opened_it_and_to_nobody_else() {
    let mut scene = Scene::start().await;
    let id = scene.message().await;
    let changes = [
        (json!({"type": "edit_message", "content": "better"}), "message_edited", true),
        (json!({"type": "add_reaction", "emoji": "👍"}), "reaction_updated", true),
        (json!({"type": "remove_reaction", "emoji": "👍"}), "reaction_updated", true),
        (json!({"type": "pin_message"}), "message_pinned", false),
        (json!({"type": "delete_message"}), "message_deleted", false),
    ];
    for (at, (mut frame, event, by_grace)) in changes.into_iter().enumerate() {
        frame["message_id"] = id.clone();
        if by_grace {
            scene.grace.send(frame).await
        } else {
            scene.ada.send(frame).await
        }
        let told = scene.ada.wait_for(event).await;
        assert_eq!(told["offset"], 2 + at, "the thread's own order: {told}");
        let named = told.get("threadId").unwrap_or(&told["message"]["threadId"]);
        assert_eq!(*named, scene.thread.to_string());
        assert_eq!(told, scene.grace.wait_for(event).await);
    }
    // Who has not opened it gets the room's events without a gap, and nothing of the thread's.
    scene.ada.send(json!({"type": "send_message", "content": "to the room"})).await;
    let seen = scene.eve.events_until("new_message").await;
    let offset = &seen.last().unwrap()["offset"];
    assert_eq!(*offset, 2, "after the thread's beginning: {seen:?}");
    assert!(seen.iter().all(|event| event["messageId"] != id && event["message"]["id"] != id), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_changed_in_an_archived_thread() {
    let mut scene = Scene::start().await;
    let id = scene.message().await;
    let archived = "UPDATE community_thread SET is_archived = true WHERE room_id = $1";
    sqlx::query(archived).bind(scene.room.id).execute(scene.stack.db()).await.unwrap();
    for frame in [
        json!({"type": "edit_message", "content": "better", "message_id": id}),
        json!({"type": "add_reaction", "emoji": "👍", "message_id": id}),
        json!({"type": "delete_message", "message_id": id}),
    ] {
        scene.grace.send(frame.clone()).await;
        let error = scene.grace.wait_for("error").await;
        assert_eq!((&error["code"], &error["requestType"]), (&json!("thread_archived"), &frame["type"]));
    }
    scene.ada.send(json!({"type": "pin_message", "message_id": id})).await;
    assert_eq!(scene.ada.wait_for("error").await["code"], "thread_archived");
    let untouched = "SELECT count(*) FROM community_message WHERE content = 'hello' AND NOT is_pinned AND NOT is_edited \
                        AND reaction_counts = '{}'";
    let rows: i64 = sqlx::query_scalar(untouched).fetch_one(scene.stack.db()).await.unwrap();
    assert_eq!(rows, 1);
}
