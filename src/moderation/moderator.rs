//! Both layers as one: a text and where it is for, in; what is to be done with it, out.
//!
//! Owns the order of the layers, what happens when the second cannot answer, and the replacing of the lists. Never logs a
//! text, and never waits longer than the second layer's deadline.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::normalise::{Normal, normalise};
use super::openai::{Classifier, StartError};
use super::{Finding, ListError, Lists, Patterns, Rules, Text, Thresholds, Verdict};
use crate::config::{ModerateDms, OnFailure, Secret};
use crate::domain::Topic;
use crate::telemetry::trace::{Kind, Span};
use crate::telemetry::{Leg, Metrics};

/// How often the log says that the second layer could not answer.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// The rule and the reason of what the second layer could not judge.
const UNAVAILABLE: (&str, &str) = ("unavailable", "moderation unavailable");

/// What a moderator goes by.
#[derive(Clone, Debug)]
pub struct Policy {
    pub rules: Rules,
    /// The folder of the lists; `None` for those that are built in.
    pub lists: Option<PathBuf>,
    pub thresholds: Thresholds,
    pub on_failure: OnFailure,
    pub dms: ModerateDms,
}

/// Where a text is for, and what of its author matters.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// The author's trust level is `new`.
    pub author_is_new: bool,
    /// It is for a direct conversation.
    pub is_direct: bool,
    /// Where it goes, as far as that is known, for the metrics.
    pub topic: Topic,
}

/// Who judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    Patterns,
    Classifier,
    /// Nobody: the second layer could not answer, and the policy for that decided.
    Policy,
}

/// What is to be done with a text, and who says so.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    pub verdict: Verdict,
    pub layer: Layer,
}

impl Judgement {
    /// A judgement of the first layer.
    #[must_use]
    pub fn of_patterns(verdict: Verdict) -> Self {
        Self { verdict, layer: Layer::Patterns }
    }

    /// The stronger of two. Of two flags one is made, with what both found.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self.verdict, other.verdict) {
            (Verdict::Flag(first), Verdict::Flag(second)) => {
                // The classifier's goes first: its scores are what a reviewer is shown.
                let classified = other.layer == Layer::Classifier;
                let (mut finding, rest, layer) =
                    if classified { (second, first, other.layer) } else { (first, second, self.layer) };
                finding.reason = format!("{}; {}", finding.reason, rest.reason);
                Self { verdict: Verdict::Flag(finding), layer }
            }
            (first, second) if strength(&second) > strength(&first) => Self { verdict: second, layer: other.layer },
            (first, _) => Self { verdict: first, layer: self.layer },
        }
    }
}

fn strength(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Allow => 0,
        Verdict::Flag(_) => 1,
        Verdict::Refuse(_) => 2,
        Verdict::Block(_) => 3,
    }
}

/// What an author is told of a reason: nothing of scores and levels, which would teach how to stay just below them.
#[must_use]
pub fn told(is_classifiers: bool, reason: &str) -> &str {
    if !is_classifiers {
        return reason;
    }
    let category = reason.split(' ').next().unwrap_or_default();
    if super::is_known(category) { category } else { "harmful" }
}

/// Texts that the second layer could not judge and the log has not told of.
#[derive(Default)]
struct Untold {
    said: Option<Instant>,
    texts: u64,
}

/// Both layers.
pub struct Moderator {
    patterns: ArcSwap<Patterns>,
    classifier: Option<Classifier>,
    policy: Policy,
    untold: Mutex<Untold>,
    /// One at a time, so that the lists read last are those in force.
    reloading: tokio::sync::Mutex<()>,
    metrics: Arc<Metrics>,
}

impl Moderator {
    /// A moderator with these lists in force. Without a classifier the second layer is off.
    #[must_use]
    pub fn new(lists: Lists, classifier: Option<Classifier>, policy: Policy, metrics: Arc<Metrics>) -> Self {
        metrics.moderation_classifier_on.set(i64::from(classifier.is_some()));
        metrics.moderation_lists.with_label_values(&[lists.version()]).set(1);
        let patterns = ArcSwap::from_pointee(Patterns::new(lists, policy.rules));
        Self {
            patterns,
            classifier,
            policy,
            untold: Mutex::default(),
            reloading: tokio::sync::Mutex::default(),
            metrics,
        }
    }

