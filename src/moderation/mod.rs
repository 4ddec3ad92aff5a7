//! Text in, verdict out. Knows no connection, no table and no Redis; never logs a text.

pub mod openai;
mod policy;
mod scores;
mod verdict;

pub use policy::{Levels, Thresholds};
pub use scores::{Category, Scores, is_known};
pub use verdict::{Finding, Verdict};
