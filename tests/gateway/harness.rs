//! The harness itself: what the other tests rest on.

use std::path::Path;

use serde_json::json;

use crate::support::{ORIGIN, RoomSpec, Stack, TestClient, UserSpec, eventually};

#[tokio::test]
async fn every_stack_has_a_database_of_its_own() {
    let (one, two) = tokio::join!(Stack::start(), Stack::start());
    let room = one.room(RoomSpec::default()).await;
    let ada = one.user("ada").await;
    one.member(&room, &ada, "member").await;

    let rooms = "SELECT count(*) FROM community_room";
    assert_eq!(sqlx::query_scalar::<_, i64>(rooms).fetch_one(one.db()).await.unwrap(), 1);
    assert_eq!(sqlx::query_scalar::<_, i64>(rooms).fetch_one(two.db()).await.unwrap(), 0);
    let members = "SELECT member_count FROM community_room";
    assert_eq!(sqlx::query_scalar::<_, i32>(members).fetch_one(one.db()).await.unwrap(), 1);
    let again = two.user_with("ada", UserSpec { active: false, ..UserSpec::default() }).await;
    assert_eq!(again.username, ada.username);
}

#[tokio::test]
async fn seeded_messages_are_in_the_order_of_their_times() {
    let stack = Stack::start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let ids = stack.messages(&room, &ada, 120).await;

    let by_time = "SELECT id FROM community_message ORDER BY created_at";
    assert_eq!(sqlx::query_scalar::<_, uuid::Uuid>(by_time).fetch_all(stack.db()).await.unwrap(), ids);
}

#[tokio::test]
async fn a_token_is_where_django_puts_it() {
    let stack = Stack::start().await;
    let ada = stack.user("ada").await;
    let token = stack.token(&ada).await;

    let mut cache = stack.cache().await;
    let key = format!("allthrive:1:ws_conn_token:{token}");
    let value: String = redis::cmd("GETDEL").arg(&key).query_async(&mut cache).await.unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&value).unwrap()["user_id"], ada.id);
    let mut realtime = stack.redis().await;
    let keys: i64 = redis::cmd("DBSIZE").query_async(&mut realtime).await.unwrap();
    assert_eq!(keys, 0);
}

#[tokio::test]
async fn redis_can_be_paused_killed_and_restarted() {
    let stack = Stack::start().await;
    let mut connection = stack.redis().await;
    let ping = || redis::cmd("PING");

    stack.redis_server().pause().await;
    assert!(ping().exec_async(&mut connection).await.is_err(), "a paused Redis does not answer");
    stack.redis_server().resume().await;
    eventually("a resumed Redis answers", || {
        let mut connection = connection.clone();
        async move { ping().exec_async(&mut connection).await.is_ok() }
    })
    .await;

    stack.redis_server().kill().await;
    assert!(ping().exec_async(&mut connection).await.is_err(), "a killed Redis does not answer");
    stack.redis_server().restart().await;
    let mut connection = stack.redis().await;
    assert!(ping().exec_async(&mut connection).await.is_ok());
}

#[tokio::test]
async fn a_browser_comes_in_by_cookie_from_a_listed_origin_only() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let browser = |origin: &str| gateway.dial(&room.path()).origin(origin).cookie("access_token", &stack.jwt(&ada));

    let mut client = browser(ORIGIN).source("127.0.0.2").receive_buffer(16_384).connect().await;
    assert_eq!(client.expect_event("room_state").await["room"]["id"], room.id.to_string());
    let refused = browser("http://elsewhere.test").refused().await;
    assert_eq!(refused.status, 403);
    assert_eq!(refused.header("content-type"), Some("application/json"), "{refused:?}");
    assert_eq!(gateway.get(&room.path()).await.status, 426);

    let mut other = gateway.dial(&room.path()).jwt(&stack.jwt(&ada)).connect().await;
    other.expect_event("room_state").await;
    let claims = json!({"token_type": "access", "exp": 1, "iat": 0, "jti": "x", "user_id": ada.id.to_string()});
    let mut expired = gateway.dial(&room.path()).jwt(&stack.sign(&claims)).connect().await;
    assert_eq!(expired.expect_close().await.0, 4001);
}

#[tokio::test]
async fn a_client_says_what_it_likes_and_sees_what_comes() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let mut client = TestClient::connect(&gateway, &room.path(), &stack.token(&ada).await).await;
    client.wait_for("user_joined").await;

    client.send_text("not JSON").await;
    assert_eq!(client.expect_event("error").await["message"], "Invalid JSON format");
    client.expect_silence().await;
    client.send(json!({"type": "typing", "is_typing": true})).await;
    client.send(json!({"type": "send_message", "content": "hello"})).await;
    let events = client.events_until("new_message").await;
    assert_eq!(events.last().unwrap()["message"]["content"], "hello");
    assert_eq!(client.seen().len(), 5 + events.len(), "room_state, user_joined, session, error, pong, and these");
    client.close().await;

    let mut client = gateway.enter(&room, &ada).await;
    client.send_raw(&[0x81, 0]).await; // an unmasked frame, which no client may send
    assert_eq!(client.expect_close().await.0, 1002);
}

#[tokio::test]
async fn a_killed_gateway_is_gone_at_once() {
    let stack = Stack::start().await;
    let mut gateway = stack.gateway().start_unready().await;
    gateway.ready().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let mut client = gateway.enter(&room, &ada).await;
    let process = format!("/proc/{}/cmdline", gateway.pid());
    assert!(Path::new(&process).exists());

    gateway.kill9().await;
    assert_eq!(client.expect_close().await.0, 1006);
    assert!(!Path::new(&process).exists());
}

#[tokio::test]
async fn the_other_subcommands_run_to_their_end() {
    let stack = Stack::start().await;
    let (code, lines) = stack.gateway().run(&["config"]).await;
    assert_eq!(code, 0, "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("GATEWAY_LISTEN")), "{lines:#?}");

    let (code, lines) = stack.gateway().without("DATABASE_URL").env("GATEWAY_DB_POOL", "many").run(&["serve"]).await;
    assert_eq!(code, 64, "{lines:#?}");
    for name in ["DATABASE_URL", "GATEWAY_DB_POOL"] {
        assert!(lines.iter().any(|line| line.contains(name)), "{name} is not named: {lines:#?}");
    }
}
