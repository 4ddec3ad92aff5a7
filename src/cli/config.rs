//! `config`: what is in effect, and what there is.

use super::{Exit, configuration, out, printed};
use crate::config::reference_table;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Print every variable, its default and its meaning, as a Markdown table
    #[arg(long)]
    reference: bool,
}

pub(super) fn run(arguments: &Arguments) -> Exit {
    if arguments.reference {
        return printed(out::lines([reference_table().trim_end()]));
    }
    match configuration() {
        Ok((config, warnings)) => {
            for warning in warnings {
                out::say(format_args!("warning: {warning}"));
            }
            printed(out::lines(config.settings().iter().map(|setting| format!("{}={}", setting.name, setting.value))))
        }
        Err(exit) => exit,
    }
}
