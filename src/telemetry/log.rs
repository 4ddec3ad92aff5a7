//! The log on standard error: one JSON object a line for machines, or short lines for people.
//!
//! What goes in is decided where it is logged: never tokens, cookies, texts of messages, query strings or addresses of
//! clients.

use std::fmt;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::util::TryInitError;

use crate::config::{Log, LogFormat};
use crate::domain::Micros;

/// Why the log could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter cannot be read.
    #[error("the log's filter cannot be used: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// The process has a log already.
    #[error("the log could not be started: {0}")]
    Started(#[from] TryInitError),
}

/// Starts the log for the whole process, panics included.
///
/// # Errors
/// When the filter cannot be read, or there is a log already.
pub fn init(log: &Log) -> Result<(), LogError> {
    use tracing_subscriber::util::SubscriberInitExt;

    let filter = EnvFilter::try_new(&log.filter)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match log.format {
        LogFormat::Json => {
            lines.with_timer(Utc).json().flatten_event(true).with_span_list(false).finish().try_init()?
        }
        LogFormat::Text => lines.with_timer(TimeOfDay).compact().finish().try_init()?,
    }
    // The text of a panic may quote what a user wrote; its place is enough to find it.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, "panic");
    }));
    Ok(())
}

/// `2026-11-22T13:37:40.475420+00:00`.
struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{}", Micros::now())
    }
}

/// `13:37:40.475`, UTC.
struct TimeOfDay;

impl FormatTime for TimeOfDay {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let now = Micros::now().naive().to_string();
        writer.write_str(now.get(11..23).unwrap_or(&now))
    }
}
