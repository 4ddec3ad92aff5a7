//! Goodbyes: their codes, and what a refused connection leaves behind (nothing).

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::support::{ORIGIN, RoomSpec, Stack, TestClient, TestUser, UserSpec, eventually};

#[tokio::test]
async fn whoever_is_not_logged_in_is_told_4001() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let room = stack.room(RoomSpec::default()).await;
    let ada = stack.user("ada").await;
    let gone = TestUser { id: 999_999, username: "gone".to_owned() };
    let inactive = stack.user_with("inactive", UserSpec { active: false, ..UserSpec::default() }).await;
    let used = stack.token(&ada).await;
    gateway.dial(&room.path()).token(&used).connect().await.close().await;
    let expired = stack
        .sign(&json!({"token_type": "access", "exp": 1_000, "iat": 900, "jti": "x", "user_id": ada.id.to_string()}));
    let refresh = stack
        .sign(&json!({"token_type": "refresh", "exp": 4_000_000_000_i64, "jti": "x", "user_id": ada.id.to_string()}));
    let (jwt, of_gone, of_inactive) = (stack.jwt(&ada), stack.token(&gone).await, stack.token(&inactive).await);
    let dial = || gateway.dial(&room.path());
    for (who, dial) in [
        ("nobody", dial()),
        ("an unknown token", dial().token("0123456789abcdef0123456789abcdef")),
        ("a used token", dial().token(&used)),
        ("garbage", dial().token("%00%ff/../*")),
        ("an empty token", dial().token("")),
        ("an unknown token beside a good cookie", dial().token("unknown").cookie("access_token", &jwt)),
        ("a token of a user who is gone", dial().token(&of_gone)),
        ("a token of an inactive user", dial().token(&of_inactive)),
        ("garbage for a JWT", dial().jwt("a.b.c")),
        ("an expired JWT", dial().jwt(&expired)),
        ("a refresh token", dial().jwt(&refresh)),
        ("a JWT with another signature", dial().jwt(&format!("{jwt}x"))),
        ("a JWT of an inactive user", dial().cookie("access_token", &stack.jwt(&inactive))),
    ] {
        let (code, reason) = dial.connect().await.expect_close().await;
        assert_eq!((code, reason.as_str()), (4001, "not authenticated"), "{who}");
    }
}

#[tokio::test]
async fn an_expired_token_is_gone() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let token = stack.token(&ada).await;
    let key = format!("allthrive:1:ws_conn_token:{token}");
    redis::cmd("PEXPIRE").arg(&key).arg(0).exec_async(&mut stack.cache().await).await.unwrap();
    assert_eq!(gateway.dial(&room.path()).token(&token).connect().await.expect_close().await.0, 4001);
}

#[tokio::test]
async fn of_many_who_show_one_token_at_once_one_gets_in() {
    let stack = Stack::start().await;
    let (one, two) = (stack.gateway().start().await, stack.gateway().start().await);
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let token = stack.token(&ada).await;
    let tries = (0..8).map(|at| {
        let dial = [&one, &two][at % 2].dial(&room.path()).token(&token);
        async move {
            match dial.connect().await.next_message().await {
                Message::Text(_) => true,
                Message::Close(Some(frame)) => {
                    assert_eq!(u16::from(frame.code), 4001);
                    false
                }
                other => panic!("{other:?}"),
            }
        }
    });
    let entered = futures_util::future::join_all(tries).await;
    assert_eq!(entered.iter().filter(|entered| **entered).count(), 1, "{entered:?}");
}

#[tokio::test]
async fn whoever_has_no_access_is_told_4003() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let public = stack.room(RoomSpec::default()).await;
    let private = stack.room(RoomSpec { visibility: "private", ..RoomSpec::default() }).await;
    let unlisted = stack.room(RoomSpec { visibility: "unlisted", ..RoomSpec::default() }).await;
    let bob = stack.user("bob").await;
    stack.member(&public, &bob, "banned").await;
    stack.member(&unlisted, &bob, "banned").await;
    for room in [public, private, unlisted] {
        let mut client = gateway.dial(&room.path()).jwt(&stack.jwt(&bob)).connect().await;
        assert_eq!(client.expect_close().await, (4003, "forbidden".to_owned()));
        assert!(client.seen().is_empty(), "not a word before: {:?}", client.seen());
    }
}

