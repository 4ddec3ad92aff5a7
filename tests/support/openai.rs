//! A moderation API of the test's own: judges texts by the marks they hold, and fails in every way that a script names.
//!
//! ```ignore
//! let api = FakeOpenAi::start().await;
//! api.score("idiot", "harassment", 0.45); // texts that contain the mark; all others score next to nothing
//! let gateway = stack.gateway().env("OPENAI_BASE_URL", api.url()).env("OPENAI_API_KEY", FakeOpenAi::KEY).start().await;
//! api.next(Act::status(503).header("retry-after-ms", "5")); // the next request only; several queue up
//! api.always(Act::hang()); // every request from now on
//! let held = api.hold("slow"); // requests with such a text are answered when `held` is dropped
//! api.go_down().await; // connections break, new ones are refused, until `come_up`
//! api.received(3).await; // waits for so many requests since the start
//! assert_eq!(api.requests()[0].inputs, ["hello"]);
//! ```
//!
//! Stands alone, so that examples can use it too.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Longest wait for anything.
const GUARD: Duration = Duration::from_secs(20);

const CATEGORIES: [&str; 13] = [
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/intent",
    "self-harm/instructions",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
];

/// What is done with a request.
#[derive(Clone, Debug)]
pub struct Act {
    kind: Kind,
    headers: Vec<(String, String)>,
    delay: Duration,
}

#[derive(Clone, Debug)]
enum Kind {
    Judge,
    /// So many results, whatever was asked.
    Results(usize),
    Answer(u16, Vec<u8>),
    /// Nothing, until the client goes away.
    Hang,
    /// The connection is closed without an answer.
    Close,
    /// The answer stops half way.
    Cut,
    /// An answer without an end.
    Flood,
}

impl Act {
    fn new(kind: Kind) -> Self {
        Self { kind, headers: Vec::new(), delay: Duration::ZERO }
    }

    /// What it does unless told otherwise.
    pub fn judge() -> Self {
        Self::new(Kind::Judge)
    }

    pub fn results(count: usize) -> Self {
        Self::new(Kind::Results(count))
    }

