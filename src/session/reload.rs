//! A fresh state for those who are in and to whom something was lost: a gap that nobody can fill, a log that began anew
//! while nobody listened.
//!
//! They get `resumed` with `recovered: false` and the state that a newcomer gets, on the socket that they have. A client
//! that knows the state event takes it as it did at the beginning.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::resume::not_recovered;
use super::{Sessions, warden};
use crate::access::{Denied, Grant};
use crate::command::{EnterError, Untold};
use crate::domain::Topic;
use crate::hub::Member;
use crate::lifecycle::Lifecycle;
use crate::socket::Frame;
use crate::wire::event::Place;

/// How many states are read at once. Those of one topic share what they read.
const AT_ONCE: usize = 64;
/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// A place before everything.
const NOTHING: Place = Place { epoch: 0, offset: 0 };

/// Why somebody does not get a state now.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    Enter(#[from] EnterError),
    #[error(transparent)]
    Rights(#[from] Denied),
}

/// Gives states to those who need one until the process stops delivering.
pub async fn reload(sessions: Arc<Sessions>, lifecycle: Lifecycle) {
    let reloading = async {
        loop {
            for topic in sessions.hub.lost().await {
                if let Err(error) = reload_topic(&sessions, topic).await {
                    tracing::warn!(%topic, %error, "a state is needed and cannot be told now");
                    tokio::time::sleep(RETRY).await;
                    sessions.hub.lose(topic);
                }
            }
        }
    };
    tokio::select! {
        () = lifecycle.aborted() => {}
        () = reloading => {}
    }
}

async fn reload_topic(sessions: &Sessions, topic: Topic) -> Result<(), ReloadError> {
    loop {
        let strays = sessions.hub.strays(topic, AT_ONCE);
        if strays.is_empty() {
            return Ok(());
        }
        let mut members = Vec::with_capacity(strays.len());
        for (connection, user) in strays {
            match sessions.hub.members().of(user).into_iter().find(|member| member.connection == connection) {
                Some(member) => members.push(member),
                None => sessions.hub.restore(topic, connection, NOTHING, &[]), // about to leave
            }
        }
        warden::check(sessions, members.clone()).await; // with one query, and remembered
        for result in join_all(members.iter().map(|member| restore(sessions, topic, member))).await {
            result?;
        }
    }
}

async fn restore(sessions: &Sessions, topic: Topic, member: &Member) -> Result<(), ReloadError> {
    let grant: Arc<Grant> = match sessions.access.grants().of(member.venue, member.user).await {
        Ok(grant) => grant,
        Err(Denied::Unavailable(error)) => return Err(Denied::Unavailable(error).into()),
        Err(_) => {
            sessions.hub.restore(topic, member.connection, NOTHING, &[]); // closed a moment ago
            return Ok(());
        }
    };
    let (after, events) = match topic {
        Topic::Thread(thread) => match sessions.entrance.open_thread(&grant, thread).await? {
            Some((after, state)) => (after, vec![not_recovered(Some(thread), Untold::Gap, after), state]),
            None => {
                sessions.hub.restore(topic, member.connection, NOTHING, &[]); // the thread is gone
                return Ok(());
            }
        },
        _ => {
            let opening = sessions.entrance.state(member.venue, &grant).await?;
            let head = not_recovered(None, Untold::Gap, opening.after);
            (opening.after, std::iter::once(head).chain(opening.events).collect())
        }
    };
    let frames: Vec<_> = events.iter().map(|event| Frame::text(event)).collect();
    sessions.hub.restore(topic, member.connection, after, &frames);
    sessions.metrics.resumes_total.with_label_values(&["pushed"]).inc();
    Ok(())
}
