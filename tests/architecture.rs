//! The shape of the sources: which module may use which, how long a file may be, and where each dependency is named.
//!
//! The rules are those of `ARCHITECTURE.md`. A rule that is only written is soon broken; these fail the build.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The most lines of one source file.
const MOST_LINES: usize = 400;

/// Modules that every module may use.
const EVERYWHERE: &[&str] = &["domain", "keyspace", "config", "telemetry", "lifecycle"];

/// What each module may use besides [`EVERYWHERE`]. A path names a part of a module.
const MAY_USE: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("keyspace", &[]),
    ("config", &[]),
    ("telemetry", &[]),
    ("lifecycle", &[]),
    ("wire", &[]),
    ("text", &[]),
    ("moderation", &["text"]),
    ("handover", &["bus", "django"]),
    ("transport", &[]),
    ("socket", &["wire", "transport"]),
    ("identity", &["django"]),
    ("store", &["wire::event"]),
    ("realtime", &[]),
    ("django", &[]),
    ("bus", &["realtime", "wire::event"]),
    ("presence", &["realtime"]),
    ("hub", &["socket", "bus", "wire"]),
    ("access", &["realtime", "wire", "store", "text"]),
    ("command", &["wire", "access", "moderation", "store", "bus", "presence", "handover"]),
    ("session", &["socket", "transport", "wire", "access", "command", "hub", "identity", "store", "bus", "presence"]),
    ("http", &["identity", "access", "transport"]),
    ("health", &["store", "bus", "identity"]),
    ("admin", &["bus", "hub", "http", "session"]),
    (
        "gateway",
        &[
            "access",
            "admin",
            "bus",
            "command",
            "handover",
            "health",
            "http",
            "hub",
            "identity",
            "moderation",
            "presence",
            "session",
            "socket",
            "store",
            "transport",
            "wire",
        ],
    ),
    ("cli", &["gateway", "handover", "identity", "moderation", "store", "bus", "transport"]),
    ("lib", &[]),
    ("main", &["cli"]),
];

/// In which modules a dependency may be named.
const NAMED_ONLY_IN: &[(&str, &[&str])] = &[
    ("sqlx", &["store"]),
    ("redis", &["realtime", "bus", "access", "presence"]),
    ("fred", &["django", "identity", "handover"]),
    ("reqwest", &["moderation", "telemetry"]),
    ("rmpv", &["bus"]),
    ("hyper", &["http", "socket"]),
    ("hyper_util", &["http", "socket"]),
    ("fastwebsockets", &["http", "socket"]),
    ("simd_json", &["wire"]),
    ("jsonwebtoken", &["identity"]),
    ("clap", &["cli"]),
    ("rustls", &["transport", "main", "moderation"]),
    ("tokio_rustls", &["transport"]),
    ("sd_notify", &["lifecycle"]),
    ("prometheus", &["telemetry", "session", "http", "presence", "access", "bus", "hub", "store", "socket"]),
];

struct Source {
    path: PathBuf,
    module: String,
    text: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let relative = path.strip_prefix(&root).unwrap();
                let first = relative.components().next().unwrap().as_os_str().to_str().unwrap();
                let module = first.trim_end_matches(".rs").to_owned();
                let text = fs::read_to_string(&path).unwrap();
                found.push(Source { path: relative.to_owned(), module, text });
            }
        }
    }
    assert!(found.len() > 50, "the sources are found");
    found
}

/// The code of a file: no comments, and no tests, which may use what they like.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let until = text.find("#[cfg(test)]\nmod ").unwrap_or(text.len());
    text[..until].lines().enumerate().map(|(number, line)| (number + 1, line.split("//").next().unwrap_or_default()))
}

fn is_test(source: &Source) -> bool {
    let name = source.path.file_stem().unwrap().to_str().unwrap();
    name.ends_with("tests") || name == "testing"
}

#[test]
fn modules_use_only_what_they_may() {
    let rules: BTreeMap<_, _> = MAY_USE.iter().copied().collect();
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| !is_test(source)) {
        let Some(allowed) = rules.get(source.module.as_str()) else {
            wrong.push(format!("{}: the module has no rule", source.path.display()));
            continue;
        };
        for (number, line) in code(&source.text) {
            for used in line.match_indices("crate::").map(|(at, _)| &line[at + "crate::".len()..]) {
                let path: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_' || *c == ':').collect();
                let module = path.split("::").next().unwrap_or_default();
                let may = |rule: &&str| path == **rule || path.starts_with(&format!("{rule}::"));
                let fine = module == source.module
                    || EVERYWHERE.contains(&module)
                    || allowed.iter().any(may)
                    || !path.contains("::") && !rules.contains_key(module);
                if !fine {
                    wrong.push(format!(
                        "{}:{number}: {} may not use crate::{path}",
                        source.path.display(),
                        source.module
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "against the rule:\n{}", wrong.join("\n"));
}

#[test]
fn the_rules_allow_no_cycle() {
    let rules: BTreeMap<_, _> = MAY_USE.iter().copied().collect();
    fn visit<'a>(module: &'a str, rules: &BTreeMap<&'a str, &'a [&'a str]>, path: &mut Vec<&'a str>) {
        assert!(!path.contains(&module), "a cycle: {path:?} → {module}");
        path.push(module);
        for used in rules.get(module).copied().unwrap_or_default() {
            visit(used.split("::").next().unwrap_or_default(), rules, path);
        }
        path.pop();
    }
    for module in rules.keys() {
        visit(module, &rules, &mut Vec::new());
    }
}

#[test]
fn dependencies_are_named_only_where_they_belong() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| !is_test(source)) {
        for (number, line) in code(&source.text) {
            for (dependency, modules) in NAMED_ONLY_IN {
                let named = line.contains(&format!("{dependency}::")) && {
                    let at = line.find(&format!("{dependency}::")).unwrap();
                    // A module of our own may share the name: `config::redis`.
                    !line[..at].ends_with("::") && !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
                };
                let own = source.text.contains(&format!("\nmod {dependency};"));
                if named && !own && !modules.contains(&source.module.as_str()) {
                    wrong.push(format!("{}:{number}: {dependency}", source.path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "named outside its place:\n{}", wrong.join("\n"));
}

#[test]
fn files_stay_small_and_say_what_they_own() {
    let mut wrong = Vec::new();
    for source in sources() {
        let lines = source.text.lines().count();
        if lines > MOST_LINES {
            wrong.push(format!("{}: {lines} lines", source.path.display()));
        }
        if !is_test(&source) && !source.text.starts_with("//!") {
            wrong.push(format!("{}: does not say what it owns", source.path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
