//! Moves tasks from where they wait to the broker: each at least once from here, and once there, by its id.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::broker::{Broker, BrokerError};
use super::{Names, Owed, Task, Witness, WitnessError, envelope, keep};
use crate::bus::{BusError, TaskQueue};
use crate::domain::{InstanceName, Micros, UserId};
use crate::lifecycle::Lifecycle;
use crate::telemetry::Metrics;

/// How many tasks are taken at once.
const BATCH: usize = 64;
/// How often tasks are looked for that another instance left behind.
const LOOK: Duration = Duration::from_secs(1);
/// Between two tries while something is away: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// How long the last tasks may take at the end.
const LAST: Duration = Duration::from_millis(600);
/// When a message is looked for once more that was not committed at first: its commit may have been slow.
const AGAIN: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
enum MoveError {
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Witness(#[from] WitnessError),
}

/// Moves tasks.
pub(super) struct Mover {
    pub(super) queue: TaskQueue,
    pub(super) broker: Broker,
    pub(super) names: Names,
    pub(super) witness: Box<dyn Witness>,
    pub(super) instance: InstanceName,
    pub(super) metrics: Arc<Metrics>,
}

impl Mover {
    /// Moves tasks as they come, those of dead instances too, until the process stops delivering; then what is left.
    pub(super) async fn run(self, lifecycle: Lifecycle) {
        let mut pause = RETRY.0;
        loop {
            tokio::select! {
                () = lifecycle.aborted() => break,
                () = self.queue.added() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
            let moved = tokio::select! {
                () = lifecycle.aborted() => break,
                moved = self.move_all() => moved,
            };
            match moved {
                Ok(()) => pause = RETRY.0,
                Err(error) => {
                    self.metrics.handover_failures_total.inc();
                    tracing::warn!(%error, "tasks wait to be handed over");
                    tokio::select! {
                        () = lifecycle.aborted() => break,
                        () = tokio::time::sleep(pause) => {}
                    }
                    pause = (pause * 2).min(RETRY.1);
                }
            }
        }
        // What cannot be moved now waits for another instance, or for the next life of this one.
        if let Ok(Err(error)) = tokio::time::timeout(LAST, self.move_all()).await {
            tracing::warn!(%error, "tasks are left to be handed over");
        }
        self.broker.close().await;
    }

    async fn move_all(&self) -> Result<(), MoveError> {
        loop {
            let (waiting, taken) = self.queue.take(BATCH).await?;
            self.metrics.handover_waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
            if taken.is_empty() {
                return Ok(());
            }
            let (mut owed, mut notes, mut tasks) = (Vec::new(), Vec::new(), Vec::new());
            for bytes in taken {
                match Owed::from_bytes(&bytes) {
                    Some(one) => {
                        owed.push(one);
                        notes.push(bytes);
                    }
                    None => tasks.push(bytes),
                }
            }
            let (done, failed) = self.move_batch(tasks).await?;
            let done_with = self.queue.settle(&done).await;
            if let Some((tasks, error)) = failed {
                // Due again; if this fails too, after the lease.
                let _ = self.queue.put_back(&tasks).await;
                return Err(error.into());
            }
            done_with?;
            if let Err(error) = self.pay(&owed, &notes).await {
                // After the lease they are looked for again.
                self.metrics.handover_failures_total.inc();
                tracing::warn!(%error, "tasks of an owner who is gone cannot be made yet");
            }
        }
    }

    /// Makes the tasks of messages whose owners are gone. `notes` are the bytes of what is owed.
    async fn pay(&self, owed: &[Owed], notes: &[Vec<u8>]) -> Result<(), MoveError> {
        if owed.is_empty() {
            return Ok(());
        }
        let (mut tasks, mut again) = (Vec::new(), Vec::new());
        for (owed, occasion) in owed.iter().zip(self.witness.occasions(owed).await?) {
            let outcome = match &occasion {
                Some(occasion) => {
                    tracing::warn!(message = %owed.message(), "the tasks of an owner who is gone are made");
                    tasks.extend(self.names.tasks_of(occasion));
                    "made"
                }
                None if owed.again => "void",
                None => {
                    again.push(owed.second().to_bytes());
                    continue;
                }
            };
            self.metrics.handover_total.with_label_values(&["message", outcome]).inc();
        }
        if !again.is_empty() {
            self.queue.note(&again, AGAIN).await?;
        }
        Ok(keep(&self.queue, &self.metrics, &tasks, notes).await?)
    }

    /// Returns what is done with, and what failed and why.
    async fn move_batch(
        &self,
        taken: Vec<Vec<u8>>,
    ) -> Result<(Vec<Vec<u8>>, Option<(Vec<Vec<u8>>, BrokerError)>), BusError> {
        let now = Micros::now();
        let tasks: Vec<Option<Task>> = taken.iter().map(|bytes| Task::from_bytes(bytes)).collect();
        let users: Vec<UserId> = tasks.iter().flatten().filter_map(Task::only_offline).collect();
        let online: HashMap<UserId, bool> = users.iter().copied().zip(self.queue.are_online(&users).await?).collect();
        let pushing = tasks.iter().map(|task| async {
            let Some(task) = task else {
                tracing::error!("a task that waited cannot be read and is dropped");
                return Ok("unreadable");
            };
            if task.expires <= now.0 {
                return Ok("expired");
            }
            if task.only_offline().is_some_and(|user| online.get(&user).copied().unwrap_or(false)) {
                return Ok("online");
            }
            let element = envelope::write(task, &format!("gateway@{}", self.instance), now);
            if let Err(hazard) = envelope::check(&element, &task.queue) {
                tracing::error!(%hazard, task = task.name, "a task would have stopped a worker and is dropped");
                return Ok("refused");
            }
            self.broker.push(task, element).await.map(|news| if news { "handed_over" } else { "repeated" })
        });
        let outcomes = join_all(pushing).await;
        let (mut done, mut failed, mut last) = (Vec::new(), Vec::new(), None);
        for ((bytes, task), outcome) in taken.into_iter().zip(&tasks).zip(outcomes) {
            match outcome {
                Ok(outcome) => {
                    let purpose = task.as_ref().map_or("unknown", |task| task.purpose.as_str());
                    self.metrics.handover_total.with_label_values(&[purpose, outcome]).inc();
                    done.push(bytes);
                }
                Err(error) => {
                    failed.push(bytes);
                    last = Some(error);
                }
            }
        }
        Ok((done, last.map(|error| (failed, error))))
    }
}
