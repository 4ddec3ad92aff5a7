//! A variable's declaration and the reader that turns declarations into values.
//!
//! The reference table and the parser use the same declarations; nothing is listed twice.

use std::path::Path;

use super::problem::{ConfigError, Invalid, Warning};
use super::secret::{Secret, masked_url};
use super::strings::Strings;

/// What holds when a variable is not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unset {
    /// Nothing: it must be set.
    Required,
    /// This text, parsed as if it had been set.
    Text(&'static str),
    /// Something found out when the program starts; described for people.
    Found(&'static str),
}

/// How much of a value may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Show {
    Value,
    MaskedUrl,
    Nothing,
}

/// The declaration of one variable.
#[derive(Clone, Copy, Debug)]
pub(super) struct Variable {
    pub name: &'static str,
    pub default: Unset,
    /// Read when this one is not set.
    pub fallback: Option<&'static str>,
    pub example: &'static str,
    pub meaning: &'static str,
    pub show: Show,
    /// It can be changed while the process runs.
    pub live: bool,
    /// An empty text is a value; otherwise it is the same as not being set.
    pub empty_counts: bool,
}

impl Variable {
    /// A variable with a default, which is its example too.
    pub const fn new(name: &'static str, default: &'static str, meaning: &'static str) -> Self {
        Self {
            name,
            default: Unset::Text(default),
            fallback: None,
            example: default,
            meaning,
            show: Show::Value,
            live: false,
            empty_counts: false,
        }
    }

    /// A variable that must be set.
    pub const fn required(name: &'static str, example: &'static str, meaning: &'static str) -> Self {
        Self { default: Unset::Required, ..Self::new(name, example, meaning) }
    }

    /// A variable whose default is found when the program starts.
    pub const fn found(
        name: &'static str,
        default: &'static str,
        example: &'static str,
        meaning: &'static str,
    ) -> Self {
        Self { default: Unset::Found(default), ..Self::new(name, example, meaning) }
    }

    pub const fn example(self, example: &'static str) -> Self {
        Self { example, ..self }
    }

    pub const fn fallback(self, name: &'static str) -> Self {
        Self { fallback: Some(name), ..self }
    }

    pub const fn url(self) -> Self {
        Self { show: Show::MaskedUrl, ..self }
    }

    pub const fn secret(self) -> Self {
        Self { show: Show::Nothing, ..self }
    }

    pub const fn live(self) -> Self {
        Self { live: true, ..self }
    }

    pub const fn empty_counts(self) -> Self {
        Self { empty_counts: true, ..self }
    }

    fn shown(&self, text: &str) -> String {
        match self.show {
            Show::Nothing if !text.is_empty() => "***".to_owned(),
            Show::MaskedUrl if !text.is_empty() => masked_url(text),
            _ => text.to_owned(),
        }
    }
}

/// A variable in effect, as it may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The variable.
    pub name: &'static str,
    /// Its value; secrets are masked.
    pub value: String,
    /// The variable that set it, or `default`.
    pub origin: String,
    live: bool,
    /// The value itself, to be compared.
    text: Secret,
}

impl Setting {
    fn new(variable: &Variable, text: &str, origin: String) -> Self {
        let (value, text) = (variable.shown(text), Secret::new(text));
        Self { name: variable.name, value, origin, live: variable.live, text }
    }

    /// Whether it can be changed while the process runs.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Whether another reading of the same variable gave another value. What was not set is the same, whatever was found.
    #[must_use]
    pub fn differs_from(&self, other: &Self) -> bool {
        let both_found = [self, other].iter().all(|setting| setting.origin == "default");
        !both_found && self.text != other.text
    }
}

/// Reads variables one after another and collects all that is wrong.
pub(super) struct Reader<'a> {
    strings: &'a dyn Strings,
    pub settings: Vec<Setting>,
    pub problems: Invalid,
}

