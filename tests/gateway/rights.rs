//! Who may do what: every role, every verb, in rooms of every kind, in threads, in direct conversations.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::dm::{conversation, path};
use crate::support::{RoomSpec, Stack, TestClient, TestRoom, TestUser, UserSpec};

/// A user's own message, somebody else's, and the thread that both are in, if so.
struct Messages {
    own: Uuid,
    others: Uuid,
    thread: Option<Uuid>,
}

/// A verb: its name in the table, the frame, the event that tells of it.
type Verb = (&'static str, fn(&Messages) -> Value, &'static str);

const VERBS: [Verb; 10] = [
    ("send", |m| json!({"type": "send_message", "content": "hello", "thread_id": m.thread}), "new_message"),
    ("edit own", |m| json!({"type": "edit_message", "message_id": m.own, "content": "better"}), "message_edited"),
    ("edit another's", |m| json!({"type": "edit_message", "message_id": m.others, "content": "x"}), "message_edited"),
    ("react", |m| json!({"type": "add_reaction", "message_id": m.others, "emoji": "👍"}), "reaction_updated"),
    ("react to own", |m| json!({"type": "add_reaction", "message_id": m.own, "emoji": "👍"}), "reaction_updated"),
    ("take back", |m| json!({"type": "remove_reaction", "message_id": m.others, "emoji": "🎉"}), "reaction_updated"),
    ("pin", |m| json!({"type": "pin_message", "message_id": m.others}), "message_pinned"),
    ("unpin", |m| json!({"type": "unpin_message", "message_id": m.own}), "message_pinned"),
    ("delete own", |m| json!({"type": "delete_message", "message_id": m.own}), "message_deleted"),
    ("delete another's", |m| json!({"type": "delete_message", "message_id": m.others}), "message_deleted"),
];

const OK: &str = "ok";
const NO: &str = "not_allowed";
const MUTE: &str = "cannot_send";
const SHUT: &str = "room_archived";

/// What becomes of the verbs, in their order.
type Row = [&'static str; 10];

const MODERATES: Row = [OK, OK, NO, OK, OK, OK, OK, OK, OK, OK];
const WRITES: Row = [OK, OK, NO, OK, OK, OK, NO, NO, OK, NO];
const MUTED: Row = [MUTE, MUTE, MUTE, MUTE, MUTE, MUTE, NO, NO, OK, NO];
const ARCHIVED: Row = [SHUT; 10];

/// Roles (`none` has no membership, `staff` is Django's) and what they may do; `None` is not let in at all.
const PUBLIC: [(&str, Option<Row>); 9] = [
    ("owner", Some(MODERATES)),
    ("admin", Some(MODERATES)),
    ("moderator", Some(MODERATES)),
    ("staff", Some(MODERATES)),
    ("trusted", Some(WRITES)),
    ("member", Some(WRITES)),
    ("none", Some(WRITES)),
    ("muted", Some(MUTED)),
    ("banned", None),
];

/// The same table for a room that only members enter.
fn closed() -> Vec<(&'static str, Option<Row>)> {
    let outside = ["none", "staff"];
    PUBLIC.into_iter().map(|(role, row)| (role, row.filter(|_| !outside.contains(&role)))).collect()
}

fn archived() -> Vec<(&'static str, Option<Row>)> {
    PUBLIC.into_iter().map(|(role, row)| (role, row.map(|_| ARCHIVED))).collect()
}

/// A user with a role, and a pinned message of theirs and one of somebody else's with their reaction.
async fn cast(
    stack: &Stack,
    room: &TestRoom,
    other: &TestUser,
    role: &str,
    thread: Option<Uuid>,
) -> (TestUser, Messages) {
    let spec = UserSpec { staff: role == "staff", ..UserSpec::default() };
    let user = stack.user_with(&format!("{role}-{}", room.id.simple()), spec).await;
    if !["none", "staff"].contains(&role) {
        stack.member(room, &user, role).await;
    }
    let messages = talk(stack, room, &user, other, thread).await;
    (user, messages)
}

/// The messages of two users on which the verbs are tried: the first's own is pinned, on the other is a reaction.
async fn talk(stack: &Stack, room: &TestRoom, user: &TestUser, other: &TestUser, thread: Option<Uuid>) -> Messages {
    let (own, others) = (stack.messages(room, user, 1).await[0], stack.messages(room, other, 1).await[0]);
    let messages = Messages { own, others, thread };
    sqlx::query("UPDATE community_message SET is_pinned = (id = $1), thread_id = $3 WHERE id IN ($1, $2)")
        .bind(messages.own)
        .bind(messages.others)
        .bind(thread)
        .execute(stack.db())
        .await
        .unwrap();
    sqlx::query(
        "WITH counted AS (UPDATE community_message SET reaction_counts = '{\"🎉\": 1}' WHERE id = $2) \
         INSERT INTO community_messagereaction (id, emoji, created_at, message_id, user_id) \
         VALUES ($1, '🎉', now(), $2, $3)",
    )
    .bind(Uuid::new_v4())
    .bind(messages.others)
    .bind(user.id)
    .execute(stack.db())
    .await
    .unwrap();
    messages
}

/// What a row says that a verb may change.
async fn picture(stack: &Stack, room: &TestRoom) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT concat_ws(' ', id, content, message_type, is_pinned, is_edited, reaction_counts, updated_at) \
           FROM community_message WHERE room_id = $1 ORDER BY id",
    )
    .bind(room.id)
    .fetch_all(stack.db())
    .await
    .unwrap()
}

