//! What moderation leaves with a message: a row in the review queue, and a record of hiding.

use uuid::Uuid;

/// That a message waits for a human, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// Nobody sees it until a human shows it.
    pub hidden: bool,
    /// [`Mark::AI`] or [`Mark::SYSTEM`].
    pub source: &'static str,
    /// For the reviewer.
    pub reason: String,
    /// JSON object category → score.
    pub scores: String,
}

impl Mark {
    /// The source of what the classifier found.
    pub const AI: &str = "ai";
    /// The source of everything else.
    pub const SYSTEM: &str = "system";

    /// A name for the row in the queue.
    pub(super) fn queue_id(mark: Option<&Self>) -> Option<Uuid> {
        mark.map(|_| Uuid::new_v4())
    }

    /// A name for the record, if there is to be one.
    pub(super) fn action_id(mark: Option<&Self>) -> Option<Uuid> {
        mark.filter(|mark| mark.hidden).map(|_| Uuid::new_v4())
    }
}
