//! The one task behind the presence: leaves after their grace, renewals spread over a round, and the sweep of leases
//! that ended. One task, because a renewal and a leave of the same seat must never overlap.

use std::sync::atomic::Ordering;

use futures_util::future::join_all;
use tokio::time::{Duration, Instant, sleep_until};

use super::local::{Books, Departure, SHARDS, Visit};
use super::scripts::BATCH;
use super::{Inner, PresenceError};
use crate::domain::{RoomId, UserId};
use crate::lifecycle::Lifecycle;

/// Rooms that are asked about at once.
const PIPELINED: usize = 32;

/// Where the round stands.
struct Round {
    next: usize,
    /// Shards that Redis did not answer for: they come first when it does.
    missed: [bool; SHARDS],
    /// All leases have been, or are to be, made longer for the way to another instance.
    last_begun: bool,
}

impl Inner {
    /// Runs until the lifecycle is stopping and nobody is here any more.
    pub(super) async fn upkeep(&self, lifecycle: &Lifecycle) {
        let pause = (self.timing.round() / u32::try_from(SHARDS).unwrap_or(1)).max(Duration::from_millis(1));
        let mut tick = Instant::now() + pause;
        let mut round = Round { next: 0, missed: [false; SHARDS], last_begun: false };
        loop {
            let departure = self.books.next_departure();
            let handed_over = self.handed_over.load(Ordering::Acquire);
            if handed_over && !round.last_begun {
                round.last_begun = true;
                round.missed = [true; SHARDS]; // the first are sent away at once
                self.renew_next(&mut round).await;
            }
            tokio::select! {
                () = sleep_until(tick) => {
                    self.renew_next(&mut round).await;
                    tick = Instant::now().max(tick + pause);
                }
                () = sleep_until(departure.unwrap_or(tick)), if departure.is_some() => self.leave_due().await,
                () = self.wake.notified() => self.visit_urgent(&mut round).await,
                () = lifecycle.stopping(), if !handed_over => self.hand_over(),
            }
            if lifecycle.is_stopping() && self.books.is_empty() {
                return;
            }
        }
    }

    /// Announces the leaves whose grace is over. One that fails is not tried again: its lease ends by itself.
    async fn leave_due(&self) {
        let mut calls = Vec::new();
        for departure in self.books.take_due(Instant::now()) {
            let Departure { room, epoch, users } = departure;
            let parts = users.chunks(BATCH).map(|users| Departure { room, epoch, users: users.to_vec() });
            calls.extend(parts);
        }
        for calls in calls.chunks(PIPELINED) {
            join_all(calls.iter().map(|departure| self.leave(departure))).await;
            self.settled.notify_waiters();
        }
    }

    async fn leave(&self, departure: &Departure) {
        let room = departure.room;
        let gone: Vec<_> =
            departure.users.iter().map(|(user, held)| (*user, *held, (self.words.left)(*user))).collect();
        match self.scripts.leave(room, departure.epoch, &gone).await {
            Ok(announced) => self.has_left(room, &announced),
            Err(error) => {
                self.count_failure();
                tracing::debug!(%room, %error, users = gone.len(), "leaves were lost: the leases will end");
            }
        }
        self.books.departed(departure);
    }

    /// Renews the next shard, and before it those that were missed. The first failure ends the attempt, so that an
    /// outage costs one deadline at a time and not one for each room.
    async fn renew_next(&self, round: &mut Round) {
        round.missed[round.next] = true;
        let first = round.next;
        round.next = (round.next + 1) % SHARDS;
        for step in 0..SHARDS {
            let shard = (first + step) % SHARDS;
            if round.missed[shard] {
                if self.visit_all(self.books.visits(shard)).await.is_err() {
                    round.missed = [true; SHARDS]; // time is being lost for all
                    return;
                }
                round.missed[shard] = false;
            }
        }
    }

    /// Visits rooms in which somebody's lease was seen to have ended.
    async fn visit_urgent(&self, round: &mut Round) {
        let rooms: Vec<RoomId> = self.urgent.lock().drain().collect();
        let visits = rooms.iter().filter_map(|room| self.books.visit(*room)).collect();
        if self.visit_all(visits).await.is_err() {
            for room in rooms {
                round.missed[Books::shard_of(room)] = true;
            }
        }
    }

    async fn visit_all(&self, visits: Vec<Visit>) -> Result<(), PresenceError> {
        for visits in visits.chunks(PIPELINED) {
            for answer in join_all(visits.iter().map(|visit| self.visit(visit))).await {
                answer.inspect_err(|error| {
                    self.count_failure();
                    tracing::debug!(%error, "presence was not renewed");
                })?;
            }
        }
        Ok(())
    }

    /// Renews this instance's seats in a room, then removes whose lease has ended.
    async fn visit(&self, visit: &Visit) -> Result<(), PresenceError> {
        let room = visit.room;
        let mut expired = Vec::new();
        let mut epoch = visit.epoch;
        let leaving = self.handed_over.load(Ordering::Acquire);
        for users in visit.users.chunks(BATCH) {
            let renewed = self.scripts.renew(room, visit.epoch, users, leaving).await?;
            for missing in renewed.missing.chunks(PIPELINED) {
                for answer in join_all(missing.iter().map(|user| self.rejoin(room, *user))).await {
                    answer?;
                }
            }
            (epoch, expired) = (renewed.epoch, renewed.expired);
        }
        self.books.renewed(room, epoch);
        while !expired.is_empty() {
            expired = self.reap(room, &expired).await?;
        }
        Ok(())
    }

    /// Joins a user again who is here but was announced as gone, because this instance could not renew in time.
    async fn rejoin(&self, room: RoomId, user: UserId) -> Result<(), PresenceError> {
        if let Some(joined) = self.books.person(room, user).map(|person| (self.words.joined)(&person))
            && self.scripts.join(room, user, &joined).await?.first
        {
            self.has_joined(room, &joined);
        }
        Ok(())
    }

    async fn reap(&self, room: RoomId, expired: &[UserId]) -> Result<Vec<UserId>, PresenceError> {
        let expired: Vec<_> = expired.iter().map(|user| (*user, (self.words.left)(*user))).collect();
        let (announced, more) = self.scripts.reap(room, &expired).await?;
        self.metrics.presence_expired_total.inc_by(announced.len() as u64);
        self.has_left(room, &announced);
        Ok(more)
    }
}
