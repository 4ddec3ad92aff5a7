//! Bad days: a dependency that is away, at the start or later. Nothing hangs, clients are told, everything returns.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::outages_stage::{Pair, first_state, pair, send_until_stored};
use crate::resume_replay::place;
use crate::support::{RoomSpec, Stack, TestClient, eventually};
use crate::tap::Tap;

/// A port on which nobody listens.
const NOWHERE: &str = "127.0.0.1:1";

async fn start_without(variable: &str, url: &str) -> (i32, String) {
    let stack = Stack::start().await;
    let (code, lines) = stack.gateway().env(variable, url).run(&["serve"]).await;
    (code, lines.join("\n"))
}

#[tokio::test]
async fn without_postgres_it_does_not_start_and_says_so() {
    let (code, log) = start_without("DATABASE_URL", &format!("postgres://x:secret@{NOWHERE}/x")).await;
    assert_eq!(code, 69, "{log}");
    assert!(log.contains(r#""dependency":"Postgres (DATABASE_URL)""#), "{log}");
    assert!(!log.contains("secret"), "{log}");
}

#[tokio::test]
async fn without_redis_it_does_not_start_and_says_so() {
    let (code, log) = start_without("GATEWAY_REDIS_URL", &format!("redis://:secret@{NOWHERE}/3")).await;
    assert_eq!(code, 69, "{log}");
    assert!(log.contains(r#""dependency":"Redis (GATEWAY_REDIS_URL)""#), "{log}");
    assert!(!log.contains("secret"), "{log}");
}

#[tokio::test]
async fn without_djangos_cache_it_does_not_start_and_says_so() {
    let (code, log) = start_without("GATEWAY_CACHE_URL", &format!("redis://:secret@{NOWHERE}/2")).await;
    assert_eq!(code, 69, "{log}");
    assert!(log.contains(r#""dependency":"Django's cache (GATEWAY_CACHE_URL)""#), "{log}");
    assert!(!log.contains("secret"), "{log}");
}

/// Longer than the writer tries to publish, and than the other parts wait.
const FROZEN: Duration = Duration::from_secs(30);

#[tokio::test]
async fn while_redis_stands_still_for_half_a_minute_clients_are_told_and_afterwards_all_goes_on() {
    let stack = Stack::start().await;
    let url = stack.database_url();
    let (server, database) = url.rsplit_once('@').unwrap().1.split_once('/').unwrap();
    let tap = Tap::postgres(server.parse().unwrap()).await;
    let through = format!("postgres://postgres@{}/{database}", tap.address);
    let mut pair = Pair::on(stack, &[("DATABASE_URL", through)]).await;
    pair.talk("before").await;
    // A message has its place and is about to be committed when Redis stops.
    tap.take();
    tap.hold("COMMIT");
    pair.clients[0].send(json!({"type": "send_message", "content": "in flight", "client_id": "in flight"})).await;
    eventually("it is to be committed", || async { tap.count(|heard| heard.words[0] == "COMMIT") == 1 }).await;
    pair.stack.redis_server().pause().await;
    let goes_on = Instant::now() + FROZEN;
    tap.release();
    eventually("it is committed", || async { pair.stored("in flight").await == 1 }).await;
    pair.clients[1].send(json!({"type": "request_history", "limit": 1})).await;
    let history = pair.clients[1].wait_for("message_history").await;
    assert_eq!(history["messages"][0]["content"], "in flight", "who looks finds it");
    pair.refuses_sends().await;
    for client in &mut pair.clients {
        client.send(json!({"type": "typing", "is_typing": true})).await;
        client.send(json!({"type": "ping"})).await;
        client.wait_for("pong").await;
    }
    pair.turns_newcomers_away().await;
    pair.is_not_ready("fan_out").await;
    // The instance that committed it gives up publishing; the others have to mend that.
    pair.gateways[0].wait_for_log("events could not be published and are seen in history only").await;
    pair.refuses_sends().await;
    sleep_until(goes_on).await; // how long it is frozen is what is tested
    pair.heals("Redis frozen for 30 s, and goes on");
    pair.stack.redis_server().resume().await;
    pair.send(0, "in flight").await;
    pair.works_again().await;
}

#[tokio::test]
async fn what_was_refused_while_redis_stood_still_goes_through_when_it_is_sent_again() {
    let mut pair = pair().await;
    for client in &mut pair.clients {
        send_until_stored(client, "Redis knows the scripts").await;
    }
    pair.stack.redis_server().pause().await;
    pair.refuses_sends().await;
    pair.stack.redis_server().resume().await;
    for client in &mut pair.clients {
        send_until_stored(client, "it works again").await; // the claims that came too late were run before
        client.send(json!({"type": "send_message", "content": "lost?", "client_id": "c"})).await;
        let is_answer = |event: &Value| event["event"] == "message_ack" || event["event"] == "error";
        let answer = client.wait_until("an answer", is_answer).await;
        assert_eq!(answer["event"], "message_ack", "nobody is writing it: {answer}");
    }
    assert_eq!(pair.stored("lost?").await, 2, "one of each");
}

#[tokio::test]
async fn a_ticket_that_redis_could_not_check_while_it_stood_still_is_good_afterwards() {
    let mut pair = pair().await;
    pair.talk("before").await;
    let state = first_state(&pair.clients[0]);
    let (mut ticket, (epoch, offset)) = (pair.clients[0].ticket().await, place(&state));
    let come_back = |gateway: usize, ticket: &str| {
        let dial = pair.gateways[gateway].dial(&pair.room.path()).query("resume_token", ticket);
        dial.query("epoch", &epoch).query("offset", &offset.to_string()).connect()
    };
    for gateway in 0..2 {
        // Redis knows the scripts from then on.
        ticket = come_back(gateway, &ticket).await.ticket().await;
    }
    pair.stack.redis_server().pause().await;
    for gateway in 0..2 {
        assert_eq!(come_back(gateway, &ticket).await.expect_close().await.0, 1013);
    }
    pair.stack.redis_server().resume().await;
    pair.gateways[0].ready().await;
    pair.gateways[1].ready().await;
    let resumed = come_back(1, &ticket).await.expect_event("resumed").await;
    assert_eq!(resumed["events"][0]["message"]["content"], "before");
    assert_eq!(come_back(0, &ticket).await.expect_close().await.0, 4001, "once, on any instance");
}

#[tokio::test]
async fn when_redis_was_killed_and_came_back_empty_all_goes_on() {
    let mut pair = pair().await;
    pair.talk("before").await;
    pair.stack.redis_server().kill().await;
    pair.refuses_sends().await;
    for client in &mut pair.clients {
        client.send(json!({"type": "typing", "is_typing": true})).await;
        client.send(json!({"type": "request_history", "limit": 1})).await;
        client.wait_for("message_history").await; // reading goes on
        client.send(json!({"type": "ping"})).await;
        client.wait_for("pong").await;
    }
    pair.turns_newcomers_away().await;
    pair.is_not_ready("fan_out").await;
    pair.heals("Redis killed and started again, empty");
    pair.stack.redis_server().restart().await;
    pair.works_again().await;
    let mut late = pair.gateways[0].enter_by_jwt(&pair.room, &pair.late).await;
    assert_eq!(first_state(&late)["messages"][0]["content"], "before");
    late.send(json!({"type": "ping"})).await;
    late.wait_for("pong").await;
}

#[tokio::test]
async fn those_online_are_online_again_when_redis_came_back_empty() {
    let stack = Stack::start().await;
    let start = || stack.gateway().env("GATEWAY_PRESENCE_SECONDS", 4).env("GATEWAY_PRESENCE_GRACE_SECONDS", 0).start();
    let gateways = [start().await, start().await];
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let _ada = gateways[0].enter(&room, &ada).await;
    let mut grace = gateways[1].enter(&room, &grace).await;
    grace.expect_event("user_joined").await;
    stack.redis_server().kill().await;
    stack.redis_server().restart().await;
    eventually("both are in the set again", || async {
        let key = format!("community:presence:{}", room.id);
        redis::cmd("ZCARD").arg(key).query_async::<i64>(&mut stack.redis().await).await.unwrap() == 2
    })
    .await;
    send_until_stored(&mut grace, "marker").await;
    let said: Vec<&String> = grace.seen().iter().filter(|event| event.contains("user_left")).collect();
    assert!(said.is_empty(), "nobody has left: {said:?}");
}

#[tokio::test]
async fn sessions_of_postgres_that_were_ended_are_opened_again() {
    let mut pair = pair().await;
    pair.talk("before").await;
    pair.heals("all sessions of Postgres ended");
    let end_all = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                   WHERE datname = current_database() AND pid <> pg_backend_pid()";
    sqlx::query(end_all).execute(&mut *pair.stack.db().acquire().await.unwrap()).await.unwrap();
    pair.works_again().await;
}

#[tokio::test]
async fn a_room_that_is_locked_refuses_and_the_others_go_on() {
    let mut pair = pair().await;
    let other = pair.stack.room(RoomSpec::default()).await;
    let mut elsewhere = pair.gateways[0].enter_by_jwt(&other, &pair.late).await;
    let mut lock = pair.stack.db().begin().await.unwrap();
    sqlx::query("SELECT FROM community_room WHERE id = $1 FOR UPDATE")
        .bind(pair.room.id)
        .execute(&mut *lock)
        .await
        .unwrap();
    let (refusal, _) = tokio::join!(refused(&mut pair.clients[0]), send_until_stored(&mut elsewhere, "over here"));
    assert_eq!(refusal["code"], "unavailable");
    assert!(refusal["retryAfter"].as_f64().unwrap() > 0.0, "{refusal}");
    pair.heals("the lock on a room ended");
    lock.rollback().await.unwrap();
    pair.works_again().await;
    assert_eq!(pair.stored("locked out").await, 0);
}

/// Sends what is to be refused, and returns the refusal.
async fn refused(client: &mut TestClient) -> Value {
    client.send(json!({"type": "send_message", "content": "locked out", "client_id": "locked out"})).await;
    client.wait_for("error").await
}
