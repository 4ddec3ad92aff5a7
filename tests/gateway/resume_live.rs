//! What an instance missed while its clients were connected: brought in order, or a fresh state, on the socket they have.

use serde_json::{Value, json};

use super::dm::{conversation, path};
use super::resume_replay::{enter, place, say, texts, without_limits};
use crate::support::{ChaosProxy, RoomSpec, Stack, TestClient, TestGateway, TestRoom, TestUser};

/// Grace on an instance that always hears, Ada on one whose line to Redis can be cut.
struct Line {
    stack: Stack,
    proxy: ChaosProxy,
    one: TestGateway,
    two: TestGateway,
    room: TestRoom,
    ada: TestUser,
    grace: TestUser,
}

async fn line() -> Line {
    let stack = Stack::start().await;
    let proxy = ChaosProxy::before(stack.redis_server().address()).await;
    let one = without_limits(&stack).start().await;
    let two = without_limits(&stack).env("GATEWAY_REDIS_URL", format!("redis://{}/3", proxy.address)).start().await;
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    Line { stack, proxy, one, two, room, ada, grace }
}

impl Line {
    async fn forget_log(&self, topic: &str) {
        let forget = redis::cmd("DEL").arg(format!("community:log:{topic}")).clone();
        forget.exec_async(&mut self.stack.redis().await).await.unwrap();
    }
}

