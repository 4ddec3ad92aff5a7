//! The public listener: accepts, shakes hands where TLS is spoken, lets HTTP speak for one request, and hands over what became a WebSocket.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::Request;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use prometheus::IntGauge;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use super::accept;
use super::door::{Admitted, Door, DoorControl, Exchange, Guard, Place};
use super::path::SocketPath;
use crate::access::address::FromAddress;
use crate::config::Network;
use crate::identity::{Credentials, Sealer};
use crate::lifecycle::Lifecycle;
use crate::telemetry::Metrics;
use crate::transport::{self, Accepted, Certificate, Stream};

/// The smallest buffer that hyper takes, in bytes.
const SMALLEST_HEAD: usize = 8 * 1024;
/// Most connections beyond the limit that are accepted at the same time, to be told to come back.
pub const TURNED_AWAY: usize = 16;
/// What handshakes in progress get when the gateway goes away.
const GRACE: Duration = Duration::from_secs(2);

/// A connection that was answered with 101. Nobody has looked at its credentials yet.
pub struct Arrival {
    /// The connection, out of HTTP's hands.
    pub stream: Stream,
    /// What the client sent right after its request: the first input of the WebSocket.
    pub early: Bytes,
    /// What it asked for.
    pub path: SocketPath,
    /// What it brought to say who it is.
    pub credentials: Credentials,
    /// The epoch and the offset up to which it knows everything, if it says so.
    pub since: Option<(u64, u64)>,
    /// Where it comes from, as the trusted proxies tell. Not for logs.
    pub address: IpAddr,
    /// What it occupies; to be kept until the socket is closed.
    pub guard: Guard,
    /// Its place among those that enter; to be kept until it is in, or is not let in.
    pub entering: OwnedSemaphorePermit,
    /// When the 101 was written.
    pub upgraded_at: Instant,
}

/// Says what is asked for, and not by whom.
impl fmt::Debug for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut arrival = f.debug_struct("Arrival");
        arrival.field("path", &self.path).field("credentials", &self.credentials).finish_non_exhaustive()
    }
}

/// What the public listener must know. A count or a rate of 0 is off, except where noted.
#[derive(Clone, Debug)]
pub struct PublicSettings {
    /// Origins whose pages may connect, exactly as browsers send them.
    pub allowed_origins: Vec<String>,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// Name of the cookie that holds a JWT.
    pub jwt_cookie: String,
    /// Most open sockets, handshakes in progress included; here 0 is none, `usize::MAX` is any number. Beyond it a few
    /// are accepted to be told so: [`TURNED_AWAY`].
    pub connections: usize,
    /// Most open sockets of one client address.
    pub connections_per_address: u32,
    /// Most new sockets a second.
    pub handshake_rate: u32,
    /// Most connections that have not been answered yet, at least 1; more wait in the kernel.
    pub handshakes_in_progress: usize,
    /// Most who are on their way in at once, from the answer until they are in, at least 1: who enters takes much more
    /// memory than who waits to be answered, or than who is in.
    pub entering: usize,
    /// Opens the tickets of those who return, who come first when places are short.
    pub tickets: Arc<Sealer>,
    /// The certificate, where TLS is spoken.
    pub certificate: Option<Certificate>,
    /// Longest time from `accept` to the last byte of the answer, TLS included.
    pub head_deadline: Duration,
    /// Longest request head, in bytes; less than 8 KiB counts as 8 KiB.
    pub max_head: usize,
}

/// The public listener, bound and not yet accepting.
pub struct Public {
    listener: TcpListener,
    address: SocketAddr,
    handshakes: Arc<Semaphore>,
    turned_away: Arc<Semaphore>,
    handshake: Handshake,
}

