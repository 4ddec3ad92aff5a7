use super::*;

fn decode(text: &str) -> Result<ClientCommand, Refusal> {
    ClientCommand::decode(&mut text.as_bytes().to_vec())
}

fn refused(text: &str) -> (Code, String) {
    let refusal = decode(text).expect_err("is refused");
    (refusal.code, refusal.message.into_owned())
}

#[test]
fn every_frame_of_the_existing_hooks_is_understood() {
    let id = "0190a0a0-0000-7000-8000-000000000001";
    let message_id = MessageId(Uuid::parse_str(id).expect("is an id"));
    assert_eq!(decode(r#"{"type":"ping"}"#), Ok(ClientCommand::Ping));
    assert_eq!(decode(r#"{"type":"typing","is_typing":true,"x":[{}]}"#), Ok(ClientCommand::Typing { is_typing: true }));
    assert_eq!(
        decode(&format!(r#"{{"type":"read_receipt","message_id":"{id}"}}"#)),
        Ok(ClientCommand::ReadReceipt { message_id })
    );
    assert_eq!(
        decode(&format!(r#"{{"type":"request_history","cursor":"{id}","limit":900}}"#)),
        Ok(ClientCommand::RequestHistory { cursor: Some(message_id), limit: 100, thread: None })
    );
    let sent = decode(r#"{"type":"send_message","content":"  hi\n","reply_to_id":null,"attachments":[]}"#);
    assert!(matches!(sent, Ok(ClientCommand::SendMessage(message)) if message.content == "hi"));
}

#[test]
fn refusals_carry_the_texts_of_the_old_consumers() {
    let cases = [
        ("{", Code::InvalidJson, "Invalid JSON format"),
        ("", Code::InvalidJson, "Invalid JSON format"),
        ("[1]", Code::InvalidFrame, "Failed to process message"),
        ("7", Code::InvalidFrame, "Failed to process message"),
        (r#"{"type":"dance"}"#, Code::UnknownType, "Unknown message type: dance"),
        (r#"{"content":"x"}"#, Code::UnknownType, "Unknown message type: None"),
        (r#"{"type":7}"#, Code::InvalidFrame, "Failed to process message"),
        (r#"{"type":"send_message"}"#, Code::ContentRequired, "Message content is required"),
        (r#"{"type":"send_message","content":" \u2003\n"}"#, Code::ContentRequired, "Message content is required"),
        (r#"{"type":"send_message","content":7}"#, Code::InvalidFrame, "Failed to process message"),
        (r#"{"type":"send_message","content":"a\u0000b"}"#, Code::InvalidFrame, "Failed to process message"),
        (r#"{"type":"send_message","content":"a\ud800b"}"#, Code::InvalidFrame, "Failed to process message"),
        (r#"{"type":"send_message","content":"x","mentions":"7"}"#, Code::InvalidMentions, "Failed to process message"),
        (r#"{"type":"send_message","content":"x","mentions":[7]}"#, Code::InvalidMentions, "Failed to process message"),
        (
            r#"{"type":"send_message","content":"x","mentions":["-7"]}"#,
            Code::InvalidMentions,
            "Failed to process message",
        ),
        (r#"{"type":"typing","is_typing":1}"#, Code::InvalidFrame, "Failed to process message"),
        (r#"{"type":"read_receipt","message_id":"x"}"#, Code::InvalidFrame, "Failed to process message"),
    ];
    for (text, code, message) in cases {
        assert_eq!(refused(text), (code, message.to_owned()), "{text}");
    }
}

#[test]
fn so_many_are_mentioned_each_once() {
    let send = |count: u32| {
        let ids: Vec<_> = (1..=count).map(|id| format!("\"{}\"", id.min(20))).collect();
        decode(&format!(r#"{{"type":"send_message","content":"x","mentions":[{}]}}"#, ids.join(",")))
    };
    let Ok(ClientCommand::SendMessage(sent)) = send(20) else { panic!("is understood") };
    assert_eq!(sent.mentions, (1..=20).map(UserId).collect::<Vec<_>>());
    assert_eq!(send(21).map_err(|refusal| refusal.code), Err(Code::InvalidMentions));
    let twice = decode(r#"{"type":"send_message","content":"x","mentions":["7","8","7"]}"#);
    assert!(matches!(twice, Ok(ClientCommand::SendMessage(sent)) if sent.mentions == [UserId(7), UserId(8)]));
}

#[test]
fn what_is_done_to_a_message_names_it() {
    let id = "0190a0a0-0000-7000-8000-000000000001";
    let message_id = MessageId(Uuid::parse_str(id).expect("is an id"));
    let of = |kind: &str, rest: &str| decode(&format!(r#"{{"type":"{kind}","message_id":"{id}"{rest}}}"#));
    let edited = of("edit_message", r#","content":" hi ""#);
    assert_eq!(edited, Ok(ClientCommand::EditMessage { message_id, content: "hi".to_owned() }));
    assert_eq!(of("delete_message", ""), Ok(ClientCommand::DeleteMessage { message_id }));
    for (kind, pinned) in [("pin_message", true), ("unpin_message", false)] {
        let command = of(kind, "");
        assert_eq!(command, Ok(ClientCommand::PinMessage { message_id, pinned }));
        assert_eq!(command.map(|command| command.name()), Ok(kind));
    }
    for (kind, added) in [("add_reaction", true), ("remove_reaction", false)] {
        let command = of(kind, r#","emoji":"👍""#);
        let emoji = Emoji::parse("👍").expect("is an emoji");
        assert_eq!(command, Ok(ClientCommand::React { message_id, emoji, added }));
        assert_eq!(command.map(|command| command.name()), Ok(kind));
        assert_eq!(of(kind, r#","emoji":"nice""#).expect_err("is refused").code, Code::InvalidEmoji);
    }
    for kind in ["edit_message", "delete_message", "pin_message", "unpin_message", "add_reaction", "remove_reaction"] {
        assert_eq!(refused(&format!(r#"{{"type":"{kind}"}}"#)).0, Code::InvalidFrame);
    }
}

#[test]
fn content_is_counted_in_characters() {
    let send = |content: &str| decode(&format!(r#"{{"type":"send_message","content":"{content}"}}"#));
    assert!(send(&"🦀".repeat(4000)).is_ok());
    assert_eq!(send(&"🦀".repeat(4001)).expect_err("too long").code, Code::ContentTooLong);
    assert_eq!(send(&"a".repeat(4001)).expect_err("too long").code, Code::ContentTooLong);
}

#[test]
fn attachments_are_exact() {
    let send =
        |attachments: &str| decode(&format!(r#"{{"type":"send_message","content":"a","attachments":{attachments}}}"#));
    let good = r#"{"url":"https://s3/x.png","name":"x.png","size":1,"type":"image/png"}"#;
    assert!(send(&format!("[{good}]")).is_ok());
    let eleven = [good; 11].join(",");
    for wrong in [
        "7".to_owned(),
        "[7]".to_owned(),
        r#"[{"url":"https://s3/x.png"}]"#.to_owned(),
        r#"[{"url":"https://a","name":"x","size":-1,"type":"a/b"}]"#.to_owned(),
        format!("[{eleven}]"),
    ] {
        assert_eq!(send(&wrong).expect_err("is refused").code, Code::InvalidAttachments, "{wrong}");
    }
}
