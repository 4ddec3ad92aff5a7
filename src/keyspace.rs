//! Every Redis key and channel name, with its owner and time to live.
//!
//! Nothing else in the crate may spell one. In Cluster mode the id in braces is the hash tag, so that all keys of one
//! topic live in one slot; the braces are left out otherwise, because the names without them are the contract.

pub mod channels;

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::domain::{InstanceName, MessageId, RoomId, ThreadId, Topic, UserId};

/// Whether the realtime Redis is a Cluster. A process has one, so this is decided once, before the first name is made.
static TAGGED: AtomicBool = AtomicBool::new(false);

/// From now on ids are hash tags: for a Cluster, before any name is made.
pub fn tag_ids() {
    TAGGED.store(true, Ordering::Release);
}

/// Whether ids are hash tags, and channels sharded.
#[must_use]
pub fn are_ids_tagged() -> bool {
    TAGGED.load(Ordering::Acquire)
}

/// An id as it stands in a name.
fn tagged(id: impl Display) -> String {
    let id = id.to_string();
    if are_ids_tagged() { ["{", &id, "}"].concat() } else { id }
}

/// A topic as it stands in a name: its kind, and its id.
fn tagged_topic(topic: Topic) -> String {
    let topic = topic.to_string();
    match topic.split_once(':') {
        Some((kind, id)) => [kind, ":", &tagged(id)].concat(),
        None => topic,
    }
}

/// The channel that Django sends control messages on.
pub const CONTROL: &str = "community:control";

/// The fan-out channel of a topic: `community:room:{id}`, `community:dm:{id}`, `community:thread:{id}`,
/// `community:user:{id}`, `community:online:{id}`.
#[must_use]
pub fn channel(topic: Topic) -> String {
    let topic = tagged_topic(topic);
    format!("community:{topic}")
}

/// Reads a fan-out channel's name back into its topic.
#[must_use]
pub fn parse_channel(channel: &[u8]) -> Option<Topic> {
    let text = std::str::from_utf8(channel).ok()?;
    let (kind, id) = text.strip_prefix("community:")?.split_once(':')?;
    let id = id.strip_prefix('{').and_then(|id| id.strip_suffix('}')).unwrap_or(id);
    match kind {
        "room" => Some(Topic::Room(RoomId(id.parse().ok()?))),
        "dm" => Some(Topic::Dm(ThreadId(id.parse().ok()?))),
        "thread" => Some(Topic::Thread(ThreadId(id.parse().ok()?))),
        "user" => Some(Topic::User(id.parse().ok()?)),
        "online" => Some(Topic::Online(id.parse().ok()?)),
        _ => None,
    }
}

/// ZSET offset → envelope, the recent events of a topic. Ours; trimmed by number and bytes, lives as long as [`LOG_SECONDS`]
/// after the last event.
#[must_use]
pub fn log(topic: Topic) -> String {
    let topic = tagged_topic(topic);
    format!("community:log:{topic}")
}

/// HASH offset → what it is for: offsets of a topic that are taken and not published. Ours; a field goes when its offset is
/// published, the rest [`POSITION_SECONDS`] after the last.
#[must_use]
pub fn taken(topic: Topic) -> String {
    let topic = tagged_topic(topic);
    format!("community:taken:{topic}")
}

/// STRING of 17 bytes an offset, after the offset in the position's `base`: what became of each, so that Postgres can tell
/// of it when the log has it no more. Ours; trimmed by number, lives [`INDEX_SECONDS`] after the last event.
#[must_use]
pub fn index(topic: Topic) -> String {
    let topic = tagged_topic(topic);
    format!("community:index:{topic}")
}

/// ZSET of when copies of one event were logged that Django published plainly, so that of all instances that heard a copy one
/// logs it. Ours; lives three times [`TOLD_SECONDS`] after the last.
#[must_use]
pub fn told(topic: Topic, fingerprint: u64) -> String {
    let topic = tagged_topic(topic);
    format!("community:told:{topic}:{fingerprint:016x}")
}

/// For how long copies of one event are told apart.
pub const TOLD_SECONDS: u64 = 60;

/// How long it is remembered what became of a topic's offsets.
pub const INDEX_SECONDS: u64 = 86_400;

