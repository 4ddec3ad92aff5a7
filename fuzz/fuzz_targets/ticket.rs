//! Resume tickets: what was sealed comes back, and nothing else is a ticket.

#![no_main]

use std::sync::LazyLock;

use community_gateway::domain::{ConnectionId, Micros, UserId};
use community_gateway::identity::{Sealer, Ticket};
use libfuzzer_sys::fuzz_target;
use uuid::Uuid;

static SEALER: LazyLock<Sealer> = LazyLock::new(|| Sealer::new("the secret of this target"));

// A ticket, and what is done to it: another character at one place, or another text altogether.
fuzz_target!(|input: (u128, i64, Option<i64>, (u64, i64, u64), u8, char, &str)| {
    let (id, user, session_version, (generation, expires, connection), at, letter, text) = input;
    let (id, user, expires) = (Uuid::from_u128(id), UserId(user), Micros(expires));
    let connection = ConnectionId(connection);
    let ticket = Ticket { id, user, session_version, generation, expires, connection };
    let sealed = SEALER.seal(&ticket);
    assert_eq!(SEALER.open(&sealed), Ok(ticket));
    let at = usize::from(at) % sealed.len();
    let changed: String = sealed.chars().enumerate().map(|(n, was)| if n == at { letter } else { was }).collect();
    assert!(changed == sealed || SEALER.open(&changed).is_err());
    assert!(text == sealed || SEALER.open(text).is_err());
});
