//! Moderation: what each layer looks for, and what is done about it.

use std::path::PathBuf;
use std::time::Duration;

use super::Secret;
use super::parse::{self, seconds, whole};
use super::variable::{Reader, Variable};

const KEY: Variable =
    Variable::new("OPENAI_API_KEY", "", "second layer of moderation; no key turns it off, which is said at the start")
        .secret()
        .live()
        .example("sk-…");
const URL: Variable =
    Variable::new("OPENAI_BASE_URL", "https://api.openai.com/v1", "where the second layer is asked").url();
const MODEL: Variable =
    Variable::new("GATEWAY_MODERATION_MODEL", "omni-moderation-latest", "which model the second layer asks");
const ON_FAILURE: Variable = Variable::new(
    "GATEWAY_MODERATION_ON_FAILURE",
    "flag",
    "`allow`, `flag` (post and queue for a human) or `block`, when the second layer cannot answer",
);
const DEADLINE: Variable = Variable::new(
    "GATEWAY_MODERATION_DEADLINE_SECONDS",
    "2",
    "how long a message waits for the second layer, everything included",
);
const FLAG_FROM: Variable =
    Variable::new("GATEWAY_MODERATION_FLAG_FROM", "0.3", "score from which on a message is queued for a human");
const BLOCK_FROM: Variable =
    Variable::new("GATEWAY_MODERATION_BLOCK_FROM", "0.7", "score from which on a message is hidden at once");
const CATEGORIES: Variable = Variable::new(
    "GATEWAY_MODERATION_CATEGORIES",
    "",
    "categories with scores of their own, comma separated: `category=flag:block`",
)
.example("sexual/minors=0.05:0.1,violence=0.8:0.95");
const REQUESTS: Variable = Variable::new(
    "GATEWAY_MODERATION_REQUESTS_PER_MINUTE",
    "5000",
    "requests a minute to the second layer, until its answers say how many there may be",
);
const TOKENS: Variable = Variable::new(
    "GATEWAY_MODERATION_TOKENS_PER_MINUTE",
    "500000",
    "tokens a minute to the second layer, until its answers say how many there may be",
);
const DMS: Variable = Variable::new(
    "GATEWAY_MODERATE_DMS",
    "full",
    "direct messages: `full`, `patterns` (they are not sent to the second layer) or `off`",
);
pub(super) const LISTS: Variable = Variable::new(
    "GATEWAY_MODERATION_LISTS",
    "",
    "folder with `words.txt`, `innocent.txt`, `links-allow.txt` and `links-deny.txt`; empty uses those that are built in",
)
.example("/etc/community-gateway/moderation");
const REPETITION: Variable = Variable::new(
    "GATEWAY_SPAM_REPETITION",
    "refuse:40,8,3",
    "the same again in one message; most of one character in a row, of words in a row, of one line. Rules do `off`, `flag`, `refuse` or `block`",
);
const SHOUTING: Variable = Variable::new(
    "GATEWAY_SPAM_SHOUTING",
    "refuse:24,80",
    "capitals: in a message of so many letters or more, so many percent of them",
);
const MENTIONS: Variable = Variable::new("GATEWAY_SPAM_MENTIONS", "refuse:10", "most different `@name` in one message");
const LINKS: Variable = Variable::new("GATEWAY_SPAM_LINKS", "refuse:5", "most links in one message");
const DUPLICATE: Variable = Variable::new(
    "GATEWAY_SPAM_DUPLICATE",
    "refuse:2",
    "most times that a user posts the same in a minute, in all rooms; of ten characters or more",
);
const LINK_NEW_USER: Variable = Variable::new("GATEWAY_LINK_NEW_USER", "refuse", "a link from somebody new");
const LINK_DENIED: Variable = Variable::new("GATEWAY_LINK_DENIED", "block", "a link to a domain of the deny list");
const LINK_HOMOGRAPH: Variable =
    Variable::new("GATEWAY_LINK_HOMOGRAPH", "refuse", "a link to a domain that looks like another");
