//! The plans Postgres makes of every statement of the store, on tables with rows in them.
//!
//! `cargo test --test gateway store_plans -- --nocapture` prints them.

use community_gateway::store::{PLANNING, queries};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::support::{RoomSpec, Stack};

const ROOMS: i32 = 50;
const MESSAGES: i32 = 20_000;
const USERS: i32 = 5_000;

/// 50 rooms, 20,000 messages, half of them in one room, 5,000 users, a tenth of them members; some replies, some hidden.
/// Returns the large room and a message from its middle.
async fn fill(stack: &Stack) -> (Uuid, Uuid) {
    for _ in 0..ROOMS {
        stack.room(RoomSpec::default()).await;
    }
    let statements = [
        "INSERT INTO users_user (is_superuser, username, first_name, last_name, is_staff, is_active, date_joined, email, \
             role, avatar_url, tier) \
         SELECT false, 'user' || n, '', '', false, true, now(), n || '@example.org', 'explorer', NULL, 'seedling' \
           FROM generate_series(1, $1) n",
        "INSERT INTO community_roommembership (id, room_id, user_id, role, trust_score, messages_sent, warnings_count, \
             notifications_enabled, notification_level, is_active, joined_at, updated_at) \
         SELECT gen_random_uuid(), r.id, u.id, 'member', 0, 0, 0, true, 'all', true, now(), now() \
           FROM community_room r, users_user u WHERE u.id % 10 = $1 % 10",
        "INSERT INTO community_message (id, content, message_type, attachments, embeds, mentions, reaction_counts, \
             is_edited, is_flagged, is_hidden, is_pinned, author_id, room_id, created_at, updated_at) \
         SELECT gen_random_uuid(), 'message ' || n, 'text', '[]', '[]', '[]', '{}', false, false, n % 97 = 0, false, \
                1 + n % 5000, (SELECT array_agg(id) FROM community_room)[1 + (n % 2) * (n / 2 % 50)], \
                now() - make_interval(secs => $1 - n), now() \
           FROM generate_series(1, $1) n",
    ];
    for (statement, count) in statements.into_iter().zip([USERS, 0, MESSAGES]) {
        sqlx::query(statement).bind(count).execute(stack.db()).await.unwrap();
    }
    sqlx::query(
        "UPDATE community_message m SET reply_to_id = (SELECT id FROM community_message o WHERE o.room_id = m.room_id \
             ORDER BY created_at LIMIT 1) WHERE created_at > now() - interval '1 hour'",
    )
    .execute(stack.db())
    .await
    .unwrap();
    let middle = "SELECT room_id, id FROM community_message WHERE room_id = \
                  (SELECT room_id FROM community_message GROUP BY room_id ORDER BY count(*) DESC LIMIT 1) \
                  ORDER BY created_at OFFSET 5000 LIMIT 1";
    sqlx::query_as(middle).fetch_one(stack.db()).await.unwrap()
}

/// Values for the parameters of a statement, as SQL.
fn values(name: &str, room: Uuid, message: Uuid) -> String {
    let new = Uuid::new_v4();
    match name {
        "account" => "17".to_owned(),
        "people" => "ARRAY[1, 2, 3]::bigint[]".to_owned(),
        "admission" => format!("ARRAY['{room}', NULL]::uuid[], ARRAY[NULL, '{new}']::uuid[], ARRAY[17, 17]::bigint[]"),
        "changed_admission" => format!(
            "ARRAY['{room}', NULL]::uuid[], ARRAY[NULL, '{new}']::uuid[], ARRAY[17, 17]::bigint[], ARRAY[NULL, 1]::bigint[]"
        ),
        "latest" => format!("'{room}', 51"),
        "history" => format!("'{room}', '{message}', 51"),
        "mark_read" => format!("'{room}', 20, '{message}'"),
        "write" => format!(
            "ARRAY['{new}']::uuid[], ARRAY['{room}']::uuid[], ARRAY[20]::bigint[], ARRAY['hello'], ARRAY['text'], \
             ARRAY['[]'], ARRAY['[]'], ARRAY['{message}']::uuid[], ARRAY[NULL]::uuid[], ARRAY[NULL]::uuid[], \
             ARRAY[false], ARRAY['{new}']::uuid[], ARRAY['{new}']::uuid[], ARRAY['ai'], ARRAY['rude'], ARRAY['{{}}']"
        ),
        "write_plain" => format!(
            "ARRAY['{new}']::uuid[], ARRAY['{room}']::uuid[], ARRAY[20]::bigint[], ARRAY['hello'], ARRAY['text'], \
             ARRAY['[]'], ARRAY['[]']"
        ),
        "report" => format!("'{room}', '{message}', 20, '{new}', ARRAY[1]::bigint[], 'rude', 3"),
        "decide" => format!("'{message}', 'approved'"),
        "thread" | "thread_of" | "author_of" => format!("'{room}', '{message}'"),
        "thread_latest" => format!("'{room}', '{message}', 51"),
        "thread_history" => format!("'{room}', '{message}', '{message}', 51"),
        "create_thread" => format!("'{room}', '{new}', 20, '{message}', NULL"),
        "lock_thread" | "archive_thread" => format!("'{room}', '{message}', true"),
        "lock_rooms" => format!("ARRAY['{room}']::uuid[]"),
        "outcome" => "(pg_current_xact_id()::text)".to_owned(),
        "present" | "messages" => format!("ARRAY['{message}']::uuid[]"),
        "overview" => "20".to_owned(),
        "unread" => format!("ARRAY[20]::bigint[], ARRAY['{room}']::uuid[]"),
        "blocked" => "ARRAY[20, 20]::bigint[], ARRAY[1, 2]::bigint[]".to_owned(),
        "rooms_online" => "10000".to_owned(),
        "count_online" => format!("ARRAY['{room}']::uuid[], ARRAY[7]"),
        "sent_at" => format!("'{message}', 20"),
        "named" => "ARRAY['user1', 'user2']".to_owned(),
        "edit" => format!("'{room}', '{message}', 20, 'better', '[]', '{new}', 'rude', '{{}}'"),
        "delete" => format!("'{room}', '{message}', 20, true, false, '{new}'"),
        "pin" => format!("'{room}', '{message}', true"),
        "add_reaction" => format!("'{room}', '{message}', 20, '👍', '{new}'"),
        "remove_reaction" => format!("'{room}', '{message}', 20, '👍'"),
        other => panic!("say what the parameters of {other} are"),
    }
}

