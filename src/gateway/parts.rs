//! How each part is made from the configuration. Called once, by the composition root; starts what runs beside it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::BuildError;
use crate::access::address::Guesses;
use crate::access::admission::{self, Admission};
use crate::access::bucket::Rate;
use crate::access::clock::Clock;
use crate::access::once::Once;
use crate::access::quota::{Quota, Window};
use crate::access::returns::Returns;
use crate::access::{Access, AttachmentRules, Grants, Hits, Nonces};
use crate::bus::{Bus, ChannelLayer, Door, Envelope, Kind, channels};
use crate::command::{BusOutlet, Commands, Directory, Entrance, Ledger, Past};
use crate::config::{Config, LayerKind, Limits, Live};
use crate::domain::{Micros, Topic, Venue};
use crate::handover::{self, Handover};
use crate::http::{Arrival, PublicSettings, SocketPath};
use crate::hub::Hub;
use crate::identity::{DjangoCache, Login, Sealer, Verifier};
use crate::keyspace;
use crate::lifecycle::Lifecycle;
use crate::moderation::Moderator;
use crate::presence::{Presence, Timing, Typing, Words};
use crate::session::{Sessions, Tickets, Visitor};
use crate::socket::{Heartbeat, Limits as SocketLimits, Shared};
use crate::store::{Settings, Store, Writer};
use crate::telemetry::Metrics;
use crate::transport::{Certificate, CertificateError, Standing};
use crate::wire::event::{self, Place};

/// Handshakes that may be in progress at once, those included that wait for a place among [`ENTERING`]. Each takes about
/// 16 KiB once HTTP reads it; more wait in the kernel.
const HANDSHAKES: usize = 1_024;
/// People that may be on their way in at once. Each keeps 10 KiB more than later, for the step that it is at, until it is in. Of half as
/// many fewer things are asked for together: 14,000 who returned at the same moment took half as long again.
const ENTERING: usize = 256;
/// How long a handshake may take.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// The largest request head, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// One shard of the hub for each core.
pub(super) fn shards() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZero::get)
}

pub(super) async fn connect(config: &Config, metrics: &Arc<Metrics>) -> Result<(Store, Bus, DjangoCache), BuildError> {
    let settings = Settings {
        pool: config.database.pool,
        pgbouncer: config.database.pgbouncer,
        user_table: config.database.user_table.clone(),
        ..Settings::new(config.database.url.expose())
    };
    let store = Store::connect(settings, Arc::clone(metrics))
        .await
        .map_err(BuildError::unreachable("Postgres (DATABASE_URL)"))?;
    let bus = Bus::connect(&config.redis.deployment, Arc::clone(metrics))
        .await
        .map_err(BuildError::unreachable("Redis (GATEWAY_REDIS_URL)"))?;
    let cache = DjangoCache::connect(config.cache.url.expose(), &config.cache.prefix, &config.cache.version)
        .await
        .map_err(BuildError::unreachable("Django's cache (GATEWAY_CACHE_URL)"))?;
    Ok((store, bus, cache))
}

/// This instance's part in Django's channel layer. Its Redis may be away, also now.
pub(super) async fn channel_layer(
    config: &Config,
    door: Door,
    lifecycle: &Lifecycle,
    metrics: &Arc<Metrics>,
) -> Result<ChannelLayer, BuildError> {
    let Some(layer) = &config.channels else { return Ok(ChannelLayer::off()) };
    let settings = channels::Settings {
        kind: match layer.kind {
            LayerKind::Core => channels::Kind::Core,
            LayerKind::PubSub => channels::Kind::PubSub,
        },
        url: layer.url.expose().to_owned(),
        prefix: layer.prefix.clone(),
        capacity: layer.capacity,
    };
    ChannelLayer::start(&settings, &config.instance, door, lifecycle, Arc::clone(metrics))
        .await
        .map_err(BuildError::internal("the channel layer (GATEWAY_CHANNELS_URL)"))
}

/// The way of work to Celery. The broker may be away, also now.
pub(super) fn handover(
    config: &Config,
    bus: &Bus,
    store: &Store,
    lifecycle: &Lifecycle,
    metrics: &Arc<Metrics>,
) -> Result<Handover, BuildError> {
    let settings = &config.handover;
    let Some(broker) = &settings.broker else { return Ok(Handover::off()) };
    let names = handover::Names {
        agent_dm: settings.agent_dm.clone(),
        mention: settings.mention.clone(),
        reply: settings.reply.clone(),
        dm: settings.dm.clone(),
        queue: settings.queue.clone(),
        notice_queue: settings.notice_queue.clone(),
    };
    let ledger = Box::new(Ledger::new(store.clone()));
    Handover::start(broker.expose(), names, bus.tasks(), &config.instance, ledger, lifecycle, Arc::clone(metrics))
        .map_err(BuildError::internal("the broker (GATEWAY_BROKER_URL)"))
}

/// What sessions are made of.
pub(super) struct Parts<'a> {
    pub store: &'a Store,
    pub bus: &'a Bus,
    pub writer: &'a Writer<crate::command::Echo>,
    pub outlet: Arc<BusOutlet>,
    pub moderator: Moderator,
    pub cache: &'a DjangoCache,
    pub hub: Arc<Hub>,
}

