//! One Postgres for the whole test binary; one database for each test.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

/// Started at the first use. Its standard input stays open as long as we live, and it ends when that closes.
static SERVER: LazyLock<Server> = LazyLock::new(Server::start);

struct Server {
    /// `postgres://postgres@127.0.0.1:port`, without a database.
    address: String,
    _devstack: Child,
}

impl Server {
    fn start() -> Self {
        let mut devstack = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/devstack"))
            .arg("--postgres-only")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("deploy/devstack runs");
        let mut line = String::new();
        let read = BufReader::new(devstack.stdout.take().expect("piped")).read_line(&mut line);
        read.expect("deploy/devstack says where it listens");
        let said: Value = serde_json::from_str(&line).expect("deploy/devstack prints JSON (see its message above)");
        let url = said["database_url"].as_str().expect("database_url");
        let (address, _) = url.rsplit_once('/').expect("a database in the URL");
        Self { address: address.to_owned(), _devstack: devstack }
    }

    fn sql(&self, statement: &str) {
        let ran = Command::new("psql")
            .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &format!("{}/postgres", self.address), "-c", statement])
            .stdin(Stdio::null())
            .output()
            .expect("psql runs");
        assert!(ran.status.success(), "{statement}: {}", String::from_utf8_lossy(&ran.stderr));
    }
}

/// A database with Django's tables and no rows. Dropped with this value.
pub struct Database {
    name: String,
}

impl Database {
    pub fn create() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        SERVER.sql(&format!("CREATE DATABASE {name} TEMPLATE gateway_template"));
        Self { name }
    }

    pub fn url(&self) -> String {
        format!("{}/{}", SERVER.address, self.name)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        SERVER.sql(&format!("DROP DATABASE {} WITH (FORCE)", self.name));
    }
}
