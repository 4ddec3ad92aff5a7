//! The end of all sessions, paced: clients hear when to come back, and do not come back all at once.

use std::time::Duration;

use super::Sessions;
use crate::socket::{Class, Frame};
use crate::wire::event;

/// Closes in one step.
const STEP: usize = 128;

/// The shortest time to come back after, and the shortest over which those of one step are spread.
const DELAY: Duration = Duration::from_millis(200);
const SPREAD: Duration = Duration::from_secs(1);
/// The longest: who is away longer is missed.
const LONGEST: Duration = Duration::from_secs(5);

/// Tells every client to come back after a delay of its own, closes all within about half of `limit`, and waits for
/// them to end, at most `limit`. Returns how many are left.
///
/// The closes are spread already, so that the delays only spread the clients of one step until the next.
pub async fn drain(sessions: &Sessions, limit: Duration) -> usize {
    sessions.open.close();
    // Only who they are: a list of members would keep their sockets open until the last has gone.
    let members = sessions.hub.members().keys();
    let spread = limit / 2;
    let steps = members.len().div_ceil(STEP).max(1);
    let pause = spread / u32::try_from(steps).unwrap_or(u32::MAX);
    tracing::info!(sessions = members.len(), "draining");
    let ending = async {
        for batch in members.chunks(STEP) {
            for member in batch.iter().filter_map(|key| sessions.hub.members().get(*key)) {
                let delay = DELAY + pause.clamp(SPREAD, LONGEST).mul_f64(rand::random());
                let _ = member.outbox.push(&Frame::text(&event::reconnect(delay, "drain")), Class::Message);
                member.outbox.go_away();
            }
            if steps > 1 {
                tokio::time::sleep(pause).await;
            }
        }
        sessions.open.wait().await;
    };
    let _ = tokio::time::timeout(limit, ending).await;
    sessions.open.len()
}
