//! Orders from Django, obeyed by every instance.

use serde_json::{Value, json};

use crate::support::{RoomSpec, Stack, TestClient, TestGateway, TestRoom, TestUser, eventually};

struct House {
    stack: Stack,
    one: TestGateway,
    two: TestGateway,
    room: TestRoom,
    ada: TestUser,
    grace: TestUser,
}

async fn house() -> House {
    let stack = Stack::start().await;
    let (one, two) = (stack.gateway().start().await, stack.gateway().start().await);
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    stack.member(&room, &ada, "member").await;
    House { stack, one, two, room, ada, grace }
}

impl House {
    async fn sql(&self, statement: &str) {
        sqlx::query(sqlx::AssertSqlSafe(statement.to_owned())).execute(self.stack.db()).await.unwrap();
    }
}

/// Still here, and nothing said.
async fn lives(client: &mut TestClient) {
    client.send(json!({"type": "ping"})).await;
    client.wait_for("pong").await;
}

#[tokio::test]
async fn disconnect_ends_every_socket_of_a_user() {
    let house = house().await;
    let other = house.stack.room(RoomSpec::default()).await;
    let mut tabs = [
        house.one.enter(&house.room, &house.ada).await,
        house.two.enter(&house.room, &house.ada).await,
        house.two.enter(&other, &house.ada).await,
    ];
    let mut grace = house.one.enter(&house.room, &house.grace).await;
    house.stack.order(json!({"action": "disconnect", "user": house.ada.id.to_string()})).await;
    for tab in &mut tabs {
        assert_eq!(tab.expect_close().await, (4001, "session ended".to_owned()));
    }
    lives(&mut grace).await;
}

#[tokio::test]
async fn kick_ends_the_sockets_in_that_room_only() {
    let house = house().await;
    let other = house.stack.room(RoomSpec::default()).await;
    let mut inside = [house.one.enter(&house.room, &house.ada).await, house.two.enter(&house.room, &house.ada).await];
    let mut elsewhere = house.one.enter(&other, &house.ada).await;
    let mut grace = house.two.enter(&house.room, &house.grace).await;
    let order = json!({"action": "kick", "room": house.room.id, "user": house.ada.id.to_string()});
    house.stack.order(order).await;
    for tab in &mut inside {
        assert_eq!(tab.expect_close().await, (4003, "forbidden".to_owned()));
    }
    lives(&mut elsewhere).await;
    lives(&mut grace).await;
}

