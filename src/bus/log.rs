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
/// How many bytes of events a log keeps.
pub const KEPT_BYTES: usize = 4 * 1024 * 1024;
/// Of how many offsets it is remembered what became of them.
pub const TRACED: u64 = 5_000;

static RESERVE: LazyLock<Script> =
    LazyLock::new(|| Script::new(concat!(include_str!("lua/begin.lua"), include_str!("lua/reserve.lua"))));
static POSITION: LazyLock<Script> =
    LazyLock::new(|| Script::new(concat!(include_str!("lua/begin.lua"), include_str!("lua/position.lua"))));
static PUBLISH: LazyLock<Script> = LazyLock::new(|| {
    let parts = concat!(include_str!("lua/index.lua"), include_str!("lua/settle.lua"), include_str!("lua/publish.lua"));
    realtime::script(parts)
});
static TRACES: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/traces.lua")));

/// Where a topic stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    pub epoch: u64,
    /// Everything up to here is committed, logged and sent; 0 before the first event.
    pub published: u64,
    /// The last offset that was taken. What lies between is being committed, or its owner is gone.
    pub taken: u64,
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

/// How `lua/position.lua` says where a topic stands: epoch, published, time, taken, notes.
type Stands = (String, u64, Option<i64>, u64, Vec<Vec<u8>>);

/// What an offset is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Note {
    /// A new message.
    New(MessageId),
    /// A change of a message that exists.
    Changed(MessageId),
}

impl Note {
    /// The message that it is about.
    #[must_use]
    pub fn message(&self) -> MessageId {
        match self {
            Self::New(message) | Self::Changed(message) => *message,
        }
    }

    /// As Redis keeps it: the letter and the id of the record that it will be in the index.
    #[must_use]
    pub fn record(&self) -> [u8; TRACE] {
        let mut record = [0; TRACE];
        record[0] = if matches!(self, Self::New(_)) { b'n' } else { b'c' };
        record[1..].copy_from_slice(self.message().0.as_bytes());
        record
    }

    fn read(record: &[u8]) -> Option<Self> {
        match Trace::read(record) {
            Trace::Noted(note) => Some(note),
            Trace::Void | Trace::Untold => None,
        }
    }
}

/// What became of an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trace {
    /// It is about a message, which Postgres has.
    Noted(Note),
    /// Nothing ever came.
    Void,
    /// An event that is nowhere but in the log.
    Untold,
}

/// How many bytes tell it.
pub const TRACE: usize = 17;

impl Trace {
    fn read(record: &[u8]) -> Self {
        let id = || record.get(1..).and_then(|id| uuid::Uuid::from_slice(id).ok()).map(MessageId);
        match record.first() {
            Some(b'n') => id().map_or(Self::Untold, |id| Self::Noted(Note::New(id))),
            Some(b'c') => id().map_or(Self::Untold, |id| Self::Noted(Note::Changed(id))),
            Some(b'v') => Self::Void,
            _ => Self::Untold,
        }
    }
}

/// The logs of all topics.
#[derive(Clone)]
pub struct Log {
    pub(super) connection: Connection,
    pub(super) metrics: Arc<Metrics>,
}

impl Log {
    pub(super) fn new(connection: Connection, metrics: Arc<Metrics>) -> Self {
        Self { connection, metrics }
    }

    /// Takes the next `count` offsets of each topic and returns the first of each. One round trip for all. `notes` says
    /// what each offset is for, in their order, or is empty.
    ///
    /// # Errors
    /// When Redis does not answer in time; offsets may have been taken all the same and stay holes until somebody
    /// voids them.
    pub async fn reserve(&self, wanted: &[(Topic, u32)], notes: &[Note]) -> Result<Vec<Place>, BusError> {
        let mut rest = notes;
        let noted: Vec<_> = wanted
            .iter()
            .map(|(topic, count)| {
                let (of_topic, others) = rest.split_at((*count as usize).min(rest.len()));
                rest = others;
                (*topic, *count, of_topic)
            })
            .collect();
        let answers = join_all(noted.into_iter().map(|(topic, count, notes)| {
            let mut connection = self.connection.clone();
            async move {
                let mut call = RESERVE.key(keyspace::position(topic));
                call.key(keyspace::log(topic)).key(keyspace::taken(topic)).key(keyspace::index(topic));
                call.arg(count).arg(new_epoch()).arg(keyspace::POSITION_SECONDS);
                for note in notes {
                    call.arg(&note.record()[..]);
                }
                let taken = BusError::within("taking offsets", call.invoke_async(&mut connection));
                let (epoch, offset): (String, u64) = taken.await?;
                Ok(Place { epoch: parse_epoch(&epoch), offset })
            }
        }))
        .await;
        answers.into_iter().collect()
    }

