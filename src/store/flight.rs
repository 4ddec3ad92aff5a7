//! Reads that many callers want at once, done once.
//!
//! A caller may only be answered by a read that *started after it asked*: an older one may lack what the caller has
//! just been told of. So of one key there is at most one read running and one more that all who wait share.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;

/// The reads in progress, by what is read.
pub(super) struct Flights<K, V> {
    flights: Mutex<HashMap<K, Arc<Flight<V>>>>,
}

/// The reads of one key, as long as anybody waits for them.
struct Flight<V> {
    /// Held while a read runs. Fair: callers get it in the order they came.
    turn: tokio::sync::Mutex<()>,
    /// How many reads have started, and the result of the last that ended with its number.
    state: Mutex<(u64, Option<(u64, V)>)>,
}

impl<K: Copy + Eq + Hash, V: Clone> Flights<K, V> {
    pub(super) fn new() -> Self {
        Self { flights: Mutex::new(HashMap::new()) }
    }

    /// Answers from a read that starts after this call, and says whether it was another caller's.
    ///
    /// # Cancel safety
    /// Safe: when the caller whose read runs goes away, the next who waits reads.
    pub(super) async fn read<F>(&self, key: K, read: F) -> (V, bool)
    where
        F: AsyncFnOnce() -> V,
    {
        let flight = {
            let mut flights = self.flights.lock();
            Arc::clone(flights.entry(key).or_insert_with(|| {
                Arc::new(Flight { turn: tokio::sync::Mutex::new(()), state: Mutex::new((0, None)) })
            }))
        };
        let _boarding = Boarding { flights: self, key, flight: &flight };
        let started_before = flight.state.lock().0;
        let _turn = flight.turn.lock().await;
        let number = {
            let mut state = flight.state.lock();
            if let Some((number, value)) = &state.1
                && *number > started_before
            {
                return (value.clone(), true);
            }
            state.0 += 1;
            state.0
        };
        let value = read().await;
        flight.state.lock().1 = Some((number, value.clone()));
        (value, false)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.flights.lock().len()
    }
}

/// One caller's interest in a flight: the last to leave removes it, and with it the result.
struct Boarding<'a, K: Copy + Eq + Hash, V> {
    flights: &'a Flights<K, V>,
    key: K,
    flight: &'a Arc<Flight<V>>,
}

impl<K: Copy + Eq + Hash, V> Drop for Boarding<'_, K, V> {
    fn drop(&mut self) {
        let mut flights = self.flights.flights.lock();
        // Two owners: the map and this caller. Nobody can join while the map is locked.
        if Arc::strong_count(self.flight) == 2 {
            flights.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    /// Polls the runtime until every other task has had its turn.
    async fn settle() {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn who_comes_while_a_read_runs_shares_the_next_one() {
        let flights = Flights::new();
        let (reads, gate) = (AtomicUsize::new(0), Notify::new());
        let read = async || {
            let number = reads.fetch_add(1, Ordering::SeqCst) + 1;
            gate.notified().await;
            number
        };
        let late = async {
            settle().await; // the first read is under way
            let both = async { tokio::join!(flights.read(7, read), flights.read(7, read), flights.read(7, read)) };
            let open = async {
                settle().await;
                assert_eq!(reads.load(Ordering::SeqCst), 1, "only one read runs at a time");
                gate.notify_one();
                settle().await;
                gate.notify_one();
            };
            tokio::join!(both, open).0
        };
        let (first, (second, third, fourth)) = tokio::join!(flights.read(7, read), late);
        assert_eq!(first, (1, false));
        assert_eq!((second, third, fourth), ((2, false), (2, true), (2, true)));
        assert_eq!(flights.len(), 0, "nothing is kept when nobody waits");
    }

    #[tokio::test]
    async fn a_reader_that_goes_away_leaves_its_turn_to_the_next() {
        let flights = Flights::new();
        let mut gone = Box::pin(flights.read(1, async || std::future::pending::<u8>().await));
        let mut next = Box::pin(flights.read(1, async || 5));
        tokio::select! {
            biased;
            _ = &mut gone => panic!("a pending read ended"),
            _ = &mut next => panic!("two reads ran at a time"),
            () = settle() => {}
        }
        drop(gone);
        assert_eq!(next.await, (5, false));
        assert_eq!(flights.len(), 0);
    }
}
