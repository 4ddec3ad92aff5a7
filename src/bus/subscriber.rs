//! The one subscription of this instance: channels in, bounded queues out.
//!
//! A dropped message, a lost connection and a renewed subscription all look the same to the hub: a topic whose position
//! must be checked. Nothing is lost in silence.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use redis::{PushInfo, PushKind, Value};
use tokio::sync::{mpsc, watch};

use super::orders::{Clerk, Orders};
use super::{Bus, BusError, Control};
use crate::domain::{InstanceName, Topic};
use crate::keyspace;
use crate::realtime::{self, Listener, Unconfirmed};
use crate::telemetry::Metrics;

/// How many messages of one shard wait for the hub before they are dropped, counted and recovered from the log.
const QUEUE: usize = 32 * 1024;

/// What arrives for the hub.
#[derive(Debug)]
pub enum Inbound {
    /// A payload on a topic's channel, when it came, and when the subscription was last interrupted before.
    Message { topic: Topic, payload: Bytes, arrived: Instant, unbroken: Instant },
    /// The topic's channel was subscribed to, for the first time or again: what was published before may be missing.
    Subscribed { topic: Topic },
}

/// The receiving end of one shard. Topics are spread over the shards by hash, so one shard sees all of a topic.
pub struct Inbox {
    pub queue: mpsc::Receiver<Inbound>,
    dropped: Arc<AtomicBool>,
}

impl Inbox {
    /// Says, once, whether messages were dropped since the last call.
    #[must_use]
    pub fn has_dropped(&self) -> bool {
        self.dropped.load(Ordering::Relaxed) && self.dropped.swap(false, Ordering::AcqRel)
    }
}

/// The subscription.
#[derive(Clone)]
pub struct Subscriber {
    pub(super) listener: Listener,
    probe: watch::Receiver<u64>,
    probe_channel: Arc<str>,
    door: Door,
}

/// The way to the hub: the shards' queues. Cloning is cheap.
#[derive(Clone)]
pub struct Door {
    shards: Arc<[Shard]>,
    /// How often something may have been missed: a connection was lost, a channel left, a message dropped.
    interruptions: Arc<AtomicU64>,
    /// Since when the connection has been there.
    unbroken: Arc<Mutex<Instant>>,
    metrics: Arc<Metrics>,
}

struct Shard {
    queue: mpsc::Sender<Inbound>,
    dropped: Arc<AtomicBool>,
}

/// Takes pushes from the connection. Runs inside the connection's task and must never wait.
struct Router {
    door: Door,
    orders: Clerk,
    /// The control channel was subscribed to once.
    obeyed_before: AtomicBool,
    probe: watch::Sender<u64>,
    probe_channel: Arc<str>,
    /// Channels whose subscription Redis has confirmed.
    confirmed: Mutex<HashSet<Box<[u8]>>>,
    metrics: Arc<Metrics>,
}

/// What a new subscriber hands to its users.
pub struct Subscription {
    pub subscriber: Subscriber,
    /// One for each shard.
    pub inboxes: Vec<Inbox>,
    /// Orders from Django.
    pub orders: Orders,
    /// For what comes by another way than this subscription.
    pub door: Door,
}

/// The shard of a topic.
#[must_use]
pub fn shard_of(topic: Topic, shards: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    topic.hash(&mut hasher);
    (hasher.finish() % shards.max(1) as u64) as usize
}

impl Subscriber {
    /// Connects and subscribes to the control channel and this instance's probe channel.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub async fn start(
        bus: &Bus,
        instance: &InstanceName,
        shards: usize,
        metrics: Arc<Metrics>,
    ) -> Result<Subscription, BusError> {
        let (senders, inboxes): (Vec<_>, Vec<_>) = (0..shards.max(1))
            .map(|_| {
                let (queue, receiver) = mpsc::channel(QUEUE);
                let dropped = Arc::new(AtomicBool::new(false));
                (Shard { queue, dropped: Arc::clone(&dropped) }, Inbox { queue: receiver, dropped })
            })
            .unzip();
        let (clerk, orders) = Clerk::new(Arc::clone(&metrics));
        let (probe, seen) = watch::channel(0);
        let probe_channel: Arc<str> = keyspace::instance(instance).into();
        let unbroken = Arc::new(Mutex::new(Instant::now()));
        let door =
            Door { shards: senders.into(), interruptions: Arc::default(), unbroken, metrics: Arc::clone(&metrics) };
        let router = Router {
            door: door.clone(),
            orders: clerk,
            obeyed_before: AtomicBool::new(false),
            probe,
            probe_channel: Arc::clone(&probe_channel),
            confirmed: Mutex::default(),
            metrics,
        };
        let listener = bus.dialer.listen(Box::new(move |push| router.route(push))).await?;
        let subscribing = async {
            listener.subscribe_both(keyspace::CONTROL).await?;
            Ok(listener.subscribe(&[probe_channel.to_string()]).await?)
        };
        subscribing.await.map_err(BusError::redis("subscribing to control"))?;
        let subscriber = Self { listener, probe: seen, probe_channel, door: door.clone() };
        Ok(Subscription { subscriber, inboxes, orders, door })
    }

    /// Subscribes to topics, and returns those that are confirmed.
    ///
    /// # Errors
    /// Beside them, why Redis did not confirm the others: in a Cluster, one shard may not answer.
    pub async fn subscribe(&self, topics: Vec<Topic>) -> (Vec<Topic>, Result<(), BusError>) {
        let channels: Vec<_> = topics.iter().map(|topic| keyspace::channel(*topic)).collect();
        let Err(Unconfirmed { channels: failed, error }) = self.listener.subscribe(&channels).await else {
            return (topics, Ok(()));
        };
        let confirmed = topics.into_iter().zip(&channels).filter(|(_, channel)| !failed.contains(*channel));
        (confirmed.map(|(topic, _)| topic).collect(), Err(BusError::redis("subscribing")(error)))
    }

    /// Unsubscribes from topics.
    ///
    /// # Errors
    /// When Redis does not confirm.
    pub async fn unsubscribe(&self, topics: &[Topic]) -> Result<(), BusError> {
        let channels: Vec<_> = topics.iter().map(|topic| keyspace::channel(*topic)).collect();
        self.listener.unsubscribe(&channels).await.map_err(BusError::redis("unsubscribing"))
    }

    /// How often something may have been missed so far.
    #[must_use]
    pub fn interruptions(&self) -> u64 {
        self.door.interruptions.load(Ordering::Acquire)
    }

    /// Subscribes to everything again, on another connection where that is possible; says whether it worked. For when
    /// commands are answered and nothing is delivered.
    pub async fn renew(&self, bus: &Bus) -> bool {
        self.listener.renew(&bus.dialer).await
    }

    /// Sends a number through Redis to ourselves and waits for it: proof that pub/sub delivers, not only that Redis
    /// answers. The caller sets the deadline.
    ///
    /// # Errors
    /// When Redis does not take it.
    pub async fn probe(&self, bus: &Bus, number: u64) -> Result<(), BusError> {
        let publish = realtime::publish(&self.probe_channel, number.to_string().as_bytes());
        let _: () = publish.query_async(&mut bus.connection()).await.map_err(BusError::redis("publishing a probe"))?;
        let mut probe = self.probe.clone();
        // The sender lives as long as the connection; its end is the end of the process.
        let _ = probe.wait_for(|seen| *seen >= number).await;
        Ok(())
    }
}

