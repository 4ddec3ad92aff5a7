//! Ten thousand random frames, legal and not, from fifty clients over two instances. Afterwards what the tables, the
//! counters, presence and every client's own view say must agree, and nobody may have been disconnected who did nothing
//! to deserve it.
//!
//! Seeded: `CHAOS_SEED=7 cargo test --test gateway chaos` replays a run's choices.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{RoomSpec, Stack, TestClient, TestGateway, TestRoom, TestUser, eventually};

const CLIENTS: u64 = 50;
const FRAMES: u64 = 200;

/// A small generator (xorshift64*): the same choices from the same seed, everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) % sides
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        (!of.is_empty()).then(|| &of[usize::try_from(self.roll(of.len() as u64)).unwrap()])
    }
}

/// What one client has seen, in its order.
#[derive(Default)]
struct View {
    messages: Vec<String>,
    offsets: Vec<u64>,
    /// Threads, in the order in which they were begun.
    threads: Vec<String>,
    /// Where each thread's events stand that this client has opened.
    places: BTreeMap<String, u64>,
    /// The messages of threads.
    asides: Vec<(String, String)>,
}

impl View {
    fn note(&mut self, events: &[Value]) {
        for event in events {
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let id = || text(&event["message"]["id"]).unwrap();
            let within = text(&event["threadId"]).or_else(|| text(&event["message"]["threadId"]));
            let offset = event["offset"].as_u64().filter(|_| event["event"] != "message_ack");
            match (event["event"].as_str(), within) {
                (Some("thread_state"), _) => {
                    let thread = text(&event["thread"]["id"]).unwrap();
                    self.places.insert(thread, offset.unwrap());
                    continue;
                }
                (Some("thread_created"), _) if offset.is_some() => {
                    self.threads.push(text(&event["thread"]["id"]).unwrap());
                }
                (Some("new_message"), None) => self.messages.push(id()),
                (Some("new_message"), Some(thread)) => self.asides.push((thread, id())),
                _ => {}
            }
            let within = text(&event["threadId"]).or_else(|| text(&event["message"]["threadId"]));
            match (within, offset) {
                (Some(thread), Some(offset)) => {
                    let last = self.places.insert(thread, offset).expect("only threads that were opened are heard");
                    assert_eq!(offset, last + 1, "a gap or a repeat in a thread");
                }
                (None, Some(offset)) => self.offsets.push(offset),
                _ => {}
            }
        }
    }
}

/// A frame as a client might send it. About a third of them is refused.
fn frame(dice: &mut Dice, view: &View, number: u64) -> String {
    let stranger = Uuid::new_v4().to_string();
    let aside = dice.pick(&view.asides).filter(|_| dice.roll(4) == 0).map(|(_, id)| id);
    let target = aside.or_else(|| dice.pick(&view.messages)).unwrap_or(&stranger).clone();
    let thread = dice.pick(&view.threads[..view.threads.len().min(8)]).unwrap_or(&stranger).clone();
    let emoji = ["👍", "❤️", "🦀", "not an emoji at all"][usize::try_from(dice.roll(4)).unwrap()];
    let text = format!("message {number}");
    let frame = match dice.roll(35) {
        0..=5 => {
            json!({"type": "send_message", "content": text, "client_id": format!("{}-{number}", dice.roll(1 << 30))})
        }
        6 => json!({"type": "send_message", "content": text, "reply_to_id": target}),
        7 => json!({"type": "typing", "is_typing": dice.roll(2) == 0}),
        8 => json!({"type": "read_receipt", "message_id": target}),
        9 => json!({"type": "request_history", "cursor": target, "limit": dice.roll(120)}),
        10..=12 => json!({"type": "add_reaction", "message_id": target, "emoji": emoji}),
        13 => json!({"type": "remove_reaction", "message_id": target, "emoji": emoji}),
        14 => json!({"type": "edit_message", "message_id": target, "content": format!("edited {number}")}),
        15 => json!({"type": "delete_message", "message_id": target}),
        16 => json!({"type": "pin_message", "message_id": target}),
        17 => json!({"type": "send_message", "content": "x".repeat(4001)}),
        18 => json!({"type": "typing", "is_typing": "maybe"}),
        19 => json!({"type": format!("invented_{}", dice.roll(9))}),
        21 => json!({"type": "create_thread", "parent_message_id": target}),
        22 => json!({"type": "create_thread", "title": text}),
        23..=24 => json!({"type": "open_thread", "thread_id": thread}),
        25 => json!({"type": "close_thread", "thread_id": thread}),
        26..=28 => json!({"type": "send_message", "content": text, "thread_id": thread}),
        29 => json!({"type": "lock_thread", "thread_id": thread}),
        30 => json!({"type": "unlock_thread", "thread_id": thread}),
        31 => json!({"type": "archive_thread", "thread_id": thread}),
        32..=33 => json!({"type": "unarchive_thread", "thread_id": thread}),
        20 => return "{\"type\": \"send_mess".to_owned(),
        _ => json!([number]),
    };
    frame.to_string()
}

