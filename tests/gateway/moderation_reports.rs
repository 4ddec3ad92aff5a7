//! Reports: who may, how often, what is stored, and what three of them do.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{RoomSpec, Stack, TestClient, TestRoom};

fn report(message: Uuid, reason: &str) -> Value {
    json!({"type": "report_message", "message_id": message, "reason": reason})
}

/// What a report is answered: `message_reported`, or an error's code.
async fn answer(client: &mut TestClient, frame: Value) -> String {
    client.send(frame).await;
    let answer = client
        .wait_until("an answer", |event| ["message_reported", "error"].iter().any(|kind| event["event"] == *kind));
    let answer = answer.await;
    answer["code"].as_str().unwrap_or("message_reported").to_owned()
}

/// Status, count, reasons, reporters and the message's flag, for each row of the queue.
async fn queue(stack: &Stack, message: Uuid) -> Vec<(String, i32, Value, i64, bool)> {
    sqlx::query_as(
        "SELECT q.status, q.report_count, q.report_reasons, \
                (SELECT count(*) FROM community_moderationqueue_reporters r WHERE r.moderationqueue_id = q.id), \
                m.is_flagged \
           FROM community_moderationqueue q JOIN community_message m ON m.id = q.message_id WHERE m.id = $1",
    )
    .bind(message)
    .fetch_all(stack.db())
    .await
    .unwrap()
}

async fn set(stack: &Stack, what: &str, message: Uuid) {
    let update = format!("UPDATE {what}");
    sqlx::query(sqlx::AssertSqlSafe(update)).bind(message).execute(stack.db()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn three_different_users_flag_a_message_and_nobody_counts_twice() {
    let stack = Stack::start().await;
    let (one, two) = (stack.gateway().start().await, stack.gateway().start().await);
    let room = stack.room(RoomSpec::default()).await;
    let author = stack.user("author").await;
    let message = stack.messages(&room, &author, 1).await[0];
    let users = stack.users("reader", 3).await;
    let mut clients = Vec::new();
    for (user, gateway) in users.iter().zip([&one, &two, &one]) {
        clients.push(gateway.enter(&room, user).await);
    }
    assert_eq!(answer(&mut clients[0], report(message, "  spam ")).await, "message_reported");
    assert_eq!(answer(&mut clients[0], report(message, "again")).await, "message_reported");
    assert_eq!(answer(&mut clients[1], report(message, "")).await, "message_reported");
    let (status, count, reasons, reporters, flagged) = queue(&stack, message).await.remove(0);
    assert_eq!((status.as_str(), count, reporters, flagged), ("pending", 2, 2, false));
    let expected = json!([{"user_id": users[0].id, "reason": "spam"}, {"user_id": users[1].id, "reason": ""}]);
    assert_eq!(reasons, expected);
    // A human has looked at it; a new report asks for another look.
    set(&stack, "community_moderationqueue SET status = 'approved' WHERE message_id = $1", message).await;
    assert_eq!(answer(&mut clients[2], report(message, "really")).await, "message_reported");
    let rows = queue(&stack, message).await;
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].0.as_str(), rows[0].1, rows[0].3, rows[0].4), ("pending", 3, 3, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_at_once_from_two_instances_make_one_row() {
    let stack = Stack::start().await;
    let (one, two) = (stack.gateway().start().await, stack.gateway().start().await);
    let room = stack.room(RoomSpec::default()).await;
    let author = stack.user("author").await;
    for message in stack.messages(&room, &author, 5).await {
        let users = stack.users(&format!("reader{message}-"), 4).await;
        let enter =
            |at: usize| if at.is_multiple_of(2) { one.enter(&room, &users[at]) } else { two.enter(&room, &users[at]) };
        let (mut a, mut b, mut c, mut d) = tokio::join!(enter(0), enter(1), enter(2), enter(3));
        let reported = |client| answer(client, report(message, "spam"));
        tokio::join!(reported(&mut a), reported(&mut b), reported(&mut c), reported(&mut d));
        let rows = queue(&stack, message).await;
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].1, rows[0].2.as_array().unwrap().len(), rows[0].3, rows[0].4), (4, 4, 4, true));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_one_reads_can_be_reported() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let (room, elsewhere): (TestRoom, TestRoom) =
        (stack.room(RoomSpec::default()).await, stack.room(RoomSpec::default()).await);
    let (ada, grace, mary) = (stack.user("ada").await, stack.user("grace").await, stack.user("mary").await);
    stack.member(&room, &ada, "muted").await;
    stack.block(&mary, &ada).await;
    let messages = stack.messages(&room, &grace, 3).await;
    set(&stack, "community_message SET is_hidden = true WHERE id = $1", messages[0]).await;
    set(&stack, "community_message SET message_type = 'deleted' WHERE id = $1", messages[1]).await;
    let own = stack.messages(&room, &ada, 1).await[0];
    let of_blocker = stack.messages(&room, &mary, 1).await[0];
    let of_another_room = stack.messages(&elsewhere, &grace, 1).await[0];
    let mut client = gateway.enter(&room, &ada).await;
    for unknown in [messages[0], messages[1], of_blocker, of_another_room, Uuid::new_v4()] {
        assert_eq!(answer(&mut client, report(unknown, "spam")).await, "message_not_found");
    }
    assert_eq!(answer(&mut client, report(own, "spam")).await, "not_allowed");
    assert_eq!(answer(&mut client, report(messages[2], &"ä".repeat(501))).await, "invalid_frame");
    // Who is muted may still say that something is wrong.
    assert_eq!(answer(&mut client, report(messages[2], &"ä".repeat(500))).await, "message_reported");
    let rows: i64 =
        sqlx::query_scalar("SELECT count(*) FROM community_moderationqueue").fetch_one(stack.db()).await.unwrap();
    assert_eq!(rows, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_are_limited_and_repeats_cost_nothing() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().env("GATEWAY_LIMIT_REPORTS_PER_HOUR", 2).start().await;
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let messages = stack.messages(&room, &grace, 3).await;
    let mut client = gateway.enter(&room, &ada).await;
    for _ in 0..3 {
        assert_eq!(answer(&mut client, report(messages[0], "spam")).await, "message_reported");
        assert_eq!(answer(&mut client, report(Uuid::new_v4(), "spam")).await, "message_not_found");
    }
    assert_eq!(answer(&mut client, report(messages[1], "spam")).await, "message_reported");
    client.send(report(messages[2], "spam")).await;
    let refused = client.wait_for("error").await;
    assert_eq!((&refused["code"], &refused["requestType"]), (&json!("rate_limited"), &json!("report_message")));
    let wait = Duration::from_secs_f64(refused["retryAfter"].as_f64().unwrap());
    assert!(wait > Duration::from_secs(3_500) && wait <= Duration::from_secs(3_601), "{wait:?}");
}
