//! The composition root: builds every part from the configuration, starts the listeners, owns the order of shutdown.
//!
//! The order, with reasons: not ready (`/readyz` says so as soon as the end is asked for) → no new connections → presence
//! handed over, so that nobody is announced as gone who comes back elsewhere → sessions told and closed, paced → sends in
//! flight written and published → delivery stopped → connections to Postgres and Redis closed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::access::admission::{self, Admission};
use crate::access::bucket::Rate;
use crate::access::quota::{Quota, Window};
use crate::access::{Access, AttachmentRules, Grants, Nonces};
use crate::bus::{Bus, Control, Envelope, Kind, Subscriber, Subscription};
use crate::command::{BusOutlet, Commands, Directory, Entrance};
use crate::config::Config;
use crate::domain::Venue;
use crate::health;
use crate::http::{Arrival, Ops, OpsThread, Public, PublicSettings, SocketPath};
use crate::hub::Hub;
use crate::identity::{DjangoCache, Login, Verifier};
use crate::keyspace;
use crate::lifecycle::Lifecycle;
use crate::presence::Typing;
use crate::presence::{Presence, Timing};
use crate::session::{self, Sessions, Visitor};
use crate::socket::{Heartbeat, Limits as SocketLimits, Shared};
use crate::store::{Settings, Store, Writer, WriterSettings};
use crate::telemetry::{Health, Metrics};
use crate::wire::event;

/// Handshakes that may be in progress at once.
const HANDSHAKES: usize = 1_024;
/// How long a handshake may take.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// The largest request head, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// How long the last tasks may take after the drain.
const LAST_TASKS: Duration = Duration::from_secs(5);

/// Why the gateway could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A dependency did not answer.
    #[error("{dependency} could not be reached: {why}")]
    Unreachable {
        /// Which one.
        dependency: &'static str,
        /// What went wrong, without secrets.
        why: String,
    },
    /// Anything else.
    #[error("{0}")]
    Internal(String),
}

impl BuildError {
    fn unreachable<E: std::fmt::Display>(dependency: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Unreachable { dependency, why: error.to_string() }
    }

    fn internal<E: std::fmt::Display>(doing: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Internal(format!("{doing}: {error}"))
    }
}

/// How the gateway ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Because it was asked to.
    Asked,
    /// Because a part of it failed.
    Fault,
}

/// A gateway that is ready to run: everything is connected, the listeners are bound, nothing is accepted yet.
pub struct Gateway {
    config: Config,
    lifecycle: Lifecycle,
    public: Public,
    ops: OpsThread,
    bus: Bus,
    store: Store,
    writer: Writer<crate::command::Echo>,
    cache: DjangoCache,
    sessions: Arc<Sessions>,
    subscriber: Subscriber,
    orders: mpsc::Receiver<Control>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
}

impl Gateway {
    /// Builds every part.
    ///
    /// # Errors
    /// When a dependency cannot be reached or a listener cannot be bound.
    pub async fn build(config: Config) -> Result<Self, BuildError> {
        let lifecycle = Lifecycle::new();
        let built = Self::assemble(config, lifecycle.clone()).await;
        if built.is_err() {
            // What was started already must not take its end for a crash.
            lifecycle.abort();
        }
        built
    }

    async fn assemble(config: Config, lifecycle: Lifecycle) -> Result<Self, BuildError> {
        let metrics = Arc::new(Metrics::new().map_err(BuildError::internal("metrics"))?);
        let health = Arc::new(Health::default());
        lifecycle.listen_for_signals().map_err(BuildError::internal("signals"))?;

        let (store, bus, cache) = connect(&config, &metrics).await?;
        let Subscription { subscriber, inboxes, control } =
            Subscriber::start(&bus, &config.instance, shards(), Arc::clone(&metrics))
                .await
                .map_err(BuildError::unreachable("Redis (GATEWAY_REDIS_URL)"))?;
        let outbox_bytes = config.limits.outbox_bytes;
        let hub = Hub::start(bus.clone(), subscriber.clone(), inboxes, outbox_bytes, &lifecycle, Arc::clone(&metrics));
        let outlet = Arc::new(BusOutlet::new(bus.log().clone(), Arc::clone(&metrics)));
        let writer = Writer::start(&store, &outlet, &lifecycle, WriterSettings::default(), &metrics);
        let sessions = Arc::new(sessions(&config, &lifecycle, &metrics, &store, &bus, &writer, outlet, &cache, hub));

        let public = Public::bind(config.listen.public, public_settings(&config), Arc::clone(&metrics))
            .map_err(BuildError::internal("the public listener cannot be bound"))?;
        let ops = Ops::bind(config.listen.ops, Arc::clone(&metrics), Arc::clone(&health))
            .and_then(|ops| ops.run(lifecycle.clone()))
            .map_err(BuildError::internal("the ops listener cannot be bound"))?;
        Ok(Self {
            config,
            lifecycle,
            public,
            ops,
            bus,
            store,
            writer,
            cache,
            sessions,
            subscriber,
            orders: control,
            health,
            metrics,
        })
    }

