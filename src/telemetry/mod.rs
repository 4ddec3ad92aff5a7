//! Logs, metrics and health.

pub mod health;
pub mod metrics;

pub use health::Health;
pub use metrics::Metrics;
