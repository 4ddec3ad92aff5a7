//! Entering a room: the first events, their order and their fields.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{RoomSpec, Stack, TestRoom, TestUser, UserSpec};

/// Connects by a fresh token and returns the first event.
async fn first_state(stack: &Stack, gateway: &crate::support::TestGateway, room: &TestRoom, user: &TestUser) -> Value {
    let token = stack.token(user).await;
    gateway.dial(&room.path()).token(&token).connect().await.expect_event("room_state").await
}

fn texts(state: &Value) -> Vec<&str> {
    state["messages"].as_array().unwrap().iter().map(|message| message["content"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn the_state_comes_first_and_then_the_newcomers_own_arrival() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let spec = RoomSpec { name: "Rust", description: "Talk", icon: "gear", ..RoomSpec::default() };
    let room = stack.room(spec).await;
    let avatar = "https://files.example/ada.png";
    let ada = stack.user_with("ada", UserSpec { avatar_url: Some(avatar), ..UserSpec::default() }).await;
    stack.member(&room, &ada, "member").await;

    let token = stack.token(&ada).await;
    let mut client = gateway.dial(&room.path()).token(&token).connect().await;
    let state = client.expect_event("room_state").await;
    let epoch = state["epoch"].as_str().unwrap();
    assert!(epoch.parse::<u64>().unwrap() > 0);
    assert_eq!(
        state,
        json!({
            "event": "room_state",
            "room": {"id": room.id, "name": "Rust", "description": "Talk", "icon": "gear", "roomType": "forum",
                     "memberCount": 1},
            "messages": [],
            "onlineUsers": [{"userId": ada.id.to_string(), "username": "ada"}],
            "onlineCount": 1,
            "hasMore": false,
            "cursor": null,
            "epoch": epoch,
            "offset": 0,
        })
    );
    let joined = client.expect_event("user_joined").await;
    assert_eq!(
        joined,
        json!({"event": "user_joined", "userId": ada.id.to_string(), "username": "ada", "avatarUrl": avatar})
    );
    client.expect_silence().await;
}

#[tokio::test]
async fn when_there_is_more_the_newest_50_come_and_the_place_to_go_on_from() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let ids = stack.messages(&room, &ada, 55).await;

    let token = stack.token(&ada).await;
    let mut client = gateway.dial(&room.path()).token(&token).connect().await;
    let state = client.expect_event("room_state").await;
    let expected: Vec<String> = (6..=55).map(|n| format!("message {n}")).collect();
    assert_eq!(texts(&state), expected, "the newest 50, oldest first");
    assert_eq!((&state["hasMore"], &state["cursor"]), (&json!(true), &json!(ids[5])));
    let history = client.expect_event("message_history").await;
    assert_eq!(history, json!({"event": "message_history", "messages": [], "hasMore": true, "cursor": ids[5]}));
    client.expect_event("user_joined").await;

    client.send(json!({"type": "request_history", "cursor": history["cursor"]})).await;
    let older = client.expect_event("message_history").await;
    assert_eq!(texts(&older), ["message 1", "message 2", "message 3", "message 4", "message 5"]);
    assert_eq!((&older["hasMore"], &older["cursor"]), (&json!(false), &Value::Null));
}

#[tokio::test]
async fn with_exactly_50_messages_there_is_no_more() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    stack.messages(&room, &ada, 50).await;
    let token = stack.token(&ada).await;
    let mut client = gateway.dial(&room.path()).token(&token).connect().await;
    let state = client.expect_event("room_state").await;
    assert_eq!(texts(&state).len(), 50);
    assert_eq!((&state["hasMore"], &state["cursor"]), (&json!(false), &Value::Null));
    client.expect_event("user_joined").await;
    client.expect_silence().await;
}

#[tokio::test]
async fn hidden_messages_are_never_sent() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let ids = stack.messages(&room, &ada, 4).await;
    sqlx::query("UPDATE community_message SET is_hidden = true WHERE id = ANY($1)")
        .bind([ids[1], ids[3]])
        .execute(stack.db())
        .await
        .unwrap();
    let mut client = gateway.enter(&room, &ada).await;
    assert_eq!(texts(&serde_json::from_str(&client.seen()[0]).unwrap()), ["message 1", "message 3"]);
    client.expect_event("user_joined").await;
    client.send(json!({"type": "request_history"})).await;
    assert_eq!(texts(&client.expect_event("message_history").await), ["message 1", "message 3"]);
}

