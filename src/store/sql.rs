//! All SQL of the gateway, as text. Built once, because the name of the user table is configured.
//!
//! Rules: columns are named, never `*`; each list is bounded by a LIMIT or by the number of its keys; a page's columns
//! stand in one order ([`MESSAGE`]), which `row` reads by position; what is found by its id has its room compared with `IS TRUE`,
//! which no index serves, for while a table is small the index of rooms looks as good as that of ids, and the plan stays.

pub(super) mod app;
pub(super) mod change;
mod decide;
mod report;
mod role;
mod thread;
mod write;

use std::sync::Arc;

pub(super) use write::COLUMNS;

/// Every statement, ready for use.
pub(super) struct Sql {
    pub user_table: Box<str>,
    pub dm_permission: bool,
    pub account: Arc<str>,
    pub admission: Arc<str>,
    pub changed_admission: Arc<str>,
    pub people: Arc<str>,
    pub latest: Arc<str>,
    pub history: Arc<str>,
    pub mark_read: Arc<str>,
    pub write: Arc<str>,
    pub write_plain: Arc<str>,
    pub outcome: Arc<str>,
    pub present: Arc<str>,
    pub messages: Arc<str>,
    pub overview: Arc<str>,
    pub unread: Arc<str>,
    pub blocked: Arc<str>,
    pub rooms_online: Arc<str>,
    pub count_online: Arc<str>,
    pub sent_at: Arc<str>,
    pub author_of: Arc<str>,
    pub named: Arc<str>,
    pub edit: Arc<str>,
    pub delete: Arc<str>,
    pub pin: Arc<str>,
    pub add_reaction: Arc<str>,
    pub remove_reaction: Arc<str>,
    pub report: Arc<str>,
    pub decide: Arc<str>,
    pub thread: Arc<str>,
    pub thread_of: Arc<str>,
    pub thread_latest: Arc<str>,
    pub thread_history: Arc<str>,
    pub create_thread: Arc<str>,
    pub lock_thread: Arc<str>,
    pub archive_thread: Arc<str>,
}

/// One statement of the gateway by name, for the query plan tests and for readers.
#[derive(Clone, Debug)]
pub struct NamedQuery {
    /// What the store calls it.
    pub name: &'static str,
    /// The text, with `$1`… for its parameters.
    pub sql: Arc<str>,
}

/// Every prepared statement the gateway sends to Postgres, by name.
///
/// `user_table` must be a plain identifier ([`super::is_identifier`]); `dm_permission` says whether it has that column.
#[must_use]
pub fn queries(user_table: &str, dm_permission: bool) -> Vec<NamedQuery> {
    let sql = Sql::new(user_table, dm_permission);
    [
        ("account", sql.account),
        ("admission", sql.admission),
        ("changed_admission", sql.changed_admission),
        ("people", sql.people),
        ("latest", sql.latest),
        ("history", sql.history),
        ("mark_read", sql.mark_read),
        ("write", sql.write),
        ("write_plain", sql.write_plain),
        ("lock_rooms", LOCK_ROOMS.into()),
        ("outcome", sql.outcome),
        ("present", sql.present),
        ("messages", sql.messages),
        ("overview", sql.overview),
        ("unread", sql.unread),
        ("blocked", sql.blocked),
        ("rooms_online", sql.rooms_online),
        ("count_online", sql.count_online),
        ("sent_at", sql.sent_at),
        ("author_of", sql.author_of),
        ("named", sql.named),
        ("edit", sql.edit),
        ("delete", sql.delete),
        ("pin", sql.pin),
        ("add_reaction", sql.add_reaction),
        ("remove_reaction", sql.remove_reaction),
        ("report", sql.report),
        ("decide", sql.decide),
        ("thread", sql.thread),
        ("thread_of", sql.thread_of),
        ("thread_latest", sql.thread_latest),
        ("thread_history", sql.thread_history),
        ("create_thread", sql.create_thread),
        ("lock_thread", sql.lock_thread),
        ("archive_thread", sql.archive_thread),
    ]
    .into_iter()
    .map(|(name, sql)| NamedQuery { name, sql })
    .collect()
}

