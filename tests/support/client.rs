//! A WebSocket client that says what it expected and what came instead.

use std::net::{IpAddr, SocketAddr};
use std::panic::Location;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::GUARD;
use super::gateway::TestGateway;
use super::http::Reply;
use super::tls::{HOST, Wire};

type Caller = &'static Location<'static>;

/// A connection in the making. Made by [`TestGateway::dial`].
pub struct Dial {
    address: SocketAddr,
    path: String,
    query: Vec<String>,
    headers: Vec<(String, String)>,
    source: Option<IpAddr>,
    receive_buffer: Option<u32>,
    tls: Option<TlsConnector>,
}

impl Dial {
    pub(super) fn new(address: SocketAddr, path: &str) -> Self {
        let (path, query) = (path.to_owned(), Vec::new());
        Self { address, path, query, headers: Vec::new(), source: None, receive_buffer: None, tls: None }
    }

    /// `?connection_token=…`
    pub fn token(self, token: &str) -> Self {
        self.query("connection_token", token)
    }

    /// `?token=…`, the JWT in the query.
    pub fn jwt(self, jwt: &str) -> Self {
        self.query("token", jwt)
    }

    /// A parameter of the query, as it is.
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push(format!("{name}={value}"));
        self
    }

    /// The `Origin` a browser would send. Without it: not a browser.
    pub fn origin(self, origin: &str) -> Self {
        self.header("origin", origin)
    }

    /// A cookie.
    pub fn cookie(self, name: &str, value: &str) -> Self {
        self.header("cookie", &format!("{name}={value}"))
    }

    /// Any header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The address to come from: any of 127.0.0.0/8.
    pub fn source(mut self, source: &str) -> Self {
        self.source = Some(source.parse().expect("an address"));
        self
    }

    /// Where to connect to instead: a proxy before the gateway.
    pub fn via(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// The kernel's receive buffer in bytes, for a client that is slow.
    pub fn receive_buffer(mut self, bytes: u32) -> Self {
        self.receive_buffer = Some(bytes);
        self
    }

    /// Over TLS, as this client.
    pub fn tls(mut self, connector: TlsConnector) -> Self {
        self.tls = Some(connector);
        self
    }

    /// Connects; panics when the upgrade is refused.
    #[track_caller]
    pub fn connect(self) -> impl Future<Output = TestClient> {
        self.connect_from(Location::caller())
    }

    pub(super) async fn connect_from(self, caller: Caller) -> TestClient {
        match self.handshake().await {
            Ok(socket) => TestClient { socket, seen: Vec::new(), session: None },
            Err(error) => panic!("{caller}: the upgrade was refused: {error:?}"),
        }
    }

    /// Expects the upgrade to be refused and returns the HTTP answer.
    #[track_caller]
    pub fn refused(self) -> impl Future<Output = Reply> {
        let caller = Location::caller();
        async move {
            match self.handshake().await {
                Err(tungstenite::Error::Http(answer)) => {
                    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
                    Reply {
                        status: answer.status().as_u16(),
                        headers: answer.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
                        body: String::from_utf8_lossy(answer.body().as_deref().unwrap_or_default()).into_owned(),
                    }
                }
                Err(error) => panic!("{caller}: expected an HTTP answer, got {error:?}"),
                Ok(_) => panic!("{caller}: the upgrade was not refused"),
            }
        }
    }

    async fn handshake(self) -> Result<WebSocketStream<Box<dyn Wire>>, tungstenite::Error> {
        let handshake = async {
            let socket = TcpSocket::new_v4()?;
            if let Some(source) = self.source {
                socket.bind(SocketAddr::new(source, 0))?;
            }
            if let Some(bytes) = self.receive_buffer {
                socket.set_recv_buffer_size(bytes)?;
            }
            let stream = socket.connect(self.address).await?;
            stream.set_nodelay(true)?;
            let wire: Box<dyn Wire> = match &self.tls {
                None => Box::new(stream),
                Some(connector) => Box::new(connector.connect(HOST.try_into().expect("a name"), stream).await?),
            };
            Ok(client_async(self.request(), wire).await?.0)
        };
        tokio::time::timeout(GUARD, handshake).await.expect("the upgrade got no answer")
    }

    fn request(&self) -> Request {
        let mark = if self.query.is_empty() { "" } else { "?" };
        let url = format!("ws://{}{}{mark}{}", self.address, self.path, self.query.join("&"));
        let mut request = url.into_client_request().expect("a URL");
        for (name, value) in &self.headers {
            let name = HeaderName::try_from(name.as_str()).expect("a header's name");
            request.headers_mut().append(name, HeaderValue::try_from(value.as_str()).expect("a header's value"));
        }
        request
    }
}

