//! Whom a user does not see, and by whom the user is not seen.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use super::{Message, UserId};

/// The users with whom somebody shares a block, either way. Cheap to clone; nearly always empty, and costs nothing then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hidden(Option<Arc<HashSet<UserId>>>);

impl Hidden {
    /// Says whether a user is hidden.
    #[must_use]
    pub fn hides(&self, user: UserId) -> bool {
        self.0.as_ref().is_some_and(|users| users.contains(&user))
    }

    /// Those who are hidden, in no particular order.
    pub fn users(&self) -> impl Iterator<Item = UserId> {
        self.0.iter().flat_map(|users| users.iter().copied())
    }

    /// Says whether nobody is hidden.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// A message as somebody sees it who does not see these users: not at all, without what it answers, or as it is.
    #[must_use]
    pub fn filter<'m>(&self, message: &'m Message) -> Option<Cow<'m, Message>> {
        if message.author.id.is_some_and(|author| self.hides(author)) {
            return None;
        }
        let answered = message.reply_to.as_ref().and_then(|reply| reply.author_id);
        Some(match answered.filter(|author| self.hides(*author)) {
            Some(_) => Cow::Owned(Message { reply_to: None, ..message.clone() }),
            None => Cow::Borrowed(message),
        })
    }
}

impl FromIterator<UserId> for Hidden {
    fn from_iter<T: IntoIterator<Item = UserId>>(users: T) -> Self {
        let users: HashSet<_> = users.into_iter().collect();
        Self((!users.is_empty()).then(|| Arc::new(users)))
    }
}
