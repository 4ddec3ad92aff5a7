//! Edits, deletions, pins and reactions: what is told, what is stored, what happens twice or at once.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{RoomSpec, Stack, TestClient, TestGateway, TestRoom, TestUser};

/// Two instances, a room, its moderator Ada and its member Grace, each on one of the instances.
struct Scene {
    stack: Stack,
    room: TestRoom,
    ada: TestUser,
    grace: TestUser,
    one: TestGateway,
    two: TestGateway,
}

impl Scene {
    async fn start() -> Self {
        let stack = Stack::start().await;
        let room = stack.room(RoomSpec::default()).await;
        let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
        stack.member(&room, &ada, "moderator").await;
        stack.member(&room, &grace, "member").await;
        let (one, two) = (stack.gateway().start().await, stack.gateway().start().await);
        Self { stack, room, ada, grace, one, two }
    }

    async fn enter(&self) -> (TestClient, TestClient) {
        (self.one.enter(&self.room, &self.ada).await, self.two.enter(&self.room, &self.grace).await)
    }

    /// A message of Grace's.
    async fn message(&self) -> Uuid {
        self.stack.messages(&self.room, &self.grace, 1).await[0]
    }

    async fn column<T>(&self, column: &str, message: Uuid) -> T
    where
        T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        let query = format!("SELECT {column} FROM community_message WHERE id = $1");
        sqlx::query_scalar(sqlx::AssertSqlSafe(query)).bind(message).fetch_one(self.stack.db()).await.unwrap()
    }
}

/// Waits until the commands that this client has sent are done.
async fn done(client: &mut TestClient) {
    client.send(json!({"type": "ping"})).await;
    client.wait_for("pong").await;
}

/// Everything that came to each client before a message that is sent now. Both get all of a room's events in order.
async fn everything(a: &mut TestClient, b: &mut TestClient) -> (Vec<Value>, Vec<Value>) {
    a.send(json!({"type": "send_message", "content": "the end"})).await;
    for client in [&mut *a, &mut *b] {
        client.wait_until("the end", |event| event["message"]["content"] == "the end").await;
    }
    let parse = |client: &TestClient| client.seen().iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    (parse(a), parse(b))
}

