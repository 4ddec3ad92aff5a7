use proptest::prelude::*;

use super::foreign::MOST_KEPT;
use super::*;

fn foreign(text: &str) -> Result<Foreign, Malformed> {
    match Payload::decode(&Bytes::copy_from_slice(text.as_bytes()))? {
        Payload::Foreign(foreign) => Ok(foreign),
        Payload::Envelope(_) => panic!("is an envelope"),
    }
}

#[test]
fn what_django_publishes_is_passed_on_as_it_is() {
    let text = r#"{ "event": "new_message", "message": {"a": 1.50, "é": null} }"#;
    assert_eq!(foreign(text).expect("is an event").body, text.as_bytes());
}

#[test]
fn an_audience_is_obeyed_and_removed() {
    let event = foreign(r#"{"to":["1",2],"event":"hint","x": [1, 2],"except":["2"]}"#).expect("is an event");
    assert_eq!(event.body, br#"{"event":"hint","x":[1, 2]}"#.as_slice());
    assert!(event.is_for(UserId(1)) && !event.is_for(UserId(2)) && !event.is_for(UserId(3)));
}

#[test]
fn what_is_of_the_moment_for_nobody_or_too_large_does_not_last() {
    let lasts = |text: &str| foreign(text).expect("is an event").lasting;
    assert!(lasts(r#"{"event":"new_message"}"#) && lasts(r#"{"event":"hint","to":["1"]}"#));
    assert!(
        !lasts(r#"{"event":"typing"}"#) && !lasts(r#"{"event":"user_left"}"#) && !lasts(r#"{"event":"hint","to":[]}"#)
    );
    assert!(!lasts(&format!(r#"{{"event":"hint","x":"{}"}}"#, "x".repeat(MOST_KEPT))));
}

#[test]
fn malformed_payloads_are_named() {
    for (text, error) in [
        ("{", Malformed::Json),
        (r#"{"event":"x"} x"#, Malformed::Json),
        (r#"{"event":7}"#, Malformed::NoEvent),
        ("{}", Malformed::NoEvent),
        (r#"{"event":"x","to":"1"}"#, Malformed::Audience),
        (r#"{"event":"x","except":["a"]}"#, Malformed::Audience),
        ("", Malformed::Length),
        ("[1]", Malformed::Version),
        ("\u{1}", Malformed::Length),
        ("\u{1}\u{1}abc", Malformed::Length),
        ("\u{1}\u{7f}abc", Malformed::Kind),
    ] {
        assert_eq!(Payload::decode(&Bytes::copy_from_slice(text.as_bytes())), Err(error), "{text:?}");
    }
}

#[test]
fn a_trace_travels_at_the_end_of_the_event_and_is_taken_off() {
    let body = br#"{"event":"new_message","message":{"content":"\",\"traceparent\":\"00-"}}"#.as_slice();
    let trace = Context { trace: 0x4bf9, span: 7 };
    let place = Some(Place { epoch: 7, offset: 3 });
    let plain = Envelope { kind: Kind::Message, place, ..Envelope::passing(Kind::Typing, UserId(1), body.to_vec()) };
    let traced = Envelope { trace: Some(trace), ..plain.clone() };
    let (old, new) = (Bytes::from(plain.encode()), Bytes::from(traced.encode()));
    assert_eq!(Payload::decode(&old), Ok(Payload::Envelope(plain)), "what has none is read as ever");
    assert_eq!(Payload::decode(&new), Ok(Payload::Envelope(traced)));
    // Who does not know it finds the same header and a body that is JSON: one field more.
    assert_eq!(old[..50], new[..50]);
    let length = u32::from_le_bytes(new[50..54].try_into().expect("four bytes")) as usize;
    assert_eq!(length, new.len() - 54);
    let seen: serde_json::Value = serde_json::from_slice(&new[54..]).expect("is JSON");
    assert_eq!(seen["traceparent"], trace.to_string());
    assert_eq!(seen["message"], serde_json::from_slice::<serde_json::Value>(body).expect("is JSON")["message"]);
    // What only looks like one stays.
    for text in [r#"{"event":"x","traceparent":"00-no"}"#, r#"{"event":"x","traceparent":7}"#] {
        let envelope = Envelope::passing(Kind::Typing, UserId(1), text.as_bytes().to_vec());
        let bytes = Bytes::from(envelope.encode());
        assert_eq!(Payload::decode(&bytes), Ok(Payload::Envelope(envelope)));
    }
}

proptest! {
    #[test]
    fn envelopes_survive_the_journey(
        kind in prop_oneof![1_u8..=8, 16_u8..=19], epoch: u64, offset: u64, user: i64, time: i64, body: Vec<u8>, online: u64,
    ) {
        let kind = Kind::from_byte(kind).expect("is a kind");
        let counted = matches!(kind, Kind::Joined | Kind::Left);
        let envelope = Envelope {
            kind,
            place: (offset != 0).then_some(Place { epoch, offset }),
            user: (user != 0).then_some(UserId(user)),
            shown: (user != 0).then_some(UserId(!user)).filter(|shown| shown.0 != 0),
            time: Micros(time),
            sent: Micros(time / 2),
            body: Bytes::from(body),
            online: if counted { online } else { 0 },
            trace: None,
            arrived: None,
        };
        let mut bytes = envelope.encode();
        if counted {
            bytes.extend_from_slice(online.to_string().as_bytes());
        }
        prop_assert_eq!(Payload::decode(&Bytes::from(bytes)), Ok(Payload::Envelope(envelope)));
    }

    #[test]
    fn no_payload_panics(bytes: Vec<u8>) {
        let _ = Payload::decode(&Bytes::from(bytes));
    }
}
