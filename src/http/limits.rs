//! The limits of the door, in memory: sockets of an address, handshakes a second. A limit of 0 is off.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

/// Counts the open sockets of each client address.
#[derive(Debug)]
pub struct Addresses {
    limit: u32,
    open: Mutex<HashMap<IpAddr, u32>>,
}
impl Addresses {
    pub fn new(limit: u32) -> Self {
        Self { limit, open: Mutex::default() }
    }
    pub fn try_enter(self: &Arc<Self>, address: IpAddr) -> Option<AddressGuard> {
        let mut open = self.open.lock();
        let n = open.entry(address).or_default();
        if self.limit != 0 && *n >= self.limit {
            return None;
        }
        *n += 1;
        Some(AddressGuard { addresses: Arc::clone(self), address })
    }
}
/// One counted socket.
#[derive(Debug)]
pub struct AddressGuard {
    addresses: Arc<Addresses>,
    address: IpAddr,
}
impl Drop for AddressGuard {
    fn drop(&mut self) {
        let mut open = self.addresses.open.lock();
        if let Some(n) = open.get_mut(&self.address) {
            *n -= 1;
            if *n == 0 {
                open.remove(&self.address);
            }
        }
    }
}
/// A token bucket that holds one second's worth.
#[derive(Debug)]
pub struct HandshakeRate {
    rate: f64,
    state: Mutex<(f64, Instant)>,
}
impl HandshakeRate {
    pub fn new(rate: u32) -> Self {
        Self { rate: rate.into(), state: Mutex::new((rate.into(), Instant::now())) }
    }
    pub fn try_take(&self) -> bool {
        if self.rate == 0.0 {
            return true;
        }
        let mut state = self.state.lock();
        let now = Instant::now();
        state.0 = (state.0 + now.duration_since(state.1).as_secs_f64() * self.rate).min(self.rate);
        state.1 = now;
        if state.0 < 1.0 {
            return false;
        }
        state.0 -= 1.0;
        true
    }
}
