//! Reads of many keys by one statement. What is asked for while reads run forms the next one: no timer, no task.
//!
//! So a thousand clients that come at the same moment are a few statements, and one that comes alone waits for nobody.
//! Callers read for each other; a caller may only be answered by a read that started after it asked.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{Semaphore, oneshot};

/// The keys that wait to be read.
pub(super) struct Gathering<K, V> {
    waiting: Mutex<VecDeque<(K, oneshot::Sender<V>)>>,
    /// As many reads as may run at once.
    lanes: Semaphore,
    /// The most keys of one read.
    most: usize,
}

impl<K, V> Gathering<K, V>
where
    K: Copy,
{
    pub(super) fn new(lanes: usize, most: usize) -> Self {
        Self { waiting: Mutex::new(VecDeque::new()), lanes: Semaphore::new(lanes), most }
    }

    /// Answers from a read that starts after this call. `read` gives a value for each key, in their order.
    ///
    /// # Cancel safety
    /// Safe: when the caller goes away whose turn it was to read, who still waits asks again.
    pub(super) async fn read<R>(&self, key: K, read: impl Fn(Vec<K>) -> R) -> V
    where
        R: Future<Output = Vec<V>>,
    {
        loop {
            let (answer, mut answered) = oneshot::channel();
            self.waiting.lock().push_back((key, answer));
            tokio::select! {
                biased;
                given = &mut answered => match given {
                    Ok(value) => return value,
                    // Who read for us went away.
                    Err(_) => continue,
                },
                _lane = self.lanes.acquire() => match self.serve(&read, &mut answered).await {
                    Ok(value) => return value,
                    Err(TryRecvError::Closed) => continue,
                    Err(TryRecvError::Empty) => {} // it is being read in another lane
                },
            }
            if let Ok(value) = answered.await {
                return value;
            }
        }
    }

    /// Reads for all who wait until the caller's own answer is there, or nobody waits any more.
    async fn serve<R>(
        &self,
        read: &impl Fn(Vec<K>) -> R,
        answered: &mut oneshot::Receiver<V>,
    ) -> Result<V, TryRecvError>
    where
        R: Future<Output = Vec<V>>,
    {
        loop {
            let (keys, answers): (Vec<_>, Vec<_>) = {
                let mut waiting = self.waiting.lock();
                let number = waiting.len().min(self.most);
                waiting.drain(..number).filter(|(_, answer)| !answer.is_closed()).unzip()
            };
            if keys.is_empty() {
                return answered.try_recv();
            }
            for (answer, value) in answers.into_iter().zip(read(keys).await) {
                // Who asked may have gone away.
                let _ = answer.send(value);
            }
            match answered.try_recv() {
                Err(TryRecvError::Empty) => {}
                given => return given,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Notify;

    use super::*;

    /// Polls the runtime until every other task has had its turn.
    async fn settle() {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }

    /// Reads that note their keys and wait to be let go.
    #[derive(Default)]
    struct Reads {
        keys: Mutex<Vec<Vec<u32>>>,
        gate: Notify,
    }

    impl Reads {
        async fn ten_times(&self, keys: Vec<u32>) -> Vec<u32> {
            self.keys.lock().push(keys.clone());
            self.gate.notified().await;
            keys.into_iter().map(|key| key * 10).collect()
        }

        /// Lets one read after the other go, for as long as `asked` waits.
        async fn open<T>(&self, asked: impl Future<Output = T>) -> T {
            let opening = async {
                loop {
                    settle().await;
                    self.gate.notify_one();
                }
            };
            tokio::select! {
                found = asked => found,
                () = opening => unreachable!("it never ends"),
            }
        }
    }

    #[tokio::test]
    async fn what_is_asked_for_while_a_read_runs_is_one_read() {
        let (gathering, reads) = (Gathering::new(1, 100), Reads::default());
        let ask = async |key| gathering.read(key, |keys| reads.ten_times(keys)).await;
        let mut first = Box::pin(ask(1));
        let mut others = Box::pin(async { tokio::join!(ask(2), ask(3), ask(4)) });
        tokio::select! {
            biased;
            _ = &mut first => panic!("nothing was let go"),
            _ = &mut others => panic!("two reads ran at a time"),
            () = settle() => {}
        }
        assert_eq!(reads.open(async { tokio::join!(first, others) }).await, (10, (20, 30, 40)));
        assert_eq!(*reads.keys.lock(), [vec![1], vec![2, 3, 4]]);
    }

    #[tokio::test]
    async fn a_read_is_bounded_and_so_is_the_number_of_reads() {
        let (gathering, reads) = (Gathering::new(2, 2), Reads::default());
        let asked = (1..=7).map(|key| gathering.read(key, |keys| reads.ten_times(keys)));
        let mut asked = Box::pin(futures_util::future::join_all(asked));
        tokio::select! {
            biased;
            _ = &mut asked => panic!("nothing was let go"),
            () = settle() => {}
        }
        assert_eq!(reads.keys.lock().len(), 2, "two lanes");
        let found = reads.open(asked).await;
        assert_eq!(found, [10, 20, 30, 40, 50, 60, 70]);
        let keys = reads.keys.lock().clone();
        assert!(keys.iter().all(|keys| keys.len() <= 2), "{keys:?}");
        let mut all = keys.concat();
        all.sort_unstable();
        assert_eq!(all, [1, 2, 3, 4, 5, 6, 7], "each once");
    }

    #[tokio::test]
    async fn a_reader_that_goes_away_is_replaced_by_who_still_waits() {
        let (gathering, reads) = (Gathering::new(1, 100), Reads::default());
        let ask = async |key| gathering.read(key, |keys| reads.ten_times(keys)).await;
        // The first enters alone; the second forms the next batch and reads for the third.
        let mut first = Box::pin(ask(1));
        let mut second = Box::pin(ask(2));
        let mut third = Box::pin(ask(3));
        tokio::select! {
            biased;
            _ = &mut first => panic!("nothing was let go"),
            _ = &mut second => panic!("two reads ran at a time"),
            _ = &mut third => panic!("two reads ran at a time"),
            () = settle() => {}
        }
        drop(first);
        tokio::select! {
            biased;
            _ = &mut second => panic!("nothing was let go"),
            _ = &mut third => panic!("nothing was let go"),
            () = settle() => {}
        }
        assert_eq!(*reads.keys.lock(), [vec![1], vec![2, 3]]);
        drop(second);
        assert_eq!(reads.open(third).await, 30);
        assert_eq!(reads.keys.lock().last(), Some(&vec![3]));
    }
}
