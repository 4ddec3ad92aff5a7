//! The writer of messages: many senders, few transactions, one order.
//!
//! Sends that arrive while a lane writes form its next batch; there is no timer, so a lone message waits for nothing. A
//! room belongs to one lane, and inside the transaction its row is locked *before* its messages get their times and
//! their offsets: lock order, `created_at` order and offset order are one, across instances too.
//!
//! An accepted message is never lost and a refused one never half-done: the answer is given after the commit, and a
//! commit whose answer was lost is looked up before anything is said.

mod batch;
mod lane;
mod outlet;

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub use outlet::{Committed, Outlet, OutletError, Reserved, Subject};

use super::{Mark, Store};
use crate::domain::{MessageId, Micros, ReplyPreview, RoomId, ThreadId, Topic, UserId};
use crate::lifecycle::Lifecycle;
use crate::telemetry::{Metrics, trace};
use lane::{Job, Lane};

/// How long a message may wait for its turn before it is refused.
const PATIENCE: Duration = Duration::from_secs(5);

/// A message that is to be written.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Version 7, made by the caller.
    pub id: MessageId,
    pub room_id: RoomId,
    /// The conversation that the room belongs to, for a direct message.
    pub dm_thread: Option<ThreadId>,
    /// The thread inside the room.
    pub thread_id: Option<ThreadId>,
    /// The author may write in a locked thread.
    pub moderates: bool,
    pub author: UserId,
    pub content: String,
    /// `text`, `image`, `file` or `embed`.
    pub message_type: &'static str,
    /// JSON array of `{url,name,size,type}`.
    pub attachments: String,
    /// JSON array of user ids.
    pub mentions: String,
    /// What it answers. Forgotten when that is not a message of this room.
    pub reply_to: Option<MessageId>,
    /// Where its event goes.
    pub topic: Topic,
    /// Set when a human is to look at it.
    pub mark: Option<Mark>,
}

impl Draft {
    /// It is stored and not shown: it takes no place in the topic's order, and nothing is published of it.
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        self.mark.as_ref().is_some_and(|mark| mark.hidden)
    }

    /// It is direct, mentions somebody, or answers something.
    #[must_use]
    pub fn is_addressed(&self) -> bool {
        self.dm_thread.is_some() || self.reply_to.is_some() || self.mentions != "[]"
    }
}

/// What writing a message settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Later than every other message of the room.
    pub created_at: Micros,
    /// Of which order the offset is; 0 of a hidden message.
    pub epoch: u64,
    /// The event's place in its topic; 0 of a hidden message.
    pub offset: u64,
    /// Of the message it answers, unless that is hidden.
    pub reply: Option<ReplyPreview>,
    /// The message it answers, if it is one of this room.
    pub reply_to_id: Option<MessageId>,
    /// How many messages the thread has, with this one and those of its batch.
    pub thread_count: Option<i32>,
}

/// Why a message cannot be written, however often it is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The room is archived.
    Archived,
    /// There is no such thread in this room.
    UnknownThread,
    /// The thread is locked.
    ThreadLocked,
    /// The thread is archived, or its time is up.
    ThreadArchived,
    /// The author's account is gone.
    AuthorGone,
    /// A message with this id exists.
    Duplicate,
    /// Postgres does not take one of its values, U+0000 for instance.
    Invalid,
}

/// Why a message was not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The room does not exist any more or is inactive.
    #[error("the room is gone")]
    RoomGone,
    /// It will never be written.
    #[error("the message was rejected: {0:?}")]
    Rejected(Rejection),
    /// Not now. Nothing was written.
    #[error("messages cannot be written now")]
    Unavailable {
        /// When to try again.
        retry_after: Duration,
    },
    /// The lane's queue is full. Nothing was written.
    #[error("too many messages are waiting to be written")]
    Busy,
    /// The commit's answer was lost and Postgres cannot be asked. If the message turns out to be written, it is
    /// published; who sends it again must use the same id.
    #[error("whether the message was written cannot be told")]
    Uncertain,
}

impl WriteError {
    /// The metric label.
    fn reason(&self) -> &'static str {
        match self {
            Self::RoomGone => "room_gone",
            Self::Rejected(_) => "rejected",
            Self::Unavailable { .. } => "unavailable",
            Self::Busy => "busy",
            Self::Uncertain => "uncertain",
        }
    }
}