const LINK_UNLISTED: Variable = Variable::new(
    "GATEWAY_LINK_UNLISTED",
    "flag",
    "a link to a domain that is not on the allow list; nothing is unlisted while that list is empty",
);

pub(super) const VARIABLES: &[Variable] = &[
    KEY,
    URL,
    MODEL,
    ON_FAILURE,
    DEADLINE,
    FLAG_FROM,
    BLOCK_FROM,
    CATEGORIES,
    REQUESTS,
    TOKENS,
    DMS,
    LISTS,
    REPETITION,
    SHOUTING,
    MENTIONS,
    LINKS,
    DUPLICATE,
    LINK_NEW_USER,
    LINK_DENIED,
    LINK_HOMOGRAPH,
    LINK_UNLISTED,
];

/// What becomes of a message that the second layer cannot judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// Posted.
    Allow,
    /// Posted, and queued for a human.
    Flag,
    /// Stored hidden, and queued for a human.
    Block,
}

/// How much direct messages are moderated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModerateDms {
    Full,
    /// They are not sent to the second layer.
    Patterns,
    Off,
}

/// What a rule does when it finds something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleAction {
    Off,
    Flag,
    Refuse,
    Block,
}

/// A rule: what it does, and its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule<const N: usize> {
    pub action: RuleAction,
    pub numbers: [usize; N],
}

/// The rules of the first layer that have no list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Characters, words, lines.
    pub repetition: Rule<3>,
    /// Letters, percent.
    pub shouting: Rule<2>,
    pub mentions: Rule<1>,
    pub links: Rule<1>,
    pub duplicate: Rule<1>,
    pub link_new_user: RuleAction,
    pub link_denied: RuleAction,
    pub link_homograph: RuleAction,
    pub link_unlisted: RuleAction,
}

/// From which score on a text is flagged, and from which it is blocked.
pub type Scores = (f64, f64);

/// Both layers.
#[derive(Clone, Debug)]
pub struct Moderation {
    /// The second layer's key; `None` turns it off.
    pub key: Option<Secret>,
    pub base_url: String,
    pub model: String,
    pub on_failure: OnFailure,
    /// How long a message waits for the second layer.
    pub deadline: Duration,
    pub general: Scores,
    /// Of single categories, by the API's names.
    pub categories: Vec<(String, Scores)>,
    pub requests_per_minute: u32,
    pub tokens_per_minute: u32,
    pub dms: ModerateDms,
    /// The folder of the lists; `None` for those that are built in.
    pub lists: Option<PathBuf>,
    pub rules: Rules,
}

impl Moderation {
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let key = reader.take(&KEY, |text| Ok((!text.is_empty()).then(|| Secret::new(text))));
        let base_url = reader.take(&URL, |text| parse::url(text, &["https", "http"]).map(|url| url.to_string()));
        let model = reader.take(&MODEL, |text| Ok(text.trim().to_owned()));
        let words = [("allow", OnFailure::Allow), ("flag", OnFailure::Flag), ("block", OnFailure::Block)];
        let on_failure = reader.take(&ON_FAILURE, |text| one_of(text, &words));
        let deadline = reader.take(&DEADLINE, seconds(0.05..=10.0));
        let (flag, block) = (reader.take(&FLAG_FROM, score), reader.take(&BLOCK_FROM, score));
        let categories = reader.take(&CATEGORIES, |text| parse::list(text, category));
        let requests_per_minute = reader.take(&REQUESTS, whole(1..=1_000_000_000));
        let tokens_per_minute = reader.take(&TOKENS, whole(1..=1_000_000_000));
        let words = [("full", ModerateDms::Full), ("patterns", ModerateDms::Patterns), ("off", ModerateDms::Off)];
        let dms = reader.take(&DMS, |text| one_of(text, &words));
        let lists = reader.take(&LISTS, |text| Ok((!text.is_empty()).then(|| PathBuf::from(text))));
        let rules = Rules::read(reader);
        let general = (flag?, block?);
        if general.0 > general.1 {
            let problem = format!("{} is more than {} ({})", general.0, BLOCK_FROM.name, general.1);
            reader.wrong(FLAG_FROM.name, &FLAG_FROM, problem);
            return None;
        }
        Some(Self {
            key: key?,
            base_url: base_url?,
            model: model?,
            on_failure: on_failure?,
            deadline: deadline?,
            general,
            categories: categories?,
            requests_per_minute: requests_per_minute?,
            tokens_per_minute: tokens_per_minute?,
            dms: dms?,
            lists: lists?,
            rules: rules?,
        })
    }
}

