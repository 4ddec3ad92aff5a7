//! Events that leave together, and when it is time for them.
//!
//! Pure. A quiet topic waits for nothing: the first event goes at once. Two things wait, in the order in which they came:
//! news of the moment (joins, leaves, typing, a thread's counts) while others of that kind have just gone out, and what
//! comes to a busy topic, for what follows closely: to a large one always, to any other when more flows than anybody reads.
//! All that waits leaves in one write for each seat, as soon as anything may: a message takes along what waits.

use std::time::{Duration, Instant};

use super::super::seat::{Batch, Delivery, is_coming};
use crate::socket::Class;

/// How many events are held at most: more are due at once.
pub(super) const FULL: usize = 256;
/// How long after news of the moment the next wait.
pub(super) const PASSING: Duration = Duration::from_millis(100);
/// The same where it is nothing but joins and leaves: who comes in a stream of people is seen a second later at most, and
/// each seat is written to once a second, not for everybody.
pub(super) const STREAM: Duration = Duration::from_secs(1);
/// With fewer seats nothing is worth a wait.
pub(super) const FEW: usize = 8;
/// From so many seats on, a busy topic waits for what follows.
pub(super) const LARGE: usize = 1_000;
/// How long it waits: about a tenth of what the writing takes.
pub(super) const FOR_EACH_SEAT: Duration = Duration::from_micros(1);
/// And no longer than this.
pub(super) const LONGEST: Duration = Duration::from_millis(8);
/// How long after the last events a topic is called busy.
pub(super) const BUSY: Duration = Duration::from_secs(2);
/// In a flood of messages each seat is written to once in this time: nobody reads ten messages a second, and a write to a
/// socket costs more than all that is in it.
pub(super) const PACE: Duration = Duration::from_millis(100);
/// How many messages leave at once before they flow at that pace.
pub(super) const BURST: u32 = 10;

/// What waits for its time.
#[derive(Default)]
pub(super) struct Held {
    batch: Batch,
    /// When the first of it came.
    since: Option<Instant>,
    /// When the first came that is more than news of the moment.
    urgent: Option<Instant>,
    /// There is other news of the moment than joins and leaves.
    is_soon: bool,
    /// When something left last.
    left: Option<Instant>,
    /// When news of the moment left last.
    passing_left: Option<Instant>,
    /// When a whole burst may leave at once again: later by a pace with everything that leaves.
    rested: Option<Instant>,
}

impl Held {
    pub(super) fn len(&self) -> usize {
        self.batch.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= FULL
    }

    /// Adds an event behind the others.
    pub(super) fn add(&mut self, delivery: Delivery, now: Instant) {
        self.since.get_or_insert(now);
        match delivery.class {
            Class::Latest(key) => self.is_soon |= !is_coming(key),
            _ => _ = self.urgent.get_or_insert(now),
        }
        self.batch.add(delivery);
    }

    /// When it is time for what is held, on a topic with so many seats.
    pub(super) fn due(&self, seats: usize) -> Option<Instant> {
        let since = self.since?;
        if self.is_full() {
            return Some(since);
        }
        if let Some(came) = self.urgent {
            let is_busy = self.left.is_some_and(|left| came.saturating_duration_since(left) < BUSY);
            let ready = if is_busy { came + wait(seats) } else { came };
            let paced = self.rested.filter(|_| seats >= FEW).map(|rested| rested - PACE * (BURST - 1));
            return Some(paced.map_or(ready, |paced| ready.max(paced)));
        }
        let last = self.passing_left.filter(|_| seats >= FEW);
        let pause = if self.is_soon { PASSING } else { STREAM };
        Some(last.map_or(since, |last| since.max(last + pause)))
    }

    /// Takes all of it.
    pub(super) fn take(&mut self, now: Instant) -> Batch {
        let batch = std::mem::take(&mut self.batch);
        self.left = Some(now);
        if self.urgent.is_some() {
            self.rested = Some(self.rested.map_or(now, |rested| rested.max(now)) + PACE);
        }
        if batch.is_passing() {
            self.passing_left = Some(now);
        }
        (self.since, self.urgent, self.is_soon) = (None, None, false);
        batch
    }
}