    /// Where the public listener is, for callers that asked for port 0.
    #[must_use]
    pub fn public_address(&self) -> SocketAddr {
        self.public.local_addr()
    }

    /// Runs until it is asked to end, or a vital part fails.
    pub async fn run(self) -> Exit {
        let (lifecycle, sessions) = (&self.lifecycle, &self.sessions);
        let heartbeat = Arc::clone(&sessions.heartbeat);
        let beating = lifecycle.clone();
        lifecycle.spawn_service("heartbeat", async move { heartbeat.run(beating.aborted()).await });
        lifecycle.spawn_service("control", session::obey(Arc::clone(sessions), self.orders, lifecycle.clone()));
        lifecycle.spawn_vital("warden", session::watch(Arc::clone(sessions), lifecycle.clone()));
        lifecycle.spawn_service("pulse", session::beat(Arc::clone(sessions), lifecycle.clone()));
        lifecycle.spawn_vital("compare", session::compare(Arc::clone(sessions), lifecycle.clone()));
        let watched = health::Watched {
            store: self.store.clone(),
            bus: self.bus.clone(),
            subscriber: self.subscriber.clone(),
            cache: self.cache.clone(),
        };
        lifecycle.spawn_service(
            "health",
            health::watch(watched, Arc::clone(&self.health), Arc::clone(&self.metrics), lifecycle.clone()),
        );
        let welcome = welcome(Arc::clone(sessions), lifecycle.clone());
        lifecycle.spawn_vital("public listener", self.public.run(lifecycle.clone(), welcome));
        tracing::info!(instance = %self.config.instance, version = env!("CARGO_PKG_VERSION"), "serving");

        lifecycle.stopping().await;
        let started = Instant::now();
        sessions.entrance.presence.hand_over();
        let left = tokio::select! {
            left = session::drain(sessions, self.config.drain) => left,
            () = lifecycle.aborted() => sessions.open.len(),
        };
        self.writer.close();
        let patience = if lifecycle.is_aborted() { Duration::ZERO } else { LAST_TASKS };
        let tasks = lifecycle.wait(patience).await;
        if !lifecycle.is_aborted() {
            self.store.close().await;
            self.cache.close().await;
        }
        tracing::info!(sessions_left = left, tasks_left = tasks, seconds = started.elapsed().as_secs(), "ended");
        let crashed = lifecycle.has_crashed();
        drop(self.ops);
        if crashed { Exit::Fault } else { Exit::Asked }
    }
}

/// One shard of the hub for each core.
fn shards() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZero::get)
}

async fn connect(config: &Config, metrics: &Arc<Metrics>) -> Result<(Store, Bus, DjangoCache), BuildError> {
    let settings = Settings {
        pool: config.database.pool,
        pgbouncer: config.database.pgbouncer,
        user_table: config.database.user_table.clone(),
        ..Settings::new(config.database.url.expose())
    };
    let store = Store::connect(settings, Arc::clone(metrics))
        .await
        .map_err(BuildError::unreachable("Postgres (DATABASE_URL)"))?;
    let bus = Bus::connect(config.redis.url.expose(), Arc::clone(metrics))
        .await
        .map_err(BuildError::unreachable("Redis (GATEWAY_REDIS_URL)"))?;
    let cache = DjangoCache::connect(config.cache.url.expose(), &config.cache.prefix, &config.cache.version)
        .await
        .map_err(BuildError::unreachable("Django's cache (GATEWAY_CACHE_URL)"))?;
    Ok((store, bus, cache))
}

