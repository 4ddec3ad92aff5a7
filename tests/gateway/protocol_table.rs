//! The protocol in one table: every frame that clients send, held against the code and against the README.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use community_gateway::wire::ClientCommand;

const README: &str = include_str!("../../README.md");
const BEGIN: &str = "<!-- protocol -->";
const END: &str = "<!-- end of protocol -->";

/// What is to be known of a frame. Events and errors are words of the protocol, separated by spaces.
struct Row {
    frame: &'static str,
    who: &'static str,
    limits: &'static str,
    events: &'static str,
    errors: &'static str,
}

const WRITERS: &str = "who may write in the room";
const FRAMES: &str = "frames";
const CHANGES: &str = "frames; changes a minute";
/// Why somebody may not write.
const WRITING: &str = "room_archived cannot_send blocked not_admitted trust_too_low";

const TABLE: [Row; 22] = [
    Row { frame: r#"{"type":"ping"}"#, who: "everybody, in every state", limits: FRAMES, events: "pong", errors: "" },
    Row {
        frame: r#"{"type":"send_message","content":"…","reply_to_id":"<uuid>"?,"attachments":[{url,name,size,type}]?,"mentions":["1"]?,"client_id":"…"?,"thread_id":"<uuid>"?}"#,
        who: "who may write in the room; in a locked thread, moderators",
        limits: "frames; messages a minute and an hour; slow mode; a repeated `client_id` counts nothing",
        events: "new_message message_ack moderation thread_updated",
        errors: "content_required content_too_long content_refused invalid_attachments invalid_mentions links_not_allowed attachments_not_allowed \
                 slow_mode rate_limited thread_not_found thread_locked thread_archived WRITING",
    },
    Row {
        frame: r#"{"type":"edit_message","message_id":"<uuid>","content":"…"}"#,
        who: "its author, who may still write",
        limits: CHANGES,
        events: "message_edited moderation",
        errors: "content_required content_too_long content_refused links_not_allowed message_not_found not_allowed thread_archived \
                 rate_limited WRITING",
    },
    Row {
        frame: r#"{"type":"delete_message","message_id":"<uuid>"}"#,
        who: "its author; moderators, who leave a record",
        limits: CHANGES,
        events: "message_deleted",
        errors: "message_not_found not_allowed thread_archived rate_limited room_archived",
    },
    Row {
        frame: r#"{"type":"add_reaction","message_id":"<uuid>","emoji":"👍"}"#,
        who: WRITERS,
        limits: "frames; reactions a minute",
        events: "reaction_updated",
        errors: "invalid_emoji message_not_found thread_archived rate_limited WRITING",
    },
    Row {
        frame: r#"{"type":"remove_reaction","message_id":"<uuid>","emoji":"👍"}"#,
        who: WRITERS,
        limits: "frames; reactions a minute",
        events: "reaction_updated",
        errors: "invalid_emoji message_not_found thread_archived rate_limited WRITING",
    },
    Row {
        frame: r#"{"type":"pin_message","message_id":"<uuid>"}"#,
        who: "moderators",
        limits: CHANGES,
        events: "message_pinned",
        errors: "message_not_found not_allowed thread_archived rate_limited room_archived",
    },
    Row {
        frame: r#"{"type":"unpin_message","message_id":"<uuid>"}"#,
        who: "moderators",
        limits: CHANGES,
        events: "message_pinned",
        errors: "message_not_found not_allowed thread_archived rate_limited room_archived",
    },
    Row {
        frame: r#"{"type":"typing","is_typing":true}"#,
        who: "who may write; others type unseen",
        limits: "frames; told every 2 seconds at most",
        events: "typing",
        errors: "",
    },
    Row {
        frame: r#"{"type":"read_receipt","message_id":"<uuid>"}"#,
        who: "everybody in the room; counts for members",
        limits: FRAMES,
        events: "",
        errors: "",
    },
    Row {
        frame: r#"{"type":"request_history","cursor":"<uuid>"?,"limit":50?,"thread_id":"<uuid>"?}"#,
        who: "everybody in the room",
        limits: "frames; pages a minute; 100 messages at once",
        events: "message_history",
        errors: "unknown_cursor thread_not_found rate_limited",
    },
    Row {
        frame: r#"{"type":"report_message","message_id":"<uuid>","reason":"…"?}"#,
        who: "everybody in the room, once a message; not one's own",
        limits: "frames; reports an hour",
        events: "message_reported",
        errors: "message_not_found not_allowed rate_limited",
    },
    Row {
        frame: r#"{"type":"create_thread","parent_message_id":"<uuid>"?,"title":"…"?}"#,
        who: "who may write in the room; not in conversations",
        limits: "frames; counts as a message",
        events: "thread_created",
        errors: "message_not_found content_refused links_not_allowed rate_limited not_allowed WRITING",
    },
    Row {
        frame: r#"{"type":"open_thread","thread_id":"<uuid>","epoch":"7"?,"offset":7?}"#,
        who: "everybody in the room",
        limits: "frames; pages a minute; 20 open at once",
        events: "thread_state resumed",
        errors: "thread_not_found too_many_threads not_allowed rate_limited",
    },
    Row {
        frame: r#"{"type":"close_thread","thread_id":"<uuid>"}"#,
        who: "everybody in the room",
        limits: FRAMES,
        events: "",
        errors: "",
    },
    Row {
        frame: r#"{"type":"lock_thread","thread_id":"<uuid>"}"#,
        who: "moderators",
        limits: CHANGES,
        events: "thread_updated",
        errors: "thread_not_found not_allowed rate_limited room_archived",
    },
    Row {
        frame: r#"{"type":"unlock_thread","thread_id":"<uuid>"}"#,
        who: "moderators",
        limits: CHANGES,
        events: "thread_updated",
        errors: "thread_not_found not_allowed rate_limited room_archived",
    },
    Row {
        frame: r#"{"type":"archive_thread","thread_id":"<uuid>"}"#,
        who: "moderators",
        limits: CHANGES,
        events: "thread_updated",
        errors: "thread_not_found not_allowed rate_limited room_archived",
    },
    Row {
        frame: r#"{"type":"unarchive_thread","thread_id":"<uuid>"}"#,
        who: "moderators",
        limits: CHANGES,
        events: "thread_updated",
        errors: "thread_not_found not_allowed rate_limited room_archived",
    },
    Row {
        frame: r#"{"type":"resume","epoch":"7","offset":7}"#,
        who: "everybody in the room",
        limits: "frames; pages a minute",
        events: "resumed room_state dm_state",
        errors: "rate_limited",
    },
    Row {
        frame: r#"{"type":"watch","room_ids":["<uuid>"]?,"user_ids":["1"]?}"#,
        who: "on the presence socket; rooms that one may read",
        limits: "frames; one a second, ten at once; 500 watched in all",
        events: "presence_state presence_update",
        errors: "too_many_watched rate_limited",
    },
    Row {
        frame: r#"{"type":"unwatch","room_ids":["<uuid>"]?,"user_ids":["1"]?}"#,
        who: "on the presence socket",
        limits: FRAMES,
        events: "",
        errors: "too_many_watched",
    },
];

impl Row {
    fn kind(&self) -> &'static str {
        self.frame.split('"').nth(3).unwrap()
    }

    /// The frame as a client may send it: optional fields given, placeholders filled.
    fn example(&self) -> String {
        let attachment = r#"{"url":"https://cdn.example/a.png","name":"a","size":1,"type":"image/png"}"#;
        self.frame
            .replace('?', "")
            .replace("<uuid>", "0190a0a0-0000-7000-8000-000000000001")
            .replace("{url,name,size,type}", attachment)
    }

    fn errors(&self) -> Vec<&'static str> {
        let words = self.errors.split_whitespace();
        words.flat_map(|word| if word == "WRITING" { WRITING } else { word }.split(' ')).collect()
    }
}

