//! Entering a room: the first state, read after the seat is taken, so that an event may come twice and is never missed.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join;

use super::directory::Directory;
use super::past::Past;
use crate::access::Grant;
use crate::bus::{BusError, Log, Note, Position};
use crate::domain::{Message, Micros, Person, Topic, Venue};
use crate::presence::{Presence, PresenceError, Stay};
use crate::store::{Store, StoreError};
use crate::wire::event::{self, Place, State};

/// How many messages the first state holds.
pub(super) const STATE_MESSAGES: u32 = 50;
/// A message of ours this young that is not published yet will come as an event.
const IN_FLIGHT: Duration = Duration::from_secs(10);

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
        let reading = async {
            // The place first, the messages second: what is published between the two comes as an event.
            let (position, notes) = self.log.position_and_notes(grant.topic).await?;
            let page = self.store.latest(grant.room.id, STATE_MESSAGES).await?;
            Ok::<_, EnterError>((position, notes, page))
        };
        // Who is online is told by events that have no place: the seat keeps those that come meanwhile.
        let ((position, notes, page), present) = try_join(reading, self.present(venue, grant, enters)).await?;
        let is_settled = settled(position, &notes, Micros::now());
        let seen = page.seen(|message| is_settled(message).then(|| grant.hidden.filter(message))?);
        let state = State { messages: &seen, has_more: page.has_more, cursor: page.cursor, place: position.place() };
        let Present { online, count, stay } = present;
        let first = match (venue, grant.topic) {
            (Venue::Dm(thread), _) | (Venue::App, Topic::Dm(thread)) => event::dm_state(thread, &state),
            (Venue::Room(_) | Venue::App, _) => event::room_state(&grant.room, &state, &online, count),
        };
        let mut events = vec![first];
        if page.has_more {
            // The existing hook begins to page only after this event.
            events.push(event::message_history(None, &[], true, page.cursor));
        }
        Ok(Opening { after: position.place(), events, stay })
    }

    /// Who is online in a room, the newcomer too. In a direct conversation, also by its room's path, that is a matter of
    /// the presence socket.
    async fn present(&self, venue: Venue, grant: &Grant, enters: bool) -> Result<Present, EnterError> {
        match (venue, grant.topic) {
            (Venue::Dm(_), _) | (_, Topic::Dm(_)) => Ok(Present::default()),
            _ if enters => {
                self.directory.learn(Arc::clone(&grant.person));
                let entered = self.presence.enter(grant.room.id, &grant.person).await?;
                let sample: Vec<_> = entered.sample.into_iter().filter(|user| !grant.hidden.hides(*user)).collect();
                let online = self.directory.look_up(&sample).await?;
                Ok(Present { online, count: entered.online, stay: Some(entered.stay) })
            }
            _ => {
                let (online, count) = self.online(grant).await?;
                Ok(Present { online, count, stay: None })
            }
        }
    }
}

/// Who is online, as somebody sees it, how many, and the newcomer's place among them.
#[derive(Default)]
struct Present {
    online: Vec<Person>,
    count: u64,
    stay: Option<Stay>,
}

/// Says of a message whether it belongs into a state: what is committed but not published does not, for it comes as an
/// event, with an offset after the state's.
///
/// Within a room, order of commit, of time and of offset are one, so that those are the ones of ours later than the
/// newest published. Django's messages have no offset and stay; so does everything that is too old to be in flight, but
/// for what an instance that died left unpublished, of which `notes` tells: others publish it.
pub(super) fn settled(position: Position, notes: &[Note], now: Micros) -> impl Fn(&Message) -> bool {
    let oldest = Micros(now.0 - i64::try_from(IN_FLIGHT.as_micros()).unwrap_or(i64::MAX));
    move |message| {
        let unpublished = position.time.is_none_or(|published| message.created_at > published);
        let recent = || message.created_at > oldest || notes.contains(&Note::New(message.id));
        !(unpublished && message.id.is_ours() && recent())
    }
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
            let is_settled = settled(position, &[], Micros(now));
            let kept = messages.iter().filter(|message| is_settled(message));
            kept.map(|message| now - message.created_at.0).collect::<Vec<_>>()
        };
        assert_eq!(times(Some(now - 9)), [10_000_001, 9, 3], "published up to the second");
        assert_eq!(times(Some(now - 2)), [10_000_001, 9, 3, 2], "all published");
        assert_eq!(times(None), [10_000_001, 3], "nothing published yet");
        let position = Position { epoch: 1, published: 0, taken: 1, time: None };
        let notes = [Note::New(messages[0].id)];
        let is_settled = settled(position, &notes, Micros(now));
        assert_eq!(
            messages.iter().filter(|message| is_settled(message)).count(),
            1,
            "what somebody left unpublished long ago will come too"
        );
    }
}