/// One client's whole life: every tenth frame is a ping, and so is the last. Behind its pong all before it are done.
async fn live(gateway: &TestGateway, room: &TestRoom, user: &TestUser, mut dice: Dice) -> (TestClient, View) {
    let mut client = gateway.enter(room, user).await;
    let mut view = View::default();
    for number in 0..FRAMES {
        let frame = frame(&mut dice, &view, number);
        client.send_text(&frame).await;
        if number % 9 == 8 || number == FRAMES - 1 {
            client.send(json!({"type": "ping"})).await;
            view.note(&client.events_until("pong").await);
        }
    }
    (client, view)
}

/// Threads agree with their messages, and what clients have seen of them with both.
async fn check_threads(stack: &Stack, rows: &[(Uuid, Option<Uuid>)], views: impl Iterator<Item = &View>) {
    let wrong: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM community_thread t
          WHERE (t.message_count, t.last_message_at) IS DISTINCT FROM
                (SELECT (count(*)::int, max(m.created_at)) FROM community_message m WHERE m.thread_id = t.id)
             OR EXISTS (SELECT FROM community_thread o WHERE o.parent_message_id = t.parent_message_id AND o.id <> t.id)",
    )
    .fetch_one(stack.db())
    .await
    .unwrap();
    assert_eq!(wrong, 0, "counters of threads, and one thread for each message");
    let aside: Vec<_> = rows.iter().filter_map(|(id, thread)| Some((thread.as_ref()?, id))).collect();
    assert!(aside.len() > 200, "only {} messages in threads", aside.len());
    let place: BTreeMap<(String, String), usize> =
        aside.iter().enumerate().map(|(at, (thread, id))| ((thread.to_string(), id.to_string()), at)).collect();
    for view in views {
        let mut last: BTreeMap<&str, usize> = BTreeMap::new();
        for message in &view.asides {
            let at = place[message];
            assert!(last.insert(&message.0, at).is_none_or(|last| last < at), "another order in a thread");
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's own variable")]
fn seed() -> u64 {
    std::env::var("CHAOS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_122)
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_random_frames_leave_everything_in_agreement() {
    let seed = seed();
    eprintln!("CHAOS_SEED={seed}");
    let stack = Stack::start().await;
    let start = || {
        let limits = [
            "MESSAGES_PER_MINUTE",
            "MESSAGES_PER_HOUR",
            "FRAMES_PER_SECOND",
            "REACTIONS_PER_MINUTE",
            "CHANGES_PER_MINUTE",
        ];
        let unlimited =
            limits.iter().fold(stack.gateway(), |gateway, limit| gateway.env(&format!("GATEWAY_LIMIT_{limit}"), 0));
        unlimited.env("GATEWAY_OUTBOX_BYTES", 16 << 20).start()
    };
    let gateways = [start().await, start().await];
    let room = stack.room(RoomSpec::default()).await;
    let mut users = Vec::new();
    for number in 0..CLIENTS {
        let user = stack.user(&format!("user{number}")).await;
        stack.member(&room, &user, ["member", "moderator", "trusted"][usize::try_from(number % 3).unwrap()]).await;
        users.push(user);
    }

    let lives = users.iter().enumerate().map(|(number, user)| {
        let dice = Dice(seed.wrapping_mul(1_000_003).wrapping_add(number as u64) | 1);
        live(&gateways[number % 2], &room, user, dice)
    });
    let mut done = futures_util::future::join_all(lives).await;

    // A last message is the marker up to which everybody must have seen everything.
    let (client, _) = &mut done[0];
    client.send(json!({"type": "send_message", "content": "the end"})).await;
    for (client, view) in &mut done {
        let mut events = Vec::new();
        loop {
            events.extend(client.events_until("new_message").await);
            if events.last().unwrap()["message"]["content"] == "the end" {
                break;
            }
        }
        view.note(&events);
        client.send(json!({"type": "ping"})).await;
        client.wait_for("pong").await; // nobody was disconnected
    }

    let stored = "SELECT id, thread_id FROM community_message WHERE room_id = $1 ORDER BY created_at";
    let rows: Vec<(Uuid, Option<Uuid>)> = sqlx::query_as(stored).bind(room.id).fetch_all(stack.db()).await.unwrap();
    assert!(rows.len() > 2_000, "only {} messages", rows.len());
    let order: Vec<String> = rows.iter().filter(|row| row.1.is_none()).map(|row| row.0.to_string()).collect();
    check_threads(&stack, &rows, done.iter().map(|(_, view)| view)).await;
    for (_, view) in &done {
        let first = order.iter().position(|id| *id == view.messages[0]).unwrap();
        let expected = &order[first..];
        let differs = view.messages.iter().zip(expected).position(|(seen, stored)| seen != stored);
        assert!(
            view.messages == expected,
            "a client saw another order, or not everything: {} of {}, first difference at {differs:?}, then {:?} for {:?}",
            view.messages.len(),
            expected.len(),
            differs.map(|at| &view.messages[at..(at + 4).min(view.messages.len())]),
            differs.map(|at| &expected[at..(at + 4).min(expected.len())]),
        );
        assert!(view.offsets.windows(2).all(|pair| pair[1] == pair[0] + 1), "a client saw a gap or a repeat");
    }

    let counters: (i32, i64) = sqlx::query_as(
        "SELECT message_count, (SELECT sum(messages_sent) FROM community_roommembership WHERE room_id = r.id)
           FROM community_room r WHERE id = $1",
    )
    .bind(room.id)
    .fetch_one(stack.db())
    .await
    .unwrap();
    assert_eq!((usize::try_from(counters.0).unwrap(), usize::try_from(counters.1).unwrap()), (rows.len(), rows.len()));

    let counts: Vec<(Uuid, String)> =
        sqlx::query_as("SELECT id, reaction_counts::text FROM community_message WHERE room_id = $1")
            .bind(room.id)
            .fetch_all(stack.db())
            .await
            .unwrap();
    let reactions: Vec<(Uuid, String, i64)> =
        sqlx::query_as("SELECT message_id, emoji, count(*) FROM community_messagereaction GROUP BY 1, 2")
            .fetch_all(stack.db())
            .await
            .unwrap();
    let mut counted: BTreeMap<Uuid, BTreeMap<String, i64>> = BTreeMap::new();
    for (message, emoji, count) in reactions {
        counted.entry(message).or_default().insert(emoji, count);
    }
    for (message, stored) in counts {
        let stored: BTreeMap<String, i64> = serde_json::from_str(&stored).unwrap();
        assert_eq!(stored, counted.remove(&message).unwrap_or_default(), "reactions of {message}");
    }

    let everybody: BTreeSet<String> = users.iter().map(|user| user.id.to_string()).collect();
    let online = async || -> BTreeSet<String> {
        redis::cmd("ZRANGE")
            .arg(format!("community:presence:{}", room.id))
            .arg(0)
            .arg(-1)
            .query_async(&mut stack.redis().await)
            .await
            .unwrap()
    };
    assert_eq!(online().await, everybody, "presence is who is connected");
    drop(done);
    eventually("everybody has left", async || online().await.is_empty()).await;
}