    /// With an error's body that says nothing.
    pub fn status(status: u16) -> Self {
        Self::answer(status, r#"{"error":{"message":"a secret","type":"x","param":null,"code":null}}"#)
    }

    pub fn answer(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::new(Kind::Answer(status, body.into()))
    }

    pub fn hang() -> Self {
        Self::new(Kind::Hang)
    }

    pub fn close() -> Self {
        Self::new(Kind::Close)
    }

    pub fn cut() -> Self {
        Self::new(Kind::Cut)
    }

    pub fn flood() -> Self {
        Self::new(Kind::Flood)
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Takes that long.
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Received {
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub model: Value,
    pub inputs: Vec<String>,
}

#[derive(Default)]
struct Script {
    scores: Vec<(String, String, f64)>,
    refused: Vec<String>,
    always: Option<Act>,
    next: Vec<Act>,
    requests: Vec<Received>,
}

struct Shared {
    script: Mutex<Script>,
    received: watch::Sender<usize>,
    /// Requests whose client went away before the answer.
    abandoned: watch::Sender<usize>,
    held: watch::Sender<Vec<String>>,
    up: watch::Sender<bool>,
    /// Whether it listens.
    listening: watch::Sender<bool>,
}

/// The API. Gone with the value.
pub struct FakeOpenAi {
    address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

/// Requests are held back while it lives.
pub struct Held {
    shared: Arc<Shared>,
    mark: String,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shared.held.send_modify(|held| held.retain(|mark| *mark != self.mark));
    }
}

impl FakeOpenAi {
    /// The key that it takes; any other gets 401.
    pub const KEY: &str = "sk-test-of-the-fake";

    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            script: Mutex::default(),
            received: watch::Sender::new(0),
            abandoned: watch::Sender::new(0),
            held: watch::Sender::default(),
            up: watch::Sender::new(true),
            listening: watch::Sender::new(true),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(listen(listener, Arc::clone(&shared)));
        Self { address, shared, _tasks: tasks }
    }

    /// The value of `OPENAI_BASE_URL`.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Texts that contain the mark get this score.
    pub fn score(&self, mark: &str, category: &str, score: f64) {
        self.script().scores.push((mark.to_owned(), category.to_owned(), score));
    }

    /// Requests with a text that contains the mark get 400, as a whole.
    pub fn refuse(&self, mark: &str) {
        self.script().refused.push(mark.to_owned());
    }

    /// From now on, for every request that has no act of its own.
    pub fn always(&self, act: Act) {
        self.script().always = Some(act);
    }

    /// For the next request only. Several are used up in their order.
    pub fn next(&self, act: Act) {
        self.script().next.push(act);
    }

    /// Holds back requests with a text that contains the mark.
    pub fn hold(&self, mark: &str) -> Held {
        self.shared.held.send_modify(|held| held.push(mark.to_owned()));
        Held { shared: Arc::clone(&self.shared), mark: mark.to_owned() }
    }

    /// Every request so far, in the order in which they came.
    pub fn requests(&self) -> Vec<Received> {
        self.script().requests.clone()
    }

    /// Every text so far.
    pub fn inputs(&self) -> Vec<String> {
        self.requests().into_iter().flat_map(|request| request.inputs).collect()
    }

    /// Waits until so many requests came since the start.
    pub async fn received(&self, count: usize) {
        reach(self.shared.received.subscribe(), count, "requests came").await;
    }

    /// Waits until so many clients went away before they had an answer.
    pub async fn abandoned(&self, count: usize) {
        reach(self.shared.abandoned.subscribe(), count, "requests were abandoned").await;
    }

    /// Breaks all connections and refuses new ones.
    pub async fn go_down(&self) {
        self.turn(false).await;
    }

    /// Listens again, on the same port.
    pub async fn come_up(&self) {
        self.turn(true).await;
    }

    async fn turn(&self, up: bool) {
        self.shared.up.send_replace(up);
        let mut listening = self.shared.listening.subscribe();
        let turned = tokio::time::timeout(GUARD, listening.wait_for(|listening| *listening == up)).await;
        turned.expect("the fake API did not turn").expect("the fake API is gone");
    }

    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.shared.script.lock().expect("no test panics while it writes the script")
    }
}

async fn reach(mut counter: watch::Receiver<usize>, count: usize, what: &str) {
    let reached = tokio::time::timeout(GUARD, counter.wait_for(|so_far| *so_far >= count)).await.is_ok();
    assert!(reached, "not {count} but {} {what}", *counter.borrow());
}

/// Listens while it is to be up; dropping the set of connections closes them.
async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    let address = listener.local_addr().expect("an address");
    let (mut listener, mut up) = (Some(listener), shared.up.subscribe());
    loop {
        let mut connections = JoinSet::new();
        if let Some(listener) = listener.take() {
            loop {
                tokio::select! {
                    Ok((stream, _)) = listener.accept() => { connections.spawn(serve(stream, Arc::clone(&shared))); }
                    _ = up.wait_for(|up| !up) => break,
                }
            }
        }
        connections.shutdown().await;
        shared.listening.send_replace(false);
        if up.wait_for(|up| *up).await.is_err() {
            return;
        }
        listener = Some(TcpListener::bind(address).await.expect("its old port"));
        shared.listening.send_replace(true);
    }
}

/// One connection, kept alive from request to request.
async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let mut bytes = Vec::new();
    while let Some(request) = read(&mut stream, &mut bytes).await {
        let act = {
            let mut script = shared.script.lock().expect("no test panics while it writes the script");
            script.requests.push(request.clone());
            let refused = request.inputs.iter().any(|text| script.refused.iter().any(|mark| text.contains(mark)));
            if refused {
                script.next.insert(0, Act::status(400));
            }
            let next = if script.next.is_empty() { None } else { Some(script.next.remove(0)) };
            next.or_else(|| script.always.clone()).unwrap_or_else(Act::judge)
        };
        shared.received.send_modify(|received| *received += 1);
        let mut held = shared.held.subscribe();
        let free = |held: &Vec<String>| !request.inputs.iter().any(|text| held.iter().any(|mark| text.contains(mark)));
        let wait = async {
            let _ = held.wait_for(free).await;
            tokio::time::sleep(act.delay).await;
            if matches!(act.kind, Kind::Hang) {
                std::future::pending().await
            }
        };
        tokio::select! {
            () = wait => {}
            () = gone(&mut stream, &mut bytes) => {
                shared.abandoned.send_modify(|abandoned| *abandoned += 1);
                return;
            }
        }
        if answer(&mut stream, &act, &request, &shared).await.is_none() {
            return;
        }
    }
}

