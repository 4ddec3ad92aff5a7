//! What a text is to the eye: its characters folded into those they look like, and the links in it.
//!
//! Pure: knows no list, no rule and no author. What is to be thought of a text is said by `moderation` and `access`.

pub mod confusables;
mod endings;
pub mod fold;
pub mod links;

pub use fold::fold;
pub use links::{Link, has_link, links};
