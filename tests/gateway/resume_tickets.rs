//! Coming back with a ticket: without Django, once, for as long as nobody ended the session.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::resume_replay::{place, say, without_limits};
use crate::support::{RoomSpec, Stack, TestClient, TestGateway, TestRoom, eventually};

/// Comes back with a ticket and a place; what follows is the client's to look at.
async fn come_back(gateway: &TestGateway, room: &TestRoom, ticket: &str, since: &(String, u64)) -> TestClient {
    let dial = gateway.dial(&room.path()).query("resume_token", ticket);
    dial.query("epoch", &since.0).query("offset", &since.1.to_string()).connect().await
}

async fn refused(gateway: &TestGateway, room: &TestRoom, ticket: &str, reason: &str) {
    let labels = [("credential", "ticket"), ("outcome", reason)];
    let before = gateway.metric("community_gateway_logins_total", &labels).await;
    let mut client = gateway.dial(&room.path()).query("resume_token", ticket).connect().await;
    assert_eq!(client.expect_close().await.0, 4001, "{reason}");
    assert_eq!(gateway.metric("community_gateway_logins_total", &labels).await, before + 1.0, "{reason}");
    let told = gateway.log_lines().iter().any(|line| ticket.len() > 50 && line.contains(ticket));
    assert!(!told, "no ticket in the log");
}

