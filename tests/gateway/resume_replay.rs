//! Coming back: exactly what was missed, in order, once, and then what comes, without a gap or a repeat between the two.

use serde_json::{Value, json};
use uuid::Uuid;

use super::dm::{conversation, path};
use crate::support::{GatewayBuilder, RoomSpec, Stack, TestClient, TestGateway, TestRoom, TestUser};

pub fn without_limits(stack: &Stack) -> GatewayBuilder {
    let limits = ["MESSAGES_PER_MINUTE", "MESSAGES_PER_HOUR", "FRAMES_PER_SECOND", "CONNECTS_PER_MINUTE"];
    limits.iter().fold(stack.gateway(), |gateway, limit| gateway.env(&format!("GATEWAY_LIMIT_{limit}"), 0))
}

/// The place that a state, or what was missed, leaves a client at.
pub fn place(event: &Value) -> (String, u64) {
    (event["epoch"].as_str().unwrap().to_owned(), event["offset"].as_u64().unwrap())
}

/// Enters, and says at which place.
pub async fn enter(
    gateway: &TestGateway,
    stack: &Stack,
    room: &TestRoom,
    user: &TestUser,
) -> (TestClient, String, u64) {
    let mut client = gateway.dial(&room.path()).jwt(&stack.jwt(user)).connect().await;
    let (epoch, offset) = place(&client.expect_event("room_state").await);
    (client, epoch, offset)
}

/// Comes back with a place, and returns what comes first.
pub async fn come_back(
    gateway: &TestGateway,
    stack: &Stack,
    path: &str,
    user: &TestUser,
    since: (&str, u64),
) -> (TestClient, Value) {
    let dial = gateway.dial(path).jwt(&stack.jwt(user)).query("epoch", since.0);
    let mut client = dial.query("offset", &since.1.to_string()).connect().await;
    let resumed = client.expect_event("resumed").await;
    (client, resumed)
}

/// Sends a text and waits until it is told; returns its event.
pub async fn say(client: &mut TestClient, text: &str) -> Value {
    client.send(json!({"type": "send_message", "content": text})).await;
    client.wait_until(text, |event| event["event"] == "new_message" && event["message"]["content"] == text).await
}

