//! What the gateway asks of Redis and Postgres for what people do most, counted by relays before both. More than this is
//! a mistake, or a decision: then the table of `ARCHITECTURE.md` changes, which is made of the budgets in `command_budgets`.
//!
//! What comes by the clock is left out, whoever is here: `BY_THE_CLOCK`, and the last test.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::command_budgets::*;
use crate::dm::{self, conversation};
use crate::support::{GUARD, RoomSpec, Stack, TestClient, TestGateway, TestRoom, TestUser, eventually};
use crate::tap::{Heard, Tap};

/// Times that something is done in one take: what comes by the clock once or twice divides away.
const ROUNDS: usize = 4;
/// Takes, one of which must be as budgeted: the clock may spoil one.
const TAKES: usize = 5;

/// A gateway whose every word to Redis and Postgres is heard.
struct Scene {
    stack: Stack,
    gateway: TestGateway,
    redis: Tap,
    postgres: Tap,
    /// Rooms that are not looked at any more.
    elsewhere: RefCell<Vec<String>>,
}

impl Scene {
    async fn start_with(env: &[(&str, &str)]) -> Self {
        let stack = Stack::start().await;
        let url = stack.database_url();
        let (server, database) = url.rsplit_once('@').unwrap().1.split_once('/').unwrap();
        let postgres = Tap::postgres(server.parse().unwrap()).await;
        let redis = Tap::redis(stack.redis_server().address()).await;
        let on = |database: u8| format!("redis://{}/{database}", redis.address);
        let mut builder = stack
            .gateway()
            .env("DATABASE_URL", format!("postgres://postgres@{}/{database}", postgres.address))
            .env("GATEWAY_REDIS_URL", on(3))
            .env("GATEWAY_CACHE_URL", on(2))
            .env("GATEWAY_BROKER_URL", on(0))
            .env("GATEWAY_PRESENCE_GRACE_SECONDS", 0);
        for limit in [
            "MESSAGES_PER_MINUTE",
            "MESSAGES_PER_HOUR",
            "CONNECTS_PER_MINUTE",
            "CONNECTIONS_PER_USER",
            "CHANGES_PER_MINUTE",
            "REACTIONS_PER_MINUTE",
        ] {
            builder = builder.env(&format!("GATEWAY_LIMIT_{limit}"), 10_000); // as high as never; 0 would ask nothing
        }
        for (name, value) in env {
            builder = builder.env(name, value);
        }
        let gateway = builder.start().await;
        Self { stack, gateway, redis, postgres, elsewhere: RefCell::default() }
    }

    /// A room, and so many who are in it, by JWT.
    async fn room(&self, prefix: &str, people: i32) -> (TestRoom, Vec<TestUser>, Vec<TestClient>) {
        let room = self.stack.room(RoomSpec::default()).await;
        let users = self.stack.users(prefix, people).await;
        let mut clients = Vec::new();
        for user in &users {
            self.stack.member(&room, user, "member").await;
            clients.push(self.gateway.enter_by_jwt(&room, user).await);
        }
        (room, users, clients)
    }

    /// What was heard since the last call, without that of rooms elsewhere.
    fn here(&self) -> Vec<Heard> {
        let elsewhere = self.elsewhere.borrow();
        let is_here = |heard: &Heard| !elsewhere.iter().any(|room| heard.words.iter().any(|word| word.contains(room)));
        self.redis.take().into_iter().filter(is_here).collect()
    }

    /// Does something again and again and holds what it asks of Redis and Postgres to its budget.
    async fn hold(&self, budget: &Budget, mut action: impl AsyncFnMut()) {
        let mut told = Vec::new();
        for _ in 0..TAKES {
            self.redis.take();
            self.postgres.take();
            for _ in 0..ROUNDS {
                action().await;
            }
            let mut take = Take::default();
            let all_came = async {
                let mut tick = tokio::time::interval(Duration::from_millis(10));
                while !take.is_enough(budget) {
                    tick.tick().await;
                    take.add(&self.here(), &self.postgres.take());
                }
            };
            let came = tokio::time::timeout(GUARD / 4, all_came).await.is_ok();
            if came && take.fits(budget) {
                return;
            }
            eprintln!("again: {take}");
            told.push(take.to_string());
        }
        panic!("{}: more or less than budgeted, in every take:\n{}", budget.what, told.join("\n"));
    }
}

