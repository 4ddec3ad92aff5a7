//! Limits of sends, frames and connections.

use serde_json::{Value, json};

use crate::support::{RoomSpec, Stack, TestClient, TestUser, eventually};

fn say(client_id: &str) -> Value {
    json!({"type": "send_message", "content": "hello", "client_id": client_id})
}

/// Sends and says whether it was acknowledged; otherwise the refusal.
async fn try_send(client: &mut TestClient) -> Result<(), Value> {
    let mine = uuid::Uuid::new_v4().to_string();
    client.send(say(&mine)).await;
    let answer = client.wait_until("an answer", |event| event["clientId"] == mine && event["event"] != "new_message");
    match answer.await {
        event if event["event"] == "message_ack" => Ok(()),
        event => Err(event),
    }
}

async fn stored(stack: &Stack) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM community_message").fetch_one(stack.db()).await.unwrap()
}

/// Moves the times of a user's sends into the past.
async fn age(stack: &Stack, user: &TestUser, which: std::ops::RangeInclusive<i64>, seconds: i64) {
    let mut redis = stack.redis().await;
    let key = format!("rate_limit:community:{}", user.id);
    let mut range = redis::cmd("ZRANGE");
    range.arg(&key).arg(which.start()).arg(which.end());
    let members: Vec<String> = range.query_async(&mut redis).await.unwrap();
    for member in members {
        redis::cmd("ZINCRBY").arg(&key).arg(-seconds * 1_000_000).arg(member).exec_async(&mut redis).await.unwrap();
    }
}

#[tokio::test]
async fn the_eleventh_send_of_a_minute_is_refused_on_every_instance() {
    let stack = Stack::start().await;
    let (one, two) = (stack.gateway().start().await, stack.gateway().start().await);
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let (mut a, mut b) = (one.enter(&room, &ada).await, two.enter(&room, &ada).await);
    for _ in 0..5 {
        assert_eq!(try_send(&mut a).await, Ok(()));
        assert_eq!(try_send(&mut b).await, Ok(()));
    }
    for client in [&mut a, &mut b] {
        let refusal = try_send(client).await.unwrap_err();
        let wait = refusal["retryAfter"].as_f64().unwrap();
        assert!(wait > 0.0 && wait <= 60.0, "{wait}");
        assert_eq!(
            refusal,
            json!({"event": "error", "message": "Rate limit exceeded. Please slow down.", "code": "rate_limited",
                   "retryAfter": wait, "clientId": refusal["clientId"], "requestType": "send_message"})
        );
    }
    assert_eq!(stored(&stack).await, 10);
}

#[tokio::test]
async fn the_window_slides_and_what_was_refused_does_not_count() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let mut client = gateway.enter(&room, &ada).await;
    for _ in 0..10 {
        assert_eq!(try_send(&mut client).await, Ok(()));
    }
    for _ in 0..5 {
        assert!(try_send(&mut client).await.is_err());
    }
    age(&stack, &ada, 0..=2, 61).await;
    for _ in 0..3 {
        assert_eq!(try_send(&mut client).await, Ok(()), "three places are free again, not more, not less");
    }
    age(&stack, &ada, 3..=3, 50).await;
    let wait = try_send(&mut client).await.unwrap_err()["retryAfter"].as_f64().unwrap();
    assert!(wait > 0.0 && wait <= 10.0, "the next place is free when the oldest is a minute old, not in {wait} s");
}

#[tokio::test]
async fn an_hour_has_its_own_limit() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().env("GATEWAY_LIMIT_MESSAGES_PER_HOUR", 12).start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let mut client = gateway.enter(&room, &ada).await;
    for _ in 0..10 {
        assert_eq!(try_send(&mut client).await, Ok(()));
    }
    age(&stack, &ada, 0..=9, 120).await;
    for _ in 0..2 {
        assert_eq!(try_send(&mut client).await, Ok(()));
    }
    let wait = try_send(&mut client).await.unwrap_err()["retryAfter"].as_f64().unwrap();
    assert!(wait > 3_000.0 && wait <= 3_480.0, "{wait}");
}

#[tokio::test]
async fn users_have_limits_of_their_own() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().env("GATEWAY_LIMIT_MESSAGES_PER_MINUTE", 1).start().await;
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let (mut a, mut b) = (gateway.enter(&room, &ada).await, gateway.enter(&room, &grace).await);
    assert_eq!(try_send(&mut a).await, Ok(()));
    assert!(try_send(&mut a).await.is_err());
    assert_eq!(try_send(&mut b).await, Ok(()));
}

#[tokio::test]
async fn a_send_that_was_wrong_takes_no_place() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().env("GATEWAY_LIMIT_MESSAGES_PER_MINUTE", 1).start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let mut client = gateway.enter(&room, &ada).await;
    client.send(json!({"type": "send_message", "content": " "})).await;
    client.wait_for("error").await;
    assert_eq!(try_send(&mut client).await, Ok(()));
}

