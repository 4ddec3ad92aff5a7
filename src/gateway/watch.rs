//! Reads the configuration again when its files have changed and stand still.
//!
//! The files are looked at, not subscribed to: that sees every way to change one (in place, by a rename, behind a link as
//! Kubernetes does it, on a network's file system) and costs a few system calls every few seconds.

use std::sync::Arc;
use std::time::Duration;

use super::reload::Reloader;
use crate::admin::Reload;
use crate::config::Files;
use crate::lifecycle::Lifecycle;

/// Looks every so often, until the process stops.
///
/// What changed is read when two looks in a row saw the same: an editor that writes in pieces, and a certificate that comes
/// before its key, are waited for. What is wrong is tried once, and again when something has changed.
pub(super) async fn on_change(reloader: Arc<Reloader>, every: Duration, known: Files, lifecycle: Lifecycle) {
    let (mut known, mut last) = (known, None);
    let mut looks = tokio::time::interval(every);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = lifecycle.aborted() => return,
            _ = looks.tick() => {}
        }
        let Ok(now) = tokio::task::spawn_blocking(Files::look).await else { continue };
        if now == known {
            last = None;
        } else if last.as_ref() == Some(&now) {
            tracing::info!("the files of the configuration have changed");
            reloader.reload().await;
            // What changes from here on, while they are being read too, is seen by the next look.
            (known, last) = (now, None);
        } else {
            last = Some(now);
        }
    }
}