#[tokio::test]
async fn an_author_who_is_gone_is_unknown() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    stack.messages(&room, &ada, 1).await;
    sqlx::query("UPDATE community_message SET author_id = NULL").execute(stack.db()).await.unwrap();
    let state = first_state(&stack, &gateway, &room, &ada).await;
    assert_eq!(state["messages"][0]["author"], json!({"id": null, "username": "Unknown", "avatarUrl": null}));
}

#[tokio::test]
async fn what_django_stored_with_a_message_is_shown() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let ids = stack.messages(&room, &ada, 2).await;
    sqlx::query(
        "UPDATE community_message SET message_type = 'embed', attachments = '[{\"url\": \"https://a\"}]', \
             embeds = '[{\"title\": \"T\"}]', mentions = '[\"7\"]', reaction_counts = '{\"👍\": 2}', is_edited = true, \
             edited_at = created_at, is_pinned = true, reply_to_id = $1 WHERE id = $2",
    )
    .bind(ids[0])
    .bind(ids[1])
    .execute(stack.db())
    .await
    .unwrap();
    let state = first_state(&stack, &gateway, &room, &ada).await;
    let message = &state["messages"][1];
    for (field, value) in [
        ("messageType", json!("embed")),
        ("attachments", json!([{"url": "https://a"}])),
        ("embeds", json!([{"title": "T"}])),
        ("mentions", json!(["7"])),
        ("reactionCounts", json!({"👍": 2})),
        ("isEdited", json!(true)),
        ("editedAt", message["createdAt"].clone()),
        ("isPinned", json!(true)),
        ("replyToId", json!(ids[0])),
        (
            "replyTo",
            json!({"id": ids[0], "content": "message 1", "author": {"id": ada.id.to_string(), "username": "ada"}}),
        ),
    ] {
        assert_eq!(message[field], value, "{field}");
    }
}

#[tokio::test]
async fn those_online_are_named_whatever_instance_they_are_on() {
    let stack = Stack::start().await;
    let (one, two) = (stack.gateway().start().await, stack.gateway().start().await);
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let _there = one.enter(&room, &ada).await;
    let state = first_state(&stack, &two, &room, &grace).await;
    let mut names: Vec<_> =
        state["onlineUsers"].as_array().unwrap().iter().map(|user| user["username"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!((names, &state["onlineCount"]), (vec!["ada", "grace"], &json!(2)));
}

#[tokio::test]
async fn a_path_without_the_last_slash_or_in_capitals_is_the_same_place() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    for path in [
        format!("/ws/community/room/{}", room.id),
        format!("/ws/community/room/{}/", room.id.to_string().to_uppercase()),
    ] {
        let token = stack.token(&ada).await;
        let mut client = gateway.dial(&path).token(&token).connect().await;
        assert_eq!(client.expect_event("room_state").await["room"]["id"], room.id.to_string());
        client.close().await;
    }
}

#[tokio::test]
async fn every_way_to_log_in_leads_in() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let (path, jwt, token) = (room.path(), stack.jwt(&ada), stack.token(&ada).await);
    for dial in [
        gateway.dial(&path).token(&token),
        gateway.dial(&path).jwt(&jwt),
        gateway.dial(&path).cookie("access_token", &jwt),
        gateway.dial(&path).cookie("access_token", &jwt).origin(crate::support::ORIGIN),
    ] {
        dial.connect().await.expect_event("room_state").await;
    }
}

#[tokio::test]
async fn a_closed_room_is_open_to_its_members_and_to_those_of_its_circle() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let room = stack.room(RoomSpec { visibility: "private", ..RoomSpec::default() }).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    stack.member(&room, &ada, "member").await;
    gateway.enter(&room, &ada).await;
    let token = stack.token(&grace).await;
    let mut stranger = gateway.dial(&room.path()).token(&token).connect().await;
    assert_eq!(stranger.expect_close().await.0, 4003);
}

#[tokio::test]
async fn messages_of_another_room_are_not_shown() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let (room, other) = (stack.room(RoomSpec::default()).await, stack.room(RoomSpec::default()).await);
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    stack.messages(&other, &ada, 1).await;
    let mut here = gateway.enter(&room, &ada).await;
    let mut there = gateway.enter(&other, &grace).await;
    there.send(json!({"type": "send_message", "content": "over there"})).await;
    there.wait_for("new_message").await;
    here.send(json!({"type": "send_message", "content": "over here"})).await;
    let seen = here.events_until("new_message").await;
    assert_eq!(seen.last().unwrap()["message"]["content"], "over here");
    assert_eq!(
        seen.iter().map(|event| event["event"].as_str().unwrap()).collect::<Vec<_>>(),
        ["user_joined", "new_message"]
    );
    assert!(Uuid::parse_str(seen[1]["message"]["id"].as_str().unwrap()).is_ok());
}
