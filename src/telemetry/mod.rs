//! Logs, metrics and health.

pub mod follow;
pub mod health;
pub mod log;
pub mod metrics;

pub use health::Health;
pub use metrics::Metrics;
