//! `check`: could this configuration serve? One line for each finding, with what to do about it.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use url::Url;

use super::check_finding::{Finding, Verdict, fine, hint, wrong};
use super::{Exit, check_django, configuration, out};
use crate::bus;
use crate::config::{Config, Deployment, open_files_limit, somaxconn};
use crate::domain::Micros;
use crate::gateway;
use crate::handover;
use crate::identity;
use crate::moderation::{Moderator, is_known};
use crate::store::{self, Pooler, Store};
use crate::telemetry::Metrics;
use crate::transport::{Certificate, Standing, Validity};

/// Clocks that differ by more than this, in microseconds, are worth a word.
const SKEW: i64 = 1_000_000;

/// Days before its end in which a certificate should be renewed, as the alert has it.
const RENEW: i64 = 14;

/// What may wait for a subscriber in Redis, at least: its own default, in bytes.
const PUBSUB_BUFFER: u64 = 32 << 20;

/// Shorter keys do not carry HS256, in bytes.
const SHORT_KEY: usize = 32;

/// Options of `check`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Django's manage.py, whose `gateway_selftest` is run too, in this environment: it compares Django's settings, and sends a
    /// message through the gateways that run
    #[arg(long, value_name = "PATH")]
    manage: Option<PathBuf>,
}

pub(super) async fn run(arguments: &Arguments) -> Exit {
    let (config, warnings) = match configuration() {
        Ok(read) => read,
        Err(exit) => return exit,
    };
    let mut findings = vec![fine("configuration: can be read")];
    findings.extend(warnings.iter().map(|warning| hint(format!("configuration: {warning}"))));
    findings.extend(on_paper(&config));
    findings.extend(backlog(somaxconn()));
    let (postgres, realtime, cache, channels, broker) =
        tokio::join!(postgres(&config), realtime(&config), cache(&config), channels(&config), broker(&config));
    findings.extend(postgres.into_iter().chain(realtime).chain(cache).chain(channels).chain([broker]));
    findings.extend(check_django::ask(arguments.manage.as_deref()).await);

    let fit = findings.iter().all(|finding| finding.verdict != Verdict::Wrong);
    let verdict = if fit { "this configuration could serve" } else { "this configuration could not serve" };
    let lines = findings.iter().map(ToString::to_string).chain([verdict.to_owned()]);
    match super::printed(out::lines(lines)) {
        Exit::Done if !fit => Exit::NotFit,
        exit => exit,
    }
}

/// What can be told without connecting to anything.
fn on_paper(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    if config.auth.allowed_origins.is_empty() {
        findings.push(hint("origins: CORS_ALLOWED_ORIGINS is empty, so no browser gets in; set it as for Django"));
    }
    if config.auth.secret_key.expose().len() < SHORT_KEY {
        findings.push(hint(format!(
            "SECRET_KEY: is shorter than {SHORT_KEY} bytes, so JWTs can be guessed; is it really Django's?"
        )));
    }
    if config.redis.url == config.cache.url {
        findings.push(hint(
            "redis: GATEWAY_REDIS_URL and GATEWAY_CACHE_URL are one database, which Django's cache.clear() empties; \
             give the gateway its own",
        ));
    }
    findings.push(tls(config, Micros::now()));
    findings.extend(moderation(config));
    findings.push(files(config, open_files_limit()));
    findings
}

fn tls(config: &Config, now: Micros) -> Finding {
    let Some(tls) = &config.tls else {
        return fine("tls: off (GATEWAY_TLS_CERT is empty), so a balancer or proxy in front must speak it");
    };
    match Certificate::from_pem(&tls.certificate, &tls.key) {
        Ok(certificate) => validity(certificate.validity(), now),
        Err(error) => wrong(format!("tls: {error}")),
    }
}

