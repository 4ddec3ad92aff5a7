//! What Django publishes plainly, on several instances: logged once for each time it was published, told once to who is
//! here, and again to who comes back, if it is for them.

use serde_json::{Value, json};

use super::channels_stage::{Django, topic};
use super::resume_replay::{come_back, enter, place, say, without_limits};
use crate::support::{RoomSpec, Stack, TestClient, eventually};

/// What a client is sent from now on, up to an event, but for who comes and goes.
async fn until(client: &mut TestClient, name: &str) -> Vec<Value> {
    let mut events = client.events_until(name).await;
    events.retain(|event| event["event"] != "user_joined" && event["event"] != "user_left");
    events
}

fn numbers(events: &[Value]) -> Vec<u64> {
    events.iter().filter_map(|event| event["n"].as_u64()).collect()
}

fn offsets(events: &[Value]) -> Vec<u64> {
    events.iter().filter_map(|event| event["offset"].as_u64()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_comes_once_to_who_is_here_and_again_to_who_comes_back_if_it_is_for_them() {
    let stack = Stack::start().await;
    let (one, two) = (without_limits(&stack).start().await, without_limits(&stack).start().await);
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace, eve) = (stack.user("ada").await, stack.user("grace").await, stack.user("eve").await);
    let (mut g, epoch, first) = enter(&one, &stack, &room, &grace).await;
    let (mut e, ..) = enter(&two, &stack, &room, &eve).await;
    let publish = async |event: Value| stack.publish(&room.channel(), event.to_string().as_bytes()).await;
    say(&mut g, "before").await;
    publish(json!({"event": "notice", "n": 1})).await;
    publish(json!({"event": "notice", "n": 1})).await; // on purpose
    publish(json!({"event": "notice", "n": 2, "to": [ada.id.to_string(), grace.id.to_string()]})).await;
    publish(json!({"event": "notice", "n": 3, "except": [ada.id.to_string(), grace.id.to_string()]})).await;
    publish(json!({"event": "typing", "userId": "7", "isTyping": true, "n": 4})).await;
    publish(json!({"event": "notice", "n": 5})).await;
    publish(json!({"event": "last"})).await;
    let mut of_g = until(&mut g, "last").await;
    let mut of_e = until(&mut e, "last").await;
    of_e.retain(|event| event["event"] != "new_message");
    for events in [&mut of_g, &mut of_e] {
        // What is of the moment has no place, and so no order among the others.
        let before = events.len();
        events.retain(|event| event["event"] != "typing");
        assert_eq!(events.len(), before - 1);
    }
    assert_eq!((numbers(&of_g), numbers(&of_e)), (vec![1, 1, 2, 5], vec![1, 1, 3, 5]));
    let offset = |n: u64| first + n;
    assert_eq!(offsets(&of_g), [2, 3, 4, 6, 7].map(offset), "the first is from before");
    assert_eq!(offsets(&of_e), [2, 3, 5, 6, 7].map(offset), "at the same places");
    assert!(of_g.iter().all(|event| event.get("to").is_none() && event["epoch"] == *epoch));

    let (mut a, resumed) = come_back(&two, &stack, &room.path(), &ada, (&epoch, first + 1)).await;
    assert_eq!((&resumed["recovered"], resumed.get("retold")), (&json!(true), None));
    assert_eq!(resumed["events"], json!(of_g), "as those who were here got it");
    assert_eq!(place(&resumed), (epoch.clone(), first + 7));
    publish(json!({"event": "nothing", "to": []})).await; // for nobody: it has no place
    let next = say(&mut g, "after").await;
    assert_eq!(next["offset"], first + 8);
    a.wait_until("after", |event| *event == next).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_said_many_times_is_logged_as_often_whoever_hears_it() {
    const COPIES: u64 = 60;
    let stack = Stack::start().await;
    let (one, two) = (without_limits(&stack).start().await, without_limits(&stack).start().await);
    let mut three = without_limits(&stack).start().await;
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace, eve) = (stack.user("ada").await, stack.user("grace").await, stack.user("eve").await);
    let (mut g, epoch, first) = enter(&one, &stack, &room, &grace).await;
    let (mut a, ..) = enter(&two, &stack, &room, &ada).await;
    let (e, ..) = enter(&three, &stack, &room, &eve).await;
    for copy in 0..COPIES {
        stack.publish(&room.channel(), br#"{"event":"bell","n":1}"#).await;
        match copy {
            10 => two.signal("STOP"),
            // In the middle of it, with who knows what in its hands.
            20 => three.kill9().await,
            40 => two.signal("CONT"),
            _ => {}
        }
    }
    stack.publish(&room.channel(), br#"{"event":"last"}"#).await;
    drop(e);
    for client in [&mut g, &mut a] {
        let events = until(client, "last").await;
        assert_eq!(offsets(&events), (first + 1..=first + COPIES + 1).collect::<Vec<_>>());
    }
    let (_a, resumed) = come_back(&one, &stack, &room.path(), &ada, (&epoch, first)).await;
    assert_eq!(resumed["events"].as_array().unwrap().len() as u64, COPIES + 1);
}

/// What Redis's clock says, in microseconds.
async fn redis_clock(stack: &Stack) -> i64 {
    let (seconds, micros): (i64, i64) = redis::cmd("TIME").query_async(&mut stack.redis().await).await.unwrap();
    seconds * 1_000_000 + micros
}

#[tokio::test(flavor = "multi_thread")]
async fn who_begins_to_listen_takes_no_new_event_for_an_old_one() {
    let stack = Stack::start().await;
    let mut one = without_limits(&stack).start().await;
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let ring = async || stack.publish(&room.channel(), br#"{"event":"bell"}"#).await;
    let (mut g, epoch, first) = enter(&one, &stack, &room, &grace).await;
    for _ in 0..3 {
        ring().await;
        g.wait_for("bell").await;
    }
    let rung = redis_clock(&stack).await;
    one.kill9().await;
    // Who begins to listen takes what was adopted in the quarter of a second before for what it hears itself, because others
    // may have been faster; alone, it would then tell nobody. So the last bell must be older than that.
    eventually("the last bell is some time ago", || async { redis_clock(&stack).await - rung > 300_000 }).await;
    // Nobody is left who knows what was heard. The same words are news all the same.
    let two = without_limits(&stack).start().await;
    let (mut a, resumed) = come_back(&two, &stack, &room.path(), &ada, (&epoch, first)).await;
    assert_eq!(resumed["events"].as_array().unwrap().len(), 3);
    for offset in first + 4..first + 6 {
        ring().await;
        assert_eq!(a.wait_for("bell").await["offset"], offset);
    }
    let (_g, resumed) = come_back(&two, &stack, &room.path(), &grace, (&epoch, first + 2)).await;
    assert_eq!(resumed["events"].as_array().unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_by_the_channel_layer_is_logged_likewise() {
    let stack = Stack::start().await;
    let (one, two) = (without_limits(&stack).start().await, without_limits(&stack).start().await);
    let mut django = Django::at(&stack.redis_server().url(3)).await;
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace, eve) = (stack.user("ada").await, stack.user("grace").await, stack.user("eve").await);
    let (mut g, epoch, first) = enter(&one, &stack, &room, &grace).await;
    let (mut e, ..) = enter(&two, &stack, &room, &eve).await;
    // One after the other: an inbox does not keep the order of what comes in the same moment.
    let told = json!({"event": "hint", "n": 1});
    for offset in first + 1..=first + 2 {
        django.send(topic(&room), &told).await;
        for client in [&mut g, &mut e] {
            assert_eq!(client.wait_for("hint").await["offset"], offset);
        }
    }
    django.send(topic(&room), &json!({"event": "hint", "n": 2, "to": [ada.id.to_string()]})).await;
    let position = format!("community:position:room:{}", room.id);
    eventually("it is logged", || async {
        let published = redis::cmd("HGET").arg(&position).arg("published").clone();
        published.query_async::<u64>(&mut stack.redis().await).await.unwrap() == first + 3
    })
    .await;
    django.send(topic(&room), &json!({"event": "last"})).await;
    for client in [&mut g, &mut e] {
        let events = until(client, "last").await;
        assert_eq!((numbers(&events), offsets(&events)), (vec![], vec![first + 4]), "nothing came twice");
    }
    let (_a, resumed) = come_back(&two, &stack, &room.path(), &ada, (&epoch, first)).await;
    assert_eq!(numbers(resumed["events"].as_array().unwrap()), [1, 1, 2]);
}
