//! A gathering with real sockets: what leaves when, in which order, and for whom.

use std::io::Read;
use std::net::TcpStream;

use bytes::Bytes;
use uuid::Uuid;

use super::held::{FEW, PASSING, STREAM};
use super::*;
use crate::bus::Kind;
use crate::domain::{Micros, RoomId};
use crate::socket::testing::{frames, shared, socket};
use crate::socket::{Limits, Socket};
use crate::telemetry::Leg;

const EPOCH: u64 = 7;
const BIG: usize = 1 << 20;

/// A room with somebody at the other end of each seat.
struct Room {
    gathering: Gathering,
    shared: Arc<crate::socket::Shared>,
    people: Vec<(ConnectionId, Socket, TcpStream)>,
    seats: u64,
    now: Instant,
}

impl Room {
    async fn with(people: usize) -> Self {
        let shared = shared(Limits::default());
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let gathering = Gathering::new(Topic::Room(RoomId(Uuid::nil())), BIG, metrics);
        let now = Instant::now();
        gathering.begin(Position { epoch: EPOCH, ..Position::default() }, 0, now);
        let mut room = Self { gathering, shared, people: Vec::new(), seats: 0, now };
        for _ in 0..people {
            room.enter(&Hidden::default()).await;
        }
        room
    }

    async fn take_seat(&mut self, hidden: &Hidden) -> ConnectionId {
        self.seats += 1;
        let connection = ConnectionId(self.seats);
        let (socket, outbox, peer) = socket(&self.shared, b"").await;
        assert!(self.gathering.add(connection, UserId(1_000), &outbox, hidden));
        let peer = peer.into_std().expect("a peer");
        peer.set_nonblocking(false).expect("blocks");
        peer.set_read_timeout(Some(Duration::from_secs(30))).expect("ends");
        self.people.push((connection, socket, peer));
        connection
    }

    async fn enter(&mut self, hidden: &Hidden) {
        let connection = self.take_seat(hidden).await;
        assert!(self.gathering.go_live(connection, Place { epoch: EPOCH, offset: 0 }, &[]));
    }

    /// What comes so many milliseconds after the beginning. Returns when to look again.
    fn hear(&self, at: u64, envelope: Envelope) -> Option<Instant> {
        self.gathering.accept(vec![envelope], 0, self.at(at)).due
    }

    fn at(&self, milliseconds: u64) -> Instant {
        self.now + Duration::from_millis(milliseconds)
    }

    /// How often the sockets were written to.
    fn rounds(&self) -> u64 {
        self.gathering.metrics.leg_seconds.taken(Leg::Socket, self.gathering.topic)
    }

    /// What came to everybody, once all bytes of it are sent: `end` is told to all as a message, which ends it.
    fn seen(&mut self, end: Envelope, at: u64) -> Vec<Vec<String>> {
        self.hear(at, end.clone());
        let end = Frame::text(&end.body);
        let texts = |bytes: &[u8]| frames(bytes).into_iter().map(|(_, text)| String::from_utf8(text).expect("text"));
        let read = |(_, _, peer): &mut (ConnectionId, Socket, TcpStream)| {
            let (mut bytes, mut piece) = (Vec::new(), [0; 1024]);
            while !bytes.ends_with(end.as_bytes()) {
                let count = peer.read(&mut piece).expect("reads");
                assert!(count > 0, "the end never came");
                bytes.extend_from_slice(&piece[..count]);
            }
            let mut texts: Vec<_> = texts(&bytes).collect();
            texts.pop();
            texts
        };
        self.people.iter_mut().map(read).collect()
    }
}

fn event(kind: Kind, user: i64, body: &str) -> Envelope {
    Envelope {
        kind,
        place: None,
        user: Some(UserId(user)),
        shown: None,
        time: Micros(0),
        sent: Micros(0),
        body: Bytes::copy_from_slice(body.as_bytes()),
        online: 2,
        trace: None,
        arrived: None,
    }
}

fn joined(user: i64) -> Envelope {
    event(Kind::Joined, user, &format!("joined {user}"))
}

fn left(user: i64) -> Envelope {
    event(Kind::Left, user, &format!("left {user}"))
}

fn typing(user: i64) -> Envelope {
    event(Kind::Typing, user, &format!("typing {user}"))
}

fn message(offset: u64) -> Envelope {
    let place = Some(Place { epoch: EPOCH, offset });
    Envelope { place, ..event(Kind::Message, 8, &format!("message {offset}")) }
}

#[tokio::test]
async fn the_first_join_goes_at_once_and_those_that_follow_leave_together() {
    let mut room = Room::with(FEW).await;
    assert_eq!(room.hear(0, joined(1)), None, "nothing waits");
    assert_eq!(room.rounds(), 1);
    let (due, later) = (Some(room.now + PASSING), Some(room.now + STREAM));
    for (at, envelope, due) in
        [(10, joined(2), later), (20, left(1), later), (30, typing(2), due), (40, joined(1), due)]
    {
        assert_eq!(room.hear(at, envelope), due, "somebody must come back for it");
    }
    assert_eq!(room.gathering.send_due(room.at(99)), due, "it is not time yet");
    assert_eq!(room.rounds(), 1);
    assert_eq!(room.gathering.send_due(room.at(100)), None);
    assert_eq!(room.rounds(), 2, "four events, one write a seat");
    let all = ["joined 1", "joined 2", "left 1", "typing 2", "joined 1"];
    assert!(room.seen(message(1), 200).iter().all(|seen| *seen == all));
    assert_eq!(room.gathering.metrics.deliveries_total.get(), 6 * FEW as u64);
    assert_eq!(room.gathering.metrics.deliveries_direct_total.get(), 6 * FEW as u64);
}

