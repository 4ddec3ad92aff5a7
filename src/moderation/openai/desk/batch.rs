//! The texts of one request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Desk, Unavailable};
use crate::moderation::openai::cache::TextKey;

/// What the texts of one request share.
#[derive(Default)]
pub struct Request {
    /// Texts that somebody still waits for.
    pub(super) left: AtomicUsize,
    /// Somebody waited until the deadline.
    pub(super) late: AtomicBool,
    /// Nobody waits for any of its texts any more.
    pub gone: CancellationToken,
}

impl Request {
    /// A text has its answer, or nobody waits for it any more.
    pub(super) fn one_less(&self) {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.gone.cancel();
        }
    }
}

/// Texts of one request. Dropping it ends the wait for those that got no answer.
pub struct Batch {
    pub(super) desk: Arc<Desk>,
    pub keys: Vec<TextKey>,
    pub request: Arc<Request>,
}

/// The texts of a request that somebody still waits for.
#[derive(Default)]
pub struct Texts {
    pub keys: Vec<TextKey>,
    pub texts: Vec<Arc<str>>,
    pub tokens: u32,
    /// When the last of those who wait gives up.
    pub until: Option<Instant>,
}

impl Batch {
    /// Those of its texts, of these, that somebody still waits for.
    pub fn texts(&self, keys: &[TextKey]) -> Texts {
        let state = self.desk.state.lock();
        let mut texts = Texts::default();
        for key in keys {
            if let Some(flight) = state.flies_in(self, *key) {
                texts.keys.push(*key);
                texts.texts.push(Arc::clone(&flight.text));
                texts.tokens = texts.tokens.saturating_add(flight.tokens);
                texts.until = texts.until.max(Some(flight.until));
            }
        }
        texts
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.desk.give_up(self, &self.keys, Unavailable::Stopped);
    }
}
