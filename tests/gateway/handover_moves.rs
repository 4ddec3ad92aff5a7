//! Work for Celery: from a message to the broker's list, whatever becomes of the gateway or the broker.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use community_gateway::handover::envelope::check;
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::dm;
use crate::outages_stage::recovered;
use crate::support::{GUARD, RedisServer, RoomSpec, Stack, TestClient, TestGateway, TestUser, UserSpec, eventually};

pub struct Broker(MultiplexedConnection);

impl Broker {
    pub async fn at(url: &str) -> Self {
        Self(redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap())
    }

    /// What waits in a list, as a worker would take it: the name, the arguments and the whole element.
    pub async fn waiting(&mut self, list: &str) -> Vec<(String, Value, Value)> {
        let all: Vec<Vec<u8>> = redis::cmd("LRANGE").arg(list).arg(0).arg(-1).query_async(&mut self.0).await.unwrap();
        let read = |bytes: &Vec<u8>| {
            assert_eq!(check(bytes, list), Ok(()));
            let element: Value = serde_json::from_slice(bytes).unwrap();
            let body = BASE64.decode(element["body"].as_str().unwrap()).unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap();
            (element["headers"]["task"].as_str().unwrap().to_owned(), body[1].clone(), element)
        };
        all.iter().rev().map(read).collect()
    }

    /// Waits until so many wait.
    pub async fn until(&mut self, list: &str, count: usize) -> Vec<(String, Value, Value)> {
        let waiting = async {
            let mut tick = tokio::time::interval(Duration::from_millis(10));
            loop {
                tick.tick().await;
                let waiting = self.waiting(list).await;
                if waiting.len() >= count {
                    return waiting;
                }
            }
        };
        tokio::time::timeout(GUARD, waiting).await.unwrap_or_else(|_| panic!("{count} tasks should be in {list}"))
    }
}

/// Tasks that wait in the realtime database.
pub async fn kept(stack: &Stack) -> i64 {
    redis::cmd("ZCARD").arg("community:tasks").query_async(&mut stack.redis().await).await.unwrap()
}

struct Scene {
    stack: Stack,
    ada: TestUser,
    sage: TestUser,
    thread: Uuid,
}

/// Ada, and a conversation with an agent.
async fn scene() -> Scene {
    let stack = Stack::start().await;
    let ada = stack.user("ada").await;
    let sage = stack.user_with("sage", UserSpec { tier: "team", ..UserSpec::default() }).await;
    let (thread, _) = dm::conversation(&stack, &[&ada, &sage]).await;
    Scene { stack, ada, sage, thread }
}

impl Scene {
    async fn enter(&self, gateway: &TestGateway, user: &TestUser) -> TestClient {
        let token = self.stack.token(user).await;
        let mut client = gateway.dial(&dm::path(self.thread)).token(&token).connect().await;
        client.expect_event("dm_state").await;
        client
    }
}

