//! What `check` prints: a verdict, and what to do about it.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Fine,
    Hint,
    Wrong,
    /// Not looked at here: what to do next.
    Next,
}

#[derive(Debug)]
pub(super) struct Finding {
    pub verdict: Verdict,
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Fine => "ok",
            Verdict::Hint => "hint",
            Verdict::Wrong => "WRONG",
            Verdict::Next => "next",
        };
        write!(f, "{verdict:<6}{}", self.text)
    }
}

pub(super) fn fine(text: impl Into<String>) -> Finding {
    Finding { verdict: Verdict::Fine, text: text.into() }
}

pub(super) fn hint(text: impl Into<String>) -> Finding {
    Finding { verdict: Verdict::Hint, text: text.into() }
}

pub(super) fn wrong(text: impl Into<String>) -> Finding {
    Finding { verdict: Verdict::Wrong, text: text.into() }
}