/// An open connection. Dropping it cuts the TCP connection without a goodbye; see [`TestClient::close`].
pub struct TestClient {
    socket: WebSocketStream<Box<dyn Wire>>,
    seen: Vec<String>,
    session: Option<Value>,
}

impl TestClient {
    /// Connects to a path with a connection token; see [`TestGateway::dial`] for anything else.
    #[track_caller]
    pub fn connect(gateway: &TestGateway, path: &str, token: &str) -> impl Future<Output = Self> {
        gateway.dial(path).token(token).connect_from(Location::caller())
    }

    /// Sends a JSON frame.
    #[track_caller]
    pub fn send(&mut self, frame: Value) -> impl Future<Output = ()> {
        self.send_from(Message::text(frame.to_string()), Location::caller())
    }

    /// Sends a text frame as it is.
    #[track_caller]
    pub fn send_text(&mut self, text: &str) -> impl Future<Output = ()> {
        self.send_from(Message::text(text), Location::caller())
    }

    /// Sends any WebSocket message: binary, ping, close, single frames.
    #[track_caller]
    pub fn send_message(&mut self, message: Message) -> impl Future<Output = ()> {
        self.send_from(message, Location::caller())
    }

    /// Writes bytes into the TCP connection, past the WebSocket layer.
    #[track_caller]
    pub fn send_raw(&mut self, bytes: &[u8]) -> impl Future<Output = ()> {
        let caller = Location::caller();
        async move {
            let written = tokio::time::timeout(GUARD, self.socket.get_mut().write_all(bytes)).await;
            if !matches!(written, Ok(Ok(()))) {
                panic!("{caller}: could not write: {written:?}");
            }
        }
    }

    /// The same, where the gateway may have had enough: `false` when it has.
    pub async fn try_send_raw(&mut self, bytes: &[u8]) -> bool {
        matches!(tokio::time::timeout(GUARD, self.socket.get_mut().write_all(bytes)).await, Ok(Ok(())))
    }

    /// Takes one byte out of the TCP connection, past the WebSocket layer, which can read nothing afterwards. `false`
    /// when the connection has ended.
    pub async fn read_raw_byte(&mut self) -> bool {
        let read = tokio::time::timeout(GUARD, self.socket.get_mut().read_u8()).await;
        read.expect("a byte or the end").is_ok()
    }

    async fn send_from(&mut self, message: Message, caller: Caller) {
        let sent = tokio::time::timeout(GUARD, self.socket.send(message)).await;
        if !matches!(sent, Ok(Ok(()))) {
            panic!("{caller}: could not send: {sent:?}; {}", self.history());
        }
    }

    /// The next event, which must be this one.
    #[track_caller]
    pub fn expect_event(&mut self, name: &str) -> impl Future<Output = Value> {
        self.next_named(name, Location::caller())
    }

    pub(super) async fn next_named(&mut self, name: &str, caller: Caller) -> Value {
        let event = self.next(&format!("the event {name}"), caller).await;
        if event["event"] != name {
            panic!("{caller}: expected the event {name}, got {event}; {}", self.history());
        }
        event
    }

    /// The next event of this name; others that come before it are skipped.
    #[track_caller]
    pub fn wait_for(&mut self, name: &str) -> impl Future<Output = Value> {
        let caller = Location::caller();
        async move { self.until(&format!("the event {name}"), |event| event["event"] == name, caller).await.1 }
    }

    /// The next event for which `wanted` says yes; others that come before it are skipped.
    #[track_caller]
    pub fn wait_until(&mut self, what: &str, wanted: impl FnMut(&Value) -> bool) -> impl Future<Output = Value> {
        let caller = Location::caller();
        async move { self.until(what, wanted, caller).await.1 }
    }

    /// What comes before the next event of this name, and that event as the last: to prove that something was not
    /// sent, with an event that must come later as the marker.
    #[track_caller]
    pub fn events_until(&mut self, name: &str) -> impl Future<Output = Vec<Value>> {
        let caller = Location::caller();
        async move {
            let (mut before, last) = self.until(name, |event| event["event"] == name, caller).await;
            before.push(last);
            before
        }
    }