/// How a writer works.
#[derive(Clone, Copy, Debug)]
pub struct WriterSettings {
    /// Transactions at a time, at least 1.
    pub lanes: usize,
    /// Messages in one transaction, at least 1.
    pub batch: usize,
    /// Messages that may wait in each lane, at least 1.
    pub queue: usize,
}

impl Default for WriterSettings {
    fn default() -> Self {
        Self { lanes: 4, batch: 256, queue: 4096 }
    }
}

/// The way to write messages. Cloning is cheap and gives the same lanes.
///
/// Its lanes live until [`Writer::close`] or until the last clone is gone, not until shutdown begins: messages of
/// sessions that are being drained are still written.
#[derive(Debug)]
pub struct Writer<T> {
    lanes: Arc<[mpsc::Sender<Job<T>>]>,
    closing: CancellationToken,
    metrics: Arc<Metrics>,
}

impl<T> Clone for Writer<T> {
    fn clone(&self) -> Self {
        Self { lanes: Arc::clone(&self.lanes), closing: self.closing.clone(), metrics: Arc::clone(&self.metrics) }
    }
}

impl<T: Send + 'static> Writer<T> {
    /// Starts the lanes.
    #[must_use]
    pub fn start<O: Outlet<Payload = T>>(
        store: &Store,
        outlet: &Arc<O>,
        lifecycle: &Lifecycle,
        settings: WriterSettings,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let closing = CancellationToken::new();
        let lanes = (0..settings.lanes.max(1))
            .map(|_| {
                let (sender, jobs) = mpsc::channel(settings.queue.max(1));
                Lane::start(store, outlet, lifecycle, jobs, closing.clone(), settings.batch.max(1), metrics);
                sender
            })
            .collect();
        Self { lanes, closing, metrics: Arc::clone(metrics) }
    }

    /// Writes a message. Returns when it is committed; its event leaves at the same time.
    ///
    /// # Cancel safety
    /// A caller that goes away takes nothing back: the message is written and published all the same.
    ///
    /// # Errors
    /// See [`WriteError`]. But for [`WriteError::Uncertain`], nothing was written.
    pub async fn send(&self, draft: Draft, payload: T) -> Result<Stored, WriteError> {
        let result = self.queue(draft, payload).await;
        if let Err(error) = &result {
            self.metrics.write_failures_total.with_label_values(&[error.reason()]).inc();
        }
        result
    }

    async fn queue(&self, draft: Draft, payload: T) -> Result<Stored, WriteError> {
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let lane = usize::try_from(hasher.hash_one(draft.room_id) % self.lanes.len() as u64).unwrap_or_default();
        let (answer, mut answered) = oneshot::channel();
        let taken = Arc::new(AtomicBool::new(false));
        let job = Job { draft, payload, answer: Some(answer), taken: Arc::clone(&taken), trace: trace::current() };
        self.metrics.write_queue.inc();
        if let Err(refused) = self.lanes[lane].try_send(job) {
            self.metrics.write_queue.dec();
            return Err(match refused {
                TrySendError::Full(_) => WriteError::Busy,
                TrySendError::Closed(_) => WriteError::Unavailable { retry_after: Duration::from_secs(1) },
            });
        }
        let answer = match tokio::time::timeout(PATIENCE, &mut answered).await {
            Ok(answer) => answer,
            // Whoever comes first, the lane to write it or its sender to withdraw it, decides.
            Err(_) if !taken.swap(true, Ordering::AcqRel) => {
                return Err(WriteError::Unavailable { retry_after: Duration::from_secs(2) });
            }
            // It is being written: the lane answers within its own deadlines.
            Err(_) => answered.await,
        };
        answer.unwrap_or_else(|_| {
            // The lane ended. What it had not taken was not written.
            let untouched = !taken.load(Ordering::Acquire);
            Err(if untouched {
                WriteError::Unavailable { retry_after: Duration::from_secs(1) }
            } else {
                WriteError::Uncertain
            })
        })
    }

    /// Ends the lanes once they have written and published what is queued. Whoever sends afterwards is refused.
    ///
    /// To be called after shutdown has begun and the sessions are gone: a lane that ends before counts as a crash.
    pub fn close(&self) {
        self.closing.cancel();
    }
}
