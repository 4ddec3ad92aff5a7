//! How much the public listener takes, for how long, and how it ends.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::http_raw::{Client, Door, ROOM, settings, upgrade};
use crate::support::{GUARD, eventually};

#[tokio::test]
async fn a_socket_is_counted_until_its_guard_is_gone() {
    let mut door = Door::open(settings());
    let (_client, arrival) = door.arrival("").await;
    assert_eq!(door.metrics.sockets_open.get(), 1);
    assert_eq!(door.metrics.handshakes_open.get(), 0);
    drop(arrival);
    assert_eq!(door.metrics.sockets_open.get(), 0);
}

#[tokio::test]
async fn beyond_the_open_sockets_new_ones_are_told_to_come_back() {
    let mut door = Door::open(settings_with(|settings| settings.connections = 2));
    assert_eq!(door.metrics.sockets_limit.get(), 2);
    let (_one, one) = door.arrival("").await;
    let (_two, _arrival) = door.arrival("").await;

    let answer = door.refusal(&upgrade(ROOM, "")).await;
    assert_eq!((answer.status(), answer.code().as_str()), (503, "too_many_connections"));
    assert!((1..=5).contains(&answer.retry_after().as_secs()));
    assert_eq!(door.refused("too_many_connections"), 1);

    drop(one);
    door.arrival("").await;
}

#[tokio::test]
async fn a_handshake_in_progress_is_an_open_socket() {
    let mut door = Door::open(settings_with(|settings| settings.connections = 1));
    let silent = door.connect().await;
    eventually("the handshake is in progress", || async { door.metrics.handshakes_open.get() == 1 }).await;
    assert_eq!(door.refusal(&upgrade(ROOM, "")).await.status(), 503);

    // Who was turned away at first gets the place if it is free when the request comes.
    let mut early = door.connect().await;
    eventually("the handshake is in progress", || async { door.metrics.handshakes_open.get() == 2 }).await;
    drop(silent);
    eventually("the place is free", || async { door.metrics.handshakes_open.get() == 1 }).await;
    early.write(upgrade(ROOM, "").as_bytes()).await;
    assert_eq!(early.answer().await.status(), 101);
    assert!(door.arrivals.recv().await.is_some());
}

#[tokio::test]
async fn an_address_behind_a_trusted_proxy_has_its_own_limit() {
    let mut door = Door::open(settings_with(|settings| {
        settings.connections_per_address = 1;
        settings.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    }));
    let first = "X-Forwarded-For: 198.51.100.7, 203.0.113.9\r\n";
    let (_client, arrival) = door.arrival(first).await;
    assert_eq!(arrival.address.to_string(), "203.0.113.9");

    let answer = door.refusal(&upgrade(ROOM, "X-Forwarded-For: 203.0.113.9\r\n")).await;
    assert_eq!((answer.status(), answer.code().as_str()), (429, "too_many_connections_from_address"));
    assert!((1..=5).contains(&answer.retry_after().as_secs()));
    let _other = door.arrival("X-Forwarded-For: 203.0.113.10\r\n").await;

    drop(arrival);
    door.arrival(first).await;
}

#[tokio::test]
async fn a_network_of_ipv6_counts_as_one_address() {
    let mut door = Door::open(settings_with(|settings| {
        settings.connections_per_address = 1;
        settings.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    }));
    let (_client, arrival) = door.arrival("X-Forwarded-For: 2001:db8::1\r\n").await;
    assert_eq!(arrival.address.to_string(), "2001:db8::1");
    assert_eq!(door.refusal(&upgrade(ROOM, "X-Forwarded-For: 2001:db8::2\r\n")).await.status(), 429);
    door.arrival("X-Forwarded-For: 2001:db8:0:1::1\r\n").await;
}

