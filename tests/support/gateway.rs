//! One running `community-gateway`, or one run of another of its subcommands.

use std::net::SocketAddr;
use std::panic::Location;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use super::client::{Dial, TestClient};
use super::http::{self, Reply};
use super::process::Process;
use super::stack::{SECRET_KEY, Stack, TestRoom, TestUser};
use super::{GUARD, eventually};

const BINARY: &str = env!("CARGO_BIN_EXE_community-gateway");

/// The origin that browsers may come from, unless a test sets `CORS_ALLOWED_ORIGINS` itself.
pub const ORIGIN: &str = "http://chat.test";

/// A token of the operations API, for `GATEWAY_ADMIN_TOKEN`.
pub const ADMIN_TOKEN: &str = "a-token-of-the-tests-that-is-long-enough";

/// The environment of a gateway to be started. Made by [`Stack::gateway`].
pub struct GatewayBuilder {
    stack: Stack,
    env: Vec<(String, String)>,
}

impl GatewayBuilder {
    pub(super) fn new(stack: &Stack) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let env = [
            ("DATABASE_URL", stack.database_url()),
            ("GATEWAY_REDIS_URL", stack.redis_server().url(3)),
            ("GATEWAY_CACHE_URL", stack.redis_server().url(2)),
            ("GATEWAY_BROKER_URL", stack.redis_server().url(0)),
            ("SECRET_KEY", SECRET_KEY.to_owned()),
            ("CORS_ALLOWED_ORIGINS", ORIGIN.to_owned()),
            ("GATEWAY_LISTEN", "127.0.0.1:0".to_owned()),
            ("GATEWAY_OPS_LISTEN", "127.0.0.1:0".to_owned()),
            ("GATEWAY_INSTANCE", format!("test-{}", COUNT.fetch_add(1, Ordering::Relaxed))),
            ("GATEWAY_LOG_FORMAT", "json".to_owned()),
            // Tests say when files are read again.
            ("GATEWAY_WATCH_SECONDS", "0".to_owned()),
        ];
        Self { stack: stack.clone(), env: env.map(|(name, value)| (name.to_owned(), value)).into() }
    }

    /// Sets a variable, in place of the one that is set.
    pub fn env(mut self, name: &str, value: impl ToString) -> Self {
        self = self.without(name);
        self.env.push((name.to_owned(), value.to_string()));
        self
    }

    /// Leaves a variable out.
    pub fn without(mut self, name: &str) -> Self {
        self.env.retain(|(known, _)| known != name);
        self
    }

    /// Starts it and waits until `/readyz` says 200.
    #[track_caller]
    pub fn start(self) -> impl Future<Output = TestGateway> {
        let caller = Location::caller();
        async move {
            let gateway = TestGateway::start(self, caller).await;
            gateway.ready().await;
            gateway
        }
    }

    /// Starts it and waits only until both listeners listen.
    #[track_caller]
    pub fn start_unready(self) -> impl Future<Output = TestGateway> {
        TestGateway::start(self, Location::caller())
    }

    /// Runs a subcommand (`check`, `token …`, `config`, or a `serve` that is to fail) to its end: the exit code and
    /// all it wrote, in lines.
    pub async fn run(self, args: &[&str]) -> (i32, Vec<String>) {
        let args: Vec<_> = args.iter().map(|&arg| arg.to_owned()).collect();
        let mut process = Process::spawn(BINARY, &args, &self.env);
        let code = process.exit_code().await;
        process.output().find(|_| None::<()>).await; // to the end of its output
        (code, process.output().lines())
    }
}

/// A gateway that runs, on ports of its own. Dropping it kills it; in a failing test its log is printed then.
pub struct TestGateway {
    process: Process,
    stack: Stack,
    /// The listener for `/ws/community/…`.
    pub public: SocketAddr,
    /// The listener for `/livez`, `/readyz`, `/metrics`.
    pub operations: SocketAddr,
}

impl TestGateway {
    async fn start(builder: GatewayBuilder, caller: &'static Location<'static>) -> Self {
        let process = Process::spawn(BINARY, &["serve".to_owned()], &builder.env);
        let output = process.output().clone();
        let listening = async {
            let (mut public, mut operations) = (None, None);
            output
                .find(|line| {
                    match address(line) {
                        Some((listener, address)) if listener == "public" => public = Some(address),
                        Some((_, address)) => operations = Some(address),
                        None => {}
                    }
                    public.zip(operations)
                })
                .await
        };
        let Ok(Some((public, operations))) = tokio::time::timeout(GUARD, listening).await else {
            panic!("{caller}: the gateway did not listen; its log:\n{}", output.lines().join("\n"));
        };
        Self { process, stack: builder.stack, public, operations }
    }

    /// A connection in the making, to this path of the public listener.
    pub fn dial(&self, path: &str) -> Dial {
        Dial::new(self.public, path)
    }

