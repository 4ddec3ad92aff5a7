//! The presence socket: the first state, watching, who is online, and what it must not tell.

use community_gateway::bus::{Envelope, Kind};
use community_gateway::domain::UserId;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::app_stage::{PATH, has_read, open, room_becomes, user_becomes, watch};
use crate::dm::{conversation, path};
use crate::support::{RoomSpec, Stack, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn the_first_state_holds_rooms_partners_and_what_is_unread() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let (ada, grace, eve) = (stack.user("ada").await, stack.user("grace").await, stack.user("eve").await);
    let (mine, other) = (stack.room(RoomSpec::default()).await, stack.room(RoomSpec::default()).await);
    stack.member(&mine, &ada, "member").await;
    let (thread, dm_room) = conversation(&stack, &[&ada, &grace]).await;
    let (blocked_thread, _) = conversation(&stack, &[&ada, &eve]).await;
    stack.block(&eve, &ada).await;
    stack.messages(&mine, &grace, 30).await; // 89 to 60 seconds ago
    stack.messages(&mine, &ada, 5).await; // one's own are never unread
    stack.messages(&dm_room, &grace, 3).await;
    has_read(&stack, &ada, 69.5).await;
    let _there = gateway.enter(&mine, &grace).await;
    let _elsewhere = gateway.enter(&other, &eve).await;

    let (mut client, state, unread) = open(&stack, &gateway, &ada).await;
    assert_eq!(
        state,
        json!({
            "event": "presence_state",
            "rooms": {mine.id.to_string(): 1},
            "users": {grace.id.to_string(): true},
        })
    );
    assert_eq!(
        unread,
        json!({"event": "unread", "rooms": {mine.id.to_string(): 10}, "threads": {thread.to_string(): 3}})
    );
    assert!(!unread["threads"].as_object().unwrap().contains_key(&blocked_thread.to_string()));
    client.expect_silence().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_users_in_order_get_in_and_the_path_needs_no_last_slash() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let ada = stack.user("ada").await;
    let spec = crate::support::UserSpec { active: false, ..Default::default() };
    let gone = stack.user_with("gone", spec).await;
    let mut client = gateway.dial(PATH).token(&stack.token(&gone).await).connect().await;
    assert_eq!(client.expect_close().await.0, 4001);
    let mut client = gateway.dial(PATH).connect().await;
    assert_eq!(client.expect_close().await.0, 4001);
    let mut client = gateway.dial("/ws/community/presence").token(&stack.token(&ada).await).connect().await;
    client.expect_event("presence_state").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_online_while_any_socket_on_any_instance_is_open_and_a_reload_does_not_show() {
    let stack = Stack::start().await;
    let instance = || stack.gateway().env("GATEWAY_PRESENCE_GRACE_SECONDS", 1);
    let (one, two) = (instance().start().await, instance().start().await);
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let (thread, _) = conversation(&stack, &[&ada, &grace]).await;

    let (mut watcher, state, _) = open(&stack, &one, &ada).await;
    assert_eq!(state["users"], json!({grace.id.to_string(): false}));
    let (presence, _, _) = open(&stack, &two, &grace).await;
    user_becomes(&mut watcher, &grace, true).await;
    // Three sockets of three kinds; each but the last may go without anybody noticing.
    let talk = one.dial(&path(thread)).token(&stack.token(&grace).await).connect().await;
    let tab = two.enter(&room, &grace).await;
    presence.close().await;
    talk.close().await;
    tab.close().await;
    let back = two.enter(&room, &grace).await; // within the grace
    back.close().await;
    let changes: Vec<Value> = {
        let mut seen = Vec::new();
        loop {
            let event = watcher.wait_for("presence_update").await;
            let gone = event["users"][grace.id.to_string()] == false;
            seen.push(event);
            if gone {
                break seen;
            }
        }
    };
    assert_eq!(changes.len(), 1, "offline once, and nothing before it: {changes:?}");
    let mut redis = stack.redis().await;
    let key = format!("community:sockets:{}", grace.id);
    let exists: bool = redis::cmd("EXISTS").arg(key).query_async(&mut redis).await.unwrap();
    assert!(!exists, "nothing is left of her");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_online_even_where_sockets_are_not_limited() {
    let stack = Stack::start().await;
    let off = |name| stack.gateway().env("GATEWAY_LIMIT_CONNECTIONS_PER_USER", 0).env(name, 0);
    let gateway = off("GATEWAY_LIMIT_CONNECTS_PER_MINUTE").env("GATEWAY_PRESENCE_GRACE_SECONDS", 0).start().await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    conversation(&stack, &[&ada, &grace]).await;
    let (mut watcher, ..) = open(&stack, &gateway, &ada).await;
    let (other, ..) = open(&stack, &gateway, &grace).await;
    user_becomes(&mut watcher, &grace, true).await;
    other.close().await;
    user_becomes(&mut watcher, &grace, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_died_with_an_instance_is_noticed_by_comparing() {
    let stack = Stack::start().await;
    let (one, mut two) = (stack.gateway().start().await, stack.gateway().start().await);
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    conversation(&stack, &[&ada, &grace]).await;
    let (mut watcher, ..) = open(&stack, &one, &ada).await;
    let _lost = open(&stack, &two, &grace).await;
    user_becomes(&mut watcher, &grace, true).await;
    two.kill9().await;
    // Her lease ends, without the wait for it.
    let mut redis = stack.redis().await;
    redis::cmd("DEL").arg(format!("community:sockets:{}", grace.id)).exec_async(&mut redis).await.unwrap();
    user_becomes(&mut watcher, &grace, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_are_counted_on_two_instances_and_their_messages_stay_in_them() {
    let stack = Stack::start().await;
    let instance = || stack.gateway().env("GATEWAY_PRESENCE_GRACE_SECONDS", 0);
    let (one, two) = (instance().start().await, instance().start().await);
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace, eve) = (stack.user("ada").await, stack.user("grace").await, stack.user("eve").await);
    let (mut watcher, state, _) = open(&stack, &one, &ada).await;
    assert_eq!(state["rooms"], json!({}));
    assert_eq!(watch(&mut watcher, &[room.id], &[]).await["rooms"], json!({room.id.to_string(): 0}));

    let mut here = one.enter(&room, &grace).await;
    room_becomes(&mut watcher, room.id, 1).await;
    let there = two.enter(&room, &eve).await;
    room_becomes(&mut watcher, room.id, 2).await;
    here.send(json!({"type": "typing", "is_typing": true})).await;
    here.send(json!({"type": "send_message", "content": "hello"})).await;
    here.wait_for("new_message").await;
    there.close().await;
    room_becomes(&mut watcher, room.id, 1).await;
    let kinds = ["session", "presence_state", "presence_update", "unread"];
    let leaked = |text: &&String| !kinds.iter().any(|kind| text.contains(&format!("\"event\":\"{kind}\"")));
    assert_eq!(watcher.seen().iter().find(leaked), None);

    watcher.send(json!({"type": "unwatch", "room_ids": [room.id]})).await;
    watcher.expect_silence().await;
    here.close().await;
    let other = stack.room(RoomSpec::default()).await;
    watch(&mut watcher, &[other.id], &[]).await;
    let _marker = one.enter(&other, &grace).await;
    room_becomes(&mut watcher, other.id, 1).await;
    let zero = format!("\"{}\":0", room.id);
    assert_eq!(watcher.seen().iter().filter(|text| text.contains(&zero)).count(), 1, "only the first state said 0");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_readable_rooms_are_watched_and_a_kick_ends_it() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().env("GATEWAY_PRESENCE_GRACE_SECONDS", 0).start().await;
    let (ada, grace, eve) = (stack.user("ada").await, stack.user("grace").await, stack.user("eve").await);
    let closed = || RoomSpec { visibility: "private", ..RoomSpec::default() };
    let (mine, theirs) = (stack.room(closed()).await, stack.room(closed()).await);
    stack.member(&mine, &ada, "member").await;
    stack.member(&mine, &grace, "member").await;
    let (_, talk) = conversation(&stack, &[&grace, &eve]).await;
    stack.block(&ada, &eve).await;
    let _online = open(&stack, &gateway, &eve).await;

    let (mut watcher, state, _) = open(&stack, &gateway, &ada).await;
    assert_eq!(state["rooms"], json!({mine.id.to_string(): 0}));
    let state = watch(&mut watcher, &[theirs.id, talk.id, Uuid::new_v4()], &[&eve]).await;
    assert_eq!(state["rooms"], json!({}), "neither closed rooms, nor conversations, nor what does not exist");
    assert_eq!(state["users"], json!({eve.id.to_string(): false}), "who is blocked is never there");

    let mut tab = gateway.enter(&mine, &ada).await;
    room_becomes(&mut watcher, mine.id, 1).await;
    let mut redis = stack.redis().await;
    let order = json!({"action": "kick", "room": mine.id, "user": ada.id.to_string()}).to_string();
    redis::cmd("PUBLISH").arg("community:control").arg(order).exec_async(&mut redis).await.unwrap();
    assert_eq!(tab.expect_close().await.0, 4003, "the order was obeyed");
    let marker = stack.room(RoomSpec::default()).await;
    watch(&mut watcher, &[marker.id], &[]).await;
    let _there = gateway.enter(&mine, &grace).await;
    let _marker = gateway.enter(&marker, &grace).await;
    room_becomes(&mut watcher, marker.id, 1).await;
    let number = |text: &&String| text.contains(&mine.id.to_string());
    assert_eq!(watcher.seen().iter().filter(number).count(), 2, "the room's number is no longer told");
}

#[tokio::test(flavor = "multi_thread")]
async fn so_much_can_be_watched_and_rooms_frames_belong_to_rooms() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let (ada, room) = (stack.user("ada").await, stack.room(RoomSpec::default()).await);
    let (mut client, ..) = open(&stack, &gateway, &ada).await;
    let users = |from: u32, to: u32| (from..=to).map(|id| id.to_string()).collect::<Vec<_>>();
    client.send(json!({"type": "watch", "user_ids": users(1001, 1499)})).await;
    assert_eq!(client.expect_event("presence_state").await["users"].as_object().unwrap().len(), 499);
    client.send(json!({"type": "watch", "user_ids": users(1499, 1501)})).await;
    let error = client.expect_event("error").await;
    assert_eq!((&error["code"], &error["requestType"]), (&json!("too_many_watched"), &json!("watch")));
    client.send(json!({"type": "unwatch", "user_ids": users(1001, 1001)})).await;
    client.send(json!({"type": "watch", "user_ids": users(1499, 1501)})).await;
    assert_eq!(client.expect_event("presence_state").await["users"].as_object().unwrap().len(), 2);

    for frame in [json!({"type": "send_message", "content": "x"}), json!({"type": "typing", "is_typing": true})] {
        client.send(frame).await;
        let error = client.expect_event("error").await;
        assert_eq!((&error["code"], &error["message"]), (&json!("wrong_socket"), &json!("Failed to process message")));
    }
    let mut tab = gateway.enter(&room, &ada).await;
    tab.send(json!({"type": "watch", "user_ids": ["1"]})).await;
    assert_eq!(tab.wait_for("error").await["code"], "wrong_socket");

    client.close().await;
    tab.close().await;
    eventually("no topic and no subscription is left of it", || async {
        gateway.metric("community_gateway_topics_open", &[]).await == 0.0
            && gateway.metric("community_gateway_seats_open", &[]).await == 0.0
            && gateway.metric("community_gateway_subscriptions_open", &[]).await == 2.0
    })
    .await;
    let mut redis = stack.redis().await;
    let positions: Vec<String> =
        redis::cmd("KEYS").arg("community:position:[uo]*").query_async(&mut redis).await.unwrap();
    assert_eq!(positions, Vec::<String>::new(), "what is not logged has no position");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_one_second_come_in_one_event() {
    const ROOMS: usize = 20;
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let ada = stack.user("ada").await;
    let mut rooms = Vec::new();
    for _ in 0..ROOMS {
        rooms.push(stack.room(RoomSpec::default()).await.id);
    }
    let (mut client, ..) = open(&stack, &gateway, &ada).await;
    watch(&mut client, &rooms, &[]).await;
    // Two hundred announcements at once, ten for each room: as the presence scripts make them.
    let mut pipe = redis::pipe();
    for online in 1..=10_u64 {
        for room in &rooms {
            let mut envelope = Envelope::passing(Kind::Joined, UserId(1), Vec::new()).encode();
            envelope.extend_from_slice(online.to_string().as_bytes());
            pipe.publish(format!("community:room:{room}"), envelope).ignore();
        }
    }
    let mut redis = stack.redis().await;
    pipe.exec_async(&mut redis).await.unwrap();
    let (mut events, mut last) = (0, std::collections::BTreeMap::new());
    while last.len() < ROOMS || last.values().any(|online| *online != 10) {
        let event = client.expect_event("presence_update").await;
        events += 1;
        for (room, online) in event["rooms"].as_object().unwrap() {
            last.insert(room.clone(), online.as_u64().unwrap());
        }
    }
    assert!(events <= 3, "{events} events for 200 changes");
}
