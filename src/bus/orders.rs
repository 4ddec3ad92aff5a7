//! The queue of orders, from the subscription to whoever obeys them.
//!
//! Who fills it runs inside the connection's task and must never wait. An order that finds no place is dropped and made up
//! for: when those that wait have been obeyed, everything is looked up again that an order could have said.

use std::sync::Arc;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc};

use super::Control;
use crate::domain::{ConnectionId, UserId};
use crate::telemetry::Metrics;

/// Orders that may wait.
const PLACES: usize = 1_024;

/// Sockets to be ended that may wait. In a storm each return names one on every instance; one that is dropped ends by its
/// own missed pings.
const REPLACED: usize = 16 * 1_024;

/// What is to be obeyed.
pub struct Orders {
    /// Everything but what follows.
    pub queue: Queue,
    /// Sockets in whose place another one came. Apart, because they are as frequent as returns, and a ban must not wait
    /// behind them.
    pub replaced: mpsc::Receiver<(UserId, ConnectionId)>,
}

/// Orders, one after the other.
pub struct Queue {
    given: mpsc::Receiver<Control>,
    missed: Arc<Notify>,
}

impl Queue {
    /// The next order: [`Control::CatchUp`] when all have been obeyed and one was dropped meanwhile. None at the end.
    ///
    /// # Cancel safety
    /// Safe: no order is lost when it is dropped.
    pub async fn next(&mut self) -> Option<Control> {
        tokio::select! {
            biased;
            order = self.given.recv() => order,
            () = self.missed.notified() => Some(Control::CatchUp),
        }
    }
}

/// The end that is filled.
pub(super) struct Clerk {
    queue: mpsc::Sender<Control>,
    missed: Arc<Notify>,
    replaced: mpsc::Sender<(UserId, ConnectionId)>,
    metrics: Arc<Metrics>,
}

impl Clerk {
    pub(super) fn new(metrics: Arc<Metrics>) -> (Self, Orders) {
        let (queue, given) = mpsc::channel(PLACES);
        let (replaced, ended) = mpsc::channel(REPLACED);
        let missed = Arc::new(Notify::new());
        let orders = Orders { queue: Queue { given, missed: Arc::clone(&missed) }, replaced: ended };
        (Self { queue, missed, replaced, metrics }, orders)
    }

    pub(super) fn take(&self, order: Control) {
        let action = order.action();
        self.metrics.control_total.with_label_values(&[action]).inc();
        if let Control::Replaced { user, connection } = order {
            if let Err(TrySendError::Full(_)) = self.replaced.try_send((user, connection)) {
                self.metrics.bus_dropped_total.inc();
            }
        } else if let Err(TrySendError::Full(_)) = self.queue.try_send(order) {
            tracing::error!(action, "the queue of orders is full: one is dropped, everything will be looked up again");
            self.metrics.bus_dropped_total.inc();
            self.missed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn clerk() -> (Clerk, Orders) {
        Clerk::new(Arc::new(Metrics::new().expect("are well formed")))
    }

    fn disconnect(clerk: &Clerk, users: std::ops::Range<i64>) {
        users.for_each(|user| clerk.take(Control::Disconnect { user: UserId(user) }));
    }

    fn waiting(orders: &mut Orders) -> Vec<Control> {
        std::iter::from_fn(|| orders.queue.next().now_or_never().flatten()).collect()
    }

    #[test]
    fn behind_those_that_found_a_place_everything_is_looked_up_again_once() {
        let (clerk, mut orders) = clerk();
        for _ in 0..2 {
            disconnect(&clerk, 0..2_000);
            let waiting = waiting(&mut orders);
            assert_eq!(waiting.len(), PLACES + 1);
            assert_eq!(waiting[PLACES - 1], Control::Disconnect { user: UserId(PLACES as i64 - 1) });
            assert_eq!(waiting[PLACES], Control::CatchUp);
        }
        disconnect(&clerk, 0..PLACES as i64);
        assert_eq!(waiting(&mut orders).len(), PLACES, "nothing was dropped");
    }

    #[test]
    fn returns_take_no_places() {
        let (clerk, mut orders) = clerk();
        let replaced = |number| Control::Replaced { user: UserId(1), connection: ConnectionId(number) };
        (0..20_000).for_each(|number| clerk.take(replaced(number)));
        disconnect(&clerk, 0..1);
        assert_eq!(waiting(&mut orders), [Control::Disconnect { user: UserId(0) }]);
        assert_eq!(orders.replaced.len(), REPLACED);
    }
}
