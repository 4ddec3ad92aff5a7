//! From scores to a verdict. Pure. The thresholds are this gateway's policy, not the API's.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::scores::{Category, Scores, UNNAMED_RULE};
use super::verdict::{Finding, Verdict};

/// From which score on a text is flagged, and from which it is blocked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Levels {
    pub flag: f64,
    pub block: f64,
}

impl Default for Levels {
    fn default() -> Self {
        Self { flag: 0.3, block: 0.7 }
    }
}

/// The levels of all categories.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Thresholds {
    /// Of every category that has none of its own.
    pub general: Levels,
    /// Of single categories, by the API's names.
    pub own: BTreeMap<String, Levels>,
}

/// How bad one category is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    Fine,
    Flag,
    Block,
}

impl Thresholds {
    /// What becomes of a text with these scores.
    ///
    /// A score at or above a level reaches it. The API's own `flagged` makes at least a flag, whatever the scores are,
    /// unless every category it flags has levels of its own here: who sets those has decided.
    #[must_use]
    pub fn verdict(&self, scores: &Scores) -> Verdict {
        let mut found: Vec<(Weight, &Category)> = scores
            .categories
            .iter()
            .map(|category| (self.weigh(category), category))
            .filter(|(weight, _)| *weight != Weight::Fine)
            .collect();
        // The worst first, and of these the highest score.
        found.sort_by(|(a, one), (b, other)| b.cmp(a).then(other.score.total_cmp(&one.score)));

        let weight = match found.first() {
            Some((weight, _)) => *weight,
            // Flagged as a whole and no category says why: the whole counts.
            None if scores.flagged && !scores.categories.iter().any(|category| category.flagged) => Weight::Flag,
            None => return Verdict::Allow,
        };
        let finding = Finding {
            rule: Cow::Borrowed(found.first().map_or(UNNAMED_RULE, |(_, category)| category.rule())),
            reason: self.reason(&found),
            scores: scores.categories.iter().map(|one| (one.name.clone().into_owned(), one.score)).collect(),
        };
        if weight == Weight::Block { Verdict::Block(finding) } else { Verdict::Flag(finding) }
    }

    fn weigh(&self, category: &Category) -> Weight {
        let own = self.own.get(category.name.as_ref());
        let levels = own.unwrap_or(&self.general);
        if category.score >= levels.block {
            Weight::Block
        } else if category.score >= levels.flag || category.flagged && own.is_none() {
            Weight::Flag
        } else {
            Weight::Fine
        }
    }

    /// `harassment/threatening 0.91 (blocked from 0.70), violence 0.45 (flagged from 0.30)`.
    fn reason(&self, found: &[(Weight, &Category)]) -> String {
        if found.is_empty() {
            return "flagged by the classifier, which names no category".to_owned();
        }
        let mut reason = String::new();
        for (weight, category) in found {
            let levels = self.own.get(category.name.as_ref()).unwrap_or(&self.general);
            let comma = if reason.is_empty() { "" } else { ", " };
            // Writing to a String cannot fail.
            let _ = match weight {
                Weight::Block => {
                    write!(reason, "{comma}{} {:.2} (blocked from {:.2})", category.name, category.score, levels.block)
                }
                _ if category.score >= levels.flag => {
                    write!(reason, "{comma}{} {:.2} (flagged from {:.2})", category.name, category.score, levels.flag)
                }
                _ => write!(reason, "{comma}{} {:.2} (flagged by the classifier)", category.name, category.score),
            };
        }
        reason
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(flagged: bool, categories: &[(&str, f64, bool)]) -> Scores {
        let categories = categories.iter().map(|(name, score, flagged)| Category::new(name, *score, *flagged));
        Scores { flagged, categories: categories.collect() }
    }

    fn word(verdict: &Verdict) -> &'static str {
        match verdict {
            Verdict::Allow => "allow",
            Verdict::Flag(_) => "flag",
            Verdict::Block(_) => "block",
            Verdict::Refuse(_) => "refuse",
        }
    }

    fn finding(verdict: Verdict) -> Finding {
        match verdict {
            Verdict::Flag(finding) | Verdict::Block(finding) => finding,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_score_at_a_level_reaches_it() {
        let thresholds = Thresholds::default();
        for (score, expected) in [
            (0.0, "allow"),
            (1e-5, "allow"),
            (0.299_999, "allow"),
            (0.3, "flag"),
            (0.699_999, "flag"),
            (0.7, "block"),
            (1.0, "block"),
        ] {
            let verdict = thresholds.verdict(&scores(false, &[("hate", 0.0, false), ("violence", score, false)]));
            assert_eq!(word(&verdict), expected, "{score}");
        }
    }

    #[test]
    fn a_category_with_levels_of_its_own_keeps_to_them() {
        let mut thresholds = Thresholds::default();
        thresholds.own.insert("sexual/minors".to_owned(), Levels { flag: 0.05, block: 0.1 });
        thresholds.own.insert("violence".to_owned(), Levels { flag: 0.8, block: 0.95 });
        for (name, score, expected) in [
            ("sexual/minors", 0.04, "allow"),
            ("sexual/minors", 0.05, "flag"),
            ("sexual/minors", 0.1, "block"),
            ("violence", 0.79, "allow"),
            ("violence", 0.9, "flag"),
            ("hate", 0.79, "block"),
        ] {
            assert_eq!(word(&thresholds.verdict(&scores(false, &[(name, score, false)]))), expected, "{name} {score}");
        }
        // What the API thinks of such a category is not asked; of the others it is.
        assert_eq!(word(&thresholds.verdict(&scores(true, &[("violence", 0.7, true)]))), "allow");
        assert_eq!(word(&thresholds.verdict(&scores(true, &[("violence", 0.7, true), ("hate", 0.1, true)]))), "flag");
    }

    #[test]
    fn what_the_api_flags_is_flagged_whatever_the_scores_are() {
        let thresholds = Thresholds::default();
        let unnamed = finding(thresholds.verdict(&scores(true, &[("hate", 0.01, false)])));
        assert_eq!((unnamed.rule.as_ref(), unnamed.scores.len()), ("openai_flagged", 1));
        assert_eq!(word(&thresholds.verdict(&scores(true, &[]))), "flag");
        let named = finding(thresholds.verdict(&scores(false, &[("sexual/minors", 0.01, true)])));
        assert_eq!(named.reason, "sexual/minors 0.01 (flagged by the classifier)");
    }

    #[test]
    fn the_reason_names_the_worst_first_and_the_levels() {
        let verdict = Thresholds::default().verdict(&scores(
            true,
            &[("harassment", 0.5, true), ("violence", 0.72, true), ("hate", 0.91, true), ("sexual", 0.2, false)],
        ));
        let found = finding(verdict);
        assert_eq!(found.rule, "openai_hate");
        assert_eq!(
            found.reason,
            "hate 0.91 (blocked from 0.70), violence 0.72 (blocked from 0.70), harassment 0.50 (flagged from 0.30)"
        );
        assert_eq!(found.scores[3], ("sexual".to_owned(), 0.2));
    }

    #[test]
    fn a_category_of_tomorrow_counts_and_shares_one_rule() {
        let found = finding(Thresholds::default().verdict(&scores(true, &[("a-new-category", 0.9, true)])));
        assert_eq!((found.rule.as_ref(), found.scores[0].0.as_str()), ("openai_other", "a-new-category"));
    }
}
