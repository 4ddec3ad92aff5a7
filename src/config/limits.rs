//! How much of everything. A count or a rate of 0 is off.

use super::parse::{self, whole};
use super::system;
use super::variable::{Reader, Variable};

const MESSAGES_PER_MINUTE: Variable =
    Variable::new("GATEWAY_LIMIT_MESSAGES_PER_MINUTE", "10", "sends a user in any 60 seconds, across instances").live();
const MESSAGES_PER_HOUR: Variable =
    Variable::new("GATEWAY_LIMIT_MESSAGES_PER_HOUR", "100", "sends a user in any hour, across instances").live();
const REACTIONS_PER_MINUTE: Variable = Variable::new(
    "GATEWAY_LIMIT_REACTIONS_PER_MINUTE",
    "30",
    "reactions added or removed a user in any 60 seconds, across instances",
)
.live();
const REPORTS_PER_HOUR: Variable =
    Variable::new("GATEWAY_LIMIT_REPORTS_PER_HOUR", "10", "reports of messages a user in any hour, across instances")
        .live();
const CHANGES_PER_MINUTE: Variable = Variable::new(
    "GATEWAY_LIMIT_CHANGES_PER_MINUTE",
    "30",
    "messages edited, deleted or pinned and threads locked or archived a user in any 60 seconds, across instances",
)
.live();
const HISTORY_PER_MINUTE: Variable = Variable::new(
    "GATEWAY_LIMIT_HISTORY_PER_MINUTE",
    "120",
    "pages of messages read a connection (history, opened threads, `resume`), a quarter of them at once, in memory",
)
.live();
const FRAMES_PER_SECOND: Variable =
    Variable::new("GATEWAY_LIMIT_FRAMES_PER_SECOND", "20", "frames of any kind a connection, in memory").live();
const FRAMES_BURST: Variable =
    Variable::new("GATEWAY_LIMIT_FRAMES_BURST", "40", "frames a connection may send at once").live();
const CONNECTIONS_PER_USER: Variable =
    Variable::new("GATEWAY_LIMIT_CONNECTIONS_PER_USER", "5", "open sockets a user, across instances").live();
const CONNECTS_PER_MINUTE: Variable =
    Variable::new("GATEWAY_LIMIT_CONNECTS_PER_MINUTE", "10", "new sockets a user in any 60 seconds, across instances")
        .live();
const CONNECTIONS_PER_ADDRESS: Variable =
    Variable::new("GATEWAY_LIMIT_CONNECTIONS_PER_ADDRESS", "1000", "open sockets a client address, on this instance")
        .live();
const CONNECTIONS: Variable = Variable::found(
    "GATEWAY_LIMIT_CONNECTIONS",
    "what `ulimit -n` leaves",
    "50000",
    "open sockets in all, on this instance",
);
const HANDSHAKE_RATE: Variable =
    Variable::new("GATEWAY_HANDSHAKE_RATE", "1000", "new sockets a second, beyond it 503 with `Retry-After`").live();
const MAX_MESSAGE_BYTES: Variable =
    Variable::new("GATEWAY_MAX_MESSAGE_BYTES", "32768", "one client message, fragments added up");
const OUTBOX_BYTES: Variable = Variable::new("GATEWAY_OUTBOX_BYTES", "262144", "queued for one client");

pub(super) const VARIABLES: &[Variable] = &[
    MESSAGES_PER_MINUTE,
    MESSAGES_PER_HOUR,
    REACTIONS_PER_MINUTE,
    REPORTS_PER_HOUR,
    CHANGES_PER_MINUTE,
    HISTORY_PER_MINUTE,
    FRAMES_PER_SECOND,
    FRAMES_BURST,
    CONNECTIONS_PER_USER,
    CONNECTS_PER_MINUTE,
    CONNECTIONS_PER_ADDRESS,
    CONNECTIONS,
    HANDSHAKE_RATE,
    MAX_MESSAGE_BYTES,
    OUTBOX_BYTES,
];

