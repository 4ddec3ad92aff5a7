//! One run of the binary to its end, with standard output and standard error apart.

use std::process::Stdio;

use tokio::process::Command;

use crate::support::GUARD;

/// The least that makes a configuration; nothing has to listen there.
pub const LEAST: [(&str, &str); 2] =
    [("DATABASE_URL", "postgres://app:hunter2@127.0.0.1:1/app"), ("SECRET_KEY", "hunter2")];

/// What a run left behind.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// Runs the binary with nothing else in its environment.
pub async fn run(args: &[&str], env: &[(&str, &str)]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_community-gateway"));
    command.args(args).env_clear().envs(env.iter().copied()).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(GUARD, command.output()).await.expect("it ends").expect("it starts");
    Ended {
        code: output.status.code().expect("no signal ended it"),
        out: String::from_utf8(output.stdout).expect("text"),
        err: String::from_utf8(output.stderr).expect("text"),
    }
}
