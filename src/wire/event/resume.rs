//! What a client gets that comes back: what it missed, and how to come back again.

use bytes::Bytes;
use serde::Serialize;

use super::message::Text;
use super::{OnlineUser, Place, encode};
use crate::domain::{Micros, Person, ThreadId};

/// A piece of what a client missed.
#[derive(Debug)]
pub struct Resumed<'a> {
    /// Set when it is about a thread inside the room.
    pub thread: Option<ThreadId>,
    /// All that was missed is in the events. Otherwise a whole state follows.
    pub recovered: bool,
    /// Why not, in a word.
    pub reason: Option<&'static str>,
    /// Some of the events were told again from Postgres: messages are as they are now, the changes of one are told as
    /// one.
    pub retold: bool,
    /// What the client has after these events.
    pub place: Place,
    /// Complete events, in order.
    pub events: &'a [Bytes],
    /// Another piece follows at once.
    pub has_more: bool,
    /// Who is online in the room, and how many; with the last piece.
    pub online: Option<(&'a [Person], u64)>,
}

/// `resumed`: in place of the state, for who says where it was.
#[must_use]
pub fn resumed(resumed: &Resumed<'_>) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Head<'a> {
        event: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        thread_id: Option<Text<ThreadId>>,
        recovered: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'static str>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        retold: bool,
        epoch: Text<u64>,
        offset: u64,
        has_more: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        online_users: Option<Vec<OnlineUser<'a>>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        online_count: Option<u64>,
    }
    let mut json = encode(&Head {
        event: "resumed",
        thread_id: resumed.thread.map(Text),
        recovered: resumed.recovered,
        reason: resumed.reason,
        retold: resumed.retold,
        epoch: Text(resumed.place.epoch),
        offset: resumed.place.offset,
        has_more: resumed.has_more,
        online_users: resumed.online.map(|(users, _)| users.iter().map(OnlineUser::from).collect()),
        online_count: resumed.online.map(|(_, count)| count),
    });
    // The events are JSON already: they are put in as they are, whole.
    json.pop();
    json.extend_from_slice(b",\"events\":[");
    for (number, event) in resumed.events.iter().enumerate() {
        if number > 0 {
            json.push(b',');
        }
        json.extend_from_slice(event);
    }
    json.extend_from_slice(b"]}");
    json
}

/// `session`: a ticket to come back with. The newest counts.
#[must_use]
pub fn session(resume_token: &str, expires_at: Micros) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Event<'a> {
        event: &'static str,
        resume_token: &'a str,
        expires_at: Text<Micros>,
    }
    encode(&Event { event: "session", resume_token, expires_at: Text(expires_at) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::UserId;

    #[test]
    fn events_are_put_in_whole() {
        let ada = Person { id: UserId(7), username: "ada".to_owned(), avatar_url: None, is_staff: false };
        let events = [Bytes::from_static(br#"{"event":"a","offset":4}"#), Bytes::from_static(br#"{"event":"b"}"#)];
        let place = Place { epoch: 9, offset: 5 };
        let online = Some((&[ada][..], 12));
        let whole = Resumed {
            thread: None,
            recovered: true,
            reason: None,
            retold: false,
            place,
            events: &events,
            has_more: false,
            online,
        };
        assert_eq!(
            String::from_utf8(resumed(&whole)).expect("is text"),
            r#"{"event":"resumed","recovered":true,"epoch":"9","offset":5,"hasMore":false,"onlineUsers":[{"userId":"7","username":"ada"}],"onlineCount":12,"events":[{"event":"a","offset":4},{"event":"b"}]}"#
        );
        let retold = Resumed { retold: true, events: &events[..1], has_more: true, online: None, ..whole };
        assert_eq!(
            String::from_utf8(resumed(&retold)).expect("is text"),
            r#"{"event":"resumed","recovered":true,"retold":true,"epoch":"9","offset":5,"hasMore":true,"events":[{"event":"a","offset":4}]}"#
        );
        let lost =
            Resumed { recovered: false, reason: Some("epoch"), retold: false, events: &[], has_more: false, ..retold };
        assert_eq!(
            String::from_utf8(resumed(&lost)).expect("is text"),
            r#"{"event":"resumed","recovered":false,"reason":"epoch","epoch":"9","offset":5,"hasMore":false,"events":[]}"#
        );
    }
}
