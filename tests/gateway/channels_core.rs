//! The channel layer as the app has it, `RedisChannelLayer`, both ways.

use community_gateway::domain::{ThreadId, Topic};
use serde_json::{Value, json};

use crate::channels_stage::{Django, bare, marker, names, topic};
use crate::dm;
use crate::support::{RedisServer, RoomSpec, Stack, TestGateway, TestRoom, TestUser, eventually};

struct Mixed {
    stack: Stack,
    django: Django,
    one: TestGateway,
    two: TestGateway,
    room: TestRoom,
    ada: TestUser,
    grace: TestUser,
}

async fn mixed() -> Mixed {
    let stack = Stack::start().await;
    let start = || stack.gateway().env("GATEWAY_PRESENCE_GRACE_SECONDS", "0.1").start();
    let (one, two) = (start().await, start().await);
    let django = Django::at(&stack.redis_server().url(3)).await;
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    Mixed { stack, django, one, two, room, ada, grace }
}

#[tokio::test]
async fn what_django_sends_to_a_room_reaches_everybody_once() {
    let mut mixed = mixed().await;
    let mut clients =
        [mixed.one.enter(&mixed.room, &mixed.ada).await, mixed.two.enter(&mixed.room, &mixed.grace).await];
    let group = topic(&mixed.room);
    assert_eq!(mixed.django.members(group).await.len(), 2, "one inbox an instance, before anybody is let in");
    let message = json!({"event": "new_message", "message": {"author": {"firstName": "Sage"}, "n": 1.5, "é": null}});
    mixed.django.send(group, &message).await;
    mixed.django.send(group, &json!({"event": "hint", "to": [mixed.ada.id.to_string()]})).await;
    mixed.django.send(group, &marker()).await;
    let [a, b] = &mut clients;
    let mut seen = a.events_until("marker").await;
    seen.retain(|event| event["event"] != "user_joined");
    assert_eq!(bare(seen), [message.clone(), json!({"event": "hint"}), marker()]);
    let mut seen = b.events_until("marker").await;
    seen.retain(|event| event["event"] != "user_joined");
    assert_eq!(bare(seen), [message, marker()]);
}

#[tokio::test]
async fn what_django_sends_to_a_conversation_reaches_both() {
    let mut mixed = mixed().await;
    let (thread, _) = dm::conversation(&mixed.stack, &[&mixed.ada, &mixed.grace]).await;
    let mut a = mixed.one.dial(&dm::path(thread)).token(&mixed.stack.token(&mixed.ada).await).connect().await;
    let mut b = mixed.two.dial(&dm::path(thread)).token(&mixed.stack.token(&mixed.grace).await).connect().await;
    for client in [&mut a, &mut b] {
        client.expect_event("dm_state").await;
    }
    mixed.django.send(Topic::Dm(ThreadId(thread)), &marker()).await;
    for client in [&mut a, &mut b] {
        assert_eq!(bare([client.expect_event("marker").await]), [marker()]);
    }
}

#[tokio::test]
async fn what_is_malformed_is_counted_and_hurts_nobody() {
    let mut mixed = mixed().await;
    let mut ada = mixed.one.enter(&mixed.room, &mixed.ada).await;
    let group = topic(&mixed.room);
    let channel = mixed.django.members(group).await.remove(0);
    for message in [&b""[..], b"\xc1", b"\x80", b"\x81\xa4type\xaaroom_event", b"\xdd\xff\xff\xff\xff"] {
        mixed.django.put(&channel, message).await;
    }
    // Well formed, and yet nothing that a room may be sent: counted where Django's PUBLISH is.
    mixed.django.send(group, &json!({"nothing": "of the kind"})).await;
    mixed.django.send(group, &marker()).await;
    ada.wait_for("marker").await;
    eventually("all are counted", || async {
        let layer = mixed.one.metric("community_gateway_channels_malformed_total", &[]).await;
        let bus = mixed.one.metric("community_gateway_bus_malformed_total", &[("error", "no_event")]).await;
        (layer, bus) == (5.0, 1.0)
    })
    .await;
}

