//! Configuration: one small struct per concern, read from the environment, all errors reported together.
//!
//! Owns every variable's name, default, meaning and bounds, once. Connects to nothing, and never prints a secret.

mod admin;
mod attachments;
mod auth;
mod channels;
mod database;
mod deployment;
mod files;
mod handover;
mod limits;
mod listen;
mod live;
mod log;
mod moderation;
mod network;
mod parse;
mod problem;
mod redis;
mod reference;
mod secret;
mod source;
mod strings;
mod system;
mod timing;
mod tls;
mod trace;
mod variable;

use std::num::NonZeroUsize;
use std::time::Duration;

pub use admin::AdminToken;
pub use attachments::Attachments;
pub use auth::Auth;
pub use channels::{Layer, LayerKind};
pub use database::Database;
pub use deployment::Deployment;
pub use files::Files;
pub use handover::Handover;
pub use limits::Limits;
pub use listen::Listen;
pub use live::Live;
pub use log::{Log, LogFormat};
pub use moderation::{ModerateDms, Moderation, OnFailure, Rule, RuleAction, Rules};
pub use network::Network;
pub use problem::{ConfigError, Invalid, Warning};
pub use redis::{Cache, Redis};
pub use reference::{Entry, reference, reference_table};
pub use secret::Secret;
pub use source::sources;
pub use strings::{Strings, environment};
pub use system::{open_files_limit, somaxconn};
pub use timing::{Heartbeat, Presence};
pub use tls::Tls;
pub use trace::Trace;
pub use variable::Setting;

use crate::domain::InstanceName;
use variable::{Reader, Variable};

/// Variables of ours begin with this, so that a misspelt one can be told.
const OURS: &str = "GATEWAY_";

/// Everything that can be set.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the gateway listens.
    pub listen: Listen,
    /// The public listener's certificate; `None` where no TLS is spoken.
    pub tls: Option<Tls>,
    /// This process's name on the bus and in logs.
    pub instance: InstanceName,
    /// Threads that serve; `None` is one for each core that the process may use.
    pub threads: Option<NonZeroUsize>,
    /// Time between two looks at the files of the configuration; zero never looks.
    pub watch: Duration,
    /// Who may use the operations API; empty turns it off.
    pub admin: Vec<AdminToken>,
    /// Django's Postgres.
    pub database: Database,
    /// The realtime database.
    pub redis: Redis,
    /// Django's cache.
    pub cache: Cache,
    /// Django's channel layer, unless it is off.
    pub channels: Option<Layer>,
    /// Celery.
    pub handover: Handover,
    /// Who may connect.
    pub auth: Auth,
    /// How much of everything.
    pub limits: Limits,
    /// Which files may be attached.
    pub attachments: Attachments,
    /// What may be said.
    pub moderation: Moderation,
    /// Pings.
    pub heartbeat: Heartbeat,
    /// Who is online.
    pub presence: Presence,
    /// How long a round takes in which the rights of all are looked up.
    pub rights: Duration,
    /// Longest drain after SIGTERM.
    pub drain: Duration,
    /// How long after SIGTERM the drain begins.
    pub drain_wait: Duration,
    /// The log.
    pub log: Log,
    /// Traces, unless they are off.
    pub trace: Option<Trace>,
    settings: Vec<Setting>,
}

