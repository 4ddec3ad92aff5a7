//! Tasks, shutdown tokens and signals.
//!
//! Every task of the process is spawned here, so that the end of the process can wait for all of them. Shutdown has
//! two steps: *soft* (no new work, finish what is in flight) and *hard* (stop where you are). Nothing else in the crate
//! may call `tokio::spawn`.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The process's tasks and the two tokens that end them. Cloning is cheap and gives the same lifecycle.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    soft: CancellationToken,
    hard: CancellationToken,
    tasks: TaskTracker,
    crashed: Arc<AtomicBool>,
}

impl Lifecycle {
    /// Makes a lifecycle with nothing running.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Spawns a task that the shutdown waits for.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tokio::spawn(self.tasks.track_future(task))
    }

    /// Spawns a task without which the gateway cannot serve: when it ends or panics before shutdown was asked for, the
    /// process shuts down and reports a fault, rather than living on as a zombie.
    pub fn spawn_vital<F>(&self, name: &'static str, task: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let guard = VitalGuard { name, lifecycle: self.clone() };
        self.spawn(async move {
            let _guard = guard;
            task.await;
        })
    }

    /// Asks for the end: no new work, finish what is in flight.
    pub fn begin_shutdown(&self) {
        self.soft.cancel();
    }

    /// Stops everything where it is.
    pub fn abort(&self) {
        self.soft.cancel();
        self.hard.cancel();
    }

    /// Says whether the end was asked for.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.soft.is_cancelled()
    }

    /// Resolves when the end is asked for.
    ///
    /// # Cancel safety
    /// Safe: nothing is lost when it is dropped.
    pub async fn stopping(&self) {
        self.soft.cancelled().await;
    }

    /// Resolves when everything must stop at once.
    ///
    /// # Cancel safety
    /// Safe: nothing is lost when it is dropped.
    pub async fn aborted(&self) {
        self.hard.cancelled().await;
    }

    /// Says whether a vital task ended by itself.
    #[must_use]
    pub fn has_crashed(&self) -> bool {
        self.crashed.load(Ordering::Acquire)
    }

    /// Waits until every task has ended, at most `limit`. Returns how many are left.
    pub async fn wait(&self, limit: Duration) -> usize {
        self.tasks.close();
        let _ = tokio::time::timeout(limit, self.tasks.wait()).await;
        self.tasks.len()
    }

    /// Turns signals into shutdown: the first `SIGTERM` or `SIGINT` is soft, the second hard.
    ///
    /// # Errors
    /// When the operating system refuses a signal handler.
    pub fn listen_for_signals(&self) -> std::io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let lifecycle = self.clone();
        self.spawn(async move {
            for _ in 0..2 {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                    () = lifecycle.aborted() => return,
                }
                if lifecycle.is_stopping() {
                    tracing::warn!("second signal: stopping at once");
                    lifecycle.abort();
                    return;
                }
                tracing::info!("signal received: draining");
                lifecycle.begin_shutdown();
            }
        });
        Ok(())
    }
}

struct VitalGuard {
    name: &'static str,
    lifecycle: Lifecycle,
}

impl Drop for VitalGuard {
    fn drop(&mut self) {
        if !self.lifecycle.is_stopping() {
            tracing::error!(task = self.name, "a vital task ended by itself: shutting down");
            self.lifecycle.crashed.store(true, Ordering::Release);
            self.lifecycle.begin_shutdown();
        }
    }
}
