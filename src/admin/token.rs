//! Who asks: bearer tokens, compared in constant time.

use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use ring::hmac;

use crate::config::AdminToken;

/// How often the log tells of requests without a good token.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// The tokens that are good. They can be replaced while the process runs.
pub struct Tokens {
    /// Made at random, so that the time of a comparison tells nothing of a token.
    key: hmac::Key,
    known: ArcSwap<Vec<(String, hmac::Tag)>>,
    refused: Mutex<(Option<Instant>, u64)>,
}

impl Tokens {
    /// Lets these in.
    #[must_use]
    pub fn new(tokens: &[AdminToken]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &rand::random::<[u8; 32]>());
        let made = Self { key, known: ArcSwap::default(), refused: Mutex::default() };
        made.replace(tokens);
        made
    }

    /// Lets these in from now on, and no other.
    pub fn replace(&self, tokens: &[AdminToken]) {
        let tag = |token: &AdminToken| (token.name.clone(), hmac::sign(&self.key, token.token.expose().as_bytes()));
        self.known.store(tokens.iter().map(tag).collect::<Vec<_>>().into());
    }

    /// Whether there is an API at all.
    pub(super) fn is_off(&self) -> bool {
        self.known.load().is_empty()
    }

    /// The name of a token. All are compared, whichever it is.
    pub(super) fn name_of(&self, bearer: &str) -> Option<String> {
        let known = self.known.load();
        let is = |tag: &hmac::Tag| hmac::verify(&self.key, bearer.as_bytes(), tag.as_ref()).is_ok();
        known.iter().fold(None, |found, (name, tag)| if is(tag) { Some(name.clone()) } else { found })
    }

    /// Notes a request without a good token: one line a minute, which says how many there were.
    pub(super) fn complain(&self) {
        let mut refused = self.refused.lock();
        refused.1 += 1;
        if refused.0.is_none_or(|said| said.elapsed() >= COMPLAIN_EVERY) {
            tracing::warn!(requests = refused.1, "the operations API was asked without a good token");
            *refused = (Some(Instant::now()), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn a_token_has_a_name_and_any_other_none() {
        let token = |name: &str, token: &str| AdminToken { name: name.to_owned(), token: Secret::new(token) };
        let tokens =
            Tokens::new(&[token("ada", "0123456789abcdef01234567"), token("ci", "another-token-of-24-letters")]);
        assert_eq!(tokens.name_of("0123456789abcdef01234567").as_deref(), Some("ada"));
        assert_eq!(tokens.name_of("another-token-of-24-letters").as_deref(), Some("ci"));
        for wrong in ["", "0123456789abcdef0123456", "0123456789abcdef012345678", "ada"] {
            assert_eq!(tokens.name_of(wrong), None, "{wrong}");
        }
        tokens.replace(&[]);
        assert!(tokens.is_off() && tokens.name_of("0123456789abcdef01234567").is_none());
    }
}
