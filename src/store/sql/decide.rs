//! What humans decided of a message, as the rows say it.

use super::{MESSAGE, PAGE};

/// `$1` message, `$2` the decision: `approved`, `hidden` or `deleted`.
///
/// Runs in a transaction whose message is locked by [`super::change::begin`]. Answers one row, or none when there is no
/// such message. `stale`: the row says otherwise, so another decision is under way. `silent`: nobody was shown anything
/// that changes now.
///
/// An active `hide` of the gateway's own (source `ai` or `system`) says that nobody ever saw the message, and that no
/// counter counts it. Whoever ends that record when the message is approved counts the message; done here.
pub(super) fn decide(neighbours: &str) -> String {
    format!(
        "WITH it AS MATERIALIZED (
             SELECT m.id, m.room_id, m.thread_id, m.author_id, m.created_at, d.id AS dm_id, h.unseen,
                    (SELECT a.moderator_id FROM community_moderationaction a
                      WHERE a.target_message_id = m.id AND a.moderator_id IS NOT NULL
                      ORDER BY a.created_at DESC LIMIT 1) AS moderator_id,
                    CASE WHEN $2 = 'approved' AND (m.is_hidden OR m.message_type = 'deleted')
                           OR $2 = 'hidden' AND NOT m.is_hidden
                           OR $2 = 'deleted' AND NOT m.is_hidden AND m.message_type <> 'deleted' THEN 'stale'
                         WHEN $2 = 'approved' AND NOT h.was_hidden OR $2 <> 'approved' AND h.unseen THEN 'silent'
                         ELSE 'ok' END AS verdict
               FROM community_message m
               LEFT JOIN community_directmessagethread d ON d.room_id = m.room_id
              CROSS JOIN LATERAL (SELECT count(*) > 0 AS was_hidden,
                                         COALESCE(bool_or(a.is_active AND a.source IN ('ai', 'system')), false) AS unseen
                                    FROM community_moderationaction a
                                   WHERE a.target_message_id = m.id AND a.action_type = 'hide') h
              WHERE m.id = $1),
         shown AS MATERIALIZED (SELECT * FROM it WHERE $2 = 'approved' AND verdict = 'ok' AND unseen),
         freed AS (
             UPDATE community_moderationaction a SET is_active = false FROM shown
              WHERE a.target_message_id = shown.id AND a.action_type = 'hide' AND a.is_active
                AND a.source IN ('ai', 'system')),
         room AS (
             UPDATE community_room r
                SET message_count = r.message_count + 1, updated_at = clock_timestamp(),
                    last_message_at = greatest(r.last_message_at, shown.created_at)
               FROM shown WHERE r.id = shown.room_id),
         member AS (
             UPDATE community_roommembership s SET messages_sent = s.messages_sent + 1, updated_at = clock_timestamp()
               FROM shown WHERE s.room_id = shown.room_id AND s.user_id = shown.author_id),
         conversation AS (
             UPDATE community_directmessagethread c
                SET last_message_at = greatest(c.last_message_at, shown.created_at), updated_at = clock_timestamp()
               FROM shown WHERE c.id = shown.dm_id),
         thread AS (
             UPDATE community_thread t
                SET message_count = t.message_count + 1, updated_at = clock_timestamp(),
                    last_message_at = greatest(t.last_message_at, shown.created_at)
               FROM shown WHERE t.id = shown.thread_id),
         m AS (SELECT {PAGE} FROM community_message m WHERE m.id = $1)
         SELECT it.verdict, pg_current_xact_id()::text, it.dm_id, it.moderator_id, {MESSAGE}
           FROM it CROSS JOIN m {neighbours}"
    )
}
