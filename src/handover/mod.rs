//! Work for Celery: which tasks a message makes, and their way to the broker.
//!
//! Tasks are kept in the realtime database, when the message's event goes there, and are moved to the broker from there,
//! by whichever instance lives: so what was accepted survives a restart, and sending waits for no broker. A note of the
//! message is there before its commit, from which others make the tasks if its owner dies. Only typed tasks are written,
//! their arguments are ids.

mod broker;
pub mod envelope;
mod mover;
mod owed;
mod task;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

pub use broker::{Broker, BrokerError};
pub use owed::{Cause, Owed, Witness, WitnessError};
pub use task::{Purpose, Task};

use crate::bus::{BusError, TaskQueue};
use crate::domain::{Hidden, InstanceName, MessageId, Micros, ThreadId, UserId};
use crate::lifecycle::Lifecycle;
use crate::telemetry::Metrics;

/// After this an agent's answer comes too late.
const AGENT_LIFE: Duration = Duration::from_secs(600);
/// After this nobody wants to be told any more.
const NOTICE_LIFE: Duration = Duration::from_secs(3_600);
/// When others look for a message whose tasks are not kept yet: its owner commits and keeps them long before, or is gone.
const OWED: Duration = Duration::from_secs(5);

/// What tasks are called in Django. An empty name turns its tasks off.
#[derive(Clone, Debug, Default)]
pub struct Names {
    pub agent_dm: String,
    pub mention: String,
    pub reply: String,
    pub dm: String,
    /// The queue of agents' tasks.
    pub queue: String,
    /// The queue of the others.
    pub notice_queue: String,
}

/// What tasks need to know of a message.
#[derive(Clone, Debug)]
pub struct Occasion {
    pub cause: Cause,
    pub message: MessageId,
    pub author: UserId,
    /// From when on it is news.
    pub since: Micros,
    /// Set for a direct message.
    pub dm: Option<ThreadId>,
    /// The others in a direct conversation, agents among them.
    pub others: Vec<UserId>,
    pub agents: Vec<UserId>,
    pub mentioned: Vec<UserId>,
    /// The author of the message that is answered.
    pub answered: Option<UserId>,
}

impl Occasion {
    /// The same without those who do not see the author.
    #[must_use]
    pub fn without(mut self, hidden: &Hidden) -> Self {
        self.mentioned.retain(|user| !hidden.hides(*user));
        self.answered = self.answered.filter(|user| !hidden.hides(*user));
        self
    }
}

/// The way of work to Celery. Cloning is cheap and gives the same one.
#[derive(Clone)]
pub struct Handover(Option<Arc<Inner>>);

struct Inner {
    names: Names,
    queue: TaskQueue,
    metrics: Arc<Metrics>,
}

impl Handover {
    /// No broker: no tasks.
    #[must_use]
    pub fn off() -> Self {
        Self(None)
    }

    /// Starts moving tasks to a broker, which may be away.
    ///
    /// # Errors
    /// When the broker's URL cannot be used.
    pub fn start(
        url: &str,
        names: Names,
        queue: TaskQueue,
        instance: &InstanceName,
        witness: Box<dyn Witness>,
        lifecycle: &Lifecycle,
        metrics: Arc<Metrics>,
    ) -> Result<Self, BrokerError> {
        let mover = mover::Mover {
            queue: queue.clone(),
            broker: Broker::connect(url)?,
            names: names.clone(),
            witness,
            instance: instance.clone(),
            metrics: Arc::clone(&metrics),
        };
        lifecycle.spawn_service("handover", mover.run(lifecycle.clone()));
        Ok(Self(Some(Arc::new(Inner { names, queue, metrics }))))
    }

    /// The tasks that a message makes.
    #[must_use]
    pub fn tasks_of(&self, occasion: &Occasion) -> Vec<Task> {
        self.0.as_ref().map_or_else(Vec::new, |inner| inner.names.tasks_of(occasion))
    }

