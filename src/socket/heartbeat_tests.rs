use tokio::io::AsyncWriteExt;

use super::*;
use crate::socket::testing::{closed, fill, masked, read_to_close, shared, socket};
use crate::socket::{Ending, Incoming, Limits};
use crate::wire::Close;

/// A timer with a clock of its own, in whole seconds.
struct Clock {
    heartbeat: Heartbeat,
    start: Instant,
    seconds: u64,
}

impl Clock {
    fn new(shared: &Arc<Shared>) -> Self {
        let start = Instant::now();
        Self { heartbeat: Heartbeat::new(shared, start), start, seconds: 0 }
    }

    fn go_to(&mut self, seconds: u64) {
        while self.seconds < seconds {
            self.seconds += 1;
            self.heartbeat.advance(self.start + Duration::from_secs(self.seconds));
        }
    }

    /// Goes on until the connection is closing. Returns the second.
    fn go_to_end_of(&mut self, outbox: &Outbox) -> u64 {
        while !outbox.is_closed() {
            assert!(self.seconds < 1_000, "never closed");
            self.go_to(self.seconds + 1);
        }
        self.seconds
    }
}

/// In a minute of silence: twice, or once if the second was due in the very second of the end.
fn assert_pinged_once_or_twice(pings: &[(u8, Vec<u8>)]) {
    assert!((1..=2).contains(&pings.len()), "{} pings", pings.len());
    assert!(pings.iter().all(|ping| *ping == (0x89, vec![])));
}

#[tokio::test]
async fn a_silent_peer_is_pinged_and_then_closed() {
    let shared = shared(Limits::default());
    let mut clock = Clock::new(&shared);
    let (socket, outbox, mut peer) = socket(&shared, b"").await;
    clock.heartbeat.register(&outbox);
    let end = clock.go_to_end_of(&outbox);
    assert!((60..=65).contains(&end), "closed after {end} s");
    assert_eq!(outbox.ending().map(|ending| ending.code), Some(4008));
    let (_, got) = tokio::join!(socket.finish(), read_to_close(&mut peer));
    let (last, pings) = got.split_last().expect("frames");
    assert_eq!(*last, closed(Close::HEARTBEAT_MISSED));
    assert_pinged_once_or_twice(pings);
    clock.go_to(end + 10);
    assert_eq!(clock.heartbeat.len(), 0, "a closing connection is not looked after");
}

#[tokio::test]
async fn a_peer_that_is_heard_stays() {
    let shared = shared(Limits::default());
    let mut clock = Clock::new(&shared);
    let (mut socket, outbox, mut peer) = socket(&shared, b"").await;
    clock.heartbeat.register(&outbox);
    clock.go_to(50);
    peer.write_all(&masked(0x8a, b"")).await.expect("writes");
    assert_eq!(socket.next().await, Incoming::Control);
    let end = clock.go_to_end_of(&outbox);
    assert!((110..=115).contains(&end), "closed after {end} s");
}

#[tokio::test]
async fn a_peer_that_talks_is_not_pinged_until_it_falls_silent() {
    let shared = shared(Limits::default());
    let mut clock = Clock::new(&shared);
    let (mut socket, outbox, mut peer) = socket(&shared, b"").await;
    clock.heartbeat.register(&outbox);
    for turn in 1..=20 {
        clock.go_to(turn * 15);
        peer.write_all(&masked(0x8a, b"")).await.expect("writes");
        assert_eq!(socket.next().await, Incoming::Control);
    }
    let end = clock.go_to_end_of(&outbox);
    assert!((360..=365).contains(&end), "closed after {end} s");
    let (_, got) = tokio::join!(socket.finish(), read_to_close(&mut peer));
    let (last, pings) = got.split_last().expect("frames");
    assert_eq!(*last, closed(Close::HEARTBEAT_MISSED));
    assert_pinged_once_or_twice(pings); // in the last minute
}

