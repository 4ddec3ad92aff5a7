//! What one event costs an instance for each person it is delivered to: from the queue that the bus fills, through the
//! hub, to the write on a real loopback socket. By room size, one event at a time and several that wait together.
//!
//! `cargo bench --bench fan_out`. The time is the processor time of the one thread that the hub runs on, the kernel's
//! share included; reading is another thread's. Rooms for which `ulimit -n` is too low are left out.
//! `fan_out --rounds N PEOPLE EVENTS` does one thing N times and says nothing: `loadtest/syscalls` looks at it from outside.

mod stack;

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use community_gateway::bus::{Bus, BusError, ChannelLayer, Door, Envelope, Kind, Mend, Subscriber};
use community_gateway::config::{Deployment, open_files_limit};
use community_gateway::domain::{ConnectionId, Hidden, InstanceName, Micros, RoomId, Topic, UserId};
use community_gateway::hub::{Hub, Seat};
use community_gateway::lifecycle::Lifecycle;
use community_gateway::socket::{Frame, Limits, Shared, Socket};
use community_gateway::telemetry::Metrics;
use community_gateway::wire::event::Place;
use futures_util::future::BoxFuture;
use stack::{Error, Stack, is_measured, thread_time};
use tokio::io::AsyncReadExt;
use tokio::runtime::{Builder, Runtime};
use uuid::Uuid;

/// How long one line of the table is measured, in time of the hub.
const ENOUGH: Duration = Duration::from_millis(500);
/// An event's size in bytes.
const EVENT: usize = 300;
/// The name of the hub's thread.
const HUB: &str = "hub";

/// Nothing is missing here.
struct NothingToMend;

impl Mend for NothingToMend {
    fn mend(&self, _: Topic, _: Place, _: u64, _: bool) -> BoxFuture<'_, Result<(), BusError>> {
        Box::pin(async { Ok(()) })
    }

    fn retell(&self, _: Topic, _: Place, _: u64) -> BoxFuture<'_, Result<Option<Vec<Envelope>>, BusError>> {
        Box::pin(async { Ok(None) })
    }
}

/// A room with people on real sockets whose other ends read all the time.
struct Room {
    topic: Topic,
    seats: Vec<Seat>,
    place: Place,
    received: Arc<AtomicUsize>,
}

fn main() -> Result<(), Error> {
    let stack = Stack::start()?;
    let hub_runtime = Builder::new_multi_thread().worker_threads(1).thread_name(HUB).enable_all().build()?;
    let readers = Builder::new_multi_thread().worker_threads(1).thread_name("readers").enable_all().build()?;
    let (metrics, lifecycle) = (Arc::new(Metrics::new()?), Lifecycle::new());
    let (bus, door, hub) = hub_runtime.block_on(async {
        let bus = Bus::connect(&Deployment::parse(stack.url("redis_url")?)?, Arc::clone(&metrics)).await?;
        let instance = InstanceName::new("bench");
        let subscription = Subscriber::start(&bus, &instance, 1, Arc::clone(&metrics)).await?;
        let (limit, metrics) = (Limits::default().outbox_bytes, Arc::clone(&metrics));
        let (subscriber, inboxes) = (subscription.subscriber, subscription.inboxes);
        let layer = ChannelLayer::off();
        let hub = Hub::start(bus.clone(), NothingToMend, subscriber, inboxes, layer, limit, &lifecycle, metrics);
        Ok::<_, Error>((bus, subscription.door, hub))
    })?;
    let shared = Shared::new(Limits::default(), metrics);

    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, rounds, people, events] = arguments.as_slice()
        && flag == "--rounds"
    {
        let people = people.parse()?;
        let mut room = Room::fill(people, &hub, &bus, &shared, &lifecycle, (&hub_runtime, &readers))?;
        for _ in 0..rounds.parse::<u64>()? {
            room.round(events.parse()?, &door, &lifecycle, &hub_runtime);
        }
        return Ok(());
    }
    let enough = if is_measured() { ENOUGH } else { Duration::ZERO };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{:>8} {:>6} {:>12} {:>14}", "people", "events", "µs/delivery", "deliveries/s")?;
    for people in [5, 50, 500, 5_000] {
        if open_files_limit().is_some_and(|limit| limit < 2 * people + 100) {
            continue;
        }
        let mut room = Room::fill(people, &hub, &bus, &shared, &lifecycle, (&hub_runtime, &readers))?;
        for events in [1, 4, 16, 64] {
            let (time, deliveries) = room.measure(events, &door, &lifecycle, &hub_runtime, enough)?;
            let each = time.as_secs_f64() * 1e6 / deliveries as f64;
            writeln!(out, "{people:>8} {events:>6} {each:>12.2} {:>14.0}", 1e6 / each)?;
        }
    }
    Ok(())
}

