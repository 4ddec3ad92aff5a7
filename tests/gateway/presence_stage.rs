//! A Redis with some gateways' presence on it, and somebody who listens to what is announced.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use community_gateway::bus::Bus;
use community_gateway::domain::{InstanceName, Person, RoomId, Topic, UserId};
use community_gateway::keyspace;
use community_gateway::lifecycle::Lifecycle;
use community_gateway::presence::{Entered, Presence, Timing, Words};
use community_gateway::telemetry::Metrics;
use futures_util::StreamExt;
use redis::aio::{MultiplexedConnection, PubSub};
use uuid::Uuid;

use crate::support::{GUARD, RedisServer};

/// A Redis of the test's own, and the room that everybody is in.
pub struct Stage {
    pub server: RedisServer,
    pub room: RoomId,
}

/// One gateway, as far as presence goes.
pub struct Instance {
    pub presence: Presence,
    pub lifecycle: Lifecycle,
    pub metrics: Arc<Metrics>,
    room: RoomId,
}

/// Spans that no test outlasts: nothing is renewed or ends by itself.
pub const NEVER: Duration = Duration::from_secs(3600);

impl Stage {
    pub async fn start() -> Self {
        // The last of the parts that are renewed one after the other: the first renewal is a whole round away.
        let room = RoomId(Uuid::from_u128(Uuid::new_v4().as_u128() | 0xff));
        Self { server: RedisServer::start().await, room }
    }

    pub async fn instance(&self, name: &str, span: Duration, grace: Duration) -> Instance {
        let metrics = Arc::new(Metrics::new().unwrap());
        let lifecycle = Lifecycle::new();
        let bus = Bus::connect(&self.server.deployment(3), Arc::clone(&metrics)).await.unwrap();
        let (timing, name) = (Timing { span, grace }, InstanceName::new(name));
        let words = Words {
            joined: |person| format!("+{} ", person.id).into_bytes(),
            left: |user| format!("-{user} ").into_bytes(),
        };
        let presence = Presence::new(bus.connection(), name, timing, Arc::clone(&metrics), words, |_, _| ());
        presence.start(&lifecycle);
        Instance { presence, lifecycle, metrics, room: self.room }
    }

    pub async fn redis(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.server.url(3)).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }

    pub async fn flush(&self) {
        redis::cmd("FLUSHALL").exec_async(&mut self.redis().await).await.unwrap();
    }

    /// Whether nothing is left in Redis.
    pub async fn is_empty(&self) -> bool {
        redis::cmd("DBSIZE").query_async::<u64>(&mut self.redis().await).await.unwrap() == 0
    }

    /// The users in the room's set.
    pub async fn online(&self) -> BTreeSet<i64> {
        let mut command = redis::cmd("ZRANGE");
        command.arg(keyspace::presence(self.room)).arg(0).arg(-1);
        command.query_async(&mut self.redis().await).await.unwrap()
    }

    /// When a user's lease ends, by Redis's clock.
    pub async fn lease(&self, user: i64) -> f64 {
        let mut command = redis::cmd("ZSCORE");
        command.arg(keyspace::presence(self.room)).arg(user);
        command.query_async(&mut self.redis().await).await.unwrap()
    }

    pub async fn listen(&self) -> Announcements {
        let channel = keyspace::channel(Topic::Room(self.room));
        let mut subscriber = redis::Client::open(self.server.url(3)).unwrap().get_async_pubsub().await.unwrap();
        subscriber.subscribe(&channel).await.unwrap();
        Announcements { subscriber, channel, connection: self.redis().await }
    }
}

impl Instance {
    pub async fn enter(&self, user: i64) -> Entered {
        self.presence.enter(self.room, &person(user)).await.unwrap()
    }

    /// What a killed process does: nothing any more.
    pub async fn crash(&self) {
        self.lifecycle.abort();
        assert_eq!(self.lifecycle.wait(GUARD).await, 0);
    }
}

/// Somebody by this number.
pub fn person(user: i64) -> Arc<Person> {
    Arc::new(Person { id: UserId(user), username: user.to_string(), avatar_url: None, is_staff: false })
}

/// What is announced in the room: `+1 2` is "user 1 joined, now 2 are online", `-1 0` that they left.
pub struct Announcements {
    subscriber: PubSub,
    channel: String,
    connection: MultiplexedConnection,
}

impl Announcements {
    pub async fn next(&mut self) -> String {
        let message = tokio::time::timeout(GUARD, self.subscriber.on_message().next()).await;
        let message = message.expect("nothing was announced").expect("the subscription ended");
        message.get_payload().unwrap()
    }

    /// What was published so far and not yet read: a marker ends it.
    pub async fn rest(&mut self) -> Vec<String> {
        let published = redis::cmd("PUBLISH").arg(&self.channel).arg("marker").exec_async(&mut self.connection).await;
        published.unwrap();
        let mut rest = Vec::new();
        loop {
            match self.next().await {
                said if said == "marker" => return rest,
                said => rest.push(said),
            }
        }
    }

    pub async fn expect_no_more(&mut self) {
        assert_eq!(self.rest().await, [""; 0]);
    }
}
