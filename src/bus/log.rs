//! The topics' logs: who takes which offset, what was published, where a topic stands.
//!
//! An offset is *taken* while the room's row lock is held in Postgres, so that lock order, time order and offset order
//! are one, and *published* after the commit. Between the two it is a hole, which receivers wait for. `published` is the
//! end of the part without holes: everything up to there is committed, logged and sent.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use futures_util::future::join_all;
use redis::Script;

use super::envelope::{LUA_TIME, Payload};
use super::{BusError, Envelope, Kind};
use crate::domain::{MessageId, Micros, Topic};
use crate::keyspace;
use crate::realtime::{self, Connection};
use crate::telemetry::Metrics;
use crate::wire::event::{self, Place};

/// How many events a log keeps.
pub const KEPT: usize = 1_000;

/// Begins an epoch if there is none, or if the server has lived another life since: one that was restarted from disk,
/// or a replica that took over, may have forgotten the newest offsets, which must not be given out again.
/// KEYS: position, log. `fresh` is the new epoch.
const BEGIN: &str = r"
    local life = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)') or ''
    local there = redis.call('HMGET', KEYS[1], 'epoch', 'life')
    if not there[1] or there[2] ~= life then
      local clock = redis.call('TIME')
      redis.call('DEL', KEYS[1], KEYS[2])
      redis.call('HSET', KEYS[1], 'epoch', fresh, 'life', life,
                 'time', string.format('%.0f', clock[1] * 1000000 + clock[2]))
    end
";

/// Takes the next offsets of a topic; the first ever begins an epoch.
static RESERVE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&format!(
        r"local fresh = ARGV[2] {BEGIN}
          local last = redis.call('HINCRBY', KEYS[1], 'offset', ARGV[1])
          redis.call('EXPIRE', KEYS[1], ARGV[3])
          return {{redis.call('HGET', KEYS[1], 'epoch'), last - ARGV[1] + 1}}",
    ))
});

/// Says where a topic stands; the first to ask begins an epoch.
static POSITION: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&format!(
        r"local fresh = ARGV[1] {BEGIN}
          if redis.call('TTL', KEYS[1]) < 0 then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
          return redis.call('HMGET', KEYS[1], 'epoch', 'published', 'time')",
    ))
});

/// Logs and publishes events at offsets taken before. What the log already has at an offset is not published again, so
/// that a repeated call after a lost answer does nothing; only a void gives way to the event that comes late after all.
static PUBLISH: LazyLock<Script> = LazyLock::new(|| {
    realtime::script(&format!(
        r"local position, log, channel = KEYS[1], KEYS[2], ARGV[1]
          local current = redis.call('HGET', position, 'epoch') == ARGV[2]
          local offset, sent = tonumber(ARGV[3]), 0
          for i = 7, #ARGV do
            local fresh = true
            if current then
              local there = redis.call('ZRANGEBYSCORE', log, offset, offset)
              if #there > 0 and (string.byte(there[1], 2) ~= {void} or string.byte(ARGV[i], 2) == {void}) then
                fresh = false
              else
                if #there > 0 then redis.call('ZREM', log, there[1]) end
                redis.call('ZADD', log, offset, ARGV[i])
              end
            end
            if fresh then redis.call('PUBLISH', channel, ARGV[i]) sent = sent + 1 end
            offset = offset + 1
          end
          if not current then return sent end
          local published = tonumber(redis.call('HGET', position, 'published') or '0')
          local time = 0
          while true do
            local next = redis.call('ZRANGEBYSCORE', log, published + 1, published + 1)
            if #next == 0 then break end
            published = published + 1
            local at = struct.unpack('<i8', next[1], {LUA_TIME})
            if at > time then time = at end
          end
          redis.call('HSET', position, 'published', published)
          if time > 0 then redis.call('HSET', position, 'time', string.format('%.0f', time)) end
          redis.call('ZREMRANGEBYRANK', log, 0, -ARGV[4] - 1)
          redis.call('EXPIRE', log, ARGV[5])
          redis.call('EXPIRE', position, ARGV[6])
          return sent",
        void = Kind::Void as u8,
    ))
});

/// Where a topic stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub epoch: u64,
    /// Everything up to here is committed, logged and sent; 0 before the first event.
    pub published: u64,
    /// `created_at` of the newest message up to there, or when the epoch began: what is older belongs to epochs that
    /// were lost with Redis, and is not on its way any more.
    pub time: Option<Micros>,
}

impl Position {
    /// The place of the last event of the part without holes.
    #[must_use]
    pub fn place(self) -> Place {
        Place { epoch: self.epoch, offset: self.published }
    }
}

/// The logs of all topics.
#[derive(Clone)]
pub struct Log {
    connection: Connection,
    metrics: Arc<Metrics>,
}

impl Log {
    pub(super) fn new(connection: Connection, metrics: Arc<Metrics>) -> Self {
        Self { connection, metrics }
    }

