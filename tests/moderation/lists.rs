//! Lists in files: all of them or none, and every mistake by file and line.

use std::fs;

use community_gateway::moderation::{Lists, Patterns, Rules, Text, Verdict};
use tempfile::TempDir;

/// A folder of lists with these words and domains.
fn folder(words: &str, innocent: &str, allowed: &str, denied: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    let files =
        [("words.txt", words), ("innocent.txt", innocent), ("links-allow.txt", allowed), ("links-deny.txt", denied)];
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn mistakes(folder: &TempDir) -> String {
    let error = Lists::load(folder.path()).err().unwrap().to_string();
    error.replace(folder.path().to_str().unwrap(), "")
}

#[test]
fn what_is_listed_is_found() {
    let folder = folder(
        "# ours\nblock frobni* # and its forms\nflag blub\n",
        "frobnitz\n",
        "example.com\n*.example.org\n",
        "bad.example\n",
    );
    let lists = Lists::load(folder.path()).unwrap();
    assert_eq!((lists.words().len(), lists.innocent().len()), (2, 1));
    for (host, is_allowed) in [
        ("example.com", true),
        ("www.example.com", true),
        ("a.example.com", false),
        ("example.org", false),
        ("a.b.example.org", true),
        ("notexample.com", false),
    ] {
        assert_eq!(lists.allowed().contains(host), is_allowed, "{host}");
    }
    let patterns = Patterns::new(lists, Rules::default());
    let check = |text| patterns.check(&Text { text, author_is_new: false });
    assert!(matches!(check("you frobnicator"), Verdict::Block(finding) if finding.rule == "words"));
    assert!(matches!(check("b-l-u-b"), Verdict::Flag(finding) if finding.rule == "words"));
    assert_eq!(check("a frobnitz, fuck"), Verdict::Allow);
    assert!(matches!(check("https://bad.example/a"), Verdict::Block(finding) if finding.rule == "link_denied"));
    assert!(matches!(check("https://example.org/a"), Verdict::Flag(finding) if finding.rule == "link_unlisted"));
}

#[test]
fn every_mistake_is_told_with_its_place() {
    let folder = folder(
        "block one\nhide two\nflag\nflag a*b\nflag one\nblock ONE\nflag x\nflag c++\n",
        "one\n",
        "example\nhttps://example.com\na.*.example.com\nok.example\nok.example\n",
        "ok.example\n",
    );
    let mistakes = mistakes(&folder);
    for expected in [
        "/words.txt:2: `hide` is neither `block` nor `flag`",
        "/words.txt:3: a word is missing",
        "/words.txt:4: `*` may only begin or end a word",
        "/words.txt:5: the same word as line 1",
        "/words.txt:6: the same word as line 5",
        "/words.txt:7: `x` is too short",
        "/words.txt:8: `c++` is not made of letters",
        "/links-allow.txt:1: `example` is no domain: write `example.com` or `*.example.com`",
        "/links-allow.txt:2: `https://example.com` is no domain",
        "/links-allow.txt:3: `a.*.example.com` is no domain",
        "and 3 more",
    ] {
        assert!(mistakes.contains(expected), "{expected}: {mistakes}");
    }
}

#[test]
fn a_missing_file_and_one_too_many_are_mistakes() {
    let folder = folder("block one\n", "", "", "");
    assert!(Lists::load(folder.path()).is_ok());
    fs::write(folder.path().join("word.txt"), "block two\n").unwrap();
    fs::remove_file(folder.path().join("links-deny.txt")).unwrap();
    let mistakes = mistakes(&folder);
    assert!(mistakes.contains("/word.txt: is none of words.txt, innocent.txt"), "{mistakes}");
    assert!(mistakes.contains("/links-deny.txt: No such file"), "{mistakes}");
    assert!(Lists::load(&folder.path().join("nowhere")).is_err());
}

#[test]
fn the_version_changes_with_the_entries_only() {
    let version = |words: &str| Lists::load(folder(words, "", "", "").path()).unwrap().version().to_owned();
    assert_eq!(version("block one\n"), version("# a comment\n\nblock one # another\n"));
    assert_ne!(version("block one\n"), version("flag one\n"));
    assert_eq!(version("block one\n").len(), 8);
}
