//! What presence sockets are sent: changes at most once a second each, and the comparing that finds missed ones.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Sessions;
use crate::domain::{RoomId, UserId};
use crate::hub::Watcher;
use crate::lifecycle::Lifecycle;
use crate::wire::event;

/// How often those who were sent something a moment ago are looked at again.
const TICK: Duration = Duration::from_millis(100);
/// How often all watched numbers are compared with Redis: an announcement may have been missed, and nobody announces
/// those whose instance died.
const COMPARE_EVERY: Duration = Duration::from_secs(10);

/// Sends what has changed until the process stops.
pub async fn beat(sessions: Arc<Sessions>, lifecycle: Lifecycle) {
    let pulse = Arc::clone(sessions.hub.pulse());
    let mut waiting: Vec<Arc<Watcher>> = Vec::new();
    loop {
        if waiting.is_empty() {
            tokio::select! {
                () = lifecycle.aborted() => return,
                due = pulse.take() => waiting = due,
            }
        } else {
            tokio::select! {
                () = lifecycle.aborted() => return,
                () = tokio::time::sleep(TICK) => waiting.extend(pulse.take_now()),
            }
        }
        let now = Instant::now();
        let mut unread = Vec::new();
        waiting.retain(|watcher| match watcher.flush(now) {
            Ok(rooms) if rooms.is_empty() => false,
            Ok(rooms) => {
                unread.push((Arc::clone(watcher), rooms));
                false
            }
            Err(_too_early) => true,
        });
        if !unread.is_empty() {
            let of_task = Arc::clone(&sessions);
            lifecycle.spawn(async move { tell_unread(&of_task, unread).await });
        }
    }
}

/// Counts what is unread for many sockets with one query, and tells each its part.
async fn tell_unread(sessions: &Sessions, wanted: Vec<(Arc<Watcher>, Vec<RoomId>)>) {
    let pairs: Vec<(UserId, RoomId)> =
        wanted.iter().flat_map(|(watcher, rooms)| rooms.iter().map(|room| (watcher.user, *room))).collect();
    let counted = match sessions.commands.store.unread(&pairs).await {
        Ok(counted) => counted,
        Err(error) => {
            tracing::debug!(%error, "unread messages were not counted, trying again");
            for (watcher, rooms) in wanted {
                watcher.note_unread(rooms);
            }
            return;
        }
    };
    let counted: HashMap<_, _> = counted.into_iter().map(|unread| ((unread.user, unread.room), unread)).collect();
    for (watcher, rooms) in wanted {
        let (mut of_rooms, mut of_threads) = (Vec::new(), Vec::new());
        for unread in rooms.iter().filter_map(|room| counted.get(&(watcher.user, *room))) {
            match unread.thread {
                Some(thread) => of_threads.push((thread, unread.count)),
                None => of_rooms.push((unread.room, unread.count)),
            }
        }
        watcher.send(&event::unread(&of_rooms, &of_threads));
    }
}

/// Compares all watched numbers with Redis from time to time, until the process stops.
pub async fn compare(sessions: Arc<Sessions>, lifecycle: Lifecycle) {
    loop {
        tokio::select! {
            () = lifecycle.stopping() => return,
            () = tokio::time::sleep(COMPARE_EVERY) => {}
        }
        if let Err(error) = sessions.settle(&sessions.hub.counted()).await {
            tracing::debug!(%error, "watched numbers were not compared");
        }
    }
}