/// Resolves when the client closes. What it writes meanwhile is kept for the next request.
async fn gone(stream: &mut TcpStream, bytes: &mut Vec<u8>) {
    while stream.read_buf(bytes).await.is_ok_and(|read| read > 0) {}
}

/// Reads one request; `None` at the end of the connection.
async fn read(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<Received> {
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let mut lines = head.lines();
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length =
        headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, value)| value.parse().unwrap());
    while bytes.len() < head_end + length {
        if stream.read_buf(bytes).await.ok()? == 0 {
            return None;
        }
    }
    let body: Value = serde_json::from_slice(&bytes[head_end..head_end + length]).expect("the request is JSON");
    bytes.drain(..head_end + length);
    let inputs = body["input"].as_array().expect("an array of texts").iter();
    let inputs = inputs.map(|text| text.as_str().expect("a text").to_owned()).collect();
    Some(Received { path, headers, model: body["model"].clone(), inputs })
}

/// Answers; `None` ends the connection.
async fn answer(stream: &mut TcpStream, act: &Act, request: &Received, shared: &Shared) -> Option<()> {
    let bearer = format!("Bearer {}", FakeOpenAi::KEY);
    let known = request.headers.iter().any(|(name, value)| name == "authorization" && *value == bearer);
    let (status, body) = match &act.kind {
        _ if !known => {
            (401, br#"{"error":{"message":"no","type":"invalid_request_error","code":"invalid_api_key"}}"#.to_vec())
        }
        Kind::Judge | Kind::Hang | Kind::Cut => (200, shared.judge(&request.inputs)),
        Kind::Results(count) => (200, shared.judge(&vec![String::new(); *count])),
        Kind::Answer(status, body) => (*status, body.clone()),
        Kind::Close => return None,
        Kind::Flood => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.ok()?;
            loop {
                let chunk = format!("1000\r\n{}\r\n", " ".repeat(0x1000));
                stream.write_all(chunk.as_bytes()).await.ok()?;
            }
        }
    };
    let mut head = format!("HTTP/1.1 {status} Status\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in &act.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await.ok()?;
    if matches!(act.kind, Kind::Cut) {
        stream.write_all(&body[..body.len() / 2]).await.ok()?;
        return None;
    }
    stream.write_all(&body).await.ok()
}

impl Shared {
    fn judge(&self, inputs: &[String]) -> Vec<u8> {
        let script = self.script.lock().expect("no test panics while it writes the script");
        let results: Vec<_> = inputs.iter().map(|text| result(text, &script.scores)).collect();
        json!({"id": "modr-fake", "model": "omni-moderation-latest", "results": results}).to_string().into_bytes()
    }
}

/// One result, as the API writes it.
fn result(text: &str, scores: &[(String, String, f64)]) -> Value {
    let mut judged: Map<String, Value> = CATEGORIES.iter().map(|name| ((*name).to_owned(), json!(1e-5))).collect();
    for (_, category, score) in scores.iter().filter(|(mark, ..)| text.contains(mark)) {
        judged.insert(category.clone(), json!(score));
    }
    let flags: Map<String, Value> = judged
        .iter()
        .map(|(name, score)| (name.clone(), json!(score.as_f64().is_some_and(|score| score >= 0.5))))
        .collect();
    let kinds: Map<String, Value> = judged.keys().map(|name| (name.clone(), json!(["text"]))).collect();
    json!({
        "flagged": flags.values().any(|flag| *flag == json!(true)),
        "categories": flags,
        "category_scores": judged,
        "category_applied_input_types": kinds,
    })
}
