//! What is logged, and how.

use super::variable::{Reader, Variable};

const FILTER: Variable =
    Variable::new("GATEWAY_LOG", "info", "level filter: `error`, `warn`, `info`, `debug`, `trace`, also by module")
        .example("info,community_gateway::bus=debug")
        .live();
const FORMAT: Variable = Variable::new("GATEWAY_LOG_FORMAT", "json", "`json` for machines or `text` for people");

pub(super) const VARIABLES: &[Variable] = &[FILTER, FORMAT];

/// The log on standard error.
#[derive(Clone, Debug)]
pub struct Log {
    /// A level, or levels by module.
    pub filter: String,
    /// How a line looks.
    pub format: LogFormat,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

impl Log {
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let filter = reader.take(&FILTER, filter);
        let format = reader.take(&FORMAT, |text| match text.trim() {
            "json" => Ok(LogFormat::Json),
            "text" => Ok(LogFormat::Text),
            _ => Err(format!("\"{text}\" is neither json nor text")),
        });
        Some(Self { filter: filter?, format: format? })
    }
}

/// A bare word in a filter would be taken as a module's name, so that a misspelt level silenced everything else.
fn filter(text: &str) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let bare = text.split(',').map(str::trim).filter(|part| !part.is_empty() && !part.contains(['=', ':', '[']));
    for word in bare {
        if !LEVELS.contains(&word.to_ascii_lowercase().as_str()) {
            return Err(format!("\"{word}\" is not a level ({})", LEVELS.join(", ")));
        }
    }
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("\"{text}\" is not a filter: {error}")),
    }
}
