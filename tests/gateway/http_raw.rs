//! The public listener without a gateway behind it, and a client that writes HTTP byte by byte.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use community_gateway::http::{Arrival, Public, PublicSettings};
use community_gateway::identity::Sealer;
use community_gateway::lifecycle::Lifecycle;
use community_gateway::telemetry::Metrics;
use community_gateway::transport::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::support::GUARD;

pub const ROOM: &str = "/ws/community/room/0f8fad5b-d9cb-469f-a165-70867728950e/";
/// What `Sec-WebSocket-Accept` must be for the key of [`upgrade`] (RFC 6455, 1.3).
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Settings that refuse nothing.
pub fn settings() -> PublicSettings {
    PublicSettings {
        allowed_origins: vec!["https://chat.example".to_owned()],
        trusted_proxies: Vec::new(),
        jwt_cookie: "access_token".to_owned(),
        connections: 100,
        connections_per_address: 0,
        handshake_rate: 0,
        handshakes_in_progress: 100,
        entering: 100,
        tickets: Arc::new(Sealer::new("the key of these tests")),
        certificate: None,
        head_deadline: GUARD * 2,
        max_head: 16 * 1024,
    }
}

/// A handshake that is in order, plus `more` headers, each with its line's end.
pub fn upgrade(path: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
}

/// Fills the buffer with what comes.
pub async fn read_exact(stream: &Stream, mut buffer: &mut [u8]) {
    let mut scratch = vec![0; 64 * 1024];
    while !buffer.is_empty() {
        std::future::poll_fn(|cx| stream.poll_read_ready(cx)).await.unwrap();
        let most = if matches!(stream, Stream::Plain(_)) { buffer.len().min(scratch.len()) } else { scratch.len() };
        match stream.try_read(&mut scratch[..most]) {
            Ok(0) => panic!("the end, and {} bytes are missing", buffer.len()),
            Ok(count) => {
                let (filled, rest) = buffer.split_at_mut(count);
                filled.copy_from_slice(&scratch[..count]);
                buffer = rest;
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// A listener at work. What arrives waits here.
pub struct Door {
    pub address: SocketAddr,
    pub metrics: Arc<Metrics>,
    pub lifecycle: Lifecycle,
    pub running: JoinHandle<()>,
    pub arrivals: mpsc::Receiver<Arrival>,
}

impl Door {
    pub fn open(settings: PublicSettings) -> Self {
        let metrics = Arc::new(Metrics::new().unwrap());
        let public = Public::bind(([127, 0, 0, 1], 0).into(), settings, Arc::clone(&metrics)).unwrap();
        let (address, lifecycle) = (public.local_addr(), Lifecycle::new());
        let (arrived, arrivals) = mpsc::channel(1000);
        let on_arrival = Arc::new(move |arrival| arrived.try_send(arrival).unwrap());
        let running = lifecycle.spawn(public.run(lifecycle.clone(), on_arrival));
        Self { address, metrics, lifecycle, running, arrivals }
    }

    /// A connection that has said nothing yet.
    pub async fn connect(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    /// A request on a connection of its own, and the head of its answer.
    pub async fn ask(&self, request: &str) -> (Client, Answer) {
        let mut client = self.connect().await;
        client.write(request.as_bytes()).await;
        let answer = client.answer().await;
        (client, answer)
    }

    /// A request that gets a whole answer, after which the connection is closed.
    pub async fn refusal(&self, request: &str) -> Answer {
        let (mut client, mut answer) = self.ask(request).await;
        let closed = timeout(GUARD, client.0.read_to_string(&mut answer.body)).await;
        closed.unwrap_or_else(|_| panic!("not closed after {answer:?} to {request:?}")).unwrap();
        answer
    }

    /// A handshake that succeeds.
    pub async fn arrival(&mut self, more: &str) -> (Client, Arrival) {
        let (client, answer) = self.ask(&upgrade(ROOM, more)).await;
        assert_eq!(answer.status(), 101, "{answer:?}");
        (client, timeout(GUARD, self.arrivals.recv()).await.expect("an arrival").unwrap())
    }

    pub fn refused(&self, reason: &str) -> u64 {
        self.metrics.upgrades_refused_total.with_label_values(&[reason]).get()
    }
}

pub struct Client(pub TcpStream);

impl Client {
    pub async fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// Reads to the end of the head, and no further.
    pub async fn answer(&mut self) -> Answer {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let byte = timeout(GUARD, self.0.read_u8()).await.expect("an answer");
            head.push(byte.expect("an answer before the connection closes"));
        }
        Answer { head: String::from_utf8(head).unwrap(), body: String::new() }
    }

    /// Reads until the other side closes.
    pub async fn rest(&mut self) -> String {
        let mut rest = String::new();
        timeout(GUARD, self.0.read_to_string(&mut rest)).await.expect("the connection is closed").unwrap();
        rest
    }
}

#[derive(Debug)]
pub struct Answer {
    head: String,
    pub body: String,
}

impl Answer {
    pub fn status(&self) -> u16 {
        self.head["HTTP/1.1 ".len()..][..3].parse().unwrap()
    }

    /// A header's value, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The stable code of a refusal.
    pub fn code(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        assert!(body["error"]["message"].is_string(), "{body}");
        body["error"]["code"].as_str().unwrap().to_owned()
    }

    /// Seconds after which to come back.
    pub fn retry_after(&self) -> Duration {
        Duration::from_secs(self.header("retry-after").expect("Retry-After").parse().unwrap())
    }
}
