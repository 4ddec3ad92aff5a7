//! Who is let in: the order of all checks before the upgrade, and what a socket occupies while it is open.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use hyper::Request;
use hyper::body::Body;
use hyper::upgrade::OnUpgrade;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::{Answer, Refused};
use super::path::SocketPath;
use super::public::PublicSettings;
use super::{credentials, forwarded, upgrade};
use crate::access::address::{Addresses, FromAddress, HandshakeRate};
use crate::config::{Live, Network};
use crate::identity::{Credentials, Sealer};
use crate::lifecycle::Lifecycle;
use crate::telemetry::Metrics;
use crate::transport::Certificate;

/// What one socket occupies: a place among the open sockets, and among those of its address. Given back on drop.
pub struct Guard {
    _socket: OwnedSemaphorePermit,
    _address: FromAddress,
    metrics: Arc<Metrics>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.metrics.sockets_open.dec();
    }
}

/// What a connection was accepted with.
pub(super) enum Place {
    /// A place among the open sockets.
    Socket(OwnedSemaphorePermit),
    /// There was none; this is a place among those that are told so.
    TurnedAway(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit),
}

/// A connection's one request, as far as it has got.
pub(super) struct Exchange {
    /// Kept to the end of the connection, unless it became that of a socket.
    place: Option<Place>,
    pub answered: bool,
    /// It is plain HTTP, and this listener speaks TLS.
    pub is_misplaced: bool,
    /// With a 101: what follows from it.
    pub admitted: Option<Admitted>,
}

impl Exchange {
    pub fn new(place: Place, is_misplaced: bool) -> Self {
        Self { place: Some(place), answered: false, is_misplaced, admitted: None }
    }
}

/// A request that was answered with 101, before the connection is out of HTTP's hands.
pub(super) struct Admitted {
    pub path: SocketPath,
    pub credentials: Credentials,
    pub since: Option<(u64, u64)>,
    pub address: IpAddr,
    pub guard: Guard,
    pub entering: OwnedSemaphorePermit,
    pub connection: OnUpgrade,
}

/// Whose word counts.
struct Trust {
    origins: Vec<String>,
    proxies: Vec<Network>,
    tickets: Arc<Sealer>,
}

impl Trust {
    fn of(settings: &PublicSettings) -> Self {
        Self {
            origins: settings.allowed_origins.clone(),
            proxies: settings.trusted_proxies.clone(),
            tickets: Arc::clone(&settings.tickets),
        }
    }
}

/// Changes what holds at the door while people come in.
#[derive(Clone)]
pub struct DoorControl(pub(super) Arc<Door>);

impl DoorControl {
    /// Lets these hold from now on: origins, proxies, the ticket's key, the certificate, sockets an
    /// address, handshakes a second. The rest needs a new door.
    pub fn set(&self, settings: &PublicSettings) {
        self.0.trust.set(Trust::of(settings));
        self.0.show(settings.certificate.as_ref());
        self.0.addresses.set(settings.connections_per_address);
        self.0.rate.set(settings.handshake_rate);
    }
}

/// The checks and their limits.
pub(super) struct Door {
    settings: PublicSettings,
    /// What of the settings can change: only these are looked at.
    trust: Live<Trust>,
    certificate: Live<Option<Certificate>>,
    pub sockets: Arc<Semaphore>,
    addresses: Addresses,
    /// Connections that have not asked for anything yet, by the peer they come from.
    silent: Addresses,
    rate: HandshakeRate,
    pub metrics: Arc<Metrics>,
}

impl Door {
    pub fn new(settings: PublicSettings, metrics: Arc<Metrics>) -> Self {
        let door = Self {
            sockets: Arc::new(Semaphore::new(settings.connections.min(Semaphore::MAX_PERMITS))),
            addresses: Addresses::new(settings.connections_per_address, Arc::clone(&metrics)),
            silent: Addresses::new(0, Arc::clone(&metrics)),
            rate: HandshakeRate::new(settings.handshake_rate, Arc::clone(&metrics)),
            trust: Live::new(Trust::of(&settings)),
            certificate: Live::new(None),
            settings,
            metrics,
        };
        door.metrics.sockets_limit.set(i64::try_from(door.settings.connections).unwrap_or(i64::MAX));
        door.show(door.settings.certificate.as_ref());
        door
    }

    /// Lets this certificate be shown to those who come from now on. Whether TLS is spoken at all stays as it was at the
    /// start: clients know the port as one or the other.
    fn show(&self, certificate: Option<&Certificate>) {
        if let Some(certificate) = certificate.filter(|_| self.settings.certificate.is_some()) {
            self.metrics.tls_certificate_not_after_seconds.set(certificate.validity().ends);
            self.certificate.set(Some(certificate.clone()));
        }
    }

