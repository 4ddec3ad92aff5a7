//! A commit whose answer is lost: the store finds out before it says anything.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use community_gateway::lifecycle::Lifecycle;
use community_gateway::store::{Settings, WriteError, WriterSettings};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::store_fixture::{FakeOutlet, draft, store_with};
use crate::support::{RoomSpec, Stack, eventually};

/// What happens to the next commit that passes. Afterwards everything passes again.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mishap {
    /// Postgres gets it, and the connection breaks before the answer.
    AnswerLost,
    /// The connection breaks before Postgres gets it.
    CommitLost,
    /// Postgres gets it, and no answer ever comes.
    Silence,
    /// The connection breaks, and Postgres gets it only when the proxy lets it through.
    CommitLate,
    /// Postgres gets it, the connection breaks, and no other can be made until it is opened again.
    AnswerLostAndGone,
}

/// A TCP proxy before Postgres that knows what a commit looks like.
struct Proxy {
    address: SocketAddr,
    mishap: Arc<Mutex<Option<Mishap>>>,
    open: watch::Sender<bool>,
    late: watch::Sender<bool>,
    _task: JoinSet<()>,
}

impl Proxy {
    async fn start(postgres: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mishap = Arc::new(Mutex::new(None));
        let (open, opened) = watch::channel(true);
        let late = watch::Sender::new(false);
        let (plan, door, let_through) = (Arc::clone(&mishap), open.clone(), late.clone());
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                if *opened.borrow() {
                    connections.spawn(pass(client, postgres, Arc::clone(&plan), door.clone(), let_through.subscribe()));
                }
            }
        });
        Self { address, mishap, open, late, _task: task }
    }
}

async fn pass(
    client: TcpStream,
    postgres: SocketAddr,
    plan: Arc<Mutex<Option<Mishap>>>,
    door: watch::Sender<bool>,
    mut late: watch::Receiver<bool>,
) {
    let (mut from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = TcpStream::connect(postgres).await.unwrap().into_split();
    let muted = Arc::new(AtomicBool::new(false));
    let mut answers = JoinSet::new();
    answers.spawn(answer(from_server, to_client, Arc::clone(&muted)));
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(read @ 1..) = from_client.read(&mut buffer).await else { return };
        let bytes = &buffer[..read];
        let is_commit = bytes.windows(7).any(|part| part == b"COMMIT\0");
        let Some(mishap) = (if is_commit { plan.lock().take() } else { None }) else {
            to_server.write_all(bytes).await.unwrap();
            continue;
        };
        muted.store(true, Ordering::SeqCst);
        match mishap {
            Mishap::CommitLost => return,
            Mishap::AnswerLost => {}
            Mishap::AnswerLostAndGone => {
                door.send_replace(false);
            }
            Mishap::Silence => {
                to_server.write_all(bytes).await.unwrap();
                std::future::pending::<()>().await;
            }
            Mishap::CommitLate => {
                answers.shutdown().await;
                drop(from_client);
                late.wait_for(|through| *through).await.unwrap();
                to_server.write_all(bytes).await.unwrap();
                to_server.shutdown().await.unwrap();
                return;
            }
        }
        to_server.write_all(bytes).await.unwrap();
        to_server.shutdown().await.unwrap(); // Postgres does what it was asked before the end of its input
        return;
    }
}

