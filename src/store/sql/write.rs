//! The statements that write messages.

/// Writes a batch. Its rooms are locked by [`super::begin`]; the arrays hold one element for each message, in order.
///
/// The time of a room's first message is the clock's, taken under the lock, or later: clocks step back, so it comes
/// after the room's last message by its own column, and after its newest row, which Django may have written without
/// touching that column. Each further message comes one microsecond later.
///
/// A message with a `queue_id` is flagged and waits for a human; one with an `action_id` besides is hidden. What is
/// hidden counts nowhere, so that no number tells of a message that nobody can find, and no spam earns its author trust:
/// the decision that shows it counts it ([`super::decide`]).
///
/// OFFSET 0 keeps what is looked up a look-up by key. A plan that was made when the tables were small is kept until they
/// are next analysed: joined, every batch would read all of the messages until then.
pub(super) fn write(user_table: &str) -> String {
    let archived = super::thread::ARCHIVED;
    let (shown, raised) = ("AND action_id IS NULL", raised("AND action_id IS NULL"));
    format!(
        "WITH draft AS MATERIALIZED (
             SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::text[], $6::text[],
                                  $7::text[], $8::uuid[], $9::uuid[], $10::uuid[], $11::boolean[],
                                  $12::uuid[], $13::uuid[], $14::text[], $15::text[], $16::text[])
                    WITH ORDINALITY AS d(id, room_id, author_id, content, message_type, attachments, mentions,
                                         reply_to_id, thread_id, dm_thread_id, moderates, queue_id, action_id, source, reason,
                                         scores, n)),
         {ROOM},
         placed AS MATERIALIZED (
             SELECT d.*, p.id AS answered_id, NOT p.is_hidden AS is_shown, left(p.content, 200) AS answered_content,
                    b.id AS answered_author_id, b.username AS answered_username,
                    CASE {NO_ROOM}
                         WHEN d.thread_id IS NOT NULL AND t.id IS NULL THEN 'thread'
                         WHEN {archived} THEN 'thread_archived'
                         WHEN t.is_locked AND NOT d.moderates THEN 'thread_locked'
                         ELSE 'ok' END AS verdict,
                    {AT} AS at
               FROM draft d
               LEFT JOIN room r ON r.id = d.room_id
               LEFT JOIN LATERAL (SELECT id, room_id, is_locked, is_archived, last_message_at, created_at,
                                         auto_archive_after_hours
                                    FROM community_thread WHERE id = d.thread_id OFFSET 0) t ON t.room_id = d.room_id
               LEFT JOIN LATERAL (SELECT id, room_id, author_id, content, is_hidden FROM community_message
                                   WHERE id = d.reply_to_id OFFSET 0) p ON p.room_id = d.room_id
               LEFT JOIN LATERAL (SELECT id, username FROM \"{user_table}\" WHERE id = p.author_id OFFSET 0) b ON true),
         message AS (
             INSERT INTO community_message ({COLUMNS})
             SELECT id, room_id, thread_id, author_id, answered_id, content, message_type, attachments::jsonb, '[]',
                    mentions::jsonb, '{{}}', false, NULL, queue_id IS NOT NULL, action_id IS NOT NULL, false, at, at
               FROM placed WHERE verdict = 'ok' ORDER BY n),
         queued AS (
             INSERT INTO community_moderationqueue (id, status, ai_flagged, ai_scores, ai_reason, report_count,
                    report_reasons, review_notes, created_at, updated_at, message_id)
             SELECT queue_id, 'pending', true, scores::jsonb, reason, 0, '[]', '', at, at, id
               FROM placed WHERE verdict = 'ok' AND queue_id IS NOT NULL),
         action AS (
             INSERT INTO community_moderationaction (id, action_type, source, reason, expires_at, is_active, ai_scores,
                    created_at, moderator_id, target_message_id, target_user_id, target_room_id)
             SELECT action_id, 'hide', source, reason, NULL, true, scores::jsonb, at, NULL, id, author_id, room_id
               FROM placed WHERE verdict = 'ok' AND action_id IS NOT NULL),
         {raised},
         conversation AS (
             UPDATE community_directmessagethread c SET last_message_at = s.last, updated_at = clock_timestamp()
               FROM (SELECT dm_thread_id, room_id, max(at) AS last
                       FROM placed WHERE verdict = 'ok' {shown} AND dm_thread_id IS NOT NULL
                      GROUP BY dm_thread_id, room_id) s
              WHERE c.id = s.dm_thread_id AND c.room_id = s.room_id),
         thread AS (
             UPDATE community_thread t
                SET message_count = t.message_count + s.added, last_message_at = s.last, updated_at = clock_timestamp()
               FROM (SELECT thread_id, count(*)::int AS added, max(at) AS last
                       FROM placed WHERE verdict = 'ok' {shown} AND thread_id IS NOT NULL
                      GROUP BY thread_id) s
              WHERE t.id = s.thread_id RETURNING t.id, t.message_count)
         SELECT p.verdict, p.at, p.answered_id, p.is_shown, p.answered_content, p.answered_author_id,
                p.answered_username, pg_current_xact_id()::text, t.message_count
           FROM placed p LEFT JOIN thread t ON t.id = p.thread_id ORDER BY p.n"
    )
}

