//! What moderation makes of a text before it is written, and what its author is told.

use std::time::Duration;

use super::Commands;
use crate::access::Grant;
use crate::access::quota::{QuotaError, Ticket, Window};
use crate::domain::{Topic, Trust};
use crate::keyspace;
use crate::moderation::normalise::{Normal, normalise};
use crate::moderation::{Context, Finding, Judgement, Layer, Verdict, told};
use crate::store::Mark;
use crate::wire::{Code, Refusal};

/// How long a user's texts are compared with each other.
const ALIKE: Duration = Duration::from_secs(60);
/// Shorter texts may be repeated: people say yes more than once. In characters.
const SHORT: usize = 10;

/// A text that is not refused.
#[derive(Debug, Default)]
pub(super) struct Judged {
    /// Set when a human is to look at it, or when it is to be hidden.
    pub mark: Option<Mark>,
    /// Why, for its author.
    pub told: String,
    /// The place that it takes among the user's texts that are alike; to be given back when it is not written.
    pub alike: Option<Ticket>,
}

impl Commands {
    /// Judges a new message: by both layers, and by how often its author has said the same.
    pub(super) async fn judge_message(&self, grant: &Grant, text: &str, topic: Topic) -> Result<Judged, Refusal> {
        let context = context(grant, topic);
        if !self.moderator.looks_at(&context) {
            return Ok(Judged::default());
        }
        let normal = normalise(text);
        let judging = self.moderator.judge_normal(text, &normal, &context);
        let (judgement, alike) = tokio::join!(judging, self.compare(grant, text, &normal));
        let (judgement, alike, wait) = match alike {
            Ok(alike) => (judgement, alike, None),
            Err(QuotaError::Limited(limited)) => {
                let patterns = self.moderator.patterns();
                let times = patterns.rules().duplicates.most as u64 + 1;
                let found = Judgement::of_patterns(patterns.judge_duplicates(times));
                (found.and(judgement), None, Some(limited.retry_after))
            }
            Err(error) => {
                tracing::warn!(%error, "a message could not be compared with those before");
                return Err(Refusal::after(Code::Unavailable, Duration::from_secs(1)));
            }
        };
        self.moderator.note(&judgement);
        match accept(judgement) {
            Ok(judged) => Ok(Judged { alike, ..judged }),
            Err(finding) => {
                self.forget(alike).await;
                let wait = wait.filter(|_| finding.rule == "spam_duplicate");
                Err(refused(&finding, wait))
            }
        }
    }

    /// Judges another text for a message that exists.
    pub(super) async fn judge_edit(&self, grant: &Grant, text: &str, topic: Topic) -> Result<Judged, Refusal> {
        let judgement = self.moderator.judge(text, &context(grant, topic)).await;
        self.moderator.note(&judgement);
        accept(judgement).map_err(|finding| refused(&finding, None))
    }

    /// Judges a thread's title. The review queue is for messages, so what would wait for a human is refused; but a title
    /// that only the second layer's absence would let wait is taken.
    pub(super) async fn judge_title(&self, grant: &Grant, title: &str, topic: Topic) -> Result<(), Refusal> {
        let judgement = self.moderator.judge(title, &context(grant, topic)).await;
        self.moderator.note(&judgement);
        match judgement.verdict {
            Verdict::Flag(_) if judgement.layer == Layer::Policy => Ok(()),
            Verdict::Flag(found) | Verdict::Block(found) | Verdict::Refuse(found) => {
                let reason = told(judgement.layer == Layer::Classifier, &found.reason).to_owned();
                Err(refused(&Finding { reason, ..found }, None))
            }
            Verdict::Allow => Ok(()),
        }
    }

    /// Gives a place among alike texts back.
    pub(super) async fn forget(&self, alike: Option<Ticket>) {
        if let Some(ticket) = alike {
            self.reports.give_back(ticket).await;
        }
    }

    /// Takes a place among the author's texts of a minute that are alike, in all rooms and instances.
    async fn compare(&self, grant: &Grant, text: &str, normal: &Normal) -> Result<Option<Ticket>, QuotaError> {
        let patterns = self.moderator.patterns();
        if !patterns.counts_duplicates() || text.chars().count() < SHORT {
            return Ok(None);
        }
        let places = u32::try_from(patterns.rules().duplicates.most).unwrap_or(u32::MAX);
        let key = keyspace::alike(grant.person.id, normal.fingerprint());
        self.reports.take_of("duplicates", key, &[Window { length: ALIKE, places }]).await.map(Some)
    }
}

fn context(grant: &Grant, topic: Topic) -> Context {
    Context { author_is_new: grant.trust == Trust::New, is_direct: grant.dm.is_some(), topic }
}

/// What is left with the message, or what it is refused for.
fn accept(Judgement { verdict, layer }: Judgement) -> Result<Judged, Finding> {
    let (finding, hidden) = match verdict {
        Verdict::Allow => return Ok(Judged::default()),
        Verdict::Refuse(finding) => return Err(finding),
        Verdict::Flag(finding) => (finding, false),
        Verdict::Block(finding) => (finding, true),
    };
    let by_classifier = layer == Layer::Classifier;
    let scores: serde_json::Map<_, _> = finding.scores.into_iter().map(|(name, score)| (name, score.into())).collect();
    Ok(Judged {
        told: told(by_classifier, &finding.reason).to_owned(),
        mark: Some(Mark {
            hidden,
            source: if by_classifier { Mark::AI } else { Mark::SYSTEM },
            reason: finding.reason,
            scores: serde_json::Value::Object(scores).to_string(),
        }),
        alike: None,
    })
}

fn refused(finding: &Finding, wait: Option<Duration>) -> Refusal {
    let refusal = Refusal::refused_content(&finding.reason);
    Refusal { retry_after: wait, ..refusal }
}
