//! What one delivery costs: pushes to real loopback sockets, alone and several to a system call.
//!
//! `cargo bench --bench outbox`. The time is the pusher's own, the kernel's share included; a thread per connection
//! reads and throws away, so on few cores it competes. Most of it is the system call: that is what `push_many` shares.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use community_gateway::lifecycle::Lifecycle;
use community_gateway::socket::{Class, Frame, Limits, Outbox, Pushed, Shared, Socket};
use community_gateway::telemetry::Metrics;

type Error = Box<dyn std::error::Error>;

/// Connections that every round delivers to.
const CONNECTIONS: usize = 50;
/// How long one line of the table is measured.
const ENOUGH: Duration = Duration::from_millis(400);

fn main() -> Result<(), Error> {
    // `cargo bench` says so; `cargo test --all-targets` only wants to know that it runs.
    let enough = if std::env::args().any(|arg| arg == "--bench") { ENOUGH } else { Duration::ZERO };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let _entered = runtime.enter();
    let shared = Shared::new(Limits::default(), Arc::new(Metrics::new()?));
    let lifecycle = Lifecycle::new();
    let mut outboxes = Vec::new();
    for _ in 0..CONNECTIONS {
        let (mut socket, outbox) = connect(&shared)?;
        outboxes.push(outbox);
        lifecycle.spawn(async move {
            socket.next().await; // writes on what waits; nothing comes in
        });
    }

    let mut out = std::io::stdout().lock();
    writeln!(out, "{:>8} {:>6} {:>12} {:>12}", "bytes", "batch", "µs/delivery", "deliveries/s")?;
    for bytes in [100, 300, 1_000, 4_000] {
        for batch in [1, 4, 16, 64] {
            let (time, deliveries) = measure(&runtime, &outboxes, bytes, batch, enough)?;
            let each = time.as_secs_f64() * 1e6 / deliveries as f64;
            writeln!(out, "{bytes:>8} {batch:>6} {each:>12.2} {:>12.0}", 1e6 / each)?;
        }
    }
    Ok(())
}

/// A socket of ours whose peer reads for ever.
fn connect(shared: &Arc<Shared>) -> Result<(Socket, Arc<Outbox>), Error> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut peer = TcpStream::connect(listener.local_addr()?)?;
    std::thread::spawn(move || {
        let mut buffer = vec![0; 256 * 1024];
        while peer.read(&mut buffer).is_ok_and(|count| count > 0) {}
    });
    let (ours, _) = listener.accept()?;
    ours.set_nonblocking(true)?;
    Ok(Socket::new(tokio::net::TcpStream::from_std(ours)?, &Bytes::new(), shared))
}

/// Delivers to everybody in turn, for long enough; only the time within pushes counts.
fn measure(
    runtime: &tokio::runtime::Runtime,
    outboxes: &[Arc<Outbox>],
    bytes: usize,
    batch: usize,
    enough: Duration,
) -> Result<(Duration, usize), Error> {
    let frame = Frame::text(&vec![b'x'; bytes]);
    let frames = vec![(frame.clone(), Class::Message); batch];
    let (mut time, mut deliveries) = (Duration::ZERO, 0);
    while deliveries == 0 || time < enough {
        let started = Instant::now();
        for outbox in outboxes {
            let pushed = if batch == 1 { outbox.push(&frame, Class::Message) } else { outbox.push_many(&frames) };
            if !matches!(pushed, Pushed::Written | Pushed::Queued) {
                return Err(format!("a push was {pushed:?}").into());
            }
            deliveries += batch;
        }
        time += started.elapsed();
        // Between rounds everyone's queue drains, so that each round begins with nothing waiting.
        runtime.block_on(async {
            while outboxes.iter().any(|outbox| outbox.queued_bytes() > 0) {
                tokio::task::yield_now().await;
            }
        });
    }
    Ok((time, deliveries))
}
