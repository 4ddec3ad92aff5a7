//! What moderation says of a text, and why.

use std::borrow::Cow;

/// What is to be done with a text.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Posted.
    Allow,
    /// Posted, and queued for a human.
    Flag(Finding),
    /// Stored hidden and queued for a human; its author is told, nobody else.
    Block(Finding),
    /// Not stored at all: the author can mend it, by leaving a link out for instance.
    Refuse(Finding),
}

/// Why.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The stable name of the rule, `words` or `spam_repetition` for instance. A metric label.
    pub rule: Cow<'static, str>,
    /// For people: what was found, without more of the text than a reviewer needs. Never logged.
    pub reason: String,
    /// What the second layer said, by category as the API names them. Empty for patterns.
    pub scores: Vec<(String, f64)>,
}
