//! A Redis that answers and yet is of little use: emptied, full, or tired of a slow subscriber. And lines that are slow.

use std::time::Duration;

use serde_json::json;

use crate::outages_stage::{Pair, pair};
use crate::support::{ChaosProxy, Stack};

#[tokio::test]
async fn an_emptied_redis_costs_nobody_a_message_or_a_seat() {
    let mut pair = pair().await;
    pair.talk("before").await;
    pair.heals("Redis emptied (`FLUSHALL`)");
    pair.stack.redis_server().command::<()>(&["FLUSHALL"]).await;
    pair.works_again().await;
    pair.talk("after").await;
    pair.has_lost_nothing().await;
}

#[tokio::test]
async fn a_full_redis_refuses_and_goes_on_when_there_is_room() {
    let mut pair = pair().await;
    pair.talk("before").await;
    let redis = pair.stack.redis_server();
    redis.command::<()>(&["CONFIG", "SET", "maxmemory", "100kb"]).await;
    pair.refuses_sends().await;
    pair.turns_newcomers_away().await;
    pair.heals("a full Redis that has room again");
    pair.stack.redis_server().command::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await;
    pair.works_again().await;
}

#[tokio::test]
async fn a_subscriber_that_redis_threw_out_misses_nothing() {
    let mut pair = pair().await;
    pair.talk("before").await;
    let redis = pair.stack.redis_server();
    redis.command::<()>(&["CONFIG", "SET", "client-output-buffer-limit", "pubsub 256kb 0 0"]).await;
    pair.gateways[1].signal("STOP");
    let texts = ["first", "second", "third"];
    for text in texts {
        pair.send(0, text).await;
    }
    // What Django publishes fills the buffer of the one who does not read, until Redis has had enough of it.
    let noise = json!({"event": "announcement", "to": [], "text": "x".repeat(256 * 1024)}).to_string();
    let subscribers = || async {
        let heard: Vec<redis::Value> =
            pair.stack.redis_server().command(&["PUBSUB", "NUMSUB", &pair.room.channel()]).await;
        heard.last().cloned()
    };
    while subscribers().await != Some(redis::Value::Int(1)) {
        pair.stack.publish(&pair.room.channel(), noise.as_bytes()).await;
    }
    pair.heals("a subscriber that Redis threw out reads again");
    pair.gateways[1].signal("CONT");
    pair.works_again().await;
}

/// Both instances reach Redis through a proxy.
async fn through_a_proxy() -> (ChaosProxy, Pair) {
    let stack = Stack::start().await;
    let proxy = ChaosProxy::before(stack.redis_server().address()).await;
    let pair = Pair::on(stack, &[("GATEWAY_REDIS_URL", format!("redis://{}/3", proxy.address))]).await;
    (proxy, pair)
}

#[tokio::test]
async fn a_line_to_redis_that_is_cut_again_and_again_loses_nothing() {
    let (proxy, mut pair) = through_a_proxy().await;
    let texts: Vec<String> = (0..8).map(|number| format!("number {number}")).collect();
    for (number, text) in texts.iter().enumerate() {
        pair.send(number % 2, text).await;
        proxy.cut();
        proxy.heal();
    }
    pair.talk("after").await;
    pair.works_again().await;
}

#[tokio::test]
async fn a_redis_that_says_nothing_any_more_is_waited_for() {
    let (proxy, mut pair) = through_a_proxy().await;
    pair.talk("before").await;
    proxy.fall_silent();
    pair.refuses_sends().await;
    pair.is_not_ready("fan_out").await;
    pair.heals("Redis silent, and answering again");
    proxy.heal();
    pair.works_again().await;
}

#[tokio::test]
async fn a_far_redis_makes_it_slow_and_nothing_else() {
    let (proxy, mut pair) = through_a_proxy().await;
    proxy.delay(Duration::from_millis(100));
    for text in ["one", "two", "three"] {
        pair.send(1, text).await;
    }
    proxy.throttle(20_000);
    pair.talk("narrow").await;
    proxy.heal();
    pair.works_again().await;
}
