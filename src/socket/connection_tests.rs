use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::*;
use crate::socket::testing::{closed, fill, frames, masked, read_to_close, shared, socket};
use crate::socket::{By, Limits, Pushed};

fn text(text: &str) -> Incoming {
    Incoming::Text(TextMessage(text.into()))
}

async fn send(peer: &mut TcpStream, bytes: &[u8]) {
    peer.write_all(bytes).await.expect("the peer writes");
}

#[tokio::test]
async fn bytes_that_came_with_the_upgrade_are_the_first_input() {
    let early = [masked(0x81, b"early"), masked(0x81, b"late")[..3].to_vec()].concat();
    let (mut socket, _, mut peer) = socket(&shared(Limits::default()), &early).await;
    assert_eq!(socket.next().await, text("early"));
    send(&mut peer, &masked(0x81, b"late")[3..]).await;
    assert_eq!(socket.next().await, text("late"));
}

#[tokio::test]
async fn pings_are_answered_and_every_frame_is_seen() {
    let (mut socket, _, mut peer) = socket(&shared(Limits::default()), b"").await;
    let stream = [masked(0x01, b"a"), masked(0x89, b"?"), masked(0x8a, b"!"), masked(0x80, b"b")].concat();
    send(&mut peer, &stream).await;
    for _ in ["fragment", "ping", "pong"] {
        assert_eq!(socket.next().await, Incoming::Control);
    }
    assert_eq!(socket.next().await, text("ab"));
    let mut pong = [0; 3];
    peer.read_exact(&mut pong).await.expect("reads");
    assert_eq!(frames(&pong), [(0x8a, b"?".to_vec())]);
}

#[tokio::test]
async fn dropping_next_at_any_byte_loses_nothing() {
    let (mut socket, _, mut peer) = socket(&shared(Limits::default()), b"").await;
    let parts = [masked(0x01, "grü".as_bytes()), masked(0x89, b"ping"), masked(0x80, "ße".as_bytes())].concat();
    let stream = [parts, masked(0x81, &[b'x'; 300])].concat();
    let dribble = async {
        for byte in stream {
            send(&mut peer, &[byte]).await;
            tokio::task::yield_now().await;
        }
    };
    let listen = async {
        let mut messages = Vec::new();
        while messages.len() < 2 {
            tokio::select! {
                biased;
                incoming = socket.next() => match incoming {
                    Incoming::Control => {}
                    incoming => messages.push(incoming),
                },
                () = tokio::task::yield_now() => {}
            }
        }
        messages
    };
    let ((), messages) = tokio::join!(dribble, listen);
    assert_eq!(messages, [text("grüße"), text(&"x".repeat(300))]);
}

#[tokio::test]
async fn a_peer_that_closes_is_answered_with_its_code() {
    let (mut socket, outbox, mut peer) = socket(&shared(Limits::default()), b"").await;
    send(&mut peer, &masked(0x88, &4321_u16.to_be_bytes())).await;
    let ending = Ending { code: 4321, reason: "", by: By::Peer };
    assert_eq!(socket.next().await, Incoming::Closed(ending));
    assert_eq!(socket.next().await, Incoming::Closed(ending), "again, if asked again");
    assert_eq!(outbox.push(&Frame::text(b"x"), Class::Message), Pushed::Closed);
    assert_eq!(socket.finish().await, ending);
    let mut got = Vec::new();
    peer.read_to_end(&mut got).await.expect("reads to the end");
    assert_eq!(got, Frame::close_echo(Some(4321)).as_bytes());
}

#[tokio::test]
async fn a_close_without_a_code_is_1005_and_its_answer_has_none() {
    let (mut socket, _, mut peer) = socket(&shared(Limits::default()), &masked(0x88, b"")).await;
    assert_eq!(socket.next().await, Incoming::Closed(Ending { code: 1005, reason: "", by: By::Peer }));
    socket.finish().await;
    let mut got = Vec::new();
    peer.read_to_end(&mut got).await.expect("reads to the end");
    assert_eq!(got, [0x88, 0]);
}

