//! What it costs to write messages to a real Postgres: by how many are sent at the same moment, to one room and to fifty.
//!
//! `cargo bench --bench writer`. Offsets come from memory, so that nothing but Postgres is waited for. A commit waits for
//! the disk as Postgres is configured; `deploy/devstack` lets it not.

mod processes;
mod stack;

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use community_gateway::domain::{MessageId, RoomId, Topic, UserId};
use community_gateway::lifecycle::Lifecycle;
use community_gateway::store::{
    Committed, Draft, Outlet, OutletError, Reserved, Settings, Store, Writer, WriterSettings,
};
use community_gateway::telemetry::Metrics;
use futures_util::future::try_join_all;
use parking_lot::Mutex;
use processes::process_time;
use sqlx::postgres::PgPool;
use stack::{Error, Stack, is_measured, thread_time};
use uuid::Uuid;

/// How long one line of the table is measured.
const ENOUGH: Duration = Duration::from_secs(2);
/// Rooms, and people who write in them.
const ROOMS: u64 = 50;
/// The name of the threads that the gateway's part runs on.
const GATEWAY: &str = "gateway";

/// Counts offsets, and publishes nothing.
#[derive(Default)]
struct Offsets(Mutex<HashMap<Topic, u64>>);

impl Outlet for Offsets {
    type Payload = ();

    async fn reserve(&self, wanted: &[(Topic, u32)]) -> Result<Vec<Reserved>, OutletError> {
        let mut offsets = self.0.lock();
        let take = |(topic, count): &(Topic, u32)| {
            let last = offsets.entry(*topic).or_default();
            let first = *last + 1;
            *last += u64::from(*count);
            Reserved { epoch: 1, first }
        };
        Ok(wanted.iter().map(take).collect())
    }

    async fn publish(&self, _: Vec<Committed<()>>) {}

    async fn void(&self, _: Vec<(Topic, Reserved, u32)>) {}
}

fn main() -> Result<(), Error> {
    let stack = Stack::start()?;
    let url = stack.url("database_url")?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name(GATEWAY).enable_all().build()?;
    let (metrics, lifecycle) = (Arc::new(Metrics::new()?), Lifecycle::new());
    let (writer, pool) = runtime.block_on(async {
        let pool = PgPool::connect(url).await?;
        fill(&pool).await?;
        let store = Store::connect(Settings::new(url), Arc::clone(&metrics)).await?;
        let writer = Writer::start(&store, &Arc::<Offsets>::default(), &lifecycle, WriterSettings::default(), &metrics);
        Ok::<_, Error>((writer, pool))
    })?;
    let enough = if is_measured() { ENOUGH } else { Duration::ZERO };
    let mut out = std::io::stdout().lock();
    // Those that write, and those that write behind them.
    writeln!(
        out,
        "{:>6} {:>8} {:>11} {:>12} {:>13} {:>11} {:>12}",
        "rooms", "at once", "messages/s", "rows/commit", "ms to commit", "µs gateway", "µs Postgres"
    )?;
    for rooms in [1, ROOMS] {
        for at_once in [1, 4, 16, 64, 256, 1_024] {
            let (served, started, used) = (serving(&runtime, &pool)?, Instant::now(), thread_time(GATEWAY)?);
            let (batches, mut messages, mut waited) = (metrics.write_batches_total.get(), 0, Duration::ZERO);
            while messages == 0 || started.elapsed() < enough {
                let drafts: Vec<_> = (0..at_once).map(|sender| draft(sender % rooms, sender)).collect();
                let (round, writer) = (Instant::now(), writer.clone());
                let sending = async move { try_join_all(drafts.into_iter().map(|draft| writer.send(draft, ()))).await };
                runtime.block_on(spawn(&runtime, &lifecycle, sending))??;
                waited += round.elapsed();
                messages += at_once;
            }
            let (time, used) = (started.elapsed().as_secs_f64(), thread_time(GATEWAY)? - used);
            let served = serving(&runtime, &pool)?.saturating_sub(served);
            let batches = metrics.write_batches_total.get() - batches;
            writeln!(
                out,
                "{rooms:>6} {at_once:>8} {:>11.0} {:>12.1} {:>13.2} {:>11.1} {:>12.1}",
                messages as f64 / time,
                messages as f64 / batches as f64,
                waited.as_secs_f64() * 1e3 / (messages / at_once) as f64,
                used.as_secs_f64() * 1e6 / messages as f64,
                served.as_secs_f64() * 1e6 / messages as f64
            )?;
        }
    }
    Ok(())
}

