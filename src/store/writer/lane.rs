//! One lane of the writer: takes what waits, writes it, answers, and hands it to its publisher.
//!
//! Everything a lane does has a deadline but one: it does not go on before it knows what became of a commit, because it
//! must publish or void what it reserved.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::batch::{Fault, Places, Unknown, Written};
use super::{Committed, Draft, Outlet, Stored, WriteError};
use crate::domain::RoomId;
use crate::lifecycle::Lifecycle;
use crate::store::Store;
use crate::telemetry::Metrics;
use crate::telemetry::trace::{self, Context, Span};

/// How long a batch waits for its rooms' locks.
const LOCK_WAIT: Duration = Duration::from_secs(3);

/// How long a room waits for its lock after its batch could not get all of its own.
const SHORT_LOCK_WAIT: Duration = Duration::from_millis(100);

/// How often a batch is tried again at once because somebody was in the way.
const CONFLICTS: u32 = 3;

/// How long senders wait to hear what became of a commit whose answer was lost.
const LOOK_UP: Duration = Duration::from_secs(5);

/// Batches that may wait to be published before the lane stops writing.
const UNPUBLISHED: usize = 8;

/// A message in the queue.
#[derive(Debug)]
pub(super) struct Job<T> {
    pub draft: Draft,
    pub payload: T,
    /// Where its sender waits. `None` once it is answered.
    pub answer: Option<oneshot::Sender<Result<Stored, WriteError>>>,
    /// Set by the lane that begins to write it, or by its sender who withdraws it.
    pub taken: Arc<AtomicBool>,
    /// What its sender works on, if that is traced.
    pub trace: Option<Context>,
}

impl<T> Job<T> {
    fn answer(&mut self, result: Result<Stored, WriteError>) {
        if let Some(answer) = self.answer.take() {
            let _ = answer.send(result); // a sender who left does not want to know
        }
    }
}

/// Work for the publisher, in the order of the room.
enum Parcel<T> {
    Committed(Vec<Committed<T>>),
    Void(Places),
}

/// Some jobs that are to be tried together.
struct Attempt<T> {
    jobs: Vec<Job<T>>,
    lock_wait: Duration,
    conflicts: u32,
}

pub(super) struct Lane<O: Outlet> {
    store: Store,
    outlet: Arc<O>,
    lifecycle: Lifecycle,
    publisher: mpsc::Sender<Parcel<O::Payload>>,
    metrics: Arc<Metrics>,
}

impl<O: Outlet> Lane<O> {
    /// Starts a lane and its publisher.
    pub(super) fn start(
        store: &Store,
        outlet: &Arc<O>,
        lifecycle: &Lifecycle,
        jobs: mpsc::Receiver<Job<O::Payload>>,
        closing: CancellationToken,
        batch: usize,
        metrics: &Arc<Metrics>,
    ) {
        let (publisher, parcels) = mpsc::channel(UNPUBLISHED);
        lifecycle.spawn_vital("publisher", publish(Arc::clone(outlet), parcels));
        let lane = Self {
            store: store.clone(),
            outlet: Arc::clone(outlet),
            lifecycle: lifecycle.clone(),
            publisher,
            metrics: Arc::clone(metrics),
        };
        lifecycle.spawn_vital("writer", lane.run(jobs, closing, batch));
    }

    async fn run(self, mut queue: mpsc::Receiver<Job<O::Payload>>, closing: CancellationToken, batch: usize) {
        let mut waiting = Vec::with_capacity(batch);
        loop {
            let count = tokio::select! {
                count = queue.recv_many(&mut waiting, batch) => count,
                () = closing.cancelled(), if !queue.is_closed() => {
                    queue.close();
                    continue;
                }
                () = self.lifecycle.aborted() => 0,
            };
            if count == 0 {
                return; // closed and empty, or aborted: those who still wait learn it from their dropped answer
            }
            self.metrics.write_queue.sub(i64::try_from(count).unwrap_or(i64::MAX));
            let jobs: Vec<_> = waiting.drain(..).filter(|job| !job.taken.swap(true, Ordering::AcqRel)).collect();
            self.write(jobs).await;
        }
    }

    /// Writes jobs in one transaction if that works, in several if it does not: one that is bad fails alone, and so
    /// does a room that is locked. The order of each room is kept.
    async fn write(&self, jobs: Vec<Job<O::Payload>>) {
        let mut attempts = VecDeque::from([Attempt { jobs, lock_wait: LOCK_WAIT, conflicts: 0 }]);
        while let Some(mut attempt) = attempts.pop_front() {
            if attempt.jobs.is_empty() {
                continue;
            }
            let drafts: Vec<&Draft> = attempt.jobs.iter().map(|job| &job.draft).collect();
            let mut spans = spans(&attempt.jobs);
            let none = Span::default();
            let writing = self.store.write_batch(&drafts, attempt.lock_wait, self.outlet.as_ref());
            let written = spans.first().unwrap_or(&none).within(pin!(writing)).await;
            if written.is_err() {
                spans.iter_mut().for_each(Span::fail);
            }
            drop(spans);
            let failed = match written {
                Ok(written) => {
                    self.settle(attempt.jobs, written).await;
                    continue;
                }
                Err(failed) => failed,
            };
            self.leave_empty(failed.places).await;
            match failed.fault {
                Fault::Row(_) if attempt.jobs.len() > 1 => {
                    let later = attempt.jobs.split_off(attempt.jobs.len() / 2);
                    attempts.push_front(Attempt { jobs: later, ..attempt });
                    attempts.push_front(Attempt { jobs: attempt.jobs, ..attempt });
                }
                Fault::Row(rejection) => refuse(attempt.jobs, &WriteError::Rejected(rejection)),
                Fault::Locked => {
                    let mut rooms = by_room(attempt.jobs);
                    if rooms.len() == 1 {
                        refuse(rooms.remove(0), &unavailable(2));
                        continue;
                    }
                    for jobs in rooms.into_iter().rev() {
                        attempts.push_front(Attempt { jobs, lock_wait: SHORT_LOCK_WAIT, conflicts: 0 });
                    }
                }
                Fault::Conflict if attempt.conflicts < CONFLICTS => {
                    attempts.push_front(Attempt { conflicts: attempt.conflicts + 1, ..attempt });
                }
                Fault::Conflict => refuse(attempt.jobs, &unavailable(1)),
                Fault::Unknown(unknown) => self.look_up(attempt.jobs, unknown).await,
                fault @ (Fault::Down(_) | Fault::NoOffsets(_)) => {
                    self.report(&fault);
                    // What does not work for these does not work for the rest either.
                    refuse(attempt.jobs, &unavailable(2));
                    for rest in attempts.drain(..) {
                        refuse(rest.jobs, &unavailable(2));
                    }
                }
            }
        }
    }

