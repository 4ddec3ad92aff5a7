//! A client's text: a command whose fields keep their bounds, or a refusal that can be sent.

#![no_main]

use community_gateway::wire::command::{
    MAX_ATTACHMENTS, MAX_CLIENT_ID_CHARS, MAX_CONTENT_CHARS, MAX_HISTORY, MAX_MENTIONS, MAX_REASON_CHARS,
};
use community_gateway::wire::{ClientCommand, event};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use serde_json::value::RawValue;

fuzz_target!(|text: &str| {
    let command = match ClientCommand::decode(&mut text.as_bytes().to_vec()) {
        Ok(command) => command,
        Err(refusal) => {
            let error: Value = serde_json::from_slice(&event::error(&refusal)).expect("an error is JSON");
            assert!(error["event"] == "error" && error["message"].is_string() && error["code"].is_string());
            return;
        }
    };
    assert!(serde_json::from_str::<&RawValue>(text).is_ok(), "a command is JSON for everybody");
    let kept = |content: &str| {
        let chars = content.chars().count();
        assert!((1..=MAX_CONTENT_CHARS).contains(&chars) && content.trim() == content && !content.contains('\0'));
    };
    match command {
        ClientCommand::SendMessage(message) => {
            kept(&message.content);
            assert!(message.attachments.len() <= MAX_ATTACHMENTS && message.mentions.len() <= MAX_MENTIONS);
            assert!(message.client_id.is_none_or(|id| (1..=MAX_CLIENT_ID_CHARS).contains(&id.chars().count())));
        }
        ClientCommand::EditMessage { content, .. } => kept(&content),
        ClientCommand::RequestHistory { limit, .. } => assert!((1..=MAX_HISTORY).contains(&limit)),
        ClientCommand::ReportMessage { reason, .. } => assert!(reason.chars().count() <= MAX_REASON_CHARS),
        _ => {}
    }
});
