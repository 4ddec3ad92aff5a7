//! Messages of Django's channel layer: what is read becomes JSON, and what is written from that JSON is read again.

#![no_main]

use community_gateway::bus::channels::message::{Delivery, MAX_BYTES, Message, is_ours, write};
use community_gateway::domain::{RoomId, Topic};
use libfuzzer_sys::fuzz_target;
use uuid::Uuid;

fuzz_target!(|bytes: &[u8]| {
    let _ = Message::read_member(bytes);
    if let Some(written) = write(Topic::Room(RoomId(Uuid::nil())), bytes, Delivery::Broadcast) {
        assert!(is_ours(&written));
    }
    let Ok(message) = Message::read(bytes) else { return };
    let _ = message.topics("client");
    let Ok(event) = message.into_json() else { return };
    let written = write(Topic::Room(RoomId(Uuid::nil())), &event, Delivery::Broadcast).expect("an object is written");
    assert!(written.len() > MAX_BYTES || Message::read(&written).is_ok_and(|message| message.kind() == "room_event"));
});
