//! What a session gives back when it ends, however it ends.

use prometheus::IntGauge;

use crate::domain::Topic;
use crate::socket::{By, Ending};
use crate::telemetry::Metrics;

/// Counts an open session.
pub(super) struct OpenSession {
    gauge: IntGauge,
}

impl OpenSession {
    pub(super) fn count(metrics: &Metrics, topic: Topic) -> Self {
        let gauge = metrics.sessions_open.with_label_values(&[topic.kind()]);
        gauge.inc();
        Self { gauge }
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

/// Counts a session on its way in or out. Held by what is over soon, so that nobody at rest pays for it.
pub(super) struct Passing {
    gauge: IntGauge,
}

impl Passing {
    pub(super) fn entering(metrics: &Metrics) -> Self {
        Self::count(metrics, "entering")
    }

    pub(super) fn leaving(metrics: &Metrics) -> Self {
        Self::count(metrics, "leaving")
    }

    fn count(metrics: &Metrics, state: &str) -> Self {
        let gauge = metrics.sessions_passing.with_label_values(&[state]);
        gauge.inc();
        Self { gauge }
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

/// Whose decision the end of a connection was, as a word.
pub(super) fn by_label(ending: &Ending) -> &'static str {
    match ending.by {
        By::Us => "us",
        By::Peer => "peer",
        By::Lost => "lost",
    }
}

/// A close code as a metric label: the contract's codes, everything else as `other`, so that peers cannot invent labels.
pub(super) fn code_label(code: u16) -> &'static str {
    match code {
        1000 => "1000",
        1001 => "1001",
        1002 => "1002",
        1003 => "1003",
        1005 => "1005",
        1006 => "1006",
        1007 => "1007",
        1008 => "1008",
        1009 => "1009",
        1011 => "1011",
        1013 => "1013",
        4001 => "4001",
        4003 => "4003",
        4004 => "4004",
        4008 => "4008",
        4029 => "4029",
        _ => "other",
    }
}
