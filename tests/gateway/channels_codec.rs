//! The messages of Django's channel layer: the golden samples against the reader, and what we write against it too.

use std::fs;
use std::path::{Path, PathBuf};

use community_gateway::bus::channels::message::{self, Delivery, Message, PREFIX, Unreadable};
use community_gateway::domain::{RoomId, ThreadId, Topic};
use community_gateway::keyspace::channels as keys;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// The client that the samples were sent to, and the room and the thread that they are about.
const CLIENT: &str = "0123456789abcdef0123456789abcdef";
const ROOM: &str = "3f2504e0-4f89-41d3-9a0c-0305e82c3301";
const THREAD: &str = "9b2de6a1-7a0e-4c58-8a51-6f0f1f9f4a77";

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn read_json(name: &str) -> Value {
    serde_json::from_slice(&fs::read(golden(name)).unwrap()).unwrap()
}

fn samples() -> Vec<Value> {
    let index = read_json("index.json");
    let all: Vec<_> =
        index["samples"].as_array().unwrap().iter().filter(|sample| sample["group"] == "channels").cloned().collect();
    assert_eq!(all.len(), 49, "the index is whole");
    all
}

/// A value of the index in JSON; `None` where JSON cannot say it.
fn untagged(tagged: &Value) -> Option<Value> {
    let (tag, inner) = tagged.as_object().unwrap().iter().find(|(tag, _)| *tag != "bits").unwrap();
    Some(match tag.as_str() {
        "none" => Value::Null,
        "bool" | "str" => inner.clone(),
        "int" => serde_json::from_str(inner.as_str().unwrap()).unwrap(),
        "float" => {
            let bits = u64::from_str_radix(tagged["bits"].as_str().unwrap(), 16).unwrap();
            serde_json::Number::from_f64(f64::from_bits(bits)).map(Value::Number)?
        }
        "list" | "tuple" => Value::Array(inner.as_array().unwrap().iter().map(untagged).collect::<Option<_>>()?),
        "dict" => {
            let pairs = inner.as_array().unwrap().iter();
            let pairs = pairs.map(|pair| Some((untagged(&pair[0])?.as_str().unwrap().to_owned(), untagged(&pair[1])?)));
            Value::Object(pairs.collect::<Option<Map<_, _>>>()?)
        }
        _ => return None,
    })
}

fn expected(sample: &Value) -> Option<Value> {
    match sample["event_file"].as_str() {
        Some(file) => untagged(&read_json(file)),
        None => untagged(sample.get("event")?),
    }
}

/// What the reader makes of a sample: the topics that it is for (by the client that it names) and the event.
fn received(sample: &Value, bytes: &[u8]) -> Result<(String, Vec<Topic>, Value), Unreadable> {
    let broadcast = sample["layer"] == "pubsub";
    let message = if broadcast { Message::read(bytes)? } else { Message::read_member(bytes)? };
    let kind = message.kind().to_owned();
    let topics = if broadcast { Vec::new() } else { message.topics(CLIENT)? };
    let event = serde_json::from_slice(&message.into_json()?).unwrap();
    Ok((kind, topics, event))
}

#[test]
fn every_golden_message_is_read_or_refused_as_it_should() {
    let (room, dm) = (Topic::Room(RoomId(ROOM.parse().unwrap())), Topic::Dm(ThreadId(THREAD.parse().unwrap())));
    for sample in samples() {
        let name = sample["name"].as_str().unwrap();
        let bytes = fs::read(golden(sample["file"].as_str().unwrap())).unwrap();
        let found = received(&sample, &bytes);
        let ours = sample["redis_key"] == keys::inbox("asgi", CLIENT) || sample["layer"] == "pubsub";
        match (sample["expect"].as_str().unwrap(), expected(&sample)) {
            ("value", Some(mut event)) if ours => {
                let kind = event.as_object_mut().unwrap().remove("type").unwrap();
                let (found_kind, topics, found_event) = found.unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!((Value::from(found_kind), found_event), (kind.clone(), event), "{name}");
                let topic = if kind == "dm_event" { dm } else { room };
                assert!(topics.iter().all(|found| *found == topic), "{name}: {topics:?}");
                assert_eq!(topics.len(), usize::from(sample["layer"] == "core"), "{name}");
            }
            // Bytes and numbers that are none: a message, and no event.
            ("value", None) => assert_eq!(found.unwrap_err(), Unreadable::Json, "{name}"),
            // For other processes, or for no group.
            ("value", Some(_)) => assert_eq!(found.unwrap_err(), Unreadable::Address, "{name}"),
            (_, _) => assert!(found.is_err(), "{name} is not for us to read"),
        }
    }
}

