//! What this instance says of itself, every two seconds, for all operators' pages.

use std::time::Instant;

use serde_json::{Value, json};

use super::Admin;
use crate::bus::roster;
use crate::domain::Micros;
use crate::lifecycle::Lifecycle;

/// How many of the busiest topics are told.
const BUSIEST: usize = 50;

/// Counters as they were, to make rates of them.
pub(super) struct Counted {
    at: Instant,
    frames: u64,
    messages: u64,
    deliveries: u64,
    logins: u64,
    lag: (f64, u64),
    commands: (f64, u64),
}

impl Admin {
    fn count(&self) -> Counted {
        let metrics = &self.metrics;
        Counted {
            at: Instant::now(),
            frames: metrics.frames_received_total.get(),
            messages: metrics.messages_stored_total.get(),
            deliveries: metrics.deliveries_total.get(),
            logins: metrics.upgrades_total.get(),
            lag: (metrics.bus_lag_seconds.get_sample_sum(), metrics.bus_lag_seconds.get_sample_count()),
            commands: (metrics.command_seconds.get_sample_sum(), metrics.command_seconds.get_sample_count()),
        }
    }

    /// Makes the next status out of what happened since the last.
    fn status(&self, before: &Counted, now: &Counted, redis_answers: bool) -> Value {
        let seconds = now.at.duration_since(before.at).as_secs_f64().max(0.001);
        let rate = |before: u64, now: u64| ((now.saturating_sub(before)) as f64 / seconds * 10.0).round() / 10.0;
        let mean = |before: (f64, u64), now: (f64, u64)| match now.1.saturating_sub(before.1) {
            0 => Value::Null,
            count => json!((now.0 - before.0) / count as f64),
        };
        let faults: serde_json::Map<_, _> =
            self.health.faults().into_iter().map(|(part, why)| (part.to_owned(), why.into())).collect();
        let busiest = self.sessions.hub.busiest(BUSIEST);
        let busiest: Vec<_> =
            busiest.iter().map(|(topic, seats)| json!({ "topic": topic.to_string(), "seats": seats })).collect();
        let metrics = &self.metrics;
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "config_version": self.config.version(),
            "needs_restart": self.config.needs_restart(),
            "lists_version": self.config.lists(),
            "started_at": self.started.to_string(),
            "said_at": Micros::now().to_string(),
            "ready": faults.is_empty() && !self.lifecycle.is_leaving(),
            "draining": self.lifecycle.is_leaving(),
            "dependencies": self.dependencies(redis_answers, &faults),
            "faults": faults,
            "sockets": metrics.sockets_open.get(),
            "topics": metrics.topics_open.get(),
            "outbox_bytes": metrics.outbox_bytes.get(),
            "write_queue": metrics.write_queue.get(),
            "rates": {
                "frames": rate(before.frames, now.frames),
                "messages": rate(before.messages, now.messages),
                "deliveries": rate(before.deliveries, now.deliveries),
                "logins": rate(before.logins, now.logins),
            },
            "lag_seconds": mean(before.lag, now.lag),
            "command_seconds": mean(before.commands, now.commands),
            "busiest": busiest,
        })
    }

    /// Whether what is worked with works: each `up` or `down`, moderation's second layer also `off`.
    fn dependencies(&self, redis_answers: bool, faults: &serde_json::Map<String, Value>) -> Value {
        let word = |works: bool| if works { "up" } else { "down" };
        let watched = |part: &str| word(!faults.contains_key(part));
        let moderation = match (self.metrics.moderation_classifier_on.get(), self.metrics.openai_breaker.get()) {
            (0, _) => "off",
            (_, breaker) => word(breaker == 0),
        };
        json!({
            "redis": word(redis_answers),
            "fan_out": watched("fan_out"),
            "postgres": watched("postgres"),
            "cache": watched("cache"),
            "moderation": moderation,
        })
    }

    /// Tells of this instance until the process stops, and takes it off the list then.
    pub(super) async fn beat(&self, lifecycle: &Lifecycle) {
        let (mut before, mut redis_answers) = (self.count(), true);
        loop {
            let now = self.count();
            let status = self.status(&before, &now, redis_answers);
            *self.last.lock() = status.clone();
            let said = self.roster.say(&self.instance, &status).await;
            redis_answers = said.is_ok();
            if let Err(error) = said {
                tracing::debug!(%error, "this instance could not tell how it is");
            }
            before = now;
            tokio::select! {
                () = lifecycle.aborted() => break,
                () = tokio::time::sleep(roster::EVERY) => {}
            }
        }
        if let Err(error) = self.roster.leave(&self.instance).await {
            tracing::debug!(%error, "this instance could not say goodbye");
        }
    }
}