impl Room {
    fn fill(
        people: usize,
        hub: &Arc<Hub>,
        bus: &Bus,
        shared: &Arc<Shared>,
        lifecycle: &Lifecycle,
        (hub_runtime, readers): (&Runtime, &Runtime),
    ) -> Result<Self, Error> {
        let topic = Topic::Room(RoomId(Uuid::new_v4()));
        let received = Arc::new(AtomicUsize::new(0));
        let mut seats = Vec::new();
        let listener = TcpListener::bind("127.0.0.1:0")?;
        for person in 0..people {
            let peer = TcpStream::connect(listener.local_addr()?)?;
            let (ours, _) = listener.accept()?;
            peer.set_nonblocking(true)?;
            ours.set_nonblocking(true)?;
            {
                let _entered = readers.enter();
                let (mut peer, received) = (tokio::net::TcpStream::from_std(peer)?, Arc::clone(&received));
                lifecycle.spawn(async move {
                    let mut piece = vec![0; 16 * 1024];
                    while let Ok(count @ 1..) = peer.read(&mut piece).await {
                        received.fetch_add(count, Ordering::Relaxed);
                    }
                });
            }
            let _entered = hub_runtime.enter();
            let (mut socket, outbox) = Socket::new(tokio::net::TcpStream::from_std(ours)?, &Bytes::new(), shared);
            let user = UserId(i64::try_from(person)? + 1);
            seats.push(hub.join(topic, ConnectionId::next(), user, &outbox, &Hidden::default()));
            lifecycle.spawn(async move {
                socket.next().await; // writes on what waits; nothing comes in
            });
        }
        let place = hub_runtime.block_on(async {
            for seat in &seats {
                seat.subscribed().await;
            }
            Ok::<_, Error>(bus.log().position(topic).await?.place())
        })?;
        seats.iter().for_each(|seat| seat.go_live(place, &[]));
        Ok(Self { topic, seats, place, received })
    }

    /// Lets so many events come at once, again and again, each time until everybody has them.
    fn measure(
        &mut self,
        events: usize,
        door: &Door,
        lifecycle: &Lifecycle,
        hub: &Runtime,
        enough: Duration,
    ) -> Result<(Duration, usize), Error> {
        let (mut time, mut deliveries) = (Duration::ZERO, 0);
        while deliveries == 0 || time < enough {
            let before = thread_time(HUB)?;
            self.round(events, door, lifecycle, hub);
            time += thread_time(HUB)? - before;
            deliveries += events * self.seats.len();
        }
        Ok((time, deliveries))
    }

    fn round(&mut self, events: usize, door: &Door, lifecycle: &Lifecycle, hub: &Runtime) {
        let body = Bytes::from(vec![b'x'; EVENT]);
        let bytes = Frame::text(&body).len() * events * self.seats.len();
        let wanted = self.received.load(Ordering::Relaxed) + bytes;
        let mut payloads = Vec::new();
        for _ in 0..events {
            self.place.offset += 1;
            let envelope = Envelope {
                kind: Kind::Message,
                place: Some(self.place),
                user: Some(UserId(1)),
                shown: None,
                time: Micros(0),
                sent: Micros::now(),
                body: body.clone(),
                online: 0,
                trace: None,
                arrived: None,
            };
            payloads.push(Bytes::from(envelope.encode()));
        }
        let (door, topic, _entered) = (door.clone(), self.topic, hub.enter());
        // On the hub's own thread, so that the hub finds them all.
        lifecycle.spawn(async move { payloads.into_iter().for_each(|payload| door.message(topic, payload)) });
        while self.received.load(Ordering::Relaxed) < wanted {
            std::thread::park_timeout(Duration::from_micros(100));
        }
    }
}