impl Config {
    /// Reads the whole configuration.
    ///
    /// # Errors
    /// All that is wrong, at once.
    pub fn from(strings: &dyn Strings) -> Result<(Self, Vec<Warning>), Invalid> {
        let mut reader = Reader::new(strings);
        let config = Self::read(&mut reader);
        warn_of_unknown(strings, &mut reader);
        let Reader { settings, problems, .. } = reader;
        match config {
            Some(config) if problems.errors.is_empty() => Ok((Self { settings, ..config }, problems.warnings)),
            _ => Err(problems),
        }
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        // Everything is read before the first `?`, so that all errors are found.
        let watch = source::read(reader);
        let (listen, instance) = (Listen::read(reader), listen::instance(reader));
        let threads = listen::threads(reader);
        let tls = tls::read(reader);
        let admin = admin::read(reader);
        let database = Database::read(reader);
        let (redis, cache) = (Redis::read(reader), Cache::read(reader));
        let channels = channels::read(reader);
        let handover = Handover::read(reader);
        let auth = Auth::read(reader);
        let limits = Limits::read(reader);
        let attachments = Attachments::read(reader);
        let moderation = Moderation::read(reader);
        let (heartbeat, presence) = (Heartbeat::read(reader), Presence::read(reader));
        let (rights, drain, drain_wait) = (timing::rights(reader), timing::drain(reader), timing::drain_wait(reader));
        let (log, trace) = (Log::read(reader), Trace::read(reader));
        Some(Self {
            listen: listen?,
            tls: tls?,
            watch: watch?,
            instance: instance?,
            threads: threads?,
            admin: admin?,
            database: database?,
            redis: redis?,
            cache: cache?,
            channels: channels?,
            handover: handover?,
            auth: auth?,
            limits: limits?,
            attachments: attachments?,
            moderation: moderation?,
            heartbeat: heartbeat?,
            presence: presence?,
            rights: rights?,
            drain: drain?,
            drain_wait: drain_wait?,
            log: log?,
            trace: trace?,
            settings: Vec::new(),
        })
    }

    /// The most sockets that this process may have open: what was configured, else what `ulimit -n` leaves after the
    /// files that the gateway itself needs. `usize::MAX` when there is no limit.
    #[must_use]
    pub fn open_sockets(&self) -> usize {
        self.limits.open_sockets(self.own_files())
    }

    /// Files that the gateway needs beside its clients' sockets: its pool, Redis, listeners, operators, the log, and some
    /// air.
    #[must_use]
    pub fn own_files(&self) -> usize {
        const OTHERS: usize = 134;
        OTHERS + usize::try_from(self.database.pool).unwrap_or(0)
    }

    /// Every variable with its value as it was read and where that came from; secrets are masked.
    #[must_use]
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }
}

impl Cache {
    /// Reads only what is needed to reach the cache.
    ///
    /// # Errors
    /// All that is wrong with it, at once.
    pub fn alone(strings: &dyn Strings) -> Result<Self, Invalid> {
        alone(strings, Self::read)
    }
}

impl Database {
    /// Reads only what is needed to reach Postgres.
    ///
    /// # Errors
    /// All that is wrong with it, at once.
    pub fn alone(strings: &dyn Strings) -> Result<Self, Invalid> {
        alone(strings, Self::read)
    }
}

fn alone<T>(strings: &dyn Strings, read: impl FnOnce(&mut Reader<'_>) -> Option<T>) -> Result<T, Invalid> {
    let mut reader = Reader::new(strings);
    let part = read(&mut reader);
    part.ok_or(reader.problems)
}

/// Every declaration, in the order of the reference.
fn declarations() -> impl Iterator<Item = &'static Variable> {
    [
        source::VARIABLES,
        listen::VARIABLES,
        tls::VARIABLES,
        admin::VARIABLES,
        database::VARIABLES,
        redis::VARIABLES,
        channels::VARIABLES,
        handover::VARIABLES,
        auth::VARIABLES,
        limits::VARIABLES,
        attachments::VARIABLES,
        moderation::VARIABLES,
        timing::VARIABLES,
        log::VARIABLES,
        trace::VARIABLES,
    ]
    .into_iter()
    .flatten()
}

fn warn_of_unknown(strings: &dyn Strings, reader: &mut Reader<'_>) {
    let ours = || declarations().map(|variable| variable.name).filter(|name| name.starts_with(OURS));
    for name in strings.names() {
        let plain = name.strip_suffix("_FILE").unwrap_or(&name);
        if name.starts_with(OURS)
            && !ours().any(|known| known == plain || known == name)
            && let Some(nearest) = problem::nearest(plain, ours())
        {
            reader.odd(&name, format!("is not a variable of the gateway; the nearest is {nearest}"));
        }
    }
}

#[cfg(test)]
mod tests;
