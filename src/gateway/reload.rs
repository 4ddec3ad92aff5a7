//! Changing what can be changed while the gateway runs: read whole, checked whole, and only then in force, at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::signal::unix::Signal;

use super::parts;
use crate::admin::{Reload, Tokens};
use crate::config::{Config, Setting, sources};
use crate::domain::Micros;
use crate::http::DoorControl;
use crate::identity::{Sealer, Verifier};
use crate::lifecycle::Lifecycle;
use crate::moderation::openai;
use crate::session::Sessions;
use crate::telemetry::{self, Metrics};
use crate::transport::Certificate;

/// What can be replaced while the process runs, but neither added nor taken away: the variable that turns it on, and how
/// the names of all that belongs to it begin. Clients know the port as TLS or as none; a classifier is made at the start.
const TURNED_ON_BY: [(&str, &str); 2] = [("GATEWAY_TLS_CERT", "GATEWAY_TLS_"), (KEY, KEY)];
/// The key of moderation's second layer.
const KEY: &str = "OPENAI_API_KEY";
/// What the lists are called when only they have changed.
const LISTS: &str = "GATEWAY_MODERATION_LISTS";

/// What is in force, and what waits for a restart.
struct InForce {
    version: i64,
    since: Micros,
    settings: Vec<Setting>,
    needs_restart: Vec<&'static str>,
    /// The version of the moderation lists.
    lists: String,
}

/// Reads the configuration again.
pub(super) struct Reloader {
    sessions: Arc<Sessions>,
    door: DoorControl,
    tokens: Arc<Tokens>,
    metrics: Arc<Metrics>,
    in_force: Mutex<InForce>,
    /// One at a time, so that what was read last is in force.
    reloading: tokio::sync::Mutex<()>,
}

impl Reloader {
    pub(super) fn new(
        config: &Config,
        sessions: Arc<Sessions>,
        door: DoorControl,
        tokens: Arc<Tokens>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let settings = config.settings().to_vec();
        metrics.config_version.set(1);
        let lists = lists(&sessions);
        let in_force = InForce { version: 1, since: Micros::now(), settings, needs_restart: Vec::new(), lists };
        Self {
            sessions,
            door,
            tokens,
            metrics,
            in_force: Mutex::new(in_force),
            reloading: tokio::sync::Mutex::default(),
        }
    }

    /// Reads again at every `SIGHUP`, until the process stops.
    pub(super) async fn on_hangup(self: Arc<Self>, mut hangups: Signal, lifecycle: Lifecycle) {
        loop {
            tokio::select! {
                () = lifecycle.aborted() => return,
                _ = hangups.recv() => { self.reload().await; }
            };
        }
    }

    async fn run(&self) -> Value {
        let _one = self.reloading.lock().await;
        // Files are read: not for a thread that must not block.
        let read = tokio::task::spawn_blocking(checked).await;
        let (config, certificate) = match read.map_err(|error| vec![error.to_string()]).and_then(|read| read) {
            Ok(read) => read,
            Err(errors) => return self.stay(&errors),
        };
        // The last thing that may be wrong; the lists in force are theirs from here on.
        if !self.sessions.commands.moderator.reload().await {
            return self.stay(&[format!("{LISTS}: the lists are wrong; the log says where")]);
        }
        let answer = self.apply(&config, certificate);
        self.metrics.config_reloads_total.with_label_values(&["ok"]).inc();
        tracing::info!(%answer, "the configuration was read again");
        answer
    }

    /// Leaves everything as it is.
    fn stay(&self, errors: &[String]) -> Value {
        self.metrics.config_reloads_total.with_label_values(&["wrong"]).inc();
        tracing::error!(?errors, "the new configuration is wrong: the old one stays in force");
        json!({ "outcome": "wrong", "version": self.in_force.lock().version, "errors": errors })
    }

