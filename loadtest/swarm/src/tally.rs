//! What was counted: by many tasks while a worker runs, and added up over all workers by the parent.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::messages::Sum;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The counters of one worker.
        #[derive(Default)]
        pub struct Counters { $($(#[$doc])* pub $name: AtomicU64,)* }

        /// Their values at one moment.
        #[derive(Clone, Debug, Default, Deserialize, Serialize)]
        pub struct Counts { $($(#[$doc])* pub $name: u64,)* }

        impl Counters {
            pub fn counts(&self) -> Counts {
                Counts { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }

        impl Counts {
            /// Adds another worker's.
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

counters! {
    /// Sockets that have their first state, now.
    open,
    /// Connections that were let in.
    entered,
    /// Attempts that failed, for whatever reason.
    failed,
    /// Frames received.
    events,
    /// Bytes received.
    bytes,
    /// Events with an offset, received live, in a replay, or with a state.
    deliveries,
    /// Messages sent, and acknowledged.
    sent,
    acked,
    /// Sends that the gateway refused, and sends that could not be handed to the kernel.
    refused,
    unsent,
    /// Events that came twice: by their offset, and messages that came as an event twice, whatever their offsets.
    repeated,
    doubled,
    /// Events that came after a later one.
    late,
    /// Offsets that were passed over: of events that never came, or came late, or that nobody has.
    missed,
    /// Connections cut on purpose.
    cuts,
    /// Returns whose replay was complete.
    resumed,
    /// Events that came in replays.
    replayed,
    /// Returns that were given a whole state.
    restated,
    /// Events that these had missed.
    restated_events,
    /// States that did not reach back to what the client had, of these, those that pages of history joined to it, and
    /// messages in these pages.
    holes,
    filled,
    paged,
    /// Logins by a token from Django, those of clients that had been in before, and returns with a ticket instead.
    minted,
    minted_again,
    tickets,
    /// Times that a client was told when to come back.
    told,
    /// People whom somebody saw coming and going after all were in and had been seen coming.
    joins,
    leaves,
}

/// Everything that one worker knows.
pub struct Tally {
    pub counters: Counters,
    /// Microseconds from a message's send to its arrival.
    pub latency: Mutex<Histogram<u64>>,
    /// The same since the last tick.
    pub recent: Mutex<Histogram<u64>>,
    /// Microseconds from a message's send to its arrival at the last of its room.
    pub last: Mutex<Histogram<u64>>,
    /// Microseconds from the first byte of a connection to its state.
    pub entering: Mutex<Histogram<u64>>,
    /// Microseconds from the first byte of a return to the end of its replay.
    pub replay: Mutex<Histogram<u64>>,
    /// How connections ended, and how attempts failed.
    pub endings: Mutex<BTreeMap<String, u64>>,
    /// The ids of acknowledged messages, when they are wanted.
    pub acknowledged: Option<Mutex<Vec<String>>>,
    /// Everybody is in and was seen coming: who is seen coming or going from now on is counted.
    pub settled: AtomicBool,
    /// People whom somebody saw coming, before.
    pub arrivals: AtomicU64,
}

fn histogram() -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(1, 600_000_000, 3).expect("the bounds are good");
    histogram.auto(true);
    histogram
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            counters: Counters::default(),
            latency: Mutex::new(histogram()),
            recent: Mutex::new(histogram()),
            last: Mutex::new(histogram()),
            entering: Mutex::new(histogram()),
            replay: Mutex::new(histogram()),
            endings: Mutex::default(),
            acknowledged: None,
            settled: AtomicBool::new(false),
            arrivals: AtomicU64::new(0),
        }
    }
}

impl Tally {
    pub fn add(&self, counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    pub fn note(histogram: &Mutex<Histogram<u64>>, micros: u64) {
        let _ = histogram.lock().expect("no holder panics").record(micros.max(1));
    }

    pub fn acked(&self, id: &str) {
        if let Some(ids) = &self.acknowledged {
            ids.lock().expect("no holder panics").push(id.to_owned());
        }
    }

    pub fn ended(&self, how: impl Into<String>) {
        *self.endings.lock().expect("no holder panics").entry(how.into()).or_default() += 1;
    }

    /// Notes that somebody saw so many people coming and going.
    pub fn presence(&self, joined: usize, left: usize) {
        if self.settled.load(Ordering::Relaxed) {
            self.add(&self.counters.joins, joined as u64);
            self.add(&self.counters.leaves, left as u64);
        } else {
            self.add(&self.arrivals, joined as u64);
        }
    }

    /// The values recorded since the last call.
    pub fn take_recent(&self) -> Spread {
        let mut recent = self.recent.lock().expect("no holder panics");
        let spread = Spread::of(&recent);
        recent.reset();
        spread
    }
}

/// A histogram as it travels between processes: value and count.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Spread(Vec<(u64, u64)>);

impl Spread {
    pub fn of(histogram: &Histogram<u64>) -> Self {
        Self(histogram.iter_recorded().map(|bucket| (bucket.value_iterated_to(), bucket.count_at_value())).collect())
    }

    pub fn locked(histogram: &Mutex<Histogram<u64>>) -> Self {
        Self::of(&histogram.lock().expect("no holder panics"))
    }

    /// Adds up several.
    pub fn sum<'a>(parts: impl IntoIterator<Item = &'a Self>) -> Histogram<u64> {
        let mut sum = histogram();
        for (value, count) in parts.into_iter().flat_map(|part| &part.0) {
            let _ = sum.record_n(*value, *count);
        }
        sum
    }
}

/// What a worker says every second.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Tick {
    pub counts: Counts,
    pub recent: Spread,
}

/// What a worker says at its end.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Done {
    pub counts: Counts,
    pub latency: Spread,
    pub last: Spread,
    pub entering: Spread,
    pub replay: Spread,
    pub endings: BTreeMap<String, u64>,
    /// Events that should have been seen, over all clients and their rooms.
    pub expected: u64,
    /// Of these, events that clients who were connected at the end never saw.
    pub missing_at_end: u64,
    /// Clients that were not connected at the end.
    pub away_at_end: u64,
    /// What clients saw of each room: those who saw the same together.
    pub seen: Vec<Seen>,
    /// Offsets of each room that somebody passed over.
    pub passed: BTreeMap<String, u64>,
    /// Ids of acknowledged messages, when they are wanted.
    pub acknowledged: Vec<String>,
}

/// What some clients of one room saw.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Seen {
    pub room: String,
    pub clients: u64,
    pub messages: Sum,
    /// Offsets that each of them passed over.
    pub passed: u64,
}

/// A line from a worker to its parent.
#[derive(Debug, Deserialize, Serialize)]
pub enum Line {
    /// All its clients have been let in once.
    Ready,
    Tick(Box<Tick>),
    Done(Box<Done>),
}
