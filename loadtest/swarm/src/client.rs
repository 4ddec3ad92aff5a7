//! One client: connects, reads until it is cut or told to stop, and comes back.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::frames::{self, Kind, Upgrade};
use crate::tally::Tally;
use crate::view::{Meaning, View};
use crate::worker::{World, micros};

/// How long a connection may take until its first state.
const PATIENCE: Duration = Duration::from_secs(60);

thread_local! {
    static BUFFER: std::cell::RefCell<Vec<u8>> = std::cell::RefCell::new(vec![0; 64 * 1024]);
}

/// How long a page of history may take until it is asked for again.
const PAGE_PATIENCE: Duration = Duration::from_secs(10);

/// Why a connection ended.
enum End {
    Cut,
    Stopped,
    Closed(Option<u16>),
    Lost,
}

/// Runs a client until the world stops.
pub async fn run(world: Arc<World>, index: usize) {
    let mut view = View::default();
    let mut random = world.random(1 + world.global(index) as u64);
    let (mut attempts, mut failures) = (0_usize, 0_u32);
    loop {
        attempts += 1;
        let began = Instant::now();
        // In turns at first; who comes back takes any, so that those of a dead gateway spread over all others.
        let turn = if attempts == 1 { index } else { random.random_range(0..world.gateways.len()) };
        let pause = match connect(&world, index, turn, &mut view).await {
            Ok(stream) => match listen(&world, index, stream, began, &mut view, &mut random).await {
                (End::Stopped, _) => break,
                (End::Cut, _) => {
                    failures = 0;
                    world.scenario.blink.as_ref().map_or(0.0, |blink| blink.away_seconds)
                }
                (end, entered) => {
                    let how = match end {
                        End::Closed(code) => {
                            format!("closed {}", code.map_or("without a code".into(), |code| code.to_string()))
                        }
                        _ => "lost".to_owned(),
                    };
                    world.tally.ended(how);
                    if matches!(end, End::Closed(Some(4001))) {
                        view.ticket = None;
                    }
                    failures = if entered { 0 } else { failures + 1 };
                    view.come_back.take().unwrap_or_else(|| back_off(failures, &mut random))
                }
            },
            Err((how, after)) => {
                world.tally.ended(how);
                world.tally.add(&world.tally.counters.failed, 1);
                failures += 1;
                match after {
                    Some(seconds) => seconds as f64 * random.random_range(1.0..2.0),
                    None => back_off(failures, &mut random),
                }
            }
        };
        view.come_back = None;
        tokio::select! {
            () = sleep(Duration::from_secs_f64(pause)) => {}
            () = world.stopping.cancelled() => break,
        }
    }
    world.views.lock().expect("no holder panics")[index] = Some(view);
}

/// Seconds before the next attempt, spread so that not all come at once.
fn back_off(failures: u32, random: &mut SmallRng) -> f64 {
    random.random_range(0.5..1.0) * f64::from(2_u32.pow(failures.min(4)))
}

type Failure = (String, Option<u64>);

async fn connect(world: &World, index: usize, turn: usize, view: &mut View) -> Result<(TcpStream, Vec<u8>), Failure> {
    let failed = |what: &'static str| move |error: io::Error| (format!("{what}: {}", error.kind()), None);
    let (user, counters) = (world.user(index), &world.tally.counters);
    let mut query = match &view.ticket {
        Some(ticket) => format!("resume_token={ticket}"),
        None => {
            let token = world.tokens.mint(user).await.map_err(|error| (format!("no token: {error}"), None))?;
            world.tally.add(&counters.minted, 1);
            world.tally.add(&counters.minted_again, u64::from(view.begun));
            format!("connection_token={token}")
        }
    };
    if let Some(epoch) = &view.epoch {
        query.push_str(&format!("&epoch={epoch}&offset={}", view.last));
    }
    let gateway = &world.gateways[turn % world.gateways.len()];
    let address: SocketAddr = gateway.parse().map_err(|_| ("a gateway must be ADDRESS:PORT".to_owned(), None))?;
    let socket = TcpSocket::new_v4().map_err(failed("no socket"))?;
    if address.ip().is_loopback() {
        // An address of its own for every 250: the ports of one address end at 65,535, and limits count addresses.
        let number = world.global(index);
        let source = Ipv4Addr::new(127, 1, (number / 250 / 250) as u8, (number / 250 % 250 + 1) as u8);
        socket.set_reuseaddr(true).map_err(failed("no socket"))?;
        socket.bind(SocketAddr::new(IpAddr::V4(source), 0)).map_err(failed("no address"))?;
    }
    let path = format!("/ws/community/room/{}/?{query}", world.room(index));
    let upgrading = async {
        let stream = socket.connect(address).await?;
        let answer = frames::upgrade(&stream, gateway, &path, world.browser(index)).await?;
        Ok::<_, io::Error>((stream, answer))
    };
    match timeout(PATIENCE, upgrading).await {
        Ok(Ok((stream, Upgrade::Done(early)))) => {
            // Good once, and used by now. Who was not let that far has it still.
            world.tally.add(&counters.tickets, u64::from(view.ticket.take().is_some()));
            Ok((stream, early))
        }
        Ok(Ok((_, Upgrade::Refused(status, after)))) => Err((format!("refused {status}"), after)),
        Ok(Err(error)) => Err(failed("not connected")(error)),
        Err(_) => Err(("not connected: too slow".to_owned(), None)),
    }
}

