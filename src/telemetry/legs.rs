//! How long each leg of a message's way takes, by kind of topic: where a message is that has not arrived.
//!
//! Owns the histogram and its handles. One observation is a look-up in an array and two atomic additions; a series begins
//! with its first observation.

use std::array;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Histogram, HistogramOpts, HistogramVec};

use crate::domain::Topic;

/// Upper bounds, in seconds, of the buckets. The first legs take microseconds.
const BUCKETS: &[f64] =
    &[0.000_01, 0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// How many legs there are.
const LEGS: usize = 9;
/// How many kinds of topic there are.
const TOPICS: usize = 5;

/// A part of a message's way, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    /// From a client's text to a typed command.
    Decode,
    /// Rights, limits, and whether it was sent before.
    Access,
    /// The first layer of moderation.
    Patterns,
    /// The second layer of moderation, its queue included.
    Classifier,
    /// Until Postgres has it: the queue of its room, and the transaction.
    Commit,
    /// From the commit until Redis has it, retries included.
    Publish,
    /// From publishing to the arrival at an instance, as the two clocks tell.
    Bus,
    /// From the arrival until it is its turn: the queue of the instance, and events before it that are missing.
    Hub,
    /// Writing it to the sockets of the topic, or queueing it for those that take no more.
    Socket,
}

impl Leg {
    fn as_str(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Access => "access",
            Self::Patterns => "patterns",
            Self::Classifier => "classifier",
            Self::Commit => "commit",
            Self::Publish => "publish",
            Self::Bus => "bus",
            Self::Hub => "hub",
            Self::Socket => "socket",
        }
    }
}

/// The histograms of all legs.
#[derive(Clone, Debug)]
pub struct Legs {
    all: HistogramVec,
    each: Arc<[[OnceLock<Histogram>; TOPICS]; LEGS]>,
}

impl Legs {
    /// `labels` name the leg and the topic.
    pub(super) fn new(name: &str, help: &str, labels: &[&str]) -> Result<Self, prometheus::Error> {
        let all = HistogramVec::new(HistogramOpts::new(name, help).buckets(BUCKETS.to_vec()), labels)?;
        Ok(Self { all, each: Arc::new(array::from_fn(|_| array::from_fn(|_| OnceLock::new()))) })
    }

    /// Notes how long a leg took, once.
    pub fn observe(&self, leg: Leg, topic: Topic, took: Duration) {
        let kind = match topic {
            Topic::Room(_) => 0,
            Topic::Dm(_) => 1,
            Topic::Thread(_) => 2,
            Topic::User(_) => 3,
            Topic::Online(_) => 4,
        };
        let histogram =
            self.each[leg as usize][kind].get_or_init(|| self.all.with_label_values(&[leg.as_str(), topic.kind()]));
        histogram.observe(took.as_secs_f64());
    }

    /// How often a leg was taken.
    #[cfg(test)]
    pub(crate) fn taken(&self, leg: Leg, topic: Topic) -> u64 {
        self.all.with_label_values(&[leg.as_str(), topic.kind()]).get_sample_count()
    }
}

impl Collector for Legs {
    fn desc(&self) -> Vec<&Desc> {
        self.all.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.all.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{RoomId, ThreadId, UserId};

    #[test]
    fn every_leg_of_every_kind_of_topic_has_a_series_of_its_own() {
        let legs = Legs::new("legs", "of a way", &["leg", "topic"]).expect("is a name");
        let id = uuid::Uuid::from_u128(1);
        let topics = [
            Topic::Room(RoomId(id)),
            Topic::Dm(ThreadId(id)),
            Topic::Thread(ThreadId(id)),
            Topic::User(UserId(1)),
            Topic::Online(UserId(1)),
        ];
        assert!(legs.collect()[0].get_metric().is_empty(), "nothing was seen yet");
        let all = [
            Leg::Decode,
            Leg::Access,
            Leg::Patterns,
            Leg::Classifier,
            Leg::Commit,
            Leg::Publish,
            Leg::Bus,
            Leg::Hub,
            Leg::Socket,
        ];
        for leg in all {
            for topic in topics {
                legs.observe(leg, topic, Duration::from_micros(50));
                let histogram = legs.all.with_label_values(&[leg.as_str(), topic.kind()]);
                assert_eq!(histogram.get_sample_count(), 1, "{leg:?} of {topic}");
            }
        }
        assert_eq!(legs.collect()[0].get_metric().len(), LEGS * TOPICS);
    }
}