/// Tries all verbs, one after the other, and tells where the outcome is not what the row says.
async fn try_verbs(
    stack: &Stack,
    room: &TestRoom,
    client: &mut TestClient,
    messages: &Messages,
    row: &Row,
) -> Vec<String> {
    let mut wrong = Vec::new();
    for ((verb, frame, event), expected) in VERBS.iter().zip(row) {
        let (frame, before) = (frame(messages), picture(stack, room).await);
        client.send(frame.clone()).await;
        let said = client.wait_until("an outcome", |said| said["event"] == *event || said["event"] == "error").await;
        let outcome = said["code"].as_str().unwrap_or(OK);
        if outcome != *expected {
            wrong.push(format!("{verb}: {outcome}, not {expected}"));
        }
        if outcome == OK {
            assert!(said["offset"].as_u64().is_some_and(|offset| offset > 0), "{said}");
        } else {
            assert_eq!(said["requestType"], frame["type"], "{said}");
            assert_eq!(picture(stack, room).await, before, "{verb} was refused and changed something");
        }
    }
    wrong
}

async fn compare(spec: RoomSpec, table: &[(&str, Option<Row>)]) {
    compare_in(spec, None, table).await;
}

/// The same in a thread, which is set so (SQL).
async fn compare_in(spec: RoomSpec, thread: Option<&str>, table: &[(&str, Option<Row>)]) {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let room = stack.room(spec).await;
    let thread = match thread {
        None => None,
        Some(set) => {
            let insert = "INSERT INTO community_thread (id, title, is_locked, is_pinned, is_resolved, message_count, \
                              is_archived, created_at, updated_at, room_id) \
                          SELECT gen_random_uuid(), 'n', false, false, false, 0, false, now(), now(), $1 RETURNING id";
            let id: Uuid = sqlx::query_scalar(insert).bind(room.id).fetch_one(stack.db()).await.unwrap();
            let set = format!("UPDATE community_thread SET {set}");
            sqlx::query(sqlx::AssertSqlSafe(set)).execute(stack.db()).await.unwrap();
            Some(id)
        }
    };
    let other = stack.user("other").await;
    let mut wrong = Vec::new();
    for (role, row) in table {
        let (user, messages) = cast(&stack, &room, &other, role, thread).await;
        let Some(row) = row else {
            let mut client = gateway.dial(&room.path()).token(&stack.token(&user).await).connect().await;
            assert_eq!(client.expect_close().await.0, 4003, "{role}");
            continue;
        };
        let mut client = gateway.enter(&room, &user).await;
        if let Some(thread) = thread {
            client.send(json!({"type": "open_thread", "thread_id": thread})).await;
            client.wait_for("thread_state").await;
        }
        let faults = try_verbs(&stack, &room, &mut client, &messages, row).await;
        wrong.extend(faults.into_iter().map(|fault| format!("{role}: {fault}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let records: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT split_part(u.username, '-', 1), a.action_type, a.source FROM community_moderationaction a \
           JOIN users_user u ON u.id = a.moderator_id WHERE a.target_user_id = $1 AND a.target_room_id = $2 ORDER BY 1",
    )
    .bind(other.id)
    .bind(room.id)
    .fetch_all(stack.db())
    .await
    .unwrap();
    let mut expected: Vec<_> = table
        .iter()
        .filter(|(_, row)| row.is_some_and(|row| row[9] == OK))
        .map(|(role, _)| {
            let source = if *role == "staff" { "admin" } else { "community" };
            ((*role).to_owned(), "delete".to_owned(), source.to_owned())
        })
        .collect();
    expected.sort();
    assert_eq!(records, expected, "each deletion of another's message leaves a record, and nothing else does");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_role_and_every_verb_in_a_public_room() {
    compare(RoomSpec::default(), &PUBLIC).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_role_and_every_verb_in_a_private_room() {
    compare(RoomSpec { visibility: "private", ..RoomSpec::default() }, &closed()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_changes_anything_in_an_archived_room() {
    compare(RoomSpec { archived: true, ..RoomSpec::default() }, &archived()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_role_and_every_verb_in_a_thread() {
    compare_in(RoomSpec::default(), Some("is_locked = false"), &PUBLIC).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_role_and_every_verb_in_a_locked_thread() {
    let silenced = |row: Row| if row[0] == OK && row[6] == NO { with_first(row, "thread_locked") } else { row };
    let locked: Vec<_> = PUBLIC.into_iter().map(|(role, row)| (role, row.map(silenced))).collect();
    compare_in(RoomSpec::default(), Some("is_locked = true"), &locked).await;
}

fn with_first(mut row: Row, first: &'static str) -> Row {
    row[0] = first;
    row
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_changes_anything_in_an_archived_thread() {
    let shut = |row: Row| {
        let pins = if row[6] == NO { NO } else { GONE };
        let writes = if row[0] == MUTE { MUTE } else { GONE };
        [writes, writes, writes, writes, writes, writes, pins, pins, GONE, GONE]
    };
    let table: Vec<_> = PUBLIC.into_iter().map(|(role, row)| (role, row.map(shut))).collect();
    compare_in(RoomSpec::default(), Some("is_archived = true"), &table).await;
}

const GONE: &str = "thread_archived";

/// Somebody whom a conversation of two refuses, for this reason. What they wrote they may still delete.
const fn refused(why: &'static str) -> Row {
    [why, why, why, why, why, why, NO, NO, OK, NO]
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_and_every_verb_in_a_direct_conversation() {
    let stack = Stack::start().await;
    sqlx::raw_sql("ALTER TABLE users_user ADD COLUMN dm_permission varchar(20) NOT NULL DEFAULT 'everyone'")
        .execute(stack.db())
        .await
        .unwrap();
    let gateway = stack.gateway().start().await;
    // Who they are, what the other one's `dm_permission` is, whether the other one has answered.
    let table: [(&str, &str, bool, Row); 9] = [
        ("participant", "everyone", true, WRITES),
        ("staff", "everyone", true, MODERATES),
        ("blocked", "everyone", true, refused("blocked")),
        ("blocks", "everyone", true, refused("blocked")),
        ("answered", "none", true, WRITES),
        ("unwanted", "none", false, with_last(refused("not_admitted"), OK)),
        ("unfollowed", "following", false, with_last(refused("not_admitted"), OK)),
        ("unconnected", "connections", false, with_last(refused("not_admitted"), OK)),
        ("agents", "none", false, with_last(with_edit(WRITES), OK)),
    ];
    let mut wrong = Vec::new();
    for (who, permission, answered, row) in table {
        let user = stack.user_with(who, UserSpec { staff: who == "staff", ..UserSpec::default() }).await;
        let tier = if who == "agents" { "team" } else { "seedling" };
        let other = stack.user_with(&format!("{who}-other"), UserSpec { tier, ..UserSpec::default() }).await;
        let set = "UPDATE users_user SET dm_permission = $1 WHERE id = $2";
        sqlx::query(set).bind(permission).bind(other.id).execute(stack.db()).await.unwrap();
        let (thread, room) = conversation(&stack, &[&user, &other]).await;
        // An answer of the other one would be a consent: where there is none, both messages are the user's.
        let messages = talk(&stack, &room, &user, if answered { &other } else { &user }, None).await;
        match who {
            "blocked" => stack.block(&other, &user).await,
            "blocks" => stack.block(&user, &other).await,
            _ => {}
        }
        let mut client = gateway.dial(&path(thread)).token(&stack.token(&user).await).connect().await;
        client.expect_event("dm_state").await;
        let faults = try_verbs(&stack, &room, &mut client, &messages, &row).await;
        wrong.extend(faults.into_iter().map(|fault| format!("{who}: {fault}")));

        let stranger =
            stack.user_with(&format!("{who}-stranger"), UserSpec { staff: true, ..UserSpec::default() }).await;
        let mut client = gateway.dial(&path(thread)).token(&stack.token(&stranger).await).connect().await;
        assert_eq!(client.expect_close().await.0, 4003, "not even staff");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn with_last(mut row: Row, last: &'static str) -> Row {
    row[9] = last;
    row
}

/// Where the other message is one's own too.
fn with_edit(mut row: Row) -> Row {
    row[2] = OK;
    row
}
