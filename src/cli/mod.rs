//! The command line: `serve`, `check`, `probe`, `token`, `config`.
//!
//! Owns what the program prints and its exit codes. Holds no logic that the gateway needs while it serves.

mod check;
mod check_django;
mod check_finding;
mod config;
pub mod out;
mod probe;
mod serve;
mod token;

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{Parser, Subcommand};

use crate::config::{Config, Invalid, Warning, sources};

const ABOUT: &str = "Realtime chat gateway beside a Django application";

const LONG_ABOUT: &str = "\
Realtime chat gateway beside a Django application: rooms, direct messages and presence over WebSockets.

It is configured by environment variables. Two must be set: DATABASE_URL (Django's Postgres) and SECRET_KEY
(Django's). `config --reference` lists all of them, with defaults and meanings. Each may also be given as
NAME_FILE=/path, a file that holds the value; GATEWAY_CONFIG_FILE names a file that holds many.";

const AFTER_HELP: &str = "\
Exit codes:
  0   ended as asked; `check`: it could serve
  1   `check`: it could not serve; each line says what to do; `probe`: it is not alive, or not ready
  64  the configuration or the command line is wrong; every error is reported at once, nothing was started
  69  a dependency (Postgres, Redis) could not be reached at start
  70  internal fault

Examples:
  community-gateway config --reference          every variable
  community-gateway check                       is everything there that serving needs?
  community-gateway                             serve
  community-gateway token --user 42             a connection token for user 42
  community-gateway token --users 1-1000        one each, for a load test";

/// The version, and the commit it was built from where the build was told (`COMMUNITY_GATEWAY_COMMIT`).
pub static VERSION: LazyLock<String> = LazyLock::new(|| match option_env!("COMMUNITY_GATEWAY_COMMIT") {
    Some(commit) if !commit.is_empty() => format!("{} ({commit})", env!("CARGO_PKG_VERSION")),
    _ => env!("CARGO_PKG_VERSION").to_owned(),
});

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "community-gateway", version = VERSION.as_str(), about = ABOUT, long_about = LONG_ABOUT, after_long_help = AFTER_HELP)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway until SIGTERM (the default)
    Serve,
    /// Connect to everything the configuration names; say what is wrong and what to do about it
    Check(check::Arguments),
    /// Ask the gateway that runs here whether it is alive, or ready; for health checks
    Probe(probe::Arguments),
    /// Mint connection tokens into Django's cache, for tests and load tests
    Token(token::Arguments),
    /// Print the effective configuration with secrets masked
    Config(config::Arguments),
}

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Ended as asked.
    Done,
    /// `check` found something that stands in the way of serving, or `probe` a gateway that is not well.
    NotFit,
    /// The configuration or the command line is wrong.
    Configuration,
    /// A dependency could not be reached at start.
    Unavailable,
    /// Internal fault.
    Fault,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::NotFit => 1,
            Exit::Configuration => 64,
            Exit::Unavailable => 69,
            Exit::Fault => 70,
        })
    }
}

/// Reads the command line.
///
/// # Errors
/// When there is nothing to run: help and version were printed, or the command line is wrong, which was said.
pub fn parse(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Cli, Exit> {
    Cli::try_parse_from(arguments).map_err(|error| {
        // As for all output: when it cannot be written, nobody is left to tell.
        let _ = error.print();
        if error.use_stderr() { Exit::Configuration } else { Exit::Done }
    })
}

/// Runs the command to its end.
#[must_use]
pub fn run(cli: Cli) -> Exit {
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => serve::run(),
        Command::Check(arguments) => on_threads(None, check::run(&arguments)),
        Command::Probe(arguments) => on_threads(None, probe::run(&arguments)),
        Command::Token(arguments) => on_threads(None, token::run(arguments)),
        Command::Config(arguments) => config::run(&arguments),
    }
}

/// Runs work on a runtime of so many threads, or one for each core.
fn on_threads(threads: Option<NonZeroUsize>, work: impl Future<Output = Exit>) -> Exit {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = threads {
        builder.worker_threads(threads.get());
    }
    match builder.enable_all().build() {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => {
            out::say(format_args!("error: the runtime could not be started: {error}"));
            Exit::Fault
        }
    }
}

/// Reads the configuration from the environment. What is wrong with it is said on standard error.
fn configuration() -> Result<(Config, Vec<Warning>), Exit> {
    sources().and_then(|strings| Config::from(&strings)).map_err(|wrong| said(&wrong))
}

/// Says what is wrong with a configuration.
fn said(wrong: &Invalid) -> Exit {
    for error in &wrong.errors {
        out::say(format_args!("error: {error}"));
    }
    for warning in &wrong.warnings {
        out::say(format_args!("warning: {warning}"));
    }
    out::say("`community-gateway config --reference` lists every variable");
    Exit::Configuration
}

/// Ends a command whose output is its purpose.
fn printed(written: std::io::Result<()>) -> Exit {
    match written {
        Ok(()) => Exit::Done,
        Err(error) => {
            out::say(format_args!("error: standard output cannot be written: {error}"));
            Exit::Fault
        }
    }
}
