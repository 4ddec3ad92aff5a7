//! Those who mean harm, or whose line is worse than they know: guessers, crowds that read nothing or write one byte at a
//! time, ids of other rooms, texts that try to be code. The others must not notice.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{RoomSpec, Stack, TestClient};

#[tokio::test]
async fn guessing_tokens_is_slow_and_locks_nobody_out() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let room = stack.room(RoomSpec::default()).await;
    let guesser = || gateway.dial(&room.path()).token("00112233445566778899aabbccddeeff").connect();
    for _ in 0..14 {
        guesser().await.expect_close().await;
    }
    let begun = Instant::now();
    let mut slow: Vec<TestClient> = join_all((0..8).map(|_| guesser())).await;
    // From the same address, with a token that is good.
    let user = stack.user("ada").await;
    gateway.enter(&room, &user).await;
    let entered = begun.elapsed();
    for client in &mut slow {
        assert_eq!(client.expect_close().await.0, 4001);
    }
    let answered = begun.elapsed();
    assert!(answered >= Duration::from_secs(4), "guesses are answered late: {answered:?}");
    assert!(entered < answered, "who may come in does not wait: {entered:?}");
}

#[tokio::test]
async fn crowds_that_read_nothing_or_write_a_byte_at_a_time_hold_nobody_up() {
    let stack = Stack::start().await;
    let gateway = stack
        .gateway()
        .env("GATEWAY_OUTBOX_BYTES", 65_536)
        .env("GATEWAY_HANDSHAKE_RATE", 0)
        .env("GATEWAY_LIMIT_MESSAGES_PER_MINUTE", 0)
        .env("GATEWAY_LIMIT_MESSAGES_PER_HOUR", 0)
        .start()
        .await;
    let room = stack.room(RoomSpec::default()).await;
    let users = stack.users("deaf", 100).await;
    let (deaf, slow) = users.split_at(50);
    let deaf = deaf.iter().map(|user| {
        let dial = gateway.dial(&room.path()).jwt(&stack.jwt(user)).receive_buffer(4_096);
        async move {
            let mut client = dial.connect().await;
            client.wait_for("room_state").await;
            client
        }
    });
    let deaf: Vec<TestClient> = join_all(deaf).await;
    let mut slow: Vec<TestClient> = join_all(slow.iter().map(|user| gateway.enter_by_jwt(&room, user))).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let (mut sender, mut reader) = (gateway.enter(&room, &ada).await, gateway.enter(&room, &grace).await);
    // A masked text frame of which a byte comes now and then.
    let frame = [0x81, 0x8c, 0, 0, 0, 0, b'{', b'"', b't', b'y'];
    // What Django publishes is the heavy part; what people write comes in between.
    let noise = json!({"event": "announcement", "text": "x".repeat(16_384)}).to_string();
    let mut sent = 0_usize;
    while gateway.metric("community_gateway_outbox_overflow_total", &[]).await < 50.0 {
        assert!(sent < 200, "{} announcements of 16 KB fit into outboxes of 64 KiB", 4 * sent);
        for _ in 0..5 {
            for client in &mut slow {
                if let Some(byte) = frame.get(sent) {
                    client.send_raw(&[*byte]).await;
                }
            }
            sent += 1;
            for _ in 0..4 {
                stack.publish(&room.channel(), noise.as_bytes()).await;
            }
            sender.send(json!({"type": "send_message", "content": format!("number {sent}")})).await;
            let heard = reader.wait_for("new_message").await;
            assert_eq!(heard["message"]["content"], format!("number {sent}"), "everything comes, in order");
            for client in &mut slow {
                client.wait_for("new_message").await; // those who are slow to write read all the same
            }
            sender.wait_for("new_message").await;
        }
    }
    drop(deaf);
    let queued = gateway.metric("community_gateway_outbox_bytes", &[]).await;
    assert!(queued < 50.0 * 100_000.0, "what waits is bounded: {queued} bytes");
}

