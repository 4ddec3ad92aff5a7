//! What was published long ago and is in the log no more, told again from Postgres, offset by offset.
//!
//! The log says which message each offset was about, Postgres how that message is now: a new message is told with its
//! present text, all changes of one message at the offset of the last of them. What was neither (a thread that was begun,
//! what Django published) is not in Postgres as an event: whoever missed it gets a state. Must never tell a part of what
//! it was asked for.

use std::collections::HashMap;

use bytes::Bytes;

use super::enter::EnterError;
use crate::bus::{Envelope, Kind, Log, Note, Trace};
use crate::domain::{Message, MessageId, Micros, Topic};
use crate::store::Store;
use crate::wire::event::{self, Place};

/// How many offsets one query of Postgres is about at most. Stretches end at multiples, so that those who are behind by
/// nearly as much share queries.
const PAGE: u64 = 128;

/// The topics' events that are in their logs no more.
#[derive(Clone)]
pub struct Past {
    pub store: Store,
    pub log: Log,
}

impl Past {
    /// The last offset of the stretch that is told at once from `first` on.
    pub(super) fn stretch(first: u64, last: u64) -> u64 {
        (first.div_ceil(PAGE) * PAGE).min(last)
    }

    /// One envelope for each offset from `first` to `last`; `None` when that cannot be told whole.
    pub(super) async fn retell(
        &self,
        topic: Topic,
        first: Place,
        last: u64,
    ) -> Result<Option<Vec<Envelope>>, EnterError> {
        let Some(traces) = self.log.traces(topic, first, last).await? else { return Ok(None) };
        let mut notes = Vec::with_capacity(traces.len());
        for trace in traces {
            match trace {
                Trace::Noted(note) => notes.push(Some(note)),
                Trace::Void => notes.push(None),
                Trace::Untold => return Ok(None),
            }
        }
        let mut told = Vec::with_capacity(notes.len());
        let mut at = first;
        while at.offset <= last {
            let end = Self::stretch(at.offset, last);
            let (begin, len) = ((at.offset - first.offset) as usize, (end + 1 - at.offset) as usize);
            told.extend(self.retell_stretch(topic, at, &notes[begin..begin + len]).await?);
            at.offset = end + 1;
        }
        Ok(Some(told))
    }

    async fn retell_stretch(
        &self,
        topic: Topic,
        first: Place,
        notes: &[Option<Note>],
    ) -> Result<Vec<Envelope>, EnterError> {
        let mut ids: Vec<_> = notes.iter().flatten().map(Note::message).collect();
        ids.sort_unstable();
        ids.dedup();
        let stretch = (topic, first.epoch, first.offset, notes.len() as u64);
        let found = self.store.messages_of(stretch, &ids).await?;
        let found: HashMap<MessageId, &Message> = found.iter().map(|message| (message.id, message)).collect();
        let last_of: HashMap<Note, usize> =
            notes.iter().enumerate().filter_map(|(at, note)| note.map(|note| (note, at))).collect();
        let tell = |(at, note): (usize, &Option<Note>)| {
            let place = Place { epoch: first.epoch, offset: first.offset + at as u64 };
            let event = match note {
                // Hidden, or gone: what made it so is told by itself.
                Some(Note::New(id)) => found.get(id).map(|message| of_new(message, place)),
                Some(Note::Changed(id)) if last_of.get(&Note::Changed(*id)) == Some(&at) => {
                    Some(of_changed(*id, found.get(id).copied(), place))
                }
                _ => None,
            };
            event.map_or_else(|| Envelope::voids(place, 1), |event| vec![event])
        };
        Ok(notes.iter().enumerate().flat_map(tell).collect())
    }
}

/// The event of a new message, as the message is now.
pub(super) fn of_new(message: &Message, place: Place) -> Envelope {
    Envelope { kind: Kind::Message, ..envelope(message, place, event::new_message(message, place, None)) }
}

/// The event of a changed message, as the message is now.
pub(super) fn of_changed(id: MessageId, message: Option<&Message>, place: Place) -> Envelope {
    match message {
        Some(message) => {
            Envelope { time: Micros(0), ..envelope(message, place, event::message_edited(message, place)) }
        }
        // Hidden, or gone.
        None => Envelope {
            kind: Kind::Change,
            place: Some(place),
            user: None,
            shown: None,
            time: Micros(0),
            sent: Micros::now(),
            body: Bytes::from(event::message_deleted(None, id, None, place)),
            online: 0,
            trace: None,
            arrived: None,
        },
    }
}

fn envelope(message: &Message, place: Place, body: Vec<u8>) -> Envelope {
    Envelope {
        kind: Kind::Change,
        place: Some(place),
        user: message.author.id,
        shown: message.reply_to.as_ref().and_then(|reply| reply.author_id),
        time: message.created_at,
        sent: Micros::now(),
        body: Bytes::from(body),
        online: 0,
        trace: None,
        arrived: None,
    }
}
