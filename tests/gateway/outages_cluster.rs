//! A Redis Cluster whose masters have replicas, on bad days: one dies or freezes, and its replica takes over.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use uuid::Uuid;

use crate::outages_stage::{first_state, pair_with, send_until_stored};
use crate::resume_replay::{place, without_limits};
use crate::support::{RedisCluster, RoomSpec, Stack, TestRoom, eventually};

#[tokio::test]
async fn when_a_master_of_the_cluster_dies_its_replica_takes_over_and_nothing_is_lost() {
    let cluster = RedisCluster::start_with_replicas().await;
    // Who is away comes back when all works again, which must not be seen, however long it takes.
    let grace = ("GATEWAY_PRESENCE_GRACE_SECONDS", "40".to_owned());
    let mut pair = pair_with(&[("GATEWAY_REDIS_URL", cluster.url()), grace]).await;
    pair.talk("before").await;
    let away = pair.stack.user("away").await;
    let (seen, (epoch, offset)) = {
        let mut client = pair.gateways[0].enter(&pair.room, &away).await;
        client.wait_for("user_joined").await;
        (client.seen().to_vec(), place(&first_state(&client)))
    };
    let (slot, master) = cluster.place(&format!("community:room:{{{}}}", pair.room.id)).await;
    let over = AtomicBool::new(false);
    pair.heals("a master of the Cluster killed, its replica takes over (it waits 2 s)");
    tokio::join!(
        async {
            cluster.nodes[master].kill().await;
            cluster.is_taken_over(slot, master).await;
            over.store(true, Ordering::Release);
        },
        async {
            // Some before it is noticed, one for as long as nobody has the slot, some after.
            let (mut number, mut after) = (0, 0);
            while after < 3 {
                after += usize::from(over.load(Ordering::Acquire));
                pair.send(0, &format!("meanwhile {number}")).await;
                number += 1;
            }
        }
    );
    pair.works_again().await;

    let dial = pair.gateways[1].dial(&pair.room.path()).jwt(&pair.stack.jwt(&away)).query("epoch", &epoch);
    // Who was away has the place of Grace from here on, and is to be shown the same.
    pair.takes_the_place(1, away, seen, dial.query("offset", &offset.to_string())).await;
    pair.has_lost_nothing().await;

    // The old master comes back, empty, as a replica of the new one, and changes nothing.
    cluster.nodes[master].restart().await;
    cluster.works().await;
    pair.talk("after its return").await;
    pair.has_lost_nothing().await;
}

#[tokio::test]
async fn when_a_master_of_the_cluster_freezes_its_replica_is_followed() {
    let cluster = RedisCluster::start_with_replicas().await;
    let mut pair = pair_with(&[("GATEWAY_REDIS_URL", cluster.url())]).await;
    pair.talk("before").await;
    let (slot, master) = cluster.place(&format!("community:room:{{{}}}", pair.room.id)).await;
    pair.heals("a master of the Cluster frozen, its replica takes over (it waits 2 s)");
    cluster.nodes[master].pause().await;
    cluster.is_taken_over(slot, master).await;
    pair.works_again().await;
    pair.talk("without it").await;
    cluster.nodes[master].resume().await;
    cluster.works().await;
    pair.talk("after its return").await;
    pair.has_lost_nothing().await;
    for client in &mut pair.clients {
        client.send(json!({"type": "typing", "is_typing": true})).await;
        client.wait_for("typing").await;
    }
}

#[tokio::test]
async fn a_shard_that_says_nothing_keeps_nobody_out_of_the_rooms_of_others() {
    let cluster = RedisCluster::start().await;
    for node in &cluster.nodes {
        node.command::<()>(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]).await;
    }
    let stack = Stack::start().await;
    let gateway = without_limits(&stack).env("GATEWAY_REDIS_URL", cluster.url()).start().await;
    // The other shards have what is asked of all: orders, this user's own keys, and one of the rooms.
    let (_, orders) = cluster.place("community:control").await;
    let silent = (orders + 1) % 3;
    let ada = loop {
        let user = stack.user(&Uuid::new_v4().to_string()).await;
        if cluster.place(&format!("community:sockets:{{{}}}", user.id)).await.1 != silent {
            break user;
        }
    };
    let room_of = async |wanted: bool| loop {
        let room = stack.room(RoomSpec::default()).await;
        if (cluster.place(&format!("community:room:{{{}}}", room.id)).await.1 == silent) == wanted {
            break room;
        }
    };
    let (before, there, gone) = (room_of(true).await, room_of(false).await, room_of(true).await);
    let dial = |room: &TestRoom| gateway.dial(&room.path()).jwt(&stack.jwt(&ada)).connect();
    // All scripts are known to all shards: who does not know one has it told to each.
    send_until_stored(&mut dial(&before).await, "before").await;
    cluster.nodes[silent].pause().await;
    let mut waits = dial(&gone).await;
    gateway.wait_for_log("subscribing failed, trying again").await;
    let mut enters = dial(&there).await;
    enters.expect_event("room_state").await;
    enters.wait_for("user_joined").await;
    assert_eq!(waits.expect_close().await.0, 1013, "who cannot be let in now is told so");
    cluster.nodes[silent].resume().await;
    cluster.works().await;
    eventually("the room can be entered again", || async { dial(&gone).await.next_message().await.is_text() }).await;
}
