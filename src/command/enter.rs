//! Entering a room: the first state, read after the seat is taken, so that an event may come twice and is never missed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;

use super::past::Past;
use crate::access::Grant;
use crate::bus::{BusError, Log, Note, Position};
use crate::domain::{Message, Micros, Person, Topic, UserId, Venue};
use crate::presence::{Presence, PresenceError, Stay};
use crate::store::{Store, StoreError};
use crate::wire::event::{self, Place, State};

/// How many messages the first state holds.
pub(super) const STATE_MESSAGES: u32 = 50;
/// A message of ours this young that is not published yet will come as an event.
const IN_FLIGHT: Duration = Duration::from_secs(10);
/// How long a person's name is believed.
const NAME_LIFE: Duration = Duration::from_secs(60);
/// How many people are remembered.
const NAMES: usize = 65_536;

/// Why a room cannot be entered now. Everything heals by itself; the client comes back.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error(transparent)]
    Presence(#[from] PresenceError),
}

/// What a newcomer is sent, and the place after which events follow.
pub struct Opening {
    pub after: Place,
    /// Events in JSON, in order.
    pub events: Vec<Vec<u8>>,
    /// Keeps the user present in a room until it is dropped.
    pub stay: Option<Stay>,
}

/// Names of people, remembered for a minute.
pub struct Directory {
    store: Store,
    began: Instant,
    people: Cache<UserId, (Instant, Arc<Person>)>,
}

impl Directory {
    /// Knows nobody yet.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, began: Instant::now(), people: Cache::new(NAMES) }
    }

    /// Remembers a person.
    pub fn learn(&self, person: Arc<Person>) {
        self.people.insert(person.id, (Instant::now() + NAME_LIFE, person));
    }

    /// The people of these ids, in their order; those that do not exist are left out. At most one query.
    async fn look_up(&self, users: &[UserId]) -> Result<Vec<Person>, StoreError> {
        self.look_up_at(users, Instant::now()).await
    }

    /// The same, for somebody who was here a moment ago: names are believed however old they are. No query as long as
    /// everybody was seen before.
    pub(super) async fn names(&self, users: &[UserId]) -> Result<Vec<Person>, StoreError> {
        self.look_up_at(users, self.began).await
    }

    async fn look_up_at(&self, users: &[UserId], now: Instant) -> Result<Vec<Person>, StoreError> {
        let mut found: std::collections::HashMap<UserId, Arc<Person>> = users
            .iter()
            .filter_map(|user| self.people.get(user))
            .filter(|(until, _)| *until > now)
            .map(|(_, person)| (person.id, person))
            .collect();
        let unknown: Vec<_> = users.iter().filter(|user| !found.contains_key(user)).copied().collect();
        if !unknown.is_empty() {
            let people = self.store.people(&unknown).await?;
            for person in people.into_iter().map(Arc::new) {
                self.learn(Arc::clone(&person));
                found.insert(person.id, person);
            }
        }
        Ok(users.iter().filter_map(|user| found.get(user)).map(|person| Person::clone(person)).collect())
    }
}

/// What entering works with.
pub struct Entrance {
    pub store: Store,
    pub log: Log,
    pub past: Past,
    pub presence: Presence,
    pub directory: Directory,
}

impl Entrance {
    /// Makes the user present in a room, and nothing else.
    ///
    /// # Errors
    /// When Redis does not answer.
    ///
    /// # Cancel safety
    /// Safe: if it is dropped, the user leaves again.
    pub async fn stay(&self, venue: Venue, grant: &Grant) -> Result<Option<Stay>, EnterError> {
        let (Venue::Room(_), Topic::Room(_)) = (venue, grant.topic) else { return Ok(None) };
        self.directory.learn(Arc::clone(&grant.person));
        Ok(Some(self.presence.enter(grant.room.id, &grant.person).await?.stay))
    }

    /// Reads the first state and makes the user present. The seat must have been taken, and its topic subscribed to,
    /// before.
    ///
    /// # Errors
    /// When a dependency does not answer.
    ///
    /// # Cancel safety
    /// Safe: if it is dropped, the user leaves again.
    pub async fn enter(&self, venue: Venue, grant: &Grant) -> Result<Opening, EnterError> {
        self.open(venue, grant, true).await
    }

    /// The same for somebody who is present, and needs the state once more.
    ///
    /// # Errors
    /// When a dependency does not answer.
    pub async fn state(&self, venue: Venue, grant: &Grant) -> Result<Opening, EnterError> {
        self.open(venue, grant, false).await
    }

