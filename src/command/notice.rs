//! What users are told on their own topics, whatever they have open: that somebody wrote their name, and that what they
//! have not read has changed. Best effort: the presence socket reads the truth when it connects.

use bytes::Bytes;
use futures_util::future::join_all;

use super::Echo;
use crate::access::Grant;
use crate::bus::{Envelope, Kind, Log};
use crate::domain::{Author, Message, MessageId, RoomId, Topic, UserId, user_ids};
use crate::handover::Occasion;
use crate::store::Committed;
use crate::wire::event;

/// What goes to the topics of users besides the message's own event: its mentions, and to the others of a direct
/// conversation that something is unread. Nothing goes to those who do not see the author.
pub(super) fn of_message(message: &Committed<Echo>) -> Vec<(UserId, Envelope)> {
    let Committed { draft, payload, .. } = message;
    let grant = &payload.grant;
    let author = grant.person.id;
    let shown = Author {
        id: Some(author),
        username: grant.person.username.clone(),
        avatar_url: grant.person.avatar_url.clone(),
    };
    let others = grant.dm.iter().flat_map(|dm| dm.others.iter().copied());
    let unread = others.map(|user| (user, unread(user, draft.room_id)));
    let mentioned = user_ids(&draft.mentions).into_iter();
    let mentions = mentioned.map(|user| (user, mention(draft.room_id, draft.id, author, &shown)));
    unread.chain(mentions).filter(|(user, _)| *user != author && !grant.hidden.hides(*user)).collect()
}

/// What goes to the topics of those whom an edit mentions and the text before did not.
pub(super) fn of_edit(grant: &Grant, message: &Message, mentioned: &[UserId]) -> Vec<(UserId, Envelope)> {
    let author = grant.person.id;
    let new = mentioned.iter().copied().filter(|user| *user != author && !grant.hidden.hides(*user));
    new.map(|user| (user, mention(message.room_id, message.id, author, &message.author))).collect()
}

/// What goes to the topics of users when a message appears that was held back: as for a new one.
pub(super) fn of_shown(message: &Message, occasion: &Occasion) -> Vec<(UserId, Envelope)> {
    let author = occasion.author;
    let unread = occasion.others.iter().map(|user| (*user, unread(*user, message.room_id)));
    let mentions = occasion.mentioned.iter();
    let mentions = mentions.map(|user| (*user, mention(message.room_id, message.id, author, &message.author)));
    unread.chain(mentions).filter(|(user, _)| *user != author).collect()
}

fn mention(room: RoomId, message: MessageId, user: UserId, author: &Author) -> Envelope {
    Envelope::passing(Kind::Notice, user, event::mention(room, message, user, author))
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
