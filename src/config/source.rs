//! A file of variables beside the environment. The environment of a process cannot change while it runs; a file can.

use std::collections::BTreeMap;
use std::time::Duration;

use super::parse::seconds;
use super::problem::{ConfigError, Invalid};
use super::strings::environment;
use super::variable::{Reader, Variable};

pub(super) const FILE: Variable = Variable::new(
    "GATEWAY_CONFIG_FILE",
    "",
    "a file of `NAME=value` lines for everything else here; what the environment sets too goes before it. It is read again when it \
     has changed",
)
.example("/etc/community-gateway/settings");

const WATCH: Variable = Variable::new(
    "GATEWAY_WATCH_SECONDS",
    "3",
    "time between two looks at the files of the configuration, which are read again when they have changed; 0 leaves that to \
     `SIGHUP` and `/admin/reload`",
);

pub(super) const VARIABLES: &[Variable] = &[FILE, WATCH];

/// Notes which file there is (that it can be read was seen before), and how often to look at it.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<Duration> {
    let file = reader.take(&FILE, |_| Ok(()));
    let watch = reader.take(&WATCH, seconds(0.0..=3_600.0));
    file.and(watch)
}

/// All that is set: in the environment, and in the file that it names.
///
/// # Errors
/// When the file cannot be read, or a line of it is no setting.
pub fn sources() -> Result<BTreeMap<String, String>, Invalid> {
    with_file(environment())
}

fn with_file(mut environment: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Invalid> {
    let Some(path) = environment.get(FILE.name).filter(|path| !path.is_empty()).cloned() else {
        return Ok(environment);
    };
    let wrong = |problem: String| ConfigError { variable: FILE.name.to_owned(), problem, example: String::new() };
    let text = std::fs::read_to_string(&path).map_err(|error| Invalid {
        errors: vec![wrong(format!("cannot read {path}: {error}"))],
        ..Invalid::default()
    })?;
    let mut invalid = Invalid::default();
    let mut set = BTreeMap::new();
    for (at, line) in text.lines().enumerate() {
        match setting(line) {
            Ok(Some((name, value))) => {
                if set.insert(name.to_owned(), value.to_owned()).is_some() {
                    invalid.errors.push(wrong(format!("{path}:{}: {name} is set a second time", at + 1)));
                }
            }
            Ok(None) => {}
            Err(why) => invalid.errors.push(wrong(format!("{path}:{}: {why}", at + 1))),
        }
    }
    if !invalid.errors.is_empty() {
        return Err(invalid);
    }
    for (name, value) in set {
        // `NAME` in the environment goes before `NAME_FILE` in the file, too.
        let twin = name.strip_suffix("_FILE").map_or_else(|| format!("{name}_FILE"), str::to_owned);
        if !environment.contains_key(&twin) {
            environment.entry(name).or_insert(value);
        }
    }
    Ok(environment)
}

/// One line: a setting, or nothing. What is wrong is told without repeating the line, which may hold a secret.
fn setting(line: &str) -> Result<Option<(&str, &str)>, &'static str> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (name, value) = line.split_once('=').ok_or("is not NAME=value")?;
    let name = name.trim();
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Err("is not NAME=value");
    }
    if name == FILE.name {
        return Err("a file cannot name another");
    }
    let value = value.trim();
    let unquoted = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
    Ok(Some((name, unquoted.unwrap_or(value))))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(text: &str, environment: &[(&str, &str)]) -> Result<BTreeMap<String, String>, Invalid> {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(text.as_bytes()).expect("written");
        let named = [(FILE.name, file.path().to_str().expect("a path"))];
        let all = environment.iter().chain(&named);
        with_file(all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn the_environment_goes_before_the_file() {
        let text = "# limits\nGATEWAY_LOG = \"debug\"\n\nGATEWAY_DB_POOL=20\nSECRET_KEY_FILE=/run/key\n";
        let all = read(text, &[("GATEWAY_DB_POOL", "5"), ("SECRET_KEY", "x")]).expect("is read");
        assert_eq!(all.get("GATEWAY_LOG").map(String::as_str), Some("debug"));
        assert_eq!(all.get("GATEWAY_DB_POOL").map(String::as_str), Some("5"));
        assert_eq!(all.get("SECRET_KEY_FILE"), None, "the key itself is in the environment");
    }

    #[test]
    fn every_wrong_line_is_named_and_none_repeated() {
        let wrong = read("hunter2\nA=1\nA=2\nGATEWAY_CONFIG_FILE=/x\n", &[]).expect_err("is wrong").to_string();
        assert_eq!(wrong.lines().count(), 4, "{wrong}");
        assert!(
            wrong.contains(":1: is not") && wrong.contains(":3: A is set") && wrong.contains(":4: a file"),
            "{wrong}"
        );
        assert!(!wrong.contains("hunter2"));
    }
}
