//! Orders from Django and from operators, obeyed for the members of this instance.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{Sessions, warden};
use crate::bus::control::Detail;
use crate::bus::{Control, Orders};
use crate::domain::{Decision, MessageId, RoomId, ThreadId, Topic};
use crate::hub::Member;
use crate::lifecycle::Lifecycle;
use crate::socket::{Class, Frame};
use crate::telemetry::follow::{self, Followed};
use crate::wire::{Close, event};

/// How many are told something before others have their turn.
const PART: usize = 1_024;

/// What is not for sessions: whoever knows about it does it.
pub enum Errand {
    /// Answer an operator's question.
    Answer(Question),
    /// Read again what can be changed while the process runs.
    Reload,
}

/// A question of an operator to all instances.
pub struct Question {
    /// Names the answers.
    pub id: Uuid,
    /// The one instance that is asked, unless all are.
    pub instance: Option<String>,
    /// What is asked.
    pub question: Value,
}

/// Decisions of humans that may wait.
const DECISIONS: usize = 1_024;

/// Obeys orders as they come, until the process stops. Decisions wait for locked rows and for other instances, so they
/// have a queue of their own: a ban does not wait behind them.
///
/// Errands go on to whoever does them; when that is behind, they are dropped.
pub async fn obey(sessions: Arc<Sessions>, orders: Orders, errands: mpsc::Sender<Errand>, lifecycle: Lifecycle) {
    let (decisions, decided) = mpsc::channel(DECISIONS);
    let Orders { mut queue, mut replaced } = orders;
    let obeying = async {
        while let Some(order) = queue.next().await {
            let what = format!("{order:?}");
            let errand = match order {
                Control::Ask { id, instance, question } => Errand::Answer(Question { id, instance, question }),
                Control::Reload => Errand::Reload,
                order => {
                    follow(&sessions, order, &decisions).await;
                    tracing::info!(order = what, "an order is obeyed");
                    continue;
                }
            };
            if errands.try_send(errand).is_err() {
                tracing::error!(order = what, "an order is dropped: too many wait");
                sessions.metrics.bus_dropped_total.inc();
            }
        }
    };
    // As frequent as returns: not worth a line on every instance.
    let replacing = async {
        while let Some(socket) = replaced.recv().await {
            if let Some(member) = sessions.hub.members().get(socket) {
                member.outbox.close(Close::REPLACED);
            }
        }
    };
    tokio::select! {
        () = lifecycle.aborted() => {}
        _ = async { tokio::join!(obeying, replacing) } => {}
        () = decide(&sessions, decided) => {}
    }
}

/// Tells of decisions, one after the other.
async fn decide(sessions: &Sessions, mut decided: mpsc::Receiver<(MessageId, Decision)>) {
    while let Some((message, decision)) = decided.recv().await {
        sessions.commands.decide(message, decision).await;
    }
}