    /// Connects a user to a room with a fresh token, and waits for `room_state`.
    #[track_caller]
    pub fn enter(&self, room: &TestRoom, user: &TestUser) -> impl Future<Output = TestClient> {
        let caller = Location::caller();
        async move {
            let token = self.stack.token(user).await;
            let mut client = self.dial(&room.path()).token(&token).connect_from(caller).await;
            client.next_named("room_state", caller).await;
            client
        }
    }

    /// The same with a JWT, which costs Redis nothing: for crowds.
    #[track_caller]
    pub fn enter_by_jwt(&self, room: &TestRoom, user: &TestUser) -> impl Future<Output = TestClient> {
        let caller = Location::caller();
        let dial = self.dial(&room.path()).jwt(&self.stack.jwt(user));
        async move {
            let mut client = dial.connect_from(caller).await;
            client.next_named("room_state", caller).await;
            client
        }
    }

    /// `GET` on the public listener.
    pub async fn get(&self, path: &str) -> Reply {
        http::get(self.public, path).await.expect("the public listener answers")
    }

    /// `GET` on the ops listener.
    pub async fn ops(&self, path: &str) -> Reply {
        http::get(self.operations, path).await.expect("the ops listener answers")
    }

    /// Asks the operations API, with the token that [`ADMIN_TOKEN`] is: the status, and the answer.
    pub async fn admin(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let bearer = format!("Bearer {ADMIN_TOKEN}");
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        let reply = http::ask(self.operations, method, &format!("/admin/{path}"), &headers, &body).await;
        let reply = reply.expect("the ops listener answers");
        (reply.status, serde_json::from_str(&reply.body).unwrap_or(Value::Null))
    }

    /// Waits until `/readyz` says 200.
    #[track_caller]
    pub fn ready(&self) -> impl Future<Output = ()> {
        eventually("the gateway is ready", || async {
            http::get(self.operations, "/readyz").await.is_ok_and(|reply| reply.status == 200)
        })
    }

    /// A metric's value now: the sum of its series that have all these labels; 0 when there is none yet.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let metrics = self.ops("/metrics").await;
        assert_eq!(metrics.status, 200);
        sum(&metrics.body, name, labels)
    }

    /// Every line of the log so far.
    pub fn log_lines(&self) -> Vec<String> {
        self.process.output().lines()
    }

    /// Waits for a line of the log whose `message` is this, and returns the line parsed.
    #[track_caller]
    pub fn wait_for_log(&self, message: &str) -> impl Future<Output = Value> {
        let (caller, output) = (Location::caller(), self.process.output().clone());
        async move {
            let found = output.find(|line| {
                let line: Value = serde_json::from_str(line).ok()?;
                (field(&line, "message")? == message).then_some(line)
            });
            match tokio::time::timeout(GUARD, found).await {
                Ok(Some(line)) => line,
                _ => panic!("{caller}: the log never said {message:?}"),
            }
        }
    }

    /// The process, for looking at it under /proc.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Sends a signal by name (`STOP`, `CONT`, …).
    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Sends SIGTERM and returns at once: to watch a drain.
    pub fn begin_termination(&self) {
        self.process.signal("TERM");
    }

    /// Waits for the end and returns the exit code.
    pub async fn exit_code(&mut self) -> i32 {
        self.process.exit_code().await
    }

    /// Sends SIGTERM, waits for the end and returns the exit code.
    pub async fn terminate(&mut self) -> i32 {
        self.begin_termination();
        self.exit_code().await
    }

    /// Kills it without warning and waits until it is gone.
    pub async fn kill9(&mut self) {
        self.process.signal("KILL");
        self.exit_code().await;
    }
}

impl Drop for TestGateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let lines = self.log_lines();
            let shown = &lines[lines.len().saturating_sub(100)..];
            eprintln!("--- log of gateway {} ({} lines, the last 100)\n{}", self.public, lines.len(), shown.join("\n"));
        }
    }
}

/// What the line `{"message": "listening", "listener": …, "address": …}` of the log says.
fn address(line: &str) -> Option<(String, SocketAddr)> {
    let line: Value = serde_json::from_str(line).ok()?;
    if field(&line, "message")? != "listening" {
        return None;
    }
    Some((field(&line, "listener")?.to_owned(), field(&line, "address")?.parse().ok()?))
}

/// A text field of a log line, which stands under `fields` or at the top.
fn field<'a>(line: &'a Value, name: &str) -> Option<&'a str> {
    line.get("fields").and_then(|fields| fields.get(name)).or_else(|| line.get(name))?.as_str()
}

/// Adds up the samples of one metric in Prometheus's text format.
fn sum(text: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let wanted: Vec<_> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
    let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let (metric, has) = series.split_once('{').unwrap_or((series, ""));
        let matches = metric == name && wanted.iter().all(|label| has.contains(label.as_str()));
        matches.then(|| value.parse::<f64>().expect("a sample is a number"))
    });
    samples.sum()
}