fn validity(validity: Validity, now: Micros) -> Finding {
    let ends = Micros(validity.ends.saturating_mul(1_000_000));
    match validity.at(now.seconds()) {
        Standing::Expired => {
            wrong(format!("tls: the certificate has expired ({ends}), so clients refuse it; renew GATEWAY_TLS_CERT"))
        }
        Standing::Early => wrong("tls: the certificate is not valid yet, so clients refuse it; is the clock right?"),
        Standing::Valid { days } if days < RENEW => {
            hint(format!("tls: the certificate ends in {days} days ({ends}); renew GATEWAY_TLS_CERT"))
        }
        Standing::Valid { .. } => fine(format!("tls: the certificate is valid until {ends}")),
    }
}

fn moderation(config: &Config) -> Vec<Finding> {
    let policy = gateway::moderation_policy(&config.moderation);
    let mut findings = vec![match Moderator::lists(&policy) {
        Ok(lists) => {
            fine(format!("moderation: {} listed words, lists version {}", lists.words().len(), lists.version()))
        }
        Err(error) => wrong(format!("moderation: the lists of GATEWAY_MODERATION_LISTS are wrong: {error}")),
    }];
    let unknown = policy.thresholds.own.keys().filter(|category| !is_known(category));
    findings.extend(unknown.map(|category| {
        hint(format!(
            "moderation: GATEWAY_MODERATION_CATEGORIES names {category}, which the second layer does not have today"
        ))
    }));
    findings.push(match &config.moderation.key {
        Some(_) => fine(format!("moderation: the second layer is on and asks {}", config.moderation.base_url)),
        None => hint("moderation: the second layer is OFF, only word lists and rules judge; set OPENAI_API_KEY"),
    });
    findings
}

/// New connections that the kernel keeps waiting: too few, and a storm of those who return is refused.
fn backlog(somaxconn: Option<u32>) -> Option<Finding> {
    somaxconn.filter(|most| *most < 4_096).map(|most| {
        hint(format!("system: net.core.somaxconn is {most}, so a storm of connections is refused; sysctl -w net.core.somaxconn=4096"))
    })
}

fn files(config: &Config, limit: Option<usize>) -> Finding {
    let Some(limit) = limit else { return fine("files: no limit on open files") };
    let needed = config.limits.connections.unwrap_or(0).saturating_add(config.own_files());
    if needed > limit {
        let text = format!(
            "files: GATEWAY_LIMIT_CONNECTIONS needs {needed} open files, ulimit -n is {limit}; raise it \
             (LimitNOFILE= in systemd, --ulimit nofile= in Docker) or lower the variable"
        );
        return hint(text);
    }
    match config.open_sockets() {
        usize::MAX => fine(format!("files: no limit on sockets was set, ulimit -n is {limit}")),
        sockets => fine(format!("files: room for {sockets} sockets (ulimit -n is {limit})")),
    }
}

async fn postgres(config: &Config) -> Vec<Finding> {
    let place = config.database.url.masked_url();
    let (found, pooler) = tokio::join!(examine_postgres(config), store::look_for_pooler(config.database.url.expose()));
    // What cannot be found out is not guessed: that Postgres is away is said once.
    let pooler = pooler.unwrap_or(Pooler::Absent);
    match found {
        Ok(found) => {
            let mut findings = postgres_findings(&place, &found);
            findings.extend(between(config, pooler, found.port));
            findings
        }
        Err(why) if pooler != Pooler::Absent && !config.database.pgbouncer => vec![wrong(format!(
            "postgres: {place}: {why}; pgbouncer, or its like, stands in between: set GATEWAY_PGBOUNCER=true"
        ))],
        Err(why) => vec![wrong(format!("postgres: {place}: {why}; start it, or correct DATABASE_URL"))],
    }
}

async fn examine_postgres(config: &Config) -> Result<store::schema::Findings, String> {
    let metrics = Metrics::new().map_err(|error| error.to_string())?;
    let settings = store::Settings {
        pool: 2,
        pgbouncer: config.database.pgbouncer,
        user_table: config.database.user_table.clone(),
        ..store::Settings::new(config.database.url.expose())
    };
    let store = Store::connect(settings, Arc::new(metrics)).await.map_err(|error| error.to_string())?;
    let found = store.examine().await.map_err(|error| error.to_string());
    store.close().await;
    found
}