    /// The certificate to be shown now; `None` where no TLS is spoken.
    pub fn certificate(&self) -> Option<Certificate> {
        self.certificate.load().as_ref().clone()
    }

    /// Counts a connection that has not asked for anything yet; `None` when its peer has more than a quarter of all places, and
    /// half of them are taken: who only opens connections must not keep the others out. A trusted proxy is many people.
    pub fn begin(&self, peer: IpAddr, free: usize) -> Option<FromAddress> {
        let places = self.settings.handshakes_in_progress;
        let is_short = free < places / 2 && !forwarded::is_trusted(peer, &self.trust.load().proxies);
        let most = if is_short { u32::try_from(places / 4).unwrap_or(u32::MAX).max(1) } else { 0 };
        let entered = self.silent.enter_up_to(forwarded::counted(peer), most);
        if entered.is_none() {
            self.refused("handshakes_of_address");
        }
        entered
    }

    /// Answers the request. There is only one: every answer closes the connection or takes it away from HTTP. Without a
    /// place among those that `entering` counts nobody is let in.
    pub fn answer<B: Body>(
        &self,
        mut request: Request<B>,
        peer: IpAddr,
        lifecycle: &Lifecycle,
        exchange: &Mutex<Exchange>,
        entering: Option<OwnedSemaphorePermit>,
    ) -> Answer {
        let mut exchange = exchange.lock();
        exchange.answered = true;
        let admitted = match exchange.is_misplaced {
            true => Err(Refused::TlsRequired),
            false => self.admit(&mut request, peer, lifecycle, &mut exchange.place, entering),
        };
        match admitted {
            Ok((answer, admitted)) => {
                exchange.admitted = Some(admitted);
                answer
            }
            Err(refused) => {
                self.refused(refused.code());
                refused.answer()
            }
        }
    }

    /// Counts a refusal.
    pub fn refused(&self, reason: &'static str) {
        self.metrics.upgrades_refused_total.with_label_values(&[reason]).inc();
    }

    /// Cheap and final reasons first; then the limits, the one that concerns the fewest first, so that one crowded
    /// address takes nothing from the rate that all share. The credentials are only read: whoever is refused here can
    /// use the same token again.
    fn admit<B: Body>(
        &self,
        request: &mut Request<B>,
        peer: IpAddr,
        lifecycle: &Lifecycle,
        place: &mut Option<Place>,
        entering: Option<OwnedSemaphorePermit>,
    ) -> Result<(Answer, Admitted), Refused> {
        let path = SocketPath::parse(request.uri().path()).ok_or(Refused::NotFound)?;
        upgrade::check(request)?;
        let trust = self.trust.load();
        upgrade::check_origin(request.headers(), &trust.origins)?;
        if lifecycle.is_stopping() {
            return Err(Refused::Draining);
        }
        let entering = entering.ok_or(Refused::Busy)?;
        let address = forwarded::client_address(peer, request.headers(), &trust.proxies);
        let credentials = credentials::read(request.uri().query(), request.headers(), &self.settings.jwt_cookie);
        let guard = self.reserve(address, &credentials, place)?;
        let since = credentials::since(request.uri().query());
        let (answer, connection) = upgrade::switch(request)?;
        Ok((answer, Admitted { path, credentials, since, address, guard, entering, connection }))
    }

    fn reserve(&self, address: IpAddr, credentials: &Credentials, place: &mut Option<Place>) -> Result<Guard, Refused> {
        let of_address = self.addresses.enter(forwarded::counted(address)).ok_or(Refused::AddressFull)?;
        if matches!(place, Some(Place::TurnedAway(_))) {
            // One may have become free in the meantime.
            let socket = Arc::clone(&self.sockets).try_acquire_owned().map_err(|_| Refused::SocketsFull)?;
            *place = Some(Place::Socket(socket));
        }
        // Only a ticket that this gateway sealed makes somebody one who returns.
        let ticket = credentials.resume_token.as_deref();
        let returns = ticket.is_some_and(|ticket| self.trust.load().tickets.open(ticket).is_ok());
        // Not the exact wait: with that, all who were turned away now would be back at the same time.
        self.rate.take(address, returns, Instant::now()).map_err(|_| Refused::Busy)?;
        let Some(Place::Socket(socket)) = place.take() else { return Err(Refused::SocketsFull) };
        self.metrics.sockets_open.inc();
        Ok(Guard { _socket: socket, _address: of_address, metrics: Arc::clone(&self.metrics) })
    }
}
