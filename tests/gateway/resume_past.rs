//! Coming back after longer than the log reaches: from Postgres, at the same offsets, or honestly not at all.

use serde_json::{Value, json};

use super::dm::{conversation, path};
use super::resume_replay::{come_back, enter, place, say, texts, without_limits};
use crate::support::{RoomSpec, Stack, TestClient};

/// Takes from a topic's log all events up to an offset, as its bounds would.
async fn trim(stack: &Stack, topic: &str, upto: u64) {
    let mut trim = redis::cmd("ZREMRANGEBYSCORE");
    trim.arg(format!("community:log:{topic}")).arg("-inf").arg(upto);
    trim.exec_async(&mut stack.redis().await).await.unwrap();
}

async fn run(client: &mut TestClient, frame: Value, answer: &str) -> Value {
    client.send(frame).await;
    client.wait_for(answer).await
}

fn offsets(events: &Value) -> Vec<u64> {
    events.as_array().unwrap().iter().map(|event| event["offset"].as_u64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_has_no_more_comes_from_postgres_and_the_rest_from_the_log() {
    let stack = Stack::start().await;
    let (one, two) = (without_limits(&stack).start().await, without_limits(&stack).start().await);
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let (mut g, epoch, first) = enter(&one, &stack, &room, &grace).await;
    let ids: Vec<Value> = {
        let mut ids = Vec::new();
        for number in 1..=5 {
            ids.push(say(&mut g, &format!("message {number}")).await["message"]["id"].clone());
        }
        ids
    };
    for emoji in ["👍", "🎉"] {
        let react = json!({"type": "add_reaction", "message_id": ids[0], "emoji": emoji});
        run(&mut g, react, "reaction_updated").await; // first + 6, first + 7
    }
    let edit = json!({"type": "edit_message", "message_id": ids[1], "content": "edited"});
    run(&mut g, edit, "message_edited").await; // first + 8
    run(&mut g, json!({"type": "delete_message", "message_id": ids[2]}), "message_deleted").await; // first + 9
    let logged = say(&mut g, "in the log").await; // first + 10
    trim(&stack, &format!("room:{}", room.id), first + 9).await;

    let (mut a, resumed) = come_back(&two, &stack, &room.path(), &ada, (&epoch, first)).await;
    assert_eq!((&resumed["recovered"], &resumed["retold"]), (&json!(true), &json!(true)));
    let events = &resumed["events"];
    // The two reactions to one message are one change, at the place of the second.
    assert_eq!(offsets(events), [1, 2, 3, 4, 5, 7, 8, 9, 10].map(|n| first + n));
    let news = [events[0]["message"].clone(), events[1]["message"].clone()];
    assert_eq!((&news[0]["content"], &news[1]["content"]), (&json!("message 1"), &json!("edited")), "as they are now");
    assert_eq!(
        (&events[2]["message"]["messageType"], &events[5]["event"]),
        (&json!("deleted"), &json!("message_edited"))
    );
    assert_eq!(events[5]["message"]["reactionCounts"], json!({"👍": 1, "🎉": 1}));
    assert_eq!(events[8], logged, "what the log has comes from there");
    assert_eq!(place(&resumed), (epoch.clone(), first + 10));
    let next = say(&mut g, "live").await;
    assert_eq!(a.wait_for("new_message").await, next);
    assert_eq!(two.metric("community_gateway_resumes_total", &[("outcome", "retold")]).await, 1.0);

    // In the middle, and with nothing of the log left.
    redis::cmd("DEL")
        .arg(format!("community:log:room:{}", room.id))
        .exec_async(&mut stack.redis().await)
        .await
        .unwrap();
    let (_a, resumed) = come_back(&one, &stack, &room.path(), &ada, (&epoch, first + 3)).await;
    assert_eq!(offsets(&resumed["events"]), [4, 5, 7, 8, 9, 10, 11].map(|n| first + n));
    assert_eq!(
        texts(&resumed["events"]),
        ["message 4", "message 5", "message 1", "edited", "[Message deleted]", "in the log", "live"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_pages_of_the_past_come_in_order_and_once() {
    const MESSAGES: u64 = 300;
    let stack = Stack::start().await;
    let gateway = without_limits(&stack).start().await;
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let (mut g, epoch, first) = enter(&gateway, &stack, &room, &grace).await;
    for number in 0..MESSAGES {
        g.send(json!({"type": "send_message", "content": format!("{number}"), "client_id": number.to_string()})).await;
        g.wait_for("message_ack").await;
    }
    trim(&stack, &format!("room:{}", room.id), first + MESSAGES - 40).await;
    let (mut a, mut resumed) = come_back(&gateway, &stack, &room.path(), &ada, (&epoch, first + 5)).await;
    let (mut seen, mut said) = (Vec::new(), Vec::new());
    loop {
        seen.extend(offsets(&resumed["events"]));
        said.extend(texts(&resumed["events"]).into_iter().map(str::to_owned));
        if resumed["hasMore"] == false {
            break;
        }
        resumed = a.expect_event("resumed").await;
    }
    assert_eq!(seen, (first + 6..=first + MESSAGES).collect::<Vec<_>>());
    assert_eq!(said, (5..MESSAGES).map(|number| number.to_string()).collect::<Vec<_>>());
    let next = say(&mut g, "live").await;
    assert_eq!(a.wait_for("new_message").await, next);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_postgres_cannot_tell_whole_is_not_told_in_halves() {
    let stack = Stack::start().await;
    let gateway = without_limits(&stack).start().await;
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let (mut g, epoch, first) = enter(&gateway, &stack, &room, &grace).await;
    say(&mut g, "before").await;
    run(&mut g, json!({"type": "create_thread", "title": "t"}), "thread_created").await;
    say(&mut g, "after").await;
    trim(&stack, &format!("room:{}", room.id), first + 3).await;
    let lost = |offset: u64, reason: &'static str| {
        let (gateway, stack, ada, epoch, path) = (&gateway, &stack, &ada, epoch.clone(), room.path());
        async move {
            let (mut a, resumed) = come_back(gateway, stack, &path, ada, (&epoch, offset)).await;
            assert_eq!((&resumed["recovered"], &resumed["reason"]), (&json!(false), &json!(reason)));
            assert_eq!(resumed["events"], json!([]));
            let state = a.expect_event("room_state").await;
            assert_eq!(place(&resumed), place(&state));
            assert_eq!(state["messages"].as_array().unwrap().len(), 2);
        }
    };
    lost(first, "too_old").await; // a thread was begun among it
    lost(first + 9, "epoch").await;
    let (_a, resumed) = come_back(&gateway, &stack, &room.path(), &ada, (&epoch, first + 2)).await;
    assert_eq!((&resumed["recovered"], texts(&resumed["events"])), (&json!(true), vec!["after"]));
    // As if thousands had been said since.
    let position = format!("community:position:room:{}", room.id);
    for field in ["offset", "published"] {
        let mut raise = redis::cmd("HINCRBY");
        raise.arg(&position).arg(field).arg(5_001).exec_async(&mut stack.redis().await).await.unwrap();
    }
    lost(first, "too_much").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_away_beyond_the_state_pages_back_to_what_it_had() {
    const MISSED: usize = 120;
    let stack = Stack::start().await;
    let gateway = without_limits(&stack).start().await;
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let (mut g, epoch, _) = enter(&gateway, &stack, &room, &grace).await;
    let known = say(&mut g, "known").await;
    let offset = known["offset"].as_u64().unwrap();
    for number in 0..MISSED {
        if number == MISSED / 2 {
            // The log begins another life, as after an outage of Redis.
            let position = format!("community:position:room:{}", room.id);
            redis::cmd("DEL").arg(position).exec_async(&mut stack.redis().await).await.unwrap();
        }
        g.send(json!({"type": "send_message", "content": format!("{number}"), "client_id": number.to_string()})).await;
        g.wait_for("message_ack").await;
    }
    let (mut a, resumed) = come_back(&gateway, &stack, &room.path(), &ada, (&epoch, offset)).await;
    assert_eq!((&resumed["recovered"], &resumed["reason"]), (&json!(false), &json!("epoch")));
    let mut page = a.expect_event("room_state").await;
    let mut pages = Vec::new();
    loop {
        pages.push(page["messages"].clone());
        let shown = page["messages"].as_array().unwrap();
        if shown.iter().any(|message| message["id"] == known["message"]["id"]) {
            break;
        }
        assert_eq!(page["hasMore"], true, "the client is told that there is more");
        let cursor = page["cursor"].clone();
        assert_eq!(cursor, page["messages"][0]["id"]);
        a.send(json!({"type": "request_history", "cursor": cursor})).await;
        let is_page = |event: &Value| event["event"] == "message_history" && event["messages"] != json!([]);
        page = a.wait_until("a page", is_page).await;
    }
    let all: Vec<_> = pages.iter().rev().flat_map(|page| page.as_array().unwrap()).collect();
    let said: Vec<_> = all.iter().map(|message| message["content"].as_str().unwrap().to_owned()).collect();
    let missed = (0..MISSED).map(|number| number.to_string());
    assert_eq!(said, ["known".to_owned()].into_iter().chain(missed).collect::<Vec<_>>());
    let next = say(&mut g, "live").await;
    a.wait_until("what comes live after that", |event| *event == next).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conversations_and_threads_have_a_past_too_and_nobody_sees_more_of_it() {
    let stack = Stack::start().await;
    let (one, two) = (without_limits(&stack).start().await, without_limits(&stack).start().await);
    let (ada, grace, eve) = (stack.user("ada").await, stack.user("grace").await, stack.user("eve").await);
    let (dm, _) = conversation(&stack, &[&ada, &grace]).await;
    let mut a = one.dial(&path(dm)).jwt(&stack.jwt(&ada)).connect().await;
    let (epoch, offset) = place(&a.expect_event("dm_state").await);
    drop(a);
    let mut g = two.dial(&path(dm)).jwt(&stack.jwt(&grace)).connect().await;
    say(&mut g, "are you there?").await;
    trim(&stack, &format!("dm:{dm}"), offset + 1).await;
    let (_a, resumed) = come_back(&one, &stack, &path(dm), &ada, (&epoch, offset)).await;
    assert_eq!((&resumed["retold"], texts(&resumed["events"])), (&json!(true), vec!["are you there?"]));

    let room = stack.room(RoomSpec::default()).await;
    stack.block(&ada, &eve).await;
    let (mut g, ..) = enter(&two, &stack, &room, &grace).await;
    let thread =
        run(&mut g, json!({"type": "create_thread", "title": "t"}), "thread_created").await["thread"]["id"].clone();
    let (mut a, room_epoch, room_offset) = enter(&one, &stack, &room, &ada).await;
    let state = run(&mut a, json!({"type": "open_thread", "thread_id": thread}), "thread_state").await;
    let (epoch, offset) = place(&state);
    drop(a);
    let (mut e, ..) = enter(&two, &stack, &room, &eve).await;
    let of_eve = say(&mut e, "of eve").await;
    let answer = json!({"type": "send_message", "content": "to eve", "reply_to_id": of_eve["message"]["id"]});
    g.send(answer).await;
    g.wait_until("the answer", |event| event["message"]["content"] == "to eve").await;
    run(&mut g, json!({"type": "open_thread", "thread_id": thread}), "thread_state").await;
    let inside = json!({"type": "send_message", "content": "inside", "thread_id": thread});
    g.send(inside).await;
    g.wait_until("the message inside", |event| event["message"]["content"] == "inside").await;
    let topic = format!("thread:{}", thread.as_str().unwrap());
    trim(&stack, &topic, offset + 1).await;
    trim(&stack, &format!("room:{}", room.id), room_offset + 2).await;

    let since = (room_epoch.as_str(), room_offset);
    let (mut a, resumed) = come_back(&one, &stack, &room.path(), &ada, since).await;
    assert_eq!((&resumed["retold"], texts(&resumed["events"])), (&json!(true), vec!["to eve"]));
    assert_eq!(resumed["events"][0]["message"]["replyTo"], Value::Null);
    assert_eq!(place(&resumed).1, room_offset + 2);
    a.send(json!({"type": "open_thread", "thread_id": thread, "epoch": epoch, "offset": offset})).await;
    let resumed = a.wait_for("resumed").await;
    assert_eq!((&resumed["threadId"], &resumed["retold"]), (&thread, &json!(true)));
    assert_eq!(texts(&resumed["events"]), ["inside"]);
}