/// What was asked in some rounds.
#[derive(Default)]
struct Take {
    redis: BTreeMap<String, usize>,
    flights: BTreeSet<u64>,
    statements: usize,
}

impl Take {
    fn add(&mut self, redis: &[Heard], postgres: &[Heard]) {
        // The census counts alone; who comes back counts and looks in one flight.
        let looks: BTreeSet<u64> =
            redis.iter().filter(|heard| heard.words[0] == "ZREVRANGE").map(|heard| heard.flight).collect();
        for heard in redis.iter().filter(|heard| !is_by_the_clock(heard)) {
            if heard.words[0] != "ZCARD" || looks.contains(&heard.flight) {
                *self.redis.entry(kind(&heard.words)).or_default() += 1;
                self.flights.insert(heard.flight);
            }
        }
        self.statements += postgres.iter().filter(|heard| !is_by_the_clock(heard)).count();
    }

    /// Whether all has come that is waited for.
    fn is_enough(&self, budget: &Budget) -> bool {
        let has = |(kind, count): &(&str, usize)| self.redis.get(*kind).is_some_and(|had| *had >= count * ROUNDS);
        budget.redis.iter().all(has) && self.statements >= budget.statements * ROUNDS
    }

    fn fits(&self, budget: &Budget) -> bool {
        let expected: BTreeMap<_, _> = budget.redis.iter().copied().collect();
        let redis = self.redis.iter().all(|(kind, count)| {
            let each = rounded(*count);
            expected.get(kind.as_str()).map_or(each == 0, |wanted| each == *wanted)
                || budget.shared.iter().any(|(shared, most)| kind == shared && each <= *most)
        });
        redis && rounded(self.flights.len()) <= budget.flights && rounded(self.statements) == budget.statements
    }
}

impl fmt::Display for Take {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = |count: usize| count as f64 / ROUNDS as f64;
        for (kind, count) in &self.redis {
            write!(f, "{kind} {}, ", each(*count))?;
        }
        write!(f, "in {} flights; {} statements", each(self.flights.len()), each(self.statements))
    }
}

/// What one round cost, to the nearest.
fn rounded(count: usize) -> usize {
    (count + ROUNDS / 2) / ROUNDS
}

fn is_by_the_clock(heard: &Heard) -> bool {
    // A connection to Redis that is being made.
    if matches!(heard.words[0].as_str(), "AUTH" | "CLIENT" | "HELLO" | "INFO" | "SELECT") {
        return true;
    }
    let kind = kind(&heard.words);
    BY_THE_CLOCK.contains(&kind.as_str()) || kind == "community:tasks" && heard.words[4..] == ["64", "30"]
}

/// What an instance asks by itself, however many people are in.
const BY_THE_CLOCK: &[&str] = &[
    "PREPARE community_lock_rooms", // on a new connection
    "PING",
    "SCRIPT LOAD",
    "PUBLISH community:instance",
    "BZPOPMIN asgispecific",
    "community:instances",
    "community:census",
    "ZREM community:census",
    "community:channels:asgi:clients",
    "SELECT 1",
    "WITH news",
];

