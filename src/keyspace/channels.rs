//! The names that Django's channel layer gives its keys, and ours beside them. They lie in the layer's database.
//!
//! `channels_redis` joins its prefix and an inbox's name without a colon, and a group's with two.

use crate::domain::{RoomId, ThreadId, Topic};

/// How inboxes of gateways begin, so that one gateway knows another's and sends nothing there: Django's are hexadecimal.
pub const OURS: &str = "specific.gw-";

/// The group that Django's consumers of a topic are in; `None` for topics that they know nothing of.
#[must_use]
pub fn group(topic: Topic) -> Option<String> {
    match topic {
        Topic::Room(room) => Some(format!("community.room.{room}")),
        Topic::Dm(thread) => Some(format!("community.dm.{thread}")),
        Topic::Thread(_) | Topic::User(_) | Topic::Online(_) => None,
    }
}

/// Reads a group's name back into its topic.
#[must_use]
pub fn parse_group(group: &str) -> Option<Topic> {
    let (kind, id) = group.strip_prefix("community.")?.split_once('.')?;
    match kind {
        "room" => Some(Topic::Room(RoomId(id.parse().ok()?))),
        "dm" => Some(Topic::Dm(ThreadId(id.parse().ok()?))),
        _ => None,
    }
}

/// ZSET channel → time of joining: a group's members. Django's; lives [`GROUP_SECONDS`] after the last joined.
#[must_use]
pub fn group_key(prefix: &str, group: &str) -> String {
    format!("{prefix}:group:{group}")
}

/// How long a member that joined once counts, as `channels_redis` has it by default.
pub const GROUP_SECONDS: u64 = 86_400;

/// ZSET message → time of sending: what waits for one client of the layer, that is for one process. Django's; lives
/// [`MESSAGE_SECONDS`] after the last message.
#[must_use]
pub fn inbox(prefix: &str, client: &str) -> String {
    format!("{prefix}specific.{client}!")
}

/// How long a message waits in an inbox, as `channels_redis` is configured in Django's settings (`expiry`).
pub const MESSAGE_SECONDS: u64 = 15;

/// The channel on which a client receives what is sent to a group: what stands behind `!` says for which topic it came,
/// because messages do not name their group.
#[must_use]
pub fn channel(client: &str, topic: Topic) -> Option<String> {
    match topic {
        Topic::Room(room) => Some(format!("specific.{client}!{room}")),
        Topic::Dm(thread) => Some(format!("specific.{client}!{thread}")),
        Topic::Thread(_) | Topic::User(_) | Topic::Online(_) => None,
    }
}

/// Channel of Redis on which the pub/sub layer sends to a group. Django's.
#[must_use]
pub fn group_channel(prefix: &str, group: &str) -> String {
    format!("{prefix}__group__{group}")
}

/// Reads the name of a group's channel back into its topic.
#[must_use]
pub fn parse_group_channel(prefix: &str, channel: &[u8]) -> Option<Topic> {
    let channel = std::str::from_utf8(channel).ok()?;
    parse_group(channel.strip_prefix(prefix)?.strip_prefix("__group__")?)
}

/// Channel of Redis to which gateways subscribe beside a group's, and on which nothing is sent: more subscribers there
/// than here are Django's. Ours.
#[must_use]
pub fn group_twin(prefix: &str, group: &str) -> String {
    format!("community:channels:{prefix}:{group}")
}

/// ZSET client → end of its lease (Unix seconds): which gateways have an inbox. Ours; lives two days after the last
/// renewal.
#[must_use]
pub fn clients(prefix: &str) -> String {
    format!("community:channels:{prefix}:clients")
}

/// SET of the keys of the groups that a gateway's inbox is in, for those who clean up after it. Ours; lives two days
/// after the last joining.
#[must_use]
pub fn client_groups(prefix: &str, client: &str) -> String {
    format!("community:channels:{prefix}:groups:{client}")
}

/// There once a batch of events has been sent to Django's consumers, so that it is not sent again when the answer was
/// lost. Ours; lives one minute.
#[must_use]
pub fn sent(batch: &str) -> String {
    format!("community:channels:sent:{batch}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_channels_redis() {
        let id = "3f2504e0-4f89-41d3-9a0c-0305e82c3301";
        let room = Topic::Room(RoomId(id.parse().expect("an id")));
        let dm = Topic::Dm(ThreadId(id.parse().expect("an id")));
        let group = group(room).expect("has one");
        assert_eq!(group_key("asgi", &group), format!("asgi:group:community.room.{id}"));
        assert_eq!(group_channel("asgi", &group), format!("asgi__group__community.room.{id}"));
        assert_eq!(inbox("asgi", "gw-1"), "asgispecific.gw-1!");
        assert_eq!(channel("gw-1", dm), Some(format!("specific.gw-1!{id}")));
        assert_eq!(parse_group(&format!("community.dm.{id}")), Some(dm));
        assert_eq!(parse_group_channel("asgi", format!("asgi__group__{group}").as_bytes()), Some(room));
        for name in ["community.room.", "community.user.1", "room", "community.dm.3f2504e0"] {
            assert_eq!(parse_group(name), None, "{name}");
        }
    }
}
