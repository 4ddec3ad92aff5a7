//! Which messages a client has: added up, so that a run can be compared with the rows in Postgres, and without a hole.
//!
//! A state shows the newest messages of a room. After a long absence they may lie beyond those that the client had: it
//! asks for older pages, as a page in a browser does, until one of them holds a message that it had.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How many messages are remembered: a state shows fifty.
const REMEMBERED: usize = 100;

/// Messages added up, whatever their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub struct Sum {
    pub count: u64,
    /// The last eight bytes of all ids, by exclusive or.
    pub xor: u64,
}

impl Sum {
    fn add(&mut self, id: u64) {
        (self.count, self.xor) = (self.count + 1, self.xor ^ id);
    }
}

/// What a client has, and what it must ask for.
#[derive(Debug, Default)]
pub struct Messages {
    pub sum: Sum,
    /// The newest of them, and those that stood there before the run, oldest first; and whether each came as an event. With a
    /// hole, all since.
    recent: VecDeque<(u64, bool)>,
    hole: Option<Hole>,
}

/// What lies between the messages of a state and those that the client had.
#[derive(Debug)]
struct Hole {
    /// What it had: one of these is the other side.
    known: Vec<u64>,
    /// The oldest message on this side.
    cursor: String,
}

impl Messages {
    /// Adds the message of an event, unless it is one of the newest already. Says whether an event brought it before: a state
    /// may show what comes as an event right after.
    pub fn add(&mut self, id: u64) -> bool {
        let again = self.keep(id, true);
        self.forget();
        again
    }

    fn keep(&mut self, id: u64, event: bool) -> bool {
        match self.recent.iter_mut().find(|(known, _)| *known == id) {
            Some((_, came)) => std::mem::replace(came, *came || event) && event,
            None => {
                self.sum.add(id);
                self.recent.push_back((id, event));
                false
            }
        }
    }

    fn knows(&self, id: u64) -> bool {
        self.recent.iter().any(|(known, _)| *known == id)
    }

    /// Takes in the first state of all: it shows what was said before the run.
    pub fn begin(&mut self, state: &Value) {
        self.recent.extend(ids(state).map(|id| (id, false)));
        self.forget();
    }

    /// Takes in the state of a client that was here before.
    pub fn state(&mut self, state: &Value) {
        let shown: Vec<_> = ids(state).collect();
        let joined = shown.iter().any(|id| self.knows(*id));
        let known: Vec<_> = self.recent.iter().map(|(id, _)| *id).collect();
        // A hole that was there already reaches from what was known before it to the newest state, whatever lies between.
        match (older(state), &mut self.hole) {
            (Some(cursor), Some(hole)) => hole.cursor = cursor,
            (Some(cursor), None) if !joined => self.hole = Some(Hole { known, cursor }),
            (Some(_), None) => {}
            (None, hole) => *hole = None, // this is the whole room
        }
        for id in shown {
            self.keep(id, false);
        }
        self.forget();
    }

    /// Takes in a page of history. Says how many of its messages are new.
    pub fn page(&mut self, page: &Value) -> u64 {
        let Some(mut hole) = self.hole.take() else { return 0 };
        let (mut new, mut joined) = (0, false);
        for id in ids(page).rev() {
            joined |= hole.known.contains(&id);
            if !self.knows(id) {
                self.sum.add(id);
                self.recent.push_front((id, false));
                new += 1;
            }
        }
        self.hole = older(page).filter(|_| !joined).map(|cursor| {
            hole.cursor = cursor;
            hole
        });
        self.forget();
        new
    }

    /// Before which message history must be asked for, if there is a hole.
    pub fn wanted(&self) -> Option<&str> {
        self.hole.as_ref().map(|hole| hole.cursor.as_str())
    }

    fn forget(&mut self) {
        while self.recent.len() > REMEMBERED && self.hole.is_none() {
            self.recent.pop_front();
        }
    }
}

/// The messages of a state or a page, oldest first.
fn ids(event: &Value) -> impl DoubleEndedIterator<Item = u64> {
    let messages = event["messages"].as_array().map_or(&[][..], Vec::as_slice);
    messages.iter().filter_map(|message| message["id"].as_str().and_then(id_of))
}

/// The cursor to older messages, if there are any.
pub fn older(event: &Value) -> Option<String> {
    event["cursor"].as_str().filter(|_| event["hasMore"] == true).map(str::to_owned)
}