#[tokio::test]
async fn a_room_that_is_not_there_or_inactive_is_4004() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let ada = stack.user("ada").await;
    let inactive = stack.room(RoomSpec { active: false, ..RoomSpec::default() }).await;
    for id in [inactive.id, Uuid::new_v4()] {
        let dial = gateway.dial(&format!("/ws/community/room/{id}/")).jwt(&stack.jwt(&ada));
        assert_eq!(dial.connect().await.expect_close().await, (4004, "no such room or thread".to_owned()));
    }
}

/// A raw frame with a mask of zeros.
fn frame(head: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![head];
    match u16::try_from(payload.len()).unwrap() {
        short @ 0..=125 => frame.push(0x80 | u8::try_from(short).unwrap()),
        long => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&long.to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

#[tokio::test]
async fn what_breaks_the_rules_ends_that_connection_with_its_code() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().env("GATEWAY_LIMIT_CONNECTS_PER_MINUTE", 0).start().await;
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let mut other = gateway.enter(&room, &grace).await;
    let part = vec![b' '; 12_000];
    for (what, bytes, code) in [
        ("a binary frame", frame(0x82, b"x"), 1003),
        ("text that is not UTF-8", frame(0x81, &[b'"', 0xff, b'"']), 1007),
        ("a long message", frame(0x81, &vec![b' '; 32 * 1024 + 1]), 1009),
        ("a long message in fragments", [frame(0x01, &part), frame(0x00, &part), frame(0x80, &part)].concat(), 1009),
        ("a frame without a mask", vec![0x81, 0x02, b'{', b'}'], 1002),
    ] {
        let mut client = gateway.enter_by_jwt(&room, &ada).await;
        client.send_raw(&bytes).await;
        assert_eq!(client.expect_close().await.0, code, "{what}");
        let (code, labels) = (code.to_string(), "community_gateway_closes_total");
        eventually("it is counted", || async { gateway.metric(labels, &[("code", &code)]).await >= 1.0 }).await;
    }
    other.send(json!({"type": "ping"})).await;
    other.wait_for("pong").await;
}

#[tokio::test]
async fn a_message_of_exactly_the_limit_is_taken() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let mut client = gateway.enter(&room, &ada).await;
    let ping = r#"{"type":"ping"}"#;
    client.send_text(&format!("{ping}{}", " ".repeat(32 * 1024 - ping.len()))).await;
    client.wait_for("pong").await;
}

#[tokio::test]
async fn who_sends_nothing_but_nonsense_is_told_1008() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let mut client = gateway.enter(&room, &ada).await;
    for _ in 0..19 {
        client.send_text("{").await;
        client.wait_for("error").await;
    }
    client.send(json!({"type": "ping"})).await;
    client.wait_for("pong").await;
    for _ in 0..20 {
        client.send_text("{").await;
    }
    assert_eq!(client.expect_close().await.0, 1008);
}

#[tokio::test]
async fn a_client_that_says_goodbye_gets_one() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    gateway.enter(&room, &ada).await.close().await;
    let closed = || gateway.metric("community_gateway_closes_total", &[("code", "1005")]);
    let ended = gateway.wait_for_log("session ended").await;
    assert_eq!(ended["by"].as_str().or(ended["fields"]["by"].as_str()), Some("peer"));
    eventually("it is counted", || async {
        closed().await + gateway.metric("community_gateway_closes_total", &[("code", "1000")]).await == 1.0
    })
    .await;
}

/// What is known of a room outside the gateway.
async fn traces(stack: &Stack) -> (Vec<String>, Vec<(String, i32, i32, i32)>) {
    let mut keys: Vec<String> =
        redis::cmd("KEYS").arg("community:*").query_async(&mut stack.redis().await).await.unwrap();
    keys.sort_unstable();
    let rooms = "SELECT id::text, member_count, message_count, online_count FROM community_room ORDER BY id";
    (keys, sqlx::query_as(rooms).fetch_all(stack.db()).await.unwrap())
}

