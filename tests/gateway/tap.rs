//! A relay before Redis or Postgres that hears what a gateway asks of it, command by command.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// One command of Redis with its arguments, or one statement of Postgres.
#[derive(Clone, Debug)]
pub struct Heard {
    /// What came in one read has one number: it was sent without waiting for an answer in between.
    pub flight: u64,
    pub words: Vec<String>,
}

/// The relay. Ends with its value, and all connections with it.
pub struct Tap {
    pub address: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
    held: watch::Sender<Option<&'static str>>,
    /// Aborted when it is dropped.
    _task: JoinSet<()>,
}

impl Tap {
    /// A relay before a Redis.
    pub async fn redis(server: SocketAddr) -> Self {
        Self::start(server, || Box::new(Redis)).await
    }

    /// A relay before a Postgres.
    pub async fn postgres(server: SocketAddr) -> Self {
        Self::start(server, || Box::new(Postgres::default())).await
    }

    async fn start(server: SocketAddr, ear: fn() -> Box<dyn Ear>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (heard, flights) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU64::new(0)));
        let (held, gate) = watch::channel(None);
        let mut task = JoinSet::new();
        let of_task = Arc::clone(&heard);
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(server).await else { continue };
                let ((from_client, mut to_client), (mut from_server, to_server)) =
                    (client.into_split(), server.into_split());
                connections.spawn(async move {
                    let _ = tokio::io::copy(&mut from_server, &mut to_client).await; // until one side ends
                });
                let (heard, flights) = (Arc::clone(&of_task), Arc::clone(&flights));
                connections.spawn(listen(from_client, to_server, ear(), heard, flights, gate.clone()));
            }
        });
        Self { address, heard, held, _task: task }
    }

    /// What was heard since the last call.
    pub fn take(&self) -> Vec<Heard> {
        std::mem::take(&mut self.heard.lock())
    }

    /// How much was heard since then for which `wanted` says yes.
    pub fn count(&self, wanted: impl Fn(&Heard) -> bool) -> usize {
        self.heard.lock().iter().filter(|heard| wanted(heard)).count()
    }

    /// Passes nothing on that begins so: who asks waits, until all is released.
    pub fn hold(&self, begin: &'static str) {
        self.held.send_replace(Some(begin));
    }

    /// Passes on what was held, and what comes.
    pub fn release(&self) {
        self.held.send_replace(None);
    }
}

async fn listen(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut ear: Box<dyn Ear>,
    heard: Arc<Mutex<Vec<Heard>>>,
    flights: Arc<AtomicU64>,
    mut gate: watch::Receiver<Option<&'static str>>,
) {
    let (mut waiting, mut piece) = (Vec::new(), vec![0; 64 * 1024]);
    while let Ok(count @ 1..) = from.read(&mut piece).await {
        waiting.extend_from_slice(&piece[..count]);
        let flight = flights.fetch_add(1, Ordering::Relaxed);
        let mut said = Vec::new();
        while let Some((length, words)) = ear.next(&waiting) {
            waiting.drain(..length);
            said.extend(words.map(|words| Heard { flight, words }));
        }
        // Heard before it is passed on: who sees the effect finds the cause.
        heard.lock().extend(said.iter().cloned());
        let may_pass =
            |held: &Option<&str>| held.is_none_or(|begin| !said.iter().any(|heard| heard.words[0].starts_with(begin)));
        let is_open = gate.wait_for(may_pass).await.is_ok();
        if !is_open || to.write_all(&piece[..count]).await.is_err() {
            return;
        }
    }
}

/// Understands one side of one connection.
trait Ear: Send {
    /// How long the first message in these bytes is, and what it asks, if it asks anything; `None` while it is not whole.
    fn next(&mut self, bytes: &[u8]) -> Option<(usize, Option<Vec<String>>)>;
}

/// Commands as arrays of bulk strings, which is how clients write them.
struct Redis;

impl Ear for Redis {
    fn next(&mut self, bytes: &[u8]) -> Option<(usize, Option<Vec<String>>)> {
        let number = |at: usize| {
            let end = at + bytes.get(at..)?.windows(2).position(|pair| pair == b"\r\n")?;
            Some((std::str::from_utf8(&bytes[at + 1..end]).unwrap().parse::<usize>().unwrap(), end + 2))
        };
        let (count, mut at) = number(0)?;
        let mut words = Vec::new();
        for _ in 0..count {
            let (length, start) = number(at)?;
            words.push(String::from_utf8_lossy(bytes.get(start..start + length)?).into_owned());
            at = start + length + 2;
        }
        (at <= bytes.len()).then_some((at, Some(words)))
    }
}

/// Statements: simple queries, and executions of what was prepared.
#[derive(Default)]
struct Postgres {
    has_started: bool,
    prepared: HashMap<Vec<u8>, String>,
    bound: String,
}

impl Ear for Postgres {
    fn next(&mut self, bytes: &[u8]) -> Option<(usize, Option<Vec<String>>)> {
        // Until the connection has started, messages have no letter in front.
        let head = usize::from(self.has_started);
        let length = u32::from_be_bytes(bytes.get(head..head + 4)?.try_into().unwrap()) as usize + head;
        let body = bytes.get(head + 4..length)?;
        if !self.has_started {
            // A request for TLS comes before the start, and is refused by our server.
            self.has_started = body[..4] != 80_877_103_u32.to_be_bytes();
            return Some((length, None));
        }
        let mut texts = body.split(|byte| *byte == 0);
        let mut text = || texts.next().unwrap_or_default().to_vec();
        let asked = match bytes[0] {
            b'P' => {
                let (name, sql) = (text(), String::from_utf8(text()).unwrap());
                self.prepared.insert(name, sql);
                None
            }
            b'B' => {
                let _portal = text();
                self.bound = self.prepared.get(&text()).cloned().expect("what is bound was prepared");
                None
            }
            b'E' => Some(vec![self.bound.clone()]),
            b'Q' => Some(vec![String::from_utf8(text()).unwrap()]),
            _ => None,
        };
        Some((length, asked))
    }
}
