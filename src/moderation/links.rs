//! The links of a text against the lists of domains, and against the eye: a domain that looks like another one.

use std::collections::HashSet;

use super::{Domains, Lists, Rules, Text, Verdict};
use crate::text::{Link, fold, links};

/// What listed domains look like.
#[derive(Debug)]
pub(super) struct Looks {
    names: HashSet<String>,
    looks: HashSet<String>,
}

impl Looks {
    pub fn new(allowed: &Domains) -> Self {
        let names: HashSet<_> = allowed.names().map(str::to_owned).collect();
        let looks = names.iter().map(|name| look(name)).collect();
        Self { names, looks }
    }

    /// Says whether a link's domain is made to be taken for another.
    fn deceives(&self, link: &Link) -> bool {
        let shown = link.shown_host();
        if !shown.is_ascii() && shown.split('.').any(is_mixed) {
            return true;
        }
        let is_latin_zone = shown.rsplit('.').next().is_some_and(str::is_ascii);
        if !shown.is_ascii() && is_latin_zone && shown.split('.').any(is_all_lookalikes) {
            return true;
        }
        let begins = |at: usize| at == 0 || shown.as_bytes().get(at - 1) == Some(&b'.');
        let starts = std::iter::once(0).chain(shown.match_indices('.').map(|(at, _)| at + 1));
        // As the last labels it looks like a listed name without being one, or it has a listed name before its own.
        starts.filter(|at| begins(*at)).any(|at| {
            let tail = &shown[at..];
            tail.contains('.') && !self.names.contains(tail) && self.looks.contains(&look(tail))
        }) || shown.match_indices('.').any(|(at, _)| {
            let head = shown[..at].strip_prefix("www.").unwrap_or(&shown[..at]);
            head.contains('.') && self.names.contains(head) && !self.names.contains(&*shown)
        })
    }
}

/// A name as it is seen at a glance.
fn look(name: &str) -> String {
    let mut look = String::with_capacity(name.len());
    for c in name.chars() {
        fold::fold(c, |c| {
            look.push(match c {
                '0' => 'o',
                '1' | 'i' | 'j' => 'l',
                '3' => 'e',
                '5' => 's',
                '8' => 'b',
                c => c,
            });
        });
    }
    look.replace("rn", "m").replace("vv", "w")
}

/// Letters of more than one of the alphabets that share shapes.
fn is_mixed(label: &str) -> bool {
    let mut seen = None;
    label.chars().filter_map(alphabet).any(|alphabet| *seen.get_or_insert(alphabet) != alphabet)
}

/// A name of another alphabet of which every letter looks Latin.
fn is_all_lookalikes(label: &str) -> bool {
    let is_foreign = label.chars().any(|c| alphabet(c).is_some_and(|alphabet| alphabet != "Latin"));
    let mut is_latin = true;
    label.chars().for_each(|c| fold::fold(c, |c| is_latin &= c.is_ascii()));
    is_foreign && is_latin
}

fn alphabet(c: char) -> Option<&'static str> {
    Some(match u32::from(c) {
        0x41..=0x5a | 0x61..=0x7a | 0xc0..=0x2af | 0x1e00..=0x1eff => "Latin",
        0x370..=0x3ff | 0x1f00..=0x1fff => "Greek",
        0x400..=0x52f | 0x1c80..=0x1c8f | 0xa640..=0xa69f => "Cyrillic",
        0x530..=0x58f => "Armenian",
        0x13a0..=0x13ff | 0xab70..=0xabbf => "Cherokee",
        0xa4d0..=0xa4ff => "Lisu",
        0x2c80..=0x2cff => "Coptic",
        _ => return None,
    })
}

/// The first finding: denied, of somebody new, deceiving, too many, unlisted.
pub(super) fn check(text: &Text<'_>, lists: &Lists, looks: &Looks, rules: &Rules) -> Verdict {
    let links = links(text.text);
    if links.is_empty() {
        return Verdict::Allow;
    }
    let shown = |link: &Link| link.shown_host().into_owned();
    if rules.link_denied.is_on()
        && let Some(link) = links.iter().find(|link| lists.denied().contains(&link.host))
    {
        return rules.link_denied.verdict("link_denied", format!("{} is on the list of denied domains", shown(link)));
    }
    if rules.link_of_new.is_on() && text.author_is_new {
        return rules.link_of_new.verdict("link_new_user", "new members post no links".to_owned());
    }
    if rules.links.action.is_on() && links.len() > rules.links.most {
        let reason = format!("{} links, the most is {}", links.len(), rules.links.most);
        return rules.links.action.verdict("spam_links", reason);
    }
    let foreign = |link: &&Link| !lists.allowed().contains(&link.host);
    if rules.link_homograph.is_on()
        && let Some(link) = links.iter().filter(foreign).find(|link| looks.deceives(link))
    {
        let reason = format!("{} ({}) looks like another domain", shown(link), link.host);
        return rules.link_homograph.verdict("link_homograph", reason);
    }
    if rules.link_unlisted.is_on()
        && !lists.allowed().is_empty()
        && let Some(link) = links.iter().find(foreign)
    {
        return rules.link_unlisted.verdict("link_unlisted", format!("{} is not an allowed domain", shown(link)));
    }
    Verdict::Allow
}
