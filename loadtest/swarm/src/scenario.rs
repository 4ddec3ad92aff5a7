//! What a run does, read from a TOML file: the files in `scenarios/` are the examples.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// One run.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// People, each with one socket in one room.
    pub clients: usize,
    /// People of one room.
    pub room_size: usize,
    /// New connections a second, over all processes.
    pub connect_per_second: f64,
    /// How long it goes on once everybody is in.
    pub seconds: u64,
    /// Messages of each room, a second.
    #[serde(default)]
    pub messages_per_room_per_second: f64,
    /// So many of them at once, by so many people of the room.
    #[serde(default = "one")]
    pub burst: usize,
    /// Characters of one message.
    #[serde(default = "three_hundred")]
    pub message_size: usize,
    /// How often each client says that it types, a minute.
    #[serde(default)]
    pub typing_per_client_per_minute: f64,
    /// Seconds between two pings of one client; 0 for none.
    #[serde(default = "thirty")]
    pub ping_seconds: f64,
    /// Connections that are cut.
    pub blink: Option<Blink>,
    /// Which share of the clients never reads after its first state.
    #[serde(default)]
    pub deaf_share: f64,
}

/// Every client is cut (a TCP reset) again and again, and comes back.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Blink {
    /// Seconds between two cuts of one client.
    pub every_seconds: f64,
    /// Seconds it stays away.
    pub away_seconds: f64,
}

fn one() -> usize {
    1
}

fn three_hundred() -> usize {
    300
}

fn thirty() -> f64 {
    30.0
}

impl Scenario {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let scenario: Self = toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        if scenario.clients == 0 || scenario.room_size == 0 || scenario.burst == 0 || scenario.connect_per_second <= 0.0
        {
            return Err(format!(
                "{}: clients, room_size, burst and connect_per_second must be positive",
                path.display()
            ));
        }
        Ok(scenario)
    }

    /// How many messages are said in all.
    pub fn messages(&self) -> f64 {
        self.messages_per_room_per_second * self.rooms() as f64 * self.seconds as f64
    }

    /// How many rooms there are.
    pub fn rooms(&self) -> usize {
        self.clients.div_ceil(self.room_size)
    }
}
