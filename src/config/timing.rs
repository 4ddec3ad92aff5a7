//! Heartbeats, presence and the end.

use std::time::Duration;

use super::parse::seconds;
use super::variable::{Reader, Variable};

const PING: Variable = Variable::new("GATEWAY_PING_SECONDS", "25", "silence after which the server pings a client");
const IDLE: Variable =
    Variable::new("GATEWAY_IDLE_SECONDS", "60", "silence that ends a connection; longer than the ping");
const LEASE: Variable = Variable::new(
    "GATEWAY_PRESENCE_SECONDS",
    "60",
    "lease of a user's presence: how long an instance that died keeps its users online",
);
const GRACE: Variable = Variable::new(
    "GATEWAY_PRESENCE_GRACE_SECONDS",
    "5",
    "wait before `user_left`, so that a reload does not show; shorter than the lease",
);
const RIGHTS: Variable = Variable::new(
    "GATEWAY_RIGHTS_SECONDS",
    "15",
    "how often the rights and session versions of all who are connected are looked up, whatever Django said",
);
const DRAIN: Variable = Variable::new("GATEWAY_DRAIN_SECONDS", "30", "longest drain after SIGTERM");
const DRAIN_WAIT: Variable = Variable::new(
    "GATEWAY_DRAIN_WAIT_SECONDS",
    "0",
    "time between SIGTERM and the drain in which `/readyz` says 503 and new sockets are welcome still, until balancers notice",
);

pub(super) const VARIABLES: &[Variable] = &[PING, IDLE, LEASE, GRACE, RIGHTS, DRAIN, DRAIN_WAIT];

/// When a silent peer is asked, and when it is given up.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// Silence after which the server pings.
    pub ping: Duration,
    /// Silence that ends a connection; longer than `ping`.
    pub idle: Duration,
}

/// How long users count as online.
#[derive(Clone, Debug)]
pub struct Presence {
    /// How long a presence lives without renewal.
    pub lease: Duration,
    /// Time between a user's last socket and `user_left`; shorter than `lease`.
    pub grace: Duration,
}

impl Heartbeat {
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let ping = reader.take(&PING, seconds(0.05..=86_400.0));
        let idle = reader.take(&IDLE, seconds(0.05..=86_400.0));
        let (ping, idle) = (ping?, idle?);
        if idle <= ping {
            let problem = format!("{idle:?} is not longer than {} ({ping:?}): no answer could come in time", PING.name);
            reader.wrong(IDLE.name, &IDLE, problem);
            return None;
        }
        Some(Self { ping, idle })
    }
}

impl Presence {
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let lease = reader.take(&LEASE, seconds(0.5..=86_400.0));
        let grace = reader.take(&GRACE, seconds(0.0..=86_400.0));
        let (lease, grace) = (lease?, grace?);
        if grace >= lease {
            let problem = format!("{grace:?} is not shorter than {} ({lease:?})", LEASE.name);
            reader.wrong(GRACE.name, &GRACE, problem);
            return None;
        }
        Some(Self { lease, grace })
    }
}

pub(super) fn rights(reader: &mut Reader<'_>) -> Option<Duration> {
    reader.take(&RIGHTS, seconds(0.1..=3600.0))
}

pub(super) fn drain(reader: &mut Reader<'_>) -> Option<Duration> {
    reader.take(&DRAIN, seconds(0.0..=3600.0))
}

pub(super) fn drain_wait(reader: &mut Reader<'_>) -> Option<Duration> {
    reader.take(&DRAIN_WAIT, seconds(0.0..=600.0))
}
