//! What the second layer says of one text: a score for each category, as the API names them.
//!
//! Holds nothing of the text itself, so that it may be kept and shared.

use std::borrow::Cow;

/// The categories known today, each with the name of its rule. Others may come; they are kept under their own names.
const KNOWN: [(&str, &str); 13] = [
    ("harassment", "openai_harassment"),
    ("harassment/threatening", "openai_harassment_threatening"),
    ("hate", "openai_hate"),
    ("hate/threatening", "openai_hate_threatening"),
    ("illicit", "openai_illicit"),
    ("illicit/violent", "openai_illicit_violent"),
    ("self-harm", "openai_self_harm"),
    ("self-harm/instructions", "openai_self_harm_instructions"),
    ("self-harm/intent", "openai_self_harm_intent"),
    ("sexual", "openai_sexual"),
    ("sexual/minors", "openai_sexual_minors"),
    ("violence", "openai_violence"),
    ("violence/graphic", "openai_violence_graphic"),
];

/// The rule of categories that are not known today: rules are metric labels, and those are a bounded set.
const OTHER_RULE: &str = "openai_other";

/// The rule of a text that the API flagged without naming a category.
pub(super) const UNNAMED_RULE: &str = "openai_flagged";

/// What the API says of one category.
#[derive(Clone, Debug, PartialEq)]
pub struct Category {
    /// As the API names it: `harassment/threatening`.
    pub name: Cow<'static, str>,
    /// 0 to 1; 0 where the API gives no score.
    pub score: f64,
    /// The API's own judgement. Its thresholds are its own, and change.
    pub flagged: bool,
}

impl Category {
    /// Makes one; a known name costs no memory.
    #[must_use]
    pub fn new(name: &str, score: f64, flagged: bool) -> Self {
        let known = KNOWN.iter().find(|(known, _)| *known == name);
        let name = known.map_or_else(|| Cow::Owned(name.to_owned()), |(known, _)| Cow::Borrowed(*known));
        Self { name, score, flagged }
    }

    /// The stable name of the rule that this category is.
    #[must_use]
    pub fn rule(&self) -> &'static str {
        KNOWN.iter().find(|(known, _)| *known == self.name).map_or(OTHER_RULE, |(_, rule)| *rule)
    }
}

/// What the API says of one text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// The API's own judgement of the whole, which need not agree with those of the categories.
    pub flagged: bool,
    /// Sorted by name, each name once.
    pub categories: Vec<Category>,
}

impl Scores {
    /// The score of a category; 0 if the API gave none.
    #[must_use]
    pub fn of(&self, name: &str) -> f64 {
        self.categories.iter().find(|category| category.name == name).map_or(0.0, |category| category.score)
    }

    /// The highest score.
    #[must_use]
    pub fn highest(&self) -> f64 {
        self.categories.iter().map(|category| category.score).fold(0.0, f64::max)
    }
}

/// Says whether this is a category of the API as it is known today; a setting that names another is a slip.
#[must_use]
pub fn is_known(category: &str) -> bool {
    KNOWN.iter().any(|(known, _)| *known == category)
}