/// The processor time of Postgres for its clients, and for the log.
fn serving(runtime: &tokio::runtime::Runtime, pool: &PgPool) -> Result<Duration, Error> {
    let sql = "SELECT pid FROM pg_stat_activity WHERE backend_type IN ('client backend', 'walwriter')";
    let processes: Vec<i32> = runtime.block_on(sqlx::query_scalar(sql).fetch_all(pool))?;
    Ok(process_time(&processes))
}

/// Runs something on the runtime's own thread, where its processor time is seen.
fn spawn<F>(runtime: &tokio::runtime::Runtime, lifecycle: &Lifecycle, future: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let _entered = runtime.enter();
    lifecycle.spawn(future)
}

fn room(number: u64) -> Uuid {
    Uuid::from_u128(0x1000 + u128::from(number))
}

fn draft(at: u64, sender: u64) -> Draft {
    let room = RoomId(room(at));
    Draft {
        id: MessageId::generate(),
        room_id: room,
        dm_thread: None,
        thread_id: None,
        moderates: false,
        author: UserId(1_000_000 + i64::try_from(sender % ROOMS).unwrap_or_default()),
        content: "Has anybody tried the new release? It worked last week. ".repeat(4),
        message_type: "text",
        attachments: "[]".to_owned(),
        mentions: "[]".to_owned(),
        reply_to: None,
        topic: Topic::Room(room),
        mark: None,
    }
}

/// People, rooms, and everybody a member of each.
async fn fill(pool: &PgPool) -> Result<(), Error> {
    let last = i64::try_from(ROOMS)? - 1;
    let rooms: Vec<Uuid> = (0..ROOMS).map(room).collect();
    sqlx::query(
        "INSERT INTO users_user (id, is_superuser, username, first_name, last_name, is_staff, is_active, date_joined, email, \
             role, tier) \
         SELECT 1000000 + n, false, 'bench' || n, '', '', false, true, now(), n || '@example.org', 'explorer', 'seedling' \
           FROM generate_series(0, $1) n",
    )
    .bind(last)
    .execute(pool)
    .await?;
    sqlx::query(
        "INSERT INTO community_room (id, name, slug, description, icon, room_type, visibility, slow_mode_seconds, \
             min_trust_to_join, min_trust_to_post, is_archived, is_active, auto_thread, position, is_default, member_count, \
             message_count, online_count, created_at, updated_at) \
         SELECT id, 'Bench', id::text, '', '', 'forum', 'public', 0, 0, 0, false, true, false, 0, false, 0, 0, 0, now(), now() \
           FROM unnest($1::uuid[]) id",
    )
    .bind(&rooms)
    .execute(pool)
    .await?;
    sqlx::query(
        "INSERT INTO community_roommembership (id, room_id, user_id, role, trust_score, messages_sent, warnings_count, \
             notifications_enabled, notification_level, is_active, joined_at, updated_at) \
         SELECT gen_random_uuid(), room, 1000000 + n, 'member', 0, 0, 0, true, 'all', true, now(), now() \
           FROM generate_series(0, $1) n, unnest($2::uuid[]) room",
    )
    .bind(last)
    .bind(&rooms)
    .execute(pool)
    .await?;
    Ok(())
}