fn postgres_findings(place: &str, found: &store::schema::Findings) -> Vec<Finding> {
    let mut findings = Vec::new();
    if found.major < store::schema::OLDEST {
        let oldest = store::schema::OLDEST;
        findings.push(wrong(format!("postgres: is version {}; the gateway needs {oldest} or newer", found.version)));
    }
    if found.read_only {
        findings.push(wrong("postgres: takes no writes (a standby, or read-only); name the primary in DATABASE_URL"));
    }
    findings.extend(found.missing.iter().map(|missing| {
        wrong(format!(
            "postgres: {missing}; is this Django's database, are its migrations applied, is GATEWAY_USER_TABLE right?"
        ))
    }));
    if findings.is_empty() {
        findings.push(fine(format!("postgres: {place}, version {}, has all that is used", found.version)));
    }
    findings.extend(found.slow.iter().map(|columns| {
        hint(format!("postgres: no index begins with {columns}; are all of Django's migrations applied?"))
    }));
    findings.extend(skew("postgres", found.clock_skew));
    findings
}

/// What shares connections out between us and Postgres, and whether we were told of it.
fn between(config: &Config, pooler: Pooler, port: Option<i32>) -> Option<Finding> {
    Some(match (pooler, config.database.pgbouncer) {
        (Pooler::Transaction, true) => {
            fine("postgres: pgbouncer in transaction mode is in between, as GATEWAY_PGBOUNCER says")
        }
        (Pooler::Transaction, false) => wrong(
            "postgres: pgbouncer in transaction mode is in between, where prepared statements fail; set GATEWAY_PGBOUNCER=true",
        ),
        (Pooler::Session, _) => hint(
            "postgres: pgbouncer is in between, in session mode, it seems: it keeps a connection for each of the gateway's and \
             saves none; set pool_mode = transaction there and GATEWAY_PGBOUNCER=true here",
        ),
        (Pooler::Absent, true) => hint(
            "postgres: GATEWAY_PGBOUNCER is true, and nothing seems to be in between; without it statements are prepared once, \
             which costs Postgres less",
        ),
        (Pooler::Absent, false) => return elsewhere(config, port),
    })
}

/// Another port than the server's own means that something stands in between.
fn elsewhere(config: &Config, port: Option<i32>) -> Option<Finding> {
    let named = Url::parse(config.database.url.expose()).ok()?.port().map_or(5432, i32::from);
    let own = port.filter(|own| *own != named && !config.database.pgbouncer)?;
    Some(hint(format!(
        "postgres: DATABASE_URL says port {named}, the server listens on {own}; if pgbouncer in transaction mode is in between, \
         set GATEWAY_PGBOUNCER=true"
    )))
}

async fn realtime(config: &Config) -> Vec<Finding> {
    let place = config.redis.url.masked_url();
    match bus::check::examine(&config.redis.deployment).await {
        Ok(report) => realtime_findings(&place, &report),
        Err(error) => vec![wrong(format!("redis: {place}: {error}; start it, or correct GATEWAY_REDIS_URL"))],
    }
}

fn realtime_findings(place: &str, report: &bus::check::Report) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !report.is_new_enough() {
        let (major, minor) = bus::check::OLDEST;
        let version = &report.version;
        findings.push(wrong(format!("redis: is version {version}; the gateway needs {major}.{minor} or newer")));
    }
    if !report.writable {
        findings.push(wrong("redis: takes no writes (a replica, or full); name the primary in GATEWAY_REDIS_URL"));
    }
    if !report.delivers {
        findings.push(wrong("redis: a published message did not come back; is a proxy without pub/sub in between?"));
    }
    if findings.is_empty() {
        findings.push(fine(format!("redis: {place}, version {}, writes and delivers", report.version)));
    }
    if let Some(policy) = &report.evicts {
        findings.push(hint(format!(
            "redis: maxmemory-policy is {policy}, which may drop presence and limits; use noeviction"
        )));
    }
    if let Some(limit) = report.pubsub_buffer.filter(|limit| *limit < PUBSUB_BUFFER) {
        findings.push(hint(format!(
            "redis: cuts off a subscriber for whom {limit} bytes wait; set client-output-buffer-limit to \"pubsub 32mb 8mb 60\" or more"
        )));
    }
    findings.extend(skew("redis", report.clock_skew));
    findings
}