/// The last eight bytes of a UUID.
pub fn id_of(uuid: &str) -> Option<u64> {
    let digits: String = uuid.chars().filter(|digit| *digit != '-').collect();
    (digits.len() == 32).then(|| u64::from_str_radix(&digits[16..], 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn uuid(number: u64) -> String {
        format!("00000000-0000-7000-8000-{number:012x}")
    }

    fn id(number: u64) -> u64 {
        id_of(&uuid(number)).expect("is an id")
    }

    /// A state or a page with these messages, before which there are more if the first is not the first of all.
    fn page(numbers: std::ops::RangeInclusive<u64>) -> Value {
        let first = *numbers.start();
        let messages: Vec<_> = numbers.map(|number| json!({"id": uuid(number)})).collect();
        json!({"messages": messages, "hasMore": first > 1, "cursor": (first > 1).then(|| uuid(first))})
    }

    fn all(numbers: std::ops::RangeInclusive<u64>) -> Sum {
        let mut sum = Sum::default();
        numbers.for_each(|number| sum.add(id(number)));
        sum
    }

    /// A client that has all up to a message.
    fn up_to(last: u64) -> Messages {
        let mut messages = Messages::default();
        (1..=last).for_each(|number| assert!(!messages.add(id(number))));
        messages
    }

    #[test]
    fn a_message_that_comes_as_an_event_twice_is_noticed() {
        let mut messages = Messages::default();
        messages.begin(&page(1..=2));
        assert!(!messages.add(id(2)), "the state had it, and the event came");
        assert!(messages.add(id(2)), "and came again");
        assert!(!messages.add(id(3)));
        messages.state(&page(1..=3));
        assert!(messages.add(id(3)), "a state between them changes nothing");
        assert_eq!(messages.sum, all(3..=3));
    }

    #[test]
    fn a_state_that_reaches_what_was_known_leaves_no_hole() {
        let mut messages = up_to(200);
        messages.state(&page(200..=249));
        assert_eq!((messages.sum, messages.wanted()), (all(1..=249), None));
        let mut messages = Messages::default();
        messages.state(&page(1..=50));
        assert_eq!((messages.sum, messages.wanted()), (all(1..=50), None), "the whole room");
    }

    #[test]
    fn a_hole_is_filled_by_pages_up_to_what_was_known() {
        let mut messages = up_to(200);
        messages.state(&page(258..=307)); // fifty-seven were said meanwhile
        assert_eq!(messages.sum.count, 250, "all that a client has that does not ask");
        assert_eq!(messages.wanted(), Some(uuid(258).as_str()));
        (308..=310).for_each(|number| assert!(!messages.add(id(number)))); // live
        assert_eq!(messages.page(&json!({"messages": [], "hasMore": true, "cursor": uuid(258)})), 0);
        assert_eq!(messages.wanted(), Some(uuid(258).as_str()), "an empty page tells where to go on");
        assert_eq!(messages.page(&page(208..=257)), 50);
        assert_eq!(messages.wanted(), Some(uuid(208).as_str()));
        assert_eq!(messages.page(&page(158..=207)), 7);
        assert_eq!((messages.sum, messages.wanted()), (all(1..=310), None));
        messages.state(&page(261..=311));
        assert_eq!(messages.sum, all(1..=311), "the newest are remembered, not those that came last");
    }

    #[test]
    fn a_hole_may_reach_to_the_beginning() {
        let mut messages = Messages::default();
        messages.begin(&json!({"messages": []}));
        messages.state(&page(31..=80));
        assert_eq!((messages.page(&page(1..=30)), messages.wanted()), (30, None));
        assert_eq!(messages.sum, all(1..=80));
        assert_eq!(messages.page(&page(1..=30)), 0, "nobody asked");

        let mut messages = Messages::default();
        messages.begin(&page(11..=60));
        messages.state(&page(21..=70));
        assert_eq!((messages.sum, messages.wanted()), (all(61..=70), None), "what stood there before is known");
    }

    #[test]
    fn a_second_state_makes_the_hole_longer() {
        let mut messages = up_to(10);
        for first in [101, 141, 301] {
            messages.state(&page(first..=first + 49));
            assert_eq!(messages.wanted(), Some(uuid(first).as_str()));
        }
        for first in [251, 201, 151, 101, 51] {
            messages.page(&page(first..=first + 49));
            assert_eq!(messages.wanted(), Some(uuid(first).as_str()));
        }
        assert_eq!((messages.page(&page(1..=50)), messages.wanted()), (40, None));
        assert_eq!(messages.sum, all(1..=350));
    }

    #[test]
    fn a_state_that_is_the_whole_room_closes_a_hole() {
        let mut messages = up_to(10);
        messages.state(&page(101..=150));
        messages.state(&page(1..=150));
        assert_eq!((messages.sum, messages.wanted()), (all(1..=150), None));
    }
}
