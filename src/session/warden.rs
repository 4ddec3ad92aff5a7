//! Looks again whether those who are in may still be: after an order from Django, and from time to time, because an
//! order may have been missed.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join;

use super::Sessions;
use super::login::closes;
use crate::access::{Denied, Grant};
use crate::domain::{Micros, RoomId, Topic, Trust, UserId, Venue};
use crate::hub::{Member, Watcher};
use crate::lifecycle::Lifecycle;
use crate::socket::{Class, Frame};
use crate::store::{Admission, Fingerprint};
use crate::wire::{Close, event};

/// The version that Django begins with: a session that began when it kept none is of no later one.
const FIRST: i64 = 1;
/// How many rights one query looks up.
const BATCH: usize = 500;
/// Time between two queries for what presence sockets watch, at least: where very much is watched, a round takes longer.
const BREATH: Duration = Duration::from_millis(250);

/// Looks at all members, and at what they watch, again and again until the process stops. A `round` takes that long, and its
/// queries are spread over its time.
pub async fn watch(sessions: Arc<Sessions>, round: Duration, lifecycle: Lifecycle) {
    join(members(&sessions, round, &lifecycle), watchers(&sessions, round, &lifecycle)).await;
}

async fn members(sessions: &Sessions, round: Duration, lifecycle: &Lifecycle) {
    loop {
        // Only who they are: a list of members would keep their sockets.
        let keys = sessions.hub.members().keys();
        sessions.access.grants().sweep();
        let parts = keys.len().div_ceil(BATCH).max(1);
        let pause = round / u32::try_from(parts).unwrap_or(u32::MAX);
        let mut batches = keys.chunks(BATCH);
        for _ in 0..parts {
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

async fn watchers(sessions: &Sessions, round: Duration, lifecycle: &Lifecycle) {
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
        let pause = (round / u32::try_from(parts.len()).unwrap_or(u32::MAX)).max(BREATH);
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

/// Looks up the rights of members that are not what they were, ends the sessions of those that have none any more, and
/// hides from the others whom they must not see.
pub(super) async fn check(sessions: &Sessions, members: Vec<Arc<Member>>) {
    let grants = sessions.access.grants();
    for batch in members.chunks(BATCH) {
        let known = batch.iter().map(|member| {
            let (venue, user) = (member.venue, member.user);
            let judged = member.judged.get().map(Fingerprint);
            // What is remembered must be of the same rows, or it is wanted whole. Of a presence socket nothing is.
            (venue, user, judged.filter(|_| venue == Venue::App || grants.fingerprint(venue, user) == judged))
        });
        let known: Vec<_> = known.collect();
        let changed = match sessions.commands.store.changed_admissions(&known).await {
            Ok(changed) => changed,
            Err(error) => {
                tracing::warn!(%error, "rights could not be looked up again");
                return;
            }
        };
        let now = Micros::now();
        let mut as_before = vec![true; batch.len()];
        for (place, found) in changed {
            as_before[place] = false;
            let outcome = match found {
                Ok((fingerprint, admission)) => judge(sessions, &batch[place], fingerprint, admission, now),
                Err(error) => {
                    tracing::warn!(user = batch[place].user.0, %error, "a user's rights cannot be read");
                    "unreadable"
                }
            };
            count(sessions, outcome, 1);
        }
        count(sessions, "as_before", as_before.iter().filter(|as_before| **as_before).count());
        for ((venue, user, judged), _) in known.into_iter().zip(as_before).filter(|(_, as_before)| *as_before) {
            if let Some(grant) = judged.and_then(|judged| grants.renew(venue, user, judged)) {
                sessions.entrance.directory.learn(Arc::clone(&grant.person));
            }
        }
    }
}

fn count(sessions: &Sessions, outcome: &str, number: usize) {
    sessions.metrics.rights_checked_total.with_label_values(&[outcome]).inc_by(number as u64);
}

/// Does what is to be done about rights that are new, and says what that was.
fn judge(
    sessions: &Sessions,
    member: &Member,
    fingerprint: Fingerprint,
    admission: Admission,
    now: Micros,
) -> &'static str {
    // First, so that a seat which is taken right now has it forgotten again.
    match admission.account.as_ref().is_some_and(|account| Trust::grows(account.date_joined, now)) {
        true => member.judged.forget(), // trust comes with time alone, of which no row tells
        false => member.judged.set(fingerprint.0),
    }
    match Grant::judge(admission, now) {
        Ok(grant) => {
            let grant = sessions.access.grants().remember(member.venue, member.user, grant, fingerprint);
            sessions.entrance.directory.learn(Arc::clone(&grant.person));
            for topic in member.also.all().into_iter().chain([member.topic]) {
                sessions.hub.hide(topic, member.connection, &grant.hidden);
            }
            "changed"
        }
        // A presence socket is in no room; the account is in order.
        Err(Denied::NotFound) if member.venue == Venue::App => "changed",
        Err(denied) => {
            sessions.access.grants().forget(member.room, Some(member.user));
            member.outbox.close(closes(&denied));
            "lost"
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
