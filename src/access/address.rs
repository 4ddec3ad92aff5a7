//! What one instance alone limits before anybody has logged in: open sockets of a client address, handshakes a second.
//!
//! Must never hold anything that names a client's address longer than its sockets are open.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use super::bucket::{Bucket, Rate, Wait};
use crate::telemetry::Metrics;

/// Open sockets of each client address, on this instance. Cloning is cheap and gives the same one.
#[derive(Clone)]
pub struct Addresses {
    open: Arc<Mutex<HashMap<IpAddr, u32>>>,
    most: u32,
    metrics: Arc<Metrics>,
}

/// One socket of an address. Dropping it counts one less.
#[must_use = "dropping it counts the socket as closed"]
pub struct FromAddress {
    open: Arc<Mutex<HashMap<IpAddr, u32>>>,
    address: IpAddr,
}

impl Addresses {
    /// At most `most` open sockets an address; 0 is any number.
    #[must_use]
    pub fn new(most: u32, metrics: Arc<Metrics>) -> Self {
        Self { open: Arc::default(), most, metrics }
    }

    /// Counts one more socket of an address; `None` when it has as many as it may.
    #[must_use]
    pub fn enter(&self, address: IpAddr) -> Option<FromAddress> {
        let mut open = self.open.lock();
        let count = open.entry(address).or_default();
        if self.most > 0 && *count >= self.most {
            self.metrics.limited_total.with_label_values(&["addresses"]).inc();
            return None;
        }
        *count += 1;
        Some(FromAddress { open: Arc::clone(&self.open), address })
    }
}

impl Drop for FromAddress {
    fn drop(&mut self) {
        let mut open = self.open.lock();
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

/// New sockets a second, on this instance.
pub struct HandshakeRate {
    bucket: Mutex<Bucket>,
    rate: Rate,
    metrics: Arc<Metrics>,
}

impl HandshakeRate {
    /// So many in the long run and as many at once; 0 is any number.
    #[must_use]
    pub fn new(per_second: u32, metrics: Arc<Metrics>) -> Self {
        let bucket = Mutex::new(Bucket::new(Instant::now()));
        Self { bucket, rate: Rate::new(per_second, per_second), metrics }
    }

    /// Counts one handshake.
    ///
    /// # Errors
    /// When there are too many at this time.
    pub fn take(&self, now: Instant) -> Result<(), Wait> {
        let taken = self.bucket.lock().take(&self.rate, now);
        taken.inspect_err(|_| self.metrics.limited_total.with_label_values(&["handshakes"]).inc())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn metrics() -> Arc<Metrics> {
        Arc::new(Metrics::new().expect("names are valid"))
    }

    #[test]
    fn an_address_has_so_many_sockets_and_is_forgotten_with_the_last() {
        let addresses = Addresses::new(2, metrics());
        let (here, there) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let first = addresses.enter(here);
        let second = addresses.enter(here);
        assert!(first.is_some() && second.is_some() && addresses.enter(here).is_none());
        assert!(addresses.enter(there).is_some());
        drop(first);
        assert!(addresses.enter(here).is_some());
        drop(second);
        assert!(addresses.open.lock().is_empty());
    }

    #[test]
    fn a_limit_of_zero_is_any_number() {
        let addresses = Addresses::new(0, metrics());
        let sockets: Vec<_> = (0..2000).map(|_| addresses.enter(IpAddr::from([10, 0, 0, 1]))).collect();
        assert!(sockets.iter().all(Option::is_some));
        let rate = HandshakeRate::new(0, metrics());
        assert!((0..2000).all(|_| rate.take(Instant::now()).is_ok()));
    }

    #[test]
    fn handshakes_come_at_their_rate() {
        let metrics = metrics();
        let rate = HandshakeRate::new(1000, Arc::clone(&metrics));
        let now = Instant::now();
        assert_eq!((0..1500).filter(|_| rate.take(now).is_ok()).count(), 1000);
        assert_eq!((0..10).filter(|_| rate.take(now + Duration::from_millis(5)).is_ok()).count(), 5);
        assert_eq!(metrics.limited_total.with_label_values(&["handshakes"]).get(), 505);
    }
}
