//! Joins and leaves: once a user, whatever tabs and instances there are.

use std::collections::BTreeSet;
use std::time::Duration;

use community_gateway::domain::UserId;
use futures_util::future::join_all;

use crate::presence_stage::{NEVER, Stage};
use crate::support::{GUARD, eventually};

const AT_ONCE: Duration = Duration::ZERO;

#[tokio::test]
async fn two_tabs_on_one_instance_are_one_presence() {
    let stage = Stage::start().await;
    let mut heard = stage.listen().await;
    let one = stage.instance("one", NEVER, AT_ONCE).await;

    let tab = one.enter(1).await;
    let again = one.enter(1).await;
    assert!(tab.first && !again.first);
    assert_eq!((again.online, again.sample), (1, vec![UserId(1)]));
    assert_eq!(heard.next().await, "+1 1");

    let other = one.enter(2).await;
    assert_eq!(heard.next().await, "+2 2");
    drop(tab.stay);
    drop(other.stay);
    assert_eq!(heard.next().await, "-2 1", "a closed tab is no leave");
    drop(again.stay);
    assert_eq!(heard.next().await, "-1 0");
    eventually("nothing is left in Redis", || stage.is_empty()).await;
    assert_eq!(one.metrics.presence_changes_total.with_label_values(&["left"]).get(), 2);
}

#[tokio::test]
async fn tabs_on_two_instances_are_one_presence() {
    let stage = Stage::start().await;
    let mut heard = stage.listen().await;
    let one = stage.instance("one", NEVER, AT_ONCE).await;
    let two = stage.instance("two", NEVER, AT_ONCE).await;

    let here = one.enter(1).await;
    let there = two.enter(1).await;
    let witness = one.enter(2).await;
    assert!(here.first && !there.first && witness.first);
    assert_eq!((heard.next().await.as_str(), heard.next().await.as_str()), ("+1 1", "+2 2"));

    drop(here.stay);
    drop(witness.stay);
    assert_eq!(heard.next().await, "-2 1", "the other instance still has a tab");
    drop(there.stay);
    assert_eq!(heard.next().await, "-1 0");
    heard.expect_no_more().await;
    eventually("nothing is left in Redis", || stage.is_empty()).await;
}

#[tokio::test]
async fn a_reload_within_the_grace_does_not_show() {
    let stage = Stage::start().await;
    let mut heard = stage.listen().await;
    let one = stage.instance("one", NEVER, Duration::from_secs(3)).await;

    let before = one.enter(1).await;
    let witness = one.enter(2).await;
    drop(before.stay);
    let after = one.enter(1).await;
    assert!(!after.first);
    drop(witness.stay); // after the first leave would have been, and so announced after it
    for expected in ["+1 1", "+2 2", "-2 1"] {
        assert_eq!(heard.next().await, expected);
    }
    assert_eq!(stage.online().await, BTreeSet::from([1]));
}

#[tokio::test]
async fn a_storm_is_announced_exactly_once_each() {
    const USERS: i64 = 400;
    let stage = Stage::start().await;
    let mut heard = stage.listen().await;
    let one = stage.instance("one", NEVER, AT_ONCE).await;
    let two = stage.instance("two", NEVER, AT_ONCE).await;

    // Two tabs a user, one on each instance, many at once.
    let mut tabs = Vec::new();
    for users in (1..=USERS).collect::<Vec<_>>().chunks(50) {
        tabs.extend(join_all(users.iter().flat_map(|user| [one.enter(*user), two.enter(*user)])).await);
    }
    assert_eq!(tabs.iter().filter(|tab| tab.first).count(), 400);
    assert!(tabs.iter().all(|tab| tab.sample.len() <= 100));
    let (online, sample) = one.presence.online(stage.room).await.unwrap();
    assert_eq!((online, sample.len()), (400, 100));
    drop(tabs);

    let (mut joined, mut left) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..2 * USERS {
        let said = heard.next().await;
        let (user, _) = said[1..].split_once(' ').unwrap();
        let side = if said.starts_with('+') { &mut joined } else { &mut left };
        assert!(side.insert(user.to_owned()), "{said} was announced twice");
    }
    assert_eq!((joined.len(), left.len()), (400, 400));
    heard.expect_no_more().await;
    eventually("nothing is left in Redis", || stage.is_empty()).await;
}

#[tokio::test]
async fn who_returns_while_the_leave_is_on_its_way_is_online() {
    let stage = Stage::start().await;
    let mut heard = stage.listen().await;
    let one = stage.instance("one", NEVER, AT_ONCE).await;
    for _ in 0..50 {
        let stay = one.enter(1).await.stay;
        drop(stay);
        tokio::task::yield_now().await; // the upkeep has begun to leave, or not
        let back = one.enter(1).await;
        assert_eq!(stage.online().await, BTreeSet::from([1]));
        drop(back.stay);
    }
    eventually("nothing is left in Redis", || stage.is_empty()).await;
    let said = heard.rest().await;
    assert!(!said.is_empty() && said.chunks(2).all(|turn| turn == ["+1 1", "-1 0"]), "{said:?}");
}

#[tokio::test]
async fn a_draining_instance_hands_its_users_over() {
    let stage = Stage::start().await;
    let mut heard = stage.listen().await;
    let old = stage.instance("old", NEVER, Duration::from_millis(1)).await;
    let new = stage.instance("new", NEVER, Duration::from_millis(1)).await;

    let (ada, bob) = (old.enter(1).await, old.enter(2).await);
    assert_eq!((heard.next().await.as_str(), heard.next().await.as_str()), ("+1 1", "+2 2"));
    old.presence.hand_over();
    drop((ada, bob));
    let back = new.enter(1).await;
    assert!(!back.first, "the return does not show");
    assert_eq!(back.online, 2, "who has not returned yet may still");

    old.lifecycle.begin_shutdown();
    assert_eq!(old.lifecycle.wait(GUARD).await, 0, "the task ends when nobody is left");
    assert!(!old.lifecycle.has_crashed());
    heard.expect_no_more().await;
}

#[tokio::test]
async fn a_draining_instance_leaves_its_users_longer_leases_for_the_way() {
    let stage = Stage::start().await;
    let old = stage.instance("old", NEVER, NEVER).await;
    let stay = old.enter(1).await.stay;
    let usual = stage.lease(1).await;
    old.presence.hand_over();
    // No round of renewals is due for ten minutes, and what it gives is usually three quarters of the span.
    let is_longer = || async { stage.lease(1).await > usual + NEVER.as_secs_f64() / 5.0 };
    eventually("the lease is longer", is_longer).await;
    for ends in [usual, stage.lease(1).await] {
        assert_eq!(ends % 1.0, 0.0, "whole seconds, which Redis keeps as integers");
    }
    drop(stay);
    assert_eq!(stage.online().await, BTreeSet::from([1]));
}