#[tokio::test]
async fn an_untrusted_client_cannot_choose_its_address() {
    let mut door = Door::open(settings_with(|settings| settings.connections_per_address = 1));
    let _arrived = door.arrival("X-Forwarded-For: 203.0.113.9\r\n").await;
    let answer = door.refusal(&upgrade(ROOM, "X-Forwarded-For: 203.0.113.10\r\n")).await;
    assert_eq!(answer.status(), 429);
}

#[tokio::test]
async fn beyond_the_handshake_rate_new_ones_are_told_to_come_back() {
    let door = Door::open(settings_with(|settings| settings.handshake_rate = 1));
    let refused = async {
        loop {
            let (mut client, mut answer) = door.ask(&upgrade(ROOM, "")).await;
            if answer.status() != 101 {
                answer.body = client.rest().await;
                return answer;
            }
        }
    };
    let answer = timeout(GUARD, refused).await.expect("two handshakes in one second");
    assert_eq!((answer.status(), answer.code().as_str()), (503, "too_many_handshakes"));
    assert!((1..=5).contains(&answer.retry_after().as_secs()));
}

#[tokio::test]
async fn who_comes_waits_until_there_is_a_place_among_those_that_enter() {
    let mut door = Door::open(settings_with(|settings| settings.entering = 1));
    let (_first, first) = door.arrival("").await;
    let mut second = door.connect().await;
    second.write(upgrade(ROOM, "").as_bytes()).await;
    eventually("the second one waits", || async { door.metrics.handshakes_open.get() == 1 }).await;
    assert_eq!(door.metrics.sockets_open.get(), 1, "no answer yet");
    // Still open, but in.
    let community_gateway::http::Arrival { entering, guard, .. } = first;
    drop(entering);
    assert_eq!(second.answer().await.status(), 101);
    assert!(door.arrivals.recv().await.is_some());
    drop(guard);
}

/// What lies unread in the kernel of what a client has sent here, in bytes.
fn unread(door: &Door, client: &Client) -> Option<usize> {
    let (here, there) = (door.address.port(), client.0.local_addr().unwrap().port());
    let ends = |port: u16| move |address: &str| address.ends_with(&format!(":{port:04X}"));
    std::fs::read_to_string("/proc/net/tcp").unwrap().lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let is_it = ends(here)(fields.get(1)?) && ends(there)(fields.get(2)?);
        usize::from_str_radix(fields.get(4)?.split_once(':')?.1, 16).ok().filter(|_| is_it)
    })
}

#[tokio::test]
async fn the_request_of_who_waits_for_a_place_stays_in_the_kernel() {
    let mut door = Door::open(settings_with(|settings| settings.entering = 1));
    let (_first, first) = door.arrival("").await;
    let (request, mut second) = (upgrade(ROOM, ""), door.connect().await);
    second.write(request.as_bytes()).await;
    eventually("the second one waits", || async { door.metrics.handshakes_open.get() == 1 }).await;
    assert_eq!(door.refusal(&upgrade("/", "")).await.status(), 404, "it was looked at by now");
    assert_eq!(unread(&door, &second), Some(request.len()));
    drop(first);
    assert_eq!(second.answer().await.status(), 101);
    assert_eq!(unread(&door, &second), Some(0));
}

#[tokio::test]
async fn who_asks_bit_by_bit_waits_as_well_and_who_gives_up_takes_no_place() {
    let mut door = Door::open(settings_with(|settings| settings.entering = 1));
    let (_first, first) = door.arrival("").await;
    let (request, mut slow, mut gone) = (upgrade(ROOM, ""), door.connect().await, door.connect().await);
    gone.write(request.as_bytes()).await;
    eventually("two are there", || async { door.metrics.handshakes_open.get() == 2 }).await;
    assert_eq!(door.refusal(&upgrade("/", "")).await.status(), 404, "it waits for its turn by now");
    slow.write(&request.as_bytes()[..40]).await;
    drop(gone);
    assert_eq!(door.refusal(&upgrade("/", "")).await.status(), 404, "both were heard by now");
    slow.write(&request.as_bytes()[40..]).await;
    assert_eq!(door.refusal(&upgrade("/", "")).await.status(), 404);
    drop(first.entering);
    assert_eq!(slow.answer().await.status(), 101);
    assert!(door.arrivals.recv().await.is_some());
    assert_eq!((door.refused("abandoned"), door.metrics.upgrades_total.get()), (1, 2));
}

