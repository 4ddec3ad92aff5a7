//! What limits cost: a connection's own in memory, and a user's across instances in a real Redis, by how many ask at once.
//!
//! `cargo bench --bench limiter`.

mod processes;
mod stack;

use std::hint::black_box;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use community_gateway::access::bucket::{Bucket, Rate};
use community_gateway::access::quota::{Quota, Window};
use community_gateway::bus::Bus;
use community_gateway::config::Deployment;
use community_gateway::domain::UserId;
use community_gateway::keyspace;
use community_gateway::lifecycle::Lifecycle;
use community_gateway::telemetry::Metrics;
use futures_util::future::join_all;
use processes::process_time;
use stack::{Error, Stack, is_measured, thread_time};

/// How long one line of the table is measured.
const ENOUGH: Duration = Duration::from_millis(500);
/// The name of the thread that asks.
const GATEWAY: &str = "gateway";
/// How many may be sent in a minute and in an hour: the windows that a user's ZSET grows to.
const PLACES: [u32; 3] = [10, 100, 1_000];

fn main() -> Result<(), Error> {
    let enough = if is_measured() { ENOUGH } else { Duration::ZERO };
    let mut out = std::io::stdout().lock();

    writeln!(out, "{:<28} {:>12} {:>12}", "frames of connections", "connections", "ns each")?;
    for connections in [1_usize, 1_000, 100_000] {
        let (started, rate) = (Instant::now(), Rate::new(20, 40));
        let mut buckets: Vec<_> = (0..connections).map(|_| Bucket::new(started)).collect();
        let (mut taken, began) = (0_u64, Instant::now());
        while taken == 0 || began.elapsed() < enough {
            let now = Instant::now();
            for bucket in &mut buckets {
                let _ = black_box(bucket.take(&rate, now));
            }
            taken += connections as u64;
        }
        let each = began.elapsed().as_secs_f64() * 1e9 / taken as f64;
        writeln!(out, "{:<28} {connections:>12} {each:>12.1}", "Bucket::take")?;
    }

    let stack = Stack::start()?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name(GATEWAY).enable_all().build()?;
    let metrics = Arc::new(Metrics::new()?);
    let deployment = Deployment::parse(stack.url("redis_url")?)?;
    let bus = runtime.block_on(Bus::connect(&deployment, Arc::clone(&metrics)))?;
    let info: String = runtime.block_on(redis::cmd("INFO").arg("server").query_async(&mut bus.connection()))?;
    let server = info.lines().find_map(|line| line.strip_prefix("process_id:")).ok_or("Redis does not say its id")?;
    let server = [server.trim().parse()?];
    writeln!(
        out,
        "\n{:<16} {:>8} {:>8} {:>11} {:>11} {:>10}",
        "sends of users", "places", "at once", "µs gateway", "µs Redis", "takes/s"
    )?;
    let (lifecycle, mut user) = (Lifecycle::new(), 0);
    for places in PLACES {
        let minute = Window { length: Duration::from_secs(60), places };
        let hour = Window { length: Duration::from_secs(3_600), places: places * 10 };
        let window = keyspace::send_window;
        let quota = Quota::new(bus.connection(), "sends", window, &[minute, hour], Arc::clone(&metrics));
        for at_once in [1_i64, 16, 256] {
            user += 1_000;
            let (mut taken, began, used) = (0, Instant::now(), thread_time(GATEWAY)?);
            let served = process_time(&server);
            while taken == 0 || began.elapsed() < enough {
                // Some are refused once their windows are full: that is asked as often.
                let quota = quota.clone();
                let asking = async move {
                    black_box(join_all((0..at_once).map(|person| quota.take(UserId(user + person)))).await);
                };
                let _entered = runtime.enter();
                runtime.block_on(lifecycle.spawn(asking))?;
                taken += at_once;
            }
            let (second, used) = (taken as f64 / began.elapsed().as_secs_f64(), thread_time(GATEWAY)? - used);
            let served = process_time(&server).saturating_sub(served);
            let each = |time: Duration| time.as_secs_f64() * 1e6 / taken as f64;
            let (of_us, of_redis) = (each(used), each(served));
            writeln!(
                out,
                "{:<16} {places:>8} {at_once:>8} {of_us:>11.1} {of_redis:>11.1} {second:>10.0}",
                "Quota::take"
            )?;
        }
    }
    Ok(())
}