/// HASH `offset`, `epoch`, `published`, `time`, `bytes`, `base`: where a topic's log stands. Ours; lives [`POSITION_SECONDS`] after the
/// last event, so that an epoch outlives its log.
#[must_use]
pub fn position(topic: Topic) -> String {
    let topic = tagged_topic(topic);
    format!("community:position:{topic}")
}

/// How long a topic's log is kept after its last event.
pub const LOG_SECONDS: u64 = 600;

/// How long a topic's position is kept after its last event.
pub const POSITION_SECONDS: u64 = 7 * 86_400;

/// ZSET user id → lease end (Unix seconds): who is online in a room. Shared with Django, which may read it. Expires
/// [`crate::config::Presence`]'s lease after the last renewal.
#[must_use]
pub fn presence(id: impl Display) -> String {
    let id = tagged(id);
    format!("community:presence:{id}")
}

/// ZSET `user|instance` → lease end: which instances hold a user's seats in a room. Ours; expires with the presence.
#[must_use]
pub fn seats(id: impl Display) -> String {
    let id = tagged(id);
    format!("community:seats:{id}")
}

/// ZSET instance → lease end: which instances have seats in a room. Ours; expires with the presence.
#[must_use]
pub fn places(id: impl Display) -> String {
    let id = tagged(id);
    format!("community:places:{id}")
}

/// HASH `epoch`, `told`: which life of a room's presence this is, so that its loss (a flush, an expiry) can be told from
/// a user's leaving. Ours; expires with the presence.
#[must_use]
pub fn presence_state(id: impl Display) -> String {
    let id = tagged(id);
    format!("community:presence_state:{id}")
}

/// HASH user id → time (Unix milliseconds): who types in a room. Expires 10 s after the last keystroke; older fields may
/// linger in a room where others type on.
#[must_use]
pub fn typing(id: impl Display) -> String {
    let id = tagged(id);
    format!("community:typing:{id}")
}

/// ZSET room → when it is due (Unix milliseconds): rooms in which Django's `online_count` may not be what presence says.
/// Ours; lives [`CENSUS_SECONDS`] after the last look.
pub const CENSUS: &str = "community:census";

/// How long rooms to be counted are remembered while no instance runs.
pub const CENSUS_SECONDS: u64 = 7 * 86_400;

/// ZSET of the times of a user's sends: the sliding windows. Lives as long as the longest window.
#[must_use]
pub fn send_window(user: UserId) -> String {
    let user = tagged(user);
    format!("rate_limit:community:{user}")
}

/// HASH `id`, `owner`, `until`, `ack`: the message that a user calls by this `client_id`, whose length the protocol
/// bounds. Ours; lives [`NONCE_SECONDS`].
#[must_use]
pub fn nonce(user: UserId, client_id: &str) -> String {
    format!("community:nonce:{user}:{client_id}")
}

/// How long a `client_id` means the same message.
pub const NONCE_SECONDS: u64 = 600;

/// ZSET of the times of a user's messages of one text. Ours; lives one minute.
#[must_use]
pub fn alike(user: UserId, fingerprint: u64) -> String {
    format!("community:alike:{user}:{fingerprint:016x}")
}

/// HASH `last`, `owner`, `until`: what humans decided of a message last, and which instance tells of it. Ours;
/// lives [`DECISION_SECONDS`].
#[must_use]
pub fn decision(message: MessageId) -> String {
    format!("community:decision:{message}")
}

/// How long the same decision of a message is told once.
pub const DECISION_SECONDS: u64 = 600;

/// ZSET of the time of a user's last send in a room with slow mode. Lives as long as the slow mode says.
#[must_use]
pub fn slow_mode(room: RoomId, user: UserId) -> String {
    format!("rate_limit:community:slow:{room}:{user}")
}

/// ZSET of the times of a user's reactions. Lives one minute.
#[must_use]
pub fn reaction_window(user: UserId) -> String {
    let user = tagged(user);
    format!("rate_limit:community:reactions:{user}")
}

/// ZSET of the times of a user's reports. Lives one hour.
#[must_use]
pub fn report_window(user: UserId) -> String {
    format!("rate_limit:community:reports:{user}")
}

/// ZSET of the times of a user's edits, deletions, pins and the like. Lives one minute.
#[must_use]
pub fn change_window(user: UserId) -> String {
    format!("rate_limit:community:changes:{user}")
}

