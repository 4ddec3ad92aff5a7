//! What users are told on their own topics, whatever they have open: that somebody wrote their name, and that what they
//! have not read has changed. Best effort: the presence socket reads the truth when it connects.

use bytes::Bytes;
use futures_util::future::join_all;

use super::Echo;
use crate::access::Grant;
use crate::bus::{Envelope, Kind, Log};
use crate::domain::{Message, MessageId, Person, RoomId, Topic, UserId};
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
    let mentions = ids(&draft.mentions).into_iter().map(|user| (user, mention(draft.room_id, draft.id, author)));
    unread.chain(mentions).filter(|(user, _)| *user != author.id && !grant.hidden.hides(*user)).collect()
}

/// What goes to the topics of those whom an edit mentions and the text before did not.
pub(super) fn of_edit(grant: &Grant, message: &Message, before: &str) -> Vec<(UserId, Envelope)> {
    let (before, author) = (ids(before), &grant.person);
    let new = ids(&message.mentions).into_iter().filter(|user| !before.contains(user) && *user != author.id);
    new.filter(|user| !grant.hidden.hides(*user))
        .map(|user| (user, mention(grant.room.id, message.id, author)))
        .collect()
}

/// User ids of a JSON array; what else Django may have put there mentions nobody.
fn ids(mentions: &str) -> Vec<UserId> {
    let ids: Vec<i64> = serde_json::from_str(mentions).unwrap_or_default();
    ids.into_iter().map(UserId).collect()
}

fn mention(room: RoomId, message: MessageId, author: &Person) -> Envelope {
    Envelope::passing(Kind::Notice, author.id, event::mention(room, message, author))
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
