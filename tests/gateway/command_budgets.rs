//! What the things that people do most may cost in Redis and Postgres, and the table of it in `ARCHITECTURE.md`. Held to by
//! `command_counts`.

use std::fmt::Write;
use std::path::Path;

use crate::cli_readme::fill;

/// What one thing may cost.
pub struct Budget {
    /// In words.
    pub what: &'static str,
    /// Commands, or scripts by the kind of their first key, and how many of each, exactly.
    pub redis: &'static [(&'static str, usize)],
    /// Of these at most: what is sent in the background shares a command when there is much of it.
    pub shared: &'static [(&'static str, usize)],
    /// Times that commands are sent, at most: what is sent together is one.
    pub flights: usize,
    /// Statements, exactly, each a round trip.
    pub statements: usize,
}

pub const COLD: Budget = Budget {
    what: "enter with a connection token, the first in a room",
    redis: &[
        ("GETDEL ws_conn_token", 1),
        ("GET session:version", 1),
        ("SET session:debounce", 1),
        ("SET session:activity", 1),
        ("community:sockets", 1),
        ("community:resume", 1),
        ("SUBSCRIBE community:room", 1),
        ("community:channels:asgi:groups", 1),
        ("community:position:room", 2),
        ("community:presence", 1),
    ],
    shared: &[("asgi:group:community:room", 1)],
    flights: 10,
    statements: 2,
};
pub const WARM: Budget = Budget {
    what: "enter with a connection token, others are there",
    redis: &[
        ("GETDEL ws_conn_token", 1),
        ("GET session:version", 1),
        ("SET session:debounce", 1),
        ("SET session:activity", 1),
        ("community:sockets", 1),
        ("community:resume", 1),
        ("community:position:room", 1),
        ("community:presence", 1),
    ],
    shared: &[("asgi:group:community:room", 1)],
    flights: 7,
    statements: 2,
};
pub const JWT: Budget = Budget {
    what: "enter with a JWT, others are there",
    redis: &[
        ("GET session:version", 1),
        ("SET session:debounce", 1),
        ("SET session:activity", 1),
        ("community:sockets", 1),
        ("community:resume", 1),
        ("community:position:room", 1),
        ("community:presence", 1),
    ],
    shared: &[("asgi:group:community:room", 1)],
    flights: 6,
    statements: 2,
};
pub const RESUME: Budget = Budget {
    what: "come back with a ticket, something was missed",
    redis: &[
        ("community:resume", 1),
        ("community:sockets", 1),
        ("community:presence", 1),
        ("community:position:room", 1),
        ("ZRANGEBYSCORE community:log:room", 1),
        ("ZCARD community:presence", 1),
        ("ZREVRANGE community:presence", 1),
    ],
    shared: &[],
    flights: 6,
    statements: 0,
};
pub const LEAVE: Budget = Budget {
    what: "leave with the last tab",
    redis: &[("community:presence", 1), ("community:sockets", 2)],
    shared: &[("asgi:group:community:room", 1)],
    flights: 4,
    statements: 0,
};
pub const PING: Budget = Budget { what: "ping", redis: &[], shared: &[], flights: 0, statements: 0 };
pub const TYPING: Budget = Budget {
    what: "begin to type, and end",
    redis: &[("community:typing", 2), ("PUBLISH community:room", 2)],
    shared: &[("asgi:group:community:room", 2)],
    flights: 4,
    statements: 0,
};
pub const SEND: Budget = Budget {
    what: "send to a room",
    redis: &[("rate_limit:community", 1), ("community:alike", 1), ("community:position:room", 2)],
    shared: &[("asgi:group:community:room", 1)],
    flights: 5,
    statements: 3,
};
pub const SEND_ONCE: Budget = Budget {
    what: "send to a room with a `client_id`",
    redis: &[
        ("community:nonce", 1),
        ("HSET community:nonce", 1),
        ("EXPIRE community:nonce", 1),
        ("rate_limit:community", 1),
        ("community:alike", 1),
        ("community:position:room", 2),
    ],
    shared: &[("asgi:group:community:room", 1)],
    flights: 7,
    statements: 3,
};
pub const SEND_MANY: Budget = Budget {
    what: "send to a room, 17 at once: one, and 16 while it is written",
    redis: &[("rate_limit:community", 17), ("community:alike", 17), ("community:position:room", 4)],
    shared: &[("asgi:group:community:room", 2)],
    flights: 38,
    statements: 6,
};
pub const SEND_DM: Budget = Budget {
    what: "send to one other person",
    redis: &[
        ("rate_limit:community", 1),
        ("community:alike", 1),
        ("community:position:dm", 2),
        ("community:tasks", 2),
        ("PUBLISH community:user", 1),
    ],
    shared: &[("asgi:group:community:dm", 1)],
    flights: 7,
    statements: 3,
};
pub const REACT: Budget = Budget {
    what: "react",
    redis: &[("rate_limit:community:reactions", 1), ("community:position:room", 2)],
    shared: &[("asgi:group:community:room", 1)],
    flights: 4,
    statements: 3,
};
pub const EDIT: Budget = Budget {
    what: "edit",
    redis: &[("rate_limit:community:changes", 1), ("community:position:room", 2)],
    shared: &[("asgi:group:community:room", 1)],
    flights: 4,
    statements: 3,
};

const ALL: [&Budget; 13] =
    [&COLD, &WARM, &JWT, &RESUME, &LEAVE, &PING, &TYPING, &SEND, &SEND_ONCE, &SEND_MANY, &SEND_DM, &REACT, &EDIT];

const PAGE: &str = include_str!("../../ARCHITECTURE.md");

#[test]
fn the_table_is_in_the_architecture() {
    let mut table = String::from("| what | Redis: commands | sent in | Postgres: statements |\n|---|---|---|---|\n");
    for Budget { what, redis, shared, flights, statements } in ALL {
        let each = redis.iter().chain(*shared).map(|(kind, count)| match count {
            1 => format!("`{kind}`"),
            _ => format!("{count} `{kind}`"),
        });
        let commands: usize = redis.iter().chain(*shared).map(|(_, count)| count).sum();
        let each: Vec<_> = each.collect();
        writeln!(table, "| {what} | {commands}: {} | {flights} | {statements} |", each.join(", ")).unwrap();
    }
    let page = fill(PAGE, "<!-- commands -->", "<!-- end of commands -->", &table.replace("| 0:  |", "| 0 |"));
    if page != PAGE {
        let new = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ARCHITECTURE.md");
        std::fs::write(&new, page).unwrap();
        panic!("ARCHITECTURE.md is out of date: cp {} ARCHITECTURE.md", new.display());
    }
}