#[tokio::test]
async fn a_message_takes_along_what_waits_and_stays_behind_it() {
    let mut room = Room::with(FEW).await;
    room.hear(0, joined(1));
    room.hear(10, joined(2));
    assert_eq!(room.hear(20, message(1)), None, "nothing is left");
    assert_eq!(room.rounds(), 2);
    assert!(room.hear(30, left(2)).is_some());
    room.gathering.accept_missed(vec![message(2)], 0);
    assert!(room.hear(40, left(1)).is_some());
    let foreign =
        Foreign { body: Bytes::from_static(b"of Django"), to: None, except: Default::default(), lasting: false };
    room.gathering.accept_foreign(&foreign);
    let all = ["joined 1", "joined 2", "message 1", "left 2", "message 2", "left 1", "of Django"];
    for seen in room.seen(message(3), 50) {
        assert_eq!(seen, all);
    }
}

#[tokio::test]
async fn who_comes_later_is_not_told_what_waited() {
    let mut room = Room::with(FEW).await;
    room.hear(0, joined(1));
    room.hear(10, joined(2));
    room.enter(&Hidden::default()).await;
    let entering = room.take_seat(&Hidden::default()).await;
    room.hear(20, joined(3));
    room.gathering.send_due(room.at(100));
    let state = [Frame::text(b"state")];
    assert!(room.gathering.go_live(entering, Place { epoch: EPOCH, offset: 0 }, &state));
    let mut seen = room.seen(message(1), 110);
    assert_eq!(seen.pop().expect("who entered"), ["state", "joined 3"]);
    assert_eq!(seen.pop().expect("the newcomer"), ["joined 3"]);
    assert!(seen.iter().all(|seen| *seen == ["joined 1", "joined 2", "joined 3"]));
}

#[tokio::test]
async fn blocks_hold_for_what_waits() {
    let mut room = Room::with(FEW).await;
    let (hides_two, hides_one): (Hidden, Hidden) =
        ([UserId(2)].into_iter().collect(), [UserId(1)].into_iter().collect());
    room.enter(&hides_two).await;
    room.hear(0, typing(9));
    for (at, user) in [(10, 1), (20, 2), (30, 3)] {
        room.hear(at, joined(user));
    }
    let first = room.people[0].0;
    room.gathering.hide(first, &hides_one); // the block is younger than what waits
    room.gathering.send_due(room.at(100));
    let of_crowd = Envelope { online: CROWD + 1, ..event(Kind::Joined, 2, "\"joined 2\"") };
    assert!(room.gathering.accept(vec![of_crowd], 0, room.at(110)).restless);
    assert_eq!(room.gathering.flush_crowd(room.at(120)), None);
    let seen = room.seen(message(1), 130);
    let diff = |seen: &[String]| seen.last().expect("a diff").contains("joined 2");
    assert_eq!(seen[0][..3], ["typing 9", "joined 2", "joined 3"]);
    assert_eq!(seen[1][..4], ["typing 9", "joined 1", "joined 2", "joined 3"]);
    assert_eq!(seen[FEW][..3], ["typing 9", "joined 1", "joined 3"]);
    assert!(seen.iter().all(|seen| seen.last().expect("a diff").contains("presence_diff")), "{seen:?}");
    assert!(!diff(&seen[FEW]), "{seen:?}");
}

#[tokio::test]
async fn a_round_in_parts_gives_everybody_the_same_order() {
    let mut room = Room::with(6).await;
    let part = |room: &Room, at, most| room.gathering.go_on_by(&mut room.gathering.state.lock(), room.at(at), most);
    let add = |room: &Room, envelope: Envelope, at| {
        let mut state = room.gathering.state.lock();
        let ready = room.gathering.in_order(&mut state, vec![envelope], room.at(at));
        room.gathering.take(&mut state, ready, room.at(at));
    };
    add(&room, message(1), 0);
    assert_eq!(part(&room, 0, 2), Some(room.now), "four are left");
    add(&room, message(2), 1);
    assert_eq!(part(&room, 1, 2), Some(room.at(1)), "what came meanwhile waits behind it");
    assert_eq!(room.rounds(), 0);
    // One who has it goes, one who waits for it goes, one comes.
    let (gone_served, _, _) = room.people.remove(0);
    let (gone_waiting, _, _) = room.people.remove(4);
    room.gathering.remove(gone_served);
    room.gathering.remove(gone_waiting);
    room.enter(&Hidden::default()).await;
    assert_eq!(part(&room, 2, 2), Some(room.at(1)), "the first has gone round");
    assert_eq!(room.rounds(), 1);
    add(&room, typing(1), 3);
    assert_eq!(part(&room, 3, 2), Some(room.at(3)));
    // What must not wait ends what is under way, in order.
    room.gathering.accept_missed(vec![message(3)], 0);
    assert_eq!(part(&room, 4, 2), None, "nothing is left");
    let mut seen = room.seen(message(4), 10);
    let newcomer = seen.pop().expect("the newcomer");
    assert_eq!(newcomer, ["typing 1", "message 3"], "it came behind the second");
    for seen in seen {
        assert_eq!(seen, ["message 1", "message 2", "typing 1", "message 3"]);
    }
}
