//! Watches the dependencies, so that `/readyz` means "delivers" and not only "answers".

use std::sync::Arc;
use std::time::Duration;

use crate::bus::{Bus, Subscriber};
use crate::identity::DjangoCache;
use crate::lifecycle::Lifecycle;
use crate::store::Store;
use crate::telemetry::{Health, Metrics};

/// How often each dependency is asked.
const EVERY: Duration = Duration::from_secs(1);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// After how many probes in a row that did not come back everything is subscribed to again.
const MOST_UNDELIVERED: u32 = 2;

/// What is watched.
pub struct Watched {
    pub store: Store,
    pub bus: Bus,
    pub subscriber: Subscriber,
    pub cache: DjangoCache,
}

/// Asks every dependency again and again, until the process stops.
pub async fn watch(watched: Watched, health: Arc<Health>, metrics: Arc<Metrics>, lifecycle: Lifecycle) {
    let (mut number, mut undelivered) = (0, 0);
    loop {
        number += 1;
        let (postgres, cache, fan_out) = futures_util::future::join3(
            within(watched.store.ping()),
            within(watched.cache.ping()),
            // Through pub/sub and back: Redis may answer while nothing is delivered.
            within(watched.subscriber.probe(&watched.bus, number)),
        )
        .await;
        let delivers = fan_out.is_ok();
        for (part, result) in [("postgres", postgres), ("cache", cache), ("fan_out", fan_out)] {
            metrics.dependency_up.with_label_values(&[part]).set(i64::from(result.is_ok()));
            match result {
                Ok(()) => health.clear(part),
                Err(why) => health.fault(part, why),
            }
        }
        undelivered = if delivers { 0 } else { undelivered + 1 };
        if undelivered == MOST_UNDELIVERED {
            undelivered = 0;
            if tokio::time::timeout(PATIENCE, watched.subscriber.renew(&watched.bus)).await == Ok(true) {
                tracing::warn!("Redis delivered nothing: subscribed to everything again");
            }
        }
        tokio::select! {
            () = lifecycle.aborted() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn within<E: std::fmt::Display>(asking: impl Future<Output = Result<(), E>>) -> Result<(), String> {
    match tokio::time::timeout(PATIENCE, asking).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}
