//! What the presence socket asks for: a user's rooms, conversations, partners, and what is unread in them.

/// The most rooms, and the most conversations, of one user that are looked at.
pub const MOST: u32 = 200;

/// How many of a room's newest messages `k.user_id` has not read and not written, counted among the newest hundred; not
/// those of `k.hidden`. Messages in threads are the room's too, as in Django's counters, and one reading position is for
/// all.
/// Where no reading position can be stored, nothing is unread.
const UNREAD: &str = "(SELECT count(*)::int
     FROM (SELECT x.author_id, x.is_hidden FROM community_message x
            WHERE x.room_id = k.room_id AND x.created_at > k.since
            ORDER BY x.created_at DESC, x.id LIMIT 100) n
    WHERE n.author_id IS DISTINCT FROM k.user_id AND NOT n.is_hidden AND (n.author_id = ANY(k.hidden)) IS NOT TRUE)";

/// Whom `user` (an SQL expression) does not see in rooms.
fn hidden(user: &str) -> String {
    format!(
        "ARRAY(SELECT blocked_id FROM community_userblock WHERE blocker_id = {user}
               UNION SELECT blocker_id FROM community_userblock WHERE blocked_id = {user})"
    )
}

/// One row for each room, then one for each conversation with those of its participants whom nobody blocked.
pub(in crate::store) fn overview() -> String {
    let hidden = hidden("$1");
    let role = super::role::in_force("m.role", "m.user_id", "m.room_id");
    format!(
        "WITH mine AS (
             SELECT r.id, r.last_message_at, COALESCE(m.last_read_at, m.joined_at) AS since
               FROM community_roommembership m JOIN community_room r ON r.id = m.room_id
              WHERE m.user_id = $1 AND m.is_active AND {role} <> 'banned' AND r.is_active AND r.room_type <> 'dm'
             UNION ALL
             SELECT r.id, r.last_message_at, NULL
               FROM thrive_circle_circlemembership c JOIN community_room r ON r.circle_id = c.circle_id
              WHERE c.user_id = $1 AND c.is_active AND r.is_active AND NOT EXISTS (
                    SELECT FROM community_roommembership m
                     WHERE m.room_id = r.id AND m.user_id = $1 AND (m.is_active OR {role} = 'banned'))),
         rooms AS MATERIALIZED (
             SELECT id AS room_id, since, $1 AS user_id, {hidden} AS hidden FROM mine ORDER BY last_message_at DESC NULLS LAST LIMIT {MOST}),
         talks AS MATERIALIZED (
             SELECT d.id, d.room_id, d.last_message_at, COALESCE(m.last_read_at, m.joined_at) AS since, $1 AS user_id,
                    '{{}}'::bigint[] AS hidden
               FROM community_directmessagethread_participants p
               JOIN community_directmessagethread d ON d.id = p.directmessagethread_id
               JOIN community_room r ON r.id = d.room_id AND r.is_active
               LEFT JOIN LATERAL (SELECT last_read_at, joined_at FROM community_roommembership
                                   WHERE room_id = d.room_id AND user_id = $1 OFFSET 0) m ON true
              WHERE p.user_id = $1 ORDER BY d.last_message_at DESC NULLS LAST LIMIT {MOST})
         SELECT k.room_id, NULL::uuid, '{{}}'::bigint[], {UNREAD} FROM rooms k
         UNION ALL
         SELECT k.room_id, k.id,
                ARRAY(SELECT q.user_id FROM community_directmessagethread_participants q
                       WHERE q.directmessagethread_id = k.id AND q.user_id <> $1 AND NOT EXISTS (
                             SELECT FROM community_userblock b
                              WHERE (b.blocker_id = $1 AND b.blocked_id = q.user_id)
                                 OR (b.blocker_id = q.user_id AND b.blocked_id = $1))
                       ORDER BY q.user_id LIMIT {MOST}),
                {UNREAD}
           FROM talks k"
    )
}

/// One row for each pair of a user and a room.
pub(in crate::store) fn unread() -> String {
    let hidden = hidden("w.user_id");
    format!(
        "SELECT k.user_id, k.room_id, k.thread_id, {UNREAD}
           FROM (SELECT w.user_id, w.room_id, d.id AS thread_id, COALESCE(m.last_read_at, m.joined_at) AS since,
                        CASE WHEN d.id IS NULL THEN {hidden} ELSE '{{}}' END AS hidden
                   FROM unnest($1::bigint[], $2::uuid[]) w(user_id, room_id)
                   LEFT JOIN LATERAL (SELECT id FROM community_directmessagethread
                                       WHERE room_id = w.room_id OFFSET 0) d ON true
                   LEFT JOIN LATERAL (SELECT last_read_at, joined_at FROM community_roommembership
                                       WHERE room_id = w.room_id AND user_id = w.user_id OFFSET 0) m ON true) k"
    )
}

/// Those of some pairs of users of whom one blocked the other.
pub(in crate::store) const BLOCKED: &str = "WITH k AS (SELECT * FROM unnest($1::bigint[], $2::bigint[]) k(a, b))
     SELECT k.a, k.b FROM k JOIN community_userblock x ON x.blocker_id = k.a AND x.blocked_id = k.b
     UNION SELECT k.a, k.b FROM k JOIN community_userblock x ON x.blocker_id = k.b AND x.blocked_id = k.a";

/// Rooms with somebody online, `$1` at most. By the index on these three columns, past the rooms of conversations, which are many and
/// are not counted.
pub(in crate::store) const ROOMS_ONLINE: &str = "SELECT id FROM community_room
      WHERE room_type IN ('forum', 'circle') AND visibility IN ('public', 'private', 'unlisted') AND is_active
        AND online_count > 0 LIMIT $1";

/// `$1` rooms, `$2` how many are online. Answers the rooms that somebody else has locked, most likely to write in them:
/// nobody who writes waits for a count, and two counts never wait for each other. `updated_at` stays: it is when the
/// room was changed, and Django's lists and caches go by it.
pub(in crate::store) const COUNT_ONLINE: &str = "WITH news AS MATERIALIZED (
         SELECT r.id, w.online FROM unnest($1::uuid[], $2::int[]) w(id, online)
           JOIN LATERAL (SELECT id, online_count FROM community_room WHERE id = w.id OFFSET 0) r ON true
          WHERE r.online_count <> w.online),
     free AS MATERIALIZED (
         SELECT r.id FROM community_room r WHERE r.id = ANY(ARRAY(SELECT id FROM news)) FOR NO KEY UPDATE SKIP LOCKED),
     written AS (
         UPDATE community_room r SET online_count = n.online
           FROM news n JOIN free ON free.id = n.id
          WHERE r.id = n.id RETURNING r.id)
     SELECT n.id FROM news n WHERE NOT EXISTS (SELECT FROM written w WHERE w.id = n.id)";
