//! Where committed messages leave the store. Implemented outside: the store knows no bus.

use std::time::Instant;

use crate::domain::{MessageId, Topic, UserId};

use super::{Draft, Stored};

/// The first of consecutive places in a topic's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// Which order: it changes when the topic's log was lost.
    pub epoch: u64,
    /// The first place.
    pub first: u64,
}

/// What a place is for, so that others can find out what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A new message. `addressed`: it is direct, mentions somebody, or answers something.
    New { message: MessageId, addressed: bool },
    /// A change of a message that exists.
    Changed(MessageId),
    /// Its author gives a message another text, which mentions these as the one before did not.
    Edited { message: MessageId, mentioned: Vec<UserId> },
    /// A human lets a message pass that was hidden.
    Shown(MessageId),
}

/// No places could be had.
#[derive(Clone, Debug, thiserror::Error)]
#[error("no offsets could be reserved: {0}")]
pub struct OutletError(pub String);

/// A message that is committed, with what its event needs.
#[derive(Debug)]
pub struct Committed<T> {
    pub draft: Draft,
    pub payload: T,
    pub stored: Stored,
    /// When the commit was known.
    pub at: Instant,
}

/// Where events get their place in a topic's order and leave for the others.
pub trait Outlet: Send + Sync + 'static {
    /// What an event needs beside the draft, passed through untouched.
    type Payload: Send + 'static;

    /// Takes the next places of each topic, in the order asked for, while the rooms' rows are locked. Has one second.
    /// When it fails, or when its answer comes too late, the places it may have taken stay empty.
    fn reserve(&self, wanted: &[(Topic, u32)]) -> impl Future<Output = Result<Vec<Reserved>, OutletError>> + Send;

    /// The same, with what each place is for, in the order of the places. An outlet that nobody shares need not keep that.
    fn reserve_for(
        &self,
        wanted: &[(Topic, u32)],
        _subjects: &[Subject],
    ) -> impl Future<Output = Result<Vec<Reserved>, OutletError>> + Send {
        self.reserve(wanted)
    }

    /// Publishes what is committed, in order. Never cancelled by a client's leaving. The lane goes on writing meanwhile,
    /// until eight batches wait here; so it must have deadlines of its own.
    fn publish(&self, committed: Vec<Committed<Self::Payload>>) -> impl Future<Output = ()> + Send;

    /// Publishes that these places stay empty: their messages were refused, or not committed.
    fn void(&self, places: Vec<(Topic, Reserved, u32)>) -> impl Future<Output = ()> + Send;
}