pub(super) fn sessions(config: &Config, lifecycle: &Lifecycle, metrics: &Arc<Metrics>, parts: Parts<'_>) -> Sessions {
    let Parts { store, bus, writer, outlet, moderator, cache, hub } = parts;
    let limits = &config.limits;
    let words = Words {
        joined: |person| Envelope::passing(Kind::Joined, person.id, event::user_joined(person)).encode(),
        left: |user| Envelope::passing(Kind::Left, user, event::user_left(user)).encode(),
    };
    let timing = Timing { span: config.presence.lease, grace: config.presence.grace };
    let consumers = Arc::clone(&outlet);
    let announced = move |room, event: &[u8]| consumers.tell_consumers(Topic::Room(room), &Envelope::body_of(event));
    let presence =
        Presence::new(bus.connection(), config.instance.clone(), timing, Arc::clone(metrics), words, announced);
    presence.start(lifecycle);
    let admission = Admission::new(
        bus.connection(),
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
            ping_after: config.heartbeat.ping,
            idle_after: config.heartbeat.idle,
            ..SocketLimits::default()
        },
        Arc::clone(metrics),
    );
    let quota = |verb, key, windows: &[Window]| Quota::new(bus.connection(), verb, key, windows, Arc::clone(metrics));
    let reactions = quota("reactions", keyspace::reaction_window, &reactions(limits));
    let reports = quota("reports", keyspace::report_window, &reports(limits));
    let changes = quota("changes", keyspace::change_window, &changes(limits));
    let sends = quota("messages", keyspace::send_window, &sends(limits));
    let clock = Clock::default();
    let nonces = Nonces::new(bus.connection(), clock.clone(), Arc::clone(metrics));
    Sessions {
        login: Login::new(cache.clone(), Verifier::new(config.auth.secret_key.expose())),
        tickets: Tickets {
            sealer: Live::new(Sealer::new(config.auth.secret_key.expose())),
            returns: Returns::new(bus.connection(), clock, config.auth.resume, Arc::clone(metrics)),
            life: config.auth.resume,
            returned: parking_lot::Mutex::default(),
        },
        admission,
        access: Access {
            store: store.clone(),
            grants: Grants::new(store.clone(), config.rights),
            sends,
            reactions,
            changes,
            nonces: nonces.clone(),
            attachments: AttachmentRules { hosts: config.attachments.hosts.clone() },
        },
        entrance: Entrance {
            store: store.clone(),
            log: bus.log().clone(),
            past: Past { store: store.clone(), log: bus.log().clone() },
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
            reports,
            moderator: Arc::new(moderator),
            once: Once::new(bus.connection(), Arc::clone(metrics)),
        },
        hub,
        heartbeat: Arc::new(Heartbeat::new(&sockets, Instant::now())),
        sockets,
        guesses: Guesses::default(),
        hits: Hits::default(),
        frames: Live::new(frames(limits)),
        pages: Live::new(pages(limits)),
        open: tokio_util::task::TaskTracker::new(),
        metrics: Arc::clone(metrics),
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

pub(super) fn sends(limits: &Limits) -> [Window; 2] {
    let (minute, hour) = (limits.messages_per_minute, limits.messages_per_hour);
    [Window { length: MINUTE, places: minute }, Window { length: HOUR, places: hour }]
}

pub(super) fn reactions(limits: &Limits) -> [Window; 1] {
    [Window { length: MINUTE, places: limits.reactions_per_minute }]
}

pub(super) fn changes(limits: &Limits) -> [Window; 1] {
    [Window { length: MINUTE, places: limits.changes_per_minute }]
}

pub(super) fn reports(limits: &Limits) -> [Window; 1] {
    [Window { length: HOUR, places: limits.reports_per_hour }]
}

pub(super) fn frames(limits: &Limits) -> Rate {
    Rate::new(limits.frames_per_second, limits.frames_burst)
}

pub(super) fn pages(limits: &Limits) -> Rate {
    Rate::per_minute(limits.history_per_minute)
}

/// The certificate that the configuration names, checked whole; `None` where no TLS is spoken. Says so when it is not
/// valid today.
///
/// # Errors
/// When it cannot be used.
pub(super) fn certificate(config: &Config) -> Result<Option<Certificate>, CertificateError> {
    let Some(tls) = &config.tls else { return Ok(None) };
    let certificate = Certificate::from_pem(&tls.certificate, &tls.key)?;
    match certificate.validity().at(Micros::now().seconds()) {
        Standing::Expired => tracing::warn!("the certificate of GATEWAY_TLS_CERT has expired: clients refuse it"),
        Standing::Early => {
            tracing::warn!("the certificate of GATEWAY_TLS_CERT is not valid yet: clients refuse it");
        }
        Standing::Valid { .. } => {}
    }
    Ok(Some(certificate))
}

pub(super) fn public_settings(config: &Config, certificate: Option<Certificate>) -> PublicSettings {
    PublicSettings {
        allowed_origins: config.auth.allowed_origins.clone(),
        trusted_proxies: config.auth.trusted_proxies.clone(),
        jwt_cookie: config.auth.jwt_cookie.clone(),
        connections: config.open_sockets(),
        connections_per_address: config.limits.connections_per_address,
        handshake_rate: config.limits.handshake_rate,
        handshakes_in_progress: HANDSHAKES,
        entering: ENTERING,
        tickets: Arc::new(Sealer::new(config.auth.secret_key.expose())),
        certificate,
        head_deadline: HANDSHAKE_DEADLINE,
        max_head: MAX_HEAD,
    }
}

/// Makes a session of every arrival.
pub(super) fn welcome(sessions: Arc<Sessions>, lifecycle: Lifecycle) -> Arc<dyn Fn(Arrival) + Send + Sync> {
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
            address: arrival.address,
            since: arrival.since.map(|(epoch, offset)| Place { epoch, offset }),
            entering: Box::new(arrival.entering),
            holds: Box::new(arrival.guard),
        };
        let of_session = Arc::clone(&sessions);
        lifecycle.spawn(sessions.open.track_future(of_session.run(Box::new(visitor))));
    })
}