    fn report(&self, fault: &Fault) {
        match fault {
            Fault::Down(error) => {
                self.metrics.store_failures_total.with_label_values(&[error.reason()]).inc();
                tracing::warn!(%error, "messages cannot be written");
            }
            Fault::NoOffsets(why) => tracing::warn!(why, "messages cannot be given their place"),
            _ => {}
        }
    }

    /// Answers the senders of a committed transaction and hands its messages on.
    async fn settle(&self, jobs: Vec<Job<O::Payload>>, written: Written) {
        let mut committed = Vec::with_capacity(jobs.len());
        let at = Instant::now().into_std();
        for (mut job, verdict) in jobs.into_iter().zip(written.verdicts) {
            job.answer(verdict.clone());
            self.metrics.messages_stored_total.inc_by(u64::from(verdict.is_ok()));
            if let Ok(stored) = verdict
                && !job.draft.is_hidden()
            {
                committed.push(Committed { draft: job.draft, payload: job.payload, stored, at });
            }
        }
        self.metrics.write_batches_total.inc();
        if !committed.is_empty() {
            self.hand_on(Parcel::Committed(committed)).await;
        }
        self.leave_empty(written.void).await;
    }

    /// Finds out what became of a commit. Its senders learn after a while that it cannot be told; the lane goes on
    /// asking, since what was committed must be published and what was not must be voided.
    async fn look_up(&self, mut jobs: Vec<Job<O::Payload>>, unknown: Unknown) {
        tracing::warn!(messages = unknown.ids.len(), "the answer to a commit was lost: looking it up");
        let started = Instant::now();
        let mut pause = Duration::from_millis(20);
        loop {
            match self.store.was_committed(&unknown).await {
                Ok(Some(true)) => return self.settle(jobs, unknown.written).await,
                Ok(Some(false)) => {
                    self.leave_empty(unknown.places).await;
                    return refuse(jobs, &unavailable(1));
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "a commit cannot be looked up"),
            }
            if started.elapsed() > LOOK_UP {
                for job in &mut jobs {
                    job.answer(Err(WriteError::Uncertain));
                }
            }
            tokio::select! {
                () = sleep(pause) => pause = (pause * 2).min(Duration::from_secs(1)),
                () = self.lifecycle.aborted() => return,
            }
        }
    }

    /// Has it said that nothing comes at these places.
    async fn leave_empty(&self, places: Places) {
        if !places.is_empty() {
            self.hand_on(Parcel::Void(places)).await;
        }
    }

    async fn hand_on(&self, parcel: Parcel<O::Payload>) {
        // Fails only when the publisher is gone, which ends the process.
        let _ = self.publisher.send(parcel).await;
    }
}

/// Publishes a lane's parcels one after the other.
async fn publish<O: Outlet>(outlet: Arc<O>, mut parcels: mpsc::Receiver<Parcel<O::Payload>>) {
    while let Some(parcel) = parcels.recv().await {
        match parcel {
            Parcel::Committed(committed) => outlet.publish(committed).await,
            Parcel::Void(places) => outlet.void(places).await,
        }
    }
}

/// The transaction as a part of each message's trace; what is done in it is a part of the first's.
fn spans<T>(jobs: &[Job<T>]) -> Vec<Span> {
    let traced = jobs.iter().filter_map(|job| job.trace);
    let begin = |trace| {
        let began = std::time::Instant::now();
        let mut span = Span::following(Some(trace), "transaction", trace::Kind::Internal, began);
        span.note("messages", jobs.len());
        span
    };
    traced.map(begin).collect()
}

fn unavailable(seconds: u64) -> WriteError {
    WriteError::Unavailable { retry_after: Duration::from_secs(seconds) }
}

fn refuse<T>(jobs: Vec<Job<T>>, error: &WriteError) {
    for mut job in jobs {
        job.answer(Err(error.clone()));
    }
}

/// Splits jobs by room, rooms in the order of their first job.
fn by_room<T>(jobs: Vec<Job<T>>) -> Vec<Vec<Job<T>>> {
    let mut rooms: Vec<(RoomId, Vec<Job<T>>)> = Vec::new();
    for job in jobs {
        match rooms.iter_mut().find(|(room, _)| *room == job.draft.room_id) {
            Some((_, jobs)) => jobs.push(job),
            None => rooms.push((job.draft.room_id, vec![job])),
        }
    }
    rooms.into_iter().map(|(_, jobs)| jobs).collect()
}
