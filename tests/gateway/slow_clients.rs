//! Those who are slow to read, or gone without a word: what they cost is bounded, they may come back and miss nothing,
//! and nobody else notices.

use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::resume_replay::{come_back, place, texts, without_limits};
use crate::support::{ChaosProxy, RoomSpec, Stack, TestClient, TestGateway, TestRoom, eventually};

/// Who never reads, and the users that they are.
const DEAF: usize = 1_000;
const USERS: usize = 20;
/// Bytes that may wait for one client, and bytes of the largest event.
const CAP: usize = 32_768;
const EVENT: usize = 16_384 + 256;

/// The memory of the process, in bytes.
fn resident(gateway: &TestGateway) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// What everybody hears, of whom some do not listen: heavy news from Django, and what people write.
struct Talk<'a> {
    stack: &'a Stack,
    room: TestRoom,
    sender: TestClient,
    reader: TestClient,
    said: usize,
}

impl Talk<'_> {
    async fn round(&mut self) {
        let noise = json!({"event": "announcement", "text": "x".repeat(16_384)}).to_string();
        for _ in 0..4 {
            self.stack.publish(&self.room.channel(), noise.as_bytes()).await;
        }
        self.said += 1;
        let text = format!("number {}", self.said);
        self.sender.send(json!({"type": "send_message", "content": text, "client_id": text})).await;
        // Those who read are told every message, once and in order, whoever else does not read: by count, not by time.
        for client in [&mut self.reader, &mut self.sender] {
            let heard = client.wait_for("new_message").await;
            assert_eq!(heard["message"]["content"], text, "everything comes, once and in order");
        }
    }
}

/// What is left to read for one who was cut off: the texts of its messages, and the code of the close frame, if it came
/// through.
async fn drained(client: &mut TestClient) -> (Vec<String>, u16) {
    let (code, _) = client.expect_close().await;
    let events = client.seen().iter().map(|event| serde_json::from_str::<Value>(event).unwrap());
    (events.filter_map(|event| event["message"]["content"].as_str().map(str::to_owned)).collect(), code)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_who_never_read_cost_their_share_and_nobody_a_message() {
    let stack = Stack::start().await;
    let gateway = without_limits(&stack)
        .env("GATEWAY_OUTBOX_BYTES", CAP)
        .env("GATEWAY_HANDSHAKE_RATE", 0)
        .env("GATEWAY_LIMIT_CONNECTIONS_PER_USER", 0)
        .env("GATEWAY_LIMIT_CONNECTIONS_PER_ADDRESS", 0)
        .start()
        .await;
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let (sender, reader) = (gateway.enter(&room, &ada).await, gateway.enter(&room, &grace).await);
    let users = stack.users("deaf", USERS as i32).await;
    let entering = (0..DEAF).map(|number| {
        let user = &users[number % USERS];
        let dial = gateway.dial(&room.path()).jwt(&stack.jwt(user)).receive_buffer(4_096);
        async move {
            let mut client = dial.connect().await;
            let state = client.wait_for("room_state").await;
            (client, place(&state), number % USERS)
        }
    });
    let mut deaf: Vec<_> = futures_util::stream::iter(entering).buffer_unordered(32).collect().await;

    let before = resident(&gateway);
    let (mut talk, mut peak) = (Talk { stack: &stack, room, sender, reader, said: 0 }, 0.0_f64);
    let overflows = || gateway.metric("community_gateway_outbox_overflow_total", &[]);
    while overflows().await < DEAF as f64 {
        assert!(talk.said < 200, "{} heavy events fit into outboxes of {CAP} bytes", 4 * talk.said);
        talk.round().await;
        let queued = gateway.metric("community_gateway_outbox_bytes", &[]).await;
        peak = peak.max(queued);
        // The cap, and the frame that is being written.
        assert!(queued <= (DEAF * (CAP + 2 * EVENT)) as f64, "{queued} bytes wait");
    }
    assert!(peak > CAP as f64, "somebody was slow: {peak} bytes");
    let grown = resident(&gateway).saturating_sub(before);
    assert!(grown < DEAF * (CAP + 2 * EVENT) + (32 << 20), "the process grew by {grown} bytes");
    let closed = || gateway.metric("community_gateway_closes_total", &[("code", "4008")]);
    eventually("all of them were closed as too slow", || async { closed().await == DEAF as f64 }).await;
    eventually("nothing waits for them", || async {
        gateway.metric("community_gateway_outbox_bytes", &[]).await < EVENT as f64
    })
    .await;
    talk.round().await;

    // Each got the beginning of what was said, and nothing that was said after it was given up.
    for (mut client, (epoch, offset), user) in deaf.drain(..8) {
        let (heard, code) = drained(&mut client).await;
        assert!(code == 4008 || code == 1006, "{code}: too slow even for the goodbye, perhaps");
        let said: Vec<String> = (1..=talk.said).map(|number| format!("number {number}")).collect();
        assert!(heard.len() < said.len() && said.starts_with(&heard), "{heard:?} of {}", said.len());
        // It comes back and gets everything since it was let in: the others are not asked to say it again.
        drop(client);
        let (mut back, mut resumed) = come_back(&gateway, &stack, &room.path(), &users[user], (&epoch, offset)).await;
        let mut missed = Vec::new();
        loop {
            assert_eq!(resumed["recovered"], true, "{resumed}");
            missed.extend(texts(&resumed["events"]).into_iter().map(str::to_owned));
            if resumed["hasMore"] == false {
                break;
            }
            resumed = back.wait_for("resumed").await;
        }
        assert_eq!(missed, said);
    }
}

/// A byte for each round of talk, so that the test takes as long as the talk and not as the bytes.
#[tokio::test]
async fn one_who_reads_a_byte_now_and_then_is_bounded_like_one_who_reads_nothing() {
    let stack = Stack::start().await;
    let gateway = without_limits(&stack).env("GATEWAY_OUTBOX_BYTES", CAP).start().await;
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace, slow) = (stack.user("ada").await, stack.user("grace").await, stack.user("slow").await);
    let (sender, reader) = (gateway.enter(&room, &ada).await, gateway.enter(&room, &grace).await);
    let dial = gateway.dial(&room.path()).jwt(&stack.jwt(&slow)).receive_buffer(4_096);
    let mut slow = dial.connect().await;
    slow.wait_for("room_state").await;
    let mut talk = Talk { stack: &stack, room, sender, reader, said: 0 };
    while gateway.metric("community_gateway_outbox_overflow_total", &[]).await < 1.0 {
        assert!(talk.said < 200, "{} heavy events fit into an outbox of {CAP} bytes", 4 * talk.said);
        talk.round().await;
        assert!(gateway.metric("community_gateway_outbox_bytes", &[]).await <= (CAP + 2 * EVENT) as f64);
        slow.read_raw_byte().await;
    }
    let closed = || gateway.metric("community_gateway_closes_total", &[("code", "4008")]);
    eventually("it was closed as too slow", || async { closed().await == 1.0 }).await;
    talk.round().await;
}

