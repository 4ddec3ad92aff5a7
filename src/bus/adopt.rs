//! Events that Django publishes plainly get a place in the log.
//!
//! Every instance that hears one asks for it; the script does it once, all in one step, so that no instance can die in
//! between. Which copy is which is told by numbering copies of the same bytes: an instance says which one it has heard. When
//! it cannot know, because it listens only since a moment ago, it takes what it hears for one that was adopted since then,
//! if there is any: it errs to the side of not asking, and leaves it to the others.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use redis::Script;
use ring::digest::{SHA256, digest};

use super::envelope::{LUA_TIME, PLAIN_HEAD};
use super::log::{KEPT, KEPT_BYTES, TRACED, new_epoch, parse_epoch};
use super::{BusError, Kind, Log};
use crate::domain::{Micros, Topic};
use crate::keyspace;
use crate::realtime;

/// For how long copies of the same bytes are told apart: longer than an instance may stand still and live on.
const WINDOW: Duration = Duration::from_secs(keyspace::TOLD_SECONDS);
/// After how long without a copy it is forgotten which one was heard last.
const FORGET: Duration = Duration::from_secs(keyspace::TOLD_SECONDS * 2);
/// What a call to Redis and a clock's grain may take.
const MARGIN: Duration = Duration::from_millis(250);
/// Beyond so many different events those are forgotten that are old.
const MANY: usize = 4_096;

static ADOPT: LazyLock<Script> = LazyLock::new(|| {
    let parts = concat!(
        include_str!("lua/begin.lua"),
        include_str!("lua/index.lua"),
        include_str!("lua/settle.lua"),
        include_str!("lua/adopt.lua")
    );
    realtime::script(parts)
});

/// An event that was heard on a topic, and is not logged yet.
#[derive(Clone, Debug)]
pub struct Plain {
    pub topic: Topic,
    /// The object as it came, without what surrounds it.
    pub body: Bytes,
    /// When it came.
    pub heard: Instant,
    /// Since when everything that was published here has come.
    pub since: Instant,
}

/// The copy of an event that was heard last.
#[derive(Debug)]
struct Heard {
    since: Instant,
    last: Instant,
    /// Its number, and the epoch that numbers it; 0 before Redis has said.
    number: u64,
    epoch: u64,
}

/// What this instance has heard.
#[derive(Debug)]
pub struct Adopter {
    heard: HashMap<(Topic, u64), Heard>,
    /// With so many entries it is looked for old ones.
    sweep_at: usize,
}

impl Default for Adopter {
    fn default() -> Self {
        Self { heard: HashMap::new(), sweep_at: MANY }
    }
}

impl Adopter {
    /// Sees to it that an event is in the log, by us or by another instance. It must be asked in the order in which
    /// events came, and again until it works.
    ///
    /// # Errors
    /// When Redis does not answer in time.
    pub async fn adopt(&mut self, log: &Log, plain: &Plain) -> Result<(), BusError> {
        let key = (plain.topic, fingerprint(&plain.body));
        if self.heard.len() >= self.sweep_at {
            self.heard.retain(|_, heard| heard.last.elapsed() < FORGET);
            self.sweep_at = (self.heard.len() * 2).max(MANY);
        }
        let fresh = || Heard { since: plain.since, last: plain.heard, number: 0, epoch: 0 };
        let heard = self.heard.entry(key).or_insert_with(fresh);
        if heard.since != plain.since || plain.heard.saturating_duration_since(heard.last) > FORGET {
            *heard = fresh();
        }
        let next = if heard.number == 0 { 0 } else { heard.number + 1 };
        let (number, epoch) = log.adopt(plain, key.1, next, heard.epoch).await?;
        (heard.number, heard.epoch, heard.last) = (number, epoch, plain.heard);
        Ok(())
    }
}

impl Log {
    /// Returns the number that the copy has, and the epoch that numbers it.
    async fn adopt(&self, plain: &Plain, fingerprint: u64, number: u64, epoch: u64) -> Result<(u64, u64), BusError> {
        let topic = plain.topic;
        let listening = (plain.since.elapsed() + MARGIN).min(WINDOW);
        let mut call = ADOPT.key(keyspace::position(topic));
        call.key(keyspace::log(topic))
            .key(keyspace::taken(topic))
            .key(keyspace::index(topic))
            .key(keyspace::told(topic, fingerprint))
            .arg(keyspace::channel(topic))
            .arg(new_epoch())
            .arg(KEPT)
            .arg(KEPT_BYTES)
            .arg(keyspace::LOG_SECONDS)
            .arg(keyspace::POSITION_SECONDS)
            .arg(LUA_TIME)
            .arg(TRACED)
            .arg(keyspace::INDEX_SECONDS)
            .arg(epoch.to_string())
            .arg(number)
            .arg(u64::try_from(listening.as_micros()).unwrap_or(u64::MAX))
            .arg(keyspace::TOLD_SECONDS)
            .arg(&PLAIN_HEAD[..])
            .arg(&Micros::now().0.to_le_bytes()[..])
            .arg(plain.body.strip_suffix(b"}").unwrap_or(&plain.body));
        let mut connection = self.connection.clone();
        let (ours, number, epoch): (bool, u64, String) =
            BusError::within("logging what Django published", call.invoke_async(&mut connection)).await?;
        if ours {
            self.metrics.bus_published_total.with_label_values(&[Kind::Plain.as_str()]).inc();
        }
        Ok((number, parse_epoch(&epoch)))
    }
}

/// The same on every instance, of whatever build.
fn fingerprint(body: &[u8]) -> u64 {
    let digest = digest(&SHA256, body);
    digest.as_ref().iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}
