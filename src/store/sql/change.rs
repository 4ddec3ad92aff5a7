//! What changes a message that exists: edits, deletions, pins, reactions.
//!
//! Each statement runs in a transaction whose message row is locked by [`begin`], as the first statement that reads, so
//! that it sees what the holder of the lock before wrote. Each answers one row, or none when the room has no such
//! message: a verdict, the transaction's id, and what the event needs. It changes something only where the verdict is
//! `ok`.

use super::{MESSAGE, PAGE};

/// Begins a changing transaction and locks its message. Sent as one simple query, hence the id in the text: it is a
/// UUID, nothing else can stand there.
pub(in crate::store) fn begin(message: uuid::Uuid, lock_millis: u128, statement_millis: u128) -> String {
    format!(
        "{}; SELECT FROM community_message WHERE id = '{message}' FOR NO KEY UPDATE",
        super::preamble(lock_millis, statement_millis)
    )
}

/// `$1` room, `$2` message, `$3` user, `$4` text, `$5` mentions. The author's alone.
pub(super) fn edit(neighbours: &str) -> String {
    format!(
        "WITH it AS MATERIALIZED (
             SELECT m.id, clock_timestamp() AS at,
                    CASE WHEN m.is_hidden THEN 'unknown'
                         WHEN m.author_id IS DISTINCT FROM $3 THEN 'forbidden'
                         WHEN m.message_type = 'deleted' THEN 'unknown'
                         WHEN m.content = $4 THEN 'same'
                         ELSE 'ok' END AS verdict
               FROM community_message m WHERE m.id = $2 AND m.room_id = $1),
         m AS (
             UPDATE community_message m
                SET content = $4, mentions = $5::text::jsonb, is_edited = true, edited_at = it.at, updated_at = it.at
               FROM it WHERE m.id = it.id AND it.verdict = 'ok' RETURNING {PAGE})
         SELECT it.verdict, pg_current_xact_id()::text, {MESSAGE} FROM it LEFT JOIN m ON true {neighbours}"
    )
}

/// `$1` room, `$2` message, `$3` user, `$4` moderates, `$5` is staff, `$6` id of the moderation's record, which is left
/// when the message was somebody else's.
pub(super) const DELETE: &str = "
    WITH it AS MATERIALIZED (
        SELECT m.id, m.author_id, m.author_id IS DISTINCT FROM $3 AS is_others, clock_timestamp() AS at,
               CASE WHEN m.is_hidden THEN 'unknown'
                    WHEN m.author_id IS DISTINCT FROM $3 AND NOT $4 THEN 'forbidden'
                    WHEN m.message_type = 'deleted' THEN 'same'
                    ELSE 'ok' END AS verdict
          FROM community_message m WHERE m.id = $2 AND m.room_id = $1),
    m AS (
        UPDATE community_message m
           SET message_type = 'deleted', content = '[Message deleted]', attachments = '[]', embeds = '[]',
               mentions = '[]', is_pinned = false, updated_at = it.at
          FROM it WHERE m.id = it.id AND it.verdict = 'ok'),
    action AS (
        INSERT INTO community_moderationaction (id, action_type, source, reason, expires_at, is_active, ai_scores,
               created_at, moderator_id, target_message_id, target_user_id, target_room_id)
        SELECT $6, 'delete', CASE WHEN $5 THEN 'admin' ELSE 'community' END, '', NULL, true, '{}',
               it.at, $3, it.id, it.author_id, $1
          FROM it WHERE it.verdict = 'ok' AND it.is_others AND it.author_id IS NOT NULL)
    SELECT it.verdict, pg_current_xact_id()::text FROM it";

/// `$1` room, `$2` message, `$3` pinned.
pub(super) const PIN: &str = "
    WITH it AS MATERIALIZED (
        SELECT m.id, CASE WHEN m.is_hidden OR m.message_type = 'deleted' THEN 'unknown'
                          WHEN m.is_pinned = $3 THEN 'same'
                          ELSE 'ok' END AS verdict
          FROM community_message m WHERE m.id = $2 AND m.room_id = $1),
    m AS (
        UPDATE community_message m SET is_pinned = $3, updated_at = clock_timestamp()
          FROM it WHERE m.id = it.id AND it.verdict = 'ok')
    SELECT it.verdict, pg_current_xact_id()::text FROM it";

/// `$1` room, `$2` message, `$3` user, `$4` emoji, `$5` id of the new row. A statement does not see the rows it writes
/// itself: they are added to those that were there.
pub(super) const ADD_REACTION: &str = "
    WITH it AS MATERIALIZED (
        SELECT m.id, CASE WHEN m.is_hidden OR m.message_type = 'deleted' THEN 'unknown' ELSE 'ok' END AS verdict
          FROM community_message m WHERE m.id = $2 AND m.room_id = $1),
    changed AS (
        INSERT INTO community_messagereaction (id, emoji, created_at, message_id, user_id)
        SELECT $5, $4, clock_timestamp(), it.id, $3 FROM it WHERE it.verdict = 'ok'
            ON CONFLICT (message_id, user_id, emoji) DO NOTHING RETURNING emoji),
    counted AS (
        SELECT COALESCE(jsonb_object_agg(g.emoji, g.n), '{}') AS counts
          FROM (SELECT a.emoji, count(*) AS n
                  FROM (SELECT r.emoji FROM community_messagereaction r WHERE r.message_id = $2
                        UNION ALL SELECT c.emoji FROM changed c) a
                 GROUP BY a.emoji) g),
    m AS (
        UPDATE community_message m SET reaction_counts = counted.counts, updated_at = clock_timestamp()
          FROM it, counted WHERE m.id = it.id AND EXISTS (SELECT FROM changed) RETURNING m.reaction_counts)
    SELECT CASE WHEN it.verdict = 'ok' AND m.reaction_counts IS NULL THEN 'same' ELSE it.verdict END,
           pg_current_xact_id()::text, m.reaction_counts::text
      FROM it LEFT JOIN m ON true";

/// `$1` room, `$2` message, `$3` user, `$4` emoji.
pub(super) const REMOVE_REACTION: &str = "
    WITH it AS MATERIALIZED (
        SELECT m.id, CASE WHEN m.is_hidden OR m.message_type = 'deleted' THEN 'unknown' ELSE 'ok' END AS verdict
          FROM community_message m WHERE m.id = $2 AND m.room_id = $1),
    changed AS (
        DELETE FROM community_messagereaction r USING it
         WHERE r.message_id = it.id AND r.user_id = $3 AND r.emoji = $4 AND it.verdict = 'ok' RETURNING r.id),
    counted AS (
        SELECT COALESCE(jsonb_object_agg(g.emoji, g.n), '{}') AS counts
          FROM (SELECT r.emoji, count(*) AS n FROM community_messagereaction r
                 WHERE r.message_id = $2 AND r.id NOT IN (SELECT c.id FROM changed c)
                 GROUP BY r.emoji) g),
    m AS (
        UPDATE community_message m SET reaction_counts = counted.counts, updated_at = clock_timestamp()
          FROM it, counted WHERE m.id = it.id AND EXISTS (SELECT FROM changed) RETURNING m.reaction_counts)
    SELECT CASE WHEN it.verdict = 'ok' AND m.reaction_counts IS NULL THEN 'same' ELSE it.verdict END,
           pg_current_xact_id()::text, m.reaction_counts::text
      FROM it LEFT JOIN m ON true";
