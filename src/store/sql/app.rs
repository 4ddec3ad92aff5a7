//! What the presence socket asks for: a user's rooms, conversations, partners, and what is unread in them.

/// The most rooms, and the most conversations, of one user that are looked at.
pub const MOST: u32 = 200;

/// How many of a room's newest messages `k.user_id` has not read and not written, counted among the newest hundred.
/// Where no reading position can be stored, nothing is unread.
const UNREAD: &str = "(SELECT count(*)::int
     FROM (SELECT x.author_id, x.is_hidden FROM community_message x
            WHERE x.room_id = k.room_id AND x.created_at > k.since
            ORDER BY x.created_at DESC, x.id LIMIT 100) n
    WHERE n.author_id IS DISTINCT FROM k.user_id AND NOT n.is_hidden)";

/// One row for each room, then one for each conversation with those of its participants whom nobody blocked.
pub(in crate::store) fn overview() -> String {
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
             SELECT id AS room_id, since, $1 AS user_id FROM mine ORDER BY last_message_at DESC NULLS LAST LIMIT {MOST}),
         talks AS MATERIALIZED (
             SELECT d.id, d.room_id, d.last_message_at, COALESCE(m.last_read_at, m.joined_at) AS since, $1 AS user_id
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
    format!(
        "SELECT k.user_id, k.room_id, k.thread_id, {UNREAD}
           FROM (SELECT w.user_id, w.room_id, d.id AS thread_id, COALESCE(m.last_read_at, m.joined_at) AS since
                   FROM unnest($1::bigint[], $2::uuid[]) w(user_id, room_id)
                   LEFT JOIN LATERAL (SELECT id FROM community_directmessagethread
                                       WHERE room_id = w.room_id OFFSET 0) d ON true
                   LEFT JOIN LATERAL (SELECT last_read_at, joined_at FROM community_roommembership
                                       WHERE room_id = w.room_id AND user_id = w.user_id OFFSET 0) m ON true) k"
    )
}

/// Those of some users who blocked the user, or whom the user blocked.
pub(in crate::store) const BLOCKED: &str = "SELECT blocked_id FROM community_userblock
      WHERE blocker_id = $1 AND blocked_id = ANY($2)
     UNION SELECT blocker_id FROM community_userblock WHERE blocked_id = $1 AND blocker_id = ANY($2)";
