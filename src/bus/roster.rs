//! Which instances there are, and the way to ask all of them something.
//!
//! Each instance says every few seconds how it is. A question goes to all over the control channel; the answers are
//! gathered in one list of Redis. What is asked and said is the caller's affair. Must never be needed by a client: all of
//! it is for operators.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use redis::Script;
use serde_json::Value;
use uuid::Uuid;

use super::BusError;
use crate::domain::InstanceName;
use crate::keyspace;
use crate::realtime::{self, Connection};

/// How often an instance says how it is.
pub const EVERY: Duration = Duration::from_secs(2);
/// An instance that was silent for longer is not asked and not waited for.
const SILENT: Duration = Duration::from_secs(8);
/// How long all answers to a question may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often the answers are looked at.
const LOOK: Duration = Duration::from_millis(20);

/// KEYS: instances; ARGV: seconds that a silent one is remembered, instance, what it says. Forgets who was silent for longer.
static SAY: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"local clock = redis.call('TIME')
          local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
          redis.call('HSET', KEYS[1], ARGV[2], string.format('%.0f', now) .. ' ' .. ARGV[3])
          redis.call('EXPIRE', KEYS[1], ARGV[1])
          local all = redis.call('HGETALL', KEYS[1])
          for i = 1, #all, 2 do
            local said = tonumber(string.match(all[i + 1], '^%d+')) or 0
            if now - said > ARGV[1] * 1000 then redis.call('HDEL', KEYS[1], all[i]) end
          end",
    )
});

/// KEYS: instances. Returns each with the milliseconds since its last word, and that word.
static ALL: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"local clock = redis.call('TIME')
          local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
          local all, found = redis.call('HGETALL', KEYS[1]), {}
          for i = 1, #all, 2 do
            local at, said = string.match(all[i + 1], '^(%d+) (.*)$')
            if at then table.insert(found, {all[i], math.max(0, now - at), said}) end
          end
          return found",
    )
});

/// KEYS: answers to a question; ARGV: seconds that they are kept, one more. At once, so that none is kept for ever.
static ANSWER: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"redis.call('RPUSH', KEYS[1], ARGV[2])
          redis.call('EXPIRE', KEYS[1], ARGV[1])",
    )
});

/// An instance, and what it last said of itself.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its name.
    pub name: String,
    /// How long ago that was.
    pub age: Duration,
    /// What it said.
    pub status: Value,
}

impl Known {
    /// Whether it has said nothing for so long that it counts as gone.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.age >= SILENT
    }
}

/// The instances. Cloning is cheap and gives the same ones.
#[derive(Clone)]
pub struct Roster {
    connection: Connection,
}

impl Roster {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection }
    }

    /// Says how an instance is.
    ///
    /// # Errors
    /// When Redis does not answer in time.
    pub async fn say(&self, name: &InstanceName, status: &Value) -> Result<(), BusError> {
        let mut call = SAY.key(keyspace::INSTANCES);
        call.arg(keyspace::INSTANCES_SECONDS).arg(name.as_str()).arg(status.to_string());
        BusError::within("telling of this instance", call.invoke_async(&mut self.connection.clone())).await
    }

    /// Takes an instance off the list: it is going away.
    ///
    /// # Errors
    /// When Redis does not answer in time; it is forgotten after a minute then.
    pub async fn leave(&self, name: &InstanceName) -> Result<(), BusError> {
        let mut forget = redis::cmd("HDEL");
        forget.arg(keyspace::INSTANCES).arg(name.as_str());
        BusError::within("leaving the instances", forget.query_async(&mut self.connection.clone())).await
    }

    /// All that were heard of within the last minute, by name.
    ///
    /// # Errors
    /// When Redis does not answer in time.
    pub async fn all(&self) -> Result<Vec<Known>, BusError> {
        let call = ALL.key(keyspace::INSTANCES);
        let mut connection = self.connection.clone();
        let asked = call.invoke_async(&mut connection);
        let found: Vec<(String, u64, String)> = BusError::within("listing the instances", asked).await?;
        let known = |(name, age, said): (String, u64, String)| {
            let status = serde_json::from_str(&said).ok()?;
            Some(Known { name, age: Duration::from_millis(age), status })
        };
        let mut all: Vec<_> = found.into_iter().filter_map(known).collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(all)
    }

    /// Gives an order to all instances, this one too.
    ///
    /// # Errors
    /// When Redis does not take it in time.
    pub async fn order(&self, order: &Value) -> Result<(), BusError> {
        let order = realtime::publish(keyspace::CONTROL, order.to_string().as_bytes());
        BusError::within("giving an order", order.query_async(&mut self.connection.clone())).await
    }

    /// Asks all living instances, or one, and gathers what they answer within three seconds. Returns the names of those
    /// that did not answer, too. Who asks all answers as well, also before it first told of itself.
    ///
    /// # Errors
    /// When Redis does not answer in time.
    pub async fn ask(
        &self,
        asker: &InstanceName,
        only: Option<&str>,
        question: &Value,
    ) -> Result<(BTreeMap<String, Value>, Vec<String>), BusError> {
        let id = Uuid::new_v4();
        let living = self.all().await?.into_iter().filter(|known| !known.is_silent()).map(|known| known.name);
        let mut waiting: Vec<_> = living.filter(|name| only.is_none_or(|only| only == name)).collect();
        if only.is_some() && waiting.is_empty() {
            return Ok((BTreeMap::new(), waiting));
        }
        if only.is_none() && !waiting.iter().any(|name| name == asker.as_str()) {
            waiting.push(asker.as_str().to_owned());
        }
        let order = serde_json::json!({ "action": "ask", "id": id, "instance": only, "question": question });
        self.order(&order).await?;
        let (began, mut answers) = (Instant::now(), BTreeMap::new());
        while !waiting.is_empty() && began.elapsed() < PATIENCE {
            tokio::time::sleep(LOOK).await;
            let mut look = redis::cmd("LRANGE");
            look.arg(keyspace::answer(id)).arg(0).arg(-1);
            let mut connection = self.connection.clone();
            let said: Vec<String> = BusError::within("gathering answers", look.query_async(&mut connection)).await?;
            let read = said.iter().filter_map(|answer| serde_json::from_str::<(String, Value)>(answer).ok());
            answers.extend(read);
            waiting.retain(|name| !answers.contains_key(name));
        }
        Ok((answers, waiting))
    }

    /// Answers a question.
    ///
    /// # Errors
    /// When Redis does not take it in time.
    pub async fn answer(&self, id: Uuid, name: &InstanceName, answer: &Value) -> Result<(), BusError> {
        let mut call = ANSWER.key(keyspace::answer(id));
        call.arg(keyspace::ANSWER_SECONDS).arg(serde_json::json!([name.as_str(), answer]).to_string());
        BusError::within("answering", call.invoke_async(&mut self.connection.clone())).await
    }
}
