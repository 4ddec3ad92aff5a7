//! The harness of the behaviour tests: a black box around the real binary, over real Postgres and Redis.
//!
//! A test reads like this:
//!
//! ```ignore
//! #[tokio::test]
//! async fn a_message_reaches_everybody_on_both_instances() {
//!     let stack = Stack::start().await; // own database, own Redis, gone with the value
//!     let (one, two) = (stack.gateway().start().await, stack.gateway().start().await);
//!     let room = stack.room(RoomSpec::default()).await;
//!     let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
//!
//!     let mut a = one.enter(&room, &ada).await; // connects with a fresh token and waits for `room_state`
//!     let mut b = two.enter(&room, &grace).await;
//!     a.send(json!({"type": "send_message", "content": "hello"})).await;
//!     assert_eq!(b.wait_for("new_message").await["message"]["content"], "hello");
//! }
//! ```
//!
//! | part | what it gives |
//! |---|---|
//! | [`Stack`] | a database and a Redis of the test's own; `user`, `room`, `member`, `messages`, `token`, `jwt`; `db()`, `redis()`, `cache()` to look inside; `redis_server()` to pause, kill and restart |
//! | [`GatewayBuilder`] | `stack.gateway().env("GATEWAY_LIMIT_…", "…").start().await`; `run(&["check"])` for the other subcommands; `start_unready` where readiness is not to come |
//! | [`TestGateway`] | one running instance: `dial`, `enter`, `get`, `ops`, `metric`, `ready`, `log_lines`, `terminate`, `kill9` |
//! | [`Dial`] | one connection in the making: token, JWT, origin, cookie, header, source address; `connect()` or `refused()` |
//! | [`TestClient`] | a WebSocket client: `send`, `expect_event` (the next event, no other), `wait_for` (skips), `events_until`, `expect_silence`, `expect_close` |
//! | [`FakeOpenAi`] | a moderation API that judges by marks and fails as scripted: `score`, `next`, `always`, `hold`, `go_down`, `requests` |
//! | [`ChaosProxy`] | a TCP proxy that can cut, delay, throttle, fall silent and lead elsewhere |
//! | [`PgBouncer`] | a pgbouncer in transaction mode before a database |
//! | [`PostgresServer`], [`PostgresPair`] | a server to be killed and started again on its data; a primary and a standby that follows it synchronously, to be killed and promoted |
//! | [`Names`] | names of hosts that lead where the test says, for one process |
//! | [`RedisCluster`], [`WatchedRedis`] | three nodes of a Cluster, with a replica each if need be; a primary, a replica and three Sentinels |
//! | [`eventually`] | polls a condition for what no event announces (counters, keys, rows) |
//!
//! Rules. Nothing sleeps: wait for an event, or poll with [`eventually`]. Every wait has a guard of [`GUARD`] and ends
//! in a panic that says what came instead, at the line of the caller. Absence is proven by a marker: `expect_silence`
//! sends a ping and takes what comes before its pong; for what travels over Redis, let a later message be the marker
//! (`events_until`). Limits have the defaults of the contract: a test that opens many sockets for one user sets
//! `GATEWAY_LIMIT_CONNECTS_PER_MINUTE` itself. Servers and gateways die with the test process, however it ends.

mod client;
mod gateway;
mod http;
mod names;
mod openai;
mod pgbouncer;
mod postgres;
mod postgres_pair;
mod process;
mod proxy;
mod redis_server;
mod redis_setups;
mod stack;
mod tls;

use std::panic::Location;
use std::time::Duration;

pub use client::*;
pub use gateway::*;
pub use http::ask;
pub use names::Names;
pub use openai::{Act, FakeOpenAi};
pub use pgbouncer::PgBouncer;
pub use postgres_pair::{PostgresPair, PostgresServer};
pub use proxy::ChaosProxy;
pub use redis_server::RedisServer;
pub use redis_setups::{RedisCluster, WatchedRedis};
pub use stack::*;
pub use tls::TestCertificate;

/// Longest wait for anything: far more than a busy machine needs, so that it strikes only when something is wrong.
pub const GUARD: Duration = Duration::from_secs(20);

/// The library that gives a process another time (Debian's `libfaketime`), for `LD_PRELOAD`.
pub fn faketime() -> &'static str {
    let there =
        ["/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1", "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1"];
    there.into_iter().find(|path| std::path::Path::new(path).exists()).expect("libfaketime is installed")
}

/// Asks again and again until `check` says yes; panics at the caller's line, naming `what`, after [`GUARD`].
#[track_caller]
pub fn eventually<Check, Answer>(what: &str, mut check: Check) -> impl Future<Output = ()>
where
    Check: FnMut() -> Answer,
    Answer: Future<Output = bool>,
{
    let caller = Location::caller();
    async move {
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        let asked = async {
            loop {
                tick.tick().await;
                if check().await {
                    return;
                }
            }
        };
        if tokio::time::timeout(GUARD, asked).await.is_err() {
            panic!("{caller}: not so after {GUARD:?}: {what}");
        }
    }
}
