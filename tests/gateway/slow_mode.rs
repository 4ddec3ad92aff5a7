//! Slow mode: one message a user and so many seconds, whatever the instance.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{RoomSpec, Stack};

/// Sends of one user at the same moment, from two sockets on each of two instances. Says what became of them.
async fn rush(stack: &Stack, role: &str, seconds: i32) -> Vec<Value> {
    let (one, two) = (stack.gateway().start().await, stack.gateway().start().await);
    let room = stack.room(RoomSpec { slow_mode_seconds: seconds, ..RoomSpec::default() }).await;
    let user = stack.user("ada").await;
    stack.member(&room, &user, role).await;
    let mut tabs = Vec::new();
    for gateway in [&one, &two, &one, &two] {
        tabs.push(gateway.enter(&room, &user).await);
    }
    let sends = tabs.iter_mut().enumerate().map(|(number, tab)| async move {
        let id = number.to_string();
        tab.send(json!({"type": "send_message", "content": "hello", "client_id": id})).await;
        tab.wait_until("an outcome", |event| event["clientId"] == id && event["event"] != "new_message").await
    });
    let outcomes = join_all(sends).await;
    let stored: i64 = sqlx::query_scalar("SELECT count(*) FROM community_message").fetch_one(stack.db()).await.unwrap();
    let acks = outcomes.iter().filter(|outcome| outcome["event"] == "message_ack").count();
    assert_eq!(i64::try_from(acks).unwrap(), stored, "{outcomes:?}");
    outcomes
}

#[tokio::test(flavor = "multi_thread")]
async fn of_sends_at_the_same_moment_on_two_instances_one_passes() {
    let stack = Stack::start().await;
    let outcomes = rush(&stack, "member", 300).await;
    let (passed, refused): (Vec<_>, Vec<_>) = outcomes.iter().partition(|outcome| outcome["event"] == "message_ack");
    assert_eq!((passed.len(), refused.len()), (1, 3), "{outcomes:?}");
    for refusal in refused {
        assert_eq!(refusal["code"], "slow_mode", "{refusal}");
        let left = refusal["retryAfter"].as_f64().unwrap();
        // Ada is new: twice the room's seconds, less what has passed.
        assert!(left > 300.0 && left <= 600.0, "{refusal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_trusted_is_not_slowed() {
    let stack = Stack::start().await;
    let outcomes = rush(&stack, "trusted", 300).await;
    assert!(outcomes.iter().all(|outcome| outcome["event"] == "message_ack"), "{outcomes:?}");
}
