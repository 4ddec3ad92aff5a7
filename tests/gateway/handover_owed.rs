//! Work for Celery of messages whose owner died between the commit and the next call, of edits, and of messages that a
//! human let pass.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::app_stage;
use crate::dm;
use crate::handover_moves::{Broker, kept, say};
use crate::moderation_stage::{self, Stage};
use crate::support::{GatewayBuilder, RoomSpec, Stack, TestGateway, TestRoom, TestUser, UserSpec, eventually};

fn notifying(builder: GatewayBuilder) -> GatewayBuilder {
    builder
        .env("GATEWAY_TASK_MENTION", "t.mention")
        .env("GATEWAY_TASK_REPLY", "t.reply")
        .env("GATEWAY_TASK_DM", "t.dm")
        .env("GATEWAY_TASK_NOTIFY_QUEUE", "notices")
}

/// Lets events be published and tasks be kept, or neither: both scripts ask for a size, what comes before them does not.
async fn keeping(stack: &Stack, rule: &str) {
    let mut set = redis::cmd("ACL");
    set.arg("SETUSER").arg("default").arg(rule);
    set.exec_async(&mut stack.redis().await).await.unwrap();
}

/// As if the time of all that waits had come.
async fn make_due(stack: &Stack) {
    let mut redis = stack.redis().await;
    let waiting: Vec<Vec<u8>> =
        redis::cmd("ZRANGE").arg("community:tasks").arg(0).arg(-1).query_async(&mut redis).await.unwrap();
    for one in waiting {
        redis::cmd("ZADD").arg("community:tasks").arg("XX").arg(0).arg(one).exec_async(&mut redis).await.unwrap();
    }
}

async fn id_of(stack: &Stack, content: &str) -> Option<Uuid> {
    let find = "SELECT id FROM community_message WHERE content = $1";
    sqlx::query_scalar(find).bind(content).fetch_optional(stack.db()).await.unwrap()
}

/// What waits in a list: the names and the arguments.
async fn tasks(broker: &mut Broker, list: &str, count: usize) -> Vec<(String, Value)> {
    let found = broker.until(list, count).await;
    found.into_iter().map(|(name, arguments, _)| (name, arguments)).collect()
}

fn told(name: &str, message: &Value, user: &TestUser) -> (String, Value) {
    (name.to_owned(), json!({"message_id": message, "user_id": user.id}))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_gateway_had_committed_is_handed_over_by_another_though_nobody_is_there() {
    let stack = Stack::start().await;
    let mut one = notifying(stack.gateway()).start().await;
    let (ada, away) = (stack.user("ada").await, stack.user("away").await);
    let sage = stack.user_with("sage", UserSpec { tier: "team", ..UserSpec::default() }).await;
    let room = stack.room(RoomSpec::default()).await;
    let old = stack.messages(&room, &away, 1).await[0];
    let (thread, _) = dm::conversation(&stack, &[&ada, &sage]).await;
    let mut broker = Broker::at(&stack.redis_server().url(0)).await;
    let mut d = one.dial(&dm::path(thread)).token(&stack.token(&ada).await).connect().await;
    d.expect_event("dm_state").await;
    let mut a = one.enter(&room, &ada).await;
    let asked = say(&mut d, "asked before").await;
    assert_eq!(broker.until("celery", 1).await[0].1["message_id"], json!(asked));
    eventually("it is settled", || async { kept(&stack).await == 0 }).await;

    keeping(&stack, "-zcard").await;
    d.send(json!({"type": "send_message", "content": "orphan"})).await;
    a.send(json!({"type": "send_message", "content": "indeed", "reply_to_id": old})).await;
    eventually("both are committed", || async {
        id_of(&stack, "orphan").await.is_some() && id_of(&stack, "indeed").await.is_some()
    })
    .await;
    one.kill9().await;
    keeping(&stack, "+zcard").await;
    assert_eq!(kept(&stack).await, 2, "a note of each was there before the commit");

    let two = notifying(stack.gateway()).start().await;
    let orphan = id_of(&stack, "orphan").await;
    let handed = tasks(&mut broker, "celery", 2).await;
    assert_eq!(handed[1].1, json!({"message_id": orphan, "thread_id": thread, "agent_user_id": sage.id}));
    let answer = json!(id_of(&stack, "indeed").await);
    assert_eq!(tasks(&mut broker, "notices", 1).await, [told("t.reply", &answer, &away)]);
    eventually("nothing waits any more", || async { kept(&stack).await == 0 }).await;
    let made = two.metric("community_gateway_handover_total", &[("task", "message"), ("outcome", "made")]).await;
    assert_eq!(made, 2.0);
    assert_eq!((broker.waiting("celery").await.len(), broker.waiting("notices").await.len()), (2, 1));
}

#[tokio::test]
async fn a_note_of_what_was_never_committed_goes_after_a_second_look() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let mut redis = stack.redis().await;
    let note = json!({"owed": "new", "message": Uuid::now_v7()});
    redis::cmd("ZADD").arg("community:tasks").arg(0).arg(note.to_string()).exec_async(&mut redis).await.unwrap();
    eventually("it is looked for again later", || async {
        let waiting: Vec<String> = redis::cmd("ZRANGE")
            .arg("community:tasks")
            .arg(0)
            .arg(-1)
            .query_async(&mut stack.redis().await)
            .await
            .unwrap();
        waiting.len() == 1 && waiting[0].contains("\"again\":true")
    })
    .await;
    make_due(&stack).await;
    eventually("it is forgotten", || async { kept(&stack).await == 0 }).await;
    eventually("it is counted", || async {
        gateway.metric("community_gateway_handover_total", &[("task", "message"), ("outcome", "void")]).await == 1.0
    })
    .await;
    assert!(Broker::at(&stack.redis_server().url(0)).await.waiting("celery").await.is_empty());
}

