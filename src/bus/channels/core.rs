//! `RedisChannelLayer`: groups are sorted sets of channels, and each process has one inbox, a sorted set of messages.
//!
//! Each gateway process is a client of its own name, under a lease. Who finds a lease ended takes that client out of its
//! groups and its inbox away, so that nothing fills up for a process that died.

use std::sync::LazyLock;

use redis::Script;
use redis::aio::ConnectionManager;

use super::message::{self, Delivery, PREFIX};
use super::{LayerError, Settings, connect_for_commands};
use crate::domain::{InstanceName, Topic};
use crate::keyspace::channels as keys;

/// How long a client that is not renewed counts as living, in seconds.
const LEASE: u64 = 30;
/// Letters of the instance's name in the client's: channels have fewer than 100 letters.
const NAME: usize = 32;

static JOIN: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/join.lua")));
static RENEW: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/renew.lua")));
static FORGET: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/forget.lua")));
static LOOK: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/look.lua")));
static SEND: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/send.lua")));

/// What became of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bus) struct Sent {
    /// Somebody else than gateways was there.
    pub(super) somebody: bool,
    /// How many did not fit into an inbox, each inbox counted.
    pub(super) dropped: u64,
}

/// This process as a client of the layer.
pub(in crate::bus) struct Core {
    connection: ConnectionManager,
    prefix: String,
    client: String,
    capacity: u32,
}

impl Core {
    pub(super) fn new(settings: &Settings, instance: &InstanceName) -> Result<Self, LayerError> {
        // New for each process: the memberships of the last one are not ours to take over, but to be cleaned up.
        let name: String = instance.as_str().chars().take(NAME).collect();
        let client = format!("gw-{name}-{:08x}", rand::random::<u32>());
        let connection = connect_for_commands(&settings.url)?;
        Ok(Self { connection, prefix: settings.prefix.clone(), client, capacity: settings.capacity })
    }

    pub(super) fn client(&self) -> &str {
        &self.client
    }

    pub(super) async fn join(&self, topics: &[Topic]) -> Result<(), LayerError> {
        let mut call = JOIN.key(keys::client_groups(&self.prefix, &self.client));
        call.arg(keys::GROUP_SECONDS);
        for (group, channel) in topics.iter().filter_map(|topic| self.membership(*topic)) {
            call.arg(group).arg(channel);
        }
        LayerError::within("joining groups", call.invoke_async(&mut self.connection.clone())).await
    }

    pub(super) async fn leave(&self, topics: &[Topic]) -> Result<(), LayerError> {
        let groups = keys::client_groups(&self.prefix, &self.client);
        let mut all = redis::pipe();
        for (group, channel) in topics.iter().filter_map(|topic| self.membership(*topic)) {
            all.cmd("ZREM").arg(&group).arg(channel).ignore();
            all.cmd("SREM").arg(&groups).arg(group).ignore();
        }
        LayerError::within("leaving groups", all.query_async(&mut self.connection.clone())).await
    }

    fn membership(&self, topic: Topic) -> Option<(String, String)> {
        Some((self.group_key(topic)?, keys::channel(&self.client, topic)?))
    }

    fn group_key(&self, topic: Topic) -> Option<String> {
        keys::group(topic).map(|group| keys::group_key(&self.prefix, &group))
    }

    /// Renews the lease, and cleans up after those whose lease has ended. Says whether ours had not.
    pub(super) async fn renew(&self) -> Result<bool, LayerError> {
        let mut call = RENEW.key(keys::clients(&self.prefix));
        call.arg(&self.client).arg(LEASE);
        let mut connection = self.connection.clone();
        let renewing = LayerError::within("renewing a lease", call.invoke_async(&mut connection));
        let (held, ended): (bool, Vec<String>) = renewing.await?;
        for client in ended {
            let groups = self.forget(&client).await?;
            tracing::info!(client, groups, "the inbox of a gateway that is gone was taken away");
        }
        Ok(held)
    }

    /// Takes this process out of all its groups and its inbox away.
    pub(super) async fn end(&self) -> Result<(), LayerError> {
        self.forget(&self.client).await.map(|_| ())
    }

    async fn forget(&self, client: &str) -> Result<i64, LayerError> {
        let mut sum = 0;
        loop {
            let mut call = FORGET.key(keys::clients(&self.prefix));
            call.key(keys::client_groups(&self.prefix, client)).key(keys::inbox(&self.prefix, client));
            call.arg(client).arg(u8::from(client == self.client));
            let mut connection = self.connection.clone();
            let groups: i64 = LayerError::within("cleaning up", call.invoke_async(&mut connection)).await?;
            if groups <= 0 {
                return Ok(sum);
            }
            sum += groups;
        }
    }

    /// Says of each topic whether anybody but gateways is in its group.
    pub(super) async fn look(&self, topics: &[Topic]) -> Result<Vec<bool>, LayerError> {
        let mut call = LOOK.prepare_invoke();
        for topic in topics {
            call.key(self.group_key(*topic).unwrap_or_default());
        }
        call.arg(keys::OURS);
        LayerError::within("looking into groups", call.invoke_async(&mut self.connection.clone())).await
    }

    /// Sends events of ours. May be repeated under the same mark until it succeeds.
    pub(super) async fn send(&self, topic: Topic, mark: &str, events: &[&[u8]]) -> Result<Sent, LayerError> {
        let mut call = SEND.key(self.group_key(topic).unwrap_or_default());
        call.key(keys::sent(mark)).arg(&self.prefix).arg(keys::OURS).arg(self.capacity);
        call.arg(keys::MESSAGE_SECONDS).arg(keys::GROUP_SECONDS);
        for message in events.iter().filter_map(|event| message::write(topic, event, Delivery::Inbox)) {
            call.arg(rand::random::<[u8; PREFIX]>().as_slice()).arg(message);
        }
        let mut connection = self.connection.clone();
        let sending = LayerError::within("sending to consumers", call.invoke_async(&mut connection));
        let (somebody, dropped) = sending.await?;
        Ok(Sent { somebody, dropped })
    }
}
