//! The composition root.

use crate::config::Config;
use crate::lifecycle::Lifecycle;

/// Why the gateway could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A dependency did not answer.
    #[error("{dependency} could not be reached: {why}")]
    Unreachable {
        /// Which one.
        dependency: &'static str,
        /// What went wrong, without secrets.
        why: String,
    },
    /// Anything else.
    #[error("{0}")]
    Internal(String),
}

/// How the gateway ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Because it was asked to.
    Asked,
    /// Because a part of it failed.
    Fault,
}

/// A gateway that is ready to run.
#[derive(Debug)]
pub struct Gateway {
    config: Config,
    lifecycle: Lifecycle,
}

impl Gateway {
    /// Builds every part.
    ///
    /// # Errors
    /// When a dependency cannot be reached or a listener cannot be bound.
    pub async fn build(config: Config) -> Result<Self, BuildError> {
        let lifecycle = Lifecycle::new();
        lifecycle.listen_for_signals().map_err(|error| BuildError::Internal(error.to_string()))?;
        Ok(Self { config, lifecycle })
    }

    /// Runs until it is asked to end, or a vital part fails.
    pub async fn run(self) -> Exit {
        self.lifecycle.stopping().await;
        self.lifecycle.abort();
        self.lifecycle.wait(self.config.drain).await;
        if self.lifecycle.has_crashed() { Exit::Fault } else { Exit::Asked }
    }
}