    /// Reads the lists that a policy names. Reads files, so not for a thread that must not block.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn lists(policy: &Policy) -> Result<Lists, ListError> {
        policy.lists.as_deref().map_or_else(|| Ok(Lists::builtin()), Lists::load)
    }

    /// What the lists and rules in force are.
    #[must_use]
    pub fn patterns(&self) -> Arc<Patterns> {
        self.patterns.load_full()
    }

    /// Says whether anything is looked for in direct messages, or in those of rooms.
    #[must_use]
    pub fn looks_at(&self, context: &Context) -> bool {
        !context.is_direct || self.policy.dms != ModerateDms::Off
    }

    /// Judges a text: by the patterns, and unless they end it, by the classifier. The strongest finding wins.
    ///
    /// # Cancel safety
    /// Dropping it leaves nothing behind.
    pub async fn judge(&self, text: &str, context: &Context) -> Judgement {
        if !self.looks_at(context) {
            return Judgement::of_patterns(Verdict::Allow);
        }
        self.judge_normal(text, &normalise(text), context).await
    }

    /// The same for a text that was normalised before, where anything is looked for.
    ///
    /// # Cancel safety
    /// Dropping it leaves nothing behind.
    pub async fn judge_normal(&self, text: &str, normal: &Normal, context: &Context) -> Judgement {
        let text = Text { text, author_is_new: context.author_is_new };
        let began = Instant::now();
        let span = Span::child("patterns", Kind::Internal);
        let found = Judgement::of_patterns(self.patterns.load().check_normal(&text, normal));
        drop(span);
        self.metrics.leg_seconds.observe(Leg::Patterns, context.topic, began.elapsed());
        if matches!(found.verdict, Verdict::Refuse(_) | Verdict::Block(_)) {
            return found;
        }
        let to_be_classified = !context.is_direct || self.policy.dms == ModerateDms::Full;
        let Some(classifier) = self.classifier.as_ref().filter(|_| to_be_classified) else { return found };
        let began = Instant::now();
        let mut span = Span::child("classifier", Kind::Client);
        let scores = span.within(classifier.scores(text.text)).await;
        if scores.is_err() {
            span.fail();
        }
        drop(span);
        self.metrics.leg_seconds.observe(Leg::Classifier, context.topic, began.elapsed());
        found.and(match scores {
            Ok(scores) => Judgement { verdict: self.policy.thresholds.verdict(&scores), layer: Layer::Classifier },
            Err(unavailable) => {
                self.complain(unavailable.reason());
                Judgement { verdict: self.unjudged(), layer: Layer::Policy }
            }
        })
    }

    /// Counts what was made of a text.
    pub fn note(&self, judgement: &Judgement) {
        let (verdict, rule) = match &judgement.verdict {
            Verdict::Allow => ("allow", "none"),
            Verdict::Flag(finding) => ("flag", finding.rule.as_ref()),
            Verdict::Block(finding) => ("block", finding.rule.as_ref()),
            Verdict::Refuse(finding) => ("refuse", finding.rule.as_ref()),
        };
        self.metrics.moderation_verdicts_total.with_label_values(&[verdict, rule]).inc();
    }

    /// Gives the second layer another key; without that layer, there is nobody to give it to.
    ///
    /// # Errors
    /// When the key holds what no header can; the old one stays.
    pub fn set_key(&self, key: &Secret) -> Result<(), StartError> {
        self.classifier.as_ref().map_or(Ok(()), |classifier| classifier.set_key(key))
    }

    /// Reads the lists again. Says whether they are in force now: wrong ones leave the old ones.
    pub async fn reload(&self) -> bool {
        let _one = self.reloading.lock().await;
        let before = self.patterns.load().lists().version().to_owned();
        let (policy, known) = (self.policy.clone(), before.clone());
        // Reading files and building the automaton take a moment. The version is made of what the lists say, so that the
        // same one needs no other automaton: a subscription that is lost again and again asks for them each time.
        let reading = move || {
            let lists = Self::lists(&policy)?;
            Ok((lists.version() != known).then(|| Patterns::new(lists, policy.rules)))
        };
        let read = tokio::task::spawn_blocking(reading).await;
        let outcome = match read
            .map_err(|error| error.to_string())
            .and_then(|read: Result<_, ListError>| read.map_err(|error| error.to_string()))
        {
            Ok(None) => {
                tracing::debug!(version = before, "the moderation lists are what they were");
                "ok"
            }
            Ok(Some(patterns)) => {
                let version = patterns.lists().version().to_owned();
                self.patterns.store(Arc::new(patterns));
                let _ = self.metrics.moderation_lists.remove_label_values(&[&before]);
                self.metrics.moderation_lists.with_label_values(&[&version]).set(1);
                tracing::info!(version, before, "the moderation lists were read again");
                "ok"
            }
            Err(error) => {
                tracing::error!(%error, version = before, "the moderation lists are wrong: the old ones stay in force");
                "wrong"
            }
        };
        self.metrics.moderation_reloads_total.with_label_values(&[outcome]).inc();
        outcome == "ok"
    }

    fn unjudged(&self) -> Verdict {
        let (rule, reason) = UNAVAILABLE;
        let finding = Finding { rule: Cow::Borrowed(rule), reason: reason.to_owned(), scores: Vec::new() };
        match self.policy.on_failure {
            OnFailure::Allow => Verdict::Allow,
            OnFailure::Flag => Verdict::Flag(finding),
            OnFailure::Block => Verdict::Block(finding),
        }
    }

    /// One line a minute, which says how many there were.
    fn complain(&self, reason: &'static str) {
        let policy = match self.policy.on_failure {
            OnFailure::Allow => "allow",
            OnFailure::Flag => "flag",
            OnFailure::Block => "block",
        };
        self.metrics.moderation_unjudged_total.with_label_values(&[policy]).inc();
        let mut untold = self.untold.lock();
        untold.texts += 1;
        if untold.said.is_none_or(|said| said.elapsed() >= COMPLAIN_EVERY) {
            let texts = untold.texts;
            *untold = Untold { said: Some(Instant::now()), texts: 0 };
            drop(untold);
            tracing::warn!(
                reason,
                texts,
                policy,
                "the second layer of moderation could not judge texts, this one last"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judgement(layer: Layer, make: fn(Finding) -> Verdict, reason: &str) -> Judgement {
        let finding = Finding { rule: Cow::Borrowed("a"), reason: reason.to_owned(), scores: Vec::new() };
        Judgement { verdict: make(finding), layer }
    }

    #[test]
    fn the_stronger_judgement_wins_and_two_flags_become_one() {
        let (ours, theirs) = (Layer::Patterns, Layer::Classifier);
        let flag = |layer, reason| judgement(layer, Verdict::Flag, reason);
        let block = judgement(theirs, Verdict::Block, "hate");
        assert_eq!(flag(ours, "word").and(block.clone()), block);
        assert_eq!(flag(ours, "word").and(flag(theirs, "hate")), flag(theirs, "hate; word"));
        assert_eq!(flag(ours, "word").and(flag(Layer::Policy, "gone")), flag(ours, "word; gone"));
        let allow = Judgement { verdict: Verdict::Allow, layer: theirs };
        assert_eq!(flag(ours, "word").and(allow), flag(ours, "word"));
    }

    #[test]
    fn an_author_learns_the_category_and_no_number() {
        assert_eq!(told(true, "hate/threatening 0.91 (blocked from 0.70), hate 0.80"), "hate/threatening");
        assert_eq!(told(true, "flagged by the classifier, which names no category"), "harmful");
        assert_eq!(told(false, "more than 5 links"), "more than 5 links");
    }
}