/// A command and the kind of its first key, or of a script only that.
fn kind(words: &[String]) -> String {
    let is_script = words[0].starts_with("EVAL");
    let Some(key) = words.get(if is_script { 3 } else { 1 }) else {
        return words[0].split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    };
    let is_id = |part: &str| {
        let is_name = ["allthrive", "gw-", "test-"].iter().any(|name| part.starts_with(name));
        let is_fingerprint = part.len() == 16 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_name || is_fingerprint || part.len() > 30 || part.parse::<u64>().is_ok()
    };
    let parts: Vec<_> = key.split([':', '.']).filter(|part| !is_id(part)).collect();
    if is_script { parts.join(":") } else { format!("{} {}", words[0], parts.join(":")) }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_do_costs_so_many_commands_and_statements() {
    let scene = Scene::start_with(&[("GATEWAY_PRESENCE_SECONDS", "86400")]).await; // few renewals
    let Scene { stack, gateway, postgres, .. } = &scene;
    let (room, users, mut clients) = scene.room("person", 17).await;
    let fresh = stack.users("fresh", 150).await;
    let mut fresh = fresh.iter();
    let path = room.path();
    let (mut visitors, mut others) = (Vec::new(), Vec::new());
    let mut count = 0;
    let mut send = move || {
        count += 1; // no text twice: that would be spam
        json!({"type": "send_message", "content": format!("Has anybody tried number {count}?")})
    };
    let named = |mut message: Value| {
        message["client_id"] = json!(Uuid::new_v4());
        message
    };
    let mut is_added = false;
    let mut react = move |message: &Value| {
        is_added = !is_added;
        let kind = if is_added { "add_reaction" } else { "remove_reaction" };
        json!({"type": kind, "message_id": message, "emoji": "👍"})
    };
    let ada = &mut clients[0];

    // What is first done loads scripts and prepares statements.
    ada.send(named(send())).await;
    let told = ada.wait_for("new_message").await;
    let message = &told["message"]["id"];
    for is_typing in [true, false] {
        ada.send(json!({"type": "typing", "is_typing": is_typing})).await;
    }
    ada.send(react(message)).await;
    ada.wait_for("reaction_updated").await;
    ada.send(json!({"type": "edit_message", "message_id": message, "content": "hello"})).await;
    ada.wait_for("message_edited").await;
    // Each has another tab, and comes back once: who returns while the former socket is open ends that one.
    let mut tickets = Vec::new();
    for _ in 0..=ROUNDS * TAKES {
        let user = fresh.next().unwrap();
        let mut former = gateway.enter(&room, user).await;
        tickets.push(former.ticket().await);
        others.push(gateway.enter_by_jwt(&room, user).await);
        former.close().await;
        let sockets = format!("community:sockets:{}", user.id);
        eventually("nothing is left of the former", || async {
            redis::cmd("ZCARD").arg(&sockets).query_async::<u64>(&mut stack.redis().await).await.unwrap() == 1
        })
        .await;
    }
    let come_back = async |ticket: &str| {
        let dial = gateway.dial(&path).query("resume_token", ticket).query("epoch", told["epoch"].as_str().unwrap());
        let mut back = dial.query("offset", &told["offset"].to_string()).connect().await;
        assert_eq!(back.expect_event("resumed").await["recovered"], true);
        back
    };
    let mut back = come_back(&tickets.pop().unwrap()).await;

    let rooms = RefCell::new(Vec::new());
    let cold = async || {
        let room = stack.room(RoomSpec::default()).await;
        rooms.borrow_mut().push(room.id.to_string());
        others.push(gateway.enter(&room, fresh.next().unwrap()).await);
    };
    scene.hold(&COLD, cold).await;
    scene.elsewhere.replace(rooms.take()); // they go on being renewed
    let warm = async || {
        let user = fresh.next().unwrap();
        visitors.push((user.id.to_string(), gateway.enter(&room, user).await));
    };
    scene.hold(&WARM, warm).await;
    let by_jwt = async || {
        let user = fresh.next().unwrap();
        visitors.push((user.id.to_string(), gateway.enter_by_jwt(&room, user).await));
    };
    scene.hold(&JWT, by_jwt).await;
    let resume = async || {
        postgres.hold(""); // nobody waits for it
        let back = come_back(&tickets.pop().unwrap()).await;
        postgres.release();
        others.push(back);
    };
    scene.hold(&RESUME, resume).await;
    let leave = async || {
        let (user, visitor) = visitors.pop().unwrap();
        visitor.close().await;
        ada.wait_until("the leave", |event| event["event"] == "user_left" && event["userId"] == user).await;
    };
    scene.hold(&LEAVE, leave).await;

    scene.hold(&PING, async || ada.expect_silence().await).await;
    let typing = async || {
        for is_typing in [true, false] {
            ada.send(json!({"type": "typing", "is_typing": is_typing})).await;
            back.wait_until("the typing", |event| event["event"] == "typing" && event["isTyping"] == is_typing).await;
        }
    };
    scene.hold(&TYPING, typing).await;
    let plain = async || {
        ada.send(send()).await;
        ada.wait_for("new_message").await;
    };
    scene.hold(&SEND, plain).await;
    let once = async || {
        ada.send(named(send())).await;
        ada.wait_for("message_ack").await;
    };
    scene.hold(&SEND_ONCE, once).await;
    scene
        .hold(&REACT, async || {
            ada.send(react(message)).await;
            ada.wait_for("reaction_updated").await;
        })
        .await;
    scene
        .hold(&EDIT, async || {
            ada.send(json!({"type": "edit_message", "message_id": message, "content": send()["content"]})).await;
            ada.wait_for("message_edited").await;
        })
        .await;
    let many = async || {
        let commits = || postgres.count(|heard| heard.words[0] == "COMMIT");
        let before = commits();
        postgres.hold("COMMIT");
        clients[0].send(send()).await;
        eventually("the first is written", || async { commits() > before }).await;
        for client in &mut clients[1..] {
            client.send(send()).await;
        }
        let all_wait = || async { gateway.metric("community_gateway_write_queue", &[]).await == 16.0 };
        eventually("all others wait", all_wait).await;
        postgres.release();
        for _ in &users {
            clients[0].wait_for("new_message").await;
        }
    };
    scene.hold(&SEND_MANY, many).await;

    let (thread, _) = conversation(stack, &[&users[0], &users[1]]).await;
    let path = dm::path(thread);
    let mut direct = gateway.dial(&path).jwt(&stack.jwt(&users[0])).connect().await;
    direct.send(send()).await;
    direct.wait_for("new_message").await;
    scene
        .hold(&SEND_DM, async || {
            direct.send(send()).await;
            direct.wait_for("new_message").await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_at_rest_costs_a_share_of_one_command_for_the_room_and_one_of_their_own() {
    let scene = Scene::start_with(&[("GATEWAY_PRESENCE_SECONDS", "4")]).await;
    let (_room, users, _clients) = scene.room("person", 3).await;
    scene.redis.take();
    scene.postgres.take();
    let (mut rooms, mut sockets) = (0, 0);
    eventually("the room is renewed some times", || {
        for heard in scene.redis.take().into_iter().filter(|heard| !is_by_the_clock(heard)) {
            match kind(&heard.words).as_str() {
                "community:presence" => rooms += 1,
                "community:sockets" => sockets += 1,
                // What was missed is looked for each five seconds for a topic, each fifteen for 500 people.
                "community:position:room" | "community:channels:asgi:groups" | "MGET session:version" => {}
                "asgi:group:community:room" | "ZCARD community:presence" => {} // of entering, and the census
                other => panic!("nobody does anything, and {other} is asked for"),
            }
        }
        let is_enough = rooms >= 4;
        async move { is_enough }
    })
    .await;
    // A room is renewed more often than a socket.
    assert!(sockets <= users.len() * (rooms + 1), "{sockets} commands for three people in {rooms} rounds");
    let asked = scene.postgres.take();
    let kinds: BTreeSet<_> =
        asked.iter().filter(|heard| !is_by_the_clock(heard)).map(|heard| kind(&heard.words)).collect();
    let reads = |kind: &String| kind.starts_with("SELECT ") || kind == "WITH news";
    assert!(kinds.iter().all(reads), "nothing is written but the census: {kinds:?}");
}
