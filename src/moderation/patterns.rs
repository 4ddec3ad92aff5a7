//! The first layer, whole: a text against the lists and the rules. Pure and synchronous; never waits for anything.

use std::sync::Arc;

use super::normalise::{self, Normal};
use super::{Lists, Rules, Verdict, links, spam, words};

/// A text to be judged, and what of its author matters.
#[derive(Clone, Copy, Debug)]
pub struct Text<'t> {
    /// As it was sent.
    pub text: &'t str,
    /// The author's trust level is `new`.
    pub author_is_new: bool,
}

/// The first layer of moderation. Cheap to clone; to change lists or rules make another and put it in this one's place.
#[derive(Clone, Debug)]
pub struct Patterns(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    lists: Lists,
    words: words::Matcher,
    looks: links::Looks,
    rules: Rules,
}

impl Patterns {
    /// Builds the automaton: milliseconds for thousands of words.
    #[must_use]
    pub fn new(lists: Lists, rules: Rules) -> Self {
        let words = words::Matcher::new(lists.words(), lists.innocent());
        let looks = links::Looks::new(lists.allowed());
        Self(Arc::new(Inner { lists, words, looks, rules }))
    }

    /// Judges a text. The strongest finding wins: block, then refuse, then flag; of equals the first that is looked at.
    #[must_use]
    pub fn check(&self, text: &Text<'_>) -> Verdict {
        self.check_normal(text, &normalise::normalise(text.text))
    }

    /// The same for a text that was normalised before.
    pub(super) fn check_normal(&self, text: &Text<'_>, normal: &Normal) -> Verdict {
        let Inner { lists, words, looks, rules } = &*self.0;
        let mut verdict = words.check(text.text, normal);
        for found in [links::check(text, lists, looks, rules), spam::check(text.text, rules)] {
            verdict = stronger(verdict, found);
        }
        verdict
    }

    /// Judges the `times` that an author posted one text within a minute, this time included.
    #[must_use]
    pub fn judge_duplicates(&self, times: u64) -> Verdict {
        let rule = self.0.rules.duplicates;
        if !rule.action.is_on() || times <= rule.most as u64 {
            return Verdict::Allow;
        }
        rule.action.verdict("spam_duplicate", format!("the same text {times} times within a minute"))
    }

    /// Says whether duplicates need counting at all.
    #[must_use]
    pub fn counts_duplicates(&self) -> bool {
        self.0.rules.duplicates.action.is_on()
    }

    /// Says whether a text holds a link.
    #[must_use]
    pub fn has_link(&self, text: &str) -> bool {
        crate::text::has_link(text)
    }

    /// The lists in force.
    #[must_use]
    pub fn lists(&self) -> &Lists {
        &self.0.lists
    }

    /// The rules in force.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.0.rules
    }
}

/// The stronger of two verdicts; the first of equals.
fn stronger(first: Verdict, second: Verdict) -> Verdict {
    if strength(&second) > strength(&first) { second } else { first }
}

fn strength(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Allow => 0,
        Verdict::Flag(_) => 1,
        Verdict::Refuse(_) => 2,
        Verdict::Block(_) => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Action;
    use super::*;

    fn patterns() -> Patterns {
        Patterns::new(Lists::builtin(), Rules::default())
    }

    #[test]
    fn the_strongest_finding_wins() {
        let flag = || Action::Flag.verdict("a", String::new());
        let block = || Action::Block.verdict("b", String::new());
        assert_eq!(stronger(flag(), block()), block());
        assert_eq!(stronger(block(), Action::Refuse.verdict("c", String::new())), block());
        assert_eq!(stronger(flag(), Action::Flag.verdict("c", String::new())), flag());
        assert_eq!(stronger(Verdict::Allow, Verdict::Allow), Verdict::Allow);
    }

    #[test]
    fn duplicates_are_judged_by_their_number() {
        let patterns = patterns();
        assert_eq!(patterns.judge_duplicates(2), Verdict::Allow);
        assert!(matches!(patterns.judge_duplicates(3), Verdict::Refuse(finding) if finding.rule == "spam_duplicate"));
        let mut rules = Rules::default();
        rules.duplicates.action = Action::Off;
        let patterns = Patterns::new(Lists::builtin(), rules);
        assert!(!patterns.counts_duplicates());
        assert_eq!(patterns.judge_duplicates(100), Verdict::Allow);
    }
}