impl Rules {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let (repetition, shouting) = (reader.take(&REPETITION, rule), reader.take(&SHOUTING, rule));
        let (mentions, links) = (reader.take(&MENTIONS, rule), reader.take(&LINKS, rule));
        let duplicate = reader.take(&DUPLICATE, rule);
        let (link_new_user, link_denied) = (reader.take(&LINK_NEW_USER, action), reader.take(&LINK_DENIED, action));
        let link_homograph = reader.take(&LINK_HOMOGRAPH, action);
        let link_unlisted = reader.take(&LINK_UNLISTED, action);
        Some(Self {
            repetition: repetition?,
            shouting: shouting?,
            mentions: mentions?,
            links: links?,
            duplicate: duplicate?,
            link_new_user: link_new_user?,
            link_denied: link_denied?,
            link_homograph: link_homograph?,
            link_unlisted: link_unlisted?,
        })
    }
}

fn one_of<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    let found = words.iter().find(|(word, _)| *word == text.trim());
    found.map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        format!("\"{text}\" is none of {}", known.join(", "))
    })
}

fn action(text: &str) -> Result<RuleAction, String> {
    use RuleAction::{Block, Flag, Off, Refuse};
    one_of(text, &[("off", Off), ("flag", Flag), ("refuse", Refuse), ("block", Block)])
}

/// Reads `action:number,number`, or `off` alone.
fn rule<const N: usize>(text: &str) -> Result<Rule<N>, String> {
    let (word, numbers) = text.split_once(':').unwrap_or((text, ""));
    let action = action(word)?;
    if action == RuleAction::Off {
        return Ok(Rule { action, numbers: [0; N] });
    }
    let numbers = parse::list(numbers, |number| whole::<usize>(1..=1_000_000)(number))?;
    let count = numbers.len();
    let numbers =
        numbers.try_into().map_err(|_| format!("\"{text}\" has {count} numbers after the action, not {N}"))?;
    Ok(Rule { action, numbers })
}

fn score(text: &str) -> Result<f64, String> {
    let number = text.trim().parse::<f64>().ok().filter(|number| (0.0..=1.0).contains(number));
    number.ok_or_else(|| format!("\"{text}\" is not a number from 0 to 1"))
}

/// Reads `category=flag:block`.
fn category(text: &str) -> Result<(String, Scores), String> {
    let shape = || format!("\"{text}\" is not of the form category=flag:block");
    let (name, scores) = text.split_once('=').ok_or_else(shape)?;
    let (flag, block) = scores.split_once(':').ok_or_else(shape)?;
    let (flag, block) = (score(flag)?, score(block)?);
    if flag > block {
        return Err(format!("\"{text}\": {flag} is more than {block}"));
    }
    Ok((name.trim().to_owned(), (flag, block)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_have_an_action_and_their_numbers() {
        assert_eq!(rule::<1>("refuse:5"), Ok(Rule { action: RuleAction::Refuse, numbers: [5] }));
        assert_eq!(rule::<2>("flag: 24, 80"), Ok(Rule { action: RuleAction::Flag, numbers: [24, 80] }));
        assert_eq!(rule::<3>("off").map(|rule| rule.action), Ok(RuleAction::Off));
        for wrong in ["", "5", "refuse", "refuse:", "refuse:1,2", "refuse:0", "dance:5"] {
            assert!(rule::<1>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn categories_have_two_scores_in_order() {
        assert_eq!(category("hate = 0.1:0.2"), Ok(("hate".to_owned(), (0.1, 0.2))));
        for wrong in ["hate", "hate=0.1", "hate=0.3:0.2", "hate=x:1", "hate=0.1:1.1"] {
            assert!(category(wrong).is_err(), "{wrong}");
        }
    }
}