impl fmt::Debug for Public {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Public").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Public {
    /// Binds the listener, and logs its address. Connections wait in the kernel until [`Public::run`].
    ///
    /// # Errors
    /// When the operating system refuses the address.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn bind(address: SocketAddr, settings: PublicSettings, metrics: Arc<Metrics>) -> io::Result<Self> {
        let listener = TcpListener::from_std(accept::listen(address)?)?;
        let address = listener.local_addr()?;
        tracing::info!(listener = "public", %address, "listening");
        let handshakes = settings.handshakes_in_progress.clamp(1, Semaphore::MAX_PERMITS);
        let handshake = Handshake {
            entering: Arc::new(Semaphore::new(settings.entering.clamp(1, Semaphore::MAX_PERMITS))),
            deadline: settings.head_deadline,
            max_head: settings.max_head.max(SMALLEST_HEAD),
            door: Arc::new(Door::new(settings, metrics)),
        };
        let (handshakes, turned_away) = (Semaphore::new(handshakes), Semaphore::new(TURNED_AWAY));
        Ok(Self { listener, address, handshakes: handshakes.into(), turned_away: turned_away.into(), handshake })
    }

    /// The address that it is bound to, with the port that was found if 0 was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Changes what holds at the door while people come in.
    #[must_use]
    pub fn control(&self) -> DoorControl {
        DoorControl(Arc::clone(&self.handshake.door))
    }

    /// Accepts until the shutdown begins; then the address is closed at once, and handshakes in progress get a moment
    /// more. `on_arrival` must not block: it hands the connection to a task.
    pub async fn run(self, lifecycle: Lifecycle, on_arrival: Arc<dyn Fn(Arrival) + Send + Sync>) {
        let accepting = async {
            loop {
                // The permit comes first: who cannot be served waits in the kernel, and occupies nothing here.
                let Ok(permit) = Arc::clone(&self.handshakes).acquire_owned().await else { return };
                let (stream, peer) = accept::next(&self.listener).await;
                let Some(of_peer) = self.handshake.door.begin(peer.ip(), self.handshakes.available_permits()) else {
                    continue;
                };
                // This comes second, or the last place would be held for somebody who is not there yet.
                let Ok(place) = self.place().await else { return };
                let progress = Progress::begin(&self.handshake.door.metrics, permit);
                let (handshake, on_arrival) = (self.handshake.clone(), Arc::clone(&on_arrival));
                let inside = lifecycle.clone();
                lifecycle.spawn(async move {
                    let arrival = handshake.run(stream, peer.ip(), of_peer, place, &inside).await;
                    drop(progress);
                    if let Some(arrival) = arrival {
                        on_arrival(arrival);
                    }
                });
            }
        };
        tokio::select! {
            biased;
            () = lifecycle.stopping() => {}
            () = accepting => {}
        }
    }

    /// Waits for a place among the open sockets, or among the few that are turned away for want of one.
    async fn place(&self) -> Result<Place, AcquireError> {
        tokio::select! {
            biased;
            socket = Arc::clone(&self.handshake.door.sockets).acquire_owned() => socket.map(Place::Socket),
            away = Arc::clone(&self.turned_away).acquire_owned() => away.map(Place::TurnedAway),
        }
    }
}

/// How one connection gets from `accept` to its answer.
#[derive(Clone)]
struct Handshake {
    door: Arc<Door>,
    entering: Arc<Semaphore>,
    deadline: Duration,
    max_head: usize,
}

impl Handshake {
    /// `silent` counts the connection among those of its peer that have not asked for anything yet.
    async fn run(
        self,
        stream: TcpStream,
        peer: IpAddr,
        silent: FromAddress,
        place: Place,
        lifecycle: &Lifecycle,
    ) -> Option<Arrival> {
        let stopped = async {
            lifecycle.stopping().await;
            tokio::time::sleep(GRACE).await;
        };
        // One deadline for both steps.
        let end = async {
            tokio::select! {
                () = tokio::time::sleep(self.deadline) => "timeout",
                () = stopped => "draining",
            }
        };
        let mut end = pin!(end);
        let certificate = self.door.certificate();
        let speaks_tls = certificate.is_some();
        let accepted = match certificate {
            None => Accepted::Plain(stream),
            Some(certificate) => tokio::select! {
                accepted = self.secure(stream, &certificate) => match accepted {
                    Ok(accepted) => accepted,
                    Err(failed) => {
                        transport::linger(failed?).await;
                        return None;
                    }
                },
                reason = &mut end => {
                    self.count(reason);
                    return None;
                }
            },
        };
        let is_misplaced = speaks_tls && matches!(accepted, Accepted::Plain(_));
        let exchange = Mutex::new(Exchange::new(place, is_misplaced));
        let silent = Mutex::new(Some(silent));
        let speaking = async {
            let queued = Mutex::new(self.queue(&accepted, &silent, lifecycle).await?);
            let service = service_fn(async |request: Request<Incoming>| {
                silent.lock().take(); // who waits now waits for us
                let is_for_socket = SocketPath::parse(request.uri().path()).is_some();
                let queued = queued.lock().take();
                let entering = match queued {
                    Some(entering) => entering,
                    None if is_for_socket => self.turn(lifecycle).await,
                    None => None,
                };
                Ok::<_, Infallible>(self.door.answer(request, peer, lifecycle, &exchange, entering))
            });
            // hyper's own limit is for the head alone; the deadline is for the whole handshake.
            let connection = http1::Builder::new()
                .header_read_timeout(None::<Duration>)
                .max_buf_size(self.max_head)
                .serve_connection(TokioIo::new(accepted), service)
                .with_upgrades();
            connection.await.map_err(|error| reason(&error))
        };
        let failure = tokio::select! {
            ended = speaking => ended.err(),
            reason = &mut end => Some(reason),
        };
        let mut exchange = exchange.into_inner();
        if let Some(admitted) = exchange.admitted.take() {
            return self.hand_over(admitted).await;
        }
        // Who connects and says nothing was looking whether the port is open.
        if let Some(reason) = failure.filter(|_| !exchange.answered) {
            self.door.refused(reason);
        }
        None
    }

