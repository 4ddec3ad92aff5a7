//! The end of all sessions, paced: clients hear when to come back, and do not come back all at once.

use std::time::Duration;

use super::Sessions;
use crate::socket::{Class, Frame};
use crate::wire::event;

/// Closes in one step.
const STEP: usize = 128;

/// Tells every client to come back after a delay of its own, closes all within about half of `limit`, and waits for
/// them to end, at most `limit`. Returns how many are left.
pub async fn drain(sessions: &Sessions, limit: Duration) -> usize {
    sessions.open.close();
    let members = sessions.hub.members().all();
    let spread = limit / 2;
    let steps = members.len().div_ceil(STEP).max(1);
    tracing::info!(sessions = members.len(), "draining");
    let ending = async {
        for batch in members.chunks(STEP) {
            for member in batch {
                let delay =
                    Duration::from_millis(rand::random_range(200..=1_000 + spread.as_millis().min(30_000) as u64));
                let _ = member.outbox.push(&Frame::text(&event::reconnect(delay, "drain")), Class::Message);
                member.outbox.go_away();
            }
            if steps > 1 {
                tokio::time::sleep(spread / u32::try_from(steps).unwrap_or(u32::MAX)).await;
            }
        }
        sessions.open.wait().await;
    };
    let _ = tokio::time::timeout(limit, ending).await;
    sessions.open.len()
}
