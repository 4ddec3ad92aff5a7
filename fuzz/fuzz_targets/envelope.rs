//! What comes on the channels between instances and from Django: envelopes, events of Django's, orders.

#![no_main]

use bytes::Bytes;
use community_gateway::bus::{Control, Kind, Payload};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    let _ = Control::decode(bytes);
    match Payload::decode(&Bytes::copy_from_slice(bytes)) {
        Ok(Payload::Envelope(envelope)) => {
            let mut again = envelope.encode();
            if matches!(envelope.kind, Kind::Joined | Kind::Left) {
                again.extend_from_slice(envelope.online.to_string().as_bytes());
            }
            let Ok(Payload::Envelope(read)) = Payload::decode(&Bytes::from(again)) else { panic!("{envelope:?}") };
            assert_eq!(read, envelope);
        }
        Ok(Payload::Foreign(foreign)) => {
            let fields: serde_json::Map<String, Value> = serde_json::from_slice(&foreign.body).expect("an object");
            assert!(fields["event"].is_string());
            if foreign.to.is_some() || !foreign.except.is_empty() {
                assert!(!fields.contains_key("to") && !fields.contains_key("except"));
            }
        }
        Err(malformed) => assert!(!malformed.as_str().is_empty()),
    }
});