fn named<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["event"] == name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_is_told_to_everybody_once() {
    let scene = Scene::start().await;
    let message = scene.message().await;
    let (mut a, mut b) = scene.enter().await;
    let edit = json!({"type": "edit_message", "message_id": message, "content": "  better \n"});
    b.send(edit.clone()).await;
    let told = a.wait_for("message_edited").await;
    assert_eq!(told, b.wait_for("message_edited").await);
    let edited = &told["message"];
    assert_eq!(
        (&edited["id"], &edited["content"], &edited["isEdited"]),
        (&json!(message), &json!("better"), &json!(true))
    );
    assert_eq!(edited["author"]["username"], "grace");
    assert!(edited["editedAt"].is_string() && edited["createdAt"].is_string(), "{edited}");
    let stored: bool = scene.column("content = 'better' AND is_edited AND edited_at = updated_at", message).await;
    assert!(stored);
    // The same once more, and once more from a second tab on the other instance, at once.
    let mut tab = scene.one.enter(&scene.room, &scene.grace).await;
    b.send(edit.clone()).await;
    tab.send(edit).await;
    done(&mut b).await;
    done(&mut tab).await;
    let (a_saw, b_saw) = everything(&mut a, &mut b).await;
    assert_eq!(named(&a_saw, "message_edited").len(), 1);
    assert_eq!(named(&b_saw, "message_edited").len(), 1);
    assert_eq!(named(&b_saw, "error").len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_edits_at_once_end_in_the_text_that_was_told_last() {
    let scene = Scene::start().await;
    let message = scene.message().await;
    let (mut a, mut b) = scene.enter().await;
    let mut tab = scene.one.enter(&scene.room, &scene.grace).await;
    for round in 0..10 {
        let edit =
            |by: &str| json!({"type": "edit_message", "message_id": message, "content": format!("{by} {round}")});
        tokio::join!(b.send(edit("one")), tab.send(edit("two")));
    }
    done(&mut b).await;
    done(&mut tab).await;
    let stored: String = scene.column("content", message).await;
    let (a_saw, b_saw) = everything(&mut a, &mut b).await;
    let edits = named(&a_saw, "message_edited");
    assert_eq!(edits, named(&b_saw, "message_edited"), "one order for everybody");
    assert_eq!(edits.len(), 20);
    assert_eq!(edits[19]["message"]["content"], stored);
    assert!(edits.is_sorted_by_key(|edit| edit["offset"].as_u64().unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_obeys_the_rules_of_a_new_message() {
    let scene = Scene::start().await;
    let message = scene.message().await;
    let (_a, mut b) = scene.enter().await;
    for (content, code) in [
        (json!(" "), "content_required"),
        (json!(7), "invalid_frame"),
        (json!("a".repeat(4001)), "content_too_long"),
        (json!("see https://example.test"), "links_not_allowed"),
    ] {
        b.send(json!({"type": "edit_message", "message_id": message, "content": content})).await;
        assert_eq!(b.wait_for("error").await["code"], code);
    }
    assert_eq!(scene.column::<String>("content", message).await, "message 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_leaves_the_row_and_nothing_of_the_text() {
    let scene = Scene::start().await;
    let message = scene.message().await;
    let (mut a, mut b) = scene.enter().await;
    let delete = json!({"type": "delete_message", "message_id": message});
    // Its author and a moderator, at once.
    tokio::join!(a.send(delete.clone()), b.send(delete.clone()));
    done(&mut a).await;
    done(&mut b).await;
    b.send(delete).await;
    let (a_saw, b_saw) = everything(&mut a, &mut b).await;
    let told = named(&a_saw, "message_deleted");
    assert_eq!(told, named(&b_saw, "message_deleted"));
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["messageId"], message.to_string());
    let gone: bool = scene
        .column(
            "message_type = 'deleted' AND content = '[Message deleted]' AND attachments = '[]' AND embeds = '[]'",
            message,
        )
        .await;
    assert!(gone);
    let by: i64 = told[0]["deletedBy"].as_str().unwrap().parse().unwrap();
    let by_moderator = by == scene.ada.id;
    assert!(by_moderator || by == scene.grace.id, "{told:?}");
    let records: i64 =
        sqlx::query_scalar("SELECT count(*) FROM community_moderationaction WHERE target_message_id = $1")
            .bind(message)
            .fetch_one(scene.stack.db())
            .await
            .unwrap();
    assert_eq!(records, i64::from(by_moderator), "a record when it was the moderator, none when it was the author");
    // A newcomer sees what is left of it, and nothing more can be done to it.
    let token = scene.stack.token(&scene.ada).await;
    let mut late = scene.one.dial(&scene.room.path()).token(&token).connect().await;
    let state = late.expect_event("room_state").await;
    let shown = state["messages"].as_array().unwrap().iter().find(|shown| shown["id"] == message.to_string());
    let shown = shown.expect("it is shown");
    assert_eq!((&shown["messageType"], &shown["content"]), (&json!("deleted"), &json!("[Message deleted]")));
    for frame in [
        json!({"type": "edit_message", "message_id": message, "content": "back"}),
        json!({"type": "add_reaction", "message_id": message, "emoji": "👍"}),
    ] {
        b.send(frame).await;
        assert_eq!(b.wait_for("error").await["code"], "message_not_found");
    }
    late.send(json!({"type": "pin_message", "message_id": message})).await;
    assert_eq!(late.wait_for("error").await["code"], "message_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_is_told_once_whoever_pins_again() {
    let scene = Scene::start().await;
    let message = scene.message().await;
    let (mut a, mut b) = scene.enter().await;
    let mut tab = scene.two.enter(&scene.room, &scene.ada).await;
    for kind in ["pin_message", "unpin_message"] {
        let frame = json!({"type": kind, "message_id": message});
        tokio::join!(a.send(frame.clone()), tab.send(frame.clone()));
        done(&mut a).await;
        done(&mut tab).await;
        a.send(frame).await;
        done(&mut a).await;
    }
    let (a_saw, b_saw) = everything(&mut a, &mut b).await;
    let told = named(&a_saw, "message_pinned");
    assert_eq!(told, named(&b_saw, "message_pinned"));
    let pins: Vec<_> = told.iter().map(|event| (&event["isPinned"], event["by"].as_str().unwrap())).collect();
    let by = scene.ada.id.to_string();
    assert_eq!(pins, [(&json!(true), by.as_str()), (&json!(false), by.as_str())]);
    assert!(!scene.column::<bool>("is_pinned", message).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_hidden_or_elsewhere_does_not_exist() {
    let scene = Scene::start().await;
    let elsewhere = scene.stack.room(RoomSpec::default()).await;
    let foreign = scene.stack.messages(&elsewhere, &scene.ada, 1).await[0];
    let hidden = scene.stack.messages(&scene.room, &scene.ada, 1).await[0];
    sqlx::query("UPDATE community_message SET is_hidden = true WHERE id = $1")
        .bind(hidden)
        .execute(scene.stack.db())
        .await
        .unwrap();
    let (mut a, _b) = scene.enter().await;
    for message in [foreign, hidden, Uuid::new_v4()] {
        for (kind, extra) in [
            ("edit_message", json!({"content": "x"})),
            ("delete_message", json!({})),
            ("pin_message", json!({})),
            ("unpin_message", json!({})),
            ("add_reaction", json!({"emoji": "👍"})),
            ("remove_reaction", json!({"emoji": "👍"})),
        ] {
            let mut frame = json!({"type": kind, "message_id": message});
            frame.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            a.send(frame).await;
            let error = a.wait_for("error").await;
            assert_eq!((&error["code"], &error["requestType"]), (&json!("message_not_found"), &json!(kind)));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reactions_are_one_a_user_and_emoji() {
    let scene = Scene::start().await;
    let message = scene.message().await;
    let (mut a, mut b) = scene.enter().await;
    let react = |kind: &str, emoji: &str| json!({"type": kind, "message_id": message, "emoji": emoji});
    a.send(react("add_reaction", "👍")).await;
    a.send(react("add_reaction", "👍")).await;
    a.send(react("remove_reaction", "🎉")).await;
    done(&mut a).await;
    b.send(react("add_reaction", "👍")).await;
    b.send(react("add_reaction", "❤️")).await;
    done(&mut b).await;
    a.send(react("remove_reaction", "👍")).await;
    let (a_saw, b_saw) = everything(&mut a, &mut b).await;
    let told = named(&b_saw, "reaction_updated");
    assert_eq!(told, named(&a_saw, "reaction_updated"));
    let (ada, grace) = (scene.ada.id.to_string(), scene.grace.id.to_string());
    let expected = [
        (&ada, "👍", true, json!({"👍": 1})),
        (&grace, "👍", true, json!({"👍": 2})),
        (&grace, "❤️", true, json!({"👍": 2, "❤️": 1})),
        (&ada, "👍", false, json!({"👍": 1, "❤️": 1})),
    ];
    assert_eq!(told.len(), expected.len(), "{told:?}");
    for (event, (user, emoji, added, counts)) in told.iter().zip(expected) {
        let shape = json!({"event": "reaction_updated", "messageId": message, "emoji": emoji, "userId": user,
                           "added": added, "reactionCounts": counts, "offset": event["offset"],
                           "epoch": event["epoch"]});
        assert_eq!(**event, shape);
    }
    for (emoji, code) in
        [(json!("no emoji"), "invalid_emoji"), (json!(""), "invalid_emoji"), (json!(1), "invalid_frame")]
    {
        a.send(json!({"type": "add_reaction", "message_id": message, "emoji": emoji})).await;
        assert_eq!(a.wait_for("error").await["code"], code);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_reactions_at_once_are_counted_exactly() {
    let scene = Scene::start().await;
    let message = scene.message().await;
    let (mut a, mut b) = scene.enter().await;
    let mut crowd = Vec::new();
    for number in 0..8 {
        let user = scene.stack.user(&format!("user{number}")).await;
        let gateway = if number % 2 == 0 { &scene.one } else { &scene.two };
        crowd.push(gateway.enter(&scene.room, &user).await);
    }
    // What is added, taken back and added again differs from user to user.
    let script = |number: usize| {
        let emoji = |at: usize| ["👍", "🎉", "❤️"][(number + at) % 3];
        let last = if number.is_multiple_of(3) { "remove_reaction" } else { "add_reaction" };
        [
            ("add_reaction", emoji(0)),
            ("add_reaction", emoji(1)),
            ("remove_reaction", emoji(0)),
            ("add_reaction", emoji(2)),
            (last, emoji(1)),
        ]
    };
    let reacting = crowd.iter_mut().enumerate().map(|(number, client)| async move {
        for (kind, emoji) in script(number) {
            client.send(json!({"type": kind, "message_id": message, "emoji": emoji})).await;
        }
        done(client).await;
    });
    futures_util::future::join_all(reacting).await;

    let rows: Value = sqlx::query_scalar::<_, sqlx::types::JsonValue>(
        "SELECT jsonb_object_agg(emoji, n) FROM (SELECT emoji, count(*) AS n FROM community_messagereaction \
          WHERE message_id = $1 GROUP BY emoji) g",
    )
    .bind(message)
    .fetch_one(scene.stack.db())
    .await
    .unwrap();
    let total: i64 = rows.as_object().unwrap().values().map(|n| n.as_i64().unwrap()).sum();
    assert_eq!(total, 8 + 5, "everybody's third emoji, and the second of those who did not take it back");
    assert_eq!(scene.column::<Value>("reaction_counts", message).await, rows);
    let (a_saw, b_saw) = everything(&mut a, &mut b).await;
    let told = named(&a_saw, "reaction_updated");
    assert_eq!(told, named(&b_saw, "reaction_updated"), "one order for everybody");
    assert_eq!(told.len(), 8 * 4 + 3, "an event for each change, none for what was so already");
    assert_eq!(told.last().unwrap()["reactionCounts"], rows);
}

#[tokio::test(flavor = "multi_thread")]
async fn reactions_have_a_limit_of_their_own_across_instances() {
    let scene = Scene::start().await;
    let message = scene.message().await;
    let limited = scene.stack.gateway().env("GATEWAY_LIMIT_REACTIONS_PER_MINUTE", 3).start().await;
    let mut first = limited.enter(&scene.room, &scene.grace).await;
    let mut second = scene.two.enter(&scene.room, &scene.grace).await;
    let react = |emoji: &str| json!({"type": "add_reaction", "message_id": message, "emoji": emoji});
    second.send(react("👍")).await;
    second.wait_for("reaction_updated").await;
    first.send(react("🎉")).await;
    first.send(react("❤️")).await;
    first.send(react("🚀")).await;
    let error = first.wait_for("error").await;
    assert_eq!(
        (&error["code"], &error["message"]),
        (&json!("rate_limited"), &json!("Rate limit exceeded. Please slow down."))
    );
    assert!(error["retryAfter"].as_f64().unwrap() > 30.0, "{error}");
    // Messages are counted apart.
    first.send(json!({"type": "send_message", "content": "still here"})).await;
    first.wait_for("new_message").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_deletions_and_pins_share_a_limit_across_instances() {
    let scene = Scene::start().await;
    let message = scene.message().await;
    let limited = scene.stack.gateway().env("GATEWAY_LIMIT_CHANGES_PER_MINUTE", 3).start().await;
    let mut first = limited.enter(&scene.room, &scene.ada).await;
    let mut second = scene.two.enter(&scene.room, &scene.ada).await;
    for (kind, event) in [("pin_message", "message_pinned"), ("unpin_message", "message_pinned")] {
        second.send(json!({"type": kind, "message_id": message})).await;
        second.wait_for(event).await;
    }
    first.send(json!({"type": "delete_message", "message_id": message})).await;
    first.wait_for("message_deleted").await;
    for kind in ["edit_message", "delete_message", "pin_message"] {
        first.send(json!({"type": kind, "message_id": message, "content": "x"})).await;
        let error = first.wait_for("error").await;
        assert_eq!((&error["code"], &error["requestType"]), (&json!("rate_limited"), &json!(kind)));
        assert!(error["retryAfter"].as_f64().unwrap() > 30.0, "{error}");
    }
}
