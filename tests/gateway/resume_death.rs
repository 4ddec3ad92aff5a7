//! An instance dies between the commit and the publish: what it had committed is told by the others, at its place, once.
//!
//! Redis gives the offset and refuses the log, by its own rules on commands, so that the instance stands exactly there.

use community_gateway::bus::Note;
use community_gateway::domain::MessageId;
use serde_json::{Value, json};

use super::dm::{conversation, path};
use super::resume_replay::{enter, place, say, texts, without_limits};
use crate::channels_stage::{Django, topic};
use crate::support::{RoomSpec, Stack, eventually};

/// Lets logs be written or not: no other script of a room's asks whether a key exists.
async fn logs(stack: &Stack, rule: &str) {
    let mut set = redis::cmd("ACL");
    set.arg("SETUSER").arg("default").arg(rule);
    set.exec_async(&mut stack.redis().await).await.unwrap();
}

async fn rows(stack: &Stack, content: &str) -> i64 {
    let count = "SELECT count(*) FROM community_message WHERE content = $1";
    sqlx::query_scalar(count).bind(content).fetch_one(stack.db()).await.unwrap()
}

fn message(content: &str) -> Value {
    json!({"type": "send_message", "content": content, "client_id": content})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_instance_had_committed_is_told_at_its_place_and_acknowledged_elsewhere() {
    let stack = Stack::start().await;
    let (mut one, two) = (without_limits(&stack).start().await, without_limits(&stack).start().await);
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let mut django = Django::at(&stack.redis_server().url(3)).await;
    django.join(topic(&room)).await;
    let (mut g, ..) = enter(&two, &stack, &room, &grace).await;
    let (mut a, epoch, _) = enter(&one, &stack, &room, &ada).await;
    let known = say(&mut a, "before").await["offset"].as_u64().unwrap();
    g.wait_for("new_message").await;
    // Django's consumer has it too before Redis refuses what telling it takes.
    let mut heard = Vec::new();
    while !heard.contains(&json!("before")) {
        heard.extend(django.next(1).await.into_iter().map(|event| event["message"]["content"].clone()));
    }

    logs(&stack, "-exists").await;
    a.send(message("orphan")).await;
    eventually("it is committed", || async { rows(&stack, "orphan").await == 1 }).await;
    one.kill9().await;
    drop(a);
    logs(&stack, "+exists").await;

    // Nobody says anything else: it is found all the same.
    let told = g.wait_until("the orphan", |event| event["message"]["content"] == "orphan").await;
    assert_eq!((&told["event"], &told["offset"]), (&json!("new_message"), &json!(known + 1)));
    let dial = two.dial(&room.path()).jwt(&stack.jwt(&ada)).query("epoch", &epoch);
    let mut a = dial.query("offset", &known.to_string()).connect().await;
    let resumed = a.expect_event("resumed").await;
    assert_eq!((&resumed["recovered"], texts(&resumed["events"])), (&json!(true), vec!["orphan"]));
    assert_eq!(place(&resumed), (epoch, known + 1));

    // Sent again under its name: the same message, one row, no second event.
    let ack = loop {
        a.send(message("orphan")).await;
        let answer = a.wait_until("an answer", |event| event["clientId"] == "orphan").await;
        if answer["event"] == "message_ack" {
            break answer;
        }
    };
    assert_eq!((&ack["messageId"], &ack["offset"]), (&told["message"]["id"], &json!(known + 1)));
    assert_eq!(rows(&stack, "orphan").await, 1);
    let next = say(&mut a, "after").await;
    assert_eq!(next["offset"], known + 2);
    assert_eq!(g.expect_event("new_message").await, next, "and nothing between");
    assert_eq!(two.metric("community_gateway_bus_gap_events_total", &[("source", "postgres")]).await, 1.0);

    // A consumer of Django's hears it too, once.
    while !heard.contains(&json!("after")) {
        heard.extend(django.next(1).await.into_iter().map(|event| event["message"]["content"].clone()));
    }
    heard.retain(|text| text.is_string());
    assert_eq!(heard, ["before", "orphan", "after"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_teller_was_killed_is_told_as_the_message_is_now_and_what_was_not_committed_is_void() {
    let stack = Stack::start().await;
    let (mut one, two) = (without_limits(&stack).start().await, without_limits(&stack).start().await);
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let (mut g, ..) = enter(&two, &stack, &room, &grace).await;
    let (mut a, ..) = enter(&one, &stack, &room, &ada).await;
    let known = say(&mut a, "before").await;
    g.wait_for("new_message").await;

    logs(&stack, "-exists").await;
    let edit = json!({"type": "edit_message", "message_id": known["message"]["id"], "content": "edited"});
    a.send(edit).await;
    eventually("it is committed", || async { rows(&stack, "edited").await == 1 }).await;
    one.kill9().await;
    // A place that somebody took for a message and never committed, as if it had died a moment earlier.
    let position = format!("community:position:room:{}", room.id);
    let taken: u64 =
        redis::cmd("HINCRBY").arg(&position).arg("offset").arg(1).query_async(&mut stack.redis().await).await.unwrap();
    let note = Note::New(MessageId(uuid::Uuid::now_v7())).record();
    let key = format!("community:taken:room:{}", room.id);
    redis::cmd("HSET").arg(key).arg(taken).arg(&note[..]).exec_async(&mut stack.redis().await).await.unwrap();
    logs(&stack, "+exists").await;

    // What comes now waits for both, and order is kept.
    g.send(message("behind")).await;
    let events = g.events_until("new_message").await;
    let edited = events.iter().find(|event| event["event"] == "message_edited").expect("the change is told");
    assert_eq!((&edited["message"]["content"], &edited["offset"]), (&json!("edited"), &json!(taken - 1)));
    let behind = events.last().unwrap();
    assert_eq!((&behind["message"]["content"], &behind["offset"]), (&json!("behind"), &json!(taken + 1)));
    two.wait_for_log("an offset was never committed: declaring it void").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_conversations_and_threads_too_what_is_sent_again_elsewhere_is_one_message_and_one_event() {
    let stack = Stack::start().await;
    let (mut one, two) = (without_limits(&stack).start().await, without_limits(&stack).start().await);
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let (dm, _) = conversation(&stack, &[&ada, &grace]).await;
    let (mut g, ..) = enter(&two, &stack, &room, &grace).await;
    g.send(json!({"type": "create_thread", "title": "t"})).await;
    let thread = g.wait_for("thread_created").await["thread"]["id"].clone();
    let open = json!({"type": "open_thread", "thread_id": thread});
    let inside = json!({"type": "send_message", "content": "in the thread", "client_id": "1", "thread_id": thread});
    let private = message("in private");
    let (mut a, ..) = enter(&one, &stack, &room, &ada).await;
    for client in [&mut g, &mut a] {
        client.send(open.clone()).await;
        client.wait_for("thread_state").await;
    }
    let mut g_dm = two.dial(&path(dm)).jwt(&stack.jwt(&grace)).connect().await;
    let mut a_dm = one.dial(&path(dm)).jwt(&stack.jwt(&ada)).connect().await;
    for client in [&mut g_dm, &mut a_dm] {
        client.expect_event("dm_state").await;
    }

    logs(&stack, "-exists").await;
    a.send(inside.clone()).await;
    a_dm.send(private.clone()).await;
    for text in ["in the thread", "in private"] {
        eventually("it is committed", || async { rows(&stack, text).await == 1 }).await;
    }
    one.kill9().await;
    logs(&stack, "+exists").await;

    // Nobody was told that it worked: both send again, at once, on the other instance.
    let (mut a, ..) = enter(&two, &stack, &room, &ada).await;
    let mut a_dm = two.dial(&path(dm)).jwt(&stack.jwt(&ada)).connect().await;
    for (client, frame, listener) in [(&mut a, inside, &mut g), (&mut a_dm, private, &mut g_dm)] {
        let (name, text) = (frame["client_id"].clone(), frame["content"].as_str().unwrap().to_owned());
        let ack = loop {
            client.send(frame.clone()).await;
            let answer = client.wait_until("an answer", |event| event["clientId"] == name).await;
            if answer["event"] == "message_ack" {
                break answer;
            }
        };
        let content = format!("\"content\":\"{text}\"");
        let told = |event: &str| event.contains("\"new_message\"") && event.contains(&content);
        if !listener.seen().iter().any(|event| told(event)) {
            listener.wait_until(&text, |event| event["message"]["content"] == text).await;
        }
        let id = ack["messageId"].as_str().unwrap();
        // One more, behind which nothing of the first can come.
        let mut after = frame.clone();
        (after["content"], after["client_id"]) = (json!("after"), json!(format!("after {text}")));
        client.send(after).await;
        listener.wait_until("after", |event| event["message"]["content"] == "after").await;
        let events: Vec<_> = listener.seen().iter().filter(|event| told(event)).collect();
        assert_eq!((events.len(), rows(&stack, &text).await), (1, 1), "{events:?}");
        assert!(events[0].contains(id));
    }
}
