//! What was published and did not arrive, while everything seemed to be well.

use std::sync::Arc;

use community_gateway::bus::Bus;
use community_gateway::domain::{RoomId, Topic};
use community_gateway::keyspace;
use community_gateway::telemetry::Metrics;
use uuid::Uuid;

use crate::outages_stage::pair;
use crate::support::{RedisServer, Stack, eventually};

/// Lets Redis obey commands, or not.
async fn rules(stack: &Stack, rules: &[&str]) {
    let mut set = redis::cmd("ACL");
    set.arg("SETUSER").arg("default").arg(rules);
    set.exec_async(&mut stack.redis().await).await.unwrap();
}

#[tokio::test]
async fn what_was_logged_and_lost_on_its_way_is_found_by_comparing() {
    let mut pair = pair().await;
    pair.talk("before").await;
    // The script logs the event and is refused the word to publish it; when it may, the event is logged already.
    rules(&pair.stack, &["-publish"]).await;
    pair.send(0, "lost on its way").await;
    let log = format!("community:log:room:{}", pair.room.id);
    eventually("it is logged", || async {
        let logged: Vec<Vec<u8>> =
            redis::cmd("ZRANGE").arg(&log).arg(0).arg(-1).query_async(&mut pair.stack.redis().await).await.unwrap();
        logged.iter().any(|event| String::from_utf8_lossy(event).contains("lost on its way"))
    })
    .await;
    rules(&pair.stack, &["+publish"]).await;
    pair.has_lost_nothing().await;
    pair.talk("after").await;
    pair.has_lost_nothing().await;
    for gateway in &pair.gateways {
        let found = gateway.metric("community_gateway_bus_gap_events_total", &[("source", "log")]).await;
        assert!(found >= 1.0, "{found}");
    }
}

#[tokio::test]
async fn an_instance_that_hears_nothing_is_not_ready_although_redis_answers_and_is_again_by_itself() {
    let mut pair = pair().await;
    pair.talk("before").await;
    rules(&pair.stack, &["-subscribe", "-psubscribe", "-ssubscribe"]).await;
    pair.stack.redis_server().command::<i64>(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    pair.is_not_ready("fan_out").await;
    // Commands work, and comparing finds what is not heard.
    pair.send(0, "unheard").await;
    pair.has_lost_nothing().await;
    pair.is_not_ready("fan_out").await;
    rules(&pair.stack, &["+subscribe", "+psubscribe", "+ssubscribe"]).await;
    for gateway in &pair.gateways {
        eventually("it is ready again", || async { gateway.ops("/readyz").await.status == 200 }).await;
    }
    pair.talk("after").await;
    pair.has_lost_nothing().await;
}

#[tokio::test]
async fn many_topics_are_asked_about_at_once_and_a_spoilt_one_keeps_nothing_from_the_others() {
    let server = RedisServer::start().await;
    let bus = Bus::connect(&server.deployment(3), Arc::new(Metrics::new().unwrap())).await.unwrap();
    let topics: Vec<Topic> = (1..=70).map(|number| Topic::Room(RoomId(Uuid::from_u128(number)))).collect();
    bus.log().reserve(&[(topics[1], 3)], &[]).await.unwrap();
    let one_by_one = bus.log().position(topics[1]).await.unwrap();
    assert_eq!(one_by_one.taken, 3);

    let scripts = || async {
        let told: String = server.command(&["INFO", "commandstats"]).await;
        let calls = told.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls=")).unwrap();
        calls.split(',').next().unwrap().parse::<u64>().unwrap()
    };
    let before = scripts().await;
    let positions = bus.log().positions(&topics).await;
    assert_eq!(scripts().await, before + 1, "one command");
    assert_eq!(positions.len(), topics.len());
    assert_eq!(positions[1], Some(one_by_one));
    assert!(positions.iter().all(|position| position.is_some_and(|position| position.epoch != 0)), "{positions:?}");

    let mut redis = redis::Client::open(server.url(3)).unwrap().get_multiplexed_async_connection().await.unwrap();
    let spoilt = keyspace::position(topics[0]);
    redis::cmd("SET").arg(&spoilt).arg("somebody else's").exec_async(&mut redis).await.unwrap();
    let after = bus.log().positions(&topics).await;
    assert_eq!(after[0], None);
    assert_eq!(after[1..], positions[1..]);
    assert_eq!(bus.log().positions(&[]).await, []);
}
