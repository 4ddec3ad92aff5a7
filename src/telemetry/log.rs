//! The log on standard error: one JSON object a line for machines, or short lines for people.
//!
//! What goes in is decided where it is logged: never tokens, cookies, texts of messages, query strings or addresses of
//! clients. Owns the filter, which can be replaced while the process runs.

use std::fmt;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Registry};

use super::follow;
use crate::config::{Log, LogFormat};
use crate::domain::Micros;

/// Why the log could not be started, or changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter cannot be read.
    #[error("the log's filter cannot be used: {0}")]
    Filter(#[from] ParseError),
    /// The process has a log already.
    #[error("the log could not be started: {0}")]
    Started(#[from] TryInitError),
}

/// The filter in force. The process has one log.
static FILTER: OnceLock<Arc<ArcSwap<EnvFilter>>> = OnceLock::new();

/// Starts the log for the whole process, panics included.
///
/// # Errors
/// When the filter cannot be read, or there is a log already.
pub fn init(log: &Log) -> Result<(), LogError> {
    let filter = Arc::new(ArcSwap::from_pointee(EnvFilter::try_new(&log.filter)?));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match log.format {
        LogFormat::Json => lines.with_timer(Utc).json().flatten_event(true).with_span_list(false).boxed(),
        LogFormat::Text => lines.with_timer(TimeOfDay).compact().boxed(),
    };
    tracing_subscriber::registry().with(lines).with(Filter(Arc::clone(&filter))).try_init()?;
    let _ = FILTER.set(filter);
    // The text of a panic may quote what a user wrote; its place is enough to find it.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, "panic");
    }));
    Ok(())
}

/// Replaces the filter from now on.
///
/// # Errors
/// When it cannot be read; the old one stays.
pub fn set_filter(text: &str) -> Result<(), LogError> {
    let filter = EnvFilter::try_new(text)?;
    if let Some(current) = FILTER.get() {
        current.store(Arc::new(filter));
        tracing::callsite::rebuild_interest_cache();
    }
    Ok(())
}

/// What is logged: what the filter in force wants, and all of those who are followed.
struct Filter(Arc<ArcSwap<EnvFilter>>);

impl<S: Subscriber> Layer<S> for Filter {
    fn register_callsite(&self, line: &'static Metadata<'static>) -> Interest {
        let wanted = Layer::<S>::register_callsite(&**self.0.load(), line);
        if wanted.is_never() && follow::is_any() { Interest::sometimes() } else { wanted }
    }

    fn enabled(&self, line: &Metadata<'_>, context: Context<'_, S>) -> bool {
        follow::wants(line) || self.0.load().enabled(line, context)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Layer::<S>::max_level_hint(&**self.0.load()).map(|level| level.max(follow::most().unwrap_or(LevelFilter::OFF)))
    }
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