#[tokio::test]
async fn a_peer_that_pings_every_thirty_seconds_is_not_pinged() {
    let shared = shared(Limits::default());
    let mut clock = Clock::new(&shared);
    let (mut socket, outbox, mut peer) = socket(&shared, b"").await;
    clock.heartbeat.register(&outbox);
    for turn in 0..=20 {
        clock.go_to(1 + turn * 30);
        peer.write_all(&masked(0x89, b"")).await.expect("writes");
        assert_eq!(socket.next().await, Incoming::Control);
    }
    let end = clock.go_to_end_of(&outbox);
    assert!((661..=666).contains(&end), "closed after {end} s");
    let (_, got) = tokio::join!(socket.finish(), read_to_close(&mut peer));
    let (last, frames) = got.split_last().expect("frames");
    assert_eq!(*last, closed(Close::HEARTBEAT_MISSED));
    let (pongs, pings) = frames.split_at(21);
    assert!(pongs.iter().all(|pong| *pong == (0x8a, vec![])), "only answers while it pings");
    assert_eq!(pings, [(0x89, vec![])], "one ping before the end of who fell silent");
}

#[tokio::test]
async fn a_ping_is_sent_while_there_is_time_for_an_answer() {
    for pings in [false, true] {
        let limits = Limits { ping_after: Duration::from_secs(55), ..Limits::default() };
        let shared = shared(limits);
        let mut clock = Clock::new(&shared);
        let (socket, outbox, mut peer) = socket(&shared, b"").await;
        if pings {
            outbox.note_ping();
        }
        clock.heartbeat.register(&outbox);
        clock.go_to_end_of(&outbox);
        let (_, got) = tokio::join!(socket.finish(), read_to_close(&mut peer));
        assert_eq!(got, [(0x89, vec![]), closed(Close::HEARTBEAT_MISSED)]);
    }
}

#[tokio::test]
async fn pings_are_spread() {
    let shared = shared(Limits::default());
    let heartbeat = Heartbeat::new(&shared, Instant::now());
    let waits: Vec<_> = (0..200).map(|_| heartbeat.ping_wait()).collect();
    assert!(waits.iter().all(|wait| (20..=30).contains(wait)));
    assert!(waits.iter().any(|wait| *wait < 25) && waits.iter().any(|wait| *wait > 25));
}

#[tokio::test]
async fn a_peer_that_takes_nothing_is_closed_before_it_is_silent() {
    let shared = shared(Limits::default());
    let mut clock = Clock::new(&shared);
    let (_socket, outbox, _peer) = socket(&shared, b"").await;
    clock.heartbeat.register(&outbox);
    clock.go_to(20);
    fill(&outbox);
    let end = clock.go_to_end_of(&outbox);
    // Ten seconds after the kernels took the last bytes, which may be a look or two after `fill` gave up.
    assert!((30..60).contains(&end), "closed after {end} s");
    assert_eq!(outbox.ending().map(|ending| ending.reason), Some(Close::TOO_SLOW.reason));
}

#[tokio::test]
async fn a_connection_that_is_gone_is_forgotten() {
    let shared = shared(Limits::default());
    let mut clock = Clock::new(&shared);
    let (gone, outbox, _peer) = socket(&shared, b"").await;
    clock.heartbeat.register(&outbox);
    assert_eq!(clock.heartbeat.len(), 1);
    drop((gone, outbox));
    clock.go_to(5);
    assert_eq!(clock.heartbeat.len(), 0);
}

#[tokio::test]
async fn peers_do_not_pay_for_a_process_that_stood_still() {
    let shared = shared(Limits::default());
    let clock = Clock::new(&shared);
    let (_socket, outbox, _peer) = socket(&shared, b"").await;
    clock.heartbeat.register(&outbox);
    clock.heartbeat.advance(clock.start + Duration::from_secs(3_600));
    assert!(!outbox.is_closed());
}

#[tokio::test(start_paused = true)]
async fn the_timer_runs_by_itself_until_it_is_stopped() {
    let shared = shared(Limits::default());
    let heartbeat = Heartbeat::new(&shared, tokio::time::Instant::now().into_std());
    let (mut socket, outbox, _peer) = socket(&shared, b"").await;
    heartbeat.register(&outbox);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (incoming, ()) = tokio::join!(
        async {
            let incoming = socket.next().await;
            drop(stop);
            incoming
        },
        heartbeat.run(async {
            let _ = stopped.await;
        })
    );
    let Incoming::Closed(Ending { code, reason, .. }) = incoming else { panic!("{incoming:?}") };
    assert_eq!((code, reason), (4008, Close::HEARTBEAT_MISSED.reason));
}
