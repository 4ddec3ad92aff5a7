//! Numbers and actions of the rules that need no list, with their defaults. Knows no configuration: it is given these.

use super::{Finding, Verdict};

/// What a rule does when it finds something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing: the rule is not even looked at.
    Off,
    /// Posted, and queued for a human.
    Flag,
    /// Not stored; the author can mend it.
    Refuse,
    /// Stored hidden and queued for a human.
    Block,
}

impl Action {
    /// The action that a configuration names: `off`, `flag`, `refuse` or `block`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "off" => Self::Off,
            "flag" => Self::Flag,
            "refuse" => Self::Refuse,
            "block" => Self::Block,
            _ => return None,
        })
    }

    /// Says whether the rule is looked at.
    #[must_use]
    pub fn is_on(self) -> bool {
        self != Self::Off
    }

    /// The verdict of this action.
    #[must_use]
    pub fn verdict(self, rule: &'static str, reason: String) -> Verdict {
        let finding = Finding { rule: rule.into(), reason, scores: Vec::new() };
        match self {
            Self::Off => Verdict::Allow,
            Self::Flag => Verdict::Flag(finding),
            Self::Refuse => Verdict::Refuse(finding),
            Self::Block => Verdict::Block(finding),
        }
    }
}

/// A rule with one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Most {
    /// What happens to a text with more.
    pub action: Action,
    /// The most that passes.
    pub most: usize,
}

/// `spam_repetition`: the same again and again inside one text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repetition {
    /// What happens to it.
    pub action: Action,
    /// The longest row of one character that passes.
    pub characters: usize,
    /// The longest row of one word, or of one group of up to four words, that passes; counted in rounds.
    pub words: usize,
    /// How often one line of ten characters or more may occur.
    pub lines: usize,
}

/// `spam_shouting`: a text in capitals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shouting {
    /// What happens to it.
    pub action: Action,
    /// A text with fewer letters that have a case is never shouting; acronyms stay below.
    pub letters: usize,
    /// The share of capitals among letters that have a case, in percent, from which on it is.
    pub percent: usize,
}

/// All rules but the words, which carry their own severity in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// `spam_repetition`.
    pub repetition: Repetition,
    /// `spam_shouting`.
    pub shouting: Shouting,
    /// `spam_mentions`: different `@name` in one text.
    pub mentions: Most,
    /// `spam_links`: links in one text.
    pub links: Most,
    /// `spam_duplicate`: times that one author posts the same text within a minute. Counted elsewhere, by
    /// the fingerprint of what is read; judged by [`super::Patterns::judge_duplicates`].
    pub duplicates: Most,
    /// `link_new_user`: a link from somebody new.
    pub link_of_new: Action,
    /// `link_denied`: a domain of the deny list.
    pub link_denied: Action,
    /// `link_homograph`: a domain that looks like another.
    pub link_homograph: Action,
    /// `link_unlisted`: a domain that is not on the allow list. Nothing is unlisted while that list is empty.
    pub link_unlisted: Action,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            repetition: Repetition { action: Action::Refuse, characters: 40, words: 8, lines: 3 },
            shouting: Shouting { action: Action::Refuse, letters: 24, percent: 80 },
            mentions: Most { action: Action::Refuse, most: 10 },
            links: Most { action: Action::Refuse, most: 5 },
            duplicates: Most { action: Action::Refuse, most: 2 },
            link_of_new: Action::Refuse,
            link_denied: Action::Block,
            link_homograph: Action::Refuse,
            link_unlisted: Action::Flag,
        }
    }
}