    /// Puts into force what can be, all of it between two awaits. What is wrong was found before.
    fn apply(&self, config: &Config, certificate: Option<Certificate>) -> Value {
        let mut in_force = self.in_force.lock();
        let before: BTreeMap<_, _> = in_force.settings.iter().map(|setting| (setting.name, setting)).collect();
        let differs = |setting: &&Setting| before.get(setting.name).is_none_or(|old| setting.differs_from(old));
        let is_on = |setting: &Setting| !setting.value.is_empty();
        let turns = |(switch, _): &&(&str, &str)| {
            let now = config.settings().iter().find(|setting| setting.name == *switch);
            before.get(switch).zip(now).is_some_and(|(old, now)| is_on(old) != is_on(now))
        };
        let turned: Vec<_> = TURNED_ON_BY.iter().filter(turns).map(|(_, names)| *names).collect();
        let can_change =
            |setting: &&Setting| setting.is_live() && !turned.iter().any(|names| setting.name.starts_with(names));
        let (live, restart): (Vec<_>, Vec<_>) = config.settings().iter().filter(differs).partition(can_change);
        let mut changed: Vec<_> = live.iter().map(|setting| setting.name).collect();
        let needs_restart: Vec<_> = restart.iter().map(|setting| setting.name).collect();
        if !changed.is_empty() {
            self.put_into_force(config, certificate);
            if changed.contains(&KEY) {
                self.put_key(config);
            }
        }
        let lists = lists(&self.sessions);
        if lists != in_force.lists {
            in_force.lists = lists;
            changed.push(LISTS);
        }
        if !changed.is_empty() {
            let kept = in_force.settings.iter().map(|old| {
                live.iter().find(|new| new.name == old.name).map_or_else(|| old.clone(), |new| (*new).clone())
            });
            in_force.settings = kept.collect();
            in_force.version += 1;
            in_force.since = Micros::now();
            self.metrics.config_version.set(in_force.version);
        }
        in_force.needs_restart.clone_from(&needs_restart);
        json!({
            "outcome": if changed.is_empty() { "unchanged" } else { "applied" },
            "version": in_force.version,
            "changed": changed,
            "needs_restart": needs_restart,
            "lists": in_force.lists,
        })
    }

    fn put_key(&self, config: &Config) {
        let Some(key) = &config.moderation.key else { return };
        if let Err(error) = self.sessions.commands.moderator.set_key(key) {
            tracing::error!(%error, "moderation's key stays as it was");
        }
    }

    fn put_into_force(&self, config: &Config, certificate: Option<Certificate>) {
        let (sessions, limits) = (&self.sessions, &config.limits);
        sessions.access.sends.set(&parts::sends(limits));
        sessions.access.reactions.set(&parts::reactions(limits));
        sessions.access.changes.set(&parts::changes(limits));
        sessions.commands.reports.set(&parts::reports(limits));
        sessions.admission.set(limits.connections_per_user, limits.connects_per_minute);
        sessions.frames.set(parts::frames(limits));
        sessions.pages.set(parts::pages(limits));
        let secret = config.auth.secret_key.expose();
        sessions.login.set_verifier(Verifier::new(secret));
        sessions.tickets.sealer.set(Sealer::new(secret));
        self.door.set(&parts::public_settings(config, certificate));
        self.tokens.replace(&config.admin);
        if let Err(error) = telemetry::log::set_filter(&config.log.filter) {
            tracing::error!(%error, "the log's filter stays as it was");
        }
    }
}

impl Reload for Reloader {
    fn reload(&self) -> BoxFuture<'_, Value> {
        Box::pin(self.run())
    }

    fn in_force(&self) -> Value {
        let in_force = self.in_force.lock();
        let setting = |setting: &Setting| json!({ "name": setting.name, "value": setting.value, "origin": setting.origin, "live": setting.is_live() });
        json!({
            "version": in_force.version,
            "since": in_force.since.to_string(),
            "needs_restart": in_force.needs_restart,
            "lists": in_force.lists,
            "settings": in_force.settings.iter().map(setting).collect::<Vec<_>>(),
        })
    }

    fn version(&self) -> i64 {
        self.in_force.lock().version
    }

    fn needs_restart(&self) -> Vec<&'static str> {
        self.in_force.lock().needs_restart.clone()
    }

    fn lists(&self) -> String {
        lists(&self.sessions)
    }
}

/// The version of the moderation lists that judge now.
fn lists(sessions: &Sessions) -> String {
    sessions.commands.moderator.patterns().lists().version().to_owned()
}

/// The configuration as it is written now: all of it is good, or nothing of it counts.
fn checked() -> Result<(Config, Option<Certificate>), Vec<String>> {
    let read = sources().and_then(|strings| Config::from(&strings));
    let (config, _) = read.map_err(|invalid| invalid.errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let certificate = parts::certificate(&config).map_err(|error| vec![error.to_string()])?;
    if let Some(key) = &config.moderation.key {
        openai::check_key(key).map_err(|error| vec![format!("{KEY}: {error}")])?;
    }
    Ok((config, certificate))
}
