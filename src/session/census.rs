//! `community_room.online_count`, which Django's pages show: follows presence lazily, so that joining and leaving cost
//! Postgres nothing.

use std::sync::Arc;
use std::time::Duration;

use super::Sessions;
use crate::domain::RoomId;
use crate::lifecycle::Lifecycle;

/// How often it is looked whether rooms are due.
const TICK: Duration = Duration::from_secs(1);

/// Writes the numbers of rooms that are due until the process stops. First of all, rooms are noted whose number was left
/// behind by whoever ran before.
pub async fn census(sessions: Arc<Sessions>, lifecycle: Lifecycle) {
    let mut behind = true;
    loop {
        tokio::select! {
            () = lifecycle.stopping() => return,
            () = tokio::time::sleep(TICK) => {}
        }
        if behind {
            match sessions.commands.store.rooms_online().await {
                Ok(rooms) => {
                    sessions.entrance.presence.note(rooms);
                    behind = false;
                }
                Err(error) => tracing::debug!(%error, "rooms with somebody online were not found, trying again"),
            }
        }
        count(&sessions).await;
    }
}

/// Counts what is due. What fails is due again by itself.
async fn count(sessions: &Sessions) {
    let presence = &sessions.entrance.presence;
    let due = match presence.due().await {
        Ok(due) => due,
        Err(error) => {
            tracing::debug!(%error, "rooms were not counted");
            return;
        }
    };
    if due.is_empty() {
        return;
    }
    match sessions.commands.store.count_online(&due).await {
        Ok(busy) => {
            let empty = due.iter().filter(|(room, online)| *online == 0 && !busy.contains(room));
            let empty: Vec<RoomId> = empty.map(|(room, _)| *room).collect();
            if let Err(error) = presence.forget_empty(&empty).await {
                tracing::debug!(%error, "empty rooms are counted once more");
            }
        }
        Err(error) => tracing::debug!(%error, "numbers online were not written"),
    }
}
