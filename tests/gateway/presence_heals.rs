//! Presence after bad days: a process killed, Redis emptied, hung or gone.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use community_gateway::domain::UserId;
use community_gateway::keyspace;
use community_gateway::presence::Typing;

use crate::presence_stage::{NEVER, Stage, person};
use crate::support::{GUARD, eventually};

const AT_ONCE: Duration = Duration::ZERO;
/// Short enough to wait for, long enough that a busy machine does not miss a renewal.
const SHORT: Duration = Duration::from_secs(4);

#[tokio::test]
async fn the_users_of_a_killed_instance_leave_once() {
    let stage = Stage::start().await;
    let mut heard = stage.listen().await;
    let dead = stage.instance("dead", SHORT, AT_ONCE).await;
    let (two, three) = (stage.instance("two", SHORT, AT_ONCE).await, stage.instance("three", SHORT, AT_ONCE).await);

    // User 2 first: when the lease of user 1 is seen to have ended, so has theirs.
    let tabs = (dead.enter(2).await, dead.enter(1).await, two.enter(2).await, three.enter(3).await);
    for expected in ["+2 1", "+1 2", "+3 3"] {
        assert_eq!(heard.next().await, expected);
    }
    dead.crash().await;
    assert_eq!(heard.next().await, "-1 2", "user 2 still has a tab elsewhere");
    drop(tabs.2.stay);
    assert_eq!(heard.next().await, "-2 1", "the dead instance's lease holds nobody back");
    heard.expect_no_more().await;
    let expired = two.metrics.presence_expired_total.get() + three.metrics.presence_expired_total.get();
    assert_eq!(expired, 1);
}

#[tokio::test]
async fn a_room_that_died_with_its_only_instance_is_forgotten() {
    let stage = Stage::start().await;
    let dead = stage.instance("dead", Duration::from_secs(1), AT_ONCE).await;
    let _tab = dead.enter(1).await;
    assert!(!stage.is_empty().await);
    dead.crash().await;
    eventually("nothing is left in Redis", || stage.is_empty()).await;
}

#[tokio::test]
async fn after_a_flush_everybody_is_back_and_nobody_is_announced() {
    let stage = Stage::start().await;
    let mut heard = stage.listen().await;
    let (one, two) = (stage.instance("one", SHORT, AT_ONCE).await, stage.instance("two", SHORT, AT_ONCE).await);
    let (ada, bob) = (one.enter(1).await, two.enter(2).await);
    assert_eq!((heard.next().await.as_str(), heard.next().await.as_str()), ("+1 1", "+2 2"));

    stage.flush().await;
    eventually("both are back", || async { stage.online().await == BTreeSet::from([1, 2]) }).await;
    heard.expect_no_more().await;
    drop(ada.stay);
    assert_eq!(heard.next().await, "-1 1");
    drop(bob.stay);
    assert_eq!(heard.next().await, "-2 0");
}

#[tokio::test]
async fn who_enters_after_a_flush_hears_of_everybody() {
    let stage = Stage::start().await;
    let (one, two) = (stage.instance("one", SHORT, AT_ONCE).await, stage.instance("two", SHORT, AT_ONCE).await);
    let _here = (one.enter(1).await, two.enter(2).await);
    let mut stays = Vec::new();
    for newcomer in 3..=6 {
        let mut heard = stage.listen().await;
        stage.flush().await;
        let entered = two.enter(newcomer).await;
        let mut seen: BTreeSet<UserId> = entered.sample.into_iter().collect();
        while seen != (1..=newcomer).map(UserId).collect() {
            let said = heard.next().await;
            let (user, _) = said.strip_prefix('+').unwrap().split_once(' ').unwrap();
            seen.insert(UserId(user.parse().unwrap()));
        }
        stays.push(entered.stay);
    }
}

#[tokio::test]
async fn a_leave_is_announced_although_a_flush_came_before_it() {
    let stage = Stage::start().await;
    let mut heard = stage.listen().await;
    let (one, two) = (stage.instance("one", NEVER, AT_ONCE).await, stage.instance("two", NEVER, AT_ONCE).await);
    let tabs = (one.enter(1).await, two.enter(2).await);
    assert_eq!((heard.next().await.as_str(), heard.next().await.as_str()), ("+1 1", "+2 2"));
    stage.flush().await;
    drop(tabs.0.stay);
    assert_eq!(heard.next().await, "-1 0");
}