#[expect(clippy::too_many_arguments, reason = "the composition root: each is a part that sessions are made of")]
fn sessions(
    config: &Config,
    lifecycle: &Lifecycle,
    metrics: &Arc<Metrics>,
    store: &Store,
    bus: &Bus,
    writer: &Writer<crate::command::Echo>,
    outlet: Arc<BusOutlet>,
    cache: &DjangoCache,
    hub: Arc<Hub>,
) -> Sessions {
    let limits = &config.limits;
    let left = |_, user| Envelope::passing(Kind::Left, user, event::user_left(user)).encode();
    let timing = Timing { span: config.presence.lease, grace: config.presence.grace };
    let presence = Presence::new(bus.connection(), config.instance.clone(), timing, Arc::clone(metrics), left);
    presence.start(lifecycle);
    let admission = Admission::new(
        bus.connection(),
        config.instance.clone(),
        admission::Limits {
            connections: limits.connections_per_user,
            connects: limits.connects_per_minute,
            lease: config.presence.lease,
            grace: config.presence.grace,
        },
        Arc::clone(metrics),
        |user, online| Envelope::passing(if online { Kind::Online } else { Kind::Offline }, user, Vec::new()).encode(),
    );
    admission.start(lifecycle);
    let sockets = Shared::new(
        SocketLimits {
            max_message: limits.max_message_bytes,
            outbox_bytes: limits.outbox_bytes,
            ping_every: config.heartbeat.ping,
            idle_after: config.heartbeat.idle,
            ..SocketLimits::default()
        },
        Arc::clone(metrics),
    );
    let minute = Duration::from_secs(60);
    let reactions = [Window { length: minute, places: limits.reactions_per_minute }];
    let reactions =
        Quota::new(bus.connection(), "reactions", keyspace::reaction_window, &reactions, Arc::clone(metrics));
    let sends = [
        Window { length: minute, places: limits.messages_per_minute },
        Window { length: Duration::from_secs(3_600), places: limits.messages_per_hour },
    ];
    let sends = Quota::new(bus.connection(), "messages", keyspace::send_window, &sends, Arc::clone(metrics));
    let nonces = Nonces::new(bus.connection(), Arc::clone(metrics));
    Sessions {
        login: Login::new(cache.clone(), Verifier::new(config.auth.secret_key.expose())),
        admission,
        access: Access {
            store: store.clone(),
            grants: Grants::new(store.clone()),
            sends,
            reactions,
            nonces: nonces.clone(),
            attachments: AttachmentRules { hosts: config.attachments.hosts.clone() },
        },
        entrance: Entrance {
            store: store.clone(),
            log: bus.log().clone(),
            presence,
            directory: Directory::new(store.clone()),
        },
        commands: Commands {
            store: store.clone(),
            writer: writer.clone(),
            outlet,
            nonces,
            log: bus.log().clone(),
            typing: Typing::new(bus.connection(), Arc::clone(metrics)),
        },
        hub,
        heartbeat: Arc::new(Heartbeat::new(&sockets, Instant::now())),
        sockets,
        frames: Rate::new(limits.frames_per_second, limits.frames_burst),
        open: tokio_util::task::TaskTracker::new(),
        metrics: Arc::clone(metrics),
    }
}

fn public_settings(config: &Config) -> PublicSettings {
    PublicSettings {
        allowed_origins: config.auth.allowed_origins.clone(),
        trusted_proxies: config.auth.trusted_proxies.clone(),
        jwt_cookie: config.auth.jwt_cookie.clone(),
        connections: config.open_sockets(),
        connections_per_address: config.limits.connections_per_address,
        handshake_rate: config.limits.handshake_rate,
        handshakes_in_progress: HANDSHAKES,
        head_deadline: HANDSHAKE_DEADLINE,
        max_head: MAX_HEAD,
    }
}

/// Makes a session of every arrival.
fn welcome(sessions: Arc<Sessions>, lifecycle: Lifecycle) -> Arc<dyn Fn(Arrival) + Send + Sync> {
    Arc::new(move |arrival: Arrival| {
        let venue = match arrival.path {
            SocketPath::Room(room) => Venue::Room(room),
            SocketPath::Dm(thread) => Venue::Dm(thread),
            SocketPath::Presence => Venue::App,
        };
        let visitor = Visitor {
            stream: arrival.stream,
            early: arrival.early,
            venue,
            credentials: arrival.credentials,
            holds: Box::new(arrival.guard),
        };
        let of_session = Arc::clone(&sessions);
        lifecycle.spawn(sessions.open.track_future(async move { of_session.run(visitor).await }));
    })
}
