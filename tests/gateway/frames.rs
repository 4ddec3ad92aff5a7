//! Frames below the protocol: what a client may send, and with which code it learns that it may not.

use tokio_tungstenite::tungstenite::Message;

use crate::support::{RoomSpec, Stack};

/// A client's frame with this first byte (flags and opcode), masked with zeros, which leave the payload as it is.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ ..126 => frame.push(0x80 | len as u8),
        len @ ..65_536 => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => panic!("{len} bytes are more than these tests need"),
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_pongs_and_fragments_are_no_reason_to_leave() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let mut client = gateway.enter(&room, &ada).await;
    client.wait_for("user_joined").await;

    client.send_message(Message::Ping(b"there?".to_vec().into())).await;
    while client.next_message().await != Message::Pong(b"there?".to_vec().into()) {}
    client.send_message(Message::Pong(Vec::new().into())).await;
    let parts = [frame(0x01, br#"{"type":"#), frame(0x8a, b""), frame(0x00, b""), frame(0x80, br#" "ping"}"#)];
    client.send_raw(&parts.concat()).await;
    client.wait_for("pong").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_breaks_the_rules_learns_which() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let room = stack.room(RoomSpec::default()).await;
    let parts = [frame(0x01, &[b' '; 20_000]), frame(0x80, &[b' '; 20_000])].concat();
    let table: [(&str, Vec<u8>, u16); 6] = [
        ("no mask", vec![0x81, 2, b'{', b'}'], 1002),
        ("a reserved bit", frame(0xc1, b"{}"), 1002),
        ("binary", frame(0x82, b"{}"), 1003),
        ("not UTF-8", frame(0x81, b"\"\xff\""), 1007),
        ("too big by its header", frame(0x81, &[b' '; 32_769])[..8].to_vec(), 1009),
        ("too big in parts", parts, 1009),
    ];
    for (number, (what, bytes, code)) in table.into_iter().enumerate() {
        let user = stack.user(&format!("user{number}")).await;
        let mut client = gateway.enter(&room, &user).await;
        client.send_raw(&bytes).await;
        assert_eq!(client.expect_close().await.0, code, "{what}");
    }
    assert!(gateway.metric("community_gateway_protocol_errors_total", &[("error", "unmasked")]).await >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn control_frames_count_against_the_limit_on_frames() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let mut client = gateway.enter(&room, &ada).await;
    client.send_raw(&frame(0x89, b"").repeat(1_000)).await;
    assert_eq!(client.expect_close().await.0, 1008);
}
