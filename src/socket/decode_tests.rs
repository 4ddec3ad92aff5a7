use proptest::prelude::*;

use super::*;
use crate::socket::testing::masked;

const RULES: Rules = Rules { max_message: 70_000, accept_binary: true };

/// Decodes a stream that arrives in these pieces, keeping only the tail, as the reader does.
fn decode_pieces<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    rules: &Rules,
    decoder: &mut Decoder,
) -> (Vec<Event>, Option<Violation>) {
    let (mut events, mut tail) = (Vec::new(), Vec::new());
    for piece in pieces {
        tail.extend_from_slice(piece);
        loop {
            match decoder.decode(&tail, rules) {
                Err(violation) => return (events, Some(violation)),
                Ok((used, event)) => {
                    tail.drain(..used);
                    match event {
                        Some(event) => events.push(event),
                        None => break,
                    }
                }
            }
        }
        assert!(tail.len() < 14 + CONTROL_MAX, "{} bytes kept undecoded", tail.len());
    }
    (events, None)
}

fn decode_all(input: &[u8]) -> (Vec<Event>, Option<Violation>) {
    decode_pieces([input], &RULES, &mut Decoder::default())
}

fn text(text: &str) -> Event {
    Event::Text(text.into())
}

#[test]
fn whole_messages_and_control_frames_between_fragments() {
    let stream = [
        masked(0x81, b"whole"),
        masked(0x01, b"in "),
        masked(0x89, b"ping"),
        masked(0x00, b""),
        masked(0x8a, b""),
        masked(0x80, b"parts"),
        masked(0x82, &[0xff, 0]),
        masked(0x81, b""),
        masked(0x88, b""),
    ]
    .concat();
    let expected = vec![
        text("whole"),
        Event::Fragment,
        Event::Ping(b"ping".to_vec()),
        Event::Fragment,
        Event::Pong,
        text("in parts"),
        Event::Binary(vec![0xff, 0]),
        text(""),
        Event::Close(None),
    ];
    assert_eq!(decode_all(&stream), (expected, None));
}

#[test]
fn each_violation_is_seen_and_closes_with_its_code() {
    use Violation as V;
    let mut unmasked = masked(0x81, b"x");
    unmasked[1] &= 0x7f;
    let table: Vec<(Vec<u8>, V, u16)> = vec![
        (unmasked, V::Unmasked, 1002),
        (vec![0xc1], V::Unmasked, 0), // two bytes decide, not one
        (vec![0xc1, 0x80], V::ReservedBits, 1002),
        (vec![0xa1, 0x80], V::ReservedBits, 1002),
        (vec![0x91, 0x80], V::ReservedBits, 1002),
        (vec![0x83, 0x80], V::UnknownOpcode, 1002),
        (vec![0x8b, 0x80], V::UnknownOpcode, 1002),
        (vec![0x09, 0x80], V::ControlFrame, 1002),
        (vec![0x89, 0x80 | 126], V::ControlFrame, 1002),
        (vec![0x88, 0x80 | 127], V::ControlFrame, 1002),
        (vec![0x81, 0x80 | 126, 0, 125], V::Length, 1002),
        (vec![0x81, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], V::Length, 1002),
        (vec![0x81, 0x80 | 127, 0x80, 0, 0, 0, 0, 1, 0, 0], V::Length, 1002),
        (masked(0x80, b"x"), V::Fragmentation, 1002),
        ([masked(0x01, b"x"), masked(0x81, b"y")].concat(), V::Fragmentation, 1002),
        (masked(0x88, &[3]), V::CloseFrame, 1002),
        (masked(0x88, &1005_u16.to_be_bytes()), V::CloseFrame, 1002),
        (masked(0x88, &999_u16.to_be_bytes()), V::CloseFrame, 1002),
        (masked(0x88, &1004_u16.to_be_bytes()), V::CloseFrame, 1002),
        (masked(0x88, &2000_u16.to_be_bytes()), V::CloseFrame, 1002),
        (masked(0x88, &5000_u16.to_be_bytes()), V::CloseFrame, 1002),
        (masked(0x88, &[3, 232, 0xff]), V::NotUtf8, 1007),
        (masked(0x81, &[0xc0, 0x80]), V::NotUtf8, 1007),
        (masked(0x81, "é".as_bytes()[..1].as_ref()), V::NotUtf8, 1007),
        (masked(0x81, &[0xed, 0xa0, 0x80]), V::NotUtf8, 1007),
    ];
    for (input, violation, code) in table {
        let (_, seen) = decode_all(&input);
        if code == 0 {
            assert_eq!(seen, None, "{input:x?}");
        } else {
            assert_eq!(seen, Some(violation), "{input:x?}");
            assert_eq!(violation.close().code, code);
        }
    }
}

#[test]
fn binary_is_refused_by_its_header_where_only_text_is_taken() {
    let rules = Rules { accept_binary: false, ..RULES };
    let header = &masked(0x82, b"xy")[..6];
    let (_, violation) = decode_pieces([header], &rules, &mut Decoder::default());
    assert_eq!(violation, Some(Violation::Binary));
    assert_eq!(Violation::Binary.close().code, 1003);
}