#[tokio::test]
async fn who_was_announced_as_gone_but_is_here_is_announced_as_back() {
    let stage = Stage::start().await;
    let mut heard = stage.listen().await;
    // The first could not renew in time, as the second sees it.
    let slow = stage.instance("slow", 4 * SHORT, AT_ONCE).await;
    let quick = stage.instance("quick", SHORT, AT_ONCE).await;
    let _tabs = (slow.enter(1).await, quick.enter(2).await);
    assert_eq!((heard.next().await.as_str(), heard.next().await.as_str()), ("+1 1", "+2 2"));

    let mut ended = redis::cmd("ZADD");
    ended.arg(keyspace::presence(stage.room)).arg("XX").arg(1).arg(1);
    ended.exec_async(&mut stage.redis().await).await.unwrap();
    assert_eq!(heard.next().await, "-1 1");
    assert_eq!(heard.next().await, "+1 2");
    assert_eq!(stage.online().await, BTreeSet::from([1, 2]));
}

#[tokio::test]
async fn a_newcomer_has_ended_leases_swept_at_once() {
    let stage = Stage::start().await;
    let mut heard = stage.listen().await;
    let dead = stage.instance("dead", NEVER, AT_ONCE).await;
    let _tab = dead.enter(1).await;
    dead.crash().await;
    let mut ended = redis::cmd("ZADD");
    ended.arg(keyspace::presence(stage.room)).arg("XX").arg(1).arg(1);
    ended.exec_async(&mut stage.redis().await).await.unwrap();

    let one = stage.instance("one", NEVER, AT_ONCE).await;
    let entered = one.enter(2).await;
    assert_eq!(entered.online, 2, "as the others see it");
    for expected in ["+1 1", "+2 2", "-1 1"] {
        assert_eq!(heard.next().await, expected);
    }
}

#[tokio::test]
async fn a_redis_that_hangs_or_is_gone_is_an_error_and_heals() {
    let stage = Stage::start().await;
    let one = stage.instance("one", SHORT, AT_ONCE).await;
    let _here = one.enter(1).await;

    stage.server.pause().await;
    let begun = Instant::now();
    let asked = one.presence.enter(stage.room, &person(2)).await;
    assert!(asked.is_err());
    assert!(begun.elapsed() < GUARD / 2, "every call has its deadline");
    assert!(one.presence.online(stage.room).await.is_err());
    stage.server.resume().await;
    eventually("user 2 is not online: the tab was not counted", || async {
        stage.online().await == BTreeSet::from([1])
    })
    .await;

    stage.server.kill().await;
    assert!(one.presence.enter(stage.room, &person(2)).await.is_err());
    stage.server.restart().await;
    eventually("user 1 is back in an empty Redis", || async { stage.online().await.contains(&1) }).await;
    assert!(one.metrics.redis_failures_total.with_label_values(&["presence"]).get() >= 3);
    assert!(one.enter(2).await.online == 2);
}

#[tokio::test]
async fn an_entry_given_up_midway_leaves_nothing_behind() {
    let stage = Stage::start().await;
    let one = stage.instance("one", NEVER, AT_ONCE).await;
    let _here = one.enter(1).await;
    for microseconds in (0..2_000).step_by(20) {
        let _ = tokio::time::timeout(Duration::from_micros(microseconds), one.enter(2)).await;
    }
    drop(one.enter(2).await); // whatever was given up is behind this one, on the same connection
    eventually("user 2 is gone", || async { stage.online().await == BTreeSet::from([1]) }).await;
}

#[tokio::test]
async fn typing_is_kept_for_ten_seconds_and_no_longer() {
    let stage = Stage::start().await;
    let one = stage.instance("one", NEVER, AT_ONCE).await;
    let bus = community_gateway::bus::Bus::connect(&stage.server.deployment(3), one.metrics.clone()).await.unwrap();
    let typing = Typing::new(bus.connection(), one.metrics.clone());
    let (key, mut redis) = (keyspace::typing(stage.room), stage.redis().await);

    redis::cmd("HSET").arg(&key).arg(9).arg(1).exec_async(&mut redis).await.unwrap(); // typed in 1970, never stopped
    typing.set(stage.room, UserId(1), true).await.unwrap();
    typing.set(stage.room, UserId(2), true).await.unwrap();
    typing.set(stage.room, UserId(1), false).await.unwrap();
    let (clock, fields, left): ((i64, i64), Vec<(i64, i64)>, i64) =
        redis::pipe().cmd("TIME").hgetall(&key).pttl(&key).query_async(&mut redis).await.unwrap();
    assert_eq!(fields.len(), 1, "{fields:?}");
    let (user, at) = fields[0];
    let age = clock.0 * 1000 + clock.1 / 1000 - at;
    assert!(user == 2 && (0..10_000).contains(&age), "user {user}, {age} ms ago");
    assert!((1..=10_000).contains(&left), "{left}");
    typing.set(stage.room, UserId(2), false).await.unwrap();
    assert!(stage.is_empty().await);
}
