//! The second layer slow, wrong, partial, limited, down and hanging: what becomes of messages, and that the room goes on.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::moderation_stage::{Stage, answer, heard, say, send};
use crate::outages_stage::recovered;
use crate::support::Act;

#[tokio::test(flavor = "multi_thread")]
async fn while_one_sender_waits_the_others_talk_on() {
    let stage = Stage::start().await;
    let gateway = stage.gateway().start().await;
    let (mut a, mut b) =
        (gateway.enter(&stage.room, &stage.author).await, gateway.enter(&stage.room, &stage.reader).await);
    let held = stage.api.hold("slowly");
    send(&mut a, "first", "said slowly").await;
    send(&mut a, "second", "and then this").await;
    stage.api.received(1).await;
    for round in 0..5 {
        let content = format!("meanwhile {round}");
        assert_eq!(say(&mut b, &content).await["event"], "message_ack");
        assert_eq!(heard(&mut a).await, content);
    }
    drop(held);
    assert_eq!(answer(&mut a, "first").await["event"], "message_ack");
    b.wait_until("the first", |event| event["message"]["content"] == "said slowly").await;
    assert_eq!(heard(&mut b).await, "and then this", "a sender's own order holds");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_second_layer_does_messages_are_posted_in_time_and_wait_for_a_human() {
    let stage = Stage::start().await;
    let gateway = stage.gateway().env("GATEWAY_MODERATION_DEADLINE_SECONDS", 0.4).start().await;
    let (mut a, mut b) =
        (gateway.enter(&stage.room, &stage.author).await, gateway.enter(&stage.room, &stage.reader).await);
    let acts = [
        ("hangs", Act::hang()),
        ("is slow", Act::judge().after(Duration::from_secs(15))),
        ("is overloaded", Act::status(503)),
        ("is limited", Act::status(429).header("retry-after", "30")),
        ("answers nonsense", Act::answer(200, "<html>")),
        ("answers for nobody", Act::results(0)),
        ("answers too much", Act::results(5)),
        ("is cut", Act::cut()),
        ("floods", Act::flood()),
        ("closes", Act::close()),
        ("takes no key", Act::status(401)),
    ];
    for (how, act) in acts {
        stage.api.always(act);
        let content = format!("it {how}");
        let started = Instant::now();
        assert_eq!(say(&mut a, &content).await["event"], "message_ack", "{how}");
        assert_eq!(heard(&mut b).await, content);
        assert!(started.elapsed() < Duration::from_secs(4), "{how}: {:?}", started.elapsed());
        let (flagged, hidden, status, _, reason, ..) = stage.stored(&content).await.unwrap();
        assert_eq!((flagged, hidden, status.as_deref()), (true, false, Some("pending")), "{how}");
        assert_eq!(reason.as_deref(), Some("moderation unavailable"), "{how}");
        // The first layer goes on, and so does everybody else.
        assert_eq!(say(&mut b, &format!("you grobnik, it {how}")).await["action"], "blocked");
    }
    stage.api.go_down().await;
    assert_eq!(say(&mut a, "nobody listens").await["event"], "message_ack");
    let unjudged = gateway.metric("community_gateway_moderation_unjudged_total", &[("policy", "flag")]).await;
    assert!(unjudged >= 12.0, "{unjudged}");
    let complaints = gateway.log_lines().iter().filter(|line| line.contains("could not judge texts")).count();
    assert_eq!(complaints, 1, "one line a minute");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_decides_what_becomes_of_messages_that_nobody_judges() {
    let stage = Stage::start().await;
    stage.api.go_down().await;
    for (policy, event, hidden, status) in [
        ("allow", "message_ack", false, None),
        ("flag", "message_ack", false, Some("pending")),
        ("block", "moderation", true, Some("pending")),
    ] {
        let gateway = stage.gateway().env("GATEWAY_MODERATION_ON_FAILURE", policy).start().await;
        let mut a = gateway.enter(&stage.room, &stage.author).await;
        let content = format!("with {policy} in force");
        let answer = say(&mut a, &content).await;
        assert_eq!(answer["event"], event, "{policy}");
        let stored = stage.stored(&content).await.unwrap();
        assert_eq!((stored.1, stored.2.as_deref()), (hidden, status), "{policy}");
        if hidden {
            assert_eq!(answer["reason"], "moderation unavailable");
            assert_eq!(stored.6.as_deref(), Some("system"), "the classifier said nothing");
        }
        a.send(json!({"type": "create_thread", "title": format!("A title under {policy}")})).await;
        let made =
            a.wait_until("an answer", |event| event["event"] == "thread_created" || event["event"] == "error").await;
        assert_eq!(made["event"] == "error", hidden, "{policy}: {made}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_heals_by_itself() {
    let stage = Stage::start().await;
    stage.api.go_down().await;
    let gateway = stage.gateway().start().await;
    let mut a = gateway.enter(&stage.room, &stage.author).await;
    assert_eq!(say(&mut a, "nobody listens").await["event"], "message_ack");
    let back = Instant::now();
    stage.api.come_up().await;
    for round in 0.. {
        assert!(round < 2_000, "it never heals");
        if say(&mut a, &format!("something awful {round}")).await["action"] == "blocked" {
            recovered("OpenAI back: messages are judged again", back.elapsed(), None);
            break;
        }
    }
}
