//! What is spam whatever it says: repetition, capitals, too many mentions. One look at the text each.

use super::{Rules, Verdict};

/// The first finding of the rules that need no list.
pub(super) fn check(text: &str, rules: &Rules) -> Verdict {
    mentions(text, rules)
}

fn mentions(text: &str, rules: &Rules) -> Verdict {
    let rule = rules.mentions;
    if !rule.action.is_on() {
        return Verdict::Allow;
    }
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '@' | '+' | '-');
    let begins = |at: usize| {
        !text[..at].chars().next_back().is_some_and(is_part) && text[at + 1..].chars().next().is_some_and(is_part)
    };
    let count = text.match_indices('@').filter(|(at, _)| begins(*at)).count();
    if count <= rule.most {
        return Verdict::Allow;
    }
    rule.action.verdict("spam_mentions", format!("{count} mentions, the most is {}", rule.most))
}
