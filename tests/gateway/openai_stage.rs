//! A classifier beside a fake API: what its tests share.

use std::sync::Arc;
use std::time::Duration;

use community_gateway::config::Secret;
use community_gateway::lifecycle::Lifecycle;
use community_gateway::moderation::Scores;
use community_gateway::moderation::openai::{Classifier, Settings, Unavailable};
use community_gateway::telemetry::Metrics;
use tokio::task::JoinSet;

use crate::support::{FakeOpenAi, GUARD, eventually};

pub struct Stage {
    pub api: FakeOpenAi,
    pub classifier: Classifier,
    pub metrics: Arc<Metrics>,
    pub lifecycle: Lifecycle,
}

/// What a caller gets.
pub type Answer = Result<Arc<Scores>, Unavailable>;

impl Stage {
    /// With a deadline that never strikes, unless it is changed.
    pub async fn start(change: impl FnOnce(&mut Settings)) -> Self {
        let api = FakeOpenAi::start().await;
        let mut settings = Settings::new(api.url(), Secret::new(FakeOpenAi::KEY));
        settings.deadline = GUARD;
        change(&mut settings);
        let (lifecycle, metrics) = (Lifecycle::new(), Arc::new(Metrics::new().unwrap()));
        let classifier = Classifier::start(settings, &lifecycle, Arc::clone(&metrics)).unwrap();
        Self { api, classifier, metrics, lifecycle }
    }

    /// Asks in a task of its own for each text.
    pub fn ask(&self, texts: &[&str]) -> Vec<Asking> {
        texts.iter().map(|text| Asking::new(&self.classifier, text)).collect()
    }

    /// Waits until so many texts wait for a request.
    pub async fn queued(&self, count: i64) {
        eventually("so many texts are queued", || async { self.metrics.openai_queue.get() == count }).await;
    }

    /// Texts, by how they are answered.
    pub fn texts(&self, answer: &str) -> u64 {
        self.metrics.openai_texts_total.with_label_values(&[answer]).get()
    }

    /// Requests, by outcome.
    pub fn requests(&self, outcome: &str) -> u64 {
        self.metrics.openai_requests_total.with_label_values(&[outcome]).get()
    }

    pub fn unavailable(&self, reason: Unavailable) -> u64 {
        self.metrics.openai_unavailable_total.with_label_values(&[reason.reason()]).get()
    }
}

/// Somebody who waits for scores. Dropping it is going away.
pub struct Asking(JoinSet<Answer>);

impl Asking {
    fn new(classifier: &Classifier, text: &str) -> Self {
        let (classifier, text, mut tasks) = (classifier.clone(), text.to_owned(), JoinSet::new());
        tasks.spawn(async move { classifier.scores(&text).await });
        Self(tasks)
    }

    pub async fn answer(mut self) -> Answer {
        let answer = tokio::time::timeout(GUARD + Duration::from_secs(5), self.0.join_next()).await;
        answer.expect("an answer").expect("one task").unwrap()
    }
}
