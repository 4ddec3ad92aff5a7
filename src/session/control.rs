//! Orders from Django, obeyed for the members of this instance.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Sessions, warden};
use crate::bus::Control;
use crate::domain::Topic;
use crate::hub::Member;
use crate::lifecycle::Lifecycle;
use crate::wire::Close;

/// Obeys orders as they come, until the process stops.
pub async fn obey(sessions: Arc<Sessions>, mut orders: mpsc::Receiver<Control>, lifecycle: Lifecycle) {
    loop {
        let order = tokio::select! {
            () = lifecycle.aborted() => return,
            order = orders.recv() => order,
        };
        let Some(order) = order else { return };
        let what = format!("{order:?}");
        follow(&sessions, order).await;
        tracing::info!(order = what, "an order from Django is obeyed");
    }
}

async fn follow(sessions: &Sessions, order: Control) {
    let members = sessions.hub.members();
    match order {
        Control::Disconnect { user } => {
            sessions.access.grants().forget(None, Some(user));
            end(members.of(user), Close::SESSION_ENDED);
        }
        Control::Logout { user, session_version } => {
            // A login that was bound to no version is older than any logout.
            let older = |member: &Member| member.session_version.is_none_or(|version| version < session_version);
            end(members.of(user).into_iter().filter(older), Close::SESSION_ENDED);
        }
        Control::Kick { room, user } => {
            sessions.access.grants().forget(Some(room), Some(user));
            let there = |member: &Member| member.room == Some(room);
            for watcher in members.of(user).iter().filter_map(|member| member.watcher.as_ref()) {
                watcher.unwatch(&[Topic::Room(room)]);
            }
            end(members.of(user).into_iter().filter(there), Close::FORBIDDEN);
        }
        Control::Refresh { room, user } => {
            sessions.access.grants().forget(room, user);
            let concerned = match user {
                Some(user) => members.of(user),
                None => members.all(),
            };
            let there = |member: &Member| room.is_none_or(|room| member.room == Some(room));
            warden::check_watched(sessions, &concerned, room).await;
            warden::check(sessions, concerned.into_iter().filter(there).collect()).await;
        }
        Control::BlockChanged { users } => {
            for user in &users {
                sessions.access.grants().forget(None, Some(*user));
            }
            warden::check(sessions, users.into_iter().flat_map(|user| members.of(user)).collect()).await;
        }
        Control::RoomChanged { room } => {
            sessions.access.grants().forget(Some(room), None);
            let there = |member: &Member| member.room == Some(room);
            let all = members.all();
            warden::check_watched(sessions, &all, Some(room)).await;
            let present: Vec<_> = all.into_iter().filter(there).collect();
            warden::check(sessions, present.clone()).await;
            warden::tell_room(sessions, room, &present).await;
        }
    }
}

fn end(members: impl IntoIterator<Item = Member>, close: Close) {
    for member in members {
        member.outbox.close(close);
    }
}
