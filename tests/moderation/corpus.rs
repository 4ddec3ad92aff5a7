//! Precision and recall of each rule over the corpus. The floors are a little below what was measured.

use std::collections::BTreeMap;
use std::path::Path;

use community_gateway::moderation::{Lists, Patterns, Rules, Text, Verdict};

/// Least precision and least recall of each rule, in percent.
const FLOORS: &[(&str, usize, usize)] = &[
    ("words:block", 97, 95),
    ("words:flag", 95, 95),
    ("link_denied", 100, 100),
    ("link_homograph", 100, 100),
    ("link_new_user", 100, 100),
    ("link_unlisted", 100, 100),
    ("spam_links", 100, 100),
    ("spam_mentions", 100, 100),
    ("spam_repetition", 100, 100),
    ("spam_shouting", 100, 100),
];

/// The least lines that say anything about a rule, and about innocence.
const LEAST_LINES: usize = 300;

struct Line {
    place: String,
    label: String,
    is_new: bool,
    text: String,
}

#[derive(Default)]
struct Score {
    right: usize,
    missed: usize,
    wrong: usize,
}

impl Score {
    fn precision(&self) -> usize {
        percent(self.right, self.right + self.wrong)
    }

    fn recall(&self) -> usize {
        percent(self.right, self.right + self.missed)
    }
}

fn percent(part: usize, whole: usize) -> usize {
    (part * 100).checked_div(whole).unwrap_or(0)
}

fn lines() -> Vec<Line> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/moderation/corpus");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut lines = Vec::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "tsv")) {
        let name = file.file_name().unwrap().to_str().unwrap();
        for (number, line) in std::fs::read_to_string(file).unwrap().lines().enumerate() {
            let place = format!("{name}:{}", number + 1);
            let (label, text) = line.split_once('\t').unwrap_or_else(|| panic!("{place}: no tab"));
            let (is_new, label) = label.strip_prefix("new ").map_or((false, label), |label| (true, label));
            lines.push(Line { place, label: label.to_owned(), is_new, text: written_out(text) });
        }
    }
    lines
}

/// The text that a line stands for.
fn written_out(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(['\\', '{']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("\\n") {
            out.push('\n');
            rest = after;
        } else if let Some((code, after)) = rest.strip_prefix("\\u{").and_then(|rest| rest.split_once('}')) {
            out.push(char::from_u32(u32::from_str_radix(code, 16).unwrap()).unwrap());
            rest = after;
        } else if let Some((part, count, after)) = repetition(rest) {
            out.push_str(&written_out(part).repeat(count));
            rest = after;
        } else {
            let first = rest.chars().next().unwrap();
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    out + rest
}

fn repetition(rest: &str) -> Option<(&str, usize, &str)> {
    let (inner, after) = rest.strip_prefix('{')?.split_once('}')?;
    let (part, count) = inner.rsplit_once('*')?;
    Some((part, count.parse().ok()?, after))
}

fn found(patterns: &Patterns, line: &Line) -> String {
    match patterns.check(&Text { text: &line.text, author_is_new: line.is_new }) {
        Verdict::Allow => "ok".to_owned(),
        Verdict::Block(finding) if finding.rule == "words" => "words:block".to_owned(),
        Verdict::Flag(finding) if finding.rule == "words" => "words:flag".to_owned(),
        Verdict::Flag(finding) | Verdict::Block(finding) | Verdict::Refuse(finding) => finding.rule.into_owned(),
    }
}

#[test]
fn precision_and_recall_stay_above_their_floors() {
    let patterns = Patterns::new(Lists::builtin(), Rules::default());
    let lines = lines();
    assert!(lines.len() >= LEAST_LINES, "only {} lines", lines.len());
    let mut scores: BTreeMap<String, Score> = BTreeMap::new();
    for line in &lines {
        let found = found(&patterns, line);
        if found == line.label {
            scores.entry(found).or_default().right += 1;
        } else {
            println!("{}: {} instead of {}: {}", line.place, found, line.label, line.text);
            scores.entry(found).or_default().wrong += 1;
            scores.entry(line.label.clone()).or_default().missed += 1;
        }
    }
    println!("{:<18} {:>6} {:>10} {:>8}", "rule", "lines", "precision", "recall");
    for (rule, score) in &scores {
        println!("{rule:<18} {:>6} {:>9}% {:>7}%", score.right + score.missed, score.precision(), score.recall());
    }
    for (rule, precision, recall) in FLOORS {
        let score = scores.get(*rule).unwrap_or_else(|| panic!("no line for {rule}"));
        assert!(score.precision() >= *precision, "{rule}: precision is {}%, not {precision}%", score.precision());
        assert!(score.recall() >= *recall, "{rule}: recall is {}%, not {recall}%", score.recall());
    }
    let labels = || scores.keys().filter(|rule| *rule != "ok");
    assert!(labels().all(|rule| FLOORS.iter().any(|(known, ..)| known == rule)), "a rule without a floor");
}

#[test]
fn reasons_show_the_place_in_the_original() {
    let patterns = Patterns::new(Lists::builtin(), Rules::default());
    for (text, shown) in [
        ("so what, f.u.c.k off", "f.u.c.k"),
        ("oh ｓｈ1t happens", "ｓｈ1t"),
        ("you FUUU\u{200b}UCKING liar", "FUUU\u{200b}UCK"),
        ("go f u c k yourself", "f u c k"),
        ("you b*tch", "b*tch"),
        ("ну ты и сукА!", "сукА"),
        ("说谁呢 傻 逼", "傻 逼"),
    ] {
        let verdict = patterns.check(&Text { text, author_is_new: false });
        let Verdict::Block(finding) = verdict else { panic!("{text}: {verdict:?}") };
        assert_eq!(finding.reason, format!("listed word \"{shown}\""));
    }
}
