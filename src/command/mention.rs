//! Whom a message mentions: those whose ids its sender gave, then each `@username` of its text; of these, those who may
//! read the room.

use super::Commands;
use crate::access::Grant;
use crate::domain::{Micros, UserId, Venue};
use crate::store::StoreError;
use crate::wire::command::MAX_MENTIONS;

/// The most people that one message mentions; further names are plain text.
const MOST: usize = MAX_MENTIONS;
/// The longest username of Django's.
const LONGEST: usize = 150;

impl Commands {
    /// The mentioned users' ids as a JSON array: those given, then those in the order of the text. Asks nobody when
    /// nobody is given and the text has no `@`.
    pub(super) async fn mentions(&self, grant: &Grant, text: &str, given: &[UserId]) -> Result<String, StoreError> {
        let names = names(text);
        if names.is_empty() && given.is_empty() {
            return Ok("[]".to_owned());
        }
        let wanted: Vec<&str> = names.iter().flat_map(|name| [*name, plain(name)]).collect();
        let known = if wanted.is_empty() { Vec::new() } else { self.store.users_named(&wanted).await? };
        let id_of = |name: &str| known.iter().find(|(known, _)| known == name).map(|(_, id)| *id);
        let named = names.iter().filter_map(|name| id_of(name).or_else(|| id_of(plain(name))));
        let mut users: Vec<UserId> = Vec::new();
        for user in given.iter().copied().chain(named) {
            if users.len() < MOST && !users.contains(&user) && !grant.hidden.hides(user) {
                users.push(user);
            }
        }
        let pairs: Vec<_> = users.iter().map(|user| (Venue::Room(grant.room.id), *user)).collect();
        let admissions = self.store.admissions(&pairs).await?;
        let now = Micros::now();
        let readers =
            users.iter().zip(admissions).filter(|(_, admission)| Grant::judge(admission.clone(), now).is_ok());
        let ids: Vec<String> = readers.map(|(user, _)| user.to_string()).collect();
        Ok(format!("[{}]", ids.join(",")))
    }
}

/// A name without the punctuation that ends a sentence, which Django's usernames may hold too.
fn plain(name: &str) -> &str {
    name.trim_end_matches(['.', '@', '+', '-'])
}

/// What stands after each `@` that begins a word, as far as it may be a username; each once.
fn names(text: &str) -> Vec<&str> {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '@' | '+' | '-');
    let mut names = Vec::new();
    for (at, _) in text.match_indices('@') {
        if text[..at].chars().next_back().is_some_and(is_part) {
            continue;
        }
        let rest = &text[at + 1..];
        let name = &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())];
        if !plain(name).is_empty() && name.chars().count() <= LONGEST && !names.contains(&name) {
            names.push(name);
        }
        if names.len() == MOST {
            break;
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_begin_words() {
        assert_eq!(names("@ada, (@grace) and @b.c+d@e-f_1!"), ["ada", "grace", "b.c+d@e-f_1"]);
        assert_eq!(names("me@example.test @ @. @@ @ada @ada"), ["ada"]);
        assert_eq!(names("Grüße an @zoë"), ["zoë"]);
        assert_eq!(plain("ada."), "ada");
        assert!(names(&format!("@{}", "a".repeat(151))).is_empty());
    }

    #[test]
    fn twenty_are_enough() {
        let text: String = (0..30).map(|n| format!("@user{n} ")).collect();
        assert_eq!(names(&text).len(), MOST);
    }
}
