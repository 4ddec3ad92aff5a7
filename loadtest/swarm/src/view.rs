//! What one client has seen of its room, and whether that is right: every offset once, in order, without a hole.

use std::sync::LazyLock;

use memchr::memmem::{self, Finder, FinderRev};
use serde_json::Value;

use crate::messages::{Messages, id_of, older};
use crate::tally::Tally;

/// Where a message's id stands, in JSON as we write it and as Python does.
static MESSAGE: LazyLock<[Finder<'static>; 2]> =
    LazyLock::new(|| ["\"message\":{\"id\":\"", "\"message\": {\"id\": \""].map(Finder::new));
/// Where the time of sending stands.
static SENT: LazyLock<[Finder<'static>; 2]> =
    LazyLock::new(|| ["\"content\":\"t=", "\"content\": \"t="].map(Finder::new));
/// Where an ack says which message it is for.
static ACKED: LazyLock<[Finder<'static>; 1]> = LazyLock::new(|| ["\"messageId\":\""].map(Finder::new));
/// The event's own offset stands last; a text cannot hold these bytes unescaped.
static OFFSET: LazyLock<FinderRev<'static>> = LazyLock::new(|| FinderRev::new("\"offset\":"));
/// And the epoch before it.
static EPOCH: LazyLock<FinderRev<'static>> = LazyLock::new(|| FinderRev::new("\"epoch\":\""));

/// How many holes are remembered, so that what comes late is told from what comes twice.
const MOST_HOLES: usize = 1_000;

/// Where a client stands.
#[derive(Debug, Default)]
pub struct View {
    /// The order's name, as the state told it.
    pub epoch: Option<String>,
    /// The newest offset that was seen.
    pub last: u64,
    /// What was seen before the first state does not count.
    pub first: u64,
    /// Let in at least once.
    pub begun: bool,
    /// The newest resume ticket.
    pub ticket: Option<String>,
    /// All messages that were seen, wherever: live, in a replay, in a state after a return, in a page of history.
    pub messages: Messages,
    /// Seconds after which a page of history may be asked for that was refused.
    pub page_after: Option<f64>,
    /// Seconds after which to come back when the connection ends, as the gateway told.
    pub come_back: Option<f64>,
    /// Offsets that were passed over, with their epoch: the first and the last of each hole.
    pub passed: Vec<(Option<String>, u64, u64)>,
}

/// What an event means for the connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The client is in: it has its state, or its replay.
    Entered {
        resumed: bool,
    },
    /// A message of this id, live, so many microseconds after it was sent.
    Message {
        id: u64,
        micros: u64,
    },
    Other,
}

impl View {
    /// Takes one event in.
    pub fn take(&mut self, event: &[u8], now: u64, tally: &Tally) -> Meaning {
        let counters = &tally.counters;
        match name(event) {
            b"room_state" | b"dm_state" => {
                self.state(event, tally);
                return Meaning::Entered { resumed: false };
            }
            b"resumed" => return self.resumed(event, tally),
            b"session" => {
                let token = serde_json::from_slice::<Value>(event)
                    .ok()
                    .and_then(|event| event["resumeToken"].as_str().map(str::to_owned));
                self.ticket = token.or(self.ticket.take());
                return Meaning::Other;
            }
            b"reconnect" => {
                let event = serde_json::from_slice::<Value>(event).unwrap_or_default();
                self.come_back = event["delayMs"].as_f64().map(|delay| delay / 1_000.0);
                tally.add(&counters.told, 1);
                return Meaning::Other;
            }
            b"user_joined" => tally.presence(1, 0),
            b"user_left" => tally.presence(0, 1),
            b"presence_diff" => {
                let event = serde_json::from_slice::<Value>(event).unwrap_or_default();
                let count = |of: &str| event[of].as_array().map_or(0, Vec::len);
                tally.presence(count("joined"), count("left"));
            }
            b"message_ack" => {
                tally.add(&counters.acked, 1);
                if let Some(id) = behind(&*ACKED, event).and_then(text) {
                    tally.acked(id);
                }
                return Meaning::Other;
            }
            b"error" => {
                tally.add(&counters.refused, 1);
                let error = serde_json::from_slice::<Value>(event).unwrap_or_default();
                if error["requestType"] == "request_history" {
                    self.page_after = error["retryAfter"].as_f64().or(Some(1.0));
                }
                tally.ended(format!("error {}", error["code"].as_str().unwrap_or_default()));
                return Meaning::Other;
            }
            b"message_history" => {
                let had_hole = self.messages.wanted().is_some();
                let new = self.messages.page(&serde_json::from_slice(event).unwrap_or_default());
                tally.add(&counters.deliveries, new);
                tally.add(&counters.paged, new);
                self.count_hole(had_hole, tally);
                return Meaning::Other;
            }
            b"new_message" => {
                let sent = behind(&*SENT, event).and_then(digits);
                let micros = sent.map(|sent| now.saturating_sub(sent));
                if let Some(micros) = micros {
                    Tally::note(&tally.latency, micros);
                    Tally::note(&tally.recent, micros);
                }
                let id = behind(&*MESSAGE, event).and_then(text).and_then(id_of);
                let offset = offset(event);
                if offset.is_none() {
                    // A server without offsets: what was missed or came twice is found by comparing with Postgres.
                    tally.add(&counters.deliveries, 1);
                }
                let fresh = self.live(event, offset, tally);
                self.message(id, fresh, tally);
                if let Some((id, micros)) = id.zip(micros) {
                    return Meaning::Message { id, micros };
                }
            }
            _ => {
                self.live(event, offset(event), tally);
            }
        }
        Meaning::Other
    }

    /// A message that came as an event, whose offset is `fresh`: it has none, or did not come before.
    fn message(&mut self, id: Option<u64>, fresh: bool, tally: &Tally) {
        if id.is_some_and(|id| self.messages.add(id)) && fresh {
            tally.add(&tally.counters.doubled, 1);
        }
    }

    fn live(&mut self, event: &[u8], offset: Option<u64>, tally: &Tally) -> bool {
        let Some(offset) = offset else { return true };
        let epoch = EPOCH.rfind(event).and_then(|at| text(&event[at + EPOCH.needle().len()..]));
        if epoch.is_some() && self.epoch.is_some() && epoch != self.epoch.as_deref() {
            // A new life of the log, after an outage of Redis: its offsets begin again. What the old one may have lost is
            // found by comparing with Postgres.
            (self.epoch, self.last, self.first) = (epoch.map(str::to_owned), offset - 1, offset - 1);
        }
        self.seen(offset, tally)
    }

    fn count_hole(&self, had_one: bool, tally: &Tally) {
        let counters = &tally.counters;
        match (had_one, self.messages.wanted()) {
            (false, Some(_)) => tally.add(&counters.holes, 1),
            (true, None) => tally.add(&counters.filled, 1),
            _ => {}
        }
    }

    /// Takes an offset in, and says whether it did not come before.
    fn seen(&mut self, offset: u64, tally: &Tally) -> bool {
        let counters = &tally.counters;
        if offset > self.last {
            self.pass(offset - 1, tally);
            self.last = offset;
        } else if self.fill(offset) {
            tally.add(&counters.late, 1);
        } else {
            tally.add(&counters.repeated, 1);
            return false;
        }
        tally.add(&counters.deliveries, 1);
        true
    }

    /// Passes over all offsets up to this one.
    fn pass(&mut self, offset: u64, tally: &Tally) {
        if offset > self.last {
            tally.add(&tally.counters.missed, offset - self.last);
            if self.passed.len() < MOST_HOLES {
                self.passed.push((self.epoch.clone(), self.last + 1, offset));
            }
        }
    }

    /// Takes an offset out of the holes. Says whether it was in one.
    fn fill(&mut self, offset: u64) -> bool {
        let within = |(epoch, first, last): &(Option<String>, u64, u64)| {
            *epoch == self.epoch && (*first..=*last).contains(&offset)
        };
        let Some(at) = self.passed.iter().position(within) else { return false };
        let (epoch, first, last) = self.passed.swap_remove(at);
        let rest = [(first, offset - 1), (offset + 1, last)].into_iter().filter(|(first, last)| first <= last);
        self.passed.extend(rest.map(|(first, last)| (epoch.clone(), first, last)));
        true
    }

    /// A state replaces what was known. After a return it stands for what was missed.
    fn state(&mut self, event: &[u8], tally: &Tally) {
        let Ok(state) = serde_json::from_slice::<Value>(event) else { return };
        let (epoch, offset) = (state["epoch"].as_str().map(str::to_owned), state["offset"].as_u64().unwrap_or(0));
        if self.begun {
            let had_hole = self.messages.wanted().is_some();
            self.messages.state(&state);
            self.count_hole(had_hole, tally);
        } else {
            self.messages.begin(&state);
        }
        if self.begun && self.epoch == epoch {
            tally.add(&tally.counters.restated, 1);
            let missed = offset.saturating_sub(self.last);
            let shown = state["messages"].as_array().map_or(0, Vec::len) as u64;
            tally.add(&tally.counters.restated_events, missed);
            tally.add(&tally.counters.deliveries, missed.min(shown));
            if older(&state).is_none() {
                // A state shows so many messages; what lies before them was not seen, and cannot be asked for.
                self.pass(offset - missed.min(shown), tally);
            }
            if offset < self.last {
                tally.add(&tally.counters.repeated, self.last - offset);
            }
        } else {
            if self.begun {
                tally.add(&tally.counters.restated, 1);
            }
            self.first = offset;
        }
        (self.begun, self.epoch, self.last) = (true, epoch, offset);
    }

    fn resumed(&mut self, event: &[u8], tally: &Tally) -> Meaning {
        let Ok(resumed) = serde_json::from_slice::<Value>(event) else { return Meaning::Other };
        if resumed["recovered"].as_bool() != Some(true) {
            return Meaning::Other; // a state follows
        }
        let events = resumed["events"].as_array().map_or(&[][..], Vec::as_slice);
        for event in events {
            let id = event["message"]["id"].as_str().and_then(id_of).filter(|_| event["event"] == "new_message");
            let fresh = event["offset"].as_u64().is_none_or(|offset| self.seen(offset, tally));
            self.message(id, fresh, tally);
        }
        tally.add(&tally.counters.resumed, 1);
        tally.add(&tally.counters.replayed, events.len() as u64);
        if let Some(offset) = resumed["offset"].as_u64() {
            // What is not among the events should be void: the comparison with Postgres tells.
            self.pass(offset, tally);
            self.last = self.last.max(offset);
        }
        Meaning::Entered { resumed: true }
    }
}

/// The event's name. Ours stands first; other servers may have it anywhere.
fn name(event: &[u8]) -> &[u8] {
    let ours = event.strip_prefix(b"{\"event\":");
    let Some(rest) = ours.or_else(|| Some(&event[memmem::find(event, b"\"event\":")? + 8..])) else { return b"" };
    let Some(rest) = rest.trim_ascii_start().strip_prefix(b"\"") else { return b"" };
    memchr::memchr(b'"', rest).map_or(b"", |end| &rest[..end])
}

fn offset(event: &[u8]) -> Option<u64> {
    OFFSET.rfind(event).and_then(|at| digits(&event[at + OFFSET.needle().len()..]))
}

/// What stands behind the first of these that is there.
fn behind<'a>(what: &[Finder<'_>], event: &'a [u8]) -> Option<&'a [u8]> {
    what.iter().find_map(|what| Some(&event[what.find(event)? + what.needle().len()..]))
}

/// The text that a quotation mark ends.
fn text(rest: &[u8]) -> Option<&str> {
    std::str::from_utf8(&rest[..memchr::memchr(b'"', rest)?]).ok()
}

fn digits(bytes: &[u8]) -> Option<u64> {
    let length = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&bytes[..length]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::Sum;

    fn after(events: &[&str]) -> (View, crate::tally::Counts) {
        let (mut view, tally) = (View::default(), Tally::default());
        for event in events {
            view.take(event.as_bytes(), 5_000_000, &tally);
        }
        (view, tally.counters.counts())
    }

    const STATE: &str = r#"{"event":"room_state","messages":[],"epoch":"7","offset":10}"#;

    #[test]
    fn every_offset_counts_once() {
        let (view, counts) = after(&[
            STATE,
            r#"{"event":"new_message","message":{"content":"t=4000000 x"},"offset":11}"#,
            r#"{"event":"typing","userId":"1"}"#,
            r#"{"event":"message_deleted","offset":12}"#,
        ]);
        assert_eq!((view.last, counts.deliveries, counts.missed, counts.repeated), (12, 2, 0, 0));
    }

    #[test]
    fn a_server_without_offsets_is_counted_too() {
        let message = r#"{"event": "new_message", "message": {"id": "00000000-0000-7000-8000-000000000001", "content": "t=4000000 x"}}"#;
        let (view, counts) = after(&[r#"{"event": "room_state", "messages": []}"#, message]);
        assert_eq!((view.messages.sum.count, counts.deliveries, counts.missed), (1, 1, 0));
    }

    #[test]
    fn a_message_is_added_once_wherever_it_is_seen() {
        let message = |id: &str, offset| {
            format!(r#"{{"event":"new_message","message":{{"id":"{id}","content":"x"}},"offset":{offset}}}"#)
        };
        let [one, two] = ["00000000-0000-7000-8000-000000000001", "00000000-0000-7000-8000-000000000002"];
        let again = format!(
            r#"{{"event":"room_state","messages":[{{"id":"{one}"}},{{"id":"{two}"}}],"epoch":"7","offset":12}}"#
        );
        let (view, _) = after(&[STATE, &message(one, 11), &again]);
        assert_eq!(view.messages.sum, Sum { count: 2, xor: 0x8000_0000_0000_0001 ^ 0x8000_0000_0000_0002 });
    }

    #[test]
    fn holes_and_repeats_are_seen() {
        let (_, counts) = after(&[STATE, r#"{"event":"x","offset":13}"#, r#"{"event":"x","offset":12}"#]);
        assert_eq!((counts.deliveries, counts.missed, counts.late, counts.repeated), (2, 2, 1, 0));
        let again = r#"{"event":"x","offset":12}"#;
        let (view, counts) = after(&[STATE, r#"{"event":"x","offset":14}"#, again, again]);
        assert_eq!((counts.deliveries, counts.missed, counts.late, counts.repeated), (2, 3, 1, 1));
        let epoch = || Some("7".to_owned());
        assert_eq!(view.passed, [(epoch(), 11, 11), (epoch(), 13, 13)]);
    }

    #[test]
    fn what_a_replay_skips_was_passed_over() {
        let (view, counts) =
            after(&[STATE, r#"{"event":"resumed","recovered":true,"epoch":"7","offset":13,"events":[{"offset":11}]}"#]);
        assert_eq!((view.last, counts.deliveries, counts.missed), (13, 1, 2));
        assert_eq!(view.passed, [(Some("7".to_owned()), 12, 13)]);
    }

    #[test]
    fn a_message_that_comes_twice_is_a_repeat_whatever_its_offsets() {
        let message = |offset| {
            format!(
                r#"{{"event":"new_message","message":{{"id":"00000000-0000-7000-8000-000000000001","content":"x"}},"offset":{offset}}}"#
            )
        };
        let (_, counts) = after(&[STATE, &message(11), &message(12), &message(12)]);
        assert_eq!((counts.deliveries, counts.repeated, counts.doubled), (2, 1, 1), "each counts once");
    }

    #[test]
    fn people_who_come_and_go_are_counted_once_all_are_in() {
        let tally = Tally::default();
        let events: [&[u8]; 3] = [
            br#"{"event":"user_joined","userId":"5","username":"a"}"#,
            br#"{"event":"user_left","userId":"5"}"#,
            br#"{"event":"presence_diff","joined":[{"userId":"5"}],"left":["6","7"],"online":3}"#,
        ];
        let mut view = View::default();
        for event in events {
            view.take(event, 0, &tally);
        }
        let counts = tally.counters.counts();
        assert_eq!((counts.joins, counts.leaves), (0, 0));
        tally.settled.store(true, std::sync::atomic::Ordering::Relaxed);
        for event in events {
            view.take(event, 0, &tally);
        }
        let counts = tally.counters.counts();
        assert_eq!((counts.joins, counts.leaves), (2, 3));
    }

    #[test]
    fn a_client_is_told_when_to_come_back() {
        let (view, counts) = after(&[r#"{"event":"reconnect","delayMs":1500,"reason":"draining"}"#]);
        assert_eq!((view.come_back, counts.told), (Some(1.5), 1));
    }

    #[test]
    fn offsets_begin_again_in_a_new_epoch() {
        let (view, counts) =
            after(&[STATE, r#"{"event":"x","epoch":"8","offset":2}"#, r#"{"event":"x","epoch":"8","offset":3}"#]);
        assert_eq!((view.last, counts.deliveries, counts.missed, counts.repeated), (3, 2, 0, 0));
    }

    #[test]
    fn a_replay_counts_like_live_events() {
        let (view, counts) = after(&[
            STATE,
            r#"{"event":"resumed","recovered":true,"epoch":"7","offset":12,"events":[{"offset":11},{"offset":12}]}"#,
        ]);
        assert_eq!((view.last, counts.deliveries, counts.replayed, counts.resumed), (12, 2, 2, 1));
    }

    #[test]
    fn a_state_after_a_return_stands_for_what_it_shows() {
        let (_, counts) = after(&[STATE, r#"{"event":"room_state","messages":[{}],"epoch":"7","offset":13}"#]);
        assert_eq!((counts.restated, counts.deliveries, counts.missed), (1, 1, 2));
        let (view, counts) = after(&[STATE, r#"{"event":"room_state","messages":[],"epoch":"8","offset":2}"#]);
        assert_eq!((view.last, counts.missed, counts.repeated), (2, 0, 0));
    }
}
