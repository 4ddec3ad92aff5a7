//! Reports of messages by those who read them.

/// `$1` room, `$2` message, `$3` who reports, `$4` id of a new row in the queue, `$5` whose messages the reporter
/// does not see, `$6` the reason, `$7` how many reporters flag.
///
/// Runs in a transaction whose message is locked by [`super::change::begin`]: no constraint of Django's keeps a message
/// from having two rows in the queue, so that lock does. The oldest row of a message is its row. What was approved is
/// looked at again.
pub(super) const REPORT: &str = "
    WITH it AS MATERIALIZED (
        SELECT m.id, clock_timestamp() AS at, q.id AS queue_id, r.reporters,
               CASE WHEN m.is_hidden OR m.message_type = 'deleted' OR m.author_id = ANY($5) THEN 'unknown'
                    WHEN m.author_id = $3 THEN 'forbidden'
                    WHEN $3 = ANY(r.reporters) THEN 'same'
                    ELSE 'ok' END AS verdict
          FROM community_message m
          LEFT JOIN LATERAL (SELECT id FROM community_moderationqueue
                              WHERE message_id = m.id ORDER BY created_at, id LIMIT 1) q ON true
          LEFT JOIN LATERAL (SELECT COALESCE(array_agg(DISTINCT p.user_id), '{}') AS reporters
                               FROM community_moderationqueue o
                               JOIN community_moderationqueue_reporters p ON p.moderationqueue_id = o.id
                              WHERE o.message_id = m.id) r ON true
         WHERE m.id = $2 AND (m.room_id = $1) IS TRUE),
    made AS (
        INSERT INTO community_moderationqueue (id, status, ai_flagged, ai_scores, ai_reason, report_count,
               report_reasons, review_notes, created_at, updated_at, message_id)
        SELECT $4, 'pending', false, '{}', '', 1,
               jsonb_build_array(jsonb_build_object('user_id', $3, 'reason', $6::text)), '', at, at, id
          FROM it WHERE verdict = 'ok' AND queue_id IS NULL),
    raised AS (
        UPDATE community_moderationqueue q
           SET report_count = q.report_count + 1, updated_at = it.at,
               report_reasons = q.report_reasons || jsonb_build_object('user_id', $3, 'reason', $6::text),
               status = CASE WHEN q.status = 'approved' THEN 'pending' ELSE q.status END
          FROM it WHERE it.verdict = 'ok' AND q.id = it.queue_id),
    reporter AS (
        INSERT INTO community_moderationqueue_reporters (moderationqueue_id, user_id)
        SELECT COALESCE(queue_id, $4), $3 FROM it WHERE verdict = 'ok'
            ON CONFLICT (moderationqueue_id, user_id) DO NOTHING),
    m AS (
        UPDATE community_message m SET is_flagged = true, updated_at = it.at
          FROM it WHERE m.id = it.id AND it.verdict = 'ok' AND NOT m.is_flagged
                    AND cardinality(it.reporters) + 1 >= $7)
    SELECT verdict FROM it";
