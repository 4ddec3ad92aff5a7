//! The README says what the code says: variables, metrics, keys, codes.

use std::fmt::Write;
use std::path::Path;

use community_gateway::config::reference_table;
use community_gateway::telemetry::Metrics;

const README: &str = include_str!("../../README.md");

/// Puts a text between two marks.
pub fn fill(page: &str, begin: &str, end: &str, text: &str) -> String {
    let (before, rest) = page.split_once(begin).expect("the mark where it begins");
    let (_, after) = rest.split_once(end).expect("the mark where it ends");
    format!("{before}{begin}\n{text}{end}{after}")
}

fn metrics_table() -> String {
    let mut table = String::from("| metric | type | labels | meaning |\n|---|---|---|---|\n");
    for [name, kind, labels, help] in Metrics::reference() {
        let kind = match kind.trim_end_matches("Vec") {
            "IntCounter" => "counter",
            "IntGauge" => "gauge",
            _ => "histogram",
        };
        writeln!(table, "| `{name}` | {kind} | {labels} | {help} |").unwrap();
    }
    table
}

#[test]
fn the_tables_are_those_of_the_code() {
    let mark = "<!-- variables: community-gateway config --reference -->";
    let page = fill(README, mark, "<!-- end of variables -->", &reference_table());
    let page = fill(&page, "<!-- metrics -->", "<!-- end of metrics -->", &metrics_table());
    if page != README {
        let new = Path::new(env!("CARGO_TARGET_TMPDIR")).join("README.md");
        std::fs::write(&new, page).unwrap();
        panic!("README.md is out of date: cp {} README.md", new.display());
    }
}

#[test]
fn every_key_and_channel_is_in_the_readme() {
    let (layers, _) = include_str!("../../src/keyspace/channels.rs").split_once("#[cfg(test)]").unwrap();
    let names = |source: &'static str| {
        source.split("format!(\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect::<Vec<&str>>()
    };
    // Groups and channels inside the layer are no keys.
    let of_layer = names(layers).into_iter().filter(|name| name.contains("{prefix}") || name.starts_with("community:"));
    let names: Vec<&str> = names(include_str!("../../src/keyspace.rs")).into_iter().chain(of_layer).collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        assert!(README.contains(&format!("`{name}`")), "{name} is not in README.md");
    }
}

#[test]
fn every_code_is_in_the_readme() {
    let closes = include_str!("../../src/wire/close.rs");
    let codes = closes.lines().filter_map(|line| line.split(" = ").nth(1)?.split(' ').next()?.parse::<u16>().ok());
    let codes: Vec<u16> = codes.collect();
    assert!(codes.len() > 10, "{codes:?}");
    for code in codes {
        assert!(README.contains(&format!("\n| {code} |")), "{code} is not in README.md");
    }
    let refusals = include_str!("../../src/wire/refusal.rs");
    let (_, words) = refusals.split_once("fn as_str").unwrap();
    let (words, _) = words.split_once("fn text").unwrap();
    let words: Vec<&str> = words.split("=> \"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(words.len() > 10, "{words:?}");
    for word in words {
        assert!(README.contains(&format!("`{word}`")), "{word} is not in README.md");
    }
}