    /// Takes the next `count` offsets of each topic and returns the first of each. One round trip for all.
    ///
    /// # Errors
    /// When Redis does not answer in time; offsets may have been taken all the same and stay holes until somebody
    /// voids them.
    pub async fn reserve(&self, wanted: &[(Topic, u32)]) -> Result<Vec<Place>, BusError> {
        let answers = join_all(wanted.iter().map(|(topic, count)| {
            let mut connection = self.connection.clone();
            async move {
                let mut call = RESERVE.key(keyspace::position(*topic));
                call.key(keyspace::log(*topic)).arg(count).arg(new_epoch()).arg(keyspace::POSITION_SECONDS);
                let taken = BusError::within("taking offsets", call.invoke_async(&mut connection));
                let (epoch, offset): (String, u64) = taken.await?;
                Ok(Place { epoch: parse_epoch(&epoch), offset })
            }
        }))
        .await;
        answers.into_iter().collect()
    }

    /// Logs and publishes events of one topic at consecutive offsets of one epoch. May be repeated until it succeeds.
    ///
    /// # Errors
    /// When Redis does not answer in time.
    pub async fn publish(&self, topic: Topic, first: Place, events: &[Envelope]) -> Result<(), BusError> {
        let script = &*PUBLISH;
        let mut call = script.key(keyspace::position(topic));
        call.key(keyspace::log(topic))
            .arg(keyspace::channel(topic))
            .arg(first.epoch.to_string())
            .arg(first.offset)
            .arg(KEPT)
            .arg(keyspace::LOG_SECONDS)
            .arg(keyspace::POSITION_SECONDS);
        for event in events {
            call.arg(event.encode());
        }
        let _: u64 = BusError::within("publishing", call.invoke_async(&mut self.connection.clone())).await?;
        for event in events {
            self.metrics.bus_published_total.with_label_values(&[event.kind.as_str()]).inc();
        }
        Ok(())
    }

    /// Publishes something that is not logged: typing.
    ///
    /// # Errors
    /// When Redis does not answer in time.
    pub async fn pass(&self, topic: Topic, event: &Envelope) -> Result<(), BusError> {
        let publish = realtime::publish(&keyspace::channel(topic), &event.encode());
        let () = BusError::within("publishing", publish.query_async(&mut self.connection.clone())).await?;
        self.metrics.bus_published_total.with_label_values(&[event.kind.as_str()]).inc();
        Ok(())
    }

    /// Publishes an event's JSON that is not logged, as Django does: with `to` and `except`, if it has them.
    ///
    /// # Errors
    /// When Redis does not answer in time.
    pub async fn tell(&self, topic: Topic, event: Vec<u8>) -> Result<(), BusError> {
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(keyspace::channel(topic)).arg(event);
        BusError::within("publishing", publish.query_async(&mut self.connection.clone())).await
    }

    /// Where a topic stands.
    ///
    /// # Errors
    /// When Redis does not answer in time.
    pub async fn position(&self, topic: Topic) -> Result<Position, BusError> {
        let mut call = POSITION.key(keyspace::position(topic));
        call.key(keyspace::log(topic)).arg(new_epoch()).arg(keyspace::POSITION_SECONDS);
        let mut connection = self.connection.clone();
        let answer = BusError::within("reading a position", call.invoke_async(&mut connection));
        let (epoch, published, time): (String, Option<u64>, Option<i64>) = answer.await?;
        Ok(Position { epoch: parse_epoch(&epoch), published: published.unwrap_or(0), time: time.map(Micros) })
    }

    /// Where the log has the event of a new message, if it still has it.
    ///
    /// # Errors
    /// When Redis does not answer in time.
    pub async fn place_of(&self, topic: Topic, message: MessageId) -> Result<Option<Place>, BusError> {
        let position = self.position(topic).await?;
        let (first, last) = (position.published.saturating_sub(KEPT as u64), position.published + KEPT as u64);
        let events = self.read(topic, position.epoch, first, last).await?;
        let begins = event::new_message_begins(message);
        let found = events.iter().find(|event| event.kind == Kind::Message && event.body.starts_with(&begins));
        Ok(found.and_then(|event| event.place))
    }

    /// The logged events of offsets `from` to `to`, both included, in order. What was trimmed is missing.
    ///
    /// # Errors
    /// When Redis does not answer in time.
    pub async fn read(&self, topic: Topic, epoch: u64, from: u64, to: u64) -> Result<Vec<Envelope>, BusError> {
        let mut range = redis::cmd("ZRANGEBYSCORE");
        range.arg(keyspace::log(topic)).arg(from).arg(to);
        let mut connection = self.connection.clone();
        let read = BusError::within("reading a log", range.query_async(&mut connection));
        let entries: Vec<Vec<u8>> = read.await?;
        let envelopes = entries.into_iter().filter_map(|bytes| match Payload::decode(&Bytes::from(bytes)) {
            Ok(Payload::Envelope(envelope)) => Some(envelope),
            _ => None,
        });
        Ok(envelopes.filter(|envelope| envelope.place.is_some_and(|place| place.epoch == epoch)).collect())
    }
}

/// A new epoch: random, so that a log that was lost and begun again is never taken for the old one. Below 2^53, because
/// clients may read it as a JavaScript number.
fn new_epoch() -> String {
    (rand::random::<u64>() >> 11 | 1).to_string()
}

fn parse_epoch(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}