#[tokio::test]
async fn while_postgres_cannot_say_a_note_stays() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let db = stack.db();
    let sql = |statement: &'static str| async move { sqlx::query(statement).execute(db).await.unwrap() };
    sql("ALTER TABLE community_message RENAME TO elsewhere").await;
    let mut redis = stack.redis().await;
    let note = json!({"owed": "new", "message": Uuid::now_v7()});
    redis::cmd("ZADD").arg("community:tasks").arg(0).arg(note.to_string()).exec_async(&mut redis).await.unwrap();
    gateway.wait_for_log("tasks of an owner who is gone cannot be made yet").await;
    assert_eq!(kept(&stack).await, 1);
    sql("ALTER TABLE elsewhere RENAME TO community_message").await;
}

struct Scene {
    stack: Stack,
    room: TestRoom,
    ada: TestUser,
    away: [TestUser; 2],
    broker: Broker,
}

/// Ada, and two members of her room who are not online.
async fn scene() -> Scene {
    let stack = Stack::start().await;
    let room = stack.room(RoomSpec::default()).await;
    let ada = stack.user("ada").await;
    let away = [stack.user("grace").await, stack.user("joan").await];
    let broker = Broker::at(&stack.redis_server().url(0)).await;
    Scene { stack, room, ada, away, broker }
}

impl Scene {
    async fn start(&self) -> TestGateway {
        notifying(self.stack.gateway()).start().await
    }
}

