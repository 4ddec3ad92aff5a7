//! Threads inside rooms: begun, opened, written in, locked, paged; and seen by nobody who has not opened them.

use futures_util::future::join_all;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{RoomSpec, Stack, TestClient, TestGateway, TestRoom, TestUser, eventually};

/// Two gateways, a room, and ada in it on the first and grace on the second, after the first events.
struct Scene {
    stack: Stack,
    gateways: [TestGateway; 2],
    room: TestRoom,
    ada: (TestUser, TestClient),
    grace: (TestUser, TestClient),
}

impl Scene {
    async fn start() -> Self {
        let stack = Stack::start().await;
        let room = stack.room(RoomSpec::default()).await;
        let off = |builder: crate::support::GatewayBuilder| {
            builder.env("GATEWAY_LIMIT_MESSAGES_PER_MINUTE", 0).env("GATEWAY_LIMIT_MESSAGES_PER_HOUR", 0)
        };
        let gateways = [off(stack.gateway()).start().await, off(stack.gateway()).start().await];
        let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
        let mut a = gateways[0].enter(&room, &ada).await;
        let g = gateways[1].enter(&room, &grace).await;
        let graces = grace.id.to_string();
        a.wait_until("grace's join", |event| event["event"] == "user_joined" && event["userId"] == *graces).await;
        Self { stack, gateways, room, ada: (ada, a), grace: (grace, g) }
    }

    /// Ada begins a thread, of which grace hears.
    async fn thread(&mut self, title: &str) -> String {
        self.ada.1.send(json!({"type": "create_thread", "title": title})).await;
        let created = self.ada.1.wait_for("thread_created").await;
        assert_eq!(self.grace.1.wait_for("thread_created").await, created);
        created["thread"]["id"].as_str().unwrap().to_owned()
    }

    async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).bind(self.room.id).fetch_one(self.stack.db()).await.unwrap()
    }
}

async fn open(client: &mut TestClient, thread: &str) -> Value {
    client.send(json!({"type": "open_thread", "thread_id": thread})).await;
    client.wait_for("thread_state").await
}

async fn say(client: &mut TestClient, thread: &str, content: &str) {
    client.send(json!({"type": "send_message", "thread_id": thread, "content": content, "client_id": content})).await;
}

async fn refused(client: &mut TestClient, frame: Value) -> Value {
    client.send(frame).await;
    client.wait_for("error").await["code"].clone()
}

