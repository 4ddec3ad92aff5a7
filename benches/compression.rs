//! What permessage-deflate would cost and save, without context takeover: a broadcast is compressed once, and every client
//! inflates it by itself. The gateway does not do it; `ARCHITECTURE.md` says why, by these figures.
//!
//! `cargo bench --bench compression`. zlib-rs, the fastest there is for Rust; browsers inflate about as fast.

mod samples;

use std::borrow::Cow;
use std::hint::black_box;
use std::io::Write;
use std::time::{Duration, Instant};

use community_gateway::domain::{Author, Message, MessageId, Micros, Room, RoomId, UserId};
use community_gateway::wire::event::{self, MessagesJson, Place, State};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use uuid::Uuid;

type Error = Box<dyn std::error::Error>;

/// How long one figure is measured.
const ENOUGH: Duration = Duration::from_millis(200);
/// How a flushed block ends; left out on the wire and put back by the receiver (RFC 7692, 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
const PLACE: Place = Place { epoch: 5_013_922_130_307_049, offset: 1_234 };
const ROOM: RoomId = RoomId(Uuid::from_u128(0x6378_0249_1929_4fb0_97a1_ed3a_aacf_8ade));
const WORDS: &str = "has anybody tried the new release yet it worked for me last week but now I get an error when a second tab \
                     is open maybe we should ask in the other room thanks that was quick see you tomorrow at eight";

fn main() -> Result<(), Error> {
    // `cargo bench` says so; `cargo test --all-targets` only wants to know that it runs.
    let enough = if std::env::args().any(|arg| arg == "--bench") { ENOUGH } else { Duration::ZERO };
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{:<22} {:>6} {:>7} {:>9} {:>6} {:>12} {:>11}",
        "what", "level", "bytes", "deflated", "%", "µs deflate", "µs inflate"
    )?;
    let mut chance = Chance(42);
    let events = [0, 60, 760].map(|text| event::new_message(&message(&mut chance, text), PLACE, None));
    let reaction =
        event::reaction_updated(None, message(&mut chance, 0).id, "👍", UserId(1_001), true, r#"{"👍": 1}"#, PLACE);
    let states = [1, 10, 50].map(|messages| state(&mut chance, messages));
    let events = events.into_iter().map(|event| ("new_message".to_owned(), event));
    let states = states.into_iter().zip([1, 10, 50]).map(|(state, count)| (format!("room_state of {count}"), state));
    for (what, plain) in [("reaction_updated".to_owned(), reaction)].into_iter().chain(events).chain(states) {
        for level in [1, 6] {
            let mut deflater = Compress::new(Compression::new(level), false);
            let deflated = deflate(&mut deflater, &plain)?;
            let deflating = measure(enough, || deflate(&mut deflater, black_box(&plain)))?;
            let (mut inflater, whole) = (Decompress::new(false), [&deflated[..], &TAIL].concat());
            if inflate(&mut inflater, &whole, plain.len())? != plain {
                return Err("what was inflated is something else".into());
            }
            let inflating = measure(enough, || inflate(&mut inflater, black_box(&whole), plain.len()))?;
            let share = deflated.len() as f64 * 100.0 / plain.len() as f64;
            writeln!(
                out,
                "{what:<22} {level:>6} {:>7} {:>9} {share:>6.0} {deflating:>12.1} {inflating:>11.1}",
                plain.len(),
                deflated.len()
            )?;
        }
    }
    Ok(())
}

/// One message of its own: the window begins empty.
fn deflate(deflater: &mut Compress, plain: &[u8]) -> Result<Vec<u8>, Error> {
    deflater.reset();
    let mut deflated = Vec::with_capacity(plain.len() + 64);
    deflater.compress_vec(plain, &mut deflated, FlushCompress::Sync)?;
    let end = deflated.len().checked_sub(TAIL.len()).filter(|end| deflated[*end..] == TAIL).ok_or("not flushed")?;
    deflated.truncate(end);
    Ok(deflated)
}

fn inflate(inflater: &mut Decompress, whole: &[u8], length: usize) -> Result<Vec<u8>, Error> {
    inflater.reset(false);
    let mut plain = Vec::with_capacity(length + 64);
    inflater.decompress_vec(whole, &mut plain, FlushDecompress::Sync)?;
    Ok(plain)
}

/// The fastest of many batches, in microseconds each: what else runs on the machine can only slow a batch down.
fn measure(enough: Duration, mut once: impl FnMut() -> Result<Vec<u8>, Error>) -> Result<f64, Error> {
    const BATCH: u32 = 20;
    let (started, mut fastest) = (Instant::now(), Duration::MAX);
    while fastest == Duration::MAX || started.elapsed() < enough {
        let batch = Instant::now();
        for _ in 0..BATCH {
            black_box(once()?);
        }
        fastest = fastest.min(batch.elapsed());
    }
    Ok(fastest.as_secs_f64() * 1e6 / f64::from(BATCH))
}

/// Numbers that look like chance and are always the same (splitmix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Words in any order, of about so many bytes.
    fn text(&mut self, size: usize) -> String {
        let words: Vec<_> = WORDS.split_whitespace().collect();
        let mut text = String::new();
        while text.len() < size {
            text.push_str(words[(self.next() % words.len() as u64) as usize]);
            text.push(' ');
        }
        text
    }
}

fn message(chance: &mut Chance, size: usize) -> Message {
    let id = (u128::from(chance.next()) << 64) | u128::from(chance.next());
    let user = chance.next() % 50;
    let content = chance.text(size);
    Message {
        id: MessageId(Uuid::from_u128(id)),
        room_id: ROOM,
        author: Author {
            id: Some(UserId(i64::try_from(user).unwrap_or_default() + 1_000)),
            username: format!("person{user}"),
            avatar_url: None,
        },
        created_at: Micros(1_700_000_000_000_000 + i64::try_from(chance.next() % 1_000_000_000).unwrap_or_default()),
        ..samples::message(content)
    }
}

fn state(chance: &mut Chance, count: usize) -> Vec<u8> {
    let messages: Vec<_> = (0..count).map(|_| message(chance, 80)).collect();
    let online = samples::people(1_000..1_050);
    let room = Room { id: ROOM, ..samples::room() };
    let json = MessagesJson::of(&messages);
    let seen = json.seen(&messages, |message| Some(Cow::Borrowed(message)));
    let state = State { messages: &seen, has_more: true, cursor: None, place: PLACE };
    event::room_state(&room, &state, &online, 50)
}