/// Passes Postgres's answers on until they are muted.
async fn answer(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, muted: Arc<AtomicBool>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if !muted.load(Ordering::SeqCst) && to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

struct Scene {
    stack: Stack,
    proxy: Proxy,
    settings: Settings,
}

impl Scene {
    async fn set() -> Self {
        let stack = Stack::start().await;
        let mut url = url::Url::parse(&stack.database_url()).unwrap();
        let postgres = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap()).parse().unwrap();
        let proxy = Proxy::start(postgres).await;
        url.set_port(Some(proxy.address.port())).unwrap();
        let settings = Settings { statement_timeout: Duration::from_secs(1), ..Settings::new(url.as_str()) };
        Self { stack, proxy, settings }
    }

    async fn rows(&self) -> (i64, i64) {
        let sql = "SELECT (SELECT count(*) FROM community_message), message_count::bigint FROM community_room";
        sqlx::query_as(sql).fetch_one(self.stack.db()).await.unwrap()
    }
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_counts_when_it_was_done() {
    for mishap in [Mishap::AnswerLost, Mishap::Silence] {
        let scene = Scene::set().await;
        let (room, ada) = (scene.stack.room(RoomSpec::default()).await, scene.stack.user("ada").await);
        let (outlet, lifecycle) = (FakeOutlet::new(), Lifecycle::new());
        let store = store_with(scene.settings.clone()).await;
        let writer = outlet.writer(&store, &lifecycle, WriterSettings::default());

        *scene.proxy.mishap.lock() = Some(mishap);
        let stored = writer.send(draft(&room, &ada, "done"), 0).await.unwrap();
        assert_eq!((stored.offset, scene.rows().await), (1, (1, 1)), "{mishap:?}");
        assert_eq!(writer.send(draft(&room, &ada, "next"), 0).await.unwrap().offset, 2);
        eventually("both are published", || async { outlet.published.lock().len() == 2 }).await;
        assert!(outlet.voided.lock().is_empty());
    }
}

#[tokio::test]
async fn a_commit_that_never_arrived_is_refused_and_its_offset_voided() {
    let scene = Scene::set().await;
    let (room, ada) = (scene.stack.room(RoomSpec::default()).await, scene.stack.user("ada").await);
    let (outlet, lifecycle) = (FakeOutlet::new(), Lifecycle::new());
    let store = store_with(scene.settings.clone()).await;
    let writer = outlet.writer(&store, &lifecycle, WriterSettings::default());

    *scene.proxy.mishap.lock() = Some(Mishap::CommitLost);
    let refused = writer.send(draft(&room, &ada, "lost"), 0).await.unwrap_err();
    assert!(matches!(refused, WriteError::Unavailable { .. }), "{refused:?}");
    assert_eq!(scene.rows().await, (0, 0));
    eventually("its offset is voided", || async { *outlet.voided.lock() == [(draft(&room, &ada, "").topic, 1, 1)] })
        .await;
    assert_eq!(writer.send(draft(&room, &ada, "next"), 0).await.unwrap().offset, 2);
}

#[tokio::test]
async fn when_postgres_cannot_be_asked_the_sender_is_told_so_and_the_message_is_published_later() {
    let scene = Scene::set().await;
    let (room, ada) = (scene.stack.room(RoomSpec::default()).await, scene.stack.user("ada").await);
    let (outlet, lifecycle) = (FakeOutlet::new(), Lifecycle::new());
    let store = store_with(scene.settings.clone()).await;
    let writer = outlet.writer(&store, &lifecycle, WriterSettings::default());

    *scene.proxy.mishap.lock() = Some(Mishap::AnswerLostAndGone);
    assert_eq!(writer.send(draft(&room, &ada, "who knows"), 0).await, Err(WriteError::Uncertain));
    assert!(outlet.published.lock().is_empty());
    scene.proxy.open.send_replace(true);
    eventually("it is published", || async { outlet.published.lock().len() == 1 }).await;
    assert_eq!(scene.rows().await, (1, 1));
    writer.send(draft(&room, &ada, "next"), 0).await.unwrap();
}

#[tokio::test]
async fn a_commit_that_is_still_on_its_way_is_waited_for() {
    let scene = Scene::set().await;
    let (room, ada) = (scene.stack.room(RoomSpec::default()).await, scene.stack.user("ada").await);
    let (outlet, lifecycle) = (FakeOutlet::new(), Lifecycle::new());
    let store = store_with(scene.settings.clone()).await;
    let writer = outlet.writer(&store, &lifecycle, WriterSettings::default());

    *scene.proxy.mishap.lock() = Some(Mishap::CommitLate);
    let arrive = async {
        let asked =
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_xact_status%' AND state = 'idle'";
        eventually("the store has asked what became of it", || async {
            sqlx::query_scalar::<_, i64>(asked).fetch_one(scene.stack.db()).await.unwrap() == 1
        })
        .await;
        assert_eq!(scene.rows().await, (0, 0), "it is not done yet");
        scene.proxy.late.send_replace(true);
    };
    let (stored, ()) = tokio::join!(writer.send(draft(&room, &ada, "late"), 0), arrive);
    assert_eq!((stored.unwrap().offset, scene.rows().await), (1, (1, 1)));
    eventually("it is published", || async { outlet.published.lock().len() == 1 }).await;
    assert!(outlet.voided.lock().is_empty());
}