#[tokio::test]
async fn an_edit_hands_over_whom_it_mentions_newly_and_nobody_twice() {
    let mut scene = scene().await;
    let gateway = scene.start().await;
    let [grace, joan] = scene.away.each_ref();
    let old = scene.stack.messages(&scene.room, joan, 1).await[0];
    let mut a = gateway.enter(&scene.room, &scene.ada).await;
    let first = json!(say(&mut a, "@grace, look").await);
    assert_eq!(tasks(&mut scene.broker, "notices", 1).await, [told("t.mention", &first, grace)]);
    for content in ["look", "@grace, look", "@grace and @joan, look", "@grace and @joan, look, @ada"] {
        a.send(json!({"type": "edit_message", "message_id": first, "content": content})).await;
        a.wait_for("message_edited").await;
    }
    // Who was told of an answer is not told of the same message again.
    a.send(json!({"type": "send_message", "content": "yes", "reply_to_id": old})).await;
    let answer =
        a.wait_until("the answer", |event| event["message"]["content"] == "yes").await["message"]["id"].clone();
    a.send(json!({"type": "edit_message", "message_id": answer, "content": "@joan, yes"})).await;
    a.wait_for("message_edited").await;
    eventually("nothing waits any more", || async { kept(&scene.stack).await == 0 }).await;
    let expected = [told("t.mention", &first, grace), told("t.mention", &first, joan), told("t.reply", &answer, joan)];
    assert_eq!(tasks(&mut scene.broker, "notices", 3).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_whose_teller_was_killed_is_handed_over_too() {
    let mut scene = scene().await;
    let mut one = scene.start().await;
    let _two = scene.start().await;
    let [grace, joan] = scene.away.each_ref();
    let mut a = one.enter(&scene.room, &scene.ada).await;
    let first = json!(say(&mut a, "@grace, look").await);
    assert_eq!(tasks(&mut scene.broker, "notices", 1).await, [told("t.mention", &first, grace)]);
    eventually("it is settled", || async { kept(&scene.stack).await == 0 }).await;
    keeping(&scene.stack, "-zcard").await;
    a.send(json!({"type": "edit_message", "message_id": first, "content": "@grace and @joan"})).await;
    eventually("it is committed", || async { id_of(&scene.stack, "@grace and @joan").await.is_some() }).await;
    one.kill9().await;
    keeping(&scene.stack, "+zcard").await;
    make_due(&scene.stack).await;
    let expected = [told("t.mention", &first, grace), told("t.mention", &first, joan)];
    assert_eq!(tasks(&mut scene.broker, "notices", 2).await, expected);
    eventually("nothing waits any more", || async { kept(&scene.stack).await == 0 }).await;
    assert_eq!(scene.broker.waiting("notices").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_back_hands_over_nothing_until_a_human_lets_it_pass() {
    let stage = Stage::start().await;
    let gateway = notifying(stage.gateway()).start().await;
    let mut broker = Broker::at(&stage.stack.redis_server().url(0)).await;
    let here = stage.stack.user("here").await;
    let old = stage.stack.messages(&stage.room, &stage.reader, 1).await[0];
    let mut a = gateway.enter(&stage.room, &stage.author).await;
    let (mut app, ..) = app_stage::open(&stage.stack, &gateway, &here).await;
    let held = json!({"type": "send_message", "content": "grobnik, @here", "reply_to_id": old, "client_id": "1"});
    a.send(held).await;
    assert_eq!(moderation_stage::answer(&mut a, "1").await["action"], "blocked");
    // Flagged is shown at once.
    a.send(json!({"type": "send_message", "content": "dubbly, @reader", "client_id": "2"})).await;
    let flagged = a.wait_until("it", |event| event["message"]["content"] == "dubbly, @reader").await;
    let flagged = told("t.mention", &flagged["message"]["id"], &stage.reader);
    assert_eq!(tasks(&mut broker, "notices", 1).await, std::slice::from_ref(&flagged));

    let message = id_of(&stage.stack, "grobnik, @here").await.unwrap();
    // It was written an hour ago and more: it is news all the same.
    for statement in [
        "UPDATE community_message SET created_at = created_at - interval '2 hours' WHERE id = $1",
        "UPDATE community_message SET is_hidden = false WHERE id = $1",
    ] {
        sqlx::query(statement).bind(message).execute(stage.stack.db()).await.unwrap();
    }
    for _ in 0..2 {
        stage.stack.order(json!({"action": "moderation", "message": message, "decision": "approved"})).await;
    }
    let mention = app.wait_for("mention").await;
    assert_eq!(
        mention,
        json!({"event": "mention", "roomId": stage.room.id, "messageId": message,
               "author": {"id": stage.author.id.to_string(), "username": "author", "avatarUrl": null}})
    );
    assert_eq!(tasks(&mut broker, "notices", 2).await, [flagged, told("t.reply", &json!(message), &stage.reader)]);
    eventually("nothing waits any more", || async { kept(&stage.stack).await == 0 }).await;
    assert_eq!(broker.waiting("notices").await.len(), 2);
}
