//! What the tests of the store share: stores, drafts, and an outlet that keeps what it is given.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use community_gateway::domain::{MessageId, RoomId, Topic, UserId};
use community_gateway::lifecycle::Lifecycle;
use community_gateway::store::{
    Committed, Draft, Outlet, OutletError, Reserved, Settings, Store, Writer, WriterSettings,
};
use community_gateway::telemetry::Metrics;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::support::{Stack, TestRoom, TestUser};

/// A store with a pool and metrics of its own, as another instance has them.
pub async fn store(stack: &Stack) -> (Store, Arc<Metrics>) {
    store_with(Settings::new(&stack.database_url())).await
}

pub async fn store_with(settings: Settings) -> (Store, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new().unwrap());
    (Store::connect(settings, Arc::clone(&metrics)).await.unwrap(), metrics)
}

/// A text message to a room.
pub fn draft(room: &TestRoom, author: &TestUser, content: &str) -> Draft {
    Draft {
        id: MessageId::generate(),
        room_id: RoomId(room.id),
        dm_thread: None,
        thread_id: None,
        moderates: false,
        author: UserId(author.id),
        content: content.to_owned(),
        message_type: "text",
        attachments: "[]".to_owned(),
        mentions: "[]".to_owned(),
        reply_to: None,
        topic: Topic::Room(RoomId(room.id)),
        mark: None,
    }
}

/// A message that was published: its topic, offset, time, id and payload.
pub type Published = (Topic, u64, i64, MessageId, u32);

/// Offsets from a map, events into a list. Shared by writers as Redis is.
pub struct FakeOutlet {
    offsets: Mutex<HashMap<Topic, u64>>,
    pub published: Mutex<Vec<Published>>,
    pub voided: Mutex<Vec<(Topic, u64, u32)>>,
    /// Offsets are refused.
    pub broken: AtomicBool,
    /// A reservation takes one permit.
    pub gate: Semaphore,
}

impl FakeOutlet {
    pub fn new() -> Arc<Self> {
        Self::gated(Semaphore::MAX_PERMITS)
    }

    /// Lets only so many reservations through until permits are added.
    pub fn gated(permits: usize) -> Arc<Self> {
        Arc::new(Self {
            offsets: Mutex::default(),
            published: Mutex::default(),
            voided: Mutex::default(),
            broken: AtomicBool::new(false),
            gate: Semaphore::new(permits),
        })
    }

    /// How many offsets of a topic were taken.
    pub fn taken(&self, topic: Topic) -> u64 {
        self.offsets.lock().get(&topic).copied().unwrap_or(0)
    }

    /// Offsets that were taken and are neither published nor void, or more than one of these.
    pub fn unsettled(&self) -> Vec<(Topic, u64)> {
        let mut times: HashMap<(Topic, u64), u32> = HashMap::new();
        for (topic, last) in self.offsets.lock().iter() {
            times.extend((1..=*last).map(|offset| ((*topic, offset), 0)));
        }
        for (topic, offset, ..) in self.published.lock().iter() {
            *times.entry((*topic, *offset)).or_default() += 1;
        }
        for (topic, first, count) in self.voided.lock().iter() {
            for offset in *first..first + u64::from(*count) {
                *times.entry((*topic, offset)).or_default() += 1;
            }
        }
        times.into_iter().filter(|(_, times)| *times != 1).map(|(place, _)| place).collect()
    }

    pub fn writer(
        self: &Arc<Self>,
        (store, metrics): &(Store, Arc<Metrics>),
        lifecycle: &Lifecycle,
        settings: WriterSettings,
    ) -> Writer<u32> {
        Writer::start(store, self, lifecycle, settings, metrics)
    }
}

impl Outlet for FakeOutlet {
    type Payload = u32;

    async fn reserve(&self, wanted: &[(Topic, u32)]) -> Result<Vec<Reserved>, OutletError> {
        self.gate.acquire().await.unwrap().forget();
        if self.broken.load(Ordering::SeqCst) {
            return Err(OutletError("broken on purpose".to_owned()));
        }
        let mut offsets = self.offsets.lock();
        let take = |&(topic, count): &(Topic, u32)| {
            let last = offsets.entry(topic).or_insert(0);
            let first = *last + 1;
            *last += u64::from(count);
            Reserved { epoch: 7, first }
        };
        Ok(wanted.iter().map(take).collect())
    }

    async fn publish(&self, committed: Vec<Committed<u32>>) {
        let line =
            |it: Committed<u32>| (it.draft.topic, it.stored.offset, it.stored.created_at.0, it.draft.id, it.payload);
        self.published.lock().extend(committed.into_iter().map(line));
    }

    async fn void(&self, places: Vec<(Topic, Reserved, u32)>) {
        self.voided.lock().extend(places.into_iter().map(|(topic, place, count)| (topic, place.first, count)));
    }
}