#[tokio::test]
async fn too_many_frames_are_refused_and_then_end_the_connection() {
    let stack = Stack::start().await;
    let gateway =
        stack.gateway().env("GATEWAY_LIMIT_FRAMES_PER_SECOND", 1).env("GATEWAY_LIMIT_FRAMES_BURST", 5).start().await;
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let mut calm = gateway.enter(&room, &grace).await;
    let mut client = gateway.enter(&room, &ada).await;
    client.expect_event("user_joined").await;
    for _ in 0..5 {
        client.send(json!({"type": "ping"})).await;
        client.expect_event("pong").await;
    }
    for _ in 0..60 {
        client.send(json!({"type": "ping"})).await;
    }
    let refusal = client.wait_for("error").await;
    assert_eq!(
        (&refusal["code"], &refusal["message"]),
        (&json!("rate_limited"), &json!("Rate limit exceeded. Please slow down."))
    );
    let wait = refusal["retryAfter"].as_f64().unwrap();
    assert!(wait > 0.0 && wait <= 1.0, "{wait}");
    assert_eq!(client.expect_close().await.0, 1008);
    calm.send(json!({"type": "ping"})).await;
    calm.wait_for("pong").await;
}

#[tokio::test]
async fn the_sixth_connection_of_a_user_is_refused_whatever_the_instance() {
    let stack = Stack::start().await;
    let (one, two) = (stack.gateway().start().await, stack.gateway().start().await);
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let mut open = Vec::new();
    for at in 0..5 {
        open.push([&one, &two][at % 2].enter(&room, &ada).await);
    }
    for gateway in [&one, &two] {
        let mut sixth = gateway.dial(&room.path()).token(&stack.token(&ada).await).connect().await;
        let error = sixth.expect_event("error").await;
        assert_eq!(error["code"], "too_many_connections");
        assert!(error["retryAfter"].as_f64().unwrap() > 0.0, "{error}");
        assert_eq!(sixth.expect_close().await.0, 4029);
    }
    for client in &mut open {
        client.send(json!({"type": "ping"})).await;
        client.wait_for("pong").await;
    }
}

#[tokio::test]
async fn a_place_is_given_back_when_its_socket_closes() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().env("GATEWAY_LIMIT_CONNECTIONS_PER_USER", 1).start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let places = || async {
        let key = format!("community:sockets:{}", ada.id);
        redis::cmd("ZCARD").arg(key).query_async::<i64>(&mut stack.redis().await).await.unwrap()
    };
    gateway.enter(&room, &ada).await.close().await;
    eventually("the place of a closed socket is free", || async { places().await == 0 }).await;
    drop(gateway.enter(&room, &ada).await);
    eventually("the place of a lost socket is free", || async { places().await == 0 }).await;
    gateway.enter(&room, &ada).await;
}

#[tokio::test]
async fn a_user_may_open_so_many_new_connections_a_minute() {
    let stack = Stack::start().await;
    let (one, two) = (stack.gateway().start().await, stack.gateway().start().await);
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    for at in 0..10 {
        [&one, &two][at % 2].enter_by_jwt(&room, &ada).await.close().await;
        let key = format!("community:sockets:{}", ada.id);
        eventually("the place is free", || async {
            redis::cmd("ZCARD").arg(&key).query_async::<i64>(&mut stack.redis().await).await.unwrap() == 0
        })
        .await;
    }
    let mut eleventh = one.dial(&room.path()).jwt(&stack.jwt(&ada)).connect().await;
    let error = eleventh.expect_event("error").await;
    assert_eq!(error["code"], "too_many_connects");
    let wait = error["retryAfter"].as_f64().unwrap();
    assert!(wait > 0.0 && wait <= 60.0, "{wait}");
    assert_eq!(eleventh.expect_close().await.0, 4029);
}

#[tokio::test]
async fn the_places_of_an_instance_that_was_killed_are_free_when_its_leases_end() {
    let stack = Stack::start().await;
    let settings = || {
        let builder = stack.gateway().env("GATEWAY_LIMIT_CONNECTIONS_PER_USER", 1);
        builder
            .env("GATEWAY_PRESENCE_SECONDS", 3)
            .env("GATEWAY_PRESENCE_GRACE_SECONDS", 0)
            .env("GATEWAY_LIMIT_CONNECTS_PER_MINUTE", 0)
    };
    let (mut one, two) = (settings().start().await, settings().start().await);
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let _open = one.enter(&room, &ada).await;
    one.kill9().await;
    let mut early = two.dial(&room.path()).jwt(&stack.jwt(&ada)).connect().await;
    assert_eq!(early.expect_close().await.0, 4029);
    eventually("the user gets in again", || async {
        let mut client = two.dial(&room.path()).jwt(&stack.jwt(&ada)).connect().await;
        client.wait_until("an answer", |_| true).await["event"] == "room_state"
    })
    .await;
}

#[tokio::test]
async fn a_socket_keeps_its_place_for_longer_than_a_lease() {
    let stack = Stack::start().await;
    let gateway = stack
        .gateway()
        .env("GATEWAY_LIMIT_CONNECTIONS_PER_USER", 1)
        .env("GATEWAY_PRESENCE_SECONDS", 1)
        .env("GATEWAY_PRESENCE_GRACE_SECONDS", 0)
        .start()
        .await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let _open = gateway.enter(&room, &ada).await;
    let mut redis = stack.redis().await;
    let lease_ends = async |redis: &mut redis::aio::MultiplexedConnection| {
        let mut range = redis::cmd("ZRANGE");
        range.arg(format!("community:sockets:{}", ada.id)).arg(0).arg(-1).arg("WITHSCORES");
        let leases: Vec<(String, f64)> = range.query_async(redis).await.unwrap();
        assert_eq!(leases.len(), 1, "the place is never lost");
        leases[0].1
    };
    let first = lease_ends(&mut redis).await;
    eventually("the lease was renewed beyond its first end", || {
        let mut redis = redis.clone();
        async move { lease_ends(&mut redis).await > first + 1_500_000.0 }
    })
    .await;
}
