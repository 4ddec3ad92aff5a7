//! What becomes of messages, edits and titles: each verdict of each layer.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::app_stage;
use crate::dm::{conversation, path};
use crate::moderation_stage::{Stage, answer, heard, say, send};
use crate::support::{RoomSpec, TestClient};

fn text(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_fine_is_posted_and_leaves_nothing_else() {
    let stage = Stage::start().await;
    let gateway = stage.gateway().start().await;
    let (mut a, mut b) =
        (gateway.enter(&stage.room, &stage.author).await, gateway.enter(&stage.room, &stage.reader).await);
    assert_eq!(say(&mut a, "good morning").await["event"], "message_ack");
    assert_eq!(heard(&mut b).await, "good morning");
    assert_eq!(stage.stored("good morning").await, Some((false, false, None, None, None, None, None)));
    assert_eq!(stage.api.inputs(), ["good morning"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_flagged_is_posted_and_waits_for_a_human() {
    let stage = Stage::start().await;
    let gateway = stage.gateway().start().await;
    let (mut a, mut b) =
        (gateway.enter(&stage.room, &stage.author).await, gateway.enter(&stage.room, &stage.reader).await);
    let (mut app, ..) = app_stage::open(&stage.stack, &gateway, &stage.author).await;
    for (content, reason, told) in [
        ("that is dubbly", "listed word \"dubbly\"", "listed word \"dubbly\""),
        ("how mean of you", "harassment 0.45 (flagged from 0.30)", "harassment"),
        ("mean and dubbly", "harassment 0.45 (flagged from 0.30); listed word \"dubbly\"", "harassment"),
    ] {
        let ack = say(&mut a, content).await;
        assert_eq!(ack["event"], "message_ack");
        for client in [&mut a, &mut app] {
            let moderation = client.wait_for("moderation").await;
            assert_eq!((&moderation["action"], &moderation["reason"]), (&json!("flagged"), &json!(told)));
            assert_eq!((&moderation["messageId"], &moderation["clientId"]), (&ack["messageId"], &ack["clientId"]));
        }
        assert_eq!(heard(&mut b).await, content);
        let (flagged, hidden, status, by_machine, why, scores, source) = stage.stored(content).await.unwrap();
        assert_eq!((flagged, hidden, text(&status), by_machine, source), (true, false, "pending", Some(true), None));
        assert_eq!(text(&why), reason);
        assert_eq!(scores.unwrap().get("harassment").is_some(), content.contains("mean"));
    }
    b.expect_silence().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_blocked_is_kept_hidden_and_only_its_author_is_told() {
    let stage = Stage::start().await;
    let (one, two) = (stage.gateway().start().await, stage.gateway().start().await);
    let (mut a, mut b) = (one.enter(&stage.room, &stage.author).await, two.enter(&stage.room, &stage.reader).await);
    let (mut app, ..) = app_stage::open(&stage.stack, &two, &stage.author).await;
    for (content, source, told) in
        [("you grobnik", "system", "listed word \"grobnik\""), ("something awful", "ai", "hate")]
    {
        send(&mut a, content, content).await;
        let blocked = answer(&mut a, content).await;
        assert_eq!((&blocked["event"], &blocked["action"]), (&json!("moderation"), &json!("blocked")));
        assert_eq!(blocked["reason"], told);
        assert_eq!(app.wait_for("moderation").await, blocked);
        let (flagged, hidden, status, by_machine, .., by) = stage.stored(content).await.unwrap();
        assert_eq!(
            (flagged, hidden, text(&status), by_machine, text(&by)),
            (true, true, "pending", Some(true), source)
        );
        // The same again: the same answer, here and on another instance, and no second row.
        send(&mut a, content, content).await;
        assert_eq!(answer(&mut a, content).await, blocked);
        let mut tab = two.enter(&stage.room, &stage.author).await;
        send(&mut tab, content, content).await;
        assert_eq!(answer(&mut tab, content).await, blocked);
        // And when the answer itself was lost: from the record.
        let id = format!("community:nonce:{}:{content}", stage.author.id);
        redis::cmd("HDEL").arg(id).arg(&["ack", "until"]).exec_async(&mut stage.stack.redis().await).await.unwrap();
        send(&mut tab, content, content).await;
        assert_eq!(answer(&mut tab, content).await, blocked);
    }
    // No place was taken, nothing counts, nothing is in the state.
    let ack = say(&mut a, "good morning").await;
    assert_eq!((&ack["event"], &ack["offset"]), (&json!("message_ack"), &json!(1)));
    assert_eq!(heard(&mut b).await, "good morning");
    let counted: Vec<i32> = stage
        .sql("SELECT ARRAY[(SELECT message_count FROM community_room), (SELECT sum(messages_sent)::int FROM community_roommembership), (SELECT count(*)::int FROM community_message)]")
        .await;
    assert_eq!(counted, [1, 1, 3]);
    let mut late = one.dial(&stage.room.path()).token(&stage.stack.token(&stage.reader).await).connect().await;
    assert_eq!(late.wait_for("room_state").await["messages"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_message_that_a_human_approves_appears() {
    let stage = Stage::start().await;
    let gateway = stage.gateway().start().await;
    let (mut a, mut b) =
        (gateway.enter(&stage.room, &stage.author).await, gateway.enter(&stage.room, &stage.reader).await);
    let blocked = say(&mut a, "something awful").await;
    let _: i64 = stage
        .sql("WITH u AS (UPDATE community_message SET is_hidden = false RETURNING 1) SELECT count(*) FROM u")
        .await;
    stage.stack.order(json!({"action": "moderation", "message": blocked["messageId"], "decision": "approved"})).await;
    for client in [&mut a, &mut b] {
        let event = client.wait_for("new_message").await;
        assert_eq!((&event["message"]["id"], &event["offset"]), (&blocked["messageId"], &json!(1)));
    }
    assert_eq!(stage.sql::<i32>("SELECT message_count FROM community_room").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_not_stored_and_may_be_mended() {
    let stage = Stage::start().await;
    let gateway = stage.gateway().start().await;
    let mut a = gateway.enter(&stage.room, &stage.author).await;
    let crowd: String = (0..11).map(|n| format!("@guest{n} ")).collect();
    let crowd = crowd.trim();
    send(&mut a, "mine", crowd).await;
    let refused = answer(&mut a, "mine").await;
    assert_eq!((&refused["event"], &refused["code"]), (&json!("error"), &json!("content_refused")));
    assert!(refused["message"].as_str().unwrap().starts_with("This message cannot be posted: "), "{refused}");
    assert_eq!(stage.stored(crowd).await, None);
    send(&mut a, "mine", "this is said to nobody").await;
    assert_eq!(answer(&mut a, "mine").await["event"], "message_ack", "under the same name");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_text_is_taken_twice_a_minute_over_all_rooms_and_instances() {
    let stage = Stage::start().await;
    let (one, two) = (stage.gateway().start().await, stage.gateway().start().await);
    let other = stage.stack.room(RoomSpec::default()).await;
    let (mut a, mut b) = (one.enter(&stage.room, &stage.author).await, two.enter(&other, &stage.author).await);
    let mut reader = two.enter(&other, &stage.reader).await;
    assert_eq!(say(&mut a, "buy my wonderful things").await["event"], "message_ack");
    assert_eq!(say(&mut b, "Buy my  wonderful things").await["event"], "message_ack");
    let refused = say(&mut b, "buy my wonderful things").await;
    assert_eq!(refused["code"], "content_refused");
    let wait = refused["retryAfter"].as_f64().unwrap();
    assert!(wait > 30.0 && wait <= 60.1, "{wait}");
    assert_eq!(say(&mut reader, "buy my wonderful things").await["event"], "message_ack", "another's own");
    for _ in 0..4 {
        assert_eq!(say(&mut a, "yes").await["event"], "message_ack", "people say yes more than once");
    }
}

/// What an edit that is not made is answered.
async fn edit(client: &mut TestClient, message: &Value, content: &str) -> Value {
    client.send(json!({"type": "edit_message", "message_id": message, "content": content})).await;
    client.wait_until("an answer", |event| event["event"] == "moderation" || event["event"] == "error").await
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_are_judged_as_messages_are() {
    let stage = Stage::start().await;
    let gateway = stage.gateway().start().await;
    let (mut a, mut b) =
        (gateway.enter(&stage.room, &stage.author).await, gateway.enter(&stage.room, &stage.reader).await);
    let message = say(&mut a, "good morning").await["messageId"].clone();
    for content in ["you grobnik", "something awful"] {
        let blocked = edit(&mut a, &message, content).await;
        assert_eq!((&blocked["action"], &blocked["messageId"]), (&json!("blocked"), &message));
        assert_eq!(stage.stored(content).await, None, "the old text stays");
    }
    let crowd: String = (0..11).map(|n| format!("@guest{n} ")).collect();
    assert_eq!(edit(&mut a, &message, &crowd).await["code"], "content_refused");
    for (content, reports) in [("how mean", 0), ("so dubbly", 7)] {
        a.send(json!({"type": "edit_message", "message_id": message, "content": content})).await;
        assert_eq!(a.wait_for("moderation").await["action"], "flagged");
        assert_eq!(b.wait_for("message_edited").await["message"]["content"], content);
        let (flagged, hidden, status, by_machine, ..) = stage.stored(content).await.unwrap();
        assert_eq!((flagged, hidden, text(&status), by_machine), (true, false, "pending", Some(true)));
        let rows: Vec<i32> = stage.sql("SELECT array_agg(report_count) FROM community_moderationqueue").await;
        assert_eq!(rows, [reports], "one row, which keeps what was reported");
        let approved = "WITH u AS (UPDATE community_moderationqueue SET status = 'approved', report_count = 7 RETURNING 1) SELECT count(*) FROM u";
        let _: i64 = stage.sql(approved).await;
    }
    b.expect_silence().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn titles_are_judged_and_what_would_wait_for_a_human_is_refused() {
    let stage = Stage::start().await;
    let gateway = stage.gateway().start().await;
    let mut a = gateway.enter(&stage.room, &stage.author).await;
    for title in ["you grobnik", "something awful", "how mean", "so dubbly"] {
        a.send(json!({"type": "create_thread", "title": title})).await;
        let refused = a.wait_for("error").await;
        assert_eq!((&refused["code"], &refused["requestType"]), (&json!("content_refused"), &json!("create_thread")));
    }
    a.send(json!({"type": "create_thread", "title": "Good news"})).await;
    a.wait_for("thread_created").await;
    assert_eq!(stage.sql::<i64>("SELECT count(*) FROM community_thread").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn direct_messages_are_moderated_as_far_as_the_operator_wants() {
    let stage = Stage::start().await;
    let (thread, _) = conversation(&stage.stack, &[&stage.author, &stage.reader]).await;
    for (mode, word, awful, asked) in [
        ("full", "moderation", "moderation", 1),
        ("patterns", "moderation", "message_ack", 0),
        ("off", "message_ack", "message_ack", 0),
    ] {
        let gateway = stage.gateway().env("GATEWAY_MODERATE_DMS", mode).start().await;
        let mut a = gateway.dial(&path(thread)).token(&stage.stack.token(&stage.author).await).connect().await;
        let before = stage.api.requests().len();
        let unique = Uuid::new_v4();
        assert_eq!(say(&mut a, &format!("you grobnik {unique}")).await["event"], word, "{mode}");
        assert_eq!(say(&mut a, &format!("something awful {unique}")).await["event"], awful, "{mode}");
        assert_eq!(stage.api.requests().len() - before, asked, "{mode}");
    }
}
