//! Threads inside a room.
//!
//! What makes or changes one runs in a transaction whose room is locked by [`super::begin`], as the first statement that
//! reads: so a message has one thread, and a lock and a message have an order.

use super::{MESSAGE, PAGE};

/// Says whether the thread `t` has archived itself, so many hours after its last message; null when it never does.
macro_rules! ran_out {
    () => {
        "COALESCE(t.last_message_at, t.created_at) + make_interval(hours => t.auto_archive_after_hours) \
         < clock_timestamp()"
    };
}

macro_rules! archived {
    () => {
        concat!("COALESCE(t.is_archived OR ", ran_out!(), ", false)")
    };
}

/// Says whether the thread `t` is archived: by hand, or by itself. False when there is no thread.
pub(super) const ARCHIVED: &str = archived!();

/// The columns that readers see of the row `t`, in the order in which `row` reads them.
macro_rules! columns {
    () => {
        concat!(
            "t.id, t.room_id, t.title, t.parent_message_id, t.creator_id, t.is_locked, t.is_pinned, t.is_resolved, ",
            archived!(),
            " AS is_archived, t.message_count, t.last_message_at, t.created_at"
        )
    };
}

/// The same, of a `t` that was made with them.
macro_rules! names {
    () => {
        "t.id, t.room_id, t.title, t.parent_message_id, t.creator_id, t.is_locked, t.is_pinned, t.is_resolved, \
         t.is_archived, t.message_count, t.last_message_at, t.created_at"
    };
}

/// `$1` room, `$2` thread.
pub(super) const THREAD: &str =
    concat!("SELECT ", columns!(), " FROM community_thread t WHERE t.id = $2 AND (t.room_id = $1) IS TRUE");

/// `$1` room, `$2` message: the thread that answers to it go to, if there is one already.
pub(super) const THREAD_OF: &str = "
    SELECT COALESCE(m.thread_id, (SELECT t.id FROM community_thread t
                                   WHERE t.parent_message_id = m.id AND t.room_id = m.room_id
                                   ORDER BY t.created_at, t.id LIMIT 1))
      FROM community_message m WHERE m.id = $2 AND (m.room_id = $1) IS TRUE";

