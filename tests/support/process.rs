//! A child process that never outlives the test process, and whose output is kept.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use tokio::sync::watch;

use super::GUARD;

/// Runs `"$@"` with its output on stderr, says its pid on stdout, and kills it when our end of stdin closes: by
/// [`Process`] being dropped, or by the death of the test process, however badly it dies.
const KEEPER: &str = r#"
exec 3<&0
setpriv --pdeathsig KILL "$@" </dev/null >&2 3<&- & child=$!
echo "$child"
cat <&3 >/dev/null & caller=$!
wait -n -p ended "$child" "$caller"; code=$?
if [ "$ended" = "$caller" ]; then kill -KILL "$child"; wait "$child"; else kill "$caller"; fi
exit "$code"
"#;

/// A running child. Dropping it kills it.
pub struct Process {
    pid: u32,
    keeper: Option<ChildStdin>,
    exit: watch::Receiver<Option<i32>>,
    waiter: Option<JoinHandle<()>>,
    output: Output,
}

/// The lines a child wrote so far, and a way to wait for more.
#[derive(Clone)]
pub struct Output {
    lines: Arc<Mutex<Vec<String>>>,
    written: watch::Receiver<usize>,
}

impl Output {
    /// Every line so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Waits until `pick` takes a line (those already written are asked first). `None` when the child's output ended
    /// without one.
    pub async fn find<T>(&self, mut pick: impl FnMut(&str) -> Option<T>) -> Option<T> {
        let (mut written, mut asked) = (self.written.clone(), 0);
        loop {
            let lines = self.lines();
            if let Some(found) = lines[asked..].iter().find_map(|line| pick(line)) {
                return Some(found);
            }
            asked = lines.len();
            if written.wait_for(|&count| count > asked).await.is_err() {
                let rest = self.lines();
                return rest[asked..].iter().find_map(|line| pick(line));
            }
        }
    }
}

impl Process {
    /// Starts `program` with these arguments and with nothing in its environment but `env` and a PATH.
    pub fn spawn(program: &str, args: &[String], env: &[(String, String)]) -> Self {
        let mut keeper = Command::new("/bin/bash")
            .args(["-c", KEEPER, "keeper", program])
            .args(args)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .envs(env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0) // Ctrl-C in a terminal is for the tests, which then end their children
            .spawn()
            .expect("bash runs");
        let stdin = keeper.stdin.take().expect("stdin is piped");
        let (stdout, stderr) = (keeper.stdout.take().expect("piped"), keeper.stderr.take().expect("piped"));

        let mut pid = String::new();
        let read = BufReader::new(stdout).read_line(&mut pid);
        read.expect("the keeper says the pid");

        let output = keep_output(stderr);
        let (ended, exit) = watch::channel(None);
        let waiter = thread::spawn(move || {
            let status = keeper.wait().expect("the keeper is our child");
            ended.send_replace(Some(status.code().unwrap_or(-1)));
        });
        Self { pid: pid.trim().parse().expect("a pid"), keeper: Some(stdin), exit, waiter: Some(waiter), output }
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    pub fn output(&self) -> &Output {
        &self.output
    }

    pub fn has_ended(&self) -> bool {
        self.exit.borrow().is_some()
    }

    /// Sends a signal by name (`TERM`, `STOP`, …).
    pub fn signal(&self, name: &str) {
        let script = format!("kill -s {name} {}", self.pid);
        let status = Command::new("/bin/sh").args(["-c", &script]).status().expect("sh runs");
        assert!(status.success(), "could not send SIG{name} to {}", self.pid);
    }

    /// Waits for the end and returns the exit code; 128 and the signal's number if a signal ended it.
    pub async fn exit_code(&mut self) -> i32 {
        let ended = tokio::time::timeout(GUARD * 2, self.exit.wait_for(Option::is_some)).await;
        ended.expect("the process did not end").expect("its waiter lives").expect("a code")
    }

    /// Kills it now and waits until it is gone; for where nothing can be awaited.
    pub fn kill_now(&mut self) {
        self.keeper = None;
        if let Some(waiter) = self.waiter.take() {
            let _ = waiter.join();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill_now();
    }
}

fn keep_output(from: impl Read + Send + 'static) -> Output {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let (count, written) = watch::channel(0);
    let kept = Arc::clone(&lines);
    thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            let mut kept = kept.lock().unwrap();
            kept.push(String::from_utf8_lossy(&line).into_owned());
            count.send_replace(kept.len());
        }
    });
    Output { lines, written }
}
