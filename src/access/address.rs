//! What one instance alone limits before anybody has logged in: open sockets of a client address, handshakes a second,
//! and how fast an address learns that a login was wrong.
//!
//! Must never hold anything that names a client's address longer than its sockets are open, or, when a login of it
//! failed, two minutes.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::bucket::{Bucket, Rate, Wait};
use crate::telemetry::Metrics;

/// The address that stands for a client in counts: with IPv6 its /64, all of which a single customer usually has.
#[must_use]
pub fn counted(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

/// Open sockets of each client address, on this instance. Cloning is cheap and gives the same one.
#[derive(Clone)]
pub struct Addresses {
    open: Arc<Mutex<HashMap<IpAddr, u32>>>,
    most: Arc<AtomicU32>,
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
        Self { open: Arc::default(), most: Arc::new(AtomicU32::new(most)), metrics }
    }

    /// Lets another number hold from now on, for new sockets.
    pub fn set(&self, most: u32) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// Counts one more socket of an address; `None` when it has as many as it may.
    #[must_use]
    pub fn enter(&self, address: IpAddr) -> Option<FromAddress> {
        self.enter_up_to(address, self.most.load(Ordering::Relaxed))
    }

    /// The same with a limit of this call's own.
    #[must_use]
    pub fn enter_up_to(&self, address: IpAddr, most: u32) -> Option<FromAddress> {
        let mut open = self.open.lock();
        let count = open.entry(address).or_default();
        if most > 0 && *count >= most {
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
    bucket: Mutex<(Bucket, Shares)>,
    per_second: AtomicU32,
    metrics: Arc<Metrics>,
}

impl HandshakeRate {
    /// So many in the long run and as many at once; 0 is any number.
    #[must_use]
    pub fn new(per_second: u32, metrics: Arc<Metrics>) -> Self {
        let now = Instant::now();
        let bucket =
            Mutex::new((Bucket::new(now), Shares { since: now, key: RandomState::new(), taken: HashMap::new() }));
        Self { bucket, per_second: AtomicU32::new(per_second), metrics }
    }

    /// Lets another rate hold from now on.
    pub fn set(&self, per_second: u32) {
        self.per_second.store(per_second, Ordering::Relaxed);
    }

    /// Counts one handshake of an address. A quarter of the burst is left to those who return: when a storm has emptied
    /// the bucket, every place that comes free is theirs until none of them waits. An address that had an eighth of the
    /// rate within this second leaves half: so it may use what nobody else wants, and keeps nobody out.
    ///
    /// # Errors
    /// When there are too many at this time.
    pub fn take(&self, address: IpAddr, returns: bool, now: Instant) -> Result<(), Wait> {
        let per_second = self.per_second.load(Ordering::Relaxed);
        if per_second == 0 {
            return Ok(());
        }
        let mut state = self.bucket.lock();
        let (bucket, shares) = &mut *state;
        let share = shares.of(address, now);
        let others = match (returns, *share > per_second / 8) {
            (true, _) => 0,
            (false, false) => per_second / 4,
            (false, true) => per_second / 2,
        };
        let taken = bucket.take_leaving(&Rate::new(per_second, per_second), others, now);
        match taken {
            Ok(()) => *share += 1,
            Err(_) => self.metrics.limited_total.with_label_values(&["handshakes"]).inc(),
        }
        taken
    }
}

/// What each address took of the handshakes within a second, under a number that tells nobody which address it is. As
/// many entries at most as there were handshakes.
struct Shares {
    since: Instant,
    key: RandomState,
    taken: HashMap<u64, u32>,
}

impl Shares {
    fn of(&mut self, address: IpAddr, now: Instant) -> &mut u32 {
        if now.saturating_duration_since(self.since) >= Duration::from_secs(1) {
            (self.since, self.taken) = (now, HashMap::new());
        }
        self.taken.entry(self.key.hash_one(counted(address))).or_default()
    }
}

/// How many failed logins of an address are answered at once.
const FREE: u32 = 10;
/// The first and the longest delay of an answer.
const DELAY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(4));
/// After so long without a failed login an address is forgotten.
const FORGET: Duration = Duration::from_secs(120);
/// Most addresses that are remembered; those that fail beyond are answered at once.
const REMEMBERED: usize = 16_384;

/// Failed logins of each address. Only a wrong login waits for its answer, and a right one never does: so guessing is
/// slow, and nobody can lock out those who share an address.
#[derive(Default)]
pub struct Guesses(Mutex<HashMap<IpAddr, (u32, Instant)>>);

impl Guesses {
    /// Notes a failed login; says how long its answer has to wait.
    #[must_use]
    pub fn failed(&self, address: IpAddr, now: Instant) -> Duration {
        let (mut known, address) = (self.0.lock(), counted(address));
        if known.len() >= REMEMBERED {
            known.retain(|_, (_, last)| now.saturating_duration_since(*last) < FORGET);
        }
        if known.len() >= REMEMBERED && !known.contains_key(&address) {
            return Duration::ZERO;
        }
        let (failures, last) = known.entry(address).or_insert((0, now));
        if now.saturating_duration_since(*last) >= FORGET {
            *failures = 0;
        }
        (*failures, *last) = (failures.saturating_add(1), now);
        match failures.saturating_sub(FREE) {
            0 => Duration::ZERO,
            more => DELAY.1.min(DELAY.0 * 2_u32.pow((more - 1).min(8))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    /// Many addresses.
    fn from(number: u32) -> IpAddr {
        IpAddr::V4(std::net::Ipv4Addr::from_bits(0x0b00_0000 + number))
    }

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
        assert!((0..2000).all(|_| rate.take(HERE, false, Instant::now()).is_ok()));
    }

    #[test]
    fn handshakes_come_at_their_rate() {
        let metrics = metrics();
        let rate = HandshakeRate::new(1000, Arc::clone(&metrics));
        let now = Instant::now();
        assert_eq!((0..1500).filter(|_| rate.take(HERE, true, now).is_ok()).count(), 1000);
        assert_eq!((0..10).filter(|_| rate.take(HERE, true, now + Duration::from_millis(5)).is_ok()).count(), 5);
        assert_eq!(metrics.limited_total.with_label_values(&["handshakes"]).get(), 505);
    }

    #[test]
    fn those_who_return_come_first_when_places_are_short() {
        let rate = HandshakeRate::new(1000, metrics());
        let now = Instant::now();
        assert_eq!((0..1500).filter(|n| rate.take(from(*n), false, now).is_ok()).count(), 750);
        assert_eq!((0..1500).filter(|_| rate.take(HERE, true, now).is_ok()).count(), 250);
        // What comes free is theirs; only what they leave is the others'.
        let later = now + Duration::from_millis(200);
        assert_eq!((0..300).filter(|n| rate.take(from(*n), false, later).is_ok()).count(), 0);
        assert_eq!((0..300).filter(|_| rate.take(HERE, true, later).is_ok()).count(), 200);
        assert_eq!(
            (0..900).filter(|n| rate.take(from(*n), false, later + Duration::from_secs(1)).is_ok()).count(),
            750
        );
    }

    #[test]
    fn one_address_keeps_no_other_out() {
        let rate = HandshakeRate::new(1000, metrics());
        let now = Instant::now();
        assert_eq!((0..9000).filter(|_| rate.take(HERE, false, now).is_ok()).count(), 500);
        assert_eq!((0..9000).filter(|n| rate.take(from(*n), false, now).is_ok()).count(), 250);
        // It may have all that nobody else wants.
        let taken = (0..10)
            .map(|n| now + Duration::from_millis(400 + n * 100))
            .map(|later| (0..1000).filter(|_| rate.take(HERE, false, later).is_ok()).count());
        assert_eq!(taken.sum::<usize>(), 1050);
    }

    #[test]
    fn guessing_gets_slow_for_an_address_and_for_no_other() {
        let guesses = Guesses::default();
        let (here, there) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let now = Instant::now();
        let waits: Vec<u128> = (0..16).map(|_| guesses.failed(here, now).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 250, 500, 1000, 2000, 4000, 4000]);
        assert_eq!(guesses.failed(there, now), Duration::ZERO);
        assert_eq!(guesses.failed(here, now + FORGET), Duration::ZERO, "it is forgotten after a while");
    }
}
