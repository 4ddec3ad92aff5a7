//! Looks again whether those who are in may still be: after an order from Django, and from time to time, because an
//! order may have been missed.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join;

use super::Sessions;
use super::login::closes;
use crate::access::{Denied, Grant};
use crate::domain::{Micros, RoomId, Topic, UserId, Venue};
use crate::hub::{Member, Watcher};
use crate::lifecycle::Lifecycle;
use crate::socket::{Class, Frame};
use crate::wire::{Close, event};

/// How long one round over all members takes.
const ROUND: Duration = Duration::from_secs(15);
/// The version that Django begins with: a session that began when it kept none is of no later one.
const FIRST: i64 = 1;
/// How many rights one query looks up.
const BATCH: usize = 500;
/// Time between two queries for what presence sockets watch, at least: where very much is watched, a round takes longer.
const BREATH: Duration = Duration::from_millis(250);

/// Looks at all members, and at what they watch, again and again until the process stops. A round's queries are spread
/// over its time.
pub async fn watch(sessions: Arc<Sessions>, lifecycle: Lifecycle) {
    join(members(&sessions, &lifecycle), watchers(&sessions, &lifecycle)).await;
}

async fn members(sessions: &Sessions, lifecycle: &Lifecycle) {
    loop {
        // Only who they are: a list of members would keep their sockets.
        let keys = sessions.hub.members().keys();
        sessions.access.grants().sweep();
        let rounds = keys.len().div_ceil(BATCH).max(1);
        let pause = ROUND / u32::try_from(rounds).unwrap_or(u32::MAX);
        let mut batches = keys.chunks(BATCH);
        for _ in 0..rounds {
            let batch = batches.next().unwrap_or_default();
            let members: Vec<_> = batch.iter().filter_map(|key| sessions.hub.members().get(*key)).collect();
            check_versions(sessions, &members).await;
            check(sessions, members).await;
            if let Err(error) = sessions.entrance.directory.refresh().await {
                tracing::warn!(%error, "names could not be looked up again");
            }
            tokio::select! {
                () = lifecycle.stopping() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

async fn watchers(sessions: &Sessions, lifecycle: &Lifecycle) {
    loop {
        // Each part about a query's worth.
        let mut parts: Vec<(usize, Vec<Arc<Member>>)> = vec![(0, Vec::new())];
        for member in sessions.hub.members().all() {
            let Some(watched) = member.watcher.as_ref().map(|watcher| watcher.watched().len()) else { continue };
            match parts.last_mut().filter(|(size, _)| size + watched <= BATCH) {
                Some((size, part)) => {
                    *size += watched;
                    part.push(member);
                }
                None => parts.push((watched, vec![member])),
            }
        }
        let pause = (ROUND / u32::try_from(parts.len()).unwrap_or(u32::MAX)).max(BREATH);
        for (_, part) in parts {
            check_watched(sessions, &part, None).await;
            check_seen(sessions, &part).await;
            tokio::select! {
                () = lifecycle.stopping() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

/// Looks up the rights of members, ends the sessions of those that have none any more, and hides from the others
/// whom they must not see.
pub(super) async fn check(sessions: &Sessions, members: Vec<Arc<Member>>) {
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
                    let grant = sessions.access.grants().remember(member.venue, member.user, grant);
                    sessions.entrance.directory.learn(Arc::clone(&grant.person));
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
pub(super) async fn check_watched(sessions: &Sessions, members: &[Arc<Member>], only: Option<RoomId>) {
    let room = |topic| if let Topic::Room(room) = topic { Some(room) } else { None };
    let mut watched = watched(members, |topic| room(topic).filter(|room| only.is_none_or(|only| only == *room)));
    while !watched.is_empty() {
        let part = watched.split_off(watched.len().saturating_sub(BATCH));
        let pairs: Vec<_> = part.iter().map(|(watcher, room)| (Venue::Room(*room), watcher.user)).collect();
        match sessions.commands.store.admissions(&pairs).await {
            Ok(admissions) => {
                let now = Micros::now();
                let lost = |admission| Grant::judge(admission, now).map_or(true, |grant| grant.dm.is_some());
                for ((watcher, room), _) in part.iter().zip(admissions).filter(|(_, admission)| lost(admission.clone()))
                {
                    watcher.unwatch(&[Topic::Room(*room)]);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "rights could not be looked up again");
                return;
            }
        }
    }
}

/// Looks up the blocks between presence sockets' users and whom they watch, and ends the watching where there is one.
pub(super) async fn check_seen(sessions: &Sessions, members: &[Arc<Member>]) {
    let mut watched = watched(members, |topic| if let Topic::Online(user) = topic { Some(user) } else { None });
    while !watched.is_empty() {
        let part = watched.split_off(watched.len().saturating_sub(BATCH));
        let pairs: Vec<_> = part.iter().map(|(watcher, user)| (watcher.user, *user)).collect();
        match sessions.commands.store.blocked(&pairs).await {
            Ok(blocked) => {
                for (watcher, user) in part.iter().filter(|(watcher, user)| blocked.contains(&(watcher.user, *user))) {
                    watcher.conceal(&[*user]);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "blocks could not be looked up again");
                return;
            }
        }
    }
}

/// What presence sockets watch, one entry for each.
fn watched<T>(members: &[Arc<Member>], wanted: impl Fn(Topic) -> Option<T>) -> Vec<(Arc<Watcher>, T)> {
    let mut all = Vec::new();
    for watcher in members.iter().filter_map(|member| member.watcher.as_ref()) {
        let topics = watcher.watched().into_iter().filter_map(&wanted);
        all.extend(topics.map(|wanted| (Arc::clone(watcher), wanted)));
    }
    all
}

/// Looks up session versions, and ends the sessions of users who have logged out everywhere.
pub(super) async fn check_versions(sessions: &Sessions, members: &[Arc<Member>]) {
    for batch in members.chunks(BATCH) {
        let users: Vec<UserId> = batch.iter().map(|member| member.user).collect();
        let current = match sessions.login.session_versions(&users).await {
            Ok(current) => current,
            Err(error) => {
                tracing::warn!(%error, "session versions could not be looked up again");
                return;
            }
        };
        for (member, current) in batch.iter().zip(current) {
            let Some(current) = current.filter(|current| member.session_version.unwrap_or(FIRST) < *current) else {
                continue;
            };
            sessions.tickets.returns.revoke(member.user, Some(current)).await;
            member.outbox.close(Close::SESSION_ENDED);
        }
    }
}

/// Tells those present in a room how it is set now.
pub(super) async fn tell_room(sessions: &Sessions, room: RoomId, present: &[Arc<Member>]) {
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