#[tokio::test]
async fn a_refused_connection_touches_nothing() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().env("GATEWAY_PRESENCE_GRACE_SECONDS", 0).start().await;
    let room = stack.room(RoomSpec { visibility: "private", ..RoomSpec::default() }).await;
    let (ada, bob, eve) = (stack.user("ada").await, stack.user("bob").await, stack.user("eve").await);
    stack.member(&room, &ada, "member").await;
    stack.member(&room, &bob, "banned").await;
    let mut watcher = gateway.enter(&room, &ada).await;
    watcher.expect_event("user_joined").await;
    let before = traces(&stack).await;

    let dial = || gateway.dial(&room.path());
    for dial in [
        dial().jwt(&stack.jwt(&eve)),
        dial().jwt(&stack.jwt(&bob)),
        dial(),
        dial().token("unknown"),
        // The watcher herself, in another tab that is not let in.
        dial().token("unknown").cookie("access_token", &stack.jwt(&ada)),
    ] {
        assert!((4001..=4003).contains(&dial.connect().await.expect_close().await.0));
    }
    assert_eq!(dial().jwt(&stack.jwt(&ada)).origin("http://elsewhere.test").refused().await.status, 403);
    eventually("the refused are gone", || async { gateway.metric("community_gateway_sockets_open", &[]).await == 1.0 })
        .await;
    watcher.send(json!({"type": "send_message", "content": "marker"})).await;
    let seen = watcher.events_until("new_message").await;
    assert_eq!(seen.len(), 1, "nobody heard of them: {seen:?}");
    eventually("nothing is left of them", || async {
        let (mut keys, rooms) = traces(&stack).await;
        keys.retain(|key| !key.starts_with("community:log:") && !key.starts_with("community:index:"));
        let counted: Vec<_> = rooms.into_iter().map(|room| (room.0, room.1, 0, room.3)).collect();
        (keys, counted) == before
    })
    .await;
}

#[tokio::test]
async fn a_foreign_page_is_refused_before_its_token_is_used() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let token = stack.token(&ada).await;
    for origin in ["http://elsewhere.test", "https://chat.test", "http://chat.test:81", "http://CHAT.test", "null", ""]
    {
        let reply = gateway.dial(&room.path()).token(&token).origin(origin).refused().await;
        assert_eq!(reply.status, 403, "{origin:?}");
    }
    for path in ["/ws/community/room/7/", "/ws/community/room/", "/ws/community/rooms/"] {
        assert_eq!(gateway.dial(path).token(&token).refused().await.status, 404, "{path}");
    }
    gateway.dial(&room.path()).token(&token).origin(ORIGIN).connect().await.expect_event("room_state").await;
}

#[tokio::test]
async fn a_slow_client_is_cut_off_and_the_others_get_everything() {
    let stack = Stack::start().await;
    let gateway = stack
        .gateway()
        .env("GATEWAY_OUTBOX_BYTES", 65_536)
        .env("GATEWAY_LIMIT_MESSAGES_PER_MINUTE", 0)
        .env("GATEWAY_LIMIT_MESSAGES_PER_HOUR", 0)
        .start()
        .await;
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace, slow) = (stack.user("ada").await, stack.user("grace").await, stack.user("slow").await);
    let (mut sender, mut reader) = (gateway.enter(&room, &ada).await, gateway.enter(&room, &grace).await);
    let mut slow = gateway.dial(&room.path()).jwt(&stack.jwt(&slow)).receive_buffer(4_096).connect().await;
    slow.expect_event("room_state").await;

    let overflowed = || async { gateway.metric("community_gateway_outbox_overflow_total", &[]).await == 1.0 };
    // What Django publishes is the heavy part; what people write comes in between.
    let noise = json!({"event": "announcement", "text": "x".repeat(16_384)}).to_string();
    let mut sent = 0;
    while !overflowed().await {
        assert!(sent < 200, "{sent} announcements of 64 KB fit into an outbox of 64 KiB");
        for _ in 0..5 {
            sent += 1;
            for _ in 0..4 {
                stack.publish(&room.channel(), noise.as_bytes()).await;
            }
            let text = format!("number {sent}");
            sender.send(json!({"type": "send_message", "content": text})).await;
            let seen = reader.wait_for("new_message").await;
            assert_eq!(seen["message"]["content"], text, "the others get everything, in order");
            sender.wait_until("its own message", |event| event["message"]["content"] == text).await;
        }
    }
    let counted = || gateway.metric("community_gateway_closes_total", &[("code", "4008")]);
    let (code, _) = slow.expect_close().await;
    assert!(matches!(code, 4008 | 1006), "{code}: too slow even for the goodbye, perhaps");
    eventually("it was closed as too slow", || async { counted().await == 1.0 }).await;
    sender.send(json!({"type": "send_message", "content": "and on"})).await;
    assert_eq!(reader.wait_for("new_message").await["message"]["content"], "and on");
}

