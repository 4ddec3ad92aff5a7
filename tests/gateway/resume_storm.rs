//! Many who come back at once: what it costs, and what they are told when it is too much.

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream;
use serde_json::{Value, json};

use super::resume_replay::{place, say, without_limits};
use super::tap::Tap;
use crate::support::{GatewayBuilder, RoomSpec, Stack, TestClient, TestGateway, TestRoom};

/// The ticket and the place with which somebody comes back.
struct Left {
    ticket: String,
    since: (String, u64),
}

/// How many of a crowd are on their way at the same time.
const AT_ONCE: usize = 128;

fn open_doors(stack: &Stack) -> GatewayBuilder {
    let builder = without_limits(stack).env("GATEWAY_HANDSHAKE_RATE", 0);
    builder.env("GATEWAY_LIMIT_CONNECTIONS_PER_ADDRESS", 0)
}

/// Users who enter a room, and what each has then; their sockets stay open.
async fn enter_many(gateway: &TestGateway, stack: &Stack, room: &TestRoom, many: usize) -> Vec<(TestClient, Left)> {
    let users = stack.users("many", many.try_into().unwrap()).await;
    let entering = users.iter().map(|user| async {
        let mut client = gateway.dial(&room.path()).jwt(&stack.jwt(user)).connect().await;
        let since = place(&client.expect_event("room_state").await);
        let ticket = client.ticket().await;
        (client, Left { ticket, since })
    });
    stream::iter(entering).buffer_unordered(AT_ONCE).collect().await
}

fn come_back(gateway: &TestGateway, room: &TestRoom, left: &Left) -> impl Future<Output = TestClient> {
    let dial = gateway.dial(&room.path()).query("resume_token", &left.ticket);
    dial.query("epoch", &left.since.0).query("offset", &left.since.1.to_string()).connect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_enter_and_return_elsewhere_when_their_instance_died_with_a_few_statements() {
    const MANY: usize = 1_000;
    let stack = Stack::start().await;
    let url = stack.database_url();
    let (server, database) = url.rsplit_once('@').unwrap().1.split_once('/').unwrap();
    let tap = Tap::postgres(server.parse().unwrap()).await;
    let through = || open_doors(&stack).env("DATABASE_URL", format!("postgres://postgres@{}/{database}", tap.address));
    let (mut one, two) = (through().start().await, through().start().await);
    let room = stack.room(RoomSpec::default()).await;
    tap.take();
    let (before, left): (Vec<_>, Vec<_>) = enter_many(&one, &stack, &room, MANY).await.into_iter().unzip();
    // Nobody knows them yet: they are looked up together, and share the state of the room.
    let asked = tap.count(|_| true);
    assert!(asked < MANY / 2, "{asked} statements for {MANY} who entered: {:?}", tap.take());
    let mut grace = two.enter(&room, &stack.user("grace").await).await;
    say(&mut grace, "missed").await;
    one.kill9().await;
    drop(before);
    tap.take();
    let returning = left.iter().map(|left| come_back(&two, &room, left));
    let mut back: Vec<_> = stream::iter(returning).buffer_unordered(AT_ONCE).collect().await;
    for client in &mut back {
        let resumed = client.expect_event("resumed").await;
        assert_eq!(resumed["recovered"], true);
        let missed = |event: &Value| event["message"]["content"] == "missed";
        assert_eq!(resumed["events"].as_array().unwrap().iter().filter(|event| missed(event)).count(), 1);
    }
    let asked = tap.count(|_| true);
    assert!(asked < MANY / 5, "{asked} statements for {MANY} who returned: {:?}", tap.take());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_be_looked_up_now_is_told_when_to_come_back_and_can() {
    const MANY: usize = 12;
    let stack = Stack::start().await;
    let one = open_doors(&stack).start().await;
    let two = open_doors(&stack).env("GATEWAY_DB_POOL", 2).start().await;
    let room = stack.room(RoomSpec::default()).await;
    let (before, mut left): (Vec<_>, Vec<_>) = enter_many(&one, &stack, &room, MANY).await.into_iter().unzip();
    drop(before);
    // Postgres answers nobody who asks for a user, and there are two connections.
    let mut lock = stack.db().begin().await.unwrap();
    sqlx::query("LOCK TABLE users_user IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let turned_away = join_all(left.iter().map(|left| async {
        let mut client = come_back(&two, &room, left).await;
        assert_eq!(client.expect_close().await.0, 1013, "{:?}", client.seen());
        let told: Vec<Value> = client.seen().iter().map(|event| serde_json::from_str(event).unwrap()).collect();
        let error = told.iter().find(|event| event["event"] == "error").unwrap();
        assert_eq!(error["code"], "unavailable");
        assert!(error["retryAfter"].as_f64().unwrap() >= 1.0, "{error}");
        let session = told.iter().find(|event| event["event"] == "session").unwrap();
        session["resumeToken"].as_str().unwrap().to_owned()
    }));
    let tickets = turned_away.await;
    let failures = ["timeout", "exhausted"].map(|reason| [("reason", reason)]);
    let mut counted = 0.0;
    for labels in &failures {
        counted += two.metric("community_gateway_store_failures_total", labels).await;
    }
    assert!(counted >= 1.0, "{counted}");
    assert_eq!(two.metric("community_gateway_closes_total", &[("code", "1013")]).await, f64::from(MANY as u32));
    lock.rollback().await.unwrap();
    for (left, ticket) in left.iter_mut().zip(tickets) {
        left.ticket = ticket;
    }
    let mut back = join_all(left.iter().map(|left| come_back(&two, &room, left))).await;
    for client in &mut back {
        assert_eq!(client.expect_event("resumed").await["recovered"], json!(true));
    }
}