    /// Lets a client whose whole request is there wait for its turn before HTTP reads it: it stays in the kernel, where
    /// HTTP would keep 16 KiB for it. Returns how that ended; `None` where HTTP must look first.
    ///
    /// # Errors
    /// When the client gave up.
    async fn queue(
        &self,
        accepted: &Accepted,
        silent: &Mutex<Option<FromAddress>>,
        lifecycle: &Lifecycle,
    ) -> Result<Option<Option<OwnedSemaphorePermit>>, &'static str> {
        let Accepted::Plain(tcp) = accepted else { return Ok(None) };
        if self.entering.available_permits() > 0 || !transport::peek(tcp, SocketPath::is_whole_request).await {
            return Ok(None);
        }
        silent.lock().take();
        let entering = self.turn(lifecycle).await;
        if transport::has_ended(tcp).await { Err("abandoned") } else { Ok(Some(entering)) }
    }

    /// Waits for a place among those that enter. `None` when it took half the time of a handshake, the rest of which is for
    /// the answer, or the gateway goes away.
    async fn turn(&self, lifecycle: &Lifecycle) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            biased;
            place = Arc::clone(&self.entering).acquire_owned() => place.ok(),
            () = lifecycle.stopping() => None,
            () = tokio::time::sleep(self.deadline / 2) => None,
        }
    }

    /// Shakes hands. Who begins without TLS stays without, to be told so; who was told what is wrong with the handshake
    /// is given back, to be let read it.
    async fn secure(&self, stream: TcpStream, certificate: &Certificate) -> Result<Accepted, Option<TcpStream>> {
        if !transport::speaks_tls(&stream).await.ok_or(None)? {
            self.count("plain_http");
            return Ok(Accepted::Plain(stream));
        }
        match transport::accept(stream, certificate).await {
            Ok(accepted) => {
                self.count("ok");
                Ok(accepted)
            }
            Err((failure, stream)) => {
                self.count(failure.code());
                Err(Some(stream))
            }
        }
    }

    /// Counts the end of a TLS handshake.
    fn count(&self, outcome: &'static str) {
        self.door.metrics.tls_handshakes_total.with_label_values(&[outcome]).inc();
    }

    /// Takes the connection out of HTTP's hands, which ended before: this waits for nothing.
    async fn hand_over(&self, admitted: Admitted) -> Option<Arrival> {
        let parts = admitted.connection.await.ok().and_then(|io| io.downcast::<TokioIo<Accepted>>().ok());
        let Some(parts) = parts else {
            self.door.refused("abandoned");
            return None;
        };
        self.door.metrics.upgrades_total.inc();
        let (stream, unread) = parts.io.into_inner().into_stream();
        // A copy: the original keeps HTTP's whole buffer of 8 KiB alive for as long as the connection lives.
        let early = Bytes::from([&parts.read_buf, &unread[..]].concat());
        Some(Arrival {
            stream,
            early,
            path: admitted.path,
            credentials: admitted.credentials,
            since: admitted.since,
            address: admitted.address,
            guard: admitted.guard,
            entering: admitted.entering,
            upgraded_at: Instant::now(),
        })
    }
}

/// Why HTTP ended without an answer of ours.
fn reason(error: &hyper::Error) -> &'static str {
    if error.is_parse_too_large() {
        "head_too_large"
    } else if error.is_parse() {
        "malformed_request"
    } else {
        "abandoned"
    }
}

/// Counts a handshake while it is in progress, and keeps its permit.
struct Progress {
    open: IntGauge,
    _permit: OwnedSemaphorePermit,
}

impl Progress {
    fn begin(metrics: &Metrics, permit: OwnedSemaphorePermit) -> Self {
        metrics.handshakes_open.inc();
        Self { open: metrics.handshakes_open.clone(), _permit: permit }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.open.dec();
    }
}