#[tokio::test]
async fn no_statement_reads_a_whole_table_and_pages_come_from_djangos_index() {
    let stack = Stack::start().await;
    let (room, message) = fill(&stack).await;
    sqlx::query("VACUUM ANALYZE").execute(stack.db()).await.unwrap();
    let pages: String = sqlx::query_scalar(
        "SELECT indexname::text FROM pg_indexes WHERE tablename = 'community_message' \
            AND indexdef LIKE '%(room_id, created_at DESC, id)'",
    )
    .fetch_one(stack.db())
    .await
    .unwrap();

    let mut faults = Vec::new();
    sqlx::raw_sql("ALTER TABLE users_user ADD COLUMN dm_permission varchar(20) NOT NULL DEFAULT 'everyone'")
        .execute(stack.db())
        .await
        .unwrap();
    // Both of the plans that a prepared statement may get: made for its values, and made for any.
    for mode in ["force_custom_plan", "force_generic_plan"] {
        let mut link = stack.db().acquire().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(format!("SET plan_cache_mode = {mode}"))).execute(&mut *link).await.unwrap();
        for query in queries("users_user", true) {
            let name = query.name;
            let prepare = format!("PREPARE plan_of_{name} AS {}", query.sql);
            let explain = format!("EXPLAIN (COSTS OFF) EXECUTE plan_of_{name}({})", values(name, room, message));
            sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut *link).await.unwrap();
            let plan: Vec<String> = sqlx::query_scalar(AssertSqlSafe(explain)).fetch_all(&mut *link).await.unwrap();
            let plan = plan.join("\n");
            eprintln!("-- {name}, {mode}\n{plan}\n");

            for table in ["community_message", "community_roommembership", "users_user"] {
                if plan.contains(&format!("Seq Scan on {table} ")) {
                    faults.push(format!("{name} ({mode}) reads all of {table}"));
                }
            }
            if ["latest", "history"].contains(&name) && !plan.contains(&format!("Index Scan using {pages}")) {
                faults.push(format!("{name} ({mode}) does not take its page from {pages}"));
            }
        }
        sqlx::raw_sql("DEALLOCATE ALL; RESET plan_cache_mode").execute(&mut *link).await.unwrap();
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// A connection that lives since the tables were small keeps its plans until they are analysed, and a busy room grows by
/// thousands of messages until then. So neither may a plan read a table whole, nor all of a room to find a message.
#[tokio::test]
async fn a_plan_made_when_the_tables_were_empty_reads_no_whole_table_when_they_have_grown() {
    let stack = Stack::start().await;
    sqlx::raw_sql(
        "ALTER TABLE users_user ADD COLUMN dm_permission varchar(20) NOT NULL DEFAULT 'everyone';
         ALTER TABLE community_message SET (autovacuum_enabled = false);
         ALTER TABLE users_user SET (autovacuum_enabled = false)",
    )
    .execute(stack.db())
    .await
    .unwrap();
    let mut old = stack.db().acquire().await.unwrap();
    for (setting, value) in PLANNING {
        sqlx::raw_sql(AssertSqlSafe(format!("SET {setting} = {value}"))).execute(&mut *old).await.unwrap();
    }
    for query in queries("users_user", true) {
        let name = query.name;
        let prepare = format!("PREPARE plan_of_{name} AS {}", query.sql);
        sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut *old).await.unwrap();
        let explain = format!("EXPLAIN EXECUTE plan_of_{name}({})", values(name, Uuid::new_v4(), Uuid::new_v4()));
        sqlx::raw_sql(AssertSqlSafe(explain)).execute(&mut *old).await.unwrap();
    }

    let (room, message) = fill(&stack).await;
    let mut faults = Vec::new();
    for query in queries("users_user", true) {
        let name = query.name;
        let explain = format!("EXPLAIN (COSTS OFF) EXECUTE plan_of_{name}({})", values(name, room, message));
        let plan: Vec<String> = sqlx::query_scalar(AssertSqlSafe(explain)).fetch_all(&mut *old).await.unwrap();
        let plan = plan.join("\n");
        eprintln!("-- {name}\n{plan}\n");
        let by_key = |line: &str| line.contains("Filter: ") && (line.contains("(id = ") || line.contains(".id = "));
        for line in plan.lines().filter(|line| line.contains("Seq Scan on ") || by_key(line)) {
            faults.push(format!("{name}: {}", line.trim()));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}
