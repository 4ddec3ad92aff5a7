//! Django's side of the channel layer, played in the test: what `channels_redis` does, with plain commands.

use community_gateway::bus::channels::message::{self, Delivery, Message, PREFIX};
use community_gateway::domain::{RoomId, Topic};
use community_gateway::keyspace::channels as keys;
use futures_util::StreamExt;
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};

use crate::support::TestRoom;

/// The client that plays a Django process.
pub const DJANGO: &str = "0123456789abcdef0123456789abcdef";

pub fn topic(room: &TestRoom) -> Topic {
    Topic::Room(RoomId(room.id))
}

/// A Django process, as far as the layer can tell.
pub struct Django {
    pub redis: MultiplexedConnection,
    /// When the newest message expires, seconds. An inbox is sorted by it, and two of one time by their random prefix,
    /// so every message gets a later one, as the clock gives it to a real process.
    expires: f64,
}

impl Django {
    pub async fn at(url: &str) -> Self {
        let client = redis::Client::open(url).unwrap();
        Self { redis: client.get_multiplexed_async_connection().await.unwrap(), expires: 2e9 }
    }

    fn group(topic: Topic) -> String {
        keys::group_key("asgi", &keys::group(topic).unwrap())
    }

    /// Who is in a topic's group.
    pub async fn members(&mut self, topic: Topic) -> Vec<String> {
        redis::cmd("ZRANGE").arg(Self::group(topic)).arg(0).arg(-1).query_async(&mut self.redis).await.unwrap()
    }

    /// `group_add` of a consumer.
    pub async fn join(&mut self, topic: Topic) {
        let mut add = redis::cmd("ZADD");
        add.arg(Self::group(topic)).arg("2000000000").arg(keys::channel(DJANGO, topic).unwrap());
        add.exec_async(&mut self.redis).await.unwrap();
    }

    /// `group_discard` of the consumer.
    pub async fn leave(&mut self, topic: Topic) {
        let mut discard = redis::cmd("ZREM");
        discard.arg(Self::group(topic)).arg(keys::channel(DJANGO, topic).unwrap());
        discard.exec_async(&mut self.redis).await.unwrap();
    }

    /// `group_send`: a copy into the inbox of each member.
    pub async fn send(&mut self, topic: Topic, event: &Value) {
        let event = message::write(topic, event.to_string().as_bytes(), Delivery::Inbox).unwrap();
        for member in self.members(topic).await {
            let name = u8::try_from(member.len()).unwrap();
            let address = [b"\xb0__asgi_channel__\x91\xd9".as_slice(), &[name], member.as_bytes()].concat();
            self.put(&member, [event.as_slice(), &address].concat().as_slice()).await;
        }
    }

    /// Puts any bytes into the inbox of a channel, behind a prefix.
    pub async fn put(&mut self, channel: &str, message: &[u8]) {
        let inbox = format!("asgi{}!", channel.split('!').next().unwrap());
        let member = [rand::random::<[u8; PREFIX]>().as_slice(), message].concat();
        self.expires += 0.001;
        let mut add = redis::cmd("ZADD");
        add.arg(inbox).arg(self.expires).arg(member).exec_async(&mut self.redis).await.unwrap();
    }

    /// What waits in the consumer's inbox, taken out: the topics and the event of each, in order.
    pub async fn received(&mut self) -> Vec<(Vec<Topic>, Value)> {
        let mut take = redis::cmd("ZPOPMIN");
        take.arg(keys::inbox("asgi", DJANGO)).arg(10_000);
        let members: Vec<(Vec<u8>, f64)> = take.query_async(&mut self.redis).await.unwrap();
        let read = |member: &[u8]| {
            let message = Message::read_member(member).unwrap();
            (message.topics(DJANGO).unwrap(), serde_json::from_slice(&message.into_json().unwrap()).unwrap())
        };
        members.iter().map(|(member, _)| read(member)).collect()
    }

    /// The next events of the consumer, so many at least.
    pub async fn next(&mut self, count: usize) -> Vec<Value> {
        let mut events: Vec<Value> = Vec::new();
        let waiting = async {
            while events.len() < count {
                events.extend(self.received().await.into_iter().map(|(_, event)| event));
            }
        };
        if tokio::time::timeout(crate::support::GUARD, waiting).await.is_err() {
            panic!("{count} events should come, and these did: {events:#?}");
        }
        events
    }

    /// All keys of the layer and of ours beside it.
    pub async fn keys(&mut self) -> Vec<String> {
        let mut all: Vec<String> = redis::cmd("KEYS").arg("asgi*").query_async(&mut self.redis).await.unwrap();
        let ours: Vec<String> =
            redis::cmd("KEYS").arg("community:channels:*").query_async(&mut self.redis).await.unwrap();
        all.extend(ours);
        all
    }
}

/// A consumer of the pub/sub layer in one group.
pub struct Listener(redis::aio::PubSub);

impl Listener {
    pub async fn to(url: &str, topic: Topic) -> Self {
        let mut subscription = redis::Client::open(url).unwrap().get_async_pubsub().await.unwrap();
        subscription.subscribe(keys::group_channel("asgi", &keys::group(topic).unwrap())).await.unwrap();
        Self(subscription)
    }

    /// All that comes up to and with the event of this name, by whoever it is.
    pub async fn until(&mut self, name: &str) -> Vec<Value> {
        let mut events: Vec<Value> = Vec::new();
        let mut stream = self.0.on_message();
        let waiting = async {
            while events.last().is_none_or(|event| event["event"] != name) {
                let message = Message::read(stream.next().await.unwrap().get_payload_bytes()).unwrap();
                events.push(serde_json::from_slice(&message.into_json().unwrap()).unwrap());
            }
        };
        tokio::time::timeout(crate::support::GUARD, waiting).await.unwrap_or_else(|_| panic!("no {name} came"));
        events
    }
}

/// The names of events.
pub fn names(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["event"].as_str().unwrap()).collect()
}

pub fn marker() -> Value {
    json!({"event": "marker"})
}

/// Events of Django's without the place that they got in the log, which they must have.
pub fn bare(events: impl IntoIterator<Item = Value>) -> Vec<Value> {
    let mut events: Vec<_> = events.into_iter().collect();
    for event in &mut events {
        let fields = event.as_object_mut().unwrap();
        assert!(fields.remove("epoch").is_some() && fields.remove("offset").is_some(), "{fields:?}");
    }
    events
}
