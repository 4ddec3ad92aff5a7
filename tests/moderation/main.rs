//! The first layer of moderation against a labelled corpus, and for any text at all.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and this one tells its measurements"
)]

mod corpus;
mod lists;
mod properties;