/// Says whether the user table has the column that a later version of Django's app adds.
pub(super) const HAS_DM_PERMISSION: &str = "SELECT EXISTS (SELECT FROM information_schema.columns \
    WHERE table_schema = ANY (current_schemas(false)) AND table_name = $1 AND column_name = 'dm_permission')";

/// A user's columns.
const USER: &str = "u.id, u.username, NULLIF(u.avatar_url, ''), u.is_staff, u.is_active, u.tier, u.date_joined";

/// A room's columns.
const ROOM: &str = "r.id, r.name, r.description, r.icon, r.room_type, r.visibility, r.member_count, r.is_archived, \
                    r.is_active, r.circle_id, r.slow_mode_seconds, r.min_trust_to_join, r.min_trust_to_post, \
                    r.auto_thread";

/// The columns of `community_message` that a page needs, before its neighbours are joined.
const PAGE: &str = "m.id, m.room_id, m.thread_id, m.author_id, m.content, m.message_type, m.attachments, m.embeds, \
                    m.mentions, m.reaction_counts, m.reply_to_id, m.is_edited, m.edited_at, m.is_pinned, m.created_at";

/// A message as readers see it: `m` is the message, `a` its author, `p` what it answers, `b` who wrote that.
const MESSAGE: &str = "m.id, m.room_id, m.thread_id, a.id, a.username, NULLIF(a.avatar_url, ''), m.content, \
                       m.message_type, m.attachments::text, m.embeds::text, m.mentions::text, \
                       m.reaction_counts::text, m.reply_to_id, p.id, left(p.content, 200), b.id, b.username, \
                       m.is_edited, m.edited_at, m.is_pinned, m.created_at";

/// How many columns of a row of [`rights`] decide what somebody may do: all that `account::admission` reads.
const RIGHTS: usize = 35;

