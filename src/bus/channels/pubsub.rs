//! `RedisPubSubChannelLayer`: groups are channels of Redis, and nothing is stored.
//!
//! Everybody gets everything, ourselves too. What a gateway wrote is known by its first byte and passed over. Each
//! gateway is subscribed to a twin of the group's channel, on which nothing is ever sent: more listeners on the group's
//! than on the twin are Django's consumers.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use redis::aio::ConnectionManager;
use redis::{PushInfo, PushKind, Script, Value};

use super::core::Sent;
use super::message::{self, Delivery};
use super::{DEADLINE, LayerError, Settings, connect, connect_for_commands};
use crate::bus::Door;
use crate::domain::Topic;
use crate::keyspace::channels as keys;
use crate::telemetry::Metrics;

static BROADCAST: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/broadcast.lua")));

/// This process on the channels of groups.
pub(in crate::bus) struct PubSub {
    commands: ConnectionManager,
    subscriber: ConnectionManager,
    prefix: String,
}

impl PubSub {
    pub(super) fn new(settings: &Settings, door: Door, metrics: Arc<Metrics>) -> Result<Self, LayerError> {
        let prefix = settings.prefix.clone();
        let route = super::inbox::Route::new(door, metrics);
        // Runs inside the connection's task and never waits.
        let take = move |push: PushInfo| {
            if push.kind == PushKind::Message
                && let [Value::BulkString(channel), Value::BulkString(payload)] = push.data.as_slice()
                && let Some(topic) = keys::parse_group_channel(&prefix, channel)
                && !message::is_ours(payload)
            {
                route.pass_broadcast(topic, payload);
            }
            Ok::<(), ()>(())
        };
        Ok(Self {
            commands: connect_for_commands(&settings.url)?,
            subscriber: connect(&settings.url, DEADLINE, |config| {
                config.set_push_sender(take).set_automatic_resubscription()
            })?,
            prefix: settings.prefix.clone(),
        })
    }

    pub(super) async fn join(&self, topics: &[Topic]) -> Result<(), LayerError> {
        let channels = self.channels(topics);
        if channels.is_empty() {
            return Ok(());
        }
        LayerError::within("subscribing to groups", self.subscriber.clone().subscribe(channels)).await
    }

    pub(super) async fn leave(&self, topics: &[Topic]) -> Result<(), LayerError> {
        let channels = self.channels(topics);
        if channels.is_empty() {
            return Ok(());
        }
        LayerError::within("unsubscribing from groups", self.subscriber.clone().unsubscribe(channels)).await
    }

    /// A group's channel and its twin, side by side, so that they are subscribed to at once.
    fn channels(&self, topics: &[Topic]) -> Vec<String> {
        topics.iter().filter_map(|topic| self.pair(*topic)).flatten().collect()
    }

    fn pair(&self, topic: Topic) -> Option<[String; 2]> {
        let group = keys::group(topic)?;
        Some([keys::group_channel(&self.prefix, &group), keys::group_twin(&self.prefix, &group)])
    }

    /// Says whether Redis answers. Subscriptions come back with the connection, by themselves.
    pub(super) async fn renew(&self) -> Result<bool, LayerError> {
        let ping = redis::cmd("PING");
        let () = LayerError::within("asking for a sign of life", ping.query_async(&mut self.commands.clone())).await?;
        Ok(true)
    }

    /// Says of each topic whether anybody but gateways listens.
    pub(super) async fn look(&self, topics: &[Topic]) -> Result<Vec<bool>, LayerError> {
        let mut call = redis::cmd("PUBSUB");
        call.arg("NUMSUB");
        for channel in topics.iter().filter_map(|topic| self.pair(*topic)).flatten() {
            call.arg(channel);
        }
        let mut connection = self.commands.clone();
        let looking = LayerError::within("looking into groups", call.query_async(&mut connection));
        let heard: Vec<(String, u64)> = looking.await?;
        Ok(heard.chunks(2).map(|pair| pair.len() == 2 && pair[0].1 > pair[1].1).collect())
    }

    /// Sends events of ours. May be repeated under the same mark until it succeeds.
    pub(super) async fn send(&self, topic: Topic, mark: &str, events: &[&[u8]]) -> Result<Sent, LayerError> {
        let Some(channels) = self.pair(topic) else { return Ok(Sent { somebody: false, dropped: 0 }) };
        let mut call = BROADCAST.key(keys::sent(mark));
        for channel in channels {
            call.arg(channel);
        }
        for message in events.iter().filter_map(|event| message::write(topic, event, Delivery::Broadcast)) {
            call.arg(message);
        }
        let mut connection = self.commands.clone();
        let sending = LayerError::within("sending to consumers", call.invoke_async(&mut connection));
        let (somebody, dropped) = sending.await?;
        Ok(Sent { somebody, dropped })
    }
}

impl super::inbox::Route {
    fn pass_broadcast(&self, topic: Topic, payload: &[u8]) {
        let read = message::Message::read(payload).and_then(|message| {
            if message::handler(topic) == Some(message.kind()) {
                message.into_json()
            } else {
                Err(message::Unreadable::Type)
            }
        });
        match read {
            Ok(event) => self.pass(topic, &Bytes::from(event)),
            Err(error) => self.complain(error),
        }
    }
}