    /// Logs and publishes events of one topic at consecutive offsets of one epoch. May be repeated until it succeeds.
    /// Returns how many were news.
    ///
    /// # Errors
    /// When Redis does not answer in time.
    pub async fn publish(&self, topic: Topic, first: Place, events: &[Envelope]) -> Result<u64, BusError> {
        let script = &*PUBLISH;
        let mut call = script.key(keyspace::position(topic));
        call.key(keyspace::log(topic))
            .key(keyspace::taken(topic))
            .key(keyspace::index(topic))
            .arg(keyspace::channel(topic))
            .arg(first.epoch.to_string())
            .arg(first.offset)
            .arg(KEPT)
            .arg(KEPT_BYTES)
            .arg(keyspace::LOG_SECONDS)
            .arg(keyspace::POSITION_SECONDS)
            .arg(Kind::Void as u8)
            .arg(LUA_TIME)
            .arg(TRACED)
            .arg(keyspace::INDEX_SECONDS);
        for event in events {
            call.arg(event.encode());
        }
        let news = BusError::within("publishing", call.invoke_async(&mut self.connection.clone())).await?;
        for event in events {
            self.metrics.bus_published_total.with_label_values(&[event.kind.as_str()]).inc();
        }
        Ok(news)
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

    /// Publishes an event's JSON as Django does, with `to` and `except`, if it has them: who hears it logs it.
    ///
    /// # Errors
    /// When Redis does not answer in time.
    pub async fn tell(&self, topic: Topic, event: Vec<u8>) -> Result<(), BusError> {
        let publish = realtime::publish(&keyspace::channel(topic), &event);
        BusError::within("publishing", publish.query_async(&mut self.connection.clone())).await
    }

    /// Where many topics stand, in their order; `None` of those that Redis does not tell. One command, but in a Cluster,
    /// where each is in a slot of its own.
    pub async fn positions(&self, topics: &[Topic]) -> Vec<Option<Position>> {
        let together = if keyspace::are_ids_tagged() { 1 } else { topics.len().max(1) };
        let parts = topics.chunks(together).map(|part| async move {
            match self.look_up(part).await {
                Ok(found) => found.into_iter().map(|(position, _)| Some(position)).collect(),
                // It answered: one key that somebody else wrote must not keep the others from being looked at.
                Err(BusError::Redis { source, .. }) if part.len() > 1 && source.code().is_some() => {
                    let told = |error: &BusError| tracing::debug!(%error, "a position could not be read");
                    let one = |topic: &Topic| self.position(*topic);
                    let alone = join_all(part.iter().map(one)).await;
                    alone.into_iter().map(|position| position.inspect_err(told).ok()).collect()
                }
                Err(error) => {
                    tracing::debug!(%error, topics = part.len(), "positions could not be read");
                    vec![None; part.len()]
                }
            }
        });
        join_all(parts).await.into_iter().flatten().collect()
    }

    /// Where a topic stands.
    ///
    /// # Errors
    /// When Redis does not answer in time.
    pub async fn position(&self, topic: Topic) -> Result<Position, BusError> {
        Ok(self.position_and_notes(topic).await?.0)
    }

    /// Where a topic stands, and what the offsets are for that are taken and not published.
    ///
    /// # Errors
    /// When Redis does not answer in time.
    pub async fn position_and_notes(&self, topic: Topic) -> Result<(Position, Vec<Note>), BusError> {
        Ok(self.look_up(&[topic]).await?.pop().unwrap_or_default())
    }

    /// Where topics of one slot stand, and what their offsets are for that are taken and not published.
    async fn look_up(&self, topics: &[Topic]) -> Result<Vec<(Position, Vec<Note>)>, BusError> {
        let mut call = POSITION.prepare_invoke();
        for topic in topics {
            call.key(keyspace::position(*topic)).key(keyspace::log(*topic));
            call.key(keyspace::taken(*topic)).key(keyspace::index(*topic));
        }
        call.arg(new_epoch()).arg(keyspace::POSITION_SECONDS);
        let mut connection = self.connection.clone();
        let answer = BusError::within("reading positions", call.invoke_async(&mut connection));
        let found: Vec<Stands> = answer.await?;
        let read = |(epoch, published, time, taken, notes): Stands| {
            let position = Position { epoch: parse_epoch(&epoch), published, taken, time: time.map(Micros) };
            (position, notes.iter().filter_map(|note| Note::read(note)).collect())
        };
        Ok(found.into_iter().map(read).collect())
    }

    /// What each of the offsets from `first` to `last` is for, if that was noted and it is not published.
    ///
    /// # Errors
    /// When Redis does not answer in time.
    pub async fn notes(&self, topic: Topic, first: u64, last: u64) -> Result<Vec<Option<Note>>, BusError> {
        let mut get = redis::cmd("HMGET");
        get.arg(keyspace::taken(topic));
        for offset in first..=last {
            get.arg(offset);
        }
        let mut connection = self.connection.clone();
        let notes: Vec<Option<Vec<u8>>> =
            BusError::within("reading what offsets are for", get.query_async(&mut connection)).await?;
        Ok(notes.into_iter().map(|note| Note::read(&note?)).collect())
    }

    /// What became of each of the offsets from `first` to `last`, which were published; `None` when it is not known of all.
    ///
    /// # Errors
    /// When Redis does not answer in time.
    pub async fn traces(&self, topic: Topic, first: Place, last: u64) -> Result<Option<Vec<Trace>>, BusError> {
        let mut call = TRACES.key(keyspace::position(topic));
        call.key(keyspace::index(topic)).arg(first.epoch.to_string()).arg(first.offset).arg(last);
        let mut connection = self.connection.clone();
        let records: Vec<u8> =
            BusError::within("reading what became of offsets", call.invoke_async(&mut connection)).await?;
        let traces = records.chunks(TRACE).map(Trace::read).collect::<Vec<_>>();
        Ok((!traces.is_empty()).then_some(traces))
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
        self.read_page(topic, epoch, from, to, KEPT).await
    }

    /// The first of those, `most` at most.
    ///
    /// # Errors
    /// When Redis does not answer in time.
    pub async fn read_page(
        &self,
        topic: Topic,
        epoch: u64,
        from: u64,
        to: u64,
        most: usize,
    ) -> Result<Vec<Envelope>, BusError> {
        let mut range = redis::cmd("ZRANGEBYSCORE");
        range.arg(keyspace::log(topic)).arg(from).arg(to).arg("LIMIT").arg(0).arg(most);
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
pub(super) fn new_epoch() -> String {
    (rand::random::<u64>() >> 11 | 1).to_string()
}

pub(super) fn parse_epoch(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}