async fn follow(sessions: &Sessions, order: Control, decisions: &mpsc::Sender<(MessageId, Decision)>) {
    let members = sessions.hub.members();
    match order {
        Control::Disconnect { user } => {
            sessions.access.grants().forget(None, Some(user));
            sessions.tickets.returns.revoke(user, None).await; // first, or who is closed comes back with one
            end(members.of(user), Close::SESSION_ENDED);
        }
        Control::Logout { user, session_version } => {
            // A login that was bound to no version is older than any logout.
            let older = |member: &Arc<Member>| member.session_version.is_none_or(|version| version < session_version);
            sessions.tickets.returns.revoke(user, Some(session_version)).await;
            end(members.of(user).into_iter().filter(older), Close::SESSION_ENDED);
        }
        Control::Kick { room, user } => {
            sessions.access.grants().forget(Some(room), Some(user));
            let there = |member: &Arc<Member>| member.room == Some(room);
            for watcher in members.of(user).iter().filter_map(|member| member.watcher.as_ref()) {
                watcher.unwatch(&[Topic::Room(room)]);
            }
            end(members.of(user).into_iter().filter(there), Close::FORBIDDEN);
        }
        Control::Refresh { room, user, thread } => {
            match thread {
                Some(thread) => sessions.access.grants().forget_conversation(thread, user),
                None => sessions.access.grants().forget(room, user),
            }
            let concerned = match user {
                Some(user) => members.of(user),
                None => members.all(),
            };
            let there = |member: &Arc<Member>| concerns((room, thread), (member.room, member.topic));
            if thread.is_none() {
                warden::check_watched(sessions, &concerned, room).await; // conversations are not watched
            }
            warden::check(sessions, concerned.into_iter().filter(there).collect()).await;
        }
        Control::CatchUp => {
            sessions.access.grants().forget(None, None);
            sessions.commands.moderator.reload().await;
            let all = members.all();
            warden::check_versions(sessions, &all).await;
            warden::check_watched(sessions, &all, None).await;
            warden::check_seen(sessions, &all).await;
            warden::check(sessions, all).await;
        }
        Control::BlockChanged { users } => {
            for user in &users {
                sessions.access.grants().forget(None, Some(*user));
            }
            let concerned: Vec<_> = users.into_iter().flat_map(|user| members.of(user)).collect();
            warden::check_seen(sessions, &concerned).await;
            warden::check(sessions, concerned).await;
        }
        Control::RoomChanged { room } => {
            sessions.access.grants().forget(Some(room), None);
            let there = |member: &Arc<Member>| member.room == Some(room);
            let all = members.all();
            warden::check_watched(sessions, &all, Some(room)).await;
            let present: Vec<_> = all.into_iter().filter(there).collect();
            warden::check(sessions, present.clone()).await;
            warden::tell_room(sessions, room, &present).await;
        }
        Control::Notice { room, text } => {
            let frame = Frame::text(&event::notice(&text.0, room));
            let told = |member: &&Arc<Member>| room.is_none_or(|room| member.room == Some(room));
            for part in members.all().chunks(PART) {
                for member in part.iter().filter(told) {
                    let _ = member.outbox.push(&frame, Class::Message);
                }
                tokio::task::yield_now().await;
            }
        }
        Control::Follow { user, room, level } => {
            let level = match level {
                Detail::Off => None,
                Detail::Debug => Some(tracing::Level::DEBUG),
                Detail::Trace => Some(tracing::Level::TRACE),
            };
            let followed = user.map(Followed::User).into_iter().chain(room.map(Followed::Place));
            followed.for_each(|followed| follow::follow(followed, level, follow::LENGTH));
        }
        Control::Ask { .. } | Control::Reload | Control::Replaced { .. } => {} // went on before, or come by another queue
        Control::Moderation { message, decision } => {
            if decisions.try_send((message, decision)).is_err() {
                tracing::error!(%message, "too many decisions wait: one was dropped");
                sessions.metrics.bus_dropped_total.inc();
            }
        }
    }
}

/// Whether an order about a room, a conversation or both concerns who is in a room under a topic.
fn concerns(order: (Option<RoomId>, Option<ThreadId>), member: (Option<RoomId>, Topic)) -> bool {
    order.0.is_none_or(|room| member.0 == Some(room)) && order.1.is_none_or(|thread| member.1 == Topic::Dm(thread))
}

fn end(members: impl IntoIterator<Item = Arc<Member>>, close: Close) {
    for member in members {
        member.outbox.close(close);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn an_order_about_a_conversation_concerns_nobody_else() {
        let (room, other) = (RoomId(Uuid::from_u128(1)), RoomId(Uuid::from_u128(2)));
        let (thread, another) = (ThreadId(Uuid::from_u128(3)), ThreadId(Uuid::from_u128(4)));
        let there = (Some(room), Topic::Dm(thread));
        assert!(concerns((None, None), there) && concerns((None, Some(thread)), there));
        assert!(concerns((Some(room), Some(thread)), there) && concerns((Some(room), None), there));
        assert!(!concerns((None, Some(another)), there) && !concerns((Some(other), Some(thread)), there));
        assert!(!concerns((None, Some(thread)), (Some(room), Topic::Room(room))));
        assert!(!concerns((None, Some(thread)), (Some(room), Topic::Thread(thread))));
    }
}