    /// Notes messages that are about to be committed: if nobody says before long that their tasks are kept, whoever
    /// lives looks for the messages and makes the tasks.
    ///
    /// # Errors
    /// When the realtime Redis does not answer in time; nothing must be committed then.
    pub async fn owe(&self, owed: &[Owed]) -> Result<(), BusError> {
        let Some(inner) = self.0.as_ref().filter(|_| !owed.is_empty()) else { return Ok(()) };
        let notes: Vec<_> = owed.iter().map(Owed::to_bytes).collect();
        inner.queue.note(&notes, OWED).await
    }

    /// Keeps tasks until they are handed over, and forgets the notes that stood for them. May be repeated until it
    /// succeeds.
    ///
    /// # Errors
    /// When the realtime Redis does not answer in time.
    pub async fn keep(&self, tasks: &[Task], paid: &[Owed]) -> Result<(), BusError> {
        let Some(inner) = self.0.as_ref().filter(|_| !tasks.is_empty() || !paid.is_empty()) else { return Ok(()) };
        let notes: Vec<_> = paid.iter().map(Owed::to_bytes).collect();
        keep(&inner.queue, &inner.metrics, tasks, &notes).await
    }
}

async fn keep(queue: &TaskQueue, metrics: &Metrics, tasks: &[Task], notes: &[Vec<u8>]) -> Result<(), BusError> {
    let tasks: Vec<_> = tasks.iter().map(Task::to_bytes).collect();
    let dropped = queue.add(&tasks, notes).await?;
    if dropped > 0 {
        tracing::error!(dropped, "too many tasks wait for the broker: tasks were dropped");
        metrics.handover_dropped_total.inc_by(dropped);
    }
    Ok(())
}

impl Names {
    /// An agent is asked once for each message of somebody else. Everybody else is told once of a message, whatever it is
    /// to them: a direct one, one with their name, an answer. An edit tells those alone whom it mentions newly, and of them
    /// those who were told of the message before neither.
    #[must_use]
    pub fn tasks_of(&self, occasion: &Occasion) -> Vec<Task> {
        let at = occasion.since.0;
        let until = |life: Duration| Micros(at + i64::try_from(life.as_micros()).unwrap_or(i64::MAX));
        let mut tasks = Vec::new();
        let mut told: HashSet<UserId> = occasion.agents.iter().copied().chain([occasion.author]).collect();
        let direct = if occasion.dm.is_some() { occasion.others.as_slice() } else { &[] };
        let is_edit = occasion.cause == Cause::Edited;
        if is_edit {
            told.extend(direct.iter().filter(|_| !self.dm.is_empty()));
            told.extend(occasion.answered.iter().filter(|_| !self.reply.is_empty()));
        }
        if let Some(thread) = occasion.dm.filter(|_| !self.agent_dm.is_empty() && !is_edit) {
            let way = (self.agent_dm.as_str(), self.queue.as_str());
            let agents: HashSet<_> = occasion.agents.iter().filter(|agent| **agent != occasion.author).collect();
            let ask = |agent: &UserId| {
                Task::new(Purpose::AgentDm, way, occasion.message, Some(thread), *agent, until(AGENT_LIFE))
            };
            tasks.extend(agents.into_iter().map(ask));
        }
        for (purpose, name, users) in [
            (Purpose::Dm, &self.dm, direct),
            (Purpose::Mention, &self.mention, occasion.mentioned.as_slice()),
            (Purpose::Reply, &self.reply, occasion.answered.as_slice()),
        ] {
            for user in users.iter().filter(|_| !name.is_empty() && (!is_edit || purpose == Purpose::Mention)) {
                if told.insert(*user) {
                    let way = (name.as_str(), self.notice_queue.as_str());
                    tasks.push(Task::new(purpose, way, occasion.message, None, *user, until(NOTICE_LIFE)));
                }
            }
        }
        tasks
    }
}