impl Sql {
    /// `dm_permission`: the user table has that column.
    pub(super) fn new(user_table: &str, dm_permission: bool) -> Self {
        // Here and below, OFFSET 0 keeps a join a look-up by key for each row, whatever the planner thinks of the tables.
        let neighbours = format!(
            "LEFT JOIN LATERAL (SELECT id, username, avatar_url FROM \"{user_table}\"
                                 WHERE id = m.author_id OFFSET 0) a ON true
             LEFT JOIN LATERAL (SELECT id, room_id, author_id, content, is_hidden FROM community_message
                                 WHERE id = m.reply_to_id OFFSET 0) p ON p.room_id = m.room_id AND NOT p.is_hidden
             LEFT JOIN LATERAL (SELECT id, username FROM \"{user_table}\" WHERE id = p.author_id OFFSET 0) b ON true"
        );
        // The order of Django's index (room_id, created_at DESC, id): time first, and among equals the id.
        let newest_first = "ORDER BY m.created_at DESC, m.id";
        Self {
            user_table: user_table.into(),
            dm_permission,
            account: format!("SELECT {USER} FROM \"{user_table}\" u WHERE u.id = $1").into(),
            people: format!(
                "SELECT {USER} FROM (SELECT DISTINCT unnest($1::bigint[])) k(id)
                   JOIN LATERAL (SELECT id, username, avatar_url, is_staff, is_active, tier, date_joined
                                   FROM \"{user_table}\" WHERE id = k.id OFFSET 0) u ON true"
            )
            .into(),
            admission: admission(user_table, dm_permission).into(),
            changed_admission: changed_admission(user_table, dm_permission).into(),
            latest: format!(
                "WITH m AS (SELECT {PAGE} FROM community_message m
                             WHERE m.room_id = $1 AND m.thread_id IS NULL AND NOT m.is_hidden {newest_first} LIMIT $2)
                 SELECT {MESSAGE} FROM m {neighbours} {newest_first}"
            )
            .into(),
            // No row at all: the cursor is not a message of this room. One row of nulls: nothing is older than it.
            // A hidden message is still a place in the room's order, so it may be a cursor.
            history: format!(
                "WITH cursor AS (SELECT c.created_at, c.id FROM community_message c
                                  WHERE c.id = $2 AND (c.room_id = $1) IS TRUE),
                      m AS (SELECT {PAGE} FROM community_message m
                             WHERE m.room_id = $1
                               AND m.created_at <= (SELECT created_at FROM cursor)
                               AND (m.created_at < (SELECT created_at FROM cursor)
                                    OR m.id > (SELECT id FROM cursor))
                               AND m.thread_id IS NULL AND NOT m.is_hidden {newest_first} LIMIT $3)
                 SELECT {MESSAGE} FROM cursor LEFT JOIN m ON true {neighbours} {newest_first}"
            )
            .into(),
            mark_read: "UPDATE community_roommembership s
                           SET last_read_at = m.created_at, updated_at = clock_timestamp()
                          FROM community_message m
                         WHERE m.id = $3 AND (m.room_id = $1) IS TRUE AND s.room_id = $1 AND s.user_id = $2
                           AND (s.last_read_at IS NULL OR s.last_read_at < m.created_at)"
                .into(),
            write: write::write(user_table).into(),
            write_plain: write::write_plain().into(),
            outcome: "SELECT pg_xact_status($1::text::xid8)".into(),
            messages: format!(
                "WITH m AS (SELECT {PAGE} FROM (SELECT DISTINCT unnest($1::uuid[])) k(id)
                              JOIN LATERAL (SELECT {PAGE} FROM community_message m
                                             WHERE m.id = k.id AND NOT m.is_hidden OFFSET 0) m ON true)
                 SELECT {MESSAGE} FROM m {neighbours}"
            )
            .into(),
            present: "SELECT count(*) FROM community_message WHERE id = ANY($1)".into(),
            overview: app::overview().into(),
            unread: app::unread().into(),
            blocked: app::BLOCKED.into(),
            rooms_online: app::ROOMS_ONLINE.into(),
            count_online: app::COUNT_ONLINE.into(),
            sent_at: write::SENT_AT.into(),
            author_of: "SELECT author_id FROM community_message WHERE id = $2 AND (room_id = $1) IS TRUE".into(),
            named: format!(
                "SELECT u.id, u.username FROM (SELECT DISTINCT unnest($1::text[])) k(name)
                   JOIN LATERAL (SELECT id, username FROM \"{user_table}\"
                                  WHERE username = k.name AND is_active OFFSET 0) u ON true"
            )
            .into(),
            edit: change::edit(&neighbours).into(),
            report: report::REPORT.into(),
            delete: change::delete().into(),
            pin: change::pin().into(),
            add_reaction: change::add_reaction().into(),
            remove_reaction: change::remove_reaction().into(),
            decide: decide::decide(&neighbours).into(),
            thread: thread::THREAD.into(),
            thread_of: thread::THREAD_OF.into(),
            thread_latest: thread::latest(&neighbours, newest_first).into(),
            thread_history: thread::history(&neighbours, newest_first).into(),
            create_thread: thread::CREATE_THREAD.into(),
            lock_thread: thread::LOCK_THREAD.into(),
            archive_thread: thread::ARCHIVE_THREAD.into(),
        }
    }
}

/// Begins a writing transaction and locks its rooms, in the order of their ids so that two batches never wait for each
/// other. Sent as one simple query, hence the ids in the text: they are UUIDs, nothing else can stand there.
///
/// - Nothing is read here: a statement sees what was committed before it *began*, so only the next one is sure to see
///   what the holder of the lock before us wrote.
/// - Foreign keys are checked at once, not at the commit, so that a bad row is known before offsets are taken.
/// - A gateway that is frozen or cut off lets go of its rooms after five seconds.
/// - `prepared`: the connection knows [`prepare`], which spares Postgres the planning, an eighth of a lone message.
pub(super) fn begin(rooms: &[uuid::Uuid], lock_millis: u128, statement_millis: u128, prepared: bool) -> String {
    let mut list = String::with_capacity(rooms.len() * 37);
    for room in rooms {
        if !list.is_empty() {
            list.push(',');
        }
        list.push_str(room.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()));
    }
    let begin = preamble(lock_millis, statement_millis);
    match prepared {
        true => format!("{begin}; EXECUTE community_lock_rooms ('{{{list}}}')"),
        false => format!("{begin}; {}", LOCK_ROOMS.replace("$1", &format!("'{{{list}}}'::uuid[]"))),
    }
}

