//! Where a client says that it was: the cursor of a page, and the place that it returns to.

#![no_main]

use community_gateway::wire::{ClientCommand, Code};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

fuzz_target!(|text: &str| {
    let decode = |frame: Value| ClientCommand::decode(&mut frame.to_string().into_bytes());
    match decode(json!({"type": "request_history", "cursor": text, "limit": text.len()})) {
        Ok(ClientCommand::RequestHistory { cursor: Some(id), limit, .. }) => {
            let digits = |text: &str| text.to_lowercase().replace('-', "");
            assert!(digits(text).contains(&digits(&id.0.to_string())) && (1..=100).contains(&limit));
        }
        Ok(command) => panic!("{text:?} became {command:?}"),
        Err(refusal) => assert_eq!(refusal.code, Code::InvalidFrame),
    }
    // A place is a text and a number; here the two halves of the input are tried as either.
    let (epoch, offset) = text.split_once(':').unwrap_or((text, "1"));
    let number = |text: &str| serde_json::from_str::<Value>(text).unwrap_or(Value::Null);
    for epoch in [json!(epoch), number(epoch)] {
        if let Ok(command) = decode(json!({"type": "resume", "epoch": epoch, "offset": number(offset)})) {
            let ClientCommand::Resume(place) = command else { panic!("{text:?} became {command:?}") };
            assert_eq!(number(offset).as_u64(), Some(place.offset));
            assert!(epoch.as_u64().is_none_or(|epoch| epoch == place.epoch));
        }
    }
});