    async fn open(&self, venue: Venue, grant: &Grant, enters: bool) -> Result<Opening, EnterError> {
        // The place first, the messages second: what is published between the two comes as an event.
        let (position, notes) = self.log.position_and_notes(grant.topic).await?;
        let page = self.store.latest(grant.room.id, STATE_MESSAGES).await?;
        let seen: Vec<_> = settled(&page.messages, position, &notes, Micros::now())
            .into_iter()
            .filter_map(|message| grant.hidden.filter(message))
            .collect();
        let messages = seen.iter().map(AsRef::as_ref).collect();
        let state = State { messages, has_more: page.has_more, cursor: page.cursor, place: position.place() };
        let (first, stay) = match (venue, grant.topic) {
            (Venue::Dm(thread), _) | (Venue::App, Topic::Dm(thread)) => (event::dm_state(thread, &state), None),
            // A direct conversation entered by its room's path: who is online is a matter of the presence socket.
            (Venue::Room(_), Topic::Dm(_)) => (event::room_state(&grant.room, &state, &[], 0), None),
            (Venue::Room(_) | Venue::App, _) if enters => {
                self.directory.learn(Arc::clone(&grant.person));
                let entered = self.presence.enter(grant.room.id, &grant.person).await?;
                let sample: Vec<_> = entered.sample.into_iter().filter(|user| !grant.hidden.hides(*user)).collect();
                let online = self.directory.look_up(&sample).await?;
                (event::room_state(&grant.room, &state, &online, entered.online), Some(entered.stay))
            }
            (Venue::Room(_) | Venue::App, _) => {
                let (online, count) = self.online(grant).await?;
                (event::room_state(&grant.room, &state, &online, count), None)
            }
        };
        let mut events = vec![first];
        if page.has_more {
            // The existing hook begins to page only after this event.
            events.push(event::message_history(None, &[], true, page.cursor));
        }
        Ok(Opening { after: position.place(), events, stay })
    }
}

/// Leaves out messages that are committed but not published: they come as events, with offsets after the state's.
///
/// Within a room, order of commit, of time and of offset are one, so that those are the ones of ours later than the
/// newest published. Django's messages have no offset and stay; so does everything that is too old to be in flight, but
/// for what an instance that died left unpublished, of which `notes` tells: others publish it.
pub(super) fn settled<'m>(
    messages: &'m [Message],
    position: Position,
    notes: &[Note],
    now: Micros,
) -> Vec<&'m Message> {
    let oldest = Micros(now.0 - i64::try_from(IN_FLIGHT.as_micros()).unwrap_or(i64::MAX));
    let in_flight = |message: &&Message| {
        let unpublished = position.time.is_none_or(|published| message.created_at > published);
        let recent = message.created_at > oldest || notes.contains(&Note::New(message.id));
        unpublished && message.id.is_ours() && recent
    };
    messages.iter().filter(|message| !in_flight(message)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Author, MessageId, RoomId};

    fn message(id: MessageId, created_at: i64) -> Message {
        Message {
            id,
            room_id: RoomId(uuid::Uuid::from_u128(1)),
            thread_id: None,
            author: Author::unknown(),
            content: String::new(),
            message_type: "text".to_owned(),
            attachments: "[]".to_owned(),
            embeds: "[]".to_owned(),
            mentions: "[]".to_owned(),
            reaction_counts: "{}".to_owned(),
            reply_to: None,
            reply_to_id: None,
            is_edited: false,
            edited_at: None,
            is_pinned: false,
            created_at: Micros(created_at),
        }
    }

    #[test]
    fn what_is_about_to_come_as_an_event_is_not_in_the_state() {
        let ours = MessageId::generate;
        let djangos = || MessageId(uuid::Uuid::new_v4());
        let now = 100_000_000;
        let old = now - 10_000_001;
        let messages =
            [message(ours(), old), message(ours(), now - 9), message(djangos(), now - 3), message(ours(), now - 2)];
        let times = |time: Option<i64>| {
            let position = Position { epoch: 1, published: 1, taken: 1, time: time.map(Micros) };
            let kept = settled(&messages, position, &[], Micros(now));
            kept.iter().map(|message| now - message.created_at.0).collect::<Vec<_>>()
        };
        assert_eq!(times(Some(now - 9)), [10_000_001, 9, 3], "published up to the second");
        assert_eq!(times(Some(now - 2)), [10_000_001, 9, 3, 2], "all published");
        assert_eq!(times(None), [10_000_001, 3], "nothing published yet");
        let position = Position { epoch: 1, published: 0, taken: 1, time: None };
        let kept = settled(&messages, position, &[Note::New(messages[0].id)], Micros(now));
        assert_eq!(kept.len(), 1, "what somebody left unpublished long ago will come too");
    }
}