#[tokio::test]
async fn whoever_closes_wakes_the_session_and_the_peer_may_finish_its_sentence() {
    let (mut socket, outbox, mut peer) = socket(&shared(Limits::default()), b"").await;
    let (_, incoming) = tokio::join!(
        async {
            tokio::task::yield_now().await; // the session waits already
            outbox.close(Close::SESSION_ENDED)
        },
        socket.next()
    );
    let ending = Ending { code: 4001, reason: Close::SESSION_ENDED.reason, by: By::Us };
    assert_eq!(incoming, Incoming::Closed(ending));
    let on_its_way = [masked(0x81, b"too late"), masked(0x89, b"too late")].concat();
    send(&mut peer, &on_its_way).await;
    let (ended, got) = tokio::join!(socket.finish(), read_to_close(&mut peer));
    assert_eq!(ended, ending);
    assert_eq!(got, [closed(Close::SESSION_ENDED)], "no pong after the decision to close");
}

#[tokio::test]
async fn who_breaks_the_rules_learns_why_even_with_much_left_unread() {
    let shared = shared(Limits::default());
    let (mut socket, _, mut peer) = socket(&shared, b"").await;
    send(&mut peer, b"\x81\x01x").await; // no mask
    assert!(matches!(socket.next().await, Incoming::Closed(Ending { code: 1002, by: By::Us, .. })));
    let peer = async {
        let (mut input, mut output) = peer.split();
        let flood = async {
            for _ in 0..40 {
                if output.write_all(&[0; 100_000]).await.is_err() {
                    return;
                }
            }
            let _ = output.shutdown().await;
        };
        let mut got = Vec::new();
        let ((), read) = tokio::join!(flood, input.read_to_end(&mut got));
        read.expect("no reset");
        got
    };
    let (ending, got) = tokio::join!(socket.finish(), peer);
    assert_eq!(ending.code, 1002);
    assert_eq!(frames(&got), [closed(Close::BAD_FRAMING)]);
    assert_eq!(shared.metrics.protocol_errors_total.with_label_values(&["unmasked"]).get(), 1);
}

#[tokio::test]
async fn too_big_and_binary_are_refused_by_their_headers() {
    for (first, len, close) in [(0x81, 32 * 1024 + 1, Close::TOO_BIG), (0x82, 1, Close::BINARY)] {
        let (mut socket, _, mut peer) = socket(&shared(Limits::default()), b"").await;
        let frame = masked(first, &vec![b'x'; len]);
        send(&mut peer, &frame[..frame.len() - len]).await;
        let incoming = socket.next().await;
        assert!(matches!(incoming, Incoming::Closed(Ending { code, .. }) if code == close.code), "{incoming:?}");
        let (_, got) = tokio::join!(socket.finish(), read_to_close_and_leave(peer));
        assert_eq!(got, [closed(close)]);
    }
}

async fn read_to_close_and_leave(mut peer: TcpStream) -> Vec<(u8, Vec<u8>)> {
    let mut got = Vec::new();
    peer.read_to_end(&mut got).await.expect("reads to the end");
    frames(&got)
}

#[tokio::test]
async fn a_peer_that_vanishes_is_lost() {
    let (mut socket, outbox, peer) = socket(&shared(Limits::default()), b"").await;
    drop(peer);
    assert_eq!(socket.next().await, Incoming::Closed(Ending::LOST));
    assert_eq!(outbox.push(&Frame::text(b"x"), Class::Message), Pushed::Closed);
    assert_eq!(socket.finish().await, Ending::LOST);
}

