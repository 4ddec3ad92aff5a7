//! Lists that change while the gateway runs, and texts that go nowhere but where they must.

use serde_json::json;

use crate::moderation_stage::{Lists, Stage, WORDS, say};
use crate::support::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_read_again_on_sighup_and_by_order_and_wrong_ones_are_not_taken() {
    let stage = Stage::start().await;
    let (one, two) = (stage.gateway().start().await, stage.gateway().start().await);
    let reloads = "community_gateway_moderation_reloads_total";
    let reloaded = |outcome: &'static str, count: f64| {
        let (one, two) = (&one, &two);
        async move {
            eventually("both have read the lists", || async {
                let of_one = one.metric(reloads, &[("outcome", outcome)]).await;
                of_one == count && two.metric(reloads, &[("outcome", outcome)]).await == count
            })
            .await;
        }
    };
    let mut a = one.enter(&stage.room, &stage.author).await;
    assert_eq!(say(&mut a, "a snarf is a fish").await["event"], "message_ack");
    stage.lists.set("block snarf\n");
    stage.stack.order(json!({"action": "reload"})).await;
    reloaded("ok", 1.0).await;
    assert_eq!(say(&mut a, "a snarf is no fish").await["action"], "blocked");
    assert_eq!(say(&mut a, "what a grobnik").await["event"], "message_ack");
    let versions = one.ops("/metrics").await.body.matches("community_gateway_moderation_lists{version=").count();
    assert_eq!(versions, 1, "only the version in force");

    stage.lists.set("block\nforbid snarf\n");
    one.signal("HUP");
    two.signal("HUP");
    reloaded("wrong", 1.0).await;
    one.wait_for_log("the moderation lists are wrong: the old ones stay in force").await;
    assert_eq!(say(&mut a, "still a snarf").await["action"], "blocked");

    stage.lists.set(WORDS);
    one.signal("HUP");
    two.signal("HUP");
    reloaded("ok", 2.0).await;
    assert_eq!(say(&mut a, "a snarf once more").await["event"], "message_ack");

    // The same lists once more: they are read, and nothing is made of them anew.
    let made_anew = || one.log_lines().iter().filter(|line| line.contains("lists were read again")).count();
    eventually("what was made is in the log", || async { made_anew() == 2 }).await;
    stage.stack.order(json!({"action": "reload"})).await;
    reloaded("ok", 3.0).await;
    assert_eq!(made_anew(), 2);
}

#[tokio::test]
async fn wrong_lists_at_the_start_are_a_wrong_configuration() {
    let stage = Stage::start().await;
    let lists = Lists::new("forbid snarf\n");
    for command in ["serve", "check"] {
        let (code, lines) = stage.gateway().env("GATEWAY_MODERATION_LISTS", lists.path()).run(&[command]).await;
        assert_eq!(code, if command == "serve" { 64 } else { 1 }, "{lines:?}");
        assert!(lines.iter().any(|line| line.contains("words.txt:1: `forbid` is neither")), "{lines:?}");
    }
}

#[tokio::test]
async fn without_a_key_the_second_layer_is_off_and_that_is_said() {
    let stage = Stage::start().await;
    let gateway = stage.gateway().without("OPENAI_API_KEY").start().await;
    gateway
        .wait_for_log(
            "OPENAI_API_KEY is not set: the second layer of moderation is OFF, only word lists and rules judge",
        )
        .await;
    assert_eq!(gateway.metric("community_gateway_moderation_classifier_on", &[]).await, 0.0);
    let mut a = gateway.enter(&stage.room, &stage.author).await;
    assert_eq!(say(&mut a, "something awful").await["event"], "message_ack");
    assert_eq!(say(&mut a, "you grobnik").await["action"], "blocked");
    assert_eq!(stage.api.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_text_is_in_logs_or_metrics() {
    let stage = Stage::start().await;
    let gateway =
        stage.gateway().env("GATEWAY_LOG", "trace").env("GATEWAY_MODERATION_DEADLINE_SECONDS", 0.4).start().await;
    let mut a = gateway.enter(&stage.room, &stage.author).await;
    let secret = "xylophonist";
    let texts = ["good", "dubbly", "grobnik", "mean", "awful", "NOT TO BE HEARD BY ANYBODY AT ALL HERE"];
    for word in texts {
        say(&mut a, &format!("{word} {secret}")).await;
    }
    let message = say(&mut a, &format!("to be edited, {secret}")).await["messageId"].clone();
    for word in texts {
        a.send(json!({"type": "edit_message", "message_id": message, "content": format!("{word}, {secret}")})).await;
        a.send(json!({"type": "create_thread", "title": format!("{word}: {secret}")})).await;
    }
    stage.stack.order(json!({"action": "moderation", "message": message, "decision": "approved"})).await;
    stage.api.go_down().await;
    say(&mut a, &format!("nobody judges {secret}")).await;
    let (log, metrics) = (gateway.log_lines().join("\n"), gateway.ops("/metrics").await.body);
    assert!(log.contains("could not judge texts") && metrics.contains("moderation_verdicts_total"));
    for word in [secret, "grobnik", "dubbly"] {
        assert!(!log.contains(word) && !metrics.contains(word), "{word}");
    }
}
