//! Rights are read again only where something has changed that decides them.

use community_gateway::domain::{RoomId, ThreadId, UserId, Venue};
use community_gateway::store::{Admission, Fingerprint, Store, StoreError};
use uuid::Uuid;

use crate::dm::conversation;
use crate::store_fixture::store;
use crate::support::{RoomSpec, Stack, TestRoom, TestUser};

/// Changes of what decides Ada's rights in a room, each of which must be noticed. `{…}` stands for ids.
const IN_ROOM: [&str; 17] = [
    "UPDATE users_user SET username = 'ada2' WHERE id = {ada}",
    "UPDATE users_user SET avatar_url = 'https://a.test/1.png' WHERE id = {ada}",
    "UPDATE users_user SET is_staff = true WHERE id = {ada}",
    "UPDATE users_user SET is_active = false WHERE id = {ada}",
    "UPDATE users_user SET date_joined = date_joined - interval '1 day' WHERE id = {ada}",
    "UPDATE community_room SET name = 'Another' WHERE id = '{room}'",
    "UPDATE community_room SET slow_mode_seconds = 7 WHERE id = '{room}'",
    "UPDATE community_room SET min_trust_to_post = 2 WHERE id = '{room}'",
    "UPDATE community_room SET visibility = 'private' WHERE id = '{room}'",
    "UPDATE community_room SET is_archived = true WHERE id = '{room}'",
    "UPDATE community_room SET is_active = false WHERE id = '{room}'",
    "UPDATE community_roommembership SET messages_sent = messages_sent + 1 WHERE user_id = {ada}",
    "UPDATE community_roommembership SET role = 'muted' WHERE user_id = {ada}",
    // It expired: she may write again.
    "INSERT INTO community_moderationaction (id, action_type, source, reason, is_active, ai_scores, created_at, expires_at, \
         target_user_id, target_room_id) \
     VALUES (gen_random_uuid(), 'mute', 'manual', '', true, '{}', now(), now() - interval '1 second', {ada}, '{room}')",
    "UPDATE community_roommembership SET is_active = false WHERE user_id = {ada}",
    "INSERT INTO community_userblock (id, blocker_id, blocked_id, created_at) \
     VALUES (gen_random_uuid(), {grace}, {ada}, now())",
    "DELETE FROM users_user WHERE id = {ada}",
];

/// The same for a conversation of the two.
const IN_CONVERSATION: [&str; 5] = [
    "UPDATE users_user SET tier = 'team' WHERE id = {grace}",
    "INSERT INTO community_userblock (id, blocker_id, blocked_id, created_at) \
     VALUES (gen_random_uuid(), {grace}, {ada}, now())",
    "UPDATE community_directmessagethread SET is_group = true WHERE room_id = '{room}'",
    "DELETE FROM community_directmessagethread_participants WHERE user_id = {grace}",
    "DELETE FROM community_directmessagethread_participants WHERE user_id = {ada}",
];

type Changed = Vec<(usize, Result<(Fingerprint, Admission), StoreError>)>;

async fn read(store: &Store, known: &[(Venue, UserId, Option<Fingerprint>)]) -> Changed {
    store.changed_admissions(known).await.unwrap()
}

async fn run(stack: &Stack, sql: &str, ada: &TestUser, grace: &TestUser, room: &TestRoom) {
    let ids = [("{ada}", ada.id.to_string()), ("{grace}", grace.id.to_string()), ("{room}", room.id.to_string())];
    let sql = ids.iter().fold(sql.to_owned(), |sql, (name, id)| sql.replace(name, id));
    // Foreign keys are looked at when a transaction ends; rows that would be in the way are not the point here.
    let sql = format!("BEGIN; SET LOCAL session_replication_role = replica; {sql}; COMMIT");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(stack.db()).await.unwrap();
}

#[tokio::test]
async fn every_change_of_rights_is_noticed_and_nothing_else_is_read() {
    for in_conversation in [false, true] {
        let stack = Stack::start().await;
        let (ada, grace, alan) = (stack.user("ada").await, stack.user("grace").await, stack.user("alan").await);
        let (venue, room, changes) = match in_conversation {
            false => {
                let room = stack.room(RoomSpec::default()).await;
                stack.member(&room, &ada, "member").await;
                (Venue::Room(RoomId(room.id)), room, &IN_ROOM[..])
            }
            true => {
                let (thread, room) = conversation(&stack, &[&ada, &grace]).await;
                (Venue::Dm(ThreadId(thread)), room, &IN_CONVERSATION[..])
            }
        };
        let elsewhere = Venue::Room(RoomId(stack.room(RoomSpec::default()).await.id));
        let (store, _) = store(&stack).await;
        let (ada_id, alan_id) = (UserId(ada.id), UserId(alan.id));
        let mut known = [(elsewhere, alan_id, None), (venue, ada_id, None), (Venue::App, alan_id, None)];

        let all = read(&store, &known).await;
        assert_eq!(all.len(), known.len(), "nothing is known");
        for (place, found) in all {
            let (fingerprint, admission) = found.unwrap();
            assert_eq!(admission, store.admission(known[place].0, known[place].1).await.unwrap());
            known[place].2 = Some(fingerprint);
        }
        assert!(read(&store, &known).await.is_empty(), "nothing has changed");
        run(&stack, "UPDATE community_room SET message_count = 9, last_message_at = now()", &ada, &grace, &room).await;
        assert!(read(&store, &known).await.is_empty(), "that decides nothing");
        for change in changes {
            run(&stack, change, &ada, &grace, &room).await;
            let mut changed = read(&store, &known).await;
            assert_eq!(changed.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [1], "{change}");
            let (fingerprint, admission) = changed.remove(0).1.unwrap();
            assert_eq!(admission, store.admission(venue, ada_id).await.unwrap(), "{change}");
            known[1].2 = Some(fingerprint);
        }
    }
}

#[tokio::test]
async fn a_row_that_nobody_can_read_hides_no_other() {
    let stack = Stack::start().await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let room = stack.room(RoomSpec::default()).await;
    let (store, _) = store(&stack).await;
    let sql =
        "ALTER TABLE users_user ALTER username DROP NOT NULL; UPDATE users_user SET username = NULL WHERE id = {ada}";
    run(&stack, sql, &ada, &grace, &room).await;
    let venue = Venue::Room(RoomId(room.id));
    let known = [(venue, UserId(ada.id), None), (venue, UserId(grace.id), None)];
    let found = read(&store, &known).await;
    assert_eq!(found.len(), 2);
    for (place, found) in found {
        assert_eq!(found.is_ok(), place == 1, "{found:?}");
    }
    assert!(store.changed_admissions(&[]).await.unwrap().is_empty());
    let nobody = [(Venue::Room(RoomId(Uuid::new_v4())), UserId(987_654), None)];
    let (_, admission) = read(&store, &nobody).await.remove(0).1.unwrap();
    assert!(admission.account.is_none() && admission.room.is_none());
}