#[tokio::test]
async fn a_crowd_that_enters_at_once_shares_its_reads() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().env("GATEWAY_HANDSHAKE_RATE", 0).start().await;
    let room = stack.room(RoomSpec::default()).await;
    let users = stack.users("member", 40).await;
    stack.messages(&room, &users[0], 60).await;
    // Postgres is made to wait, so that all have asked before the first is answered.
    let mut lock = stack.db().begin().await.unwrap();
    sqlx::query("LOCK TABLE community_message IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let entering = join_all(users.iter().map(|user| gateway.enter_by_jwt(&room, user)));
    let release = async {
        crate::support::eventually("all are on their way", || async {
            gateway.metric("community_gateway_sockets_open", &[]).await == 40.0
        })
        .await;
        lock.rollback().await.unwrap();
    };
    let (clients, ()) = futures_util::future::join(entering, release).await;
    for client in &clients {
        let mut events = client.seen().iter().map(|event| serde_json::from_str::<Value>(event).unwrap());
        let state = events.find(|event| event["event"] == "room_state").unwrap();
        assert_eq!(state["messages"].as_array().unwrap().len(), 50);
    }
    let shared = gateway.metric("community_gateway_reads_shared_total", &[]).await;
    assert!(shared >= 20.0, "of 40 states {shared} were read for others too");
}

#[tokio::test]
async fn ids_of_other_rooms_and_texts_that_try_to_be_code_do_nothing() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().env("GATEWAY_LIMIT_MESSAGES_PER_MINUTE", 0).start().await;
    let (room, other) = (stack.room(RoomSpec::default()).await, stack.room(RoomSpec::default()).await);
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let theirs = stack.messages(&other, &grace, 1).await[0];
    // One who may do all of this in the room: what is refused is that the message is elsewhere, and nothing else.
    stack.member(&room, &ada, "moderator").await;
    let mut client = gateway.enter(&room, &ada).await;
    client.expect_event("user_joined").await;
    for (frame, code) in [
        (json!({"type": "edit_message", "message_id": theirs, "content": "mine"}), "message_not_found"),
        (json!({"type": "delete_message", "message_id": theirs}), "message_not_found"),
        (json!({"type": "pin_message", "message_id": theirs}), "message_not_found"),
        (json!({"type": "add_reaction", "message_id": theirs, "emoji": "👍"}), "message_not_found"),
        (json!({"type": "report_message", "message_id": theirs, "reason": "spam"}), "message_not_found"),
        (json!({"type": "request_history", "cursor": theirs}), "unknown_cursor"),
        (json!({"type": "delete_message", "message_id": "' OR 1=1; --"}), "invalid_frame"),
        (json!({"type": "request_history", "cursor": "0 UNION SELECT password FROM users_user"}), "invalid_frame"),
    ] {
        client.send(frame.clone()).await;
        let answer = client.expect_event("error").await;
        assert_eq!(answer["code"], code, "{frame} got {answer}");
    }
    let deep = format!("{}{}", "[".repeat(7_000), "]".repeat(7_000));
    for text in [&deep[..], &format!(r#"{{"type":"ping","x":{deep}}}"#)] {
        client.send_text(text).await;
        let answer = client.expect_event("error").await;
        assert_eq!(answer["code"], "invalid_frame", "{answer}");
    }
    let words = "'); DROP TABLE community_message; -- \u{0} {\"event\":\"kick\"} %s ${7*7}";
    client.send_message(Message::text(json!({"type": "send_message", "content": words}).to_string())).await;
    let answer = client.expect_event("error").await;
    assert_eq!(answer["code"], "invalid_frame", "Postgres has no text with a zero: {answer}");
    let words = words.replace('\0', "");
    client.send(json!({"type": "send_message", "content": words})).await;
    assert_eq!(client.wait_for("new_message").await["message"]["content"], words, "as it was written");
    client.send(json!({"type": "send_message", "content": "still here", "client_id": "c"})).await;
    client.wait_for("message_ack").await;
    let intact: (String, bool) = sqlx::query_as("SELECT content, is_pinned FROM community_message WHERE id = $1")
        .bind(theirs)
        .fetch_one(stack.db())
        .await
        .unwrap();
    assert_eq!(intact, ("message 1".to_owned(), false));
}
