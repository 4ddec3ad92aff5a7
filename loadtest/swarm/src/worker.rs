//! One process of the swarm: some whole rooms, all their clients, and those who talk in them.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::client;
use crate::frames;
use crate::scenario::Scenario;
use crate::tally::{Done, Line, Seen, Spread, Tally, Tick};
use crate::tokens::Tokens;
use crate::view::View;

/// How long after the last message the last delivery may come.
const SETTLE: Duration = Duration::from_secs(10);
/// How long nobody may be seen coming until all have been.
const SETTLED: Duration = Duration::from_secs(3);
/// How long those who are away at the end may take to come back.
const RETURN: Duration = Duration::from_secs(60);

/// What all tasks of a worker share.
pub struct World {
    pub scenario: Scenario,
    pub gateways: Vec<String>,
    pub tokens: Tokens,
    pub tally: Tally,
    /// One for each client: set while it is in.
    pub streams: Vec<Mutex<Option<Arc<TcpStream>>>>,
    /// What each client saw, once it has stopped.
    pub views: Mutex<Vec<Option<View>>>,
    /// Of each room, where its newest messages have not been yet.
    under_way: Vec<Mutex<UnderWay>>,
    /// Everybody is in, on all workers: talking and blinking begin.
    pub started: CancellationToken,
    /// Nobody is cut any more: the talking is over, and everybody shall be there at the end.
    pub calm: AtomicBool,
    /// The end.
    pub stopping: CancellationToken,
    first_user: u64,
    first_room: usize,
    seed: u64,
    entered: Vec<AtomicBool>,
    entered_count: AtomicUsize,
}

/// Messages that some of a room have and others do not have yet: id, how many have it, the longest that it took.
type UnderWay = VecDeque<(u64, usize, u64)>;

/// Of how many messages of a room it is noted who has them: what somebody missed live never reaches all.
const UNDER_WAY: usize = 256;

/// Microseconds since 1970: senders and receivers may be in two processes, on one machine.
pub fn micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_micros() as u64)
}

impl World {
    /// The number of a client over all workers.
    pub fn global(&self, index: usize) -> usize {
        self.first_room * self.scenario.room_size + index
    }

    pub fn user(&self, index: usize) -> u64 {
        self.first_user + self.global(index) as u64
    }

    pub fn room(&self, index: usize) -> String {
        room_id(self.first_room + index / self.scenario.room_size)
    }

    /// Its browser's cookie, as if made by chance.
    pub fn browser(&self, index: usize) -> u64 {
        scattered(self.user(index))
    }

    /// A source of chance of its own for each who needs one, the same for the same seed.
    pub fn random(&self, number: u64) -> SmallRng {
        SmallRng::seed_from_u64(self.seed.wrapping_add(scattered(number)))
    }

    /// Every so many'th client is deaf.
    pub fn is_deaf(&self, index: usize) -> bool {
        let share = self.scenario.deaf_share;
        share > 0.0 && (self.global(index) as f64 * share).fract() < share
    }