pub fn texts(events: &Value) -> Vec<&str> {
    events.as_array().unwrap().iter().filter_map(|event| event["message"]["content"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn on_the_other_instance_one_gets_exactly_what_one_missed_and_then_what_comes() {
    let stack = Stack::start().await;
    let (one, two) = (without_limits(&stack).start().await, without_limits(&stack).start().await);
    let (room, ada, grace) =
        (stack.room(RoomSpec::default()).await, stack.user("ada").await, stack.user("grace").await);
    let (mut g, ..) = enter(&one, &stack, &room, &grace).await;
    let (mut a, epoch, _) = enter(&one, &stack, &room, &ada).await;
    let before = say(&mut g, "before").await;
    let known = a.wait_for("new_message").await["offset"].as_u64().unwrap();
    drop(a);
    let mut missed = vec![say(&mut g, "first").await];
    let id = before["message"]["id"].clone();
    g.send(json!({"type": "add_reaction", "message_id": id, "emoji": "👍"})).await;
    missed.push(g.wait_for("reaction_updated").await);
    g.send(json!({"type": "edit_message", "message_id": id, "content": "edited"})).await;
    missed.push(g.wait_for("message_edited").await);
    missed.push(say(&mut g, "last").await);

    let (mut a, resumed) = come_back(&two, &stack, &room.path(), &ada, (&epoch, known)).await;
    assert_eq!((&resumed["recovered"], &resumed["hasMore"]), (&json!(true), &json!(false)));
    assert_eq!(resumed["events"], json!(missed), "the events themselves, whole");
    assert_eq!(place(&resumed), (epoch.clone(), known + 4));
    assert_eq!(resumed["onlineCount"], 2);
    assert_eq!(resumed["onlineUsers"].as_array().unwrap().len(), 2);
    let next = say(&mut g, "live").await;
    assert_eq!(a.expect_event("new_message").await, next);
    assert_eq!(next["offset"], known + 5);
    drop(a);

    // Nothing missed: nothing but the word.
    let (mut a, resumed) = come_back(&two, &stack, &room.path(), &ada, (&epoch, known + 5)).await;
    assert_eq!((&resumed["recovered"], &resumed["events"]), (&json!(true), &json!([])));
    a.expect_silence().await;
    assert_eq!(two.metric("community_gateway_resumes_total", &[("outcome", "recovered")]).await, 2.0);
    assert_eq!(two.metric("community_gateway_resumed_events_total", &[]).await, 4.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_and_goes_in_a_busy_room_sees_every_offset_once() {
    const MESSAGES: u64 = 240;
    let stack = Stack::start().await;
    let (one, two) = (without_limits(&stack).start().await, without_limits(&stack).start().await);
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let (mut g, epoch, first) = enter(&one, &stack, &room, &grace).await;
    let talking = async {
        for number in 0..MESSAGES {
            g.send(json!({"type": "send_message", "content": "x", "client_id": number.to_string()})).await;
            if number % 4 == 0 {
                g.wait_for("message_ack").await;
            }
        }
    };
    let coming_and_going = async {
        let (mut known, mut turn) = (first, 0);
        let mut seen = Vec::new();
        while known < first + MESSAGES {
            turn += 1;
            let gateway = [&one, &two][turn % 2];
            let (mut a, resumed) = come_back(gateway, &stack, &room.path(), &ada, (&epoch, known)).await;
            assert_eq!(resumed["recovered"], true);
            let mut events = resumed["events"].as_array().unwrap().clone();
            // Some of what comes live as well, and away again, without a goodbye.
            for _ in 0..turn % 3 {
                if known + (events.len() as u64) < first + MESSAGES {
                    events.push(a.wait_for("new_message").await);
                }
            }
            seen.extend(events.iter().map(|event| event["offset"].as_u64().unwrap()));
            known = seen.last().copied().unwrap_or(known);
        }
        seen
    };
    let (_, seen) = tokio::join!(talking, coming_and_going);
    assert_eq!(seen, (first + 1..=first + MESSAGES).collect::<Vec<_>>());
}

/// Nothing that moderation would mind, however often it comes.
const TEXT: &str = "When the harbour woke, the fishermen had long been out, and only the gulls kept order on the quay. \
    An old woman mended a net by the lamp, counting knots under her breath as others count days. The ferry came late, as \
    it did in autumn, with two crates of apples, a bicycle and a letter for the teacher, who had not expected one. Nobody \
    asked what it said. By noon the fog had lifted, and from the hill one could see three islands and a thin white sail.";

#[tokio::test(flavor = "multi_thread")]
async fn much_comes_in_pieces_that_are_whole_each() {
    let stack = Stack::start().await;
    let gateway = without_limits(&stack).env("GATEWAY_OUTBOX_BYTES", 65_536).start().await;
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let (mut g, epoch, first) = enter(&gateway, &stack, &room, &grace).await;
    for number in 0..150 {
        let text = format!("{number} {TEXT}");
        g.send(json!({"type": "send_message", "content": text, "client_id": number.to_string()})).await;
        g.wait_for("message_ack").await;
    }
    let (mut a, mut resumed) = come_back(&gateway, &stack, &room.path(), &ada, (&epoch, first)).await;
    let (mut pieces, mut seen) = (1, Vec::new());
    loop {
        let events = resumed["events"].as_array().unwrap();
        seen.extend(events.iter().map(|event| event["offset"].as_u64().unwrap()));
        assert_eq!(resumed["offset"].as_u64(), seen.last().copied(), "each piece says how far it goes");
        if resumed["hasMore"] == false {
            break;
        }
        assert!(resumed["onlineCount"].is_null());
        resumed = a.expect_event("resumed").await;
        pieces += 1;
    }
    assert_eq!(seen, (first + 1..=first + 150).collect::<Vec<_>>());
    assert!(pieces > 3, "{pieces}");
    assert_eq!(resumed["onlineCount"], 2);
    assert_eq!(a.expect_event("user_joined").await["userId"], ada.id.to_string());
    a.expect_silence().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_told_whole_is_a_state_and_says_so() {
    let stack = Stack::start().await;
    let gateway = without_limits(&stack).start().await;
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let (mut g, epoch, first) = enter(&gateway, &stack, &room, &grace).await;
    for number in 0..6 {
        say(&mut g, &format!("message {number}")).await;
    }
    // A change among what the log has no more: it is in no table.
    g.send(json!({"type": "pin_message", "message_id": Uuid::new_v4()})).await;
    let lost = |epoch: &str, offset: u64| {
        let (epoch, path) = (epoch.to_owned(), room.path());
        let (gateway, stack, ada) = (&gateway, &stack, &ada);
        async move {
            let (mut a, resumed) = come_back(gateway, stack, &path, ada, (&epoch, offset)).await;
            assert_eq!((&resumed["recovered"], &resumed["events"]), (&json!(false), &json!([])));
            let state = a.expect_event("room_state").await;
            assert_eq!(place(&resumed), place(&state));
            assert!(state["messages"].as_array().unwrap().len() >= 6);
            (a, state)
        }
    };
    lost(&epoch, first + 7).await; // further than the log has ever been
    lost("1", first).await; // of another life of the log
    let (mut a, _) = lost("1", 0).await;
    let next = say(&mut g, "live").await;
    assert_eq!(a.wait_for("new_message").await, next);

    // Redis came back empty: a new life.
    redis::cmd("FLUSHALL").exec_async(&mut stack.redis().await).await.unwrap();
    let (_, state) = lost(&epoch, first + 7).await;
    assert_ne!(state["epoch"], epoch);
    assert_eq!(gateway.metric("community_gateway_resumes_total", &[("outcome", "state")]).await, 4.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_hidden_now_is_not_in_what_was_missed() {
    let stack = Stack::start().await;
    let (one, two) = (without_limits(&stack).start().await, without_limits(&stack).start().await);
    let room = stack.room(RoomSpec::default()).await;
    let (ada, eve, grace) = (stack.user("ada").await, stack.user("eve").await, stack.user("grace").await);
    let (a, epoch, first) = enter(&one, &stack, &room, &ada).await;
    let (mut e, ..) = enter(&one, &stack, &room, &eve).await;
    let (mut g, ..) = enter(&two, &stack, &room, &grace).await;
    drop(a);
    let of_eve = say(&mut e, "of eve").await;
    g.send(json!({"type": "send_message", "content": "to eve", "reply_to_id": of_eve["message"]["id"]})).await;
    let answer = g.wait_until("the answer", |event| event["message"]["content"] == "to eve").await;
    assert_eq!(answer["message"]["replyTo"]["content"], "of eve");
    stack.block(&ada, &eve).await;
    // What is remembered of ada's rights is from before the block: Django says so.
    let order = json!({"action": "block_changed", "users": [ada.id.to_string(), eve.id.to_string()]});
    stack.order(order).await;
    for gateway in [&one, &two] {
        gateway.wait_for_log("an order is obeyed").await;
    }
    let (_a, resumed) = come_back(&two, &stack, &room.path(), &ada, (&epoch, first)).await;
    assert_eq!(resumed["recovered"], true);
    assert_eq!(texts(&resumed["events"]), ["to eve"]);
    assert_eq!(resumed["events"][0]["message"]["replyTo"], Value::Null);
    assert_eq!(place(&resumed), (epoch, first + 2), "what is not shown is passed all the same");
    let people = resumed["onlineUsers"].as_array().unwrap();
    assert!(people.iter().all(|user| user["username"] != "eve"), "{people:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_and_a_thread_are_resumed_likewise() {
    let stack = Stack::start().await;
    let (one, two) = (without_limits(&stack).start().await, without_limits(&stack).start().await);
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let (dm, _) = conversation(&stack, &[&ada, &grace]).await;
    let mut a = one.dial(&path(dm)).jwt(&stack.jwt(&ada)).connect().await;
    let (epoch, offset) = place(&a.expect_event("dm_state").await);
    drop(a);
    let mut g = two.dial(&path(dm)).jwt(&stack.jwt(&grace)).connect().await;
    say(&mut g, "are you there?").await;
    let (_a, resumed) = come_back(&one, &stack, &path(dm), &ada, (&epoch, offset)).await;
    assert_eq!((&resumed["recovered"], texts(&resumed["events"])), (&json!(true), vec!["are you there?"]));
    assert!(resumed["onlineCount"].is_null(), "who is online is a matter of the presence socket");

    let room = stack.room(RoomSpec::default()).await;
    let (mut g, ..) = enter(&two, &stack, &room, &grace).await;
    g.send(json!({"type": "create_thread", "title": "t"})).await;
    let thread = g.wait_for("thread_created").await["thread"]["id"].clone();
    let (mut a, ..) = enter(&one, &stack, &room, &ada).await;
    for client in [&mut a, &mut g] {
        client.send(json!({"type": "open_thread", "thread_id": thread})).await;
    }
    let (epoch, offset) = place(&a.wait_for("thread_state").await);
    drop(a);
    g.wait_for("thread_state").await;
    g.send(json!({"type": "send_message", "content": "inside", "thread_id": thread})).await;
    let inside = g.wait_for("new_message").await;
    let (mut a, ..) = enter(&one, &stack, &room, &ada).await;
    a.send(json!({"type": "open_thread", "thread_id": thread, "epoch": epoch, "offset": offset})).await;
    let resumed = a.wait_for("resumed").await;
    assert_eq!((&resumed["threadId"], &resumed["recovered"]), (&thread, &json!(true)));
    assert_eq!(resumed["events"], json!([inside]));
    g.send(json!({"type": "send_message", "content": "more", "thread_id": thread})).await;
    assert_eq!(a.wait_for("new_message").await["message"]["content"], "more");
    a.send(json!({"type": "open_thread", "thread_id": thread, "epoch": "1", "offset": offset})).await;
    assert_eq!(a.wait_for("resumed").await["recovered"], false);
    assert_eq!(texts_of_state(&a.wait_for("thread_state").await), ["inside", "more"]);
}

fn texts_of_state(state: &Value) -> Vec<&str> {
    state["messages"].as_array().unwrap().iter().map(|message| message["content"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_on_an_open_socket_asks_for_the_same() {
    let stack = Stack::start().await;
    let gateway = without_limits(&stack).start().await;
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let (mut g, epoch, first) = enter(&gateway, &stack, &room, &grace).await;
    let missed = say(&mut g, "missed").await;
    let (mut a, ..) = enter(&gateway, &stack, &room, &ada).await;
    a.expect_event("user_joined").await;
    a.send(json!({"type": "resume", "epoch": epoch, "offset": first})).await;
    let resumed = a.wait_for("resumed").await;
    assert_eq!((&resumed["recovered"], &resumed["events"]), (&json!(true), &json!([missed])));
    assert_eq!(resumed["onlineCount"], 2);
    let next = say(&mut g, "live").await;
    assert_eq!(a.expect_event("new_message").await, next);
    a.send(json!({"type": "resume", "epoch": "1", "offset": 1})).await;
    assert_eq!(a.expect_event("resumed").await["recovered"], false);
    a.expect_event("room_state").await;
    let next = say(&mut g, "live again").await;
    assert_eq!(a.expect_event("new_message").await, next);
    a.send(json!({"type": "resume", "epoch": "1"})).await;
    assert_eq!(a.expect_event("error").await["requestType"], "resume");
    drop(a);
    g.wait_for("user_left").await;
}