/// What a client is sent from now on, up to a message.
async fn until(client: &mut TestClient, text: &str) -> Vec<Value> {
    let before = client.seen().len();
    client.wait_until(text, |event| event["message"]["content"] == text).await;
    client.seen()[before..].iter().map(|event| serde_json::from_str(event).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_longer_than_the_log_is_filled_from_postgres_and_nobody_is_closed() {
    let line = line().await;
    let (mut g, ..) = enter(&line.one, &line.stack, &line.room, &line.grace).await;
    let (mut a, _, _) = enter(&line.two, &line.stack, &line.room, &line.ada).await;
    let known = say(&mut g, "before").await["offset"].as_u64().unwrap();
    until(&mut a, "before").await;
    line.proxy.cut();
    let mut missed = Vec::new();
    for number in 0..20 {
        missed.push(say(&mut g, &format!("missed {number}")).await);
    }
    let react = json!({"type": "add_reaction", "message_id": missed[0]["message"]["id"], "emoji": "👍"});
    g.send(react).await;
    g.wait_for("reaction_updated").await;
    line.forget_log(&format!("room:{}", line.room.id)).await;
    line.proxy.heal();
    say(&mut g, "after").await;
    let events = until(&mut a, "after").await;
    let events: Vec<_> = events.iter().filter(|event| event["offset"].is_u64()).collect();
    let offsets: Vec<_> = events.iter().map(|event| event["offset"].as_u64().unwrap()).collect();
    assert_eq!(offsets, (known + 1..=known + 22).collect::<Vec<_>>(), "each once, in order");
    assert_eq!(events[3]["message"]["content"], "missed 3");
    assert_eq!(events[20]["message"]["reactionCounts"], json!({"👍": 1}), "a change, as the message is now");
    line.two.wait_for_log("a gap was filled from Postgres").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_that_nobody_can_fill_is_a_fresh_state_on_the_open_socket() {
    let line = line().await;
    let (dm, _) = conversation(&line.stack, &[&line.ada, &line.grace]).await;
    let (mut g, ..) = enter(&line.one, &line.stack, &line.room, &line.grace).await;
    g.send(json!({"type": "create_thread", "title": "t"})).await;
    let thread = g.wait_for("thread_created").await["thread"]["id"].clone();
    let thread_topic = format!("thread:{}", thread.as_str().unwrap());
    let (mut a, ..) = enter(&line.two, &line.stack, &line.room, &line.ada).await;
    let mut g_dm = line.one.dial(&path(dm)).jwt(&line.stack.jwt(&line.grace)).connect().await;
    let mut a_dm = line.two.dial(&path(dm)).jwt(&line.stack.jwt(&line.ada)).connect().await;
    for client in [&mut g_dm, &mut a_dm] {
        client.expect_event("dm_state").await;
    }
    for client in [&mut a, &mut g] {
        client.send(json!({"type": "open_thread", "thread_id": thread})).await;
        client.wait_for("thread_state").await;
    }
    let inside = |text: &str| json!({"type": "send_message", "content": text, "thread_id": thread});
    g.send(inside("before")).await;
    until(&mut a, "before").await;
    say(&mut g_dm, "before").await;
    until(&mut a_dm, "before").await;

    line.proxy.cut();
    say(&mut g, "missed").await;
    g.send(inside("missed inside")).await;
    g.wait_until("missed inside", |event| event["message"]["content"] == "missed inside").await;
    say(&mut g_dm, "missed in private").await;
    // Neither the log nor the notes of what was in it.
    for topic in [format!("room:{}", line.room.id), thread_topic, format!("dm:{dm}")] {
        line.forget_log(&topic).await;
        let forget = redis::cmd("DEL").arg(format!("community:index:{topic}")).clone();
        forget.exec_async(&mut line.stack.redis().await).await.unwrap();
    }
    line.proxy.heal();

    let (mut resumed, mut states) = (Vec::new(), Vec::new());
    while states.len() < 2 {
        let event = a.wait_until("a state", |event| {
            ["resumed", "room_state", "thread_state"].iter().any(|name| event["event"] == *name)
        });
        match event.await {
            event if event["event"] == "resumed" => resumed.push(event),
            event => states.push(event),
        }
    }
    for event in &resumed {
        assert_eq!((&event["recovered"], &event["reason"]), (&json!(false), &json!("gap")));
    }
    let state = |name: &str| states.iter().find(|state| state["event"] == name).unwrap();
    let contents = |state: &Value| {
        state["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| m["content"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(contents(state("room_state")), ["missed"]);
    assert_eq!(contents(state("thread_state")), ["before", "missed inside"]);
    assert_eq!(state("room_state")["onlineCount"], 2);
    let of_dm = a_dm.wait_for("resumed").await;
    let state_of_dm = a_dm.expect_event("dm_state").await;
    assert_eq!(contents(&state_of_dm), ["before", "missed in private"]);
    assert_eq!(place(&of_dm), place(&state_of_dm));

    // They stay, and go on from there.
    let next = say(&mut g, "after").await;
    let events = until(&mut a, "after").await;
    assert_eq!(events.last(), Some(&next));
    g.send(inside("after inside")).await;
    until(&mut a, "after inside").await;
    say(&mut g_dm, "after").await;
    until(&mut a_dm, "after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_log_that_was_lost_unheard_is_in_a_fresh_state() {
    let line = line().await;
    let (mut g, ..) = enter(&line.one, &line.stack, &line.room, &line.grace).await;
    let (mut a, epoch, _) = enter(&line.two, &line.stack, &line.room, &line.ada).await;
    say(&mut g, "before").await;
    until(&mut a, "before").await;
    line.proxy.cut();
    say(&mut g, "missed").await;
    redis::cmd("FLUSHALL").exec_async(&mut line.stack.redis().await).await.unwrap();
    line.proxy.heal();
    let resumed = a.wait_for("resumed").await;
    assert_eq!(resumed["recovered"], false);
    let state = a.expect_event("room_state").await;
    assert_ne!(state["epoch"], epoch);
    let missed = json!([{"message": state["messages"][0]}, {"message": state["messages"][1]}]);
    assert_eq!(texts(&missed), ["before", "missed"]);
    say(&mut g, "after").await;
    until(&mut a, "after").await;
    let mine = g.seen().iter().filter(|event| event.contains("\"resumed\"")).count();
    assert_eq!(mine, 0, "who missed nothing is told nothing");
}