/// Writes a batch as [`write`] does in which no message is direct, in a thread, an answer, or to be looked at: the first
/// seven arrays, and the same answer. Most are like that, and what [`write`] has beyond this makes a lone one a quarter dearer for
/// Postgres, though none of it does anything.
pub(super) fn write_plain() -> String {
    let raised = raised("");
    format!(
        "WITH draft AS MATERIALIZED (
             SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[])
                    WITH ORDINALITY AS d(id, room_id, author_id, content, message_type, attachments, mentions, n)),
         {ROOM},
         placed AS MATERIALIZED (
             SELECT d.*, CASE {NO_ROOM} ELSE 'ok' END AS verdict, {AT} AS at
               FROM draft d LEFT JOIN room r ON r.id = d.room_id),
         message AS (
             INSERT INTO community_message ({COLUMNS})
             SELECT id, room_id, NULL, author_id, NULL, content, message_type, attachments::jsonb, '[]',
                    mentions::jsonb, '{{}}', false, NULL, false, false, false, at, at
               FROM placed WHERE verdict = 'ok' ORDER BY n),
         {raised}
         SELECT verdict, at, NULL::uuid, NULL::boolean, NULL::text, NULL::bigint, NULL::text, pg_current_xact_id()::text,
                NULL::int
           FROM placed ORDER BY n"
    )
}

/// The rooms of a batch, and the time after which their messages come.
const ROOM: &str = "room AS MATERIALIZED (
             SELECT r.id, r.is_active, r.is_archived,
                    greatest(clock_timestamp(), r.last_message_at + interval '1 microsecond',
                             (SELECT max(m.created_at) FROM community_message m WHERE m.room_id = r.id)
                             + interval '1 microsecond') AS base
               FROM community_room r WHERE r.id = ANY(ARRAY(SELECT room_id FROM draft)))";

/// Why a room takes no message.
const NO_ROOM: &str = "WHEN r.id IS NULL OR NOT r.is_active THEN 'gone' WHEN r.is_archived THEN 'archived'";

/// A message's time.
const AT: &str = "r.base + (row_number() OVER (PARTITION BY d.room_id ORDER BY d.n) - 1) * interval '1 microsecond'";

/// What the gateway gives a new message.
pub(in crate::store) const COLUMNS: &str = "id, room_id, thread_id, author_id, reply_to_id, content, message_type, attachments, embeds, \
     mentions, reaction_counts, is_edited, edited_at, is_flagged, is_hidden, is_pinned, created_at, updated_at";

/// Counts messages for their rooms and their authors' memberships.
fn raised(shown: &str) -> String {
    format!(
        "raised AS (
             UPDATE community_room r
                SET message_count = r.message_count + s.added, last_message_at = s.last, updated_at = clock_timestamp()
               FROM (SELECT room_id, count(*)::int AS added, max(at) AS last
                       FROM placed WHERE verdict = 'ok' {shown} GROUP BY room_id) s
              WHERE r.id = s.room_id),
         member AS (
             UPDATE community_roommembership m
                SET messages_sent = m.messages_sent + s.added, updated_at = clock_timestamp()
               FROM (SELECT room_id, author_id, count(*)::int AS added
                       FROM placed WHERE verdict = 'ok' {shown} GROUP BY room_id, author_id) s
              WHERE m.room_id = s.room_id AND m.user_id = s.author_id)"
    )
}

/// `$1` message, `$2` its author. Of a message that was hidden at once and is so still, the source and the reason.
pub(super) const SENT_AT: &str = "
    SELECT m.created_at, m.thread_id, a.source, a.reason
      FROM community_message m
      LEFT JOIN LATERAL (SELECT source, reason FROM community_moderationaction
                          WHERE target_message_id = m.id AND action_type = 'hide' AND is_active
                            AND source IN ('ai', 'system') ORDER BY created_at LIMIT 1) a ON true
     WHERE m.id = $1 AND (m.author_id = $2) IS TRUE";
