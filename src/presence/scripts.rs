//! The room's keys in Redis and the scripts that change them, each one atomic. Redis's clock decides, so the instances'
//! clocks do not matter. A script touches the keys of one room only.

use std::sync::LazyLock;
use std::time::Duration;

use redis::{Cmd, FromRedisValue, Script, ScriptInvocation};

use super::{DEADLINE, PresenceError, Timing};
use crate::domain::{InstanceName, RoomId, Topic, UserId};
use crate::keyspace;
use crate::realtime::{self, Connection};

static JOIN: LazyLock<Script> = LazyLock::new(|| realtime::script(include_str!("lua/join.lua")));
static RENEW: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/renew.lua")));
static LEAVE: LazyLock<Script> = LazyLock::new(|| realtime::script(include_str!("lua/leave.lua")));
static REAP: LazyLock<Script> = LazyLock::new(|| realtime::script(include_str!("lua/reap.lua")));

/// Most users in one call, so that no script holds Redis up for long.
pub(super) const BATCH: usize = 256;

/// What a join found.
pub(super) struct Joined {
    pub(super) first: bool,
    pub(super) online: u64,
    pub(super) epoch: u64,
    pub(super) expired: u64,
    pub(super) sample: Vec<UserId>,
}

/// What a renewal found.
pub(super) struct Renewed {
    pub(super) epoch: u64,
    pub(super) missing: Vec<UserId>,
    pub(super) expired: Vec<UserId>,
}

/// One instance's way to the rooms' keys.
pub(super) struct Scripts {
    connection: Connection,
    instance: InstanceName,
    timing: Timing,
}

impl Scripts {
    pub(super) fn new(connection: Connection, instance: InstanceName, timing: Timing) -> Self {
        Self { connection, instance, timing }
    }

    pub(super) async fn join(&self, room: RoomId, user: UserId, joined: &[u8]) -> Result<Joined, PresenceError> {
        let mut call = invocation(&JOIN, room);
        let (lease, live) = self.timing.terms(false);
        call.arg(self.instance.as_str()).arg(lease).arg(live).arg(user.0).arg(joined);
        let (first, online, epoch, expired, sample): (bool, u64, u64, u64, Vec<i64>) = self.ask(&call).await?;
        Ok(Joined { first, online, epoch, expired, sample: users(sample) })
    }

    /// Renews what this instance has in a room. `leaving`: for the last time perhaps, see [`Timing::terms`].
    pub(super) async fn renew(
        &self,
        room: RoomId,
        known: u64,
        here: &[UserId],
        leaving: bool,
    ) -> Result<Renewed, PresenceError> {
        let mut call = invocation(&RENEW, room);
        let (lease, live) = self.timing.terms(leaving);
        call.arg(self.instance.as_str()).arg(lease).arg(live).arg(known);
        for user in here {
            call.arg(user.0);
        }
        let (epoch, missing, expired): (u64, Vec<i64>, Vec<i64>) = self.ask(&call).await?;
        Ok(Renewed { epoch, missing: users(missing), expired: users(expired) })
    }

    /// Each user comes with whether the seat was ever confirmed, and the announcement. Returns who was announced.
    pub(super) async fn leave(
        &self,
        room: RoomId,
        known: u64,
        gone: &[(UserId, bool, Vec<u8>)],
    ) -> Result<Vec<UserId>, PresenceError> {
        let mut call = invocation(&LEAVE, room);
        call.arg(self.instance.as_str()).arg(known).arg(self.timing.terms(false).1);
        for (user, held, left) in gone {
            call.arg(user.0).arg(u8::from(*held)).arg(left.as_slice());
        }
        Ok(users(self.ask(&call).await?))
    }

    /// Returns who was announced, and who else's lease has ended.
    pub(super) async fn reap(
        &self,
        room: RoomId,
        expired: &[(UserId, Vec<u8>)],
    ) -> Result<(Vec<UserId>, Vec<UserId>), PresenceError> {
        let mut call = invocation(&REAP, room);
        for (user, left) in expired {
            call.arg(user.0).arg(left.as_slice());
        }
        let (announced, more): (Vec<i64>, Vec<i64>) = self.ask(&call).await?;
        Ok((users(announced), users(more)))
    }

    pub(super) async fn online(&self, room: RoomId) -> Result<(u64, Vec<UserId>), PresenceError> {
        let key = keyspace::presence(room);
        let mut both = redis::pipe();
        both.zcard(&key).zrevrange(&key, 0, 99);
        let mut connection = self.connection.clone();
        let (online, sample): (u64, Vec<i64>) = within(both.query_async(&mut connection)).await?;
        Ok((online, users(sample)))
    }

    pub(super) async fn counts(&self, rooms: &[RoomId]) -> Result<Vec<u64>, PresenceError> {
        if rooms.is_empty() {
            return Ok(Vec::new());
        }
        let all = rooms.iter().map(|room| Cmd::zcard(keyspace::presence(room))).collect();
        within(self.connection.all(all)).await
    }

    async fn ask<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, PresenceError> {
        within(call.invoke_async(&mut self.connection.clone())).await
    }
}

/// Gives a call its deadline: while the connection is being made again, the client would wait without end.
pub(super) async fn within<T>(call: impl Future<Output = redis::RedisResult<T>>) -> Result<T, PresenceError> {
    tokio::time::timeout(DEADLINE, call).await.map_err(|_| PresenceError::Late)?.map_err(PresenceError::Redis)
}

/// The room's keys and its channel, in the order in which every script takes them.
fn invocation(script: &'static Script, room: RoomId) -> ScriptInvocation<'static> {
    let mut call = script.key(keyspace::presence(room));
    call.key(keyspace::seats(room)).key(keyspace::places(room)).key(keyspace::presence_state(room));
    call.key(keyspace::channel(Topic::Room(room)));
    call
}

fn users(ids: Vec<i64>) -> Vec<UserId> {
    ids.into_iter().map(UserId).collect()
}

impl Timing {
    /// How long a lease lasts in Redis: short of the span by a quarter, which the renewal that finds it ended may take.
    pub(super) fn lease(self) -> Duration {
        self.span.mul_f64(0.75)
    }

    /// What a script is told: a lease's seconds, and how many milliseconds the keys live, which is a quarter of the span more.
    ///
    /// The lease lasts for all of the span when the instance is `leaving`: its people come back on another one, some of them
    /// only after one that is being replaced too has refused them, and must not be seen leaving meanwhile. No longer than
    /// that: who leaves the other instance is seen leaving only when this lease has ended.
    fn terms(self, leaving: bool) -> (f64, u64) {
        let lease = if leaving { self.span } else { self.lease() };
        let live = lease + self.span / 4;
        (lease.as_secs_f64(), u64::try_from(live.as_millis()).unwrap_or(u64::MAX))
    }

    /// Time between two renewals of the same room: two of them may fail.
    pub(super) fn round(self) -> Duration {
        self.lease() / 3
    }
}