/// `$1` room, `$2` the new thread, `$3` its creator, `$4` the parent message, `$5` the title.
///
/// Answers one row, or none when there is no such parent: what was found or made, the transaction's id, the thread that
/// the parent itself is in, the parent's author, and the thread.
pub(super) const CREATE_THREAD: &str = concat!(
    "WITH parent AS MATERIALIZED (
         SELECT m.id, m.thread_id, m.author_id, regexp_replace(left(m.content, 80), '\\s+', ' ', 'g') AS words
           FROM community_message m
          WHERE m.id = $4 AND (m.room_id = $1) IS TRUE AND NOT m.is_hidden AND m.message_type <> 'deleted'),
     found AS MATERIALIZED (
         SELECT t.* FROM community_thread t
          WHERE t.parent_message_id = $4 AND t.room_id = $1 ORDER BY t.created_at, t.id LIMIT 1),
     made AS (
         INSERT INTO community_thread AS t (id, title, is_locked, is_pinned, is_resolved, message_count,
                last_message_at, auto_archive_after_hours, is_archived, created_at, updated_at, creator_id,
                parent_message_id, room_id)
         SELECT $2, COALESCE($5, NULLIF(btrim((SELECT words FROM parent)), ''), 'Thread'), false, false, false, 0,
                NULL, NULL, false, at, at, $3, $4, $1
           FROM (SELECT clock_timestamp() AS at) now
          WHERE NOT EXISTS (SELECT FROM found)
            AND ($4::uuid IS NULL OR EXISTS (SELECT FROM parent WHERE thread_id IS NULL))
         RETURNING ",
    columns!(),
    ")
     SELECT CASE WHEN p.thread_id IS NOT NULL THEN 'nested' WHEN t.id = $2 THEN 'ok' ELSE 'same' END,
            pg_current_xact_id()::text, p.thread_id, p.author_id, ",
    names!(),
    " FROM (SELECT) one
       LEFT JOIN parent p ON true
       LEFT JOIN (SELECT ",
    columns!(),
    " FROM found t UNION ALL SELECT ",
    names!(),
    " FROM made t) t ON true
      WHERE $4 IS NULL OR p.id IS NOT NULL"
);

/// `$1` room, `$2` thread, `$3` locked. Answers as [`CREATE_THREAD`] does.
pub(super) const LOCK_THREAD: &str = concat!(
    "WITH it AS MATERIALIZED (SELECT t.id, t.is_locked FROM community_thread t WHERE t.id = $2 AND (t.room_id = $1) IS TRUE),
     changed AS (
         UPDATE community_thread t SET is_locked = $3, updated_at = clock_timestamp()
           FROM it WHERE t.id = it.id AND it.is_locked <> $3 RETURNING ",
    columns!(),
    ")
     SELECT CASE WHEN t.id IS NULL THEN 'same' ELSE 'ok' END, pg_current_xact_id()::text, NULL::uuid, NULL::bigint, ",
    names!(),
    " FROM it LEFT JOIN changed t ON true"
);

/// `$1` room, `$2` thread, `$3` archived. Answers as [`CREATE_THREAD`] does. A thread that archived itself and is taken
/// out does so no more: its time has run out already.
pub(super) const ARCHIVE_THREAD: &str = concat!(
    "WITH it AS MATERIALIZED (
         SELECT t.id, ",
    archived!(),
    " AS is_archived FROM community_thread t WHERE t.id = $2 AND (t.room_id = $1) IS TRUE),
     changed AS (
         UPDATE community_thread t
            SET is_archived = $3, updated_at = clock_timestamp(),
                auto_archive_after_hours = CASE WHEN $3 OR (",
    ran_out!(),
    ") IS NOT TRUE THEN t.auto_archive_after_hours END
           FROM it WHERE t.id = it.id AND it.is_archived <> $3 RETURNING ",
    columns!(),
    ")
     SELECT CASE WHEN t.id IS NULL THEN 'same' ELSE 'ok' END, pg_current_xact_id()::text, NULL::uuid, NULL::bigint, ",
    names!(),
    " FROM it LEFT JOIN changed t ON true"
);

/// `$1` room, `$2` thread, `$3` how many. One row of nulls when the thread is empty, none when there is none.
pub(super) fn latest(neighbours: &str, newest_first: &str) -> String {
    format!(
        "WITH t AS (SELECT id FROM community_thread WHERE id = $2 AND (room_id = $1) IS TRUE),
              m AS (SELECT {PAGE} FROM community_message m
                     WHERE m.thread_id = (SELECT id FROM t) AND NOT m.is_hidden {newest_first} LIMIT $3)
         SELECT {MESSAGE} FROM t LEFT JOIN m ON true {neighbours} {newest_first}"
    )
}

/// `$1` room, `$2` thread, `$3` cursor, `$4` how many. No row: the cursor is no message of this thread.
pub(super) fn history(neighbours: &str, newest_first: &str) -> String {
    format!(
        "WITH cursor AS (SELECT c.created_at, c.id, c.thread_id FROM community_message c
                          WHERE c.id = $3 AND (c.thread_id = $2 AND c.room_id = $1) IS TRUE),
              m AS (SELECT {PAGE} FROM community_message m
                     WHERE m.thread_id = (SELECT thread_id FROM cursor)
                       AND m.created_at <= (SELECT created_at FROM cursor)
                       AND (m.created_at < (SELECT created_at FROM cursor)
                            OR m.id > (SELECT id FROM cursor))
                       AND NOT m.is_hidden {newest_first} LIMIT $4)
         SELECT {MESSAGE} FROM cursor LEFT JOIN m ON true {neighbours} {newest_first}"
    )
}
