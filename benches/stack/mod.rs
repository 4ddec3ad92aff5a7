//! A private Postgres and Redis for a benchmark, and the processor time of one thread.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

pub type Error = Box<dyn std::error::Error>;

/// `deploy/devstack`, with Django's tables. Ends with this process: its standard input closes.
pub struct Stack {
    said: Value,
    _devstack: Child,
}

impl Stack {
    pub fn start() -> Result<Self, Error> {
        let mut devstack = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/devstack"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let mut line = String::new();
        BufReader::new(devstack.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        Ok(Self { said: serde_json::from_str(&line)?, _devstack: devstack })
    }

    /// `database_url` or `redis_url`.
    pub fn url(&self, name: &str) -> Result<&str, Error> {
        Ok(self.said[name].as_str().ok_or("devstack did not say where it listens")?)
    }
}

/// Processor time of all threads of this process with a name, the kernel's share included.
pub fn thread_time(name: &str) -> Result<Duration, Error> {
    let mut total = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let task = task?.path();
        let is_named = std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name);
        if let (true, Ok(times)) = (is_named, std::fs::read_to_string(task.join("schedstat"))) {
            total += times.split(' ').next().ok_or("no time")?.parse::<u64>()?;
        }
    }
    Ok(Duration::from_nanos(total))
}

/// `cargo bench` says so; `cargo test --all-targets` only wants to know that it runs.
pub fn is_measured() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}
