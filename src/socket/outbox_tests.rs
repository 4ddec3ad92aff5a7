use tokio::io::AsyncReadExt;

use super::*;
use crate::socket::Limits;
use crate::socket::testing::{closed, fill, frames, numbered, read_to_close, shared, socket};

fn limits(outbox_bytes: usize) -> Limits {
    Limits { outbox_bytes, ..Limits::default() }
}

fn message(text: &str) -> (u8, Vec<u8>) {
    (0x81, text.as_bytes().to_vec())
}

fn push(outbox: &Outbox, text: &str) -> Pushed {
    outbox.push(&Frame::text(text.as_bytes()), Class::Message)
}

#[tokio::test]
async fn while_nothing_waits_the_pusher_writes_itself() {
    let shared = shared(Limits::default());
    let (_socket, outbox, mut peer) = socket(&shared, b"").await; // nobody polls the socket
    assert_eq!(push(&outbox, "one"), Pushed::Written);
    let more = [(Frame::text(b"two"), Class::Message), (Frame::text(b"three"), Class::Latest(1))];
    assert_eq!(outbox.push_many(&more), Pushed::Written);
    let mut got = [0; 5 + 5 + 7];
    peer.read_exact(&mut got).await.expect("reads");
    assert_eq!(frames(&got), [message("one"), message("two"), message("three")]);
    assert_eq!(outbox.queued_bytes(), 0);
}

#[tokio::test]
async fn what_the_kernel_does_not_take_waits_and_keeps_its_place() {
    let shared = shared(limits(1 << 20));
    let (socket, outbox, mut peer) = socket(&shared, b"").await;
    let count = fill(&outbox);
    let more = [(Frame::text(b"a"), Class::Message), (Frame::text(b"b"), Class::Message)];
    assert_eq!(outbox.push_many(&more), Pushed::Queued);
    assert_eq!(shared.metrics.outbox_bytes.get(), outbox.queued_bytes() as i64);
    assert!(outbox.close(Close::GOING_AWAY));
    let (_, got) = tokio::join!(socket.finish(), read_to_close(&mut peer));
    assert_eq!(got.len(), count + 3);
    for (number, (_, payload)) in got[..count].iter().enumerate() {
        assert_eq!(payload, numbered(number).payload());
    }
    assert_eq!(got[count..], [message("a"), message("b"), closed(Close::GOING_AWAY)]);
    assert_eq!(shared.metrics.outbox_bytes.get(), 0);
}

#[tokio::test]
async fn a_slow_reader_is_closed_with_4008_and_nobody_else_notices() {
    let shared = shared(limits(1_000));
    let (slow, slow_outbox, mut slow_peer) = socket(&shared, b"").await;
    let (_quick, quick_outbox, _quick_peer) = socket(&shared, b"").await;
    let count = fill(&slow_outbox);
    let queued = slow_outbox.queued_bytes();
    assert!(queued < 1_000 + numbered(0).len(), "{queued} bytes queued");
    let mut last = push(&slow_outbox, "fits or not");
    while last == Pushed::Queued {
        last = push(&slow_outbox, "fits or not");
    }
    assert_eq!(last, Pushed::Overflow);
    assert_eq!(push(&slow_outbox, "after"), Pushed::Closed);
    assert_eq!(slow_outbox.push_many(&[(Frame::text(b"after"), Class::Message)]), Pushed::Closed);
    assert!(!slow_outbox.close(Close::GOING_AWAY), "the first decision stays");
    assert_eq!(push(&quick_outbox, "hello"), Pushed::Written);
    assert_eq!(shared.metrics.outbox_overflow_total.with_label_values(&["message"]).get(), 1);

    let (ending, got) = tokio::join!(slow.finish(), read_to_close(&mut slow_peer));
    assert_eq!((ending.code, ending.by), (4008, By::Us));
    assert!(got.len() == count + 1 || got.len() == count, "the half-written frame is completed, the rest is not sent");
    assert_eq!(got.last(), Some(&closed(Close::TOO_SLOW)));
}

#[tokio::test]
async fn a_kicked_client_gets_nothing_more_of_what_waited() {
    let (socket, outbox, mut peer) = socket(&shared(limits(1 << 20)), b"").await;
    let count = fill(&outbox);
    assert_eq!(push(&outbox, "secret"), Pushed::Queued);
    assert!(outbox.close(Close::FORBIDDEN));
    let (_, got) = tokio::join!(socket.finish(), read_to_close(&mut peer));
    assert!(got.len() <= count + 1);
    assert!(!got.contains(&message("secret")));
    assert_eq!(got.last(), Some(&closed(Close::FORBIDDEN)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushes_from_many_threads_stay_whole_and_in_order() {
    const THREADS: usize = 4;
    const EACH: usize = 300;
    let (socket, outbox, mut peer) = socket(&shared(limits(usize::MAX)), b"").await;
    let pushers: Vec<_> = (0..THREADS)
        .map(|thread| {
            let outbox = Arc::clone(&outbox);
            std::thread::spawn(move || {
                for number in (0..EACH).step_by(2) {
                    let text = |number| Frame::text(format!("{thread} {number} {:2000}", "").as_bytes());
                    let _ = outbox.push(&text(number), Class::Message);
                    let _ = outbox.push_many(&[(text(number + 1), Class::Message)]);
                }
            })
        })
        .collect();
    let ends = tokio::task::spawn_blocking(move || {
        for pusher in pushers {
            pusher.join().expect("a thread");
        }
        outbox.close(Close::GOING_AWAY);
    });
    let owner = async {
        let mut socket = socket;
        assert!(matches!(socket.next().await, crate::socket::Incoming::Closed(_)));
        socket.finish().await;
    };
    let ((), got, ended) = tokio::join!(owner, read_to_close(&mut peer), ends);
    ended.expect("no thread panicked");
    let mut next = [0; THREADS];
    for (_, payload) in &got[..got.len() - 1] {
        let text = std::str::from_utf8(payload).expect("text");
        let mut words = text.split(' ').map(|word| word.parse::<usize>());
        let (Some(Ok(thread)), Some(Ok(number))) = (words.next(), words.next()) else { panic!("{text}") };
        assert_eq!(number, next[thread], "of thread {thread}");
        next[thread] += 1;
    }
    assert_eq!(next, [EACH; THREADS]);
}

#[tokio::test]
async fn a_dropped_outbox_leaves_the_gauge_at_nothing() {
    let shared = shared(limits(1 << 20));
    let (socket, outbox, _peer) = socket(&shared, b"").await;
    fill(&outbox);
    assert!(shared.metrics.outbox_bytes.get() > 0);
    drop((socket, outbox));
    assert_eq!(shared.metrics.outbox_bytes.get(), 0);
}
