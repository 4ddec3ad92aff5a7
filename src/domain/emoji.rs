//! One emoji, as people react with it.

/// The most characters of an emoji: Django's column holds no more.
pub const MAX_EMOJI_CHARS: usize = 10;

/// A single emoji that Unicode knows, kept as it was written: with or without its variation selectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emoji(String);

impl Emoji {
    /// Takes a text that is one emoji and nothing else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_one = text.chars().count() <= MAX_EMOJI_CHARS && emojis::get(text).is_some();
        is_one.then(|| Self(text.to_owned()))
    }

    /// The emoji as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::Emoji;

    #[test]
    fn one_emoji_however_it_is_composed() {
        for text in ["👍", "👍🏽", "❤", "❤️", "🇩🇪", "1️⃣", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "👩🏻‍❤️‍💋‍👩🏿"]
        {
            assert_eq!(Emoji::parse(text).as_ref().map(Emoji::as_str), Some(text));
        }
    }

    #[test]
    fn anything_else_is_none() {
        for text in ["", " ", "a", "1", "#", ":+1:", "+1", "👍👍", "👍 ", "👍a", "\u{fe0f}", "\u{200d}", "🇩", "<b>"]
        {
            assert_eq!(Emoji::parse(text), None, "{text:?}");
        }
    }
}