/// What Redis has counted of a command since it began.
async fn calls(stack: &Stack, command: &str) -> u64 {
    let stats: String = redis::cmd("INFO").arg("commandstats").query_async(&mut stack.redis().await).await.unwrap();
    let prefix = format!("cmdstat_{command}:calls=");
    let counted = stats.lines().find_map(|line| line.strip_prefix(&prefix)?.split(',').next()?.parse().ok());
    counted.unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_lets_one_in_on_another_instance_and_asks_django_for_nothing() {
    let stack = Stack::start().await;
    // One new socket a minute: returning ones do not count.
    let start = || stack.gateway().env("GATEWAY_LIMIT_CONNECTS_PER_MINUTE", 1).start();
    let (one, two) = (start().await, start().await);
    let room = stack.room(RoomSpec { visibility: "private", ..RoomSpec::default() }).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    stack.member(&room, &ada, "member").await;
    stack.member(&room, &grace, "member").await;
    let mut a = one.dial(&room.path()).token(&stack.token(&ada).await).connect().await;
    let since = place(&a.expect_event("room_state").await);
    let mut ticket = a.ticket().await;
    drop(a);
    let mut g = two.enter(&room, &grace).await;
    say(&mut g, "missed").await;
    let session_keys = || async {
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut stack.cache().await).await.unwrap();
        keys.len()
    };
    let before = (calls(&stack, "getdel").await, session_keys().await);
    for gateway in [&two, &one, &two] {
        let mut a = come_back(gateway, &room, &ticket, &since).await;
        let resumed = a.expect_event("resumed").await;
        assert_eq!(
            (&resumed["recovered"], &resumed["events"][0]["message"]["content"]),
            (&json!(true), &json!("missed"))
        );
        ticket = a.ticket().await;
    }
    assert_eq!((calls(&stack, "getdel").await, session_keys().await), before, "Django's cache is not touched");
    let fresh = one.dial(&room.path()).token(&stack.token(&ada).await).connect().await.expect_close().await;
    assert_eq!(fresh.0, 4029, "a new login counts");
    assert_eq!(two.metric("community_gateway_logins_total", &[("credential", "ticket"), ("outcome", "ok")]).await, 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_return_asks_postgres_for_nothing() {
    let stack = Stack::start().await;
    let gateway = without_limits(&stack).start().await;
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let mut g = gateway.enter(&room, &grace).await;
    let mut a = gateway.dial(&room.path()).token(&stack.token(&ada).await).connect().await;
    let since = place(&a.expect_event("room_state").await);
    let mut ticket = a.ticket().await;
    say(&mut g, "missed").await;
    // From here on Postgres refuses everything: nobody needs it.
    let block = "ALTER TABLE users_user RENAME TO away; ALTER TABLE community_room RENAME TO away_too; \
                 ALTER TABLE community_message RENAME TO away_as_well";
    sqlx::raw_sql(block).execute(stack.db()).await.unwrap();
    for _ in 0..5 {
        drop(a);
        a = come_back(&gateway, &room, &ticket, &since).await;
        let resumed = a.expect_event("resumed").await;
        assert_eq!((&resumed["recovered"], resumed["onlineCount"].as_u64()), (&json!(true), Some(2)));
        assert_eq!(resumed["onlineUsers"].as_array().unwrap().len(), 2);
        ticket = a.ticket().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_returns_has_a_new_ticket_before_what_was_missed() {
    let stack = Stack::start().await;
    let gateway = without_limits(&stack).start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let mut a = gateway.enter(&room, &ada).await;
    let state: serde_json::Value = serde_json::from_str(&a.seen()[0]).unwrap();
    let (since, ticket) = (place(&state), a.ticket().await);
    say(&mut a, "missed").await;
    let mut a = come_back(&gateway, &room, &ticket, &since).await;
    a.expect_event("resumed").await;
    assert!(a.seen()[0].contains("resumeToken"), "{:?}", a.seen());
    assert_ne!(a.ticket().await, ticket);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_too_many_sockets_on_returning_gets_another_ticket() {
    let stack = Stack::start().await;
    let limited = stack.gateway().env("GATEWAY_LIMIT_CONNECTIONS_PER_USER", 1);
    let gateway = limited.env("GATEWAY_PRESENCE_GRACE_SECONDS", 0).start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let no_socket_counts = || async {
        let key = format!("community:sockets:{}", ada.id);
        !redis::cmd("EXISTS").arg(key).query_async::<bool>(&mut stack.redis().await).await.unwrap()
    };
    let mut a = gateway.enter(&room, &ada).await;
    let state: serde_json::Value = serde_json::from_str(&a.seen()[0]).unwrap();
    let (since, ticket) = (place(&state), a.ticket().await);
    a.close().await;
    eventually("the first is gone", no_socket_counts).await;
    let another = gateway.enter(&room, &ada).await;
    let mut refused = come_back(&gateway, &room, &ticket, &since).await;
    assert_eq!(refused.expect_event("error").await["code"], "too_many_connections");
    assert_eq!(refused.expect_close().await.0, 4029);
    let told = refused.seen().iter().filter_map(|event| serde_json::from_str::<serde_json::Value>(event).ok());
    let session =
        told.into_iter().find(|event| event["event"] == "session").expect("a ticket in place of the used one");
    another.close().await;
    eventually("the other is gone", no_socket_counts).await;
    let mut a = come_back(&gateway, &room, session["resumeToken"].as_str().unwrap(), &since).await;
    a.expect_event("resumed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_returns_takes_the_place_of_a_socket_that_is_half_open() {
    let stack = Stack::start().await;
    let start = || without_limits(&stack).env("GATEWAY_LIMIT_CONNECTIONS_PER_USER", 1).start();
    let (one, two) = (start().await, start().await);
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let mut former = one.enter(&room, &ada).await;
    let state: serde_json::Value = serde_json::from_str(&former.seen()[0]).unwrap();
    let (since, mut ticket) = (place(&state), former.ticket().await);
    for gateway in [&two, &one, &one] {
        let mut now = come_back(gateway, &room, &ticket, &since).await;
        now.expect_event("resumed").await;
        assert_eq!(former.expect_close().await, (4008, "its client came back on another socket".to_owned()));
        ticket = now.ticket().await;
        let key = format!("community:sockets:{}", ada.id);
        eventually("one counts", || async {
            redis::cmd("ZCARD").arg(&key).query_async::<u64>(&mut stack.redis().await).await.unwrap() == 1
        })
        .await;
        former = now;
    }
    let fresh = two.dial(&room.path()).token(&stack.token(&ada).await).connect().await.expect_close().await;
    assert_eq!(fresh.0, 4029, "a new login is one more");
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_rights_are_gone_is_out_within_a_second_or_so_of_returning() {
    let stack = Stack::start().await;
    let gateway = without_limits(&stack).start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let mut a = gateway.dial(&room.path()).token(&stack.token(&ada).await).connect().await;
    let since = place(&a.expect_event("room_state").await);
    let ticket = a.ticket().await;
    drop(a);
    // Banned, and Django's word of it was lost.
    stack.member(&room, &ada, "banned").await;
    let mut a = come_back(&gateway, &room, &ticket, &since).await;
    assert_eq!(a.expect_close().await.0, 4003);
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_changed_used_and_old_tickets_are_refused() {
    let stack = Stack::start().await;
    let (one, two) = (without_limits(&stack).start().await, without_limits(&stack).start().await);
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let mut a = one.enter(&room, &ada).await;
    let ticket = a.ticket().await;
    for text in ["x", "0", &ticket[1..], &format!("{ticket}A"), &"!".repeat(ticket.len())] {
        refused(&two, &room, text, "malformed").await;
    }
    let mut bytes = URL_SAFE_NO_PAD.decode(&ticket).unwrap();
    bytes[20] ^= 1; // of the user
    refused(&two, &room, &URL_SAFE_NO_PAD.encode(&bytes), "bad_signature").await;
    // Of a deployment with another key, on the same Redis.
    let foreign = stack.gateway().env("SECRET_KEY", "another-key-of-another-django-deployment").start().await;
    refused(&foreign, &room, &ticket, "bad_signature").await;

    // Of twenty at once, on two instances, one gets in.
    let attempts = (0..20).map(|number| {
        let dial = [&one, &two][number % 2].dial(&room.path()).query("resume_token", &ticket);
        async move {
            let mut client = dial.connect().await;
            client.send(json!({"type": "ping"})).await;
            let first = client.next_message().await;
            first.is_text()
        }
    });
    let let_in = futures_util::future::join_all(attempts).await;
    assert_eq!(let_in.iter().filter(|let_in| **let_in).count(), 1);
    refused(&one, &room, &ticket, "replayed").await;

    // A ticket that is bad does not fall through to the cookie beside it.
    let cookie = stack.jwt(&ada);
    let dial = one.dial(&room.path()).query("resume_token", &ticket).cookie("access_token", &cookie);
    assert_eq!(dial.connect().await.expect_close().await.0, 4001);

    let short = without_limits(&stack).env("GATEWAY_RESUME_SECONDS", 1).start().await;
    let mut a = short.enter(&room, &ada).await;
    let ticket = a.ticket().await;
    // It is renewed as long as one stays. The third renewal is more than a second after the first ticket.
    while a.seen().iter().filter(|event| event.contains("resumeToken")).count() < 4 {
        a.send(json!({"type": "ping"})).await;
        a.wait_for("pong").await;
    }
    drop(a);
    refused(&one, &room, &ticket, "expired").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_django_ends_no_ticket_brings_back() {
    let stack = Stack::start().await;
    let (one, two) = (without_limits(&stack).start().await, without_limits(&stack).start().await);
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let mut a = one.enter(&room, &ada).await;
    let mut g = two.enter(&room, &grace).await;
    let (of_ada, of_grace) = (a.ticket().await, g.ticket().await);
    stack.order(json!({"action": "disconnect", "user": ada.id.to_string()})).await;
    assert_eq!(a.expect_close().await.0, 4001);
    for gateway in [&one, &two] {
        gateway.wait_for_log("an order is obeyed").await;
    }
    refused(&two, &room, &of_ada, "revoked").await;
    // Nobody else's, and not what a new login is given.
    let mut g = come_back(&one, &room, &of_grace, &("1".to_owned(), 1)).await;
    g.expect_event("resumed").await;
    let ticket = one.enter(&room, &ada).await.ticket().await;
    come_back(&two, &room, &ticket, &("1".to_owned(), 1)).await.expect_event("resumed").await;

    // A logout ends sessions up to a version, and their tickets.
    let version = |number: i64| {
        let (key, user) = (format!("allthrive:1:session:version:{}", grace.id), stack.cache());
        async move {
            let _: () = redis::cmd("SET").arg(key).arg(number).query_async(&mut user.await).await.unwrap();
        }
    };
    version(3).await;
    let mut old = one.enter(&room, &grace).await;
    let of_old = old.ticket().await;
    version(4).await;
    let mut new = two.enter(&room, &grace).await;
    let of_new = new.ticket().await;
    stack.order(json!({"action": "logout", "user": grace.id.to_string(), "session_version": 4})).await;
    assert_eq!(old.expect_close().await.0, 4001);
    refused(&two, &room, &of_old, "revoked").await;
    come_back(&one, &room, &of_new, &("1".to_owned(), 1)).await.expect_event("resumed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tickets_none_are_given_and_none_are_taken() {
    let stack = Stack::start().await;
    let one = without_limits(&stack).start().await;
    let without = without_limits(&stack).env("GATEWAY_RESUME_SECONDS", 0).start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let ticket = one.enter(&room, &ada).await.ticket().await;
    refused(&without, &room, &ticket, "off").await;
    let mut a = without.enter(&room, &ada).await;
    say(&mut a, "the marker").await;
    assert!(a.seen().iter().all(|event| !event.contains("resumeToken")));
}
