//! The `community-gateway` program.

use std::process::ExitCode;

use community_gateway::cli::{self, Exit, out};

/// Gives pages back within ten seconds after many sockets closed, where the system's allocator keeps nearly all, and takes
/// less memory for those that are open (ARCHITECTURE.md, "jemalloc").
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(exit) => return exit.into(),
    };
    // The one TLS implementation of the process: Postgres and Redis clients take it from here.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        out::say("error: another TLS provider is installed");
        return Exit::Fault.into();
    }
    cli::run(command).into()
}
