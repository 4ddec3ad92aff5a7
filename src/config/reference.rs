//! The table of every variable, written from the declarations that parse them.

use std::fmt::Write;

use super::variable::{Unset, Variable};

/// One variable, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The variable.
    pub name: &'static str,
    /// What holds when it is not set.
    pub default: String,
    /// What it does.
    pub meaning: String,
}

impl From<&Variable> for Entry {
    fn from(variable: &Variable) -> Self {
        let default = match variable.default {
            Unset::Required => "required".to_owned(),
            Unset::Found(text) => text.to_owned(),
            Unset::Text("") => "empty".to_owned(),
            Unset::Text(text) => format!("`{text}`"),
        };
        let default = match variable.fallback {
            Some(other) => format!("`{other}`, else {default}"),
            None => default,
        };
        Self { name: variable.name, default, meaning: variable.meaning.to_owned() }
    }
}

/// Every variable, in the order in which they are read.
#[must_use]
pub fn reference() -> Vec<Entry> {
    super::declarations().map(Entry::from).collect()
}

/// The same as a Markdown table.
#[must_use]
pub fn reference_table() -> String {
    let mut table = String::from("| variable | default | meaning |\n|---|---|---|\n");
    for Entry { name, default, meaning } in reference() {
        // Writing to a string cannot fail.
        let _ = writeln!(table, "| `{name}` | {default} | {meaning} |");
    }
    table
}
