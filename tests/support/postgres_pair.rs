//! Postgres servers of the test's own: one to be killed and started again on its data, or a primary, and a standby that
//! has every commit before it is acknowledged.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;
use tokio::sync::Mutex;

use super::process::Process;
use super::redis_server::next_port;
use super::{GUARD, eventually};

/// The database with Django's tables, of the user `postgres`.
const DATABASE: &str = "chat";

/// The primary and its standby.
pub struct PostgresPair {
    pub primary: PostgresServer,
    pub standby: PostgresServer,
}

/// One server on a loopback port.
pub struct PostgresServer {
    pub address: SocketAddr,
    process: Mutex<Process>,
    directory: TempDir,
}

impl PostgresPair {
    pub async fn start() -> Self {
        let primary = PostgresServer::alone().await;
        let directory = folder();
        let (data, from) = (directory.path().join("data"), format!("postgres://postgres@{}/", primary.address));
        run("pg_basebackup", &["-D", text(&data), "-d", &from, "-R", "-X", "stream", "-c", "fast", "--no-sync"]);
        let standby = PostgresServer::on(directory).await;
        primary.sql("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'");
        primary.sql("postgres", "SELECT pg_reload_conf()");
        eventually("the standby follows synchronously", || async {
            primary.sql("postgres", "SELECT sync_state FROM pg_stat_replication") == "sync"
        })
        .await;
        Self { primary, standby }
    }

    /// Makes the standby the primary.
    pub fn promote(&self) {
        assert_eq!(self.standby.sql("postgres", "SELECT pg_promote()"), "t");
    }
}

impl PostgresServer {
    /// A server with an empty database of Django's tables.
    pub async fn alone() -> Self {
        let directory = folder();
        let data = directory.path().join("data");
        run("initdb", &["--pgdata", text(&data), "-U", "postgres", "--auth=trust", "--locale=C.UTF-8", "--no-sync"]);
        let server = Self::on(directory).await;
        server.sql("postgres", &format!("CREATE DATABASE {DATABASE}"));
        server.psql(DATABASE, &["-f", concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/schema.sql")]);
        server
    }

    /// Starts it on the data that is there.
    async fn on(directory: TempDir) -> Self {
        for _ in 0..50 {
            let port = next_port();
            match spawn(&directory, port).await {
                Ok(process) => {
                    let address = SocketAddr::from(([127, 0, 0, 1], port));
                    return Self { address, process: Mutex::new(process), directory };
                }
                Err(said) => assert!(said.contains("Address already in use"), "Postgres did not start: {said}"),
            }
        }
        panic!("no port for a Postgres could be found");
    }

    /// The URL of its database, for whoever reaches it at this address.
    pub fn url(address: SocketAddr) -> String {
        format!("postgres://postgres@{address}/{DATABASE}")
    }

    /// Starts it again on its data and its port, after [`PostgresServer::kill`].
    pub async fn restart(&self) {
        let mut process = self.process.lock().await;
        assert!(process.has_ended(), "kill it first");
        // What the killed one left behind ends by itself; till then it does not start.
        for _ in 0..50 {
            match spawn(&self.directory, self.address.port()).await {
                Ok(started) => return *process = started,
                Err(said) => assert!(said.contains("shared memory block"), "Postgres did not come back: {said}"),
            }
        }
        panic!("what is left of the killed Postgres does not end");
    }

    /// Kills it: connections break, new ones are refused.
    pub async fn kill(&self) {
        let mut process = self.process.lock().await;
        process.signal("KILL");
        process.exit_code().await;
    }

    /// Runs a statement; the answer without its frame.
    fn sql(&self, database: &str, statement: &str) -> String {
        self.psql(database, &["-c", statement])
    }

    fn psql(&self, database: &str, what: &[&str]) -> String {
        let url = format!("postgres://postgres@{}/{database}", self.address);
        let mut psql = Command::new("psql");
        psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-d", &url]).args(what);
        output(psql)
    }
}

/// Starts a server on a folder's data and waits until it takes connections; what it said when it ended before that.
async fn spawn(directory: &TempDir, port: u16) -> Result<Process, String> {
    let settings = [
        ("listen_addresses", "127.0.0.1"),
        ("unix_socket_directories", ""),
        ("fsync", "off"),
        ("shared_buffers", "32MB"),
        ("dynamic_shared_memory_type", "mmap"),
        ("timezone", "UTC"),
    ];
    let mut words = as_postgres();
    words.push(text(&bin().join("postgres")).to_owned());
    words.extend(["-D".to_owned(), text(&directory.path().join("data")).to_owned(), format!("-p{port}")]);
    words.extend(settings.iter().flat_map(|(name, value)| ["-c".to_owned(), format!("{name}={value}")]));
    let process = Process::spawn(&words[0], &words[1..], &[]);
    let up = process.output().find(|line| line.contains("ready to accept").then_some(()));
    match tokio::time::timeout(GUARD, up).await.expect("Postgres says neither yes nor no") {
        Some(()) => Ok(process),
        None => Err(process.output().lines().join("\n")),
    }
}

/// A folder that the user who runs Postgres owns.
fn folder() -> TempDir {
    let directory = tempfile::tempdir().expect("a temporary folder");
    if !as_postgres().is_empty() {
        let mut chown = Command::new("chown");
        chown.arg("postgres").arg(directory.path());
        output(chown);
    }
    directory
}

/// Postgres does not run as root.
fn as_postgres() -> Vec<String> {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|of| std::os::unix::fs::MetadataExt::uid(&of) == 0);
    let words = "setpriv --reuid postgres --regid postgres --init-groups";
    if is_root { words.split(' ').map(str::to_owned).collect() } else { Vec::new() }
}

/// Where Debian keeps the programs of the newest Postgres.
fn bin() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("Postgres is installed");
    let bins = versions.filter_map(|version| Some(version.ok()?.path().join("bin")));
    bins.filter(|bin| bin.join("initdb").exists()).max().expect("Postgres is installed")
}

fn run(program: &str, args: &[&str]) {
    let mut words = as_postgres();
    words.push(text(&bin().join(program)).to_owned());
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).args(args).current_dir("/");
    output(command);
}

fn output(mut command: Command) -> String {
    let ran = command.stdin(Stdio::null()).output().expect("the program runs");
    assert!(ran.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8_lossy(&ran.stdout).trim().to_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}
