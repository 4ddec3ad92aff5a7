//! Redis as it is run where it must not fail, on bad days: a Cluster whose slots move and whose nodes die, a primary
//! that Sentinels replace, a line that dies without a word.

use std::net::SocketAddr;

use serde_json::json;

use crate::outages_stage::{first_state, pair, pair_with, send_until_stored, without_limits};
use crate::support::{ChaosProxy, RedisCluster, RoomSpec, WatchedRedis, eventually};

#[tokio::test]
async fn in_a_cluster_rooms_presence_and_djangos_words_travel_between_instances() {
    let cluster = RedisCluster::start().await;
    let mut pair = pair_with(&[("GATEWAY_REDIS_URL", cluster.url())]).await;
    pair.works_again().await;
    // Rooms enough that all shards have some.
    for number in 0..6 {
        let room = pair.stack.room(RoomSpec::default()).await;
        let users = pair.stack.users(&format!("of{number}room"), 2).await;
        let mut one = pair.gateways[0].enter(&room, &users[0]).await;
        let mut two = pair.gateways[1].enter(&room, &users[1]).await;
        one.expect_event("user_joined").await;
        assert_eq!(first_state(&two)["onlineCount"], 2);
        send_until_stored(&mut two, "hello").await;
        one.wait_until("hello", |event| event["message"]["content"] == "hello").await;

        let name = format!("community:room:{{{}}}", room.id);
        let (_, node) = cluster.place(&name).await;
        let said = json!({"event": "announcement", "text": "from Django"}).to_string();
        cluster.nodes[node].command::<i64>(&["SPUBLISH", &name, &said]).await;
        two.wait_for("announcement").await;
    }
    // An order reaches every instance, however it is published.
    for (at, how) in ["PUBLISH", "SPUBLISH"].into_iter().enumerate() {
        let (_, node) = cluster.place("community:control").await;
        let user: i64 = sqlx::query_scalar("SELECT id FROM users_user WHERE username = $1")
            .bind(["ada", "grace"][at])
            .fetch_one(pair.stack.db())
            .await
            .unwrap();
        let order = json!({"action": "disconnect", "user": user}).to_string();
        cluster.nodes[node].command::<i64>(&[how, "community:control", &order]).await;
        pair.clients[at].expect_close().await;
    }
}

#[tokio::test]
async fn a_room_whose_slot_moves_goes_on() {
    let cluster = RedisCluster::start().await;
    let mut pair = pair_with(&[("GATEWAY_REDIS_URL", cluster.url())]).await;
    pair.talk("before").await;
    let (slot, from) = cluster.place(&format!("community:room:{{{}}}", pair.room.id)).await;
    pair.heals("a slot of the Cluster moved");
    cluster.move_slot(slot, from, (from + 1) % 3).await;
    pair.works_again().await;
}

#[tokio::test]
async fn when_a_node_of_the_cluster_died_and_came_back_all_goes_on() {
    let cluster = RedisCluster::start().await;
    let mut pair = pair_with(&[("GATEWAY_REDIS_URL", cluster.url())]).await;
    pair.talk("before").await;
    let (_, node) = cluster.place(&format!("community:room:{{{}}}", pair.room.id)).await;
    cluster.nodes[node].kill().await;
    pair.refuses_sends().await;
    pair.heals("a node of the Cluster killed and started again");
    cluster.nodes[node].restart().await;
    cluster.works().await;
    pair.works_again().await;
}

#[tokio::test]
async fn when_sentinels_replace_a_dead_primary_it_is_followed() {
    let redis = WatchedRedis::start().await;
    let mut pair = pair_with(&[("GATEWAY_REDIS_URL", redis.url(3))]).await;
    pair.talk("before").await;
    pair.heals("the primary killed, Sentinels name another (they wait 0.7 s)");
    redis.servers[0].kill().await;
    pair.refuses_sends().await;
    redis.is_led_by(1).await;
    pair.works_again().await;
    // The old one comes back as a replica of the new one, and changes nothing.
    redis.servers[0].restart().await;
    pair.talk("after its return").await;
    pair.has_lost_nothing().await;
}

#[tokio::test]
async fn when_sentinels_replace_a_frozen_primary_it_is_followed() {
    let redis = WatchedRedis::start().await;
    let mut pair = pair_with(&[("GATEWAY_REDIS_URL", redis.url(3))]).await;
    pair.talk("before").await;
    pair.heals("the primary frozen, Sentinels name another (they wait 0.7 s)");
    redis.servers[0].pause().await;
    redis.is_led_by(1).await;
    pair.works_again().await;
    redis.servers[0].resume().await;
    pair.talk("after its return").await;
    pair.has_lost_nothing().await;
}

#[tokio::test]
async fn connections_that_died_without_a_word_are_replaced() {
    let mut pair = pair().await;
    let target: SocketAddr = pair.stack.redis_server().address();
    let proxy = ChaosProxy::before(target).await;
    let through = format!("redis://{}/3", proxy.address);
    let behind = without_limits(&pair.stack).env("GATEWAY_REDIS_URL", through);
    let grace = pair.stack.user("behind the proxy").await;
    pair.second_is(behind, grace).await;
    pair.talk("before").await;

    pair.heals("the line to Redis of one instance died without a word, a new one works");
    proxy.stall_the_open_ones();
    pair.send(0, "meanwhile").await;
    pair.works_again().await;
    pair.gateways[1].wait_for_log("Redis answers on a new connection: replaced the subscription's").await;
    let replaced = "Redis answers on a new connection: replaced the one for commands";
    pair.gateways[1].wait_for_log(replaced).await;
}

#[tokio::test]
async fn a_replica_that_redis_threw_out_follows_again_and_has_everything_when_it_leads() {
    let redis = WatchedRedis::start().await;
    let primary = &redis.servers[0];
    for (name, value) in [("client-output-buffer-limit", "replica 512kb 0 0"), ("repl-backlog-size", "16kb")] {
        primary.command::<()>(&["CONFIG", "SET", name, value]).await;
    }
    let mut pair = pair_with(&[("GATEWAY_REDIS_URL", redis.url(3))]).await;
    pair.talk("before").await;
    let says = async |server: usize, what: &str| {
        redis.servers[server].command::<String>(&["INFO", "replication"]).await.contains(what)
    };
    redis.servers[1].pause().await;
    // Whatever is published goes to the replica too, until its buffer is full; people talk meanwhile.
    let noise = "x".repeat(256 * 1024);
    let mut number = 0;
    while !says(0, "connected_slaves:0").await {
        for _ in 0..16 {
            primary.command::<i64>(&["PUBLISH", "somewhere else", &noise]).await;
        }
        number += 1;
        pair.talk(&format!("meanwhile {number}")).await;
    }
    redis.servers[1].resume().await;
    eventually("the replica follows again", || says(1, "master_link_status:up")).await;
    pair.talk("both are back").await;
    eventually("the replica has everything", || async { primary.command::<i64>(&["WAIT", "1", "1000"]).await == 1 })
        .await;
    redis.sees_replica().await;
    pair.heals("the primary killed after its replica's buffer was full");
    redis.servers[0].kill().await;
    redis.is_led_by(1).await;
    pair.works_again().await;
}