/// How long a busy topic waits for what follows an event.
fn wait(seats: usize) -> Duration {
    match u32::try_from(seats) {
        Ok(count) if seats >= LARGE => (FOR_EACH_SEAT * count).min(LONGEST),
        Ok(_) => Duration::ZERO,
        Err(_) => LONGEST,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::super::seat::{COMING, key};
    use super::*;
    use crate::domain::UserId;

    fn message() -> Delivery {
        Delivery::new(Bytes::from_static(b"{}"), Class::Message)
    }

    fn typing() -> Delivery {
        Delivery::new(Bytes::from_static(b"{}"), Class::Latest(key(2, Some(UserId(7)))))
    }

    fn joined() -> Delivery {
        Delivery::new(Bytes::from_static(b"{}"), Class::Latest(key(COMING, Some(UserId(7)))))
    }

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn a_quiet_topic_waits_for_nothing() {
        let now = Instant::now();
        for seats in [1, FEW, LARGE, 100_000] {
            for delivery in [message(), typing(), joined()] {
                let mut held = Held::default();
                assert_eq!(held.due(seats), None);
                held.add(delivery, now);
                assert_eq!(held.due(seats), Some(now), "{seats}");
            }
        }
    }

    #[test]
    fn news_of_the_moment_waits_after_others_and_a_message_takes_it_along() {
        let now = Instant::now();
        let mut held = Held::default();
        held.add(typing(), now);
        assert_eq!(held.take(now).len(), 1);
        held.add(typing(), now + ms(30));
        held.add(typing(), now + ms(60));
        assert_eq!(held.due(FEW), Some(now + PASSING), "from the last that left, not from the last that came");
        assert_eq!(held.due(FEW - 1), Some(now + ms(30)), "among few nothing is won");
        held.add(message(), now + ms(70));
        assert_eq!(held.due(FEW), Some(now + ms(70)));
        assert_eq!(held.take(now + ms(70)).len(), 3);
        assert_eq!(held.due(FEW), None);
        held.add(typing(), now + ms(80));
        assert_eq!(held.due(FEW), Some(now + ms(70) + PASSING), "what was taken along counts");
    }

    #[test]
    fn who_comes_after_others_is_told_of_later_unless_something_goes_out_before() {
        let now = Instant::now();
        let mut held = Held::default();
        held.add(joined(), now);
        held.take(now);
        held.add(joined(), now + ms(10));
        assert_eq!(held.due(FEW), Some(now + STREAM));
        assert_eq!(held.due(FEW - 1), Some(now + ms(10)));
        held.add(typing(), now + ms(20));
        assert_eq!(held.due(FEW), Some(now + PASSING), "typing takes it along");
        assert_eq!(held.take(now + PASSING).len(), 2);
        held.add(joined(), now + ms(110));
        assert_eq!(held.due(FEW), Some(now + PASSING + STREAM), "that was the typing before");
    }

    #[test]
    fn news_of_the_moment_does_not_wait_for_messages() {
        let now = Instant::now();
        let mut held = Held::default();
        held.add(message(), now);
        held.take(now);
        held.add(typing(), now + ms(10));
        assert_eq!(held.due(50), Some(now + ms(10)));
    }

    #[test]
    fn a_large_topic_waits_while_it_is_busy_and_a_small_one_never() {
        let now = Instant::now();
        let mut held = Held::default();
        held.add(message(), now);
        held.take(now);
        held.add(message(), now + ms(100));
        assert_eq!(held.due(50), Some(now + ms(100)));
        assert_eq!(held.due(LARGE - 1), Some(now + ms(100)));
        assert_eq!(held.due(5_000), Some(now + ms(105)));
        held.add(message(), now + ms(104));
        assert_eq!(held.due(5_000), Some(now + ms(105)), "it is the first that counts");
        assert_eq!(held.due(1_000_000), Some(now + ms(100) + LONGEST));
        held.take(now + ms(105));
        held.add(message(), now + ms(105) + BUSY);
        assert_eq!(held.due(5_000), Some(now + ms(105) + BUSY), "it was quiet for a while");
    }

    #[test]
    fn a_flood_of_messages_flows_at_a_pace() {
        let mut held = Held::default();
        let (mut now, mut left) = (Instant::now(), Vec::new());
        let end = now + ms(10_000);
        while now < end {
            held.add(message(), now);
            if held.due(FEW).is_some_and(|due| due <= now) {
                left.push((now, held.take(now).len()));
            }
            now += ms(10);
        }
        assert!(left.iter().take(BURST as usize).all(|(_, events)| *events == 1), "who talks does not wait: {left:?}");
        let (_, flood) = left.split_at(BURST as usize + 2);
        assert!(flood.iter().all(|(_, events)| *events == 10), "{left:?}");
        assert!(flood.windows(2).all(|pair| pair[1].0 - pair[0].0 == PACE), "{left:?}");
        held.take(now);
        held.add(message(), now);
        assert_eq!(held.due(FEW - 1), Some(now), "among few nothing is won");
        held.take(now);
        // After a while all of a burst may leave again.
        let rested = now + PACE * (BURST + 2);
        for _ in 0..BURST {
            held.add(message(), rested);
            assert_eq!(held.due(FEW), Some(rested));
            held.take(rested);
        }
        held.add(message(), rested);
        assert_eq!(held.due(FEW), Some(rested + PACE));
    }

    #[test]
    fn so_many_are_due_at_once() {
        let now = Instant::now();
        let mut held = Held::default();
        held.add(typing(), now);
        held.take(now);
        (0..FULL).for_each(|_| held.add(typing(), now + ms(1)));
        assert_eq!(held.due(5_000), Some(now + ms(1)));
    }
}
