//! What users are told on their own topics, whatever they have open: that somebody wrote their name, and that what they
//! have not read has changed. Best effort: the presence socket reads the truth when it connects.

use bytes::Bytes;
use futures_util::future::join_all;

use super::Echo;
use crate::bus::{Envelope, Kind, Log};
use crate::domain::{RoomId, Topic, UserId};
use crate::store::Committed;
use crate::wire::event;

/// What goes to the topics of users besides the message's own event: its mentions, and to the others of a direct
/// conversation that something is unread. Nothing goes to those who do not see the author.
pub(super) fn of_message(message: &Committed<Echo>) -> Vec<(UserId, Envelope)> {
    let Committed { draft, payload, .. } = message;
    let grant = &payload.grant;
    let author = &grant.person;
    let others = grant.dm.iter().flat_map(|dm| dm.others.iter().copied());
    let unread = others.map(|user| (user, unread(user, draft.room_id)));
    let mentioned: Vec<i64> = serde_json::from_str(&draft.mentions).unwrap_or_default();
    let mentions = mentioned.into_iter().map(UserId).map(|user| {
        let body = event::mention(draft.room_id, draft.id, author);
        (user, Envelope::passing(Kind::Notice, author.id, body))
    });
    unread.chain(mentions).filter(|(user, _)| *user != author.id && !grant.hidden.hides(*user)).collect()
}

/// Says that what a user has not read in a room is to be counted again.
pub(super) fn unread(user: UserId, room: RoomId) -> Envelope {
    let body = Bytes::copy_from_slice(room.0.as_bytes());
    Envelope { body, ..Envelope::passing(Kind::Unread, user, Vec::new()) }
}

/// Tells users, all at once.
pub(super) async fn tell(log: &Log, notices: &[(UserId, Envelope)]) {
    let telling = notices.iter().map(|(user, envelope)| async move {
        if let Err(error) = log.pass(Topic::User(*user), envelope).await {
            tracing::debug!(%error, "a user was not told");
        }
    });
    join_all(telling).await;
}
