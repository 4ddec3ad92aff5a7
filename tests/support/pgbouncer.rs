//! A pgbouncer of the test's own, in transaction mode unless told otherwise.

use tempfile::TempDir;
use tokio::sync::Mutex;

use super::GUARD;
use super::process::Process;
use super::redis_server::next_port;

/// One pgbouncer before one database.
pub struct PgBouncer {
    port: u16,
    database: String,
    directory: TempDir,
    process: Mutex<Process>,
}

impl PgBouncer {
    /// Before the database of this URL (`postgres://user@host:port/name`).
    pub async fn start(url: &str) -> Self {
        Self::start_in(url, "transaction").await
    }

    /// The same in another pool mode.
    pub async fn start_in(url: &str, mode: &str) -> Self {
        let (address, database) = url.split_once('@').and_then(|(_, rest)| rest.split_once('/')).expect("a URL");
        let (host, postgres) = address.split_once(':').expect("a port");
        let directory = tempfile::tempdir().expect("a temporary folder");
        for _ in 0..50 {
            let port = next_port();
            let text = format!(
                "[databases]\n{database} = host={host} port={postgres} user=postgres\n[pgbouncer]\n\
                 listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
                 pool_mode = {mode}\ndefault_pool_size = 4\nmax_client_conn = 100\n"
            );
            std::fs::write(directory.path().join("pgbouncer.ini"), text).expect("the configuration is written");
            if let Some(process) = spawn(&directory).await {
                return Self { port, database: database.to_owned(), directory, process: Mutex::new(process) };
            }
        }
        panic!("no port for a pgbouncer could be found");
    }

    /// The URL of the database through it.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{}", self.port, self.database)
    }

    /// Kills it and starts it again on the same port.
    pub async fn restart(&self) {
        let mut process = self.process.lock().await;
        process.signal("KILL");
        process.exit_code().await;
        *process = spawn(&self.directory).await.expect("pgbouncer comes back");
    }
}

/// Starts it; `None` when the port is taken.
async fn spawn(directory: &TempDir) -> Option<Process> {
    use std::os::unix::fs::PermissionsExt;

    // As root it gives its rights away, and must still find its configuration.
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).expect("our own folder");
    let ini = directory.path().join("pgbouncer.ini").to_str().expect("a plain path").to_owned();
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|of| std::os::unix::fs::MetadataExt::uid(&of) == 0);
    let args = if is_root { vec!["-u".to_owned(), "postgres".to_owned(), ini] } else { vec![ini] };
    let process = Process::spawn("pgbouncer", &args, &[]);
    let up = process.output().find(|line| line.contains("process up").then_some(()));
    tokio::time::timeout(GUARD, up).await.expect("pgbouncer says neither yes nor no").map(|()| process)
}
