//! What a member has joined besides its own topic.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::domain::Topic;

/// A shared set of topics. Bounded by who fills it.
#[derive(Clone, Debug, Default)]
pub struct Topics(Arc<Mutex<HashSet<Topic>>>);

impl Topics {
    /// Adds a topic.
    pub fn insert(&self, topic: Topic) {
        self.0.lock().insert(topic);
    }

    /// Removes a topic.
    pub fn remove(&self, topic: Topic) {
        self.0.lock().remove(&topic);
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<Topic> {
        self.0.lock().iter().copied().collect()
    }
}
