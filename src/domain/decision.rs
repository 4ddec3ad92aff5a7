//! What a human decided of a message.

/// A decision, as Django tells it on its control channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may stand; if it was hidden, it is shown now.
    Approved,
    Hidden,
    Deleted,
}

impl Decision {
    /// The word in control messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Hidden => "hidden",
            Self::Deleted => "deleted",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Approved, Self::Hidden, Self::Deleted].into_iter().find(|decision| decision.as_str() == word)
    }
}
