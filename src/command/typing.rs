//! `typing`: told to everybody in the room, seldom, and stored nowhere but in an expiring hash.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Actor, Commands};
use crate::access::Grant;
use crate::bus::{Envelope, Kind};
use crate::wire::event;

/// A typist is announced again after this long at the earliest.
const AGAIN: Duration = Duration::from_secs(2);

/// What a session last said about its keyboard.
#[derive(Debug, Default)]
pub struct Keyboard {
    typing_since: Option<Instant>,
}

impl Keyboard {
    /// Takes what the client says now; answers whether others must be told.
    fn says(&mut self, is_typing: bool, now: Instant) -> bool {
        let news = match self.typing_since {
            Some(told) => !is_typing || now.saturating_duration_since(told) >= AGAIN,
            None => is_typing,
        };
        if news {
            self.typing_since = is_typing.then_some(now);
        }
        news
    }
}

impl Commands {
    /// Tells the room that somebody types or stops. Those who may not write type unseen. A failure is logged only: the
    /// next key press tries again.
    pub(super) async fn type_(&self, actor: &mut Actor, grant: &Arc<Grant>, is_typing: bool) {
        if grant.may_write.is_err() || !actor.keyboard.says(is_typing, Instant::now()) {
            return;
        }
        let person = &grant.person;
        let body = event::typing(person.id, &person.username, is_typing);
        let envelope = Envelope::passing(Kind::Typing, person.id, body);
        let (kept, ()) = futures_util::future::join(
            self.typing.set(grant.room.id, person.id, is_typing),
            self.outlet.pass(actor.topic, &envelope),
        )
        .await;
        if let Err(error) = kept {
            tracing::debug!(%error, "typing was not kept");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_news_is_told() {
        let start = Instant::now();
        let mut keyboard = Keyboard::default();
        assert!(!keyboard.says(false, start), "was not typing");
        assert!(keyboard.says(true, start));
        assert!(!keyboard.says(true, start + AGAIN / 2), "too soon");
        assert!(keyboard.says(true, start + AGAIN));
        assert!(keyboard.says(false, start + AGAIN), "an end is told at once");
        assert!(!keyboard.says(false, start + AGAIN));
    }
}
