//! The scripts that give out offsets and log what is published, by themselves: whatever comes in parts, twice or late.

use std::sync::Arc;

use bytes::Bytes;
use community_gateway::bus::{Bus, Envelope, Kind, Note, Trace};
use community_gateway::domain::{MessageId, Micros, RoomId, Topic, UserId};
use community_gateway::keyspace;
use community_gateway::telemetry::Metrics;
use community_gateway::wire::event::Place;
use uuid::Uuid;

use crate::support::RedisServer;

const TOPIC: Topic = Topic::Room(RoomId(Uuid::from_u128(7)));

async fn bus() -> (RedisServer, Bus) {
    let server = RedisServer::start().await;
    let bus = Bus::connect(&server.deployment(3), Arc::new(Metrics::new().unwrap())).await.unwrap();
    (server, bus)
}

fn id(offset: u64) -> MessageId {
    MessageId(Uuid::from_u128(u128::from(offset) << 64 | 0x7000_0000_0000_00ff))
}

/// Events for consecutive offsets, from one to another.
fn events(epoch: u64, from: u64, to: u64) -> Vec<Envelope> {
    let event = |offset| Envelope {
        place: Some(Place { epoch, offset }),
        time: Micros(1_000 + i64::try_from(offset).unwrap()),
        body: Bytes::from(format!(r#"{{"event":"new_message","n":{offset}}}"#)),
        ..Envelope::passing(Kind::Message, UserId(1), Vec::new())
    };
    (from..=to).map(event).collect()
}

#[tokio::test]
async fn what_comes_in_parts_and_twice_is_logged_once_at_its_place_and_remembered() {
    let (_server, bus) = bus().await;
    let log = bus.log();
    let notes: Vec<_> = (1..=6).map(|n| if n == 3 { Note::Changed(id(n)) } else { Note::New(id(n)) }).collect();
    let first = log.reserve(&[(TOPIC, 6)], &notes).await.unwrap()[0];
    assert_eq!(first.offset, 1);
    let place = |offset| Place { offset, ..first };
    let publish = async |from, to| log.publish(TOPIC, place(from), &events(first.epoch, from, to)).await.unwrap();
    let stands = async || {
        let (position, notes) = log.position_and_notes(TOPIC).await.unwrap();
        (position.published, position.taken, position.time, notes.len())
    };

    // Another instance may be faster with what was taken later.
    assert_eq!(publish(4, 5).await, 2);
    let (published, taken, _, noted) = stands().await;
    assert_eq!((published, taken, noted), (0, 6, 4));
    assert_eq!(publish(1, 2).await, 2);
    assert_eq!(stands().await, (2, 6, Some(Micros(1_002)), 2));
    // An answer was lost, and it is tried again together with what closes the gap.
    assert_eq!(publish(2, 6).await, 2, "the third and the sixth");
    assert_eq!(stands().await, (6, 6, Some(Micros(1_006)), 0));
    assert_eq!(publish(1, 6).await, 0);
    assert_eq!(log.publish(TOPIC, place(3), &Envelope::voids(place(3), 1)).await.unwrap(), 0, "too late for a void");

    let logged: Vec<_> =
        log.read(TOPIC, first.epoch, 1, 9).await.unwrap().into_iter().map(|event| event.body).collect();
    assert_eq!(logged, events(first.epoch, 1, 6).into_iter().map(|event| event.body).collect::<Vec<_>>());
    let traces: Vec<_> = notes.into_iter().map(Trace::Noted).collect();
    assert_eq!(log.traces(TOPIC, place(1), 6).await.unwrap(), Some(traces));
}

#[tokio::test]
async fn a_note_that_is_none_spoils_no_others() {
    let (server, bus) = bus().await;
    let log = bus.log();
    let notes: Vec<_> = (1..=3).map(|n| Note::New(id(n))).collect();
    let first = log.reserve(&[(TOPIC, 3)], &notes).await.unwrap()[0];
    let mut redis = redis::Client::open(server.url(3)).unwrap().get_multiplexed_async_connection().await.unwrap();
    let foreign = format!("new {}", id(2).0);
    redis::cmd("HSET").arg(keyspace::taken(TOPIC)).arg(2).arg(foreign).exec_async(&mut redis).await.unwrap();
    assert_eq!(log.notes(TOPIC, 1, 3).await.unwrap(), [Some(notes[0]), None, Some(notes[2])]);
    assert_eq!(log.publish(TOPIC, first, &events(first.epoch, 1, 3)).await.unwrap(), 3);
    let traces = vec![Trace::Noted(notes[0]), Trace::Untold, Trace::Noted(notes[2])];
    assert_eq!(log.traces(TOPIC, first, 3).await.unwrap(), Some(traces));
}

#[tokio::test]
async fn an_event_that_comes_after_its_void_takes_its_place() {
    let (_server, bus) = bus().await;
    let log = bus.log();
    let first = log.reserve(&[(TOPIC, 2)], &[Note::New(id(1)), Note::New(id(2))]).await.unwrap()[0];
    let late = events(first.epoch, 1, 2);
    assert_eq!(log.publish(TOPIC, first, &Envelope::voids(first, 2)).await.unwrap(), 2);
    assert_eq!(log.traces(TOPIC, first, 2).await.unwrap(), Some(vec![Trace::Void; 2]));
    assert_eq!(log.publish(TOPIC, first, &late[..1]).await.unwrap(), 1);
    assert_eq!(log.publish(TOPIC, first, &late[..1]).await.unwrap(), 0);
    let kinds: Vec<_> = log.read(TOPIC, first.epoch, 1, 2).await.unwrap().into_iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [Kind::Message, Kind::Void]);
}

#[tokio::test]
async fn a_log_keeps_its_bounds_and_what_was_trimmed_is_not_published_again() {
    let (_server, bus) = bus().await;
    let log = bus.log();
    let mut first = log.reserve(&[(TOPIC, 250)], &[]).await.unwrap()[0];
    let begin = first;
    for _ in 0..5 {
        let batch = events(first.epoch, first.offset, first.offset + 249);
        assert_eq!(log.publish(TOPIC, first, &batch).await.unwrap(), 250);
        first = log.reserve(&[(TOPIC, 250)], &[]).await.unwrap()[0];
    }
    let kept = log.read(TOPIC, begin.epoch, 1, 2_000).await.unwrap();
    let offsets: Vec<_> = kept.iter().filter_map(|event| event.place).map(|place| place.offset).collect();
    assert_eq!(offsets, (251..=1_250).collect::<Vec<_>>());
    assert_eq!(log.publish(TOPIC, begin, &events(begin.epoch, 1, 250)).await.unwrap(), 0);
    assert_eq!(log.position(TOPIC).await.unwrap().published, 1_250);
    // Of another epoch nothing is logged, but who still follows it hears it.
    let other = Place { epoch: begin.epoch ^ 1, offset: 1_251 };
    assert_eq!(log.publish(TOPIC, other, &events(other.epoch, 1_251, 1_252)).await.unwrap(), 2);
    assert_eq!(log.position(TOPIC).await.unwrap().published, 1_250);
}