#[tokio::test]
async fn a_session_that_panics_closes_with_1011() {
    let (socket, outbox, peer) = socket(&shared(Limits::default()), b"").await;
    drop(socket);
    assert_eq!(outbox.push(&Frame::text(b"x"), Class::Message), Pushed::Closed);
    assert_eq!(read_to_close_and_leave(peer).await, [closed(Close::INTERNAL)]);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_answers_the_close_is_left_after_the_deadline() {
    let (socket, outbox, _peer) = socket(&shared(Limits::default()), b"").await;
    outbox.close(Close::GOING_AWAY);
    let started = tokio::time::Instant::now();
    assert_eq!(socket.finish().await.code, 1001);
    assert_eq!(started.elapsed().as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_cannot_hold_the_end_up() {
    let (socket, outbox, _peer) = socket(&shared(Limits::default()), b"").await;
    fill(&outbox);
    let started = tokio::time::Instant::now();
    assert_eq!(socket.finish().await.code, 1000);
    assert_eq!(started.elapsed().as_secs(), 2);
}

#[tokio::test]
async fn a_slow_command_does_not_stall_delivery() {
    let (mut socket, outbox, mut peer) = socket(&shared(Limits::default()), b"").await;
    let count = fill(&outbox);
    let (all_read, command) = oneshot::channel();
    let peer = async {
        let mut got = vec![0; count * crate::socket::testing::numbered(0).len()];
        peer.read_exact(&mut got).await.expect("reads");
        all_read.send(got.len()).expect("the command waits");
    };
    let (done, ()) = tokio::join!(socket.while_writing(command), peer);
    assert!(done.is_ok(), "the command ended, which it does only once the peer has read everything");
}

/// What a connection at rest costs in our own types: change the numbers knowingly.
#[tokio::test]
async fn sizes() {
    let (mut socket, _, _peer) = socket(&shared(Limits::default()), b"").await;
    let sizes = [size_of::<Outbox>(), size_of::<Socket>(), size_of_val(&socket.next())];
    assert!(sizes.iter().zip([168, 56, 24]).all(|(size, limit)| *size <= limit), "{sizes:?}");
}

#[tokio::test]
async fn a_slow_reader_gets_everything_over_tls() {
    let (ours, mut peer) = crate::transport::testing::streams().await;
    let limits = Limits { close_deadline: std::time::Duration::from_secs(60), ..Limits::default() };
    let (mut socket, outbox) = Socket::new(ours, &Bytes::new(), &shared(limits));
    let count = fill(&outbox);
    assert!(outbox.queued_bytes() > 0, "what the kernel does not take waits, and is counted");
    let more = Frame::text(&vec![b'y'; 65_000]);
    assert_eq!(outbox.push(&more, Class::Message), Pushed::Queued);
    outbox.close(Close::GOING_AWAY);
    assert!(matches!(socket.next().await, Incoming::Closed(_)));
    let (ending, got) = tokio::join!(socket.finish(), read_to_close(&mut peer));
    assert_eq!((ending.code, ending.by), (1001, By::Us));
    assert_eq!(got.len(), count + 2);
    for (number, (_, payload)) in got[..count].iter().enumerate() {
        assert_eq!(payload[..], *crate::socket::testing::numbered(number).payload(), "{number}");
    }
    assert_eq!((got[count].1.len(), &got[count + 1]), (65_000, &closed(Close::GOING_AWAY)));
}

#[tokio::test]
async fn messages_come_over_tls_byte_by_byte_too() {
    let (ours, mut peer) = crate::transport::testing::streams().await;
    let early = Bytes::copy_from_slice(&masked(0x81, b"early")[..4]);
    let (mut socket, outbox) = Socket::new(ours, &early, &shared(Limits::default()));
    let stream = [&masked(0x81, b"early")[4..], &masked(0x81, &[b'x'; 30_000])].concat();
    let sending = async {
        let (slow, fast) = stream.split_at(20);
        for byte in slow {
            peer.write_all(&[*byte]).await.expect("writes");
            peer.flush().await.expect("leaves");
        }
        peer.write_all(fast).await.expect("writes");
        peer.flush().await.expect("leaves");
    };
    let ((), first) = tokio::join!(sending, socket.next());
    assert_eq!((first, socket.next().await), (text("early"), text(&"x".repeat(30_000))));
    assert_eq!(outbox.push(&Frame::text(b"whole"), Class::Message), Pushed::Written);
    let mut got = [0; 7];
    peer.read_exact(&mut got).await.expect("reads");
    assert_eq!(frames(&got), [(0x81, b"whole".to_vec())]);
    drop(peer); // without a goodbye of any kind
    assert_eq!(socket.next().await, Incoming::Closed(Ending::LOST));
}
