//! The harness itself: what the other tests rest on.

use crate::support::{RoomSpec, Stack, UserSpec, eventually};

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
