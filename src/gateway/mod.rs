//! The composition root: builds every part from the configuration, starts the listeners, owns the order of shutdown.
//!
//! The order, with reasons: not ready (`/readyz` says so as soon as the end is asked for) → balancers had time to
//! notice → no new connections → presence handed over, so that nobody is announced as gone who comes back elsewhere →
//! sessions told and closed, paced → sends in flight written and published → delivery stopped → connections to Postgres
//! and Redis closed.

mod moderation;
mod parts;
mod reload;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::admin::{self, Admin, Tokens};
use crate::bus::{Bus, Orders, Subscriber, Subscription};
use crate::command::{BusOutlet, Mender};
use crate::config::{Config, Files};
use crate::health;
use crate::http::{AdminRequest, Ops, OpsThread, Public};
use crate::hub::Hub;
use crate::identity::DjangoCache;
use crate::lifecycle::{self, Lifecycle};
use crate::session::{self, Sessions};
use crate::store::{Store, Writer, WriterSettings};
use crate::telemetry::{Health, Metrics, trace};
use moderation::moderator;
pub use moderation::policy as moderation_policy;
use parts::{Parts, certificate, channel_layer, connect, handover, public_settings, sessions, shards, welcome};
use reload::Reloader;

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
    /// A file that the configuration names cannot be used.
    #[error("{0}")]
    Configuration(String),
    /// Anything else.
    #[error("{0}")]
    Internal(String),
}

impl BuildError {
    fn unreachable<E: std::fmt::Display>(dependency: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Unreachable { dependency, why: error.to_string() }
    }

    fn configuration<E: std::fmt::Display>(variable: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Configuration(format!("{variable}: {error}"))
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
    orders: Orders,
    hangups: Signal,
    admin: Arc<Admin>,
    reloader: Arc<Reloader>,
    files: Files,
    requests: mpsc::Receiver<AdminRequest>,
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
        // Before anything else is done, so that what changes meanwhile is seen.
        let files = tokio::task::spawn_blocking(Files::look).await.map_err(BuildError::internal("files"))?;
        let metrics = Arc::new(Metrics::new().map_err(BuildError::internal("metrics"))?);
        let health = Arc::new(Health::default());
        lifecycle.listen_for_signals().map_err(BuildError::internal("signals"))?;
        let hangups = signal(SignalKind::hangup()).map_err(BuildError::internal("signals"))?;

        let certificate = certificate(&config).map_err(|error| BuildError::Configuration(error.to_string()))?;
        if let Some(settings) = &config.trace {
            let exporter = trace::start(settings, &config.instance, &metrics);
            let exporter = exporter.map_err(BuildError::configuration("OTEL_EXPORTER_OTLP_ENDPOINT"))?;
            lifecycle.spawn_service("traces", exporter.run(lifecycle.clone()));
        }

        let moderator = moderator(&config.moderation, &lifecycle, &metrics).await?;
        let (store, bus, cache) = connect(&config, &metrics).await?;
        let Subscription { subscriber, inboxes, orders, door } =
            Subscriber::start(&bus, &config.instance, shards(), Arc::clone(&metrics))
                .await
                .map_err(BuildError::unreachable("Redis (GATEWAY_REDIS_URL)"))?;
        let channels = channel_layer(&config, door, &lifecycle, &metrics).await?;
        // Before the parts that others feed: these take it for a crash when who feeds them goes.
        let public = Public::bind(config.listen.public, public_settings(&config, certificate), Arc::clone(&metrics))
            .map_err(BuildError::internal("the public listener cannot be bound"))?;
        let (desk, requests) = mpsc::channel(admin::REQUESTS);
        let ops = Ops::bind(config.listen.ops, Arc::clone(&metrics), Arc::clone(&health))
            .and_then(|ops| ops.with_desk(desk).run(lifecycle.clone()))
            .map_err(BuildError::internal("the ops listener cannot be bound"))?;
        let mender = Mender::new(store.clone(), bus.log().clone(), channels.clone(), Arc::clone(&metrics));
        let hub = Hub::start(
            bus.clone(),
            mender,
            subscriber.clone(),
            inboxes,
            channels.clone(),
            config.limits.outbox_bytes,
            &lifecycle,
            Arc::clone(&metrics),
        );
        let outlet = Arc::new(BusOutlet::new(
            bus.log().clone(),
            channels,
            handover(&config, &bus, &store, &lifecycle, &metrics)?,
            Arc::clone(&metrics),
        ));
        let writer = Writer::start(&store, &outlet, &lifecycle, WriterSettings::default(), &metrics);
        let parts = Parts { store: &store, bus: &bus, writer: &writer, outlet, moderator, cache: &cache, hub };
        let sessions = Arc::new(sessions(&config, &lifecycle, &metrics, parts));

        let tokens = Arc::new(Tokens::new(&config.admin));
        let reloader =
            Reloader::new(&config, Arc::clone(&sessions), public.control(), Arc::clone(&tokens), Arc::clone(&metrics));
        let reloader = Arc::new(reloader);
        let admin = Arc::new(Admin::new(
            tokens,
            Arc::clone(&reloader),
            config.instance.clone(),
            Arc::clone(&sessions),
            bus.roster(),
            Arc::clone(&health),
            Arc::clone(&metrics),
            lifecycle.clone(),
        ));
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
            orders,
            hangups,
            admin,
            reloader,
            files,
            requests,
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
        let (sent, errands) = mpsc::channel(admin::ERRANDS);
        let obeying = session::obey(Arc::clone(sessions), self.orders, sent, lifecycle.clone());
        lifecycle.spawn_service("control", obeying);
        lifecycle.spawn_service("admin", self.admin.run(self.requests, errands, lifecycle.clone()));
        if !self.config.watch.is_zero() {
            let reloader = Arc::clone(&self.reloader);
            let watching = watch::on_change(reloader, self.config.watch, self.files, lifecycle.clone());
            lifecycle.spawn_service("files", watching);
        }
        lifecycle.spawn_service("reload", self.reloader.on_hangup(self.hangups, lifecycle.clone()));
        lifecycle.spawn_vital("warden", session::watch(Arc::clone(sessions), self.config.rights, lifecycle.clone()));
        lifecycle.spawn_vital("tickets", session::renew(Arc::clone(sessions), lifecycle.clone()));
        lifecycle.spawn_service("states", session::reload(Arc::clone(sessions), lifecycle.clone()));
        lifecycle.spawn_service("pulse", session::beat(Arc::clone(sessions), lifecycle.clone()));
        lifecycle.spawn_vital("census", session::census(Arc::clone(sessions), lifecycle.clone()));
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
        lifecycle.spawn_service("realtime", self.bus.clone().keep(self.subscriber.clone(), lifecycle.clone()));
        let welcome = welcome(Arc::clone(sessions), lifecycle.clone());
        lifecycle.spawn_vital("public listener", self.public.run(lifecycle.clone(), welcome));
        tracing::info!(instance = %self.config.instance, version = env!("CARGO_PKG_VERSION"), "serving");
        lifecycle::tell_serving();

        lifecycle.leaving().await;
        lifecycle::tell_stopping();
        let started = Instant::now();
        tokio::select! {
            () = tokio::time::sleep(self.config.drain_wait) => lifecycle.begin_shutdown(),
            () = lifecycle.stopping() => {} // a fault, or a second signal
        }
        sessions.entrance.presence.hand_over();
        sessions.admission.hand_over();
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
