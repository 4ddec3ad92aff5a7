//! Tasks, shutdown tokens, signals, and what the supervisor is told.
//!
//! Every task of the process is spawned here, so that the end of the process can wait for all of them. Shutdown has
//! three steps: *leaving* (not ready, and otherwise as before, until balancers know), *soft* (no new work, finish what is in
//! flight) and *hard* (stop where you are). Nothing else in the crate may call `tokio::spawn`.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a task may take to notice that it must stop at once.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The process's tasks and the tokens that end them. Cloning is cheap and gives the same lifecycle.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    leaving: CancellationToken,
    soft: CancellationToken,
    hard: CancellationToken,
    /// What has something to finish.
    tasks: TaskTracker,
    /// What serves the tasks, and would run for ever.
    services: TaskTracker,
    crashed: Arc<AtomicBool>,
}

impl Lifecycle {
    /// Makes a lifecycle with nothing running.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Spawns a task that the shutdown waits for.
    #[expect(clippy::disallowed_methods, reason = "this module is the one that spawns")]
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

    /// Spawns a vital task that has nothing of its own to finish: it runs until [`Lifecycle::aborted`], and the shutdown
    /// ends it when all other tasks, which may need it, have ended.
    #[expect(clippy::disallowed_methods, reason = "this module is the one that spawns")]
    pub fn spawn_service<F>(&self, name: &'static str, task: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let guard = VitalGuard { name, lifecycle: self.clone() };
        tokio::spawn(self.services.track_future(async move {
            let _guard = guard;
            task.await;
        }))
    }

    /// Asks for the end, which is not begun before balancers had time to notice.
    pub fn leave(&self) {
        self.leaving.cancel();
    }

    /// Begins the end: no new work, finish what is in flight.
    pub fn begin_shutdown(&self) {
        self.leaving.cancel();
        self.soft.cancel();
    }

    /// Stops everything where it is.
    pub fn abort(&self) {
        self.begin_shutdown();
        self.hard.cancel();
    }

    /// Says whether nobody should be sent here any more.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.leaving.is_cancelled()
    }

    /// Resolves when the end is asked for.
    ///
    /// # Cancel safety
    /// Safe: nothing is lost when it is dropped.
    pub async fn leaving(&self) {
        self.leaving.cancelled().await;
    }

    /// Says whether the end has begun.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.soft.is_cancelled()
    }

    /// Resolves when the end has begun.
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

    /// Says whether everything must stop at once.
    #[must_use]
    pub fn is_aborted(&self) -> bool {
        self.hard.is_cancelled()
    }

    /// Says whether a vital task ended by itself.
    #[must_use]
    pub fn has_crashed(&self) -> bool {
        self.crashed.load(Ordering::Acquire)
    }

    /// Waits until every task has ended, at most `limit`; then stops what is left and the services. Returns how many
    /// did not end even so.
    pub async fn wait(&self, limit: Duration) -> usize {
        self.tasks.close();
        self.services.close();
        let late = tokio::time::timeout(limit, self.tasks.wait()).await.is_err();
        self.abort();
        let _ = tokio::time::timeout(LAST_WORDS, self.services.wait()).await;
        if late {
            let _ = tokio::time::timeout(LAST_WORDS, self.tasks.wait()).await;
        }
        self.tasks.len() + self.services.len()
    }

    /// Turns signals into shutdown: the first `SIGTERM` or `SIGINT` is the wish to leave, the second is hard.
    ///
    /// # Errors
    /// When the operating system refuses a signal handler.
    pub fn listen_for_signals(&self) -> std::io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let lifecycle = self.clone();
        self.spawn_service("signals", async move {
            for _ in 0..2 {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                    () = lifecycle.aborted() => return,
                }
                if lifecycle.is_leaving() {
                    tracing::warn!("second signal: stopping at once");
                    lifecycle.abort();
                    return;
                }
                tracing::info!("signal received: leaving");
                lifecycle.leave();
            }
        });
        Ok(())
    }
}

/// Tells systemd (`Type=notify`) that new connections are welcome. Elsewhere nobody is told.
pub fn tell_serving() {
    tell(&[NotifyState::Ready, NotifyState::Status("serving")]);
}

/// Tells systemd that the end has begun.
pub fn tell_stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd could not be told");
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

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_tasks_and_then_ends_services() {
        let lifecycle = Lifecycle::new();
        let (order, ordered) = oneshot::channel::<()>();
        let (served, serving) = (lifecycle.clone(), lifecycle.clone());
        lifecycle.spawn_service("service", async move { served.aborted().await });
        lifecycle.spawn(async move {
            let _ = ordered.await;
            assert!(!serving.hard.is_cancelled(), "a task may count on the services");
        });
        lifecycle.begin_shutdown();
        let started = tokio::time::Instant::now();
        let (left, _) = tokio::join!(lifecycle.wait(Duration::from_secs(5)), async { order.send(()) });
        assert_eq!((left, started.elapsed()), (0, Duration::ZERO));
        assert!(!lifecycle.has_crashed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_never_ends_is_waited_for_so_long_and_counted() {
        let lifecycle = Lifecycle::new();
        lifecycle.spawn(std::future::pending::<()>());
        let started = tokio::time::Instant::now();
        assert_eq!(lifecycle.wait(Duration::from_secs(5)).await, 1);
        assert_eq!(started.elapsed(), Duration::from_secs(5) + LAST_WORDS);
    }
}
