//! What `/readyz` says: the named reasons why this instance should not get new connections.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// The reasons why this instance is not ready. Empty means ready.
#[derive(Debug, Default)]
pub struct Health {
    faults: Mutex<BTreeMap<&'static str, String>>,
}

impl Health {
    /// Records that a part does not work, and why; the text is for operators and must hold no secret.
    pub fn fault(&self, part: &'static str, why: impl Into<String>) {
        let why = why.into();
        if self.faults.lock().insert(part, why.clone()).is_none() {
            tracing::warn!(part, why, "not ready");
        }
    }

    /// Records that a part works again.
    pub fn clear(&self, part: &'static str) {
        if self.faults.lock().remove(part).is_some() {
            tracing::info!(part, "works again");
        }
    }

    /// All reasons, by part.
    #[must_use]
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        self.faults.lock().iter().map(|(part, why)| (*part, why.clone())).collect()
    }
}
