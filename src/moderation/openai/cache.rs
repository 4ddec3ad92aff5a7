//! Answers of a few minutes, so that the same text is not asked twice. Keeps nothing of a text: only a keyed hash, whose key
//! lives and dies with the process.

use std::sync::Arc;
use std::time::Duration;

use ring::hmac;
use tokio::time::Instant;

use crate::moderation::scores::Scores;

/// A text's keyed hash: nobody without the key can tell which text it is, or make two texts share one.
pub(super) type TextKey = u128;

#[derive(Clone)]
struct Kept {
    scores: Arc<Scores>,
    until: Instant,
}

/// The answers, the least used of which go first.
pub(super) struct Cache {
    secret: hmac::Key,
    life: Duration,
    kept: quick_cache::sync::Cache<TextKey, Kept>,
}

impl Cache {
    /// Keeps so many answers, each so long.
    pub fn new(answers: usize, life: Duration) -> Self {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &rand::random::<[u8; 32]>());
        Self { secret, life, kept: quick_cache::sync::Cache::new(answers) }
    }

    pub fn key(&self, text: &str) -> TextKey {
        let tag = hmac::sign(&self.secret, text.as_bytes());
        tag.as_ref().iter().take(size_of::<TextKey>()).fold(0, |key, byte| key << 8 | TextKey::from(*byte))
    }

    pub fn get(&self, key: TextKey, now: Instant) -> Option<Arc<Scores>> {
        self.kept.get(&key).filter(|kept| now < kept.until).map(|kept| kept.scores)
    }

    pub fn keep(&self, key: TextKey, scores: Arc<Scores>, now: Instant) {
        self.kept.insert(key, Kept { scores, until: now + self.life });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_kept_so_long_and_no_longer() {
        let cache = Cache::new(10, Duration::from_secs(60));
        let (now, key) = (Instant::now(), cache.key("hello"));
        assert!(cache.get(key, now).is_none());
        cache.keep(key, Arc::default(), now);
        assert!(cache.get(key, now + Duration::from_secs(59)).is_some());
        assert!(cache.get(key, now + Duration::from_secs(60)).is_none());
        assert!(cache.get(cache.key("hello "), now).is_none());
    }

    #[test]
    fn the_number_of_answers_is_bounded() {
        let cache = Cache::new(100, Duration::from_secs(60));
        for n in 0..10_000 {
            cache.keep(cache.key(&n.to_string()), Arc::default(), Instant::now());
        }
        assert!(cache.kept.len() <= 100);
    }

    #[test]
    fn each_process_has_keys_of_its_own() {
        let key = || Cache::new(1, Duration::ZERO).key("hello");
        assert_ne!(key(), key());
    }
}
