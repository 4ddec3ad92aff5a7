//! Who may do what: every role, every verb, in a public room, a private one, and an archived one.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{RoomSpec, Stack, TestRoom, TestUser, UserSpec};

/// A user's own message, and somebody else's.
struct Messages {
    own: Uuid,
    others: Uuid,
}

/// A verb: its name in the table, the frame, the event that tells of it.
type Verb = (&'static str, fn(&Messages) -> Value, &'static str);

const VERBS: [Verb; 10] = [
    ("send", |_| json!({"type": "send_message", "content": "hello"}), "new_message"),
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
async fn cast(stack: &Stack, room: &TestRoom, other: &TestUser, role: &str) -> (TestUser, Messages) {
    let spec = UserSpec { staff: role == "staff", ..UserSpec::default() };
    let user = stack.user_with(&format!("{role}-{}", room.id.simple()), spec).await;
    if !["none", "staff"].contains(&role) {
        stack.member(room, &user, role).await;
    }
    let messages =
        Messages { own: stack.messages(room, &user, 1).await[0], others: stack.messages(room, other, 1).await[0] };
    sqlx::query("UPDATE community_message SET is_pinned = true WHERE id = $1")
        .bind(messages.own)
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
    (user, messages)
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

async fn compare(spec: RoomSpec, table: &[(&str, Option<Row>)]) {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    let room = stack.room(spec).await;
    let other = stack.user("other").await;
    let mut wrong = Vec::new();
    for (role, row) in table {
        let (user, messages) = cast(&stack, &room, &other, role).await;
        let Some(row) = row else {
            let mut client = gateway.dial(&room.path()).token(&stack.token(&user).await).connect().await;
            assert_eq!(client.expect_close().await.0, 4003, "{role}");
            continue;
        };
        let mut client = gateway.enter(&room, &user).await;
        for ((verb, frame, event), expected) in VERBS.iter().zip(row) {
            let (frame, before) = (frame(&messages), picture(&stack, &room).await);
            client.send(frame.clone()).await;
            let said =
                client.wait_until("an outcome", |said| said["event"] == *event || said["event"] == "error").await;
            let outcome = said["code"].as_str().unwrap_or(OK);
            if outcome != *expected {
                wrong.push(format!("{role}: {verb}: {outcome}, not {expected}"));
            }
            if outcome == OK {
                assert!(said["offset"].as_u64().is_some_and(|offset| offset > 0), "{said}");
            } else {
                assert_eq!(said["requestType"], frame["type"], "{said}");
                assert_eq!(picture(&stack, &room).await, before, "{role}: {verb} was refused and changed something");
            }
        }
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
