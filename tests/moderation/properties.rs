//! What holds for every text.

use community_gateway::moderation::normalise::normalise;
use community_gateway::moderation::{Lists, Patterns, Rules, Text, Verdict};
use community_gateway::text::fold;
use proptest::prelude::*;

/// Texts of what people write, of what they hide words with, and of anything.
fn texts() -> impl Strategy<Value = String> {
    let nasty = proptest::sample::select(vec![
        "fuck",
        "ass",
        "f",
        "u",
        " ",
        ".",
        "*",
        "#",
        "1",
        "!",
        "@",
        "$",
        "\u{200b}",
        "\u{301}",
        "ﷺ",
        "ﬃ",
        "İ",
        "ß",
        "한",
        "\u{1112}",
        "\u{1161}",
        "\u{11ab}",
        "傻",
        "逼",
        "ﾊﾟ",
        "🇩🇪",
        "👩‍👧",
        "a.co",
        "https://",
        "xn--",
        "[.]",
        "\n",
        "क़",
        "ک",
    ]);
    prop_oneof![
        proptest::collection::vec(nasty, 0..60).prop_map(|parts| parts.concat()),
        any::<String>(),
        "[a-zA-Z0-9 .,!*@$]{0,200}",
    ]
}

proptest! {
    #[test]
    fn normalising_again_changes_nothing(text in texts()) {
        let once = normalise(&text).text();
        prop_assert_eq!(normalise(&once).text(), once);
    }

    #[test]
    fn a_text_grows_by_no_more_than_the_bound(text in texts()) {
        prop_assert!(normalise(&text).units().len() <= text.chars().count() * fold::MOST);
    }

    #[test]
    fn every_unit_knows_its_place(text in texts()) {
        let normal = normalise(&text);
        let mut before = 0;
        for unit in normal.units() {
            prop_assert!(unit.run > 0);
            prop_assert!(unit.start as usize >= before, "{unit:?}");
            let original = text.get(unit.start as usize..unit.end as usize);
            prop_assert!(original.is_some_and(|original| !original.is_empty()), "{unit:?}");
            before = unit.start as usize;
        }
    }

    #[test]
    fn invisible_characters_change_no_fingerprint(text in texts(), at in 0..50_usize) {
        let at = text.char_indices().nth(at).map_or(text.len(), |(at, _)| at);
        let hidden = format!("{}\u{200b}{}", &text[..at], &text[at..]);
        prop_assert_eq!(normalise(&hidden).fingerprint(), normalise(&text).fingerprint());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_text_gets_a_verdict_and_a_listed_word_is_found_behind_it(text in texts()) {
        let patterns = Patterns::new(Lists::builtin(), Rules::default());
        let verdict = patterns.check(&Text { text: &text, author_is_new: true });
        prop_assert_eq!(patterns.check(&Text { text: &text, author_is_new: true }), verdict);
        let with = format!("{text} zzz motherfucker zzz");
        let found = matches!(patterns.check(&Text { text: &with, author_is_new: false }), Verdict::Block(_));
        prop_assert!(found, "{with}");
    }
}
