//! Any text: normalising holds its promises, and the first layer of moderation comes to a verdict.
//!
//! `fuzz/run` runs this one and the others.

#![no_main]

use std::sync::LazyLock;

use community_gateway::moderation::normalise::normalise;
use community_gateway::moderation::{Lists, Patterns, Rules, Text};
use community_gateway::text::fold;
use libfuzzer_sys::fuzz_target;

static PATTERNS: LazyLock<Patterns> = LazyLock::new(|| Patterns::new(Lists::builtin(), Rules::default()));

fuzz_target!(|text: &str| {
    let normal = normalise(text);
    assert!(normal.units().len() <= text.chars().count() * fold::MOST);
    for unit in normal.units() {
        assert!(text.get(unit.start as usize..unit.end as usize).is_some_and(|original| !original.is_empty()));
    }
    let once = normal.text();
    assert_eq!(normalise(&once).text(), once);
    let _ = PATTERNS.check(&Text { text, author_is_new: true });
    let _ = PATTERNS.check(&Text { text, author_is_new: false });
});