fn cell<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" ")
}

fn table() -> String {
    let mut table = String::from("| frame | who may | limits | events | errors |\n|---|---|---|---|---|\n");
    for row in &TABLE {
        let (events, errors) = (cell(row.events.split_whitespace()), cell(row.errors()));
        writeln!(table, "| `{}` | {} | {} | {events} | {errors} |", row.frame, row.who, row.limits).unwrap();
    }
    table
}

/// The words in quotes after `=> ` or before ` =>` in a part of a source.
fn part<'a>(source: &'a str, from: &str, to: &str) -> &'a str {
    source.split_once(from).unwrap().1.split_once(to).unwrap().0
}

#[test]
fn every_frame_that_is_understood_is_in_the_table_and_is_as_it_says() {
    let decoder = part(include_str!("../../src/wire/command.rs"), "match kind {", "other =>");
    let of_threads = part(include_str!("../../src/wire/command/thread.rs"), "match kind {", "_ =>");
    let understood: BTreeSet<&str> = decoder
        .lines()
        .chain(of_threads.lines())
        .filter_map(|line| line.trim().strip_prefix('"')?.split_once("\" =>"))
        .map(|(kind, _)| kind)
        .collect();
    assert_eq!(understood, TABLE.iter().map(Row::kind).collect());
    for row in &TABLE {
        let command = ClientCommand::decode(&mut row.example().into_bytes());
        assert_eq!(command.map(|command| command.name()), Ok(row.kind()), "{}", row.frame);
    }
}

#[test]
fn the_table_speaks_of_events_and_errors_that_exist() {
    let refusals = part(include_str!("../../src/wire/refusal.rs"), "fn as_str", "fn text");
    let events = [
        include_str!("../../src/wire/event/mod.rs"),
        include_str!("../../src/wire/event/message.rs"),
        include_str!("../../src/wire/event/change.rs"),
        include_str!("../../src/wire/event/app.rs"),
        include_str!("../../src/wire/event/thread.rs"),
        include_str!("../../src/wire/event/moderation.rs"),
        include_str!("../../src/wire/event/resume.rs"),
    ]
    .concat();
    for row in &TABLE {
        for error in row.errors() {
            assert!(refusals.contains(&format!("\"{error}\"")), "{error}");
        }
        for event in row.events.split_whitespace() {
            let ways = ["event: \"EVENT\"", "\"event\":\"EVENT\"", "::new(\"EVENT\""];
            assert!(ways.iter().any(|way| events.contains(&way.replace("EVENT", event))), "{event}");
        }
    }
}

#[test]
fn the_readme_has_the_table() {
    let (before, rest) = README.split_once(BEGIN).expect("the mark where it begins");
    let (_, after) = rest.split_once(END).expect("the mark where it ends");
    let page = format!("{before}{BEGIN}\n{}{END}{after}", table());
    if page != README {
        let new = Path::new(env!("CARGO_TARGET_TMPDIR")).join("README-protocol.md");
        std::fs::write(&new, page).unwrap();
        panic!("README.md is out of date: cp {} README.md", new.display());
    }
}
