//! The tasks behind the classifier: one that makes requests of what waits, one for each request, one that probes.
//!
//! There is no timer that gathers texts: one that comes while a request may be sent is sent at once, and what comes while
//! all requests are in flight forms the next. A request that waits for its next try lets others go first.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

use super::budget;
use super::cache::TextKey;
use super::client::{Asked, Client};
use super::desk::{Batch, Desk, Next, Texts};
use super::reply::Fault;
use super::{Settings, Unavailable};
use crate::lifecycle::Lifecycle;
use crate::telemetry::Metrics;

/// What a probe asks about. Nobody wrote it.
const PROBE: &str = "hello";

/// What all tasks share.
#[derive(Clone)]
pub(super) struct Work {
    pub desk: Arc<Desk>,
    pub client: Client,
    pub lifecycle: Lifecycle,
    pub metrics: Arc<Metrics>,
    /// One permit for each request that may be in flight.
    pub slots: Arc<Semaphore>,
}

/// How a part of a batch ended.
enum Ended {
    /// Its texts have their answers, or nobody waits for them.
    Settled,
    /// The API does not take these texts: perhaps it takes some of them.
    Split(Vec<TextKey>),
    /// Nobody waits for anything of the whole batch, or the process stops.
    Gone,
}

impl Work {
    pub fn start(desk: &Arc<Desk>, client: Client, settings: &Settings, lifecycle: &Lifecycle, metrics: &Arc<Metrics>) {
        let work = Self {
            desk: Arc::clone(desk),
            client,
            lifecycle: lifecycle.clone(),
            metrics: Arc::clone(metrics),
            slots: Arc::new(Semaphore::new(settings.concurrency.max(1))),
        };
        lifecycle.spawn_service("moderation requests", work.clone().dispatch());
        lifecycle.spawn_service("moderation probes", work.probe());
    }

    async fn dispatch(self) {
        loop {
            tokio::select! {
                () = self.something_to_send() => {}
                () = self.lifecycle.aborted() => return,
            }
            let permit = tokio::select! {
                permit = Arc::clone(&self.slots).acquire_owned() => permit,
                () = self.lifecycle.aborted() => return,
            };
            let Ok(permit) = permit else { return };
            // While it waited for its turn, all may have left.
            let Some(batch) = self.desk.take(Instant::now()) else { continue };
            self.lifecycle.spawn(self.clone().request(batch, permit));
        }
    }

    /// # Cancel safety
    /// Safe: nothing is taken.
    async fn something_to_send(&self) {
        loop {
            match self.desk.next(Instant::now()) {
                Next::Ready => return,
                Next::Nothing => self.desk.work.notified().await,
                Next::At(at) => tokio::select! {
                    () = sleep_until(at) => {}
                    () = self.desk.work.notified() => {}
                },
            }
        }
    }

    /// Sends a batch until each text has its answer. One that the API refuses is halved, so that a text it does not like
    /// costs the others little.
    async fn request(self, batch: Batch, permit: OwnedSemaphorePermit) {
        let mut parts = vec![batch.keys.clone()];
        let (mut permit, mut paid) = (Some(permit), true);
        while let Some(keys) = parts.pop() {
            match self.part(&batch, &keys, &mut permit, paid).await {
                Ended::Settled => {}
                Ended::Split(mut keys) => {
                    parts.push(keys.split_off(keys.len() / 2));
                    parts.push(keys);
                }
                Ended::Gone => return,
            }
            paid = false;
        }
    }