impl<'a> Reader<'a> {
    pub fn new(strings: &'a dyn Strings) -> Self {
        Self { strings, settings: Vec::new(), problems: Invalid::default() }
    }

    /// Reads a variable that is required or has a default text. `None` when something was wrong and noted.
    pub fn take<T>(&mut self, variable: &Variable, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        match variable.default {
            Unset::Text(default) | Unset::Found(default) => self.take_or(variable, || default.to_owned(), parse),
            Unset::Required => match self.look_up(variable)? {
                Some((origin, text)) => self.parse(variable, origin, &text, parse),
                None => {
                    self.wrong(variable.name, variable, "is required and not set".to_owned());
                    None
                }
            },
        }
    }

    /// Reads a variable whose default is found only now.
    pub fn take_or<T>(
        &mut self,
        variable: &Variable,
        default: impl FnOnce() -> String,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let (origin, text) = self.look_up(variable)?.unwrap_or_else(|| ("default".to_owned(), default()));
        self.parse(variable, origin, &text, parse)
    }

    /// Reads a variable that may stay unset: `Some(None)` when it is.
    pub fn take_optional<T>(
        &mut self,
        variable: &Variable,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Option<T>> {
        match self.look_up(variable)? {
            Some((origin, text)) => self.parse(variable, origin, &text, parse).map(Some),
            None => {
                self.settings.push(Setting::new(variable, "", "default".to_owned()));
                Some(None)
            }
        }
    }

    /// Notes what is wrong with a variable, or between two.
    pub fn wrong(&mut self, origin: &str, variable: &Variable, problem: String) {
        let example = format!("{}={}", variable.name, variable.example);
        self.problems.errors.push(ConfigError { variable: origin.to_owned(), problem, example });
    }

    /// Notes what is odd.
    pub fn odd(&mut self, variable: &str, problem: String) {
        self.problems.warnings.push(Warning { variable: variable.to_owned(), problem });
    }

    /// Says whether a variable is set in any form.
    pub fn is_set(&self, name: &str) -> bool {
        [name.to_owned(), format!("{name}_FILE")]
            .iter()
            .any(|name| self.strings.get(name).is_some_and(|text| !text.is_empty()))
    }

    fn parse<T>(
        &mut self,
        variable: &Variable,
        origin: String,
        text: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match parse(text) {
            Ok(value) => {
                self.settings.push(Setting::new(variable, text, origin));
                Some(value)
            }
            Err(problem) => {
                self.wrong(&origin, variable, problem);
                None
            }
        }
    }

    /// The text of a variable and the name that gave it. Outer `None` when that went wrong and was noted.
    fn look_up(&mut self, variable: &Variable) -> Option<Option<(String, String)>> {
        for name in [Some(variable.name), variable.fallback].into_iter().flatten() {
            let file_name = format!("{name}_FILE");
            let direct = self.strings.get(name).filter(|text| variable.empty_counts || !text.is_empty());
            let path = self.strings.get(&file_name).filter(|path| !path.is_empty());
            match (direct, path) {
                (Some(_), Some(_)) => {
                    self.wrong(name, variable, format!("is set, and {file_name} too: keep one of them"));
                    return None;
                }
                (Some(text), None) => return Some(Some((name.to_owned(), text))),
                (None, Some(path)) => match read_file(Path::new(&path)) {
                    Ok(text) if text.is_empty() && !variable.empty_counts => {
                        self.wrong(&file_name, variable, format!("the file {path} is empty"));
                        return None;
                    }
                    Ok(text) => return Some(Some((file_name, text))),
                    Err(error) => {
                        self.wrong(&file_name, variable, format!("cannot read {path}: {error}"));
                        return None;
                    }
                },
                (None, None) => {}
            }
        }
        Some(None)
    }
}

/// Reads a file's text without its trailing newline.
fn read_file(path: &Path) -> std::io::Result<String> {
    let mut text = std::fs::read_to_string(path)?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}
