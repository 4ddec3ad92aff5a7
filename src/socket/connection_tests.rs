use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::socket::testing::{masked, shared, socket};
use crate::socket::{By, Limits};

#[tokio::test]
async fn bytes_that_came_with_the_upgrade_are_the_first_input() {
    let early = [masked(0x81, b"early"), masked(0x81, b"late")[..3].to_vec()].concat();
    let (mut socket, _, mut peer) = socket(&shared(Limits::default()), &early).await;
    assert_eq!(socket.next().await, Incoming::Text(TextMessage(b"early".to_vec())));
    peer.write_all(&masked(0x81, b"late")[3..]).await.expect("writes");
    assert_eq!(socket.next().await, Incoming::Text(TextMessage(b"late".to_vec())));
}

#[tokio::test]
async fn a_peer_that_closes_is_answered_with_its_code() {
    let (mut socket, outbox, mut peer) = socket(&shared(Limits::default()), b"").await;
    peer.write_all(&masked(0x88, &4321_u16.to_be_bytes())).await.expect("writes");
    let ending = Ending { code: 4321, reason: "", by: By::Peer };
    assert_eq!(socket.next().await, Incoming::Closed(ending));
    assert_eq!(outbox.push(&Frame::text(b"x"), Class::Message), crate::socket::Pushed::Closed);
    assert_eq!(socket.finish().await, ending);
    let mut got = Vec::new();
    peer.read_to_end(&mut got).await.expect("reads to the end");
    assert_eq!(got, Frame::close_echo(Some(4321)).as_bytes());
}
