//! Looks again whether those who are in may still be: after an order from Django, and from time to time, because an
//! order may have been missed.

use std::sync::Arc;
use std::time::Duration;

use super::Sessions;
use crate::access::Grant;
use crate::domain::{RoomId, Topic, UserId};
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

/// Looks up the rights of members, and ends the sessions of those that have none any more.
pub(super) async fn check(sessions: &Sessions, members: Vec<Member>) {
    for batch in members.chunks(BATCH) {
        let pairs: Vec<(RoomId, UserId)> =
            batch.iter().filter_map(|member| room_of(member).map(|room| (room, member.user))).collect();
        let admissions = match sessions.commands.store.admissions(&pairs).await {
            Ok(admissions) => admissions,
            Err(error) => {
                tracing::warn!(%error, "rights could not be looked up again");
                return;
            }
        };
        let judged = pairs.iter().zip(admissions.into_iter().map(Grant::judge));
        let denied: std::collections::HashMap<_, _> =
            judged.filter_map(|(pair, verdict)| verdict.err().map(|denied| (*pair, denied))).collect();
        for member in batch {
            if let Some(denied) = room_of(member).and_then(|room| denied.get(&(room, member.user))) {
                sessions.access.grants().forget(room_of(member), Some(member.user));
                member.outbox.close(super::closes(denied));
            }
        }
    }
}

/// Tells those present in a room how it is set now.
pub(super) async fn tell_room(sessions: &Sessions, room: RoomId, present: &[Member]) {
    let Some(first) = present.first() else { return };
    match sessions.access.grants().look_up(room, first.user).await {
        Ok(grant) => {
            let frame = Frame::text(&event::room_updated(&grant.room));
            for member in present {
                let _ = member.outbox.push(&frame, Class::Message);
            }
        }
        Err(error) => tracing::debug!(%room, %error, "a changed room was not told"),
    }
}

fn room_of(member: &Member) -> Option<RoomId> {
    match member.topic {
        Topic::Room(room) => Some(room),
        Topic::Dm(_) | Topic::Thread(_) => None,
    }
}