fn contents(messages: &Value) -> Vec<&str> {
    messages.as_array().unwrap().iter().map(|message| message["content"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thread_is_begun_once_for_a_message_and_told_to_everybody() {
    let mut scene = Scene::start().await;
    scene.ada.1.send(json!({"type": "send_message", "content": "What about\nRust?"})).await;
    let parent = scene.grace.1.wait_for("new_message").await["message"]["id"].clone();
    let create = json!({"type": "create_thread", "parent_message_id": parent});
    scene.grace.1.send(create.clone()).await;
    let created = scene.ada.1.wait_for("thread_created").await;
    let thread = &created["thread"];
    assert_eq!(
        *thread,
        json!({"id": thread["id"], "roomId": scene.room.id.to_string(), "title": "What about Rust?",
               "parentMessageId": parent, "creatorId": scene.grace.0.id.to_string(), "isLocked": false,
               "isPinned": false, "isResolved": false, "isArchived": false, "messageCount": 0,
               "lastMessageAt": null, "createdAt": thread["createdAt"]})
    );
    assert_eq!(created["offset"], 2, "it has its place among the room's events");
    assert_eq!(scene.grace.1.wait_for("thread_created").await, created);

    scene.ada.1.send(create).await;
    let again = scene.ada.1.wait_for("thread_created").await;
    assert_eq!((&again["thread"], &again["offset"]), (thread, &Value::Null));
    scene.grace.1.expect_silence().await;
    assert_eq!(scene.count("SELECT count(*) FROM community_thread WHERE room_id = $1").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_begin_a_thread_at_once_get_the_same() {
    let mut scene = Scene::start().await;
    let parent = scene.stack.messages(&scene.room, &scene.ada.0, 1).await[0];
    let create = json!({"type": "create_thread", "parent_message_id": parent});
    tokio::join!(scene.ada.1.send(create.clone()), scene.grace.1.send(create));
    let (a, g) = tokio::join!(scene.ada.1.wait_for("thread_created"), scene.grace.1.wait_for("thread_created"));
    assert_eq!(a["thread"], g["thread"]);
    assert_eq!(scene.count("SELECT count(*) FROM community_thread WHERE room_id = $1").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_has_opened_a_thread_gets_its_messages() {
    let mut scene = Scene::start().await;
    let thread = scene.thread("News").await;
    let state = open(&mut scene.ada.1, &thread).await;
    assert_eq!(
        (&state["thread"]["title"], &state["messages"], &state["offset"]),
        (&json!("News"), &json!([]), &json!(0))
    );

    say(&mut scene.grace.1, &thread, "one").await;
    let event = scene.ada.1.wait_for("new_message").await;
    assert_eq!((&event["message"]["content"], &event["offset"]), (&json!("one"), &json!(1)), "offsets of its own");
    assert_eq!(event["message"]["threadId"], thread);
    // Grace, who wrote it, has not opened it: an ack, and the count that all in the room get.
    let seen = scene.grace.1.events_until("thread_updated").await;
    assert!(seen.iter().all(|event| event["event"] != "new_message"), "{seen:?}");
    let updated = &seen.last().unwrap()["thread"];
    assert_eq!((&updated["id"], &updated["messageCount"]), (&json!(thread), &json!(1)));
    assert_eq!(updated["lastMessageAt"], event["message"]["createdAt"]);

    // Not in the room's state nor in its history.
    scene.grace.1.send(json!({"type": "request_history"})).await;
    assert_eq!(scene.grace.1.wait_for("message_history").await["messages"], json!([]));
    let token = scene.stack.token(&scene.grace.0).await;
    let mut again = scene.gateways[0].dial(&scene.room.path()).token(&token).connect().await;
    assert_eq!(again.expect_event("room_state").await["messages"], json!([]));

    // The state has what was, events what comes; after closing, nothing.
    let state = open(&mut scene.grace.1, &thread).await;
    assert_eq!((contents(&state["messages"]), &state["offset"]), (vec!["one"], &json!(1)));
    say(&mut scene.ada.1, &thread, "two").await;
    let (mut told, mut counted) = (false, false); // on two topics, in either order
    let both = |event: &Value| {
        told |= event["message"]["content"] == "two";
        counted |= event["thread"]["messageCount"] == 2;
        told && counted
    };
    scene.grace.1.wait_until("the message and the count", both).await;
    scene.grace.1.send(json!({"type": "close_thread", "thread_id": thread})).await;
    scene.grace.1.expect_silence().await;
    say(&mut scene.ada.1, &thread, "three").await;
    scene.ada.1.send(json!({"type": "send_message", "content": "to the room"})).await;
    let seen = scene.grace.1.events_until("new_message").await;
    assert_eq!(seen.last().unwrap()["message"]["content"], "to the room");
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_are_exact_and_order_is_one_under_concurrent_sends() {
    let mut scene = Scene::start().await;
    let thread = scene.thread("Busy").await;
    let users = scene.stack.users("user", 10).await;
    open(&mut scene.ada.1, &thread).await;
    open(&mut scene.grace.1, &thread).await;
    let mut clients = Vec::new();
    for (at, user) in users.iter().enumerate() {
        clients.push(scene.gateways[at % 2].enter(&scene.room, user).await);
    }
    join_all(clients.iter_mut().enumerate().map(|(at, client)| {
        let thread = thread.clone();
        async move {
            for number in 0..5 {
                say(client, &thread, &format!("{at}-{number}")).await;
            }
            for _ in 0..5 {
                client.wait_for("message_ack").await;
            }
        }
    }))
    .await;
    let mut orders = Vec::new();
    for client in [&mut scene.ada.1, &mut scene.grace.1] {
        let mut order = Vec::new();
        for offset in 1..=50 {
            let event = client.wait_for("new_message").await;
            assert_eq!(event["offset"], offset);
            order.push(event["message"]["id"].as_str().unwrap().parse::<Uuid>().unwrap());
        }
        orders.push(order);
    }
    let stored = "SELECT id FROM community_message WHERE thread_id IS NOT NULL ORDER BY created_at";
    orders.push(sqlx::query_scalar(stored).fetch_all(scene.stack.db()).await.unwrap());
    assert!(orders[0] == orders[1] && orders[1] == orders[2]);
    let exact = "SELECT count(*) FROM community_thread t JOIN community_room r ON r.id = t.room_id \
                  WHERE r.id = $1 AND t.message_count = 50 AND r.message_count = 50 \
                    AND t.last_message_at = (SELECT max(created_at) FROM community_message) \
                    AND r.last_message_at = t.last_message_at";
    assert_eq!(scene.count(exact).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_thread_is_for_moderators_and_an_archived_one_for_nobody() {
    let mut scene = Scene::start().await;
    let thread = scene.thread("Rules").await;
    let judge = scene.stack.user("judge").await;
    scene.stack.member(&scene.room, &judge, "moderator").await;
    let mut j = scene.gateways[1].enter(&scene.room, &judge).await;

    let lock = json!({"type": "lock_thread", "thread_id": thread});
    assert_eq!(refused(&mut scene.ada.1, lock.clone()).await, "not_allowed");
    j.send(lock.clone()).await;
    let updated = scene.ada.1.wait_for("thread_updated").await;
    assert_eq!((&updated["thread"]["isLocked"], &updated["thread"]["id"]), (&json!(true), &json!(thread)));
    assert_eq!(j.wait_for("thread_updated").await, updated);
    j.send(lock).await;
    j.expect_silence().await; // it was so already
    let send = json!({"type": "send_message", "thread_id": thread, "content": "but", "client_id": "but"});
    assert_eq!(refused(&mut scene.ada.1, send.clone()).await, "thread_locked");
    j.send(send.clone()).await;
    assert_eq!(j.wait_for("message_ack").await["clientId"], "but");
    j.send(json!({"type": "unlock_thread", "thread_id": thread})).await;
    scene.ada.1.wait_until("unlocked", |event| event["thread"]["isLocked"] == false).await;
    scene.ada.1.send(send.clone()).await;
    scene.ada.1.wait_for("message_ack").await;

    for archived in [
        "is_archived = true",
        "is_archived = false, auto_archive_after_hours = 1, \
                                            last_message_at = now() - interval '61 minutes'",
    ] {
        sqlx::query(sqlx::AssertSqlSafe(format!("UPDATE community_thread SET {archived}")))
            .execute(scene.stack.db())
            .await
            .unwrap();
        let late = json!({"type": "send_message", "thread_id": thread, "content": "late"});
        assert_eq!(refused(&mut j, late).await, "thread_archived");
    }
    assert_eq!(scene.count("SELECT count(*) FROM community_message WHERE room_id = $1").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn threads_of_other_rooms_and_of_none_do_not_exist() {
    let mut scene = Scene::start().await;
    let other = scene.stack.room(RoomSpec { visibility: "private", ..RoomSpec::default() }).await;
    let owner = scene.stack.user("owner").await;
    scene.stack.member(&other, &owner, "owner").await;
    scene.stack.member(&scene.room, &owner, "moderator").await;
    let mut there = scene.gateways[0].enter(&other, &owner).await;
    there.send(json!({"type": "create_thread"})).await;
    let created = there.wait_for("thread_created").await;
    assert_eq!(created["thread"]["title"], "Thread");
    let elsewhere = created["thread"]["id"].clone();
    say(&mut there, elsewhere.as_str().unwrap(), "secret").await;
    let secret = there.wait_for("message_ack").await["messageId"].clone();

    let mut here = scene.gateways[1].enter(&scene.room, &owner).await;
    for thread in [elsewhere, json!(Uuid::new_v4())] {
        for kind in ["open_thread", "lock_thread", "send_message", "request_history"] {
            let frame = json!({"type": kind, "thread_id": thread, "content": "x"});
            assert_eq!(refused(&mut here, frame).await, "thread_not_found", "{kind}");
        }
    }
    let mine = scene.thread("Mine").await;
    for parent in [secret.clone(), json!(Uuid::new_v4())] {
        let frame = json!({"type": "create_thread", "parent_message_id": parent});
        assert_eq!(refused(&mut here, frame).await, "message_not_found");
    }
    let frame = json!({"type": "request_history", "thread_id": mine, "cursor": secret});
    assert_eq!(refused(&mut here, frame).await, "unknown_cursor");
    // A message in a thread begins no other.
    say(&mut here, &mine, "nested").await;
    let nested = here.wait_for("message_ack").await["messageId"].clone();
    let frame = json!({"type": "create_thread", "parent_message_id": nested});
    assert_eq!(refused(&mut here, frame).await, "message_not_found");
    assert_eq!(refused(&mut here, json!({"type": "create_thread", "title": "x".repeat(201)})).await, "invalid_frame");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_an_auto_thread_room_an_answer_goes_into_the_messages_thread() {
    let mut scene = Scene::start().await;
    sqlx::query("UPDATE community_room SET auto_thread = true").execute(scene.stack.db()).await.unwrap();
    scene.stack.order(json!({"action": "room_changed", "room": scene.room.id.to_string()})).await;
    scene.ada.1.wait_for("room_updated").await;
    scene.grace.1.wait_for("room_updated").await;
    scene.ada.1.send(json!({"type": "send_message", "content": "question"})).await;
    let question = scene.grace.1.wait_for("new_message").await["message"]["id"].clone();
    assert_eq!(scene.count("SELECT count(*) FROM community_thread WHERE room_id = $1").await, 0);

    let answer = json!({"type": "send_message", "content": "answer", "reply_to_id": question});
    scene.grace.1.send(answer.clone()).await;
    let thread = scene.ada.1.wait_for("thread_created").await["thread"].clone();
    assert_eq!((&thread["parentMessageId"], &thread["title"]), (&question, &json!("question")));
    let updated = scene.ada.1.wait_for("thread_updated").await;
    assert_eq!((&updated["thread"]["id"], &updated["thread"]["messageCount"]), (&thread["id"], &json!(1)));
    scene.ada.1.send(answer).await;
    let id = thread["id"].as_str().unwrap();
    scene.ada.1.wait_until("two", |event| event["thread"]["messageCount"] == 2).await;
    let state = open(&mut scene.ada.1, id).await;
    assert_eq!(contents(&state["messages"]), ["answer", "answer"]);
    assert_eq!(state["messages"][0]["replyToId"], question);
    // An answer to an answer stays in the thread.
    let reply = json!({"type": "send_message", "content": "deeper", "reply_to_id": state["messages"][0]["id"]});
    scene.grace.1.send(reply).await;
    let event = scene.ada.1.wait_for("new_message").await;
    assert_eq!((&event["message"]["content"], &event["message"]["threadId"]), (&json!("deeper"), &thread["id"]));
    assert_eq!(scene.count("SELECT count(*) FROM community_thread WHERE room_id = $1").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_threads_past_is_paged_to_its_end() {
    let mut scene = Scene::start().await;
    let thread = scene.thread("Old").await;
    let ids = scene.stack.messages(&scene.room, &scene.ada.0, 60).await;
    let moved = "UPDATE community_message SET thread_id = $1 WHERE id = ANY($2)";
    let of_thread = Uuid::parse_str(&thread).unwrap();
    // The first half is the room's, the second the thread's.
    sqlx::query(moved).bind(of_thread).bind(&ids[3..]).execute(scene.stack.db()).await.unwrap();
    let state = open(&mut scene.ada.1, &thread).await;
    let named = |page: &Value| -> Vec<Uuid> {
        let messages = page["messages"].as_array().unwrap();
        messages.iter().map(|message| message["id"].as_str().unwrap().parse().unwrap()).collect()
    };
    assert_eq!((named(&state), &state["hasMore"]), (ids[10..].to_vec(), &json!(true)));
    let mut cursor = state["cursor"].clone();
    let mut seen = Vec::new();
    while !cursor.is_null() {
        scene.ada.1.send(json!({"type": "request_history", "thread_id": thread, "cursor": cursor, "limit": 3})).await;
        let page = scene.ada.1.wait_for("message_history").await;
        assert_eq!(page["threadId"], thread);
        seen.splice(..0, named(&page));
        cursor = page["cursor"].clone();
    }
    assert_eq!(seen, ids[3..10]);
    scene.ada.1.send(json!({"type": "request_history"})).await;
    let page = scene.ada.1.wait_for("message_history").await;
    assert_eq!((named(&page), page.get("threadId")), (ids[..3].to_vec(), None), "the room's past has none of them");
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_hold_in_threads() {
    let mut scene = Scene::start().await;
    let thread = scene.thread("Quiet").await;
    let parent = scene.stack.messages(&scene.room, &scene.grace.0, 1).await[0];
    open(&mut scene.ada.1, &thread).await;
    scene.stack.block(&scene.ada.0, &scene.grace.0).await;
    let ids = [scene.ada.0.id.to_string(), scene.grace.0.id.to_string()];
    scene.stack.order(json!({"action": "block_changed", "users": ids})).await;
    scene.gateways[0].wait_for_log("an order is obeyed").await;
    say(&mut scene.grace.1, &thread, "unseen").await;
    scene.grace.1.wait_for("message_ack").await;
    say(&mut scene.ada.1, &thread, "mine").await;
    let seen = scene.ada.1.events_until("new_message").await;
    assert_eq!(seen.last().unwrap()["message"]["content"], "mine");
    assert!(seen.iter().all(|event| event["thread"]["messageCount"] != 1), "{seen:?}");
    let state = open(&mut scene.ada.1, &thread).await;
    assert_eq!(contents(&state["messages"]), ["mine"]);
    let begin = json!({"type": "create_thread", "parent_message_id": parent});
    assert_eq!(refused(&mut scene.ada.1, begin).await, "message_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_threads_may_be_open_and_none_is_left_behind() {
    let mut scene = Scene::start().await;
    let insert = "INSERT INTO community_thread (id, title, is_locked, is_pinned, is_resolved, message_count, is_archived, \
                      created_at, updated_at, room_id) \
                  SELECT gen_random_uuid(), 'n', false, false, false, 0, false, now(), now(), $1 \
                    FROM generate_series(1, 21) RETURNING id";
    let threads: Vec<Uuid> = sqlx::query_scalar(insert).bind(scene.room.id).fetch_all(scene.stack.db()).await.unwrap();
    for thread in &threads[..20] {
        open(&mut scene.ada.1, &thread.to_string()).await;
    }
    let one_more = json!({"type": "open_thread", "thread_id": threads[20]});
    assert_eq!(refused(&mut scene.ada.1, one_more.clone()).await, "too_many_threads");
    open(&mut scene.ada.1, &threads[0].to_string()).await; // it was open: a fresh state
    scene.ada.1.send(json!({"type": "close_thread", "thread_id": threads[1]})).await;
    scene.ada.1.send(one_more).await;
    scene.ada.1.wait_for("thread_state").await;
    let gateway = &scene.gateways[0];
    assert_eq!(gateway.metric("community_gateway_seats_open", &[]).await, 21.0);
    scene.ada.1.close().await;
    for name in ["community_gateway_seats_open", "community_gateway_topics_open"] {
        eventually(name, || async { gateway.metric(name, &[]).await == 0.0 }).await;
    }
}
