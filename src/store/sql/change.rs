//! What changes a message that exists: edits, deletions, pins, reactions.
//!
//! Each statement runs in a transaction whose message row is locked by [`begin`], as the first statement that reads, so
//! that it sees what the holder of the lock before wrote. Each answers one row, or none when the room has no such
//! message: a verdict, the transaction's id, the message's thread and author, and what the event needs. It changes
//! something only where the verdict is `ok`; in an archived thread it never is.

use super::thread::ARCHIVED;
use super::{MESSAGE, PAGE};

/// Begins a changing transaction and locks its message. Sent as one simple query, hence the id in the text: it is a
/// UUID, nothing else can stand there.
pub(in crate::store) fn begin(message: uuid::Uuid, lock_millis: u128, statement_millis: u128) -> String {
    format!(
        "{}; SELECT FROM community_message WHERE id = '{message}' FOR NO KEY UPDATE",
        super::preamble(lock_millis, statement_millis)
    )
}

/// What every statement answers first.
const ANSWER: &str = "pg_current_xact_id()::text, it.thread_id, it.author_id";

/// The message, and what is to become of it: `judge` has further `WHEN`s.
fn it(judge: &str) -> String {
    format!(
        "it AS MATERIALIZED (
             SELECT m.id, m.thread_id, m.author_id, m.mentions, clock_timestamp() AS at,
                    CASE WHEN m.is_hidden THEN 'unknown'
                         WHEN {ARCHIVED} THEN 'archived'
                         {judge}
                         ELSE 'ok' END AS verdict
               FROM community_message m LEFT JOIN community_thread t ON t.id = m.thread_id
              WHERE m.id = $2 AND (m.room_id = $1) IS TRUE)"
    )
}

