//! Text in, verdict out. Knows no connection, no table and no Redis; never logs a text.
//!
//! The first layer ([`Patterns`]) is pure: [`normalise`] reduces a text to what is read, `views` lists the ways to read
//! it, `words` finds the words of [`Lists`] in them with one automaton, `spam` and `links` look at the rest by [`Rules`].
//! One [`Patterns::check`] costs microseconds and is linear in the text.

mod links;
mod lists;
mod moderator;
pub mod normalise;
pub mod openai;
mod patterns;
mod policy;
mod rules;
mod scores;
mod spam;
mod verdict;
mod views;
mod words;

pub use lists::{Domains, ListError, Lists, Severity, Word};
pub use moderator::{Context, Judgement, Layer, Moderator, Policy, told};
pub use patterns::{Patterns, Text};
pub use policy::{Levels, Thresholds};
pub use rules::{Action, Most, Repetition, Rules, Shouting};
pub use scores::{Category, Scores, is_known};
pub use verdict::{Finding, Verdict};
