//! A Redis server of the test's own, which can be paused, killed and started again on the same port.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use community_gateway::config::Deployment;
use tempfile::TempDir;
use tokio::sync::Mutex;

use super::GUARD;
use super::process::Process;

/// One redis-server on a loopback port, without persistence: a restarted one is empty.
pub struct RedisServer {
    pub port: u16,
    directory: TempDir,
    more: Vec<String>,
    process: Mutex<Process>,
}

impl RedisServer {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts it with more settings: `["--maxmemory", "2mb"]`.
    pub async fn start_with(more: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary folder");
        let more: Vec<String> = more.iter().map(|&text| text.to_owned()).collect();
        for _ in 0..50 {
            let port = next_port();
            let process = spawn(port, &directory, &more);
            if answers(port, &process).await {
                return Self { port, directory, more, process: Mutex::new(process) };
            }
        }
        panic!("no port for a redis-server could be found");
    }

    /// Sends it one command.
    pub async fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut connection = connection(self.port).await.expect("Redis answers");
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut connection).await.unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// The URL of one of its databases.
    pub fn url(&self, database: u8) -> String {
        format!("redis://127.0.0.1:{}/{database}", self.port)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// One of its databases, as the gateway's own parts take it.
    pub fn deployment(&self, database: u8) -> Deployment {
        Deployment::parse(&self.url(database)).expect("a URL")
    }

    /// Stops the process where it stands: connections stay open and nothing answers.
    pub async fn pause(&self) {
        self.process.lock().await.signal("STOP");
    }

    pub async fn resume(&self) {
        self.process.lock().await.signal("CONT");
    }

    /// Kills it: connections break, new ones are refused.
    pub async fn kill(&self) {
        let mut process = self.process.lock().await;
        process.signal("KILL");
        process.exit_code().await;
    }

    /// Starts it again, empty, on the same port, after [`RedisServer::kill`].
    pub async fn restart(&self) {
        let mut process = self.process.lock().await;
        assert!(process.has_ended(), "kill it first");
        *process = spawn(self.port, &self.directory, &self.more);
        let output = process.output().clone();
        assert!(answers(self.port, &process).await, "redis-server did not come back: {:#?}", output.lines());
    }
}

/// Each call gives another port, below those the kernel gives to outgoing connections, so that a port is still free
/// when its server was killed and comes back. Where to begin differs between test processes.
pub fn next_port() -> u16 {
    const FIRST: u16 = 10_240;
    const COUNT: u16 = 22_000;
    static USED: AtomicU16 = AtomicU16::new(0);
    let begin = std::process::id().wrapping_mul(7_919) % u32::from(COUNT);
    let begin = u16::try_from(begin).expect("less than COUNT");
    FIRST + (begin + USED.fetch_add(1, Ordering::Relaxed)) % COUNT
}

fn spawn(port: u16, directory: &TempDir, more: &[String]) -> Process {
    let port = port.to_string();
    let directory = directory.path().to_str().expect("a plain path");
    let args = ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", directory];
    let args: Vec<String> = args.iter().map(|&text| text.to_owned()).chain(more.iter().cloned()).collect();
    Process::spawn("redis-server", &args, &[])
}

/// Whether this very process, not another on that port, answers.
async fn answers(port: u16, process: &Process) -> bool {
    let listening = async {
        let said = process.output().find(|line| line.contains("Ready to accept connections").then_some(())).await;
        said.is_some()
    };
    if !tokio::time::timeout(GUARD, listening).await.expect("redis-server says neither yes nor no") {
        return false;
    }
    connection(port).await.is_ok()
}

/// Connects to whatever speaks Redis on a port, with more patience than the client has by itself.
pub async fn connection(port: u16) -> redis::RedisResult<redis::aio::MultiplexedConnection> {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}/")).expect("a URL");
    let patience = Some(Duration::from_secs(10));
    let config = redis::AsyncConnectionConfig::new().set_connection_timeout(patience).set_response_timeout(patience);
    client.get_multiplexed_async_connection_with_config(&config).await
}