/// `$1` room, `$2` message, `$3` user, `$4` text, `$5` mentions, `$6` id of a new row in the review queue if a human is to
/// look at it, `$7` the reason, `$8` scores. The author's alone. A message has one row in the queue: its oldest. Answers also
/// whom the text before mentioned.
pub(super) fn edit(neighbours: &str) -> String {
    let it = it("WHEN m.author_id IS DISTINCT FROM $3 THEN 'forbidden'
                 WHEN m.message_type = 'deleted' THEN 'unknown'
                 WHEN m.content = $4 THEN 'same'");
    format!(
        "WITH {it},
         m AS (
             UPDATE community_message m
                SET content = $4, mentions = $5::text::jsonb, is_edited = true, edited_at = it.at, updated_at = it.at,
                    is_flagged = m.is_flagged OR $6::uuid IS NOT NULL
               FROM it WHERE m.id = it.id AND it.verdict = 'ok' RETURNING {PAGE}),
         waiting AS MATERIALIZED (
             SELECT id FROM community_moderationqueue WHERE message_id = $2 ORDER BY created_at, id LIMIT 1),
         again AS (
             UPDATE community_moderationqueue q
                SET status = 'pending', ai_flagged = true, ai_reason = $7, ai_scores = $8::text::jsonb, updated_at = it.at
               FROM it, waiting w WHERE q.id = w.id AND it.verdict = 'ok' AND $6 IS NOT NULL),
         queued AS (
             INSERT INTO community_moderationqueue (id, status, ai_flagged, ai_scores, ai_reason, report_count,
                    report_reasons, review_notes, created_at, updated_at, message_id)
             SELECT $6, 'pending', true, $8::text::jsonb, $7, 0, '[]', '', it.at, it.at, it.id
               FROM it WHERE it.verdict = 'ok' AND $6 IS NOT NULL AND NOT EXISTS (SELECT FROM waiting))
         SELECT it.verdict, {ANSWER}, it.mentions::text, {MESSAGE} FROM it LEFT JOIN m ON true {neighbours}"
    )
}

/// `$1` room, `$2` message, `$3` user, `$4` moderates, `$5` is staff, `$6` id of the moderation's record, which is left
/// when the message was somebody else's.
pub(super) fn delete() -> String {
    let it = it("WHEN m.author_id IS DISTINCT FROM $3 AND NOT $4 THEN 'forbidden'
                 WHEN m.message_type = 'deleted' THEN 'same'");
    format!(
        "WITH {it},
         m AS (
             UPDATE community_message m
                SET message_type = 'deleted', content = '[Message deleted]', attachments = '[]', embeds = '[]',
                    mentions = '[]', is_pinned = false, updated_at = it.at
               FROM it WHERE m.id = it.id AND it.verdict = 'ok'),
         action AS (
             INSERT INTO community_moderationaction (id, action_type, source, reason, expires_at, is_active, ai_scores,
                    created_at, moderator_id, target_message_id, target_user_id, target_room_id)
             SELECT $6, 'delete', CASE WHEN $5 THEN 'admin' ELSE 'community' END, '', NULL, true, '{{}}',
                    it.at, $3, it.id, it.author_id, $1
               FROM it WHERE it.verdict = 'ok' AND it.author_id <> $3)
         SELECT it.verdict, {ANSWER} FROM it"
    )
}

/// `$1` room, `$2` message, `$3` pinned.
pub(super) fn pin() -> String {
    let it = it("WHEN m.message_type = 'deleted' THEN 'unknown'
                 WHEN m.is_pinned = $3 THEN 'same'");
    format!(
        "WITH {it},
         m AS (
             UPDATE community_message m SET is_pinned = $3, updated_at = it.at
               FROM it WHERE m.id = it.id AND it.verdict = 'ok')
         SELECT it.verdict, {ANSWER} FROM it"
    )
}

/// `$1` room, `$2` message, `$3` user, `$4` emoji, `$5` id of the new row. A statement does not see the rows it writes
/// itself: they are added to those that were there.
pub(super) fn add_reaction() -> String {
    react(
        "INSERT INTO community_messagereaction (id, emoji, created_at, message_id, user_id)
         SELECT $5, $4, it.at, it.id, $3 FROM it WHERE it.verdict = 'ok'
             ON CONFLICT (message_id, user_id, emoji) DO NOTHING RETURNING emoji",
        "SELECT r.emoji FROM community_messagereaction r WHERE r.message_id = $2
         UNION ALL SELECT c.emoji FROM changed c",
    )
}

/// `$1` room, `$2` message, `$3` user, `$4` emoji.
pub(super) fn remove_reaction() -> String {
    react(
        "DELETE FROM community_messagereaction r USING it
          WHERE r.message_id = it.id AND r.user_id = $3 AND r.emoji = $4 AND it.verdict = 'ok' RETURNING r.id",
        "SELECT r.emoji FROM community_messagereaction r
          WHERE r.message_id = $2 AND r.id NOT IN (SELECT c.id FROM changed c)",
    )
}

/// `changed` changes the rows, `left` are the emojis of those that there are then.
fn react(changed: &str, left: &str) -> String {
    let it = it("WHEN m.message_type = 'deleted' THEN 'unknown'");
    format!(
        "WITH {it},
         changed AS ({changed}),
         counted AS (
             SELECT COALESCE(jsonb_object_agg(g.emoji, g.n), '{{}}') AS counts
               FROM (SELECT a.emoji, count(*) AS n FROM ({left}) a GROUP BY a.emoji) g),
         m AS (
             UPDATE community_message m SET reaction_counts = counted.counts, updated_at = it.at
               FROM it, counted WHERE m.id = it.id AND EXISTS (SELECT FROM changed) RETURNING m.reaction_counts)
         SELECT CASE WHEN it.verdict = 'ok' AND m.reaction_counts IS NULL THEN 'same' ELSE it.verdict END, {ANSWER},
                m.reaction_counts::text
           FROM it LEFT JOIN m ON true"
    )
}