    /// Proves that nothing is on its way from the gateway: a ping's pong is the very next event.
    #[track_caller]
    pub fn expect_silence(&mut self) -> impl Future<Output = ()> {
        let caller = Location::caller();
        async move {
            self.send_from(Message::text(json!({"type": "ping"}).to_string()), caller).await;
            let (before, _) = self.until("pong", |event| event["event"] == "pong", caller).await;
            if !before.is_empty() {
                panic!("{caller}: expected silence, got {before:?}");
            }
        }
    }

    /// Waits for the close frame and returns its code and reason; events that come before it are skipped. A
    /// connection that breaks without one is 1006, as in a browser.
    #[track_caller]
    pub fn expect_close(&mut self) -> impl Future<Output = (u16, String)> {
        let caller = Location::caller();
        async move {
            loop {
                match self.frame("a close frame", caller).await {
                    Ok(Message::Close(Some(frame))) => {
                        // Answer the goodbye, as a browser does; the peer may be gone already.
                        let _ = tokio::time::timeout(GUARD, self.socket.close(None)).await;
                        return (frame.code.into(), frame.reason.to_string());
                    }
                    Ok(Message::Close(None)) => return (1005, String::new()),
                    Ok(_) => {}
                    Err(error) => return (1006, error.to_string()),
                }
            }
        }
    }

    /// The next WebSocket message of any kind, the server's pings too.
    #[track_caller]
    pub fn next_message(&mut self) -> impl Future<Output = Message> {
        let caller = Location::caller();
        async move {
            match self.frame("a message", caller).await {
                Ok(message) => message,
                Err(error) => panic!("{caller}: the connection ended: {error}; {}", self.history()),
            }
        }
    }

    /// Says goodbye (1000) and waits until the gateway has answered.
    #[track_caller]
    pub fn close(mut self) -> impl Future<Output = ()> {
        let caller = Location::caller();
        async move {
            let closed = tokio::time::timeout(GUARD, async {
                self.socket.close(None).await?;
                while let Some(message) = self.socket.next().await {
                    message?;
                }
                Ok::<(), tungstenite::Error>(())
            });
            let closed = closed.await;
            if !matches!(closed, Ok(Ok(()) | Err(tungstenite::Error::ConnectionClosed))) {
                panic!("{caller}: the goodbye was not answered: {closed:?}");
            }
        }
    }

    /// The newest resume ticket, which every session is given after its first events.
    #[track_caller]
    pub fn ticket(&mut self) -> impl Future<Output = String> {
        let caller = Location::caller();
        async move {
            while self.session.is_none() {
                self.send_from(Message::text(json!({"type": "ping"}).to_string()), caller).await;
                self.until("pong", |event| event["event"] == "pong", caller).await;
            }
            let ticket = self.session.as_ref().and_then(|session| session["resumeToken"].as_str());
            ticket.expect("a ticket").to_owned()
        }
    }

    /// Every event so far, as text: what was skipped too.
    pub fn seen(&self) -> &[String] {
        &self.seen
    }

    async fn until(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(&Value) -> bool,
        caller: Caller,
    ) -> (Vec<Value>, Value) {
        let mut before = Vec::new();
        loop {
            let event = self.next(what, caller).await;
            if wanted(&event) {
                return (before, event);
            }
            before.push(event);
        }
    }

    async fn next(&mut self, what: &str, caller: Caller) -> Value {
        loop {
            match self.frame(what, caller).await {
                Ok(Message::Text(text)) => {
                    let event: Value = serde_json::from_str(&text).expect("an event is JSON");
                    if event["event"] != "session" {
                        return event;
                    }
                    // Comes beside everything else, at any time: kept, and not in the way of what a test expects.
                    self.session = Some(event);
                }
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                other => panic!("{caller}: waited for {what}, got {other:?}; {}", self.history()),
            }
        }
    }

    async fn frame(&mut self, what: &str, caller: Caller) -> Result<Message, tungstenite::Error> {
        match tokio::time::timeout(GUARD, self.socket.next()).await {
            Ok(Some(Ok(message))) => {
                if let Message::Text(text) = &message {
                    self.seen.push(text.to_string());
                }
                Ok(message)
            }
            Ok(Some(Err(error))) => Err(error),
            Ok(None) => Err(tungstenite::Error::ConnectionClosed),
            Err(_) => panic!("{caller}: waited {GUARD:?} for {what}; {}", self.history()),
        }
    }

    fn history(&self) -> String {
        let shown = &self.seen[self.seen.len().saturating_sub(20)..];
        format!("{} events came, the last of them:\n  {}", self.seen.len(), shown.join("\n  "))
    }
}
