//! What somebody missed who was away: from the topic's log, and beyond that from Postgres, as that person may see it.

use bytes::Bytes;

use super::enter::{EnterError, Entrance};
use super::past::Past;
use crate::access::Grant;
use crate::bus::log::TRACED;
use crate::bus::{BusError, Envelope, Foreign, Kind, Position};
use crate::domain::{Person, Topic};
use crate::wire::event::{self, Place};

/// How many events are read at once.
const PAGE: usize = 64;
/// How far somebody may be behind. For who is further, a state is the better answer.
const MOST_MISSED: u64 = TRACED;

/// Why what somebody missed cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untold {
    /// The log has begun another life since, or never was where the client says it is.
    Epoch,
    /// It is more than is told one by one.
    TooMuch,
    /// The log has it no more, and Postgres cannot tell it whole.
    TooOld,
    /// It went missing while the client was here.
    Gap,
}

impl Untold {
    /// The word in `resumed`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Epoch => "epoch",
            Self::TooMuch => "too_much",
            Self::TooOld => "too_old",
            Self::Gap => "gap",
        }
    }
}

/// A stretch of what somebody missed.
pub struct Missed {
    /// The events to be shown, each with its offset, in order.
    pub events: Vec<(u64, Bytes)>,
    /// Everything up to here is in it.
    pub upto: u64,
    /// It was told again from Postgres, with messages as they are now.
    pub retold: bool,
}

impl Entrance {
    /// Where a topic stands, for somebody who has everything up to a place, or why what came since cannot be told.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub async fn position_since(&self, topic: Topic, since: Place) -> Result<Result<Position, Untold>, BusError> {
        let position = self.log.position(topic).await?;
        let missed = position.published.checked_sub(since.offset).filter(|_| since.epoch == position.epoch);
        Ok(match missed {
            None => Err(Untold::Epoch),
            Some(missed) if missed > MOST_MISSED => Err(Untold::TooMuch),
            Some(_) => Ok(position),
        })
    }

    /// The next of what came after a place, up to an offset that is published; `None` when it is nowhere to be had
    /// whole.
    ///
    /// # Errors
    /// When a dependency does not answer.
    pub async fn missed(
        &self,
        topic: Topic,
        grant: &Grant,
        after: Place,
        until: u64,
    ) -> Result<Option<Missed>, EnterError> {
        let first = after.offset + 1;
        let mut found = self.log.read_page(topic, after.epoch, first, until, PAGE).await?;
        let offset = |event: &Envelope| event.place.map_or(0, |place| place.offset);
        let logged = found.first().map_or(until + 1, offset);
        let retold = logged != first;
        if retold {
            let (first, last) = (Place { offset: first, ..after }, Past::stretch(first, logged - 1));
            let Some(told) = self.past.retell(topic, first, last).await? else { return Ok(None) };
            found = told;
        }
        let whole = (first..).zip(&found).take_while(|(expected, event)| offset(event) == *expected).count();
        let Some(last) = found[..whole].last() else { return Ok(None) };
        let upto = offset(last);
        let events = found.into_iter().take(whole);
        let events = events.filter_map(|event| Some((offset(&event), seen_by(event, grant)?))).collect();
        Ok(Some(Missed { events, upto, retold }))
    }

    /// Who is online in a room, as somebody sees it who is in it, and how many.
    ///
    /// # Errors
    /// When a dependency does not answer.
    pub async fn online(&self, grant: &Grant) -> Result<(Vec<Person>, u64), EnterError> {
        let (online, sample) = self.presence.online(grant.room.id).await?;
        let sample: Vec<_> = sample.into_iter().filter(|user| !grant.hidden.hides(*user)).collect();
        Ok((self.directory.names(&sample).await?, online))
    }
}

/// An event as somebody sees it who does not see some users; `None` when there is nothing to see.
fn seen_by(event: Envelope, grant: &Grant) -> Option<Bytes> {
    if event.kind == Kind::Plain {
        return Foreign::within(&event).ok().filter(|plain| plain.is_for(grant.person.id)).map(|plain| plain.body);
    }
    let hidden = &grant.hidden;
    if event.kind == Kind::Void || event.user.is_some_and(|user| hidden.hides(user)) {
        return None;
    }
    if event.shown.is_some_and(|user| hidden.hides(user)) {
        return event::without_reply(&event.body).map(Bytes::from);
    }
    Some(event.body)
}