/// ZSET of the times of a user's new connections. Lives one minute.
#[must_use]
pub fn connect_window(user: UserId) -> String {
    let user = tagged(user);
    format!("rate_limit:community:connects:{user}")
}

/// ZSET connection → lease end: a user's open sockets; the user is online while it exists. `grace` holds it for a moment
/// after the last socket. Ours; expires with the leases.
#[must_use]
pub fn sockets(user: UserId) -> String {
    let user = tagged(user);
    format!("community:sockets:{user}")
}

/// Present when a resume ticket was used. Ours; lives as long as the ticket would.
#[must_use]
pub fn resume_used(user: UserId, ticket: impl Display) -> String {
    let user = tagged(user);
    format!("community:resume:{user}:{ticket}")
}

/// HASH `generation`, `version`, `at`: which of a user's resume tickets were revoked, and when a logout did. Ours;
/// outlives them.
#[must_use]
pub fn resume_ended(user: UserId) -> String {
    let user = tagged(user);
    format!("community:resume:{user}")
}

/// ZSET task → when it is due (Unix seconds): work for Celery that waits to be handed over. Ours; lives
/// [`TASKS_SECONDS`] after the last was added.
pub const TASKS: &str = "community:tasks";

/// How long tasks wait for the broker at most. Each has a shorter life of its own.
pub const TASKS_SECONDS: u64 = 86_400;

/// In the broker's database: present once a task was pushed, so that it is not pushed again. Ours; lives
/// [`HANDED_OVER_SECONDS`].
#[must_use]
pub fn handed_over(task: impl Display) -> String {
    format!("community:handed_over:{task}")
}

/// How long it is remembered that a task was pushed: as long as tasks may wait.
pub const HANDED_OVER_SECONDS: u64 = TASKS_SECONDS;

/// Key and channel with which `check` tries out writing and pub/sub. Ours; the key lives one millisecond.
#[must_use]
pub fn check(id: impl Display) -> String {
    format!("community:check:{id}")
}

/// HASH instance → when it was last heard of (Unix milliseconds) and what it said of itself. Ours; lives
/// [`INSTANCES_SECONDS`] after the last word.
pub const INSTANCES: &str = "community:instances";

/// How long an instance that says nothing is remembered.
pub const INSTANCES_SECONDS: u64 = 60;

/// LIST of the instances' answers to one question of an operator. Ours; lives [`ANSWER_SECONDS`].
#[must_use]
pub fn answer(question: impl Display) -> String {
    format!("community:answer:{question}")
}

/// How long answers to a question are kept.
pub const ANSWER_SECONDS: u64 = 10;

/// Channel on which an instance sends itself a sign of life, to know that pub/sub delivers. Ours.
#[must_use]
pub fn instance(name: &InstanceName) -> String {
    format!("community:instance:{name}")
}

/// A key of Django's cache (another database): `<KEY_PREFIX>:<VERSION>:<name>`, plainly joined.
#[must_use]
pub fn cache_key(prefix: &str, version: &str, name: &str) -> String {
    format!("{prefix}:{version}:{name}")
}

/// In Django's cache: a single-use connection token. Django's; lives [`CONNECTION_TOKEN_SECONDS`].
#[must_use]
pub fn connection_token(token: &str) -> String {
    format!("ws_conn_token:{token}")
}

/// How long a connection token waits to be used.
pub const CONNECTION_TOKEN_SECONDS: i64 = 60;

/// In Django's cache: a user's session version, as digits. Django's; lives 90 days.
#[must_use]
pub fn session_version(user: UserId) -> String {
    format!("session:version:{user}")
}

/// In Django's cache: when a user was last active, as a pickled ISO time. Shared; lives [`SESSION_ACTIVITY_SECONDS`].
#[must_use]
pub fn session_activity(user: UserId) -> String {
    format!("session:activity:{user}")
}

/// How long a user's last activity is remembered.
pub const SESSION_ACTIVITY_SECONDS: i64 = 86_400;

/// In Django's cache: present while a user's activity need not be written again. Shared; lives
/// [`SESSION_DEBOUNCE_SECONDS`].
#[must_use]
pub fn session_debounce(user: UserId) -> String {
    format!("session:debounce:{user}")
}

/// How often a user's activity is written at most.
pub const SESSION_DEBOUNCE_SECONDS: i64 = 300;