/// Reads until the end, and says whether the client was in.
async fn listen(
    world: &World,
    index: usize,
    (stream, mut rest): (TcpStream, Vec<u8>),
    began: Instant,
    view: &mut View,
    random: &mut SmallRng,
) -> (End, bool) {
    let stream = Arc::new(stream);
    let mut entered = false;
    let blink = world.scenario.blink.as_ref();
    let in_time = |share: f64| blink.map(|blink| Instant::now() + Duration::from_secs_f64(blink.every_seconds * share));
    let mut asked = None;
    let mut cut_at = if world.started.is_cancelled() { in_time(1.0) } else { None };
    let end = loop {
        if !rest.is_empty()
            && let Some(end) = take(world, index, &stream, &mut rest, began, view, &mut entered)
        {
            break end;
        }
        let ask_at = if entered { ask(&stream, view, &mut asked) } else { None };
        if entered && world.is_deaf(index) {
            // It never reads again; the gateway ends it in time.
            world.stopping.cancelled().await;
            break End::Stopped;
        }
        tokio::select! {
            ready = stream.readable() => if ready.is_err() { break End::Lost },
            () = sleep_until(cut_at.unwrap_or_else(Instant::now)), if cut_at.is_some() => {
                if world.calm.load(Ordering::Relaxed) {
                    cut_at = in_time(1.0);
                    continue;
                }
                break End::Cut;
            }
            () = world.started.cancelled(), if blink.is_some() && cut_at.is_none() => {
                cut_at = in_time(random.random_range(0.0..1.0));
                continue;
            }
            () = sleep_until(ask_at.unwrap_or_else(Instant::now)), if ask_at.is_some() => continue,
            () = sleep_until(began + PATIENCE), if !entered => break End::Lost,
            () = world.stopping.cancelled() => break End::Stopped,
        }
        let read = BUFFER.with_borrow_mut(|buffer| {
            let read = stream.try_read(buffer);
            if let Ok(count) = read {
                rest.extend_from_slice(&buffer[..count]);
            }
            read
        });
        match read {
            Ok(0) => break End::Lost,
            Ok(count) => world.tally.add(&world.tally.counters.bytes, count as u64),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => break End::Lost,
        }
    };
    *world.streams[index].lock().expect("no holder panics") = None;
    if entered {
        world.tally.counters.open.fetch_sub(1, Ordering::Relaxed);
    }
    if matches!(end, End::Cut) {
        world.tally.add(&world.tally.counters.cuts, 1);
        // No goodbye: a reset, as when a phone loses its network and comes back with another address.
        let _ = socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
    }
    (end, entered)
}

/// Asks for the page of history that the view lacks, and says when to look again.
fn ask(stream: &TcpStream, view: &mut View, asked: &mut Option<(String, Instant)>) -> Option<Instant> {
    let now = Instant::now();
    let cursor = view.messages.wanted()?;
    if let Some((_, again)) = asked
        && let Some(seconds) = view.page_after.take()
    {
        *again = now + Duration::from_secs_f64(seconds);
    }
    match asked {
        Some((before, again)) if before == cursor && *again > now => Some(*again),
        _ => {
            let frame = format!(r#"{{"type":"request_history","cursor":"{cursor}","limit":50}}"#);
            // What does not fit now is asked for again.
            let _ = stream.try_write(&frames::frame(1, frame.as_bytes()));
            let again = now + PAGE_PATIENCE;
            *asked = Some((cursor.to_owned(), again));
            Some(again)
        }
    }
}

/// Takes what whole frames there are. Gives the end if one of them is it.
fn take(
    world: &World,
    index: usize,
    stream: &Arc<TcpStream>,
    rest: &mut Vec<u8>,
    began: Instant,
    view: &mut View,
    entered: &mut bool,
) -> Option<End> {
    let (mut at, now, tally) = (0, micros(), &world.tally);
    while let Some((kind, payload, length)) = frames::parse(&rest[at..]) {
        let payload = &rest[at + payload.start..at + payload.end];
        match kind {
            Kind::Text => {
                tally.add(&tally.counters.events, 1);
                let meaning = view.take(payload, now, tally);
                if let Meaning::Message { id, micros } = meaning {
                    world.arrived(index, id, micros);
                }
                if let Meaning::Entered { resumed } = meaning
                    && !*entered
                {
                    *entered = true;
                    tally.add(&tally.counters.open, 1);
                    tally.add(&tally.counters.entered, 1);
                    let histogram = if resumed { &tally.replay } else { &tally.entering };
                    Tally::note(histogram, began.elapsed().as_micros() as u64);
                    *world.streams[index].lock().expect("no holder panics") = Some(Arc::clone(stream));
                    world.note_entered(index);
                }
            }
            Kind::Ping => {
                let _ = stream.try_write(&frames::frame(10, payload));
            }
            Kind::Close => {
                return Some(End::Closed(payload.first_chunk().map(|code| u16::from_be_bytes(*code))));
            }
            Kind::Pong | Kind::Other => {}
        }
        at += length;
    }
    rest.drain(..at);
    if rest.is_empty() && rest.capacity() > 0 {
        *rest = Vec::new(); // a hundred thousand of these wait for the next frame
    }
    None
}
