//! Text in, verdict out. Knows no connection, no table and no Redis; never logs a text.

mod verdict;

pub use verdict::{Finding, Verdict};
