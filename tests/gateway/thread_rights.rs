//! Who may do what with threads: every role, every verb, in rooms of every kind; what archiving does.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::dm::{conversation, path};
use crate::support::{RoomSpec, Stack, TestClient, TestRoom, UserSpec};

const VERBS: [(&str, &str); 7] = [
    ("create_thread", "thread_created"),
    ("open_thread", "thread_state"),
    ("request_history", "message_history"),
    ("lock_thread", "thread_updated"),
    ("unlock_thread", "thread_updated"),
    ("archive_thread", "thread_updated"),
    ("unarchive_thread", "thread_updated"),
];

const OK: &str = "ok";
const NO: &str = "not_allowed";
const MUTE: &str = "cannot_send";
const SHUT: &str = "room_archived";

/// What becomes of the verbs, in their order.
type Row = [&'static str; 7];

const MODERATES: Row = [OK; 7];
const WRITES: Row = [OK, OK, OK, NO, NO, NO, NO];
const MUTED: Row = [MUTE, OK, OK, NO, NO, NO, NO];
const ARCHIVED: Row = [SHUT, OK, OK, SHUT, SHUT, SHUT, SHUT];

/// Roles (`none` has no membership, `staff` is Django's) and what they may do.
const PUBLIC: [(&str, Row); 8] = [
    ("owner", MODERATES),
    ("admin", MODERATES),
    ("moderator", MODERATES),
    ("staff", MODERATES),
    ("trusted", WRITES),
    ("member", WRITES),
    ("none", WRITES),
    ("muted", MUTED),
];

/// A thread as Django may have made it.
async fn thread(stack: &Stack, room: &TestRoom) -> Uuid {
    let insert = "INSERT INTO community_thread (id, title, is_locked, is_pinned, is_resolved, message_count, \
                      is_archived, created_at, updated_at, room_id) \
                  VALUES (gen_random_uuid(), 'n', false, false, false, 0, false, now(), now(), $1) RETURNING id";
    sqlx::query_scalar(insert).bind(room.id).fetch_one(stack.db()).await.unwrap()
}

/// A thread's columns that the verbs change.
async fn picture(stack: &Stack, thread: Uuid) -> (bool, bool) {
    let columns = "SELECT is_locked, is_archived FROM community_thread WHERE id = $1";
    sqlx::query_as(columns).bind(thread).fetch_one(stack.db()).await.unwrap()
}

/// Tries all verbs, one after the other, and tells where the outcome is not what the row says.
async fn try_verbs(stack: &Stack, client: &mut TestClient, thread: Uuid, row: Row) -> Vec<String> {
    let mut wrong = Vec::new();
    for ((verb, event), expected) in VERBS.into_iter().zip(row) {
        let before = picture(stack, thread).await;
        client.send(json!({"type": verb, "thread_id": thread})).await;
        let said = client.wait_until("an outcome", |said| said["event"] == event || said["event"] == "error").await;
        let outcome = said["code"].as_str().unwrap_or(OK);
        if outcome != expected {
            wrong.push(format!("{verb}: {outcome}, not {expected}"));
        }
        let expected = match verb {
            _ if outcome != OK => before,
            "lock_thread" => (true, before.1),
            "unlock_thread" => (false, before.1),
            "archive_thread" => (before.0, true),
            "unarchive_thread" => (before.0, false),
            _ => before,
        };
        let after = picture(stack, thread).await;
        assert_eq!(after, expected, "{verb}: {said}");
        if event == "thread_updated" && outcome == OK {
            let told = (&said["thread"]["isLocked"], &said["thread"]["isArchived"]);
            assert_eq!(told, (&json!(after.0), &json!(after.1)), "{said}");
        }
    }
    wrong
}

async fn compare(spec: RoomSpec, table: impl IntoIterator<Item = (&'static str, Row)>) {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let room = stack.room(spec).await;
    let mut wrong = Vec::new();
    for (role, row) in table {
        let user = stack.user_with(role, UserSpec { staff: role == "staff", ..UserSpec::default() }).await;
        if !["none", "staff"].contains(&role) {
            stack.member(&room, &user, role).await;
        }
        let thread = thread(&stack, &room).await;
        let mut client = gateway.enter(&room, &user).await;
        let faults = try_verbs(&stack, &mut client, thread, row).await;
        wrong.extend(faults.into_iter().map(|fault| format!("{role}: {fault}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_role_and_every_verb_of_threads_in_a_public_room() {
    compare(RoomSpec::default(), PUBLIC).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_role_and_every_verb_of_threads_in_a_private_room() {
    let inside = PUBLIC.into_iter().filter(|(role, _)| !["none", "staff"].contains(role));
    compare(RoomSpec { visibility: "private", ..RoomSpec::default() }, inside).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_role_and_every_verb_of_threads_in_an_archived_room() {
    compare(RoomSpec { archived: true, ..RoomSpec::default() }, PUBLIC.map(|(role, _)| (role, ARCHIVED))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_has_no_threads() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let (dm, room) = conversation(&stack, &[&ada, &grace]).await;
    let thread = thread(&stack, &room).await;
    let mut client = gateway.dial(&path(dm)).token(&stack.token(&ada).await).connect().await;
    client.expect_event("dm_state").await;
    let wrong = try_verbs(&stack, &mut client, thread, [NO, NO, OK, NO, NO, NO, NO]).await;
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Whether a thread's state says that it is archived.
async fn is_archived(client: &mut TestClient, thread: Uuid) -> Value {
    client.send(json!({"type": "open_thread", "thread_id": thread})).await;
    client.wait_for("thread_state").await["thread"]["isArchived"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn archiving_is_told_once_and_in_force_until_it_is_undone() {
    let stack = Stack::start().await;
    let (one, two) = (stack.gateway().start().await, stack.gateway().start().await);
    let (room, judge, ada) =
        (stack.room(RoomSpec::default()).await, stack.user("judge").await, stack.user("ada").await);
    stack.member(&room, &judge, "moderator").await;
    let thread = thread(&stack, &room).await;
    let (mut j, mut a) = (one.enter(&room, &judge).await, two.enter(&room, &ada).await);
    let archive = json!({"type": "archive_thread", "thread_id": thread});
    let unarchive = json!({"type": "unarchive_thread", "thread_id": thread});
    let say = json!({"type": "send_message", "thread_id": thread, "content": "late", "client_id": "late"});

    j.send(archive.clone()).await;
    let told = a.wait_for("thread_updated").await;
    assert_eq!(j.wait_for("thread_updated").await, told);
    assert_eq!((&told["thread"]["isArchived"], &told["thread"]["id"]), (&json!(true), &json!(thread)));
    j.send(archive.clone()).await; // it was so already
    for client in [&mut a, &mut j] {
        client.send(say.clone()).await;
        assert_eq!(client.wait_for("error").await["code"], "thread_archived");
        assert_eq!(is_archived(client, thread).await, json!(true));
    }
    j.send(unarchive.clone()).await;
    let undone = a.wait_for("thread_updated").await;
    assert_eq!(undone["thread"]["isArchived"], json!(false));
    assert_eq!(undone["offset"].as_u64().unwrap(), told["offset"].as_u64().unwrap() + 1, "nothing between");
    a.send(say.clone()).await;
    a.wait_for("message_ack").await;

    // What archived itself looks so wherever it is shown, is archived already, and can be taken out for good.
    sqlx::query(
        "UPDATE community_thread SET auto_archive_after_hours = 1, last_message_at = now() - interval '2 hours'",
    )
    .execute(stack.db())
    .await
    .unwrap();
    assert_eq!(is_archived(&mut a, thread).await, json!(true));
    j.send(archive).await;
    j.send(json!({"type": "lock_thread", "thread_id": thread})).await;
    let locked = a.wait_until("locked", |event| event["thread"]["isLocked"] == true).await;
    assert_eq!(locked["thread"]["isArchived"], json!(true));
    j.send(unarchive).await;
    let undone = a.wait_for("thread_updated").await;
    assert_eq!(undone["thread"]["isArchived"], json!(false));
    assert_eq!(undone["offset"].as_u64().unwrap(), locked["offset"].as_u64().unwrap() + 1);
    assert_eq!(is_archived(&mut a, thread).await, json!(false));
    assert_eq!(picture(&stack, thread).await, (true, false));
}