#[tokio::test]
async fn who_waits_too_long_for_a_place_among_those_that_enter_is_told_to_come_back() {
    let mut door = Door::open(settings_with(|settings| {
        settings.entering = 1;
        settings.head_deadline = Duration::from_millis(500);
    }));
    let (_first, first) = door.arrival("").await;
    let answer = door.refusal(&upgrade(ROOM, "")).await;
    assert_eq!((answer.status(), answer.code().as_str()), (503, "too_many_handshakes"));
    assert_eq!(door.refused("too_many_handshakes"), 1);
    assert_eq!(door.refusal(&upgrade("/", "")).await.status(), 404, "which needs none");
    drop(first);
    door.arrival("").await;
}

#[tokio::test]
async fn handshakes_that_are_refused_occupy_nothing() {
    let mut door = Door::open(settings_with(|settings| {
        settings.connections = 1;
        settings.connections_per_address = 1;
    }));
    for _ in 0..3 {
        assert_eq!(door.refusal(&upgrade("/", "")).await.status(), 404);
        assert_eq!(door.refusal(&upgrade(ROOM, "Origin: null\r\n")).await.status(), 403);
    }
    door.arrival("").await;
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let door = Door::open(settings());
    let mut client = door.connect().await;
    client.write(upgrade(ROOM, &format!("X-Long: {}\r\n", "x".repeat(32 * 1024))).as_bytes()).await;
    assert_eq!(client.answer().await.status(), 431);
    eventually("it is counted", || async { door.refused("head_too_large") == 1 }).await;
}

#[tokio::test]
async fn a_long_head_is_taken_if_it_fits() {
    let mut door = Door::open(settings());
    door.arrival(&format!("X-Long: {}\r\n", "x".repeat(12 * 1024))).await;
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_is_closed() {
    let door = Door::open(settings_with(|settings| settings.head_deadline = Duration::from_millis(200)));
    let mut client = door.connect().await;
    client.write(b"GET / HTTP/1.1\r\nHost: slow").await;
    assert_eq!(client.rest().await, "");
    assert_eq!(door.refused("timeout"), 1);
    assert_eq!(door.metrics.handshakes_open.get(), 0);
}

#[tokio::test]
async fn handshakes_in_progress_are_bounded() {
    let door = Door::open(settings_with(|settings| {
        settings.handshakes_in_progress = 1;
        settings.head_deadline = Duration::from_millis(200);
    }));
    let mut silent = door.connect().await;
    let (_client, answer) = door.ask(&upgrade(ROOM, "")).await;
    assert_eq!(answer.status(), 101);
    assert_eq!(door.refused("timeout"), 1, "the second had to wait for the end of the first");
    assert_eq!(silent.rest().await, "");
}

#[tokio::test]
async fn who_has_asked_and_waits_is_none_of_those_that_only_open_connections() {
    let mut door = Door::open(settings_with(|settings| {
        settings.handshakes_in_progress = 64; // of which 16 may be silent, when half are taken
        settings.entering = 1;
    }));
    let (_first, first) = door.arrival("").await;
    let mut waiting = Vec::new();
    for number in 1..=60 {
        let mut client = door.connect().await;
        client.write(upgrade(ROOM, "").as_bytes()).await;
        waiting.push(client);
        eventually("it waits", || async { door.metrics.handshakes_open.get() == number }).await;
    }
    assert_eq!(door.refused("handshakes_of_address"), 0, "all come from one");
    drop(first);
    for client in &mut waiting {
        assert_eq!(client.answer().await.status(), 101);
        assert!(door.arrivals.recv().await.is_some());
    }
}

#[tokio::test]
async fn an_address_that_only_opens_connections_keeps_nobody_out() {
    let door = Door::open(settings_with(|settings| settings.handshakes_in_progress = 8));
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(door.connect().await);
    }
    eventually("the last are turned away", || async { door.refused("handshakes_of_address") == 4 }).await;
    assert_eq!(door.metrics.handshakes_open.get(), 4, "half of the places may be anybody's");
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
    let mut elsewhere = Client(socket.connect(door.address).await.unwrap());
    elsewhere.write(upgrade(ROOM, "").as_bytes()).await;
    assert_eq!(elsewhere.answer().await.status(), 101);
}