#[tokio::test]
async fn a_refresh_after_a_ban_ends_the_banned_and_nobody_else() {
    let house = house().await;
    for order in [
        json!({"action": "refresh", "room": house.room.id, "user": house.ada.id.to_string()}),
        json!({"action": "refresh", "user": house.ada.id.to_string()}),
        json!({"action": "refresh", "room": house.room.id}),
        json!({"action": "refresh"}),
    ] {
        house.sql("UPDATE community_roommembership SET role = 'member'").await;
        let mut tabs = [
            house.one.enter_by_jwt(&house.room, &house.ada).await,
            house.two.enter_by_jwt(&house.room, &house.ada).await,
        ];
        let mut grace = house.one.enter_by_jwt(&house.room, &house.grace).await;
        house.sql("UPDATE community_roommembership SET role = 'banned'").await;
        house.stack.order(order.clone()).await;
        for tab in &mut tabs {
            assert_eq!(tab.expect_close().await.0, 4003, "{order}");
        }
        lives(&mut grace).await;
        grace.close().await;
        let mut back = house.one.dial(&house.room.path()).jwt(&house.stack.jwt(&house.ada)).connect().await;
        assert_eq!(back.expect_close().await.0, 4003);
        let key = format!("community:sockets:{}", house.grace.id);
        eventually("grace's place is free", || async {
            redis::cmd("ZCARD").arg(&key).query_async::<i64>(&mut house.stack.redis().await).await.unwrap() == 0
        })
        .await;
        redis::cmd("DEL")
            .arg(format!("rate_limit:community:connects:{}", house.ada.id))
            .exec_async(&mut house.stack.redis().await)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_refresh_after_a_mute_is_in_force_at_once() {
    let house = house().await;
    let mut ada = house.two.enter(&house.room, &house.ada).await;
    let mut grace = house.two.enter(&house.room, &house.grace).await;
    ada.send(json!({"type": "send_message", "content": "hello", "client_id": "1"})).await;
    ada.wait_for("message_ack").await; // what she may do is remembered now
    house.sql("UPDATE community_roommembership SET role = 'muted'").await;
    house.stack.order(json!({"action": "refresh", "room": house.room.id, "user": house.ada.id.to_string()})).await;
    // A marker: orders are obeyed in their order.
    let kick = json!({"action": "kick", "room": house.room.id, "user": house.grace.id.to_string()});
    house.stack.order(kick).await;
    grace.expect_close().await;
    ada.send(json!({"type": "send_message", "content": "hello?"})).await;
    assert_eq!(ada.wait_for("error").await["code"], "cannot_send");
}

#[tokio::test]
async fn a_refresh_after_deactivation_is_an_end_of_the_session() {
    let house = house().await;
    let mut ada = house.one.enter(&house.room, &house.ada).await;
    house.sql("UPDATE users_user SET is_active = false WHERE username = 'ada'").await;
    house.stack.order(json!({"action": "refresh", "user": house.ada.id.to_string()})).await;
    assert_eq!(ada.expect_close().await.0, 4001);
}

#[tokio::test]
async fn a_logout_ends_the_sessions_that_are_older() {
    let house = house().await;
    let key = format!("allthrive:1:session:version:{}", house.ada.id);
    let mut cache = house.stack.cache().await;
    let mut tabs = Vec::new();
    for (gateway, number) in [(&house.one, 1), (&house.two, 2), (&house.two, 3)] {
        redis::cmd("SET").arg(&key).arg(number).exec_async(&mut cache).await.unwrap();
        let jwt = house.stack.sign(&json!({
            "token_type": "access", "exp": 4_000_000_000_i64, "iat": 1_000_000_000, "jti": "j",
            "user_id": house.ada.id.to_string(), "session_version": number,
        }));
        let mut tab = gateway.dial(&house.room.path()).cookie("access_token", &jwt).connect().await;
        tab.expect_event("room_state").await;
        tabs.push(tab);
    }
    let mut grace = house.one.enter(&house.room, &house.grace).await;
    house.stack.order(json!({"action": "logout", "user": house.ada.id.to_string(), "session_version": 3})).await;
    for tab in &mut tabs[..2] {
        assert_eq!(tab.expect_close().await, (4001, "session ended".to_owned()));
    }
    lives(&mut tabs[2]).await;
    lives(&mut grace).await;
}

#[tokio::test]
async fn what_was_ordered_while_nobody_heard_is_made_up_for() {
    let house = house().await;
    let key = format!("allthrive:1:session:version:{}", house.ada.id);
    let mut cache = house.stack.cache().await;
    redis::cmd("SET").arg(&key).arg(1).exec_async(&mut cache).await.unwrap();
    let mut tabs = [house.one.enter(&house.room, &house.ada).await, house.two.enter(&house.room, &house.ada).await];
    let mut grace = house.one.enter(&house.room, &house.grace).await;
    // She logs out everywhere, and the order is lost.
    redis::cmd("SET").arg(&key).arg(2).exec_async(&mut cache).await.unwrap();
    let kill = |kind: &'static str| redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg(kind).to_owned();
    kill("pubsub").exec_async(&mut house.stack.redis().await).await.unwrap();
    for tab in &mut tabs {
        assert_eq!(tab.expect_close().await, (4001, "session ended".to_owned()));
    }
    lives(&mut grace).await;
}

#[tokio::test]
async fn a_refresh_of_a_conversation_ends_who_takes_no_part_any_more() {
    let house = house().await;
    let (thread, _) = crate::dm::conversation(&house.stack, &[&house.ada, &house.grace]).await;
    let path = crate::dm::path(thread);
    let mut grace = house.two.dial(&path).token(&house.stack.token(&house.grace).await).connect().await;
    grace.expect_event("dm_state").await;
    let mut ada = house.one.dial(&path).token(&house.stack.token(&house.ada).await).connect().await;
    ada.expect_event("dm_state").await;
    house
        .sql(&format!("DELETE FROM community_directmessagethread_participants WHERE user_id = {}", house.grace.id))
        .await;
    house.stack.order(json!({"action": "refresh", "thread": thread})).await;
    assert_eq!(grace.expect_close().await.0, 4003);
    lives(&mut ada).await;
}

#[tokio::test]
async fn a_changed_room_is_told_to_those_present_and_in_force() {
    let house = house().await;
    let (mut a, mut b) =
        (house.one.enter(&house.room, &house.ada).await, house.two.enter(&house.room, &house.grace).await);
    house.sql("UPDATE community_room SET name = 'Closed', is_archived = true, slow_mode_seconds = 7").await;
    house.stack.order(json!({"action": "room_changed", "room": house.room.id})).await;
    let expected = json!({
        "event": "room_updated",
        "room": {"id": house.room.id, "name": "Closed", "description": "Say hello.", "icon": "coffee",
                 "roomType": "forum", "memberCount": 1, "isArchived": true, "slowModeSeconds": 7},
    });
    for client in [&mut a, &mut b] {
        assert_eq!(client.wait_for("room_updated").await, expected);
        client.send(json!({"type": "send_message", "content": "still open?"})).await;
        let error: Value = client.wait_for("error").await;
        assert_eq!(error["message"], "You cannot send messages in this room");
    }
}

#[tokio::test]
async fn a_room_made_private_is_left_by_those_who_are_no_members() {
    let house = house().await;
    let (mut ada, mut grace) =
        (house.one.enter(&house.room, &house.ada).await, house.two.enter(&house.room, &house.grace).await);
    house.sql("UPDATE community_room SET visibility = 'private'").await;
    house.stack.order(json!({"action": "room_changed", "room": house.room.id})).await;
    assert_eq!(grace.expect_close().await.0, 4003);
    ada.wait_for("room_updated").await;
    lives(&mut ada).await;
}

#[tokio::test]
async fn a_room_that_was_deactivated_ends_with_4004() {
    let house = house().await;
    let mut ada = house.one.enter(&house.room, &house.ada).await;
    house.sql("UPDATE community_room SET is_active = false").await;
    house.stack.order(json!({"action": "room_changed", "room": house.room.id})).await;
    assert_eq!(ada.expect_close().await.0, 4004);
}