    pub fn note_entered(&self, index: usize) {
        if !self.entered[index].swap(true, Ordering::AcqRel) {
            self.entered_count.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Notes that a message has come to one of the clients; who is the last of its room to get it says how long it took.
    pub fn arrived(&self, index: usize, id: u64, micros: u64) {
        let room = index / self.scenario.room_size;
        let first = room * self.scenario.room_size;
        let people = self.scenario.room_size.min(self.streams.len() - first);
        let mut under_way = self.under_way[room].lock().expect("no holder panics");
        let at = under_way.iter().rposition(|(known, ..)| *known == id).unwrap_or_else(|| {
            if under_way.len() == UNDER_WAY {
                under_way.pop_front();
            }
            under_way.push_back((id, 0, 0));
            under_way.len() - 1
        });
        let (_, count, longest) = &mut under_way[at];
        (*count, *longest) = (*count + 1, micros.max(*longest));
        if *count == people {
            Tally::note(&self.tally.last, *longest);
            under_way.remove(at);
        }
    }

    /// Sends a frame as one of the clients, if it is in.
    fn send(&self, index: usize, text: &str) -> bool {
        let stream = self.streams[index].lock().expect("no holder panics").clone();
        let Some(stream) = stream else { return false };
        let frame = frames::frame(1, text.as_bytes());
        let sent = stream.try_write(&frame).is_ok_and(|count| count == frame.len());
        if !sent {
            self.tally.add(&self.tally.counters.unsent, 1);
        }
        sent
    }
}

/// Neighbours far from each other.
fn scattered(number: u64) -> u64 {
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// The id of a room by its number; `loadtest/swarm/run` makes them so.
pub fn room_id(number: usize) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

/// Runs some rooms of a scenario. Says `Ready`, waits for a line on standard input, goes on, says `Done`.
pub async fn run(
    scenario: Scenario,
    gateways: Vec<String>,
    tokens: Tokens,
    first_user: u64,
    rooms: std::ops::Range<usize>,
    seed: u64,
    with_ids: bool,
) {
    let clients = (rooms.end * scenario.room_size).min(scenario.clients) - rooms.start * scenario.room_size;
    let world = Arc::new(World {
        gateways,
        tokens,
        tally: Tally { acknowledged: with_ids.then(Mutex::default), ..Tally::default() },
        streams: (0..clients).map(|_| Mutex::default()).collect(),
        views: Mutex::new((0..clients).map(|_| None).collect()),
        under_way: rooms.clone().map(|_| Mutex::default()).collect(),
        started: CancellationToken::new(),
        calm: AtomicBool::new(false),
        stopping: CancellationToken::new(),
        first_user,
        first_room: rooms.start,
        seed,
        entered: (0..clients).map(|_| AtomicBool::new(false)).collect(),
        entered_count: AtomicUsize::new(0),
        scenario,
    });
    let telling = tokio::spawn(tell(Arc::clone(&world)));
    let mut tasks = JoinSet::new();
    let mut pace = interval(Duration::from_millis(10));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut allowed, mut next) = (0.0_f64, 0);
    while next < clients {
        pace.tick().await;
        allowed += world.scenario.connect_per_second / 100.0;
        while allowed >= 1.0 && next < clients {
            tasks.spawn(client::run(Arc::clone(&world), next));
            (allowed, next) = (allowed - 1.0, next + 1);
        }
    }
    while world.entered_count.load(Ordering::Acquire) < clients {
        sleep(Duration::from_millis(50)).await;
    }
    say(&Line::Ready);
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    let _ = orders.next_line().await;
    world.started.cancel();
    let watching = tokio::spawn(settle_presence(Arc::clone(&world)));
    let talkers = CancellationToken::new();
    let talking = [
        tokio::spawn(talkers.clone().run_until_cancelled_owned(talk(Arc::clone(&world), rooms.len()))),
        tokio::spawn(talkers.clone().run_until_cancelled_owned(chatter(Arc::clone(&world)))),
        tokio::spawn(talkers.clone().run_until_cancelled_owned(ping(Arc::clone(&world)))),
    ];
    sleep(Duration::from_secs(world.scenario.seconds)).await;
    talkers.cancel();
    for task in talking {
        let _ = task.await;
    }
    world.calm.store(true, Ordering::Relaxed);
    settle(&world).await;
    let there: Vec<bool> =
        world.streams.iter().map(|stream| stream.lock().expect("no holder panics").is_some()).collect();
    world.stopping.cancel();
    while tasks.join_next().await.is_some() {}
    telling.abort();
    watching.abort();
    say(&Line::Done(Box::new(done(&world, &there))));
}

/// Waits until everybody has been seen coming: nobody else was for [`SETTLED`].
async fn settle_presence(world: Arc<World>) {
    let mut before = None;
    loop {
        let arrivals = world.tally.arrivals.load(Ordering::Relaxed);
        if before.replace(arrivals) == Some(arrivals) {
            break;
        }
        sleep(SETTLED).await;
    }
    world.tally.settled.store(true, Ordering::Relaxed);
}

/// Waits until everybody is back, at most [`RETURN`], and then until nothing comes any more, at most [`SETTLE`].
async fn settle(world: &World) {
    let away = world.scenario.blink.as_ref().map_or(0.0, |blink| blink.away_seconds + 5.0);
    let now = tokio::time::Instant::now();
    let (returned, end) = (now + RETURN, now + SETTLE + Duration::from_secs_f64(away));
    let mut before = 0;
    loop {
        sleep(Duration::from_secs(1)).await;
        let counts = world.tally.counters.counts();
        let (all_in, now) = (counts.open as usize == world.streams.len(), tokio::time::Instant::now());
        let quiet = counts.deliveries == before && counts.filled == counts.holes;
        if now > returned || all_in && (quiet || now > end) {
            return;
        }
        before = counts.deliveries;
    }
}

fn done(world: &World, there: &[bool]) -> Done {
    let views = world.views.lock().expect("no holder panics");
    let (mut expected, mut missing_at_end, mut away_at_end) = (0, 0, 0);
    let (mut seen, mut passed) = (HashMap::new(), BTreeMap::new());
    for (room, views) in views.chunks(world.scenario.room_size).enumerate() {
        let newest = views.iter().flatten().map(|view| view.last).max().unwrap_or(0);
        let mut holes = HashSet::new();
        for (place, view) in views.iter().enumerate() {
            let index = room * world.scenario.room_size + place;
            if world.is_deaf(index) {
                continue;
            }
            let Some(view) = view.as_ref().filter(|view| view.begun && there[index]) else {
                away_at_end += 1;
                continue;
            };
            let missing = (newest > view.last).then(|| (view.epoch.clone(), view.last + 1, newest));
            let mut count = 0;
            for (epoch, first, last) in view.passed.iter().chain(&missing) {
                count += last - first + 1;
                holes.extend((*first..=*last).map(|offset| (epoch.clone(), offset)));
            }
            *seen.entry((room, view.messages.sum, count)).or_insert(0) += 1;
            expected += newest.saturating_sub(view.first);
            missing_at_end += newest - view.last;
            // At least one; how many, nobody knows who did not see them.
            missing_at_end += u64::from(view.messages.wanted().is_some());
        }
        if !holes.is_empty() {
            passed.insert(room_id(world.first_room + room), holes.len() as u64);
        }
    }
    let tally = &world.tally;
    Done {
        counts: tally.counters.counts(),
        latency: Spread::locked(&tally.latency),
        last: Spread::locked(&tally.last),
        entering: Spread::locked(&tally.entering),
        replay: Spread::locked(&tally.replay),
        endings: tally.endings.lock().expect("no holder panics").clone(),
        expected,
        missing_at_end,
        away_at_end,
        seen: seen
            .into_iter()
            .map(|((room, messages, passed), clients)| Seen {
                room: room_id(world.first_room + room),
                clients,
                messages,
                passed,
            })
            .collect(),
        passed,
        acknowledged: tally
            .acknowledged
            .as_ref()
            .map_or_else(Vec::new, |ids| ids.lock().expect("no holder panics").clone()),
    }
}

/// Somebody in each room says something, so many times a second.
async fn talk(world: Arc<World>, rooms: usize) {
    let burst = world.scenario.burst;
    let rate = world.scenario.messages_per_room_per_second * rooms as f64 / burst as f64;
    if rate <= 0.0 {
        return;
    }
    let (mut number, mut random) = (0_u64, world.random(0));
    every(rate, |turn| {
        for _ in 0..burst {
            number += 1;
            speak(&world, turn % rooms, number, &mut random);
        }
    })
    .await;
}

/// Somebody in this room says something.
fn speak(world: &World, room: usize, number: u64, random: &mut SmallRng) {
    let first = room * world.scenario.room_size;
    let size = world.scenario.room_size.min(world.streams.len() - first);
    let filler = chat(world.scenario.message_size.saturating_sub(20), random);
    let text = format!(
        "{{\"type\":\"send_message\",\"content\":\"t={} {filler}\",\"client_id\":\"{}-{number}\"}}",
        micros(),
        world.first_room
    );
    // Somebody who is in: a few tries, because most are.
    for _ in 0..8 {
        let index = first + random.random_range(0..size);
        if !world.is_deaf(index) && world.send(index, &text) {
            world.tally.add(&world.tally.counters.sent, 1);
            return;
        }
    }
}

/// Something that people might say: word lists and rules against spam find nothing in it, and it is never the same.
fn chat(length: usize, random: &mut SmallRng) -> String {
    const WORDS: [&str; 16] = [
        "meeting", "lunch", "tomorrow", "please", "the", "build", "passed", "again", "who", "wants", "coffee", "after",
        "we", "ship", "friday", "thanks",
    ];
    let mut text = String::with_capacity(length + 10);
    while text.len() < length {
        text.push_str(WORDS[random.random_range(0..WORDS.len())]);
        text.push(' ');
    }
    text.truncate(length);
    text
}

/// Everybody types now and then.
async fn chatter(world: Arc<World>) {
    let clients = world.streams.len();
    let rate = world.scenario.typing_per_client_per_minute * clients as f64 / 60.0;
    if rate > 0.0 {
        every(rate, |turn| {
            world.send(turn * 7919 % clients, r#"{"type":"typing","is_typing":true}"#);
        })
        .await;
    }
}

/// Everybody pings now and then, as the browsers' hook does.
async fn ping(world: Arc<World>) {
    let clients = world.streams.len();
    if world.scenario.ping_seconds > 0.0 {
        every(clients as f64 / world.scenario.ping_seconds, |turn| {
            world.send(turn % clients, r#"{"type":"ping"}"#);
        })
        .await;
    }
}

/// Does something so many times a second, evenly in the long run.
async fn every(rate: f64, mut act: impl FnMut(usize)) {
    let mut ticks = interval(Duration::from_millis(5));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut due, mut turn) = (0.0, 0);
    loop {
        ticks.tick().await;
        due += rate / 200.0;
        while due >= 1.0 {
            act(turn);
            (due, turn) = (due - 1.0, turn + 1);
        }
    }
}

/// Tells the parent how it goes, every second.
async fn tell(world: Arc<World>) {
    let mut seconds = interval(Duration::from_secs(1));
    loop {
        seconds.tick().await;
        say(&Line::Tick(Box::new(Tick { counts: world.tally.counters.counts(), recent: world.tally.take_recent() })));
    }
}

fn say(line: &Line) {
    let mut out = std::io::stdout().lock();
    // A parent that is gone wants nothing.
    let _ = serde_json::to_writer(&mut out, line)
        .map_err(std::io::Error::from)
        .and_then(|()| writeln!(out))
        .and_then(|()| out.flush());
}
