//! Blocks in rooms: two who share one do not exist for each other, live, in the state and in history.

use serde_json::{Value, json};

use crate::support::{RoomSpec, Stack};

fn contents(messages: &Value) -> Vec<&str> {
    messages.as_array().unwrap().iter().map(|message| message["content"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_blocked_and_who_is_blocked_do_not_see_each_other() {
    let stack = Stack::start().await;
    let (one, two) = (stack.gateway().start().await, stack.gateway().start().await);
    let room = stack.room(RoomSpec::default()).await;
    let (ada, eve, grace) = (stack.user("ada").await, stack.user("eve").await, stack.user("grace").await);
    stack.block(&ada, &eve).await;

    let mut g = one.enter(&room, &grace).await;
    let mut a = one.enter(&room, &ada).await;
    let mut e = two.enter(&room, &eve).await;
    let eves = eve.id.to_string();
    g.wait_until("eve's join", |event| event["event"] == "user_joined" && event["userId"] == *eves).await;

    e.send(json!({"type": "typing", "is_typing": true})).await;
    e.send(json!({"type": "send_message", "content": "of eve"})).await;
    let of_eve = g.wait_for("new_message").await;
    a.send(json!({"type": "send_message", "content": "of ada"})).await;
    g.wait_for("new_message").await;
    g.send(json!({"type": "send_message", "content": "to eve", "reply_to_id": of_eve["message"]["id"]})).await;
    assert_eq!(g.wait_for("new_message").await["message"]["replyTo"]["content"], "of eve");

    // Everything of eve's came before grace's answer, and in it eve's words are left out for ada.
    let seen = a.events_until("new_message").await;
    assert!(seen.iter().all(|event| event["userId"] != *eves), "{seen:?}");
    assert_eq!(seen.last().unwrap()["message"]["content"], "of ada");
    let answer = a.wait_for("new_message").await;
    assert_eq!((&answer["message"]["content"], &answer["message"]["replyTo"]), (&json!("to eve"), &Value::Null));
    let seen = e.events_until("new_message").await;
    assert_eq!(seen.last().unwrap()["message"]["content"], "of eve");
    let answer = e.wait_for("new_message").await;
    assert_eq!(answer["message"]["content"], "to eve", "ada's message is not for eve");

    let mut again = two.dial(&room.path()).token(&stack.token(&ada).await).connect().await;
    let state = again.expect_event("room_state").await;
    assert_eq!(contents(&state["messages"]), ["of ada", "to eve"]);
    assert_eq!(state["messages"][1]["replyTo"], Value::Null);
    assert!(state["onlineUsers"].as_array().unwrap().iter().all(|user| user["userId"] != *eves));
    again.send(json!({"type": "request_history"})).await;
    assert_eq!(contents(&again.wait_for("message_history").await["messages"]), ["of ada", "to eve"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_block_works_at_once_when_django_says_so() {
    let stack = Stack::start().await;
    let (one, two) = (stack.gateway().start().await, stack.gateway().start().await);
    let room = stack.room(RoomSpec::default()).await;
    let (ada, eve) = (stack.user("ada").await, stack.user("eve").await);
    let mut a = one.enter(&room, &ada).await;
    let mut e = two.enter(&room, &eve).await;
    e.send(json!({"type": "send_message", "content": "before"})).await;
    a.wait_for("new_message").await;
    e.wait_for("new_message").await;

    stack.block(&ada, &eve).await;
    let order = json!({"action": "block_changed", "users": [ada.id.to_string(), eve.id.to_string()]});
    redis::cmd("PUBLISH")
        .arg("community:control")
        .arg(order.to_string())
        .exec_async(&mut stack.redis().await)
        .await
        .unwrap();
    for gateway in [&one, &two] {
        gateway.wait_for_log("an order is obeyed").await;
    }
    e.send(json!({"type": "send_message", "content": "after"})).await;
    e.wait_for("new_message").await;
    a.send(json!({"type": "send_message", "content": "mine"})).await;
    assert_eq!(a.wait_for("new_message").await["message"]["content"], "mine", "eve's is not seen");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_hidden_wrote_cannot_be_touched_by_a_remembered_id() {
    let stack = Stack::start().await;
    let (one, two) = (stack.gateway().start().await, stack.gateway().start().await);
    let room = stack.room(RoomSpec::default()).await;
    let (ada, eve, grace) = (stack.user("ada").await, stack.user("eve").await, stack.user("grace").await);
    stack.member(&room, &ada, "moderator").await;
    let secret = stack.messages(&room, &eve, 1).await[0];
    stack.block(&eve, &ada).await;
    let mut a = one.enter(&room, &ada).await;
    let mut g = two.enter(&room, &grace).await;
    for kind in ["add_reaction", "remove_reaction", "pin_message", "edit_message"] {
        a.send(json!({"type": kind, "message_id": secret, "emoji": "👍", "content": "x"})).await;
        let error = a.wait_for("error").await;
        assert_eq!((&error["code"], &error["requestType"]), (&json!("message_not_found"), &json!(kind)));
    }
    // An answer to it is a message that answers nothing, to everybody.
    a.send(json!({"type": "send_message", "content": "an answer", "reply_to_id": secret})).await;
    for client in [&mut a, &mut g] {
        let message = client.wait_for("new_message").await["message"].clone();
        assert_eq!((&message["replyTo"], &message["replyToId"]), (&Value::Null, &Value::Null));
    }
    // What others do to it is not told to her, but for its end.
    g.send(json!({"type": "add_reaction", "message_id": secret, "emoji": "🎉"})).await;
    g.wait_for("reaction_updated").await;
    a.send(json!({"type": "delete_message", "message_id": secret})).await;
    g.wait_for("message_deleted").await;
    let seen = a.events_until("message_deleted").await;
    assert!(seen.iter().all(|event| event["event"] != "reaction_updated"), "a block shields nobody: {seen:?}");
}
