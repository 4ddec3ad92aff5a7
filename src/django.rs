//! The way to Django's own Redis databases, its cache and its broker: one client, with deadlines, that comes back by itself.
//!
//! Knows no key and keeps nothing. The realtime database is another matter: see `realtime`.

use std::time::Duration;

use fred::clients::Client;
use fred::error::Error;
use fred::types::Builder;
use fred::types::config::{Config, ReconnectPolicy, UnresponsiveConfig};

/// How long one command may take, waiting for a lost connection included.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer may be late before the connection counts as dead.
const UNRESPONSIVE_AFTER: Duration = Duration::from_secs(4);
/// Between two tries to reconnect, in milliseconds: at first, and at most. There is no last try.
const RECONNECT_MIN_MS: u32 = 50;
const RECONNECT_MAX_MS: u32 = 1_000;

/// One field of what `INFO` says.
#[must_use]
pub fn field_of<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// Makes a client, not connected yet. `waiting` commands may wait for the connection; one more fails at once. With
/// `fail_fast` the first connection must succeed, without it the server may be away at the start.
///
/// # Errors
/// When the URL is wrong.
pub fn client(url: &str, waiting: usize, fail_fast: bool) -> Result<Client, Error> {
    let mut config = Config::from_url(url)?;
    config.fail_fast = fail_fast;
    Builder::from_config(config)
        .with_performance_config(|config| config.default_command_timeout = COMMAND_TIMEOUT)
        .with_connection_config(|config| {
            config.connection_timeout = COMMAND_TIMEOUT;
            config.internal_command_timeout = COMMAND_TIMEOUT;
            config.max_command_buffer_len = waiting;
            // What was done on a connection that then broke is done: a token taken twice would be called unknown.
            config.max_command_attempts = 1;
            config.tcp.nodelay = Some(true);
            config.unresponsive =
                UnresponsiveConfig { max_timeout: Some(UNRESPONSIVE_AFTER), interval: Duration::from_secs(1) };
        })
        .set_policy(ReconnectPolicy::new_exponential(0, RECONNECT_MIN_MS, RECONNECT_MAX_MS, 2))
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let info = "# Memory\r\nmaxmemory_policy:noeviction\r\nmaxmemory:0\r\n";
        assert_eq!(field_of(info, "maxmemory_policy"), Some("noeviction"));
        assert_eq!((field_of(info, "maxmemory"), field_of(info, "memory")), (Some("0"), None));
    }
}