#[test]
fn messages_end_with_the_word_of_what_is_wrong() {
    for (name, error) in [
        ("bad_short_prefix", Unreadable::Length),
        ("bad_deep", Unreadable::Msgpack),
        ("bad_trailing", Unreadable::Msgpack),
        ("bad_invalid_utf8", Unreadable::Msgpack),
        ("bad_int_key", Unreadable::Shape),
        ("bad_dup_channel_key", Unreadable::Shape),
        ("bad_no_type", Unreadable::NoType),
        ("bad_no_channel", Unreadable::Address),
        ("bad_channel_other_process", Unreadable::Address),
    ] {
        let bytes = fs::read(golden(&format!("channels/{name}.bin"))).unwrap();
        assert_eq!(received(&json!({"layer": "core"}), &bytes), Err(error), "{name}");
    }
    let long = vec![0; message::MAX_BYTES + 1];
    assert_eq!(Message::read(&long), Err(Unreadable::Length));
}

/// Any JSON value; of floats only those that `serde_json` itself reads back as it wrote them.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i32>().prop_map(|eighths| Value::from(f64::from(eighths) / 8.0)),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..20).prop_map(Value::from),
            prop::collection::btree_map(".*", inner, 0..20).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_can_be_read_by_a_consumer(
        fields in prop::collection::btree_map(".*", any_json(), 0..24),
        id in any::<u128>(),
        dm in any::<bool>(),
    ) {
        let id = Uuid::from_u128(id);
        let topic = if dm { Topic::Dm(ThreadId(id)) } else { Topic::Room(RoomId(id)) };
        let mut fields: Map<String, Value> = fields.into_iter().collect();
        let event = serde_json::to_vec(&fields).unwrap();
        fields.remove("type");
        fields.remove("__asgi_channel__");

        let broadcast = message::write(topic, &event, Delivery::Broadcast).unwrap();
        prop_assert!(message::is_ours(&broadcast));
        let read = Message::read(&broadcast).unwrap();
        prop_assert_eq!(Some(read.kind()), message::handler(topic));
        prop_assert_eq!(serde_json::from_slice::<Map<_, _>>(&read.into_json().unwrap()).unwrap(), fields.clone());

        // As the script completes it.
        let mut member = vec![0; PREFIX];
        member.extend(message::write(topic, &event, Delivery::Inbox).unwrap());
        member.push(0xb0);
        member.extend(b"__asgi_channel__");
        let name = keys::channel("gw-1", topic).unwrap();
        member.extend([0x91, 0xd9, u8::try_from(name.len()).unwrap()]);
        member.extend(name.as_bytes());
        let read = Message::read_member(&member).unwrap();
        prop_assert_eq!(read.topics("gw-1"), Ok(vec![topic]));
        prop_assert_eq!(serde_json::from_slice::<Map<_, _>>(&read.into_json().unwrap()).unwrap(), fields);
    }

    #[test]
    fn no_bytes_hurt_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Message::read(&bytes).map(Message::into_json);
    }
}

#[test]
fn only_events_of_rooms_and_conversations_are_written() {
    let room = Topic::Room(RoomId(Uuid::nil()));
    for event in [&b"[]"[..], b"7", b"", b"{", b"\xff"] {
        assert_eq!(message::write(room, event, Delivery::Inbox), None);
    }
    assert_eq!(message::write(Topic::Thread(ThreadId(Uuid::nil())), b"{}", Delivery::Inbox), None);
}