/// Locks rooms, in the order of their ids.
const LOCK_ROOMS: &str = "SELECT FROM community_room WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE";

/// What a new connection is told. By name, because what is run by a simple query has no other way to a kept plan.
pub(super) fn prepare() -> String {
    format!("PREPARE community_lock_rooms (uuid[]) AS {LOCK_ROOMS}")
}

/// Begins a transaction whose waits are bounded and whose foreign keys are checked at once.
fn preamble(lock_millis: u128, statement_millis: u128) -> String {
    format!(
        "BEGIN;
         SET LOCAL lock_timeout = {lock_millis};
         SET LOCAL statement_timeout = {statement_millis};
         SET LOCAL idle_in_transaction_session_timeout = 5000;
         SET CONSTRAINTS ALL IMMEDIATE"
    )
}

/// All that decides what users may do in rooms and direct conversations: a row for each of the pairs asked for, in their
/// order.
fn admission(user_table: &str, dm_permission: bool) -> String {
    let keys = "unnest($1::uuid[], $2::uuid[], $3::bigint[]) WITH ORDINALITY k(room_id, thread_id, user_id, place)";
    format!("{} ORDER BY k.place", rights(user_table, dm_permission, "", keys))
}

/// The same, of those alone whose fingerprint is not the known one: each with that, behind the pair's place.
fn changed_admission(user_table: &str, dm_permission: bool) -> String {
    let keys = "unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[])
                  WITH ORDINALITY k(room_id, thread_id, user_id, known, place)";
    let columns = (0..RIGHTS).map(|column| format!("c{column}")).collect::<Vec<_>>().join(", ");
    format!(
        "SELECT place, hash_record_extended(ROW({columns}), 0), {columns}
           FROM ({} OFFSET 0) x(place, known, {columns})
          WHERE hash_record_extended(ROW({columns}), 0) IS DISTINCT FROM known",
        rights(user_table, dm_permission, "k.place, k.known, ", keys)
    )
}