#[tokio::test]
async fn one_on_a_narrow_line_is_bounded_likewise_and_misses_nothing_when_it_is_wide_again() {
    let stack = Stack::start().await;
    let gateway = without_limits(&stack).env("GATEWAY_OUTBOX_BYTES", CAP).start().await;
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace, slow) = (stack.user("ada").await, stack.user("grace").await, stack.user("slow").await);
    let (sender, reader) = (gateway.enter(&room, &ada).await, gateway.enter(&room, &grace).await);
    let proxy = ChaosProxy::before(gateway.public).await;
    let dial = gateway.dial(&room.path()).jwt(&stack.jwt(&slow)).via(proxy.address);
    let mut narrow = dial.connect().await;
    let (epoch, offset) = place(&narrow.wait_for("room_state").await);
    proxy.throttle(1_000);
    let mut talk = Talk { stack: &stack, room, sender, reader, said: 0 };
    while gateway.metric("community_gateway_outbox_overflow_total", &[]).await < 1.0 {
        assert!(talk.said < 200, "{} heavy events fit into a narrow line and an outbox of {CAP} bytes", 4 * talk.said);
        talk.round().await;
        assert!(gateway.metric("community_gateway_outbox_bytes", &[]).await <= (CAP + 2 * EVENT) as f64);
    }
    proxy.heal();
    drop(narrow);
    let (mut back, mut resumed) = come_back(&gateway, &stack, &room.path(), &slow, (&epoch, offset)).await;
    let mut missed = Vec::new();
    loop {
        assert_eq!(resumed["recovered"], true, "{resumed}");
        missed.extend(texts(&resumed["events"]).into_iter().map(str::to_owned));
        if resumed["hasMore"] == false {
            break;
        }
        resumed = back.wait_for("resumed").await;
    }
    assert_eq!(missed, (1..=talk.said).map(|number| format!("number {number}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_peer_that_is_gone_without_a_word_is_found_and_comes_back_to_what_it_missed() {
    let stack = Stack::start().await;
    let gateway = without_limits(&stack)
        .env("GATEWAY_PING_SECONDS", 1)
        .env("GATEWAY_IDLE_SECONDS", 3)
        .env("GATEWAY_PRESENCE_GRACE_SECONDS", 0)
        .start()
        .await;
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let mut stays = gateway.enter(&room, &grace).await;
    let proxy = ChaosProxy::before(gateway.public).await;
    let mut gone = gateway.dial(&room.path()).jwt(&stack.jwt(&ada)).via(proxy.address).connect().await;
    let (epoch, offset) = place(&gone.wait_for("room_state").await);

    proxy.fall_silent();
    stays.send(json!({"type": "send_message", "content": "are you there?"})).await;
    let (ended, left) = tokio::join!(gateway.wait_for_log("session ended"), stays.wait_for("user_left"));
    assert_eq!((&ended["code"], &ended["reason"]), (&json!(4008), &json!("heartbeat missed")));
    assert_eq!(left["userId"], ada.id.to_string(), "who answers pings stays: {left}");
    let (_, resumed) = come_back(&gateway, &stack, &room.path(), &ada, (&epoch, offset)).await;
    assert_eq!(texts(&resumed["events"]), ["are you there?"]);
}