    async fn part(
        &self,
        batch: &Batch,
        keys: &[TextKey],
        permit: &mut Option<OwnedSemaphorePermit>,
        mut paid: bool,
    ) -> Ended {
        let mut tries = 0;
        loop {
            let texts = batch.texts(keys);
            if texts.keys.is_empty() {
                return Ended::Settled;
            }
            if let Some(refusal) = self.desk.refusal(texts.keys.len()) {
                self.desk.give_up(batch, &texts.keys, refusal);
                return Ended::Settled;
            }
            if !std::mem::take(&mut paid) {
                self.desk.pay(texts.tokens);
            }
            tries += 1;
            let Some(asked) = self.ask(batch, &texts).await else { return Ended::Gone };
            self.desk.learn(&asked);
            let fault = match asked.outcome {
                Ok(scores) => {
                    self.desk.settle(batch, &texts.keys, scores);
                    return Ended::Settled;
                }
                Err(fault) => fault,
            };
            let now = Instant::now();
            let again = asked
                .advice
                .wait(fault, tries, rand::random())
                .and_then(|wait| now.checked_add(wait))
                .map(|at| at.max(self.desk.payable(texts.tokens, now)))
                .filter(|at| Some(*at) < texts.until); // or everybody would wait for nothing
            let Some(at) = again else {
                if fault == Fault::Refused && texts.keys.len() > 1 {
                    return Ended::Split(texts.keys);
                }
                self.desk.give_up(batch, &texts.keys, fault.into());
                return Ended::Settled;
            };
            *permit = None;
            tokio::select! {
                next = async { sleep_until(at).await; Arc::clone(&self.slots).acquire_owned().await.ok() } => *permit = next,
                () = batch.request.gone.cancelled() => return Ended::Gone,
                () = self.lifecycle.aborted() => return Ended::Gone,
            }
        }
    }

    /// `None` if nobody waits for the answer any more.
    async fn ask(&self, batch: &Batch, texts: &Texts) -> Option<Asked> {
        self.metrics.openai_batch_texts.observe(texts.keys.len() as f64);
        self.metrics.openai_tokens_total.inc_by(u64::from(texts.tokens));
        let began = Instant::now();
        let asked = tokio::select! {
            biased; // an answer that is there counts
            asked = self.client.ask(&texts.texts) => Some(asked),
            () = batch.request.gone.cancelled() => None,
            () = self.lifecycle.aborted() => None,
        };
        let lasted = began.elapsed();
        let outcome = match &asked {
            Some(asked) => outcome(asked),
            None if self.desk.abandoned(batch, lasted) => Fault::Timeout.outcome(),
            None => "abandoned",
        };
        self.metrics.openai_requests_total.with_label_values(&[outcome]).inc();
        self.metrics.openai_request_seconds.observe(lasted.as_secs_f64());
        asked
    }

    async fn probe(self) {
        loop {
            let Some(at) = self.desk.probe_at() else {
                tokio::select! {
                    () = self.desk.opened.notified() => continue,
                    () = self.lifecycle.aborted() => return,
                }
            };
            tokio::select! {
                () = sleep_until(at) => {}
                () = self.desk.opened.notified() => continue,
                () = self.lifecycle.aborted() => return,
            }
            self.desk.probing(budget::tokens(PROBE));
            let began = Instant::now();
            let asked = tokio::select! {
                asked = self.client.ask(&[PROBE]) => asked,
                () = self.lifecycle.aborted() => return,
            };
            self.metrics.openai_requests_total.with_label_values(&[outcome(&asked)]).inc();
            self.metrics.openai_request_seconds.observe(began.elapsed().as_secs_f64());
            self.desk.probed(&asked);
        }
    }
}

fn outcome(asked: &Asked) -> &'static str {
    asked.outcome.as_ref().map_or_else(|fault| fault.outcome(), |_| "ok")
}

impl From<Fault> for Unavailable {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::RateLimited(_) => Self::Budget,
            Fault::Quota => Self::Quota,
            Fault::BadKey => Self::BadKey,
            Fault::Denied => Self::Denied,
            Fault::Refused => Self::Refused,
            Fault::Server => Self::Failed,
            Fault::Malformed | Fault::TooLarge => Self::Malformed,
            Fault::Timeout => Self::Deadline,
            Fault::Unreachable => Self::Unreachable,
        }
    }
}