#[tokio::test]
async fn who_returns_with_a_ticket_comes_first() {
    use community_gateway::domain::{ConnectionId, Micros, UserId};
    use community_gateway::identity::{Sealer, Ticket};

    let sealer = Sealer::new("another key of these tests");
    let door = Door::open(settings_with(|settings| {
        settings.handshake_rate = 4;
        settings.tickets = std::sync::Arc::new(Sealer::new("another key of these tests"));
    }));
    let with = |ticket: &str| upgrade(&format!("{ROOM}?resume_token={ticket}"), "");
    let forged = Sealer::new("guessed");
    let ticket = |sealer: &Sealer| {
        let (id, expires, connection) = (uuid::Uuid::new_v4(), Micros(0), ConnectionId(1));
        sealer.seal(&Ticket { id, user: UserId(1), session_version: None, generation: 0, expires, connection })
    };
    // Until one is refused: then one place is left, which is not for them.
    while door.ask(&with(&ticket(&forged))).await.1.status() == 101 {}
    assert_eq!(door.ask(&with(&ticket(&sealer))).await.1.status(), 101);
}

#[tokio::test]
async fn a_client_that_only_looks_is_not_counted() {
    let door = Door::open(settings());
    drop(door.connect().await);
    // A marker: the listener takes connections in their order.
    assert_eq!(door.refusal(&upgrade("/", "")).await.status(), 404);
    eventually("the handshake has ended", || async { door.metrics.handshakes_open.get() == 0 }).await;
    assert_eq!(door.refused("abandoned") + door.refused("timeout"), 0);
}

#[tokio::test]
async fn the_shutdown_closes_the_address_and_turns_the_rest_away() {
    let door = Door::open(settings());
    let mut late = door.connect().await;
    let handshake = upgrade(ROOM, "");
    let (first, second) = handshake.split_at(40);
    late.write(first.as_bytes()).await;
    eventually("the handshake is in progress", || async { door.metrics.handshakes_open.get() == 1 }).await;

    door.lifecycle.begin_shutdown();
    timeout(GUARD, door.running).await.expect("accepting ends").unwrap();
    let refused = TcpStream::connect(door.address).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);

    late.write(second.as_bytes()).await;
    let mut answer = late.answer().await;
    answer.body = late.rest().await;
    assert_eq!((answer.status(), answer.code().as_str()), (503, "draining"));
    assert!((1..=5).contains(&answer.retry_after().as_secs()));
    assert_eq!(door.lifecycle.wait(GUARD).await, 0, "no task is left");
}

#[tokio::test]
async fn the_shutdown_does_not_wait_for_a_silent_client() {
    let door = Door::open(settings());
    let mut silent = door.connect().await;
    eventually("the handshake is in progress", || async { door.metrics.handshakes_open.get() == 1 }).await;
    door.lifecycle.begin_shutdown();
    // The deadline of the handshake itself is far away, beyond the guard.
    assert_eq!(silent.rest().await, "");
    assert_eq!(door.lifecycle.wait(GUARD).await, 0, "no task is left");
    assert_eq!(door.refused("draining"), 1);
}

fn settings_with(
    change: impl FnOnce(&mut community_gateway::http::PublicSettings),
) -> community_gateway::http::PublicSettings {
    let mut changed = settings();
    change(&mut changed);
    changed
}