/// Rights, a row for each of the keys `k`, with what is to stand before them.
///
/// OFFSET 0 keeps each a look-up by key, and what only conversations have is looked for in them alone. A venue is a
/// room's id or a conversation's; a conversation's messages live in its room. `blocked` and `refused` are about
/// conversations of two only. Refused: the other one's `dm_permission` does not admit the user, who is no agent, and the
/// other one has not answered here yet.
fn rights(user_table: &str, dm_permission: bool, before: &str, keys: &str) -> String {
    let refused = if dm_permission {
        format!(
            "CASE WHEN d.is_group THEN false WHEN d.id IS NOT NULL THEN EXISTS (
                SELECT FROM community_directmessagethread_participants p
                 CROSS JOIN LATERAL (SELECT id, tier, dm_permission FROM \"{user_table}\"
                                      WHERE id = p.user_id OFFSET 0) q
                 WHERE p.directmessagethread_id = d.id AND p.user_id <> k.user_id AND q.tier <> 'team'
                   AND CASE q.dm_permission
                         WHEN 'none' THEN true
                         WHEN 'following' THEN NOT EXISTS (
                              SELECT FROM users_userfollow f WHERE f.follower_id = q.id AND f.following_id = k.user_id)
                         WHEN 'connections' THEN NOT (
                              EXISTS (SELECT FROM users_userfollow f
                                       WHERE (f.follower_id = q.id AND f.following_id = k.user_id)
                                          OR (f.follower_id = k.user_id AND f.following_id = q.id))
                              OR EXISTS (SELECT FROM community_roommembership x
                                          JOIN community_roommembership y ON y.room_id = x.room_id
                                          JOIN community_room z ON z.id = x.room_id AND z.room_type <> 'dm'
                                         WHERE x.user_id = q.id AND x.is_active
                                           AND y.user_id = k.user_id AND y.is_active)
                              OR EXISTS (SELECT FROM thrive_circle_circlemembership x
                                          JOIN thrive_circle_circlemembership y ON y.circle_id = x.circle_id
                                         WHERE x.user_id = q.id AND x.is_active
                                           AND y.user_id = k.user_id AND y.is_active))
                         ELSE false
                       END
                   AND NOT EXISTS (SELECT FROM community_message w
                                    WHERE w.room_id = d.room_id AND w.author_id = q.id)) ELSE false END"
        )
    } else {
        "false".to_owned()
    };
    let role = role::in_force("m.role", "k.user_id", "r.id");
    let participants = "FROM community_directmessagethread_participants p WHERE p.directmessagethread_id = d.id";
    let others = format!(
        "SELECT COALESCE(array_agg(p.user_id ORDER BY p.user_id), '{{}}') {participants} AND p.user_id <> k.user_id"
    );
    format!(
        "SELECT {before}{USER}, {ROOM}, {role}, m.is_active, m.last_read_at, m.messages_sent,
                r.circle_id IS NOT NULL AND EXISTS (SELECT FROM thrive_circle_circlemembership c
                         WHERE c.circle_id = r.circle_id AND c.user_id = k.user_id AND c.is_active),
                (SELECT COALESCE(sum(s.messages_sent), 0)::bigint FROM community_roommembership s
                  WHERE s.user_id = k.user_id),
                (SELECT COALESCE(array_agg(CASE WHEN b.blocker_id = k.user_id THEN b.blocked_id ELSE b.blocker_id END
                                           ORDER BY b.id), '{{}}')
                   FROM community_userblock b WHERE b.blocker_id = k.user_id OR b.blocked_id = k.user_id),
                d.id, d.is_group,
                d.id IS NOT NULL AND EXISTS (SELECT {participants} AND p.user_id = k.user_id),
                CASE WHEN d.id IS NULL THEN '{{}}' ELSE ({others}) END,
                CASE WHEN d.id IS NULL THEN '{{}}' ELSE (
                    {others} AND (SELECT q.tier FROM \"{user_table}\" q WHERE q.id = p.user_id) = 'team') END,
                CASE WHEN d.is_group THEN false WHEN d.id IS NOT NULL THEN EXISTS (
                    SELECT FROM community_directmessagethread_participants p
                      JOIN community_userblock b ON (b.blocker_id = k.user_id AND b.blocked_id = p.user_id)
                                                 OR (b.blocker_id = p.user_id AND b.blocked_id = k.user_id)
                     WHERE p.directmessagethread_id = d.id AND p.user_id <> k.user_id) ELSE false END,
                {refused}
           FROM {keys}
           LEFT JOIN LATERAL (SELECT room_id FROM community_directmessagethread
                               WHERE id = k.thread_id OFFSET 0) t ON true
           LEFT JOIN LATERAL (SELECT id, username, avatar_url, is_staff, is_active, tier, date_joined
                                FROM \"{user_table}\" WHERE id = k.user_id OFFSET 0) u ON true
           LEFT JOIN LATERAL (SELECT id, name, description, icon, room_type, visibility, member_count, is_archived,
                                     is_active, circle_id, slow_mode_seconds, min_trust_to_join, min_trust_to_post,
                                     auto_thread FROM community_room
                               WHERE id = COALESCE(k.room_id, t.room_id) OFFSET 0) r ON true
           LEFT JOIN LATERAL (SELECT id, room_id, is_group FROM community_directmessagethread
                               WHERE room_id = r.id OFFSET 0) d ON true
           LEFT JOIN LATERAL (SELECT role, is_active, last_read_at, messages_sent FROM community_roommembership
                               WHERE room_id = r.id AND user_id = k.user_id OFFSET 0) m ON true"
    )
}
