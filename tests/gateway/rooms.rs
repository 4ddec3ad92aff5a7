//! Rooms: the conversation itself, across instances.

use serde_json::{Value, json};

use crate::support::{RoomSpec, Stack};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_reaches_everybody_on_both_instances() {
    let stack = Stack::start().await;
    let (one, two) = (stack.gateway().start().await, stack.gateway().start().await);
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);

    let mut a = one.enter(&room, &ada).await;
    let mut b = two.enter(&room, &grace).await;
    a.send(json!({"type": "send_message", "content": "  hello \n"})).await;
    let seen: Value = b.wait_for("new_message").await;
    assert_eq!(seen["message"]["content"], "hello");
    assert_eq!(seen["message"]["author"]["id"], ada.id.to_string());
    assert_eq!(seen, a.wait_for("new_message").await, "one order, one text, for the sender too");
}
