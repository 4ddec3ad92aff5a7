//! Watching: seats that get numbers only, and the numbers of topics as this instance knows them.

use std::sync::Arc;

use super::gathering::Gathering;
use super::{Hub, Watcher};
use crate::domain::{ConnectionId, Topic};

/// A number as it was when somebody began to look it up: which of two is newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(pub(super) u64);

impl Hub {
    /// Takes a seat that gets numbers only. It leaves when it is dropped.
    pub(super) fn watch(self: &Arc<Self>, topic: Topic, watcher: &Arc<Watcher>) -> Watch {
        let gathering = self.gather(topic, |gathering| gathering.add_watcher(watcher));
        Watch { hub: Arc::clone(self), gathering, topic, connection: watcher.connection }
    }

    /// Resolves when all topics are subscribed to.
    ///
    /// # Cancel safety
    /// Safe: nothing is lost when it is dropped.
    pub async fn subscribed(&self, topics: &[Topic]) {
        for topic in topics {
            if let Some(gathering) = self.gathering(*topic) {
                gathering.subscribed().await;
            }
        }
    }

    /// All topics whose numbers somebody watches here, to be looked up and settled.
    #[must_use]
    pub fn counted(&self) -> Vec<(Topic, Version)> {
        let topics: Vec<_> = self.topics.iter().map(|entry| (*entry.key(), Arc::clone(&entry))).collect();
        let watched = topics.into_iter().filter(|(_, gathering)| gathering.is_watched());
        watched.map(|(topic, gathering)| (topic, gathering.version())).collect()
    }

    /// The version of each topic's number, before it is looked up.
    #[must_use]
    pub fn versions(&self, topics: &[Topic]) -> Vec<(Topic, Version)> {
        let version = |topic: &Topic| self.gathering(*topic).map(|gathering| (*topic, gathering.version()));
        topics.iter().filter_map(version).collect()
    }

    /// Takes a number that was looked up, unless a newer one was announced meanwhile; watchers are told if it differs.
    /// Returns the number that holds now.
    #[must_use]
    pub fn settle(&self, topic: Topic, version: Version, value: u64) -> u64 {
        self.gathering(topic).map_or(value, |gathering| gathering.settle(version, value))
    }
}

/// A watcher's place in the hub. Leaves when dropped.
pub struct Watch {
    hub: Arc<Hub>,
    gathering: Arc<Gathering>,
    topic: Topic,
    connection: ConnectionId,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.hub.metrics.seats_open.dec();
        if self.gathering.remove_watcher(self.connection) {
            self.hub.interest_changed(self.topic);
        }
    }
}