#[tokio::test]
async fn events_of_ours_reach_a_consumer_once_and_in_order() {
    let mut mixed = mixed().await;
    let group = topic(&mixed.room);
    mixed.django.join(group).await;
    let mut ada = mixed.one.enter(&mixed.room, &mixed.ada).await;
    let grace = mixed.two.enter(&mixed.room, &mixed.grace).await;
    ada.send(json!({"type": "typing", "is_typing": true})).await;
    ada.send(json!({"type": "send_message", "content": "Grüße", "client_id": "1"})).await;
    let ours = ada.wait_for("new_message").await;
    let edit = json!({"type": "edit_message", "message_id": ours["message"]["id"], "content": "edited"});
    ada.send(edit).await;
    ada.wait_for("message_edited").await;
    grace.close().await;
    ada.wait_for("user_left").await;
    ada.send(json!({"type": "send_message", "content": "end"})).await;
    ada.wait_for("new_message").await;

    let events = mixed.django.next(8).await;
    // An end of typing is told beside the message, before it or after.
    let (typing, events): (Vec<_>, Vec<_>) = events.into_iter().partition(|event| event["event"] == "typing");
    assert_eq!(typing.len(), 2, "{typing:#?}");
    let expected = ["user_joined", "user_joined", "new_message", "message_edited", "user_left", "new_message"];
    assert_eq!(names(&events), expected, "{events:#?}");
    assert_eq!(events[2], ours, "as our clients see it");
    assert_eq!(events[4], json!({"event": "user_left", "userId": mixed.grace.id.to_string()}));
    // Nobody at the gateways got anything twice.
    let twice = ada.seen().iter().filter(|text| text.contains("Grüße")).count();
    assert_eq!(twice, 1, "{:#?}", ada.seen());
}

#[tokio::test]
async fn a_conversations_events_reach_its_consumers() {
    let mut mixed = mixed().await;
    let (thread, _) = dm::conversation(&mixed.stack, &[&mixed.ada, &mixed.grace]).await;
    mixed.django.join(Topic::Dm(ThreadId(thread))).await;
    let mut ada = mixed.one.dial(&dm::path(thread)).token(&mixed.stack.token(&mixed.ada).await).connect().await;
    ada.send(json!({"type": "send_message", "content": "psst"})).await;
    let event: Value = ada.wait_for("new_message").await;
    assert_eq!(mixed.django.next(1).await, [event]);
}

#[tokio::test]
async fn a_room_is_sent_on_while_somebody_else_than_gateways_is_there() {
    let mut mixed = mixed().await;
    let other = mixed.stack.room(RoomSpec::default()).await;
    mixed.django.join(topic(&other)).await;
    let mut ada = mixed.one.enter(&mixed.room, &mixed.ada).await;
    let _there_too = mixed.two.enter(&mixed.room, &mixed.ada).await;
    let mut clock = mixed.one.enter(&other, &mixed.grace).await;
    mixed.django.next(1).await;
    for (there, text) in [(false, "alone"), (true, "not alone"), (true, "still not"), (false, "left"), (false, "alone")]
    {
        if there {
            mixed.django.join(topic(&mixed.room)).await;
        } else {
            mixed.django.leave(topic(&mixed.room)).await;
        }
        ada.send(json!({"type": "send_message", "content": text})).await;
        ada.wait_for("new_message").await;
        // What an instance sends on, it sends on in order, room after room.
        clock.send(json!({"type": "send_message", "content": "tick"})).await;
        clock.wait_for("new_message").await;
        let events = mixed.django.next(if there { 2 } else { 1 }).await;
        let texts: Vec<_> = events.iter().map(|event| event["message"]["content"].as_str().unwrap()).collect();
        assert_eq!(texts, if there { vec![text, "tick"] } else { vec!["tick"] });
    }
    let keys = mixed.django.keys().await;
    let inboxes = keys.iter().filter(|key| key.starts_with("asgispecific.gw-"));
    assert_eq!(inboxes.count(), 0, "gateways send each other nothing: {keys:?}");
}

#[tokio::test]
async fn a_full_inbox_is_left_alone_and_what_it_misses_is_counted() {
    let stack = Stack::start().await;
    let limits = stack.gateway().env("GATEWAY_CHANNELS_CAPACITY", 3).env("GATEWAY_LIMIT_MESSAGES_PER_MINUTE", 0);
    let gateway = limits.start().await;
    let mut django = Django::at(&stack.redis_server().url(3)).await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    django.join(topic(&room)).await;
    let mut a = gateway.enter(&room, &ada).await;
    for number in 0..5 {
        a.send(json!({"type": "send_message", "content": number.to_string()})).await;
        a.wait_for("new_message").await;
    }
    eventually("what did not fit is counted", || async {
        gateway.metric("community_gateway_channels_dropped_total", &[("reason", "capacity")]).await == 3.0
    })
    .await;
    let received = django.received().await;
    let received: Vec<_> = received.into_iter().map(|(_, event)| event).collect();
    assert_eq!(names(&received), ["user_joined", "new_message", "new_message"]);
}