pub async fn say(client: &mut TestClient, text: &str) -> String {
    client.send(json!({"type": "send_message", "content": text})).await;
    let event = client.wait_until("the message", |event| event["message"]["content"] == text).await;
    event["message"]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_agent_is_asked_once_for_each_message_of_somebody_else() {
    let scene = scene().await;
    let (one, two) = (scene.stack.gateway().start().await, scene.stack.gateway().start().await);
    let mut broker = Broker::at(&scene.stack.redis_server().url(0)).await;
    let mut ada = scene.enter(&one, &scene.ada).await;
    let mut sage = scene.enter(&two, &scene.sage).await;
    let asked = say(&mut ada, "Do you know?").await;
    say(&mut sage, "I do.").await;
    let again = say(&mut ada, "Thanks").await;

    let tasks = broker.until("celery", 2).await;
    let arguments = |message: &Value| json!({"message_id": message, "thread_id": scene.thread.to_string(), "agent_user_id": scene.sage.id});
    let (name, first, element) = &tasks[0];
    assert_eq!(name, "core.community.tasks.process_agent_dm_task");
    assert_eq!(*first, arguments(&json!(asked)));
    assert_eq!(tasks[1].1, arguments(&json!(again)));
    assert_eq!(element["headers"]["ignore_result"], true);
    let left: u64 = element["properties"]["expiration"].as_str().unwrap().parse().unwrap();
    assert!((570_000..=600_000).contains(&left), "{left}");
    eventually("nothing waits any more", || async { kept(&scene.stack).await == 0 }).await;
    assert_eq!(broker.waiting("celery").await.len(), 2, "none for the agent's own, and none twice");
}

#[tokio::test]
async fn who_is_not_online_is_told_and_nobody_else() {
    let stack = Stack::start().await;
    let gateway = stack
        .gateway()
        .env("GATEWAY_TASK_MENTION", "t.mention")
        .env("GATEWAY_TASK_REPLY", "t.reply")
        .env("GATEWAY_TASK_DM", "t.dm")
        .env("GATEWAY_TASK_NOTIFY_QUEUE", "notices")
        .start()
        .await;
    let mut broker = Broker::at(&stack.redis_server().url(0)).await;
    let room = stack.room(RoomSpec::default()).await;
    let (ada, here, away) = (stack.user("ada").await, stack.user("here").await, stack.user("away").await);
    for user in [&ada, &here, &away] {
        stack.member(&room, user, "member").await;
    }
    let old = stack.messages(&room, &away, 1).await[0];
    let mut a = gateway.enter(&room, &ada).await;
    let _here = gateway.enter(&room, &here).await;
    let mention = say(&mut a, "@here and @away, listen").await;
    a.send(json!({"type": "send_message", "content": "indeed", "reply_to_id": old.to_string()})).await;
    let reply =
        a.wait_until("the answer", |event| event["message"]["content"] == "indeed").await["message"]["id"].clone();
    let (thread, _) = dm::conversation(&stack, &[&ada, &away]).await;
    let mut d = gateway.dial(&dm::path(thread)).token(&stack.token(&ada).await).connect().await;
    d.expect_event("dm_state").await;
    let direct = say(&mut d, "psst, @away").await;

    let tasks = broker.until("notices", 3).await;
    let tasks: Vec<_> = tasks.into_iter().map(|(name, arguments, _)| (name, arguments)).collect();
    let of = |message: &Value| json!({"message_id": message, "user_id": away.id});
    let expected = [
        ("t.mention".to_owned(), of(&json!(mention))),
        ("t.reply".to_owned(), of(&reply)),
        ("t.dm".to_owned(), of(&json!(direct))),
    ];
    assert_eq!(tasks, expected);
    eventually("the others are passed over", || async {
        gateway.metric("community_gateway_handover_total", &[("outcome", "online")]).await == 1.0
            && kept(&stack).await == 0
    })
    .await;
    assert_eq!(broker.waiting("celery").await.len(), 0);
}

#[tokio::test]
async fn the_broker_may_be_away_and_so_may_the_gateway() {
    let scene = scene().await;
    let server = RedisServer::start().await;
    server.kill().await;
    let start = || scene.stack.gateway().env("GATEWAY_BROKER_URL", server.url(0)).start();
    let mut gateway = start().await;
    let mut ada = scene.enter(&gateway, &scene.ada).await;
    let mut asked = Vec::new();
    for text in ["one", "two", "three"] {
        asked.push(say(&mut ada, text).await);
    }
    eventually("they are kept", || async { kept(&scene.stack).await == 3 }).await;
    gateway.kill9().await;
    assert_eq!(kept(&scene.stack).await, 3, "what was accepted outlives the gateway");
    // As if the dead one's lease had ended.
    let mut redis = scene.stack.redis().await;
    let tasks: Vec<Vec<u8>> =
        redis::cmd("ZRANGE").arg("community:tasks").arg(0).arg(-1).query_async(&mut redis).await.unwrap();
    for task in tasks {
        redis::cmd("ZADD").arg("community:tasks").arg("XX").arg(0).arg(task).exec_async(&mut redis).await.unwrap();
    }
    let _next = start().await;
    let back = Instant::now();
    server.restart().await;
    let mut broker = Broker::at(&server.url(0)).await;
    let tasks = broker.until("celery", 3).await;
    recovered("the broker back: what was kept for it is there", back.elapsed(), None);
    let mut handed: Vec<_> = tasks.iter().map(|(_, arguments, _)| arguments["message_id"].as_str().unwrap()).collect();
    handed.sort_unstable();
    asked.sort_unstable();
    assert_eq!(handed, asked);
    eventually("nothing waits any more", || async { kept(&scene.stack).await == 0 }).await;
    assert_eq!(broker.waiting("celery").await.len(), 3);
}

#[tokio::test]
async fn what_was_pushed_and_not_settled_is_not_pushed_again() {
    let scene = scene().await;
    let mut broker = Broker::at(&scene.stack.redis_server().url(0)).await;
    let gateway = scene.stack.gateway().env("GATEWAY_BROKER_URL", "").start().await;
    let off = scene.enter(&gateway, &scene.ada).await;
    drop(off);
    let on = scene.stack.gateway().start().await;
    let mut ada = scene.enter(&on, &scene.ada).await;
    let message = say(&mut ada, "once").await;
    let tasks = broker.until("celery", 1).await;
    let id = tasks[0].2["headers"]["id"].as_str().unwrap().to_owned();
    eventually("it is settled", || async { kept(&scene.stack).await == 0 }).await;
    // As an instance leaves it that died between the two.
    let task = json!({
        "id": id, "purpose": "agent_dm", "name": "core.community.tasks.process_agent_dm_task", "queue": "celery",
        "message": message, "thread": scene.thread, "user": scene.sage.id, "expires": 4_000_000_000_000_000_i64,
    });
    let mut redis = scene.stack.redis().await;
    for waiting in [task.to_string(), "nonsense".to_owned()] {
        redis::cmd("ZADD").arg("community:tasks").arg(0).arg(waiting).exec_async(&mut redis).await.unwrap();
    }
    eventually("both are done with", || async {
        on.metric("community_gateway_handover_total", &[("outcome", "repeated")]).await == 1.0
            && on.metric("community_gateway_handover_total", &[("outcome", "unreadable")]).await == 1.0
            && kept(&scene.stack).await == 0
    })
    .await;
    assert_eq!(broker.waiting("celery").await.len(), 1);
}

#[tokio::test]
async fn what_is_accepted_is_handed_over_before_the_gateway_ends() {
    let scene = scene().await;
    let mut broker = Broker::at(&scene.stack.redis_server().url(0)).await;
    let mut gateway = scene.stack.gateway().env("GATEWAY_DRAIN_SECONDS", 1).start().await;
    let mut ada = scene.enter(&gateway, &scene.ada).await;
    ada.send(json!({"type": "send_message", "content": "last words", "client_id": "1"})).await;
    ada.wait_for("message_ack").await;
    assert_eq!(gateway.terminate().await, 0);
    assert_eq!(broker.waiting("celery").await.len(), 1);
    assert_eq!(kept(&scene.stack).await, 0);
}
