//! `serve`: the gateway itself.

use super::{Exit, configuration, on_threads, out};
use crate::config::{Config, Warning};
use crate::gateway::{BuildError, Gateway};
use crate::telemetry;

pub(super) fn run() -> Exit {
    match configuration() {
        Ok((config, warnings)) => on_threads(config.threads, serve(config, warnings)),
        Err(exit) => exit,
    }
}

async fn serve(config: Config, warnings: Vec<Warning>) -> Exit {
    if let Err(error) = telemetry::log::init(&config.log) {
        out::say(format_args!("error: {error}"));
        return Exit::Fault;
    }
    for warning in warnings {
        tracing::warn!(variable = warning.variable, "configuration: {}", warning.problem);
    }
    match Gateway::build(config).await {
        Ok(gateway) => match gateway.run().await {
            crate::gateway::Exit::Asked => Exit::Done,
            crate::gateway::Exit::Fault => Exit::Fault,
        },
        Err(BuildError::Unreachable { dependency, why }) => {
            tracing::error!(dependency, why, "cannot start: a dependency could not be reached");
            Exit::Unavailable
        }
        Err(BuildError::Configuration(why)) => {
            tracing::error!(why, "cannot start: the configuration cannot be used");
            Exit::Configuration
        }
        Err(BuildError::Internal(why)) => {
            tracing::error!(why, "cannot start");
            Exit::Fault
        }
    }
}