#[tokio::test]
async fn the_last_seat_leaves_the_group_and_the_end_leaves_nothing() {
    let mut mixed = mixed().await;
    let (mine, other) = (topic(&mixed.room), topic(&mixed.stack.room(RoomSpec::default()).await));
    let first = mixed.one.enter(&mixed.room, &mixed.ada).await;
    let second = mixed.one.enter(&mixed.room, &mixed.grace).await;
    assert_eq!(mixed.django.members(mine).await.len(), 1);
    assert_eq!(mixed.django.members(other).await.len(), 0);
    first.close().await;
    second.close().await;
    eventually("the group is left", || {
        let mut redis = mixed.django.redis.clone();
        async move {
            redis::cmd("EXISTS")
                .arg(format!("asgi:group:community.room.{}", mixed.room.id))
                .query_async::<i64>(&mut redis)
                .await
                .unwrap()
                == 0
        }
    })
    .await;
    let _stays = mixed.two.enter(&mixed.room, &mixed.ada).await;
    assert_eq!(mixed.django.members(mine).await.len(), 1);
    assert_eq!((mixed.one.terminate().await, mixed.two.terminate().await), (0, 0));
    assert_eq!(mixed.django.keys().await, Vec::<String>::new());
}

#[tokio::test]
async fn who_comes_next_cleans_up_after_an_instance_that_died() {
    let mut mixed = mixed().await;
    let group = topic(&mixed.room);
    let _ada = mixed.one.enter(&mixed.room, &mixed.ada).await;
    let dead = mixed.django.members(group).await.remove(0);
    mixed.one.kill9().await;
    mixed.django.send(group, &marker()).await;
    let inbox = format!("asgi{}!", dead.split('!').next().unwrap());
    let client = dead.strip_prefix("specific.").unwrap().split('!').next().unwrap();
    assert!(mixed.django.keys().await.contains(&inbox), "it fills");
    // As if its lease had ended.
    let mut end = redis::cmd("ZADD");
    end.arg("community:channels:asgi:clients").arg(1).arg(client).exec_async(&mut mixed.django.redis).await.unwrap();
    let _next = mixed.stack.gateway().start().await;
    assert_eq!(mixed.django.members(group).await, Vec::<String>::new());
    let keys = mixed.django.keys().await;
    assert!(!keys.iter().any(|key| key.contains(client)), "{keys:?}");
}

#[tokio::test]
async fn who_was_taken_for_dead_is_a_member_again() {
    let mut mixed = mixed().await;
    let group = topic(&mixed.room);
    let mut ada = mixed.one.enter(&mixed.room, &mixed.ada).await;
    // As if all of the layer had been lost.
    redis::cmd("DEL")
        .arg("community:channels:asgi:clients")
        .arg(format!("asgi:group:community.room.{}", mixed.room.id))
        .exec_async(&mut mixed.django.redis)
        .await
        .unwrap();
    let redis = mixed.django.redis.clone();
    eventually("the membership is back", || {
        let mut redis = redis.clone();
        async move {
            let key = format!("asgi:group:community.room.{}", mixed.room.id);
            redis::cmd("ZCARD").arg(key).query_async::<i64>(&mut redis).await.unwrap() == 1
        }
    })
    .await;
    mixed.django.send(group, &marker()).await;
    ada.wait_for("marker").await;
}

#[tokio::test]
async fn the_layers_redis_may_be_away() {
    let stack = Stack::start().await;
    let layer = RedisServer::start().await;
    layer.kill().await;
    let start = stack.gateway().env("GATEWAY_CHANNELS_URL", layer.url(3)).start();
    let gateway = start.await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let mut a = gateway.enter(&room, &ada).await;
    a.send(json!({"type": "send_message", "content": "nobody misses it", "client_id": "1"})).await;
    a.wait_for("message_ack").await;
    layer.restart().await;
    let mut django = Django::at(&layer.url(3)).await;
    let redis = django.redis.clone();
    eventually("the gateway is in the group", || {
        let mut redis = redis.clone();
        async move {
            let key = format!("asgi:group:community.room.{}", room.id);
            redis::cmd("ZCARD").arg(key).query_async::<i64>(&mut redis).await.unwrap() == 1
        }
    })
    .await;
    django.join(topic(&room)).await;
    django.send(topic(&room), &marker()).await;
    a.wait_for("marker").await;
    a.send(json!({"type": "send_message", "content": "both ways again"})).await;
    let events = django.next(2).await;
    assert!(events.iter().any(|event| event["message"]["content"] == "both ways again"), "{events:#?}");
}

#[tokio::test]
async fn it_can_be_turned_off() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().env("GATEWAY_CHANNELS", "off").start().await;
    let mut django = Django::at(&stack.redis_server().url(3)).await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    django.join(topic(&room)).await;
    let mut a = gateway.enter(&room, &ada).await;
    a.send(json!({"type": "send_message", "content": "hello"})).await;
    a.wait_for("new_message").await;
    assert_eq!(django.members(topic(&room)).await.len(), 1);
    assert_eq!(django.received().await, []);
}