async fn cache(config: &Config) -> Vec<Finding> {
    let (prefix, version) = (&config.cache.prefix, &config.cache.version);
    let place = config.cache.url.masked_url();
    let report = match examine_cache(config).await {
        Ok(report) => report,
        Err(error) => return vec![wrong(format!("cache: {place}: {error}; start it, or correct GATEWAY_CACHE_URL"))],
    };
    let mut findings = Vec::new();
    if let Err(why) = &report.getdel {
        findings.push(wrong(format!("cache: refuses GETDEL ({why}); the gateway needs Redis 6.2 or newer")));
    }
    if findings.is_empty() {
        findings.push(fine(format!("cache: {place}, version {}, answers", report.version)));
    }
    findings.extend(skew("cache", report.clock_skew));
    if report.keys > 0 && !report.has_prefix {
        findings.push(hint(format!(
            "cache: has {} keys, none of those looked at begins with {prefix}:{version}: ; compare GATEWAY_CACHE_PREFIX \
             and GATEWAY_CACHE_VERSION with KEY_PREFIX and VERSION in Django's settings",
            report.keys
        )));
    }
    findings
}

async fn examine_cache(config: &Config) -> Result<identity::check::Report, identity::CacheError> {
    let (prefix, version) = (&config.cache.prefix, &config.cache.version);
    let cache = identity::DjangoCache::connect(config.cache.url.expose(), prefix, version).await?;
    let report = cache.examine().await;
    cache.close().await;
    report
}

/// The gateway serves without the channel layer, so that nothing here is wrong.
async fn channels(config: &Config) -> Vec<Finding> {
    let Some(layer) = &config.channels else {
        return vec![fine(
            "channels: off (GATEWAY_CHANNELS), so Django's channel layer and its consumers are left alone",
        )];
    };
    let place = layer.url.masked_url();
    let away = "until it answers, Django's channel layer is not heard and its consumers hear nothing from here";
    match bus::check::examine(&Deployment::Server(layer.url.clone())).await {
        Ok(report) if report.writable => {
            let found = fine(format!("channels: {place}, version {}, answers", report.version));
            std::iter::once(found).chain(skew("channels", report.clock_skew)).collect()
        }
        Ok(_) => vec![hint(format!("channels: {place} takes no writes; name the primary in GATEWAY_CHANNELS_URL"))],
        Err(error) => vec![hint(format!(
            "channels: {place}: {error}; {away}; start it, correct GATEWAY_CHANNELS_URL, or set GATEWAY_CHANNELS=off"
        ))],
    }
}

/// The gateway serves without the broker, so that nothing here is wrong.
async fn broker(config: &Config) -> Finding {
    let Some(url) = &config.handover.broker else {
        return fine("broker: off (GATEWAY_BROKER_URL is empty), so no work is handed over to Celery");
    };
    let place = url.masked_url();
    let asked = async {
        let broker = handover::Broker::connect(url.expose())?;
        let answer = broker.evicts().await;
        broker.close().await;
        answer
    };
    match asked.await {
        Ok(None) => fine(format!("broker: {place}, answers")),
        Ok(Some(policy)) => hint(format!(
            "broker: {place}: maxmemory-policy is {policy}, which may drop tasks before a worker has them; use noeviction, or a \
             Redis apart from the cache"
        )),
        Err(error) => hint(format!(
            "broker: {place}: {error}; until it answers, tasks for Celery wait; start it, correct GATEWAY_BROKER_URL, or \
             leave that empty"
        )),
    }
}

fn skew(place: &str, micros: i64) -> Option<Finding> {
    let seconds = micros as f64 / 1e6;
    (micros.abs() > SKEW).then(|| {
        hint(format!("{place}: its clock differs from ours by {seconds:+.1} s; run a time service (NTP) on both"))
    })
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