async fn with_heartbeat(stack: &Stack) -> (crate::support::TestGateway, TestClient) {
    let gateway = stack.gateway().env("GATEWAY_PING_SECONDS", 1).env("GATEWAY_IDLE_SECONDS", 3).start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let mut client = gateway.enter(&room, &ada).await;
    client.expect_event("user_joined").await;
    (gateway, client)
}

#[tokio::test]
async fn a_silent_peer_is_given_up() {
    let stack = Stack::start().await;
    let (gateway, _silent) = with_heartbeat(&stack).await;
    // Whoever does not read does not answer pings.
    let ended = gateway.wait_for_log("session ended").await;
    assert_eq!((&ended["code"], &ended["reason"]), (&json!(4008), &json!("heartbeat missed")));
}

#[tokio::test]
async fn a_peer_that_answers_pings_stays() {
    let stack = Stack::start().await;
    let (_gateway, mut client) = with_heartbeat(&stack).await;
    let mut pings = 0;
    while pings < 6 {
        pings += i32::from(matches!(client.next_message().await, Message::Ping(_)));
    }
    client.expect_silence().await;
}

#[tokio::test]
async fn who_sends_pings_in_json_as_pages_do_is_pinged_later() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().env("GATEWAY_PING_SECONDS", 1).env("GATEWAY_IDLE_SECONDS", 21).start().await;
    let room = stack.room(RoomSpec::default()).await;
    let (mut page, mut silent) =
        (gateway.enter(&room, &stack.user("ada").await).await, gateway.enter(&room, &stack.user("grace").await).await);
    page.send(json!({"type": "ping"})).await;
    page.wait_for("pong").await;
    page.send(json!({"type": "send_message", "content": "from here on"})).await;
    page.wait_for("new_message").await;
    silent.wait_for("new_message").await;
    // Each a second after the one before, by the same timer that would look at the page.
    let mut pings = 0;
    while pings < 3 {
        pings += i32::from(matches!(silent.next_message().await, Message::Ping(_)));
    }
    page.send(json!({"type": "ping"})).await;
    loop {
        match page.next_message().await {
            Message::Text(text) if text.contains("\"event\":\"pong\"") => break,
            Message::Text(_) => {}
            other => panic!("{other:?} came to one who pings"),
        }
    }
}

#[tokio::test]
async fn nothing_private_is_logged() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().env("GATEWAY_LOG", "debug").start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let (token, jwt) = (stack.token(&ada).await, stack.jwt(&ada));
    let mut client = gateway.dial(&room.path()).token(&token).cookie("access_token", &jwt).connect().await;
    client.send(json!({"type": "send_message", "content": "a secret between us", "client_id": "c"})).await;
    client.wait_for("message_ack").await;
    client.close().await;
    gateway.dial(&room.path()).token("stolen-token").connect().await.expect_close().await;
    let ended: Value = gateway.wait_for_log("session ended").await;
    assert!(ended.to_string().contains("\"code\""), "one summary line a session: {ended}");
    let log = gateway.log_lines().join("\n");
    for private in [token.as_str(), &jwt, "secret between", "stolen-token", "connection_token"] {
        assert!(!log.contains(private), "{private:?} is in the log");
    }
}
