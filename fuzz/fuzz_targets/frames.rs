//! A client's bytes on an open socket: the same messages however they are cut into pieces, never more than the limit.

#![no_main]

use community_gateway::socket::Violation;
use community_gateway::socket::decode::{Decoder, Event, Rules};
use libfuzzer_sys::fuzz_target;

const MAX: usize = 1024;

// The first byte says how long the pieces are.
fuzz_target!(|input: (u8, bool, &[u8])| {
    let (piece, accept_binary, bytes) = input;
    let rules = Rules { max_message: MAX, accept_binary };
    let whole = decode(&rules, bytes, bytes.len().max(1));
    assert_eq!(decode(&rules, bytes, usize::from(piece).max(1)), whole);
    for event in &whole.0 {
        match event {
            Event::Text(text) => assert!(text.len() <= MAX && std::str::from_utf8(text).is_ok()),
            Event::Binary(data) => assert!(accept_binary && data.len() <= MAX),
            Event::Ping(data) => assert!(data.len() <= 125),
            Event::Close(code) => assert!(code.is_none_or(|code| (1000..5000).contains(&code))),
            Event::Fragment | Event::Pong => {}
        }
    }
    if let Some(violation) = whole.1 {
        assert!((1002..=1009).contains(&violation.close().code));
    }
});

fn decode(rules: &Rules, bytes: &[u8], piece: usize) -> (Vec<Event>, Option<Violation>) {
    let (mut decoder, mut events, mut waiting) = (Decoder::default(), Vec::new(), Vec::new());
    for piece in bytes.chunks(piece) {
        waiting.extend_from_slice(piece);
        loop {
            match decoder.decode(&waiting, rules) {
                Ok((used, event)) => {
                    waiting.drain(..used);
                    let Some(event) = event else { break };
                    events.push(event);
                }
                Err(violation) => return (events, Some(violation)),
            }
        }
        assert!(waiting.len() < 14 + 125, "only a header or a control frame waits");
    }
    (events, None)
}