/// The limits. A count or a rate of 0 is off.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Sends a user in any 60 seconds, across instances.
    pub messages_per_minute: u32,
    /// Sends a user in any 3600 seconds, across instances.
    pub messages_per_hour: u32,
    /// Reactions added or removed a user in any 60 seconds, across instances.
    pub reactions_per_minute: u32,
    /// Reports of messages a user in any 3600 seconds, across instances.
    pub reports_per_hour: u32,
    /// Edits, deletions, pins, locks and archivings a user in any 60 seconds, across instances.
    pub changes_per_minute: u32,
    /// Pages of messages read a minute a connection, in the long run.
    pub history_per_minute: u32,
    /// Frames a second a connection, in the long run.
    pub frames_per_second: u32,
    /// Frames a connection may send at once; at least 1.
    pub frames_burst: u32,
    /// Open sockets a user, across instances.
    pub connections_per_user: u32,
    /// New sockets a user in any 60 seconds, across instances.
    pub connects_per_minute: u32,
    /// Open sockets a client address, on this instance.
    pub connections_per_address: u32,
    /// Open sockets in all, on this instance; `None` leaves it to `ulimit -n`. See [`Config::open_sockets`](super::Config::open_sockets).
    pub connections: Option<usize>,
    /// New sockets a second, on this instance.
    pub handshake_rate: u32,
    /// Bytes of one client message, fragments added up.
    pub max_message_bytes: usize,
    /// Bytes queued for one client.
    pub outbox_bytes: usize,
}

impl Limits {
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        const ANY: std::ops::RangeInclusive<u64> = 0..=1_000_000_000;
        let messages_per_minute = reader.take(&MESSAGES_PER_MINUTE, whole(ANY));
        let messages_per_hour = reader.take(&MESSAGES_PER_HOUR, whole(ANY));
        let reactions_per_minute = reader.take(&REACTIONS_PER_MINUTE, whole(ANY));
        let reports_per_hour = reader.take(&REPORTS_PER_HOUR, whole(ANY));
        let changes_per_minute = reader.take(&CHANGES_PER_MINUTE, whole(ANY));
        let history_per_minute = reader.take(&HISTORY_PER_MINUTE, whole(ANY));
        let frames_per_second = reader.take(&FRAMES_PER_SECOND, whole(ANY));
        let frames_burst = reader.take(&FRAMES_BURST, whole(1..=1_000_000_000));
        let connections_per_user = reader.take(&CONNECTIONS_PER_USER, whole(ANY));
        let connects_per_minute = reader.take(&CONNECTS_PER_MINUTE, whole(ANY));
        let connections_per_address = reader.take(&CONNECTIONS_PER_ADDRESS, whole(ANY));
        let connections = reader.take_optional(&CONNECTIONS, whole(ANY));
        let handshake_rate = reader.take(&HANDSHAKE_RATE, whole(ANY));
        let max_message_bytes = reader.take(&MAX_MESSAGE_BYTES, parse::whole(1024..=16 << 20));
        let outbox_bytes = reader.take(&OUTBOX_BYTES, parse::whole(1024..=1 << 30));
        Some(Self {
            messages_per_minute: messages_per_minute?,
            messages_per_hour: messages_per_hour?,
            reactions_per_minute: reactions_per_minute?,
            reports_per_hour: reports_per_hour?,
            changes_per_minute: changes_per_minute?,
            history_per_minute: history_per_minute?,
            frames_per_second: frames_per_second?,
            frames_burst: frames_burst?,
            connections_per_user: connections_per_user?,
            connects_per_minute: connects_per_minute?,
            connections_per_address: connections_per_address?,
            connections: connections?,
            handshake_rate: handshake_rate?,
            max_message_bytes: max_message_bytes?,
            outbox_bytes: outbox_bytes?,
        })
    }

    /// The most sockets that this process may have open: what was configured, else what `ulimit -n` leaves after the
    /// files that the gateway itself needs (`reserved`: its pools, listeners, log). `usize::MAX` when there is no limit.
    pub(super) fn open_sockets(&self, reserved: usize) -> usize {
        match self.connections {
            Some(0) => usize::MAX,
            Some(limit) => limit,
            None => what_is_left(system::open_files_limit(), reserved),
        }
    }
}

fn what_is_left(open_files: Option<usize>, reserved: usize) -> usize {
    open_files.map_or(usize::MAX, |limit| limit.saturating_sub(reserved).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_get_what_the_gateway_leaves() {
        assert_eq!(what_is_left(Some(1024), 100), 924);
        assert_eq!(what_is_left(Some(64), 100), 1);
        assert_eq!(what_is_left(None, 100), usize::MAX);
    }
}