#[test]
fn size_is_judged_by_the_header_and_over_all_fragments() {
    let rules = Rules { max_message: 10, accept_binary: false };
    let run = |stream: Vec<u8>| decode_pieces([&stream[..]], &rules, &mut Decoder::default());
    assert_eq!(run(masked(0x81, b"0123456789")).0, [text("0123456789")]);
    let header = masked(0x81, b"0123456789a")[..6].to_vec();
    assert_eq!(run(header).1, Some(Violation::TooBig), "before a byte of it");
    let parts = [masked(0x01, b"01234"), masked(0x00, b"56789"), masked(0x80, b"a")].concat();
    assert_eq!(run(parts), (vec![Event::Fragment, Event::Fragment], Some(Violation::TooBig)));
    let huge = vec![0x81, 0x80 | 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4];
    assert_eq!(run(huge).1, Some(Violation::TooBig));
    assert_eq!(Violation::TooBig.close().code, 1009);
}

#[test]
fn memory_follows_what_arrived_not_what_was_declared() {
    let mut decoder = Decoder::default();
    let stream = masked(0x81, &[b'x'; 60_000]);
    let (events, violation) = decode_pieces([&stream[..108]], &RULES, &mut decoder);
    assert_eq!((events, violation), (vec![], None));
    assert!(decoder.held() <= 200, "{} bytes for 100 that arrived", decoder.held());
    let (events, _) = decode_pieces(stream[108..].chunks(7), &RULES, &mut decoder);
    assert_eq!(events, [Event::Text(vec![b'x'; 60_000])]);
    assert_eq!(decoder.held(), 0, "nothing is held at rest");
}

#[test]
fn text_that_cannot_become_utf8_fails_before_its_frame_ends() {
    let mut frame = masked(0x81, b"abc\xf4\x90 and more");
    frame.truncate(6 + 5);
    assert_eq!(decode_all(&frame).1, Some(Violation::NotUtf8));
    let mut frame = masked(0x81, b"abc\xf4 and more");
    frame.truncate(6 + 4);
    assert_eq!(decode_all(&frame).1, None, "may still become a character");
}

/// A message as fragments, with pings between them.
fn message() -> impl Strategy<Value = (Vec<Vec<u8>>, Event)> {
    let part = prop_oneof![4 => 0..40_usize, 1 => 120..135_usize, 1 => 65_530..65_540_usize];
    (prop::collection::vec((part, any::<bool>()), 1..5), any::<bool>(), "\\PC").prop_map(|(parts, is_text, filler)| {
        let total = parts.iter().map(|(len, _)| len).sum::<usize>().min(RULES.max_message);
        let mut payload: Vec<u8> = filler.bytes().cycle().take(total / filler.len() * filler.len()).collect();
        let whole = payload.clone();
        let mut frames = Vec::new();
        for (number, &(len, with_ping)) in parts.iter().enumerate() {
            let is_last = number + 1 == parts.len();
            let rest = if is_last { Vec::new() } else { payload.split_off(len.min(payload.len())) };
            let opcode = if number > 0 { 0 } else { 2 - u8::from(is_text) };
            frames.push(masked(opcode | if is_last { 0x80 } else { 0 }, &payload));
            payload = rest;
            if with_ping {
                frames.push(masked(0x89, b"between"));
            }
        }
        (frames, if is_text { Event::Text(whole) } else { Event::Binary(whole) })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_split_of_the_stream_gives_the_same_messages(
        messages in prop::collection::vec(message(), 0..4),
        cuts in prop::collection::vec(1..5_000_usize, 1..50),
    ) {
        let stream: Vec<u8> = messages.iter().flat_map(|(frames, _)| frames.concat()).collect();
        let expected: Vec<Event> = messages.into_iter().map(|(_, event)| event).collect();
        let mut rest = &stream[..];
        let pieces = cuts.iter().cycle().map_while(|&cut| {
            let (piece, tail) = rest.split_at(cut.min(rest.len()));
            rest = tail;
            (!piece.is_empty()).then_some(piece)
        });
        let mut decoder = Decoder::default();
        let (events, violation) = decode_pieces(pieces, &RULES, &mut decoder);
        prop_assert_eq!(violation, None);
        let got: Vec<Event> =
            events.into_iter().filter(|event| matches!(event, Event::Text(_) | Event::Binary(_))).collect();
        prop_assert_eq!(got, expected);
        prop_assert_eq!(decoder.held(), 0);
    }

    #[test]
    fn garbage_never_panics_nor_allocates_beyond_the_limit(
        start in prop::sample::select(vec![
            &b""[..], &[0x01, 0x85], &[0x81, 0xfe, 0x40], &[0x01, 0xff, 0, 0, 0, 0, 0, 1],
        ]),
        garbage in prop::collection::vec(any::<u8>(), 0..2_000),
        cut in 1..300_usize,
    ) {
        let rules = Rules { max_message: 1_000, accept_binary: true };
        let stream = [start, &garbage].concat();
        let mut decoder = Decoder::default();
        let (events, _) = decode_pieces(stream.chunks(cut), &rules, &mut decoder);
        prop_assert!(decoder.held() <= rules.max_message);
        for event in events {
            if let Event::Text(data) | Event::Binary(data) = event {
                prop_assert!(data.capacity() <= rules.max_message);
            }
        }
    }
}
