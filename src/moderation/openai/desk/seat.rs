//! One who waits for the answer to a text.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

use super::{Answer, Desk, Unavailable};
use crate::moderation::openai::cache::TextKey;

/// Somebody who waits for an answer. Dropping it is going away.
pub struct Seat {
    desk: Arc<Desk>,
    pub(super) key: TextKey,
    pub(super) answer: Option<watch::Receiver<Option<Answer>>>,
    pub(super) late: bool,
}

impl Seat {
    pub(super) fn new(desk: &Arc<Desk>, key: TextKey, answer: watch::Receiver<Option<Answer>>) -> Self {
        Self { desk: Arc::clone(desk), key, answer: Some(answer), late: false }
    }

    /// Waits, at most until then.
    pub async fn answer(mut self, until: Instant) -> Answer {
        let Some(answer) = &mut self.answer else { return Err(Unavailable::Stopped) };
        match tokio::time::timeout_at(until, answer.wait_for(Option::is_some)).await {
            Ok(Ok(answer)) => answer.clone().unwrap_or(Err(Unavailable::Stopped)),
            Ok(Err(_)) => Err(Unavailable::Stopped),
            Err(_) => {
                self.late = true;
                Err(Unavailable::Deadline)
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // First the receiver, so that the desk does not count it.
        drop(self.answer.take());
        self.desk.leave(self.key, self.late);
    }
}
