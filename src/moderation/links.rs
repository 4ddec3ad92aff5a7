//! The links of a text against the lists of domains.

use super::{Lists, Rules, Text, Verdict};
use crate::text::links;

/// The first finding: a link of somebody new, too many, denied, unlisted.
pub(super) fn check(text: &Text<'_>, lists: &Lists, rules: &Rules) -> Verdict {
    let links = links(text.text);
    let Some(first) = links.first() else { return Verdict::Allow };
    if text.author_is_new && rules.link_of_new.is_on() {
        return rules.link_of_new.verdict("link_new_user", format!("new members post no links: {}", first.host));
    }
    for link in &links {
        if rules.link_denied.is_on() && lists.denied().contains(&link.host) {
            return rules.link_denied.verdict("link_denied", format!("{} is on the list of denied domains", link.host));
        }
    }
    if rules.links.action.is_on() && links.len() > rules.links.most {
        let reason = format!("{} links, the most is {}", links.len(), rules.links.most);
        return rules.links.action.verdict("spam_links", reason);
    }
    for link in &links {
        if rules.link_unlisted.is_on() && !lists.allowed().is_empty() && !lists.allowed().contains(&link.host) {
            return rules.link_unlisted.verdict("link_unlisted", format!("{} is not an allowed domain", link.host));
        }
    }
    Verdict::Allow
}
