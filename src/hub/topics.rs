//! What a member has joined besides its own topic.

use parking_lot::Mutex;

use crate::domain::Topic;

/// A set of topics, nearly always empty. Bounded by who fills it.
#[derive(Debug, Default)]
pub struct Topics(Mutex<Vec<Topic>>);

impl Topics {
    /// Adds a topic.
    pub fn insert(&self, topic: Topic) {
        let mut topics = self.0.lock();
        if !topics.contains(&topic) {
            topics.push(topic);
        }
    }

    /// Removes a topic.
    pub fn remove(&self, topic: Topic) {
        self.0.lock().retain(|known| *known != topic);
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<Topic> {
        self.0.lock().clone()
    }
}
