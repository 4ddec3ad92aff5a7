//! Logs, metrics, traces and health.

pub mod follow;
pub mod health;
mod legs;
pub mod log;
pub mod metrics;
pub mod trace;

pub use health::Health;
pub use legs::{Leg, Legs};
pub use metrics::Metrics;
