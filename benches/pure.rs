//! What is pure and done for every frame, event or login, by size: decoding, encoding, limits, word lists, pickles.
//!
//! `cargo bench --bench pure` times all of it. `pure --rounds N NAME SIZE` does one thing N times and says nothing:
//! `benches/instructions` counts what that costs and holds it to `benches/budgets`, without a clock.

mod samples;

use std::borrow::Cow;
use std::hint::black_box;
use std::io::Write;
use std::time::{Duration, Instant};

use bytes::Bytes;
use community_gateway::access::bucket::{Bucket, Rate};
use community_gateway::bus::{Envelope, Kind, Payload};
use community_gateway::domain::{Message, UserId};
use community_gateway::identity::pickle::{self, Field};
use community_gateway::moderation::{Lists, Patterns, Rules, Text};
use community_gateway::socket::Frame;
use community_gateway::wire::ClientCommand;
use community_gateway::wire::event::{self, MessagesJson, Place, State};

type Error = Box<dyn std::error::Error>;
/// Does the thing once.
type Once = Box<dyn FnMut()>;
/// Makes the thing ready for a size.
type Make = fn(usize) -> Once;

/// How long one line of the table is measured.
const ENOUGH: Duration = Duration::from_millis(200);

/// Each with its sizes: bytes of text, or messages in a state, or entries.
const THINGS: &[(&str, &[usize], Make)] = &[
    ("decode a message", &[20, 300, 4_000], decode),
    ("decode a typing", &[1], decode_typing),
    ("encode new_message", &[20, 300, 4_000], encode),
    ("encode room_state", &[1, 10, 50], state),
    ("share a room_state", &[1, 10, 50], shared_state),
    ("frame an event", &[300, 4_000], frame),
    ("write an envelope", &[300, 4_000], write_envelope),
    ("read an envelope", &[300, 4_000], read_envelope),
    ("take from a bucket", &[1], bucket),
    ("check a text", &[20, 300, 4_000], check),
    ("read a pickle", &[8, 80, 800], unpickle),
];

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, rounds, name, size] = arguments.as_slice()
        && flag == "--rounds"
    {
        let (_, _, make) = THINGS.iter().find(|(known, ..)| known == name).ok_or("no such thing")?;
        let mut once = make(size.parse()?);
        (0..rounds.parse::<u64>()?).for_each(|_| once());
        return Ok(());
    }
    // `cargo bench` says so; `cargo test --all-targets` only wants to know that it runs.
    let enough = if arguments.iter().any(|argument| argument == "--bench") { ENOUGH } else { Duration::ZERO };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{:<24} {:>6} {:>12} {:>10}", "what", "size", "ns each", "ns a unit")?;
    for (name, sizes, make) in THINGS {
        for size in *sizes {
            let each = measure(make(*size), enough);
            writeln!(out, "{name:<24} {size:>6} {each:>12.0} {:>10.1}", each / *size as f64)?;
        }
    }
    Ok(())
}

/// The fastest of many batches, in nanoseconds each: what else runs on the machine can only slow a batch down.
fn measure(mut once: Once, enough: Duration) -> f64 {
    const BATCH: u32 = 20;
    let (started, mut fastest) = (Instant::now(), Duration::MAX);
    while fastest == Duration::MAX || started.elapsed() < enough {
        let batch = Instant::now();
        (0..BATCH).for_each(|_| once());
        fastest = fastest.min(batch.elapsed());
    }
    fastest.as_secs_f64() * 1e9 / f64::from(BATCH)
}

/// A text as people write it, of so many bytes.
fn text(size: usize) -> String {
    "Has anybody tried the new release? It worked last week. ".chars().cycle().take(size).collect()
}

const PLACE: Place = Place { epoch: 1, offset: 1 };

fn decode(size: usize) -> Once {
    let frame = format!(r#"{{"type":"send_message","content":"{}","client_id":"c1"}}"#, text(size)).into_bytes();
    Box::new(move || {
        let _ = black_box(ClientCommand::decode(&mut black_box(&frame).clone()));
    })
}

fn decode_typing(_: usize) -> Once {
    Box::new(move || {
        let mut frame = *black_box(br#"{"type":"typing","is_typing":true}"#);
        let _ = black_box(ClientCommand::decode(&mut frame));
    })
}

fn encode(size: usize) -> Once {
    let message = samples::message(text(size));
    Box::new(move || {
        black_box(event::new_message(black_box(&message), PLACE, Some("c1")));
    })
}

fn state(messages: usize) -> Once {
    let messages = vec![samples::message(text(100)); messages];
    let tell = tell_state();
    Box::new(move || tell(&MessagesJson::of(black_box(&messages)), &messages))
}

/// To one of many who enter together.
fn shared_state(messages: usize) -> Once {
    let messages = vec![samples::message(text(100)); messages];
    let (tell, json) = (tell_state(), MessagesJson::of(&messages));
    Box::new(move || tell(black_box(&json), &messages))
}

/// Encodes the state of a room with 50 people in it.
fn tell_state() -> impl Fn(&MessagesJson, &[Message]) {
    let (online, room) = (samples::people(0..50), samples::room());
    move |json, messages| {
        let seen = json.seen(messages, |message| Some(Cow::Borrowed(message)));
        let state = State { messages: &seen, has_more: true, cursor: None, place: PLACE };
        black_box(event::room_state(&room, &state, &online, 50));
    }
}

fn frame(size: usize) -> Once {
    let body = event::new_message(&samples::message(text(size)), PLACE, None);
    Box::new(move || {
        black_box(Frame::text(black_box(&body)));
    })
}

fn envelope(size: usize) -> Envelope {
    let body = event::new_message(&samples::message(text(size)), PLACE, None);
    Envelope { place: Some(PLACE), ..Envelope::passing(Kind::Message, UserId(1), body) }
}

fn write_envelope(size: usize) -> Once {
    let envelope = envelope(size);
    Box::new(move || {
        black_box(black_box(&envelope).encode());
    })
}

fn read_envelope(size: usize) -> Once {
    let bytes = Bytes::from(envelope(size).encode());
    Box::new(move || {
        let _ = black_box(Payload::decode(black_box(&bytes)));
    })
}

fn bucket(_: usize) -> Once {
    let (rate, mut now) = (Rate::new(20, 40), Instant::now());
    let mut bucket = Bucket::new(now);
    Box::new(move || {
        now += Duration::from_millis(40);
        let _ = black_box(bucket.take(black_box(&rate), now));
    })
}

fn check(size: usize) -> Once {
    let (patterns, text) = (Patterns::new(Lists::builtin(), Rules::default()), text(size));
    Box::new(move || {
        black_box(patterns.check(&Text { text: black_box(&text), author_is_new: false }));
    })
}

fn unpickle(entries: usize) -> Once {
    let names: Vec<String> = (0..entries).map(|at| format!("field_{at}")).collect();
    let fields: Vec<_> = names.iter().map(|name| (name.as_str(), Field::Text("a value of some length"))).collect();
    let bytes = pickle::write_dict(&fields);
    Box::new(move || {
        let _ = black_box(pickle::read(black_box(&bytes)));
    })
}
