//! Frames that are meant to cost more than they do: floods, messages that never end, compression that was not agreed on.
//! Each ends its own connection at most.

use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::frames::frame;
use crate::support::{RoomSpec, Stack, TestClient, TestGateway, TestRoom, eventually};

/// Somebody who does no harm, in the same room.
async fn neighbour(stack: &Stack, gateway: &TestGateway, room: &TestRoom) -> TestClient {
    let user = stack.user("neighbour").await;
    gateway.enter(room, &user).await
}

/// The neighbour writes, and hears it.
async fn goes_on(neighbour: &mut TestClient) {
    // Always another text: the same again and again would be spam.
    let text = format!("{} is quiet", uuid::Uuid::new_v4());
    neighbour.send(json!({"type": "send_message", "content": text})).await;
    neighbour.wait_until("its own message", |event| event["message"]["content"] == text).await;
}

#[tokio::test]
async fn messages_that_never_end_are_ended_by_the_limit_on_frames_or_on_bytes() {
    let stack = Stack::start().await;
    let room = stack.room(RoomSpec::default()).await;
    let (limited, unlimited) =
        (stack.gateway().start().await, stack.gateway().env("GATEWAY_LIMIT_FRAMES_PER_SECOND", 0).start().await);
    let ada = stack.user("ada").await;
    let mut beside = neighbour(&stack, &limited, &room).await;
    let begin = frame(0x01, b"\"");
    // Empty pieces, with a ping between each two: nothing ever ends, and no byte is added.
    let empty = [begin.clone(), [frame(0x00, b""), frame(0x89, b"")].concat().repeat(500)].concat();
    // Pieces of one byte, where frames are not counted.
    let small = [begin, frame(0x00, b"x").repeat(40_000)].concat();
    for (what, gateway, bytes, code) in [("empty", &limited, empty, 1008), ("small", &unlimited, small, 1009)] {
        let mut client = gateway.enter(&room, &ada).await;
        client.send_raw(&bytes).await;
        assert_eq!(client.expect_close().await.0, code, "{what}");
        goes_on(&mut beside).await;
    }
}

#[tokio::test]
async fn a_flood_of_pings_from_one_who_reads_no_pong_is_bounded() {
    let stack = Stack::start().await;
    let gateway = stack
        .gateway()
        .env("GATEWAY_LIMIT_FRAMES_PER_SECOND", 0)
        .env("GATEWAY_OUTBOX_BYTES", 65_536)
        .env("GATEWAY_LIMIT_MESSAGES_PER_MINUTE", 0)
        .start()
        .await;
    let room = stack.room(RoomSpec::default()).await;
    let mut beside = neighbour(&stack, &gateway, &room).await;
    let ada = stack.user("ada").await;
    let dial = gateway.dial(&room.path()).jwt(&stack.jwt(&ada)).receive_buffer(4_096);
    let mut client = dial.connect().await;
    client.wait_for("room_state").await;
    let pings = frame(0x89, &[b'x'; 125]).repeat(200);
    let is_over = || async { gateway.metric("community_gateway_seats_open", &[]).await == 1.0 };
    for round in 0..50 {
        if round % 10 == 0 {
            let queued = gateway.metric("community_gateway_outbox_bytes", &[]).await;
            assert!(queued <= 2.0 * 65_536.0, "{queued} bytes of pongs wait");
            goes_on(&mut beside).await;
            if is_over().await {
                return; // as too slow: that is a bound, too
            }
        }
        if !client.try_send_raw(&pings).await {
            eventually("its seat is free", is_over).await;
            return;
        }
    }
    // All were taken, for an answer that was not sent yet is replaced by the next.
    drop(client);
    goes_on(&mut beside).await;
}

#[tokio::test]
async fn compression_is_not_agreed_to_and_a_bomb_is_refused_by_its_first_bit() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let mut beside = neighbour(&stack, &gateway, &room).await;
    let dial = gateway.dial(&room.path()).jwt(&stack.jwt(&ada));
    let mut client =
        dial.header("sec-websocket-extensions", "permessage-deflate; client_max_window_bits").connect().await;
    client.wait_for("room_state").await;
    // The first bit of a compressed message; zeros enough for ten megabytes if anybody unpacked them.
    client.send_raw(&frame(0xc1, &[0; 10_000])).await;
    assert_eq!(client.expect_close().await.0, 1002);
    let refused = gateway.metric("community_gateway_protocol_errors_total", &[("error", "reserved_bits")]).await;
    assert!(refused >= 1.0);
    goes_on(&mut beside).await;
}

#[tokio::test]
async fn a_frame_that_is_begun_and_never_ended_holds_no_more_than_came_and_ends_with_its_silence() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().env("GATEWAY_PING_SECONDS", 1).env("GATEWAY_IDLE_SECONDS", 3).start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let mut client = gateway.enter(&room, &ada).await;
    // A frame of 30,000 bytes, of which ten come; then neither a byte nor a pong.
    client.send_raw(&frame(0x81, &[b' '; 30_000])[..18]).await;
    let ended = gateway.wait_for_log("session ended").await;
    assert_eq!((&ended["code"], &ended["reason"]), (&json!(4008), &json!("heartbeat missed")));
}

#[tokio::test]
async fn what_is_said_after_the_goodbye_is_not_heard() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let mut beside = neighbour(&stack, &gateway, &room).await;
    let mut client = gateway.enter(&room, &ada).await;
    let words = json!({"type": "send_message", "content": "too late"}).to_string();
    let goodbye = frame(0x88, &1000_u16.to_be_bytes());
    client.send_raw(&[goodbye, frame(0x81, words.as_bytes())].concat()).await;
    assert!(matches!(client.next_message().await, Message::Text(_) | Message::Close(_)));
    assert_eq!(client.expect_close().await.0, 1000);
    goes_on(&mut beside).await;
    let said: i64 = sqlx::query_scalar("SELECT count(*) FROM community_message WHERE content = 'too late'")
        .fetch_one(stack.db())
        .await
        .unwrap();
    assert_eq!(said, 0);
}
