//! Tasks for Celery that wait to be handed over, in the realtime database: what was accepted survives this process.
//!
//! A task is its bytes: adding the same again changes nothing while it waits. Whoever takes tasks has them under a lease
//! and settles them when they are handed over; when it dies instead, another takes them after the lease. What a task
//! says is the caller's affair. A note among them stands for tasks that are still to be made: it is due later, and goes
//! when they are added.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use redis::Script;
use tokio::sync::Notify;

use super::BusError;
use crate::domain::UserId;
use crate::keyspace;
use crate::realtime::Connection;

/// How many tasks wait at most; one more is dropped.
pub const MOST: usize = 100_000;
/// How long whoever took a task has it for itself.
const LEASE: Duration = Duration::from_secs(30);

/// KEYS: tasks; ARGV: how many may wait, seconds to live, number of notes, notes that are done with, tasks. Returns how
/// many did not fit.
static ADD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"local clock = redis.call('TIME')
          local now = string.format('%.6f', clock[1] + clock[2] / 1000000)
          local notes = tonumber(ARGV[3])
          local room, dropped = ARGV[1] - redis.call('ZCARD', KEYS[1]), 0
          for i = 4 + notes, #ARGV do
            if room > 0 then
              room = room - redis.call('ZADD', KEYS[1], 'NX', now, ARGV[i])
            elseif not redis.call('ZSCORE', KEYS[1], ARGV[i]) then
              dropped = dropped + 1
            end
          end
          for i = 4, 3 + notes do redis.call('ZREM', KEYS[1], ARGV[i]) end
          redis.call('EXPIRE', KEYS[1], ARGV[2])
          return dropped",
    )
});

/// KEYS: tasks; ARGV: seconds until they are due, seconds to live, notes.
static NOTE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"local clock = redis.call('TIME')
          local due = string.format('%.6f', clock[1] + clock[2] / 1000000 + ARGV[1])
          for i = 3, #ARGV do redis.call('ZADD', KEYS[1], due, ARGV[i]) end
          redis.call('EXPIRE', KEYS[1], ARGV[2])",
    )
});

/// KEYS: tasks; ARGV: how many, seconds of the lease. Returns how many wait in all, and those taken.
static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"local clock = redis.call('TIME')
          local now = clock[1] + clock[2] / 1000000
          local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.6f', now), 'LIMIT', 0, ARGV[1])
          for _, task in ipairs(due) do
            redis.call('ZADD', KEYS[1], 'XX', string.format('%.6f', now + ARGV[2]), task)
          end
          return {redis.call('ZCARD', KEYS[1]), due}",
    )
});

/// The tasks. Cloning is cheap and gives the same ones.
#[derive(Clone)]
pub struct TaskQueue {
    connection: Connection,
    added: Arc<Notify>,
}

impl TaskQueue {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection, added: Arc::default() }
    }

    /// Leaves notes of tasks that are still to be made. Who takes tasks finds them after `delay`, if they are not done
    /// with before. There are never more than messages that are being committed, so that they always fit.
    ///
    /// # Errors
    /// When Redis does not answer in time.
    pub async fn note(&self, notes: &[Vec<u8>], delay: Duration) -> Result<(), BusError> {
        let mut call = NOTE.key(keyspace::TASKS);
        call.arg(delay.as_secs()).arg(keyspace::TASKS_SECONDS);
        for note in notes {
            call.arg(note.as_slice());
        }
        BusError::within("noting what is owed", call.invoke_async(&mut self.connection.clone())).await
    }

    /// Adds tasks, and forgets the notes that stood for them. Returns how many did not fit. May be repeated until it
    /// succeeds.
    ///
    /// # Errors
    /// When Redis does not answer in time.
    pub async fn add(&self, tasks: &[Vec<u8>], notes: &[Vec<u8>]) -> Result<u64, BusError> {
        let mut call = ADD.key(keyspace::TASKS);
        call.arg(MOST).arg(keyspace::TASKS_SECONDS).arg(notes.len());
        for task in notes.iter().chain(tasks) {
            call.arg(task.as_slice());
        }
        let mut connection = self.connection.clone();
        let dropped = BusError::within("keeping tasks", call.invoke_async(&mut connection)).await?;
        if !tasks.is_empty() {
            self.added.notify_one();
        }
        Ok(dropped)
    }

    /// Resolves when this process has added tasks since the last time.
    pub async fn added(&self) {
        self.added.notified().await;
    }

    /// Takes tasks that are due, oldest first, under a lease. Returns how many wait in all, too.
    ///
    /// # Errors
    /// When Redis does not answer in time.
    pub async fn take(&self, count: usize) -> Result<(u64, Vec<Vec<u8>>), BusError> {
        let mut call = TAKE.key(keyspace::TASKS);
        call.arg(count).arg(LEASE.as_secs());
        let mut connection = self.connection.clone();
        BusError::within("taking tasks", call.invoke_async(&mut connection)).await
    }

    /// Forgets tasks that were handed over.
    ///
    /// # Errors
    /// When Redis does not answer in time.
    pub async fn settle(&self, tasks: &[Vec<u8>]) -> Result<(), BusError> {
        if tasks.is_empty() {
            return Ok(());
        }
        let mut forget = redis::cmd("ZREM");
        forget.arg(keyspace::TASKS).arg(tasks);
        BusError::within("settling tasks", forget.query_async(&mut self.connection.clone())).await
    }

    /// Gives up the lease of tasks that could not be handed over: they are due again.
    ///
    /// # Errors
    /// When Redis does not answer in time; they are due after the lease then.
    pub async fn put_back(&self, tasks: &[Vec<u8>]) -> Result<(), BusError> {
        if tasks.is_empty() {
            return Ok(());
        }
        let mut due = redis::cmd("ZADD");
        due.arg(keyspace::TASKS).arg("XX");
        for task in tasks {
            due.arg(0).arg(task.as_slice());
        }
        BusError::within("putting tasks back", due.query_async(&mut self.connection.clone())).await
    }

    /// Says of each user whether any socket of theirs is open, anywhere.
    ///
    /// # Errors
    /// When Redis does not answer in time.
    pub async fn are_online(&self, users: &[UserId]) -> Result<Vec<bool>, BusError> {
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let ask = |user: &UserId| redis::cmd("EXISTS").arg(keyspace::sockets(*user)).to_owned();
        BusError::within("asking who is online", self.connection.all(users.iter().map(ask).collect())).await
    }
}
