//! The second layer: the OpenAI Moderation API. A text in, its scores out, within one deadline or not at all.
//!
//! Overlapping texts share requests and equal texts share answers. Owns the queue, the budget, the retries and the breaker.
//! Texts live in memory until their request ends and go to the API only: never into a log, a metric or an error.

mod breaker;
mod budget;
mod cache;
mod client;
mod desk;
#[cfg(test)]
mod golden_tests;
mod reply;
mod retry;
mod work;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

pub use breaker::BreakerSettings;

use self::client::Client;
use self::desk::{Desk, Received};
use self::reply::Fault;
use self::work::Work;
use super::scores::Scores;
use crate::config::Secret;
use crate::lifecycle::Lifecycle;
use crate::telemetry::Metrics;

/// How a classifier works.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The address before `/moderations`.
    pub base_url: String,
    pub key: Secret,
    pub model: String,
    /// How long a text may wait for its scores, everything included.
    pub deadline: Duration,
    /// Requests in flight, at least 1.
    pub concurrency: usize,
    /// Texts in one request, at least 1.
    pub batch: usize,
    /// Texts that may wait for a request.
    pub queue: usize,
    /// Answers that are kept for equal texts.
    pub cache: usize,
    /// How long they are kept.
    pub cache_life: Duration,
    /// Assumed until the API teaches better: the highest that it publishes, because an account with less soon says so,
    /// and one that has more than was assumed never would.
    pub requests_per_minute: u32,
    /// As above, by our estimate of tokens.
    pub tokens_per_minute: u32,
    pub breaker: BreakerSettings,
}

impl Settings {
    /// The defaults, for this address and key.
    #[must_use]
    pub fn new(base_url: impl Into<String>, key: Secret) -> Self {
        Self {
            base_url: base_url.into(),
            key,
            model: "omni-moderation-latest".to_owned(),
            deadline: Duration::from_secs(2),
            concurrency: 8,
            batch: 32,
            queue: 1_024,
            cache: 10_000,
            cache_life: Duration::from_secs(600),
            requests_per_minute: 5_000,
            tokens_per_minute: 500_000,
            breaker: BreakerSettings::default(),
        }
    }
}

/// Why a classifier cannot start. Holds no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    #[error("the moderation API's address is not a URL with a host")]
    BaseUrl,
    #[error("the moderation API's key holds what no header can")]
    Key,
    #[error("TLS for the moderation API cannot be set up: {0}")]
    Tls(String),
}

/// Why a text has no scores. The text was not judged; what becomes of it is the caller's policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Unavailable {
    #[error("the moderation API did not answer in time")]
    Deadline,
    #[error("too many texts wait for the moderation API")]
    Busy,
    #[error("the moderation API fails and is not asked for a while")]
    BreakerOpen,
    #[error("the moderation API's limits do not allow it in time")]
    Budget,
    #[error("the moderation API's account is out of credit")]
    Quota,
    #[error("the moderation API does not accept the key")]
    BadKey,
    #[error("the moderation API does not accept the account, the model or the address")]
    Denied,
    #[error("the moderation API does not accept the text")]
    Refused,
    #[error("the moderation API's answer cannot be used")]
    Malformed,
    #[error("the moderation API failed")]
    Failed,
    #[error("the moderation API cannot be reached")]
    Unreachable,
    #[error("the gateway stops")]
    Stopped,
}

impl Unavailable {
    /// The metric label.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Deadline => "deadline",
            Self::Busy => "busy",
            Self::BreakerOpen => "breaker_open",
            Self::Budget => "budget",
            Self::Quota => "quota",
            Self::BadKey => "bad_key",
            Self::Denied => "denied",
            Self::Refused => "refused",
            Self::Malformed => "malformed",
            Self::Failed => "failed",
            Self::Unreachable => "unreachable",
            Self::Stopped => "stopped",
        }
    }

    /// What is said while the breaker is open because of this: what an operator must mend is named.
    fn while_open(fault: Fault) -> Self {
        match fault {
            Fault::Quota | Fault::BadKey | Fault::Denied => fault.into(),
            _ => Self::BreakerOpen,
        }
    }
}

/// Says whether a key could be sent.
///
/// # Errors
/// When it holds what no header can.
pub fn check_key(key: &Secret) -> Result<(), StartError> {
    client::authorization(key).map(|_| ())
}

/// The way to have texts judged. Cloning is cheap and gives the same classifier.
#[derive(Clone)]
pub struct Classifier {
    desk: Arc<Desk>,
    client: Client,
    deadline: Duration,
    metrics: Arc<Metrics>,
}

impl Classifier {
    /// Starts the tasks that ask the API. Asks nothing yet.
    ///
    /// # Errors
    /// When the address, the key or TLS cannot be used.
    pub fn start(settings: Settings, lifecycle: &Lifecycle, metrics: Arc<Metrics>) -> Result<Self, StartError> {
        let (client, deadline) = (Client::new(&settings)?, settings.deadline);
        let desk = Arc::new(Desk::new(settings.clone(), Arc::clone(&metrics)));
        Work::start(&desk, client.clone(), &settings, lifecycle, &metrics);
        Ok(Self { desk, client, deadline, metrics })
    }

    /// Asks with another key from now on. If the API is given up, it is tried at once: perhaps the old key was why.
    ///
    /// # Errors
    /// When the key holds what no header can; the old one stays.
    pub fn set_key(&self, key: &Secret) -> Result<(), StartError> {
        self.client.set_key(key)?;
        self.desk.probe_now();
        Ok(())
    }

    /// The scores of a text, within the deadline.
    ///
    /// # Errors
    /// When they cannot be had, with the reason. While the API is given up or too much waits, at once.
    ///
    /// # Cancel safety
    /// Dropping it leaves nothing behind: a text that nobody else waits for is not sent any more.
    pub async fn scores(&self, text: &str) -> Result<Arc<Scores>, Unavailable> {
        if text.is_empty() {
            return Ok(Arc::default()); // the API refuses it, and there is nothing to judge
        }
        let until = Instant::now() + self.deadline;
        let answer = match self.desk.receive(text, until) {
            Ok(Received::Known(scores)) => Ok(scores),
            Ok(Received::Waiting(seat)) => seat.answer(until).await,
            Err(reason) => Err(reason),
        };
        answer.inspect_err(|unavailable| {
            self.metrics.openai_unavailable_total.with_label_values(&[unavailable.reason()]).inc();
        })
    }
}
