//! Looks again whether those who are in may still be: after an order from Django, and from time to time, because an
//! order may have been missed.

use std::sync::Arc;
use std::time::Duration;

use super::Sessions;
use super::login::closes;
use crate::access::{Denied, Grant};
use crate::domain::{Micros, RoomId, Topic, UserId, Venue};
use crate::hub::Member;
use crate::lifecycle::Lifecycle;
use crate::socket::{Class, Frame};
use crate::wire::event;

/// How long one round over all members takes.
const ROUND: Duration = Duration::from_secs(15);
/// How many rights one query looks up.
const BATCH: usize = 500;

/// Looks at all members again and again, until the process stops. A round's queries are spread over its time.
pub async fn watch(sessions: Arc<Sessions>, lifecycle: Lifecycle) {
    loop {
        let members = sessions.hub.members().all();
        let rounds = members.len().div_ceil(BATCH).max(1);
        let pause = ROUND / u32::try_from(rounds).unwrap_or(u32::MAX);
        let mut batches = members.chunks(BATCH);
        for _ in 0..rounds {
            tokio::select! {
                () = lifecycle.stopping() => return,
                () = tokio::time::sleep(pause) => {}
            }
            check(&sessions, batches.next().unwrap_or_default().to_vec()).await;
        }
    }
}

/// Looks up the rights of members, ends the sessions of those that have none any more, and hides from the others
/// whom they must not see.
pub(super) async fn check(sessions: &Sessions, members: Vec<Member>) {
    for batch in members.chunks(BATCH) {
        let pairs: Vec<(Venue, UserId)> = batch.iter().map(|member| (member.venue, member.user)).collect();
        let admissions = match sessions.commands.store.admissions(&pairs).await {
            Ok(admissions) => admissions,
            Err(error) => {
                tracing::warn!(%error, "rights could not be looked up again");
                return;
            }
        };
        let now = Micros::now();
        for (member, admission) in batch.iter().zip(admissions) {
            match Grant::judge(admission, now) {
                Ok(grant) => {
                    for topic in member.also.all().into_iter().chain([member.topic]) {
                        sessions.hub.hide(topic, member.connection, &grant.hidden);
                    }
                }
                // A presence socket is in no room; the account is in order.
                Err(Denied::NotFound) if member.venue == Venue::App => {}
                Err(denied) => {
                    sessions.access.grants().forget(member.room, Some(member.user));
                    member.outbox.close(closes(&denied));
                }
            }
        }
    }
}

/// Looks up the rights of presence sockets in rooms that they watch, all or one, and ends the watching where there are
/// none any more.
pub(super) async fn check_watched(sessions: &Sessions, members: &[Member], only: Option<RoomId>) {
    for member in members {
        let Some(watcher) = &member.watcher else { continue };
        let rooms: Vec<_> = watcher
            .watched()
            .into_iter()
            .filter_map(|topic| if let Topic::Room(room) = topic { Some(room) } else { None })
            .filter(|room| only.is_none_or(|only| only == *room))
            .collect();
        match sessions.readable(member.user, &rooms).await {
            Ok(readable) => {
                let lost = rooms.into_iter().filter(|room| !readable.contains(room)).map(Topic::Room);
                watcher.unwatch(&lost.collect::<Vec<_>>());
            }
            Err(error) => tracing::warn!(%error, "rights could not be looked up again"),
        }
    }
}

/// Tells those present in a room how it is set now.
pub(super) async fn tell_room(sessions: &Sessions, room: RoomId, present: &[Member]) {
    let Some(first) = present.first() else { return };
    match sessions.access.grants().look_up(first.venue, first.user).await {
        Ok(grant) => {
            let frame = Frame::text(&event::room_updated(&grant.room));
            for member in present {
                let _ = member.outbox.push(&frame, Class::Message);
            }
        }
        Err(error) => tracing::debug!(%room, %error, "a changed room was not told"),
    }
}