impl Door {
    /// Passes on a payload that arrived on a topic.
    pub fn message(&self, topic: Topic, payload: Bytes) {
        let unbroken = *self.unbroken.lock();
        self.pass(topic, Inbound::Message { topic, payload, arrived: Instant::now(), unbroken });
    }

    /// Passes on what arrived, or drops it where the hub is behind; that is counted and made up for.
    pub fn pass(&self, topic: Topic, inbound: Inbound) {
        let shard = &self.shards[shard_of(topic, self.shards.len())];
        if shard.queue.try_send(inbound).is_err() {
            shard.dropped.store(true, Ordering::Release);
            self.metrics.bus_dropped_total.inc();
            self.interrupt();
        }
    }

    fn interrupt(&self) {
        self.interruptions.fetch_add(1, Ordering::AcqRel);
    }
}

impl Router {
    fn route(&self, push: PushInfo) {
        match push.kind {
            PushKind::Message | PushKind::SMessage => {
                let mut data = push.data.into_iter();
                if let (Some(Value::BulkString(channel)), Some(Value::BulkString(payload))) = (data.next(), data.next())
                {
                    self.message(&channel, payload);
                }
            }
            PushKind::Subscribe | PushKind::SSubscribe => {
                if let Some(Value::BulkString(channel)) = push.data.first() {
                    let mut again = false;
                    self.count(|confirmed| again = !confirmed.insert(channel.as_slice().into()));
                    if again {
                        self.door.interrupt(); // on another connection, and nobody said that the last one was lost
                        *self.door.unbroken.lock() = Instant::now();
                    }
                    if let Some(topic) = keyspace::parse_channel(channel) {
                        self.door.pass(topic, Inbound::Subscribed { topic });
                    } else if channel == keyspace::CONTROL.as_bytes() && self.obeyed_before.swap(true, Ordering::AcqRel)
                    {
                        // Subscribed to again: what was ordered in between is lost.
                        self.orders.take(Control::CatchUp);
                    }
                }
            }
            PushKind::Unsubscribe | PushKind::SUnsubscribe => {
                self.door.interrupt(); // perhaps not by our own wish
                if let Some(Value::BulkString(channel)) = push.data.first() {
                    self.count(|confirmed| _ = confirmed.remove(channel.as_slice()));
                }
            }
            PushKind::Disconnection => {
                tracing::warn!("the subscriber lost a connection to Redis");
                self.metrics.bus_disconnects_total.inc();
                self.door.interrupt();
                *self.door.unbroken.lock() = Instant::now();
                // In a Cluster the other nodes' channels live on; those of this one are confirmed anew soon.
                if !keyspace::are_ids_tagged() {
                    self.count(HashSet::clear);
                }
            }
            _ => {}
        }
    }

    fn count(&self, change: impl FnOnce(&mut HashSet<Box<[u8]>>)) {
        let mut confirmed = self.confirmed.lock();
        change(&mut confirmed);
        self.metrics.subscriptions_open.set(i64::try_from(confirmed.len()).unwrap_or(i64::MAX));
    }

    fn message(&self, channel: &[u8], payload: Vec<u8>) {
        if let Some(topic) = keyspace::parse_channel(channel) {
            self.door.message(topic, Bytes::from(payload));
        } else if channel == keyspace::CONTROL.as_bytes() {
            self.control(&payload);
        } else if channel == self.probe_channel.as_bytes() {
            let number = std::str::from_utf8(&payload).ok().and_then(|text| text.parse().ok());
            self.probe.send_replace(number.unwrap_or(0));
        }
    }

    fn control(&self, payload: &[u8]) {
        match Control::decode(payload) {
            Ok(order) => self.orders.take(order),
            Err(error) => {
                tracing::warn!(%error, "a control message was not obeyed");
                self.metrics.bus_malformed_total.with_label_values(&["control"]).inc();
            }
        }
    }
}
