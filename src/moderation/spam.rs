//! What is spam whatever it says: repetition, capitals, too many mentions. Linear in the text, each rule by itself.

use std::collections::{HashMap, HashSet};

use super::{Repetition, Rules, Shouting, Verdict};

/// The longest group of characters, or of words, whose repetition is noticed.
const LONGEST_GROUP: usize = 4;
/// Lines with fewer characters may come again as often as they like.
const SHORT_LINE: usize = 10;

/// The first finding of the rules that need no list.
pub(super) fn check(text: &str, rules: &Rules) -> Verdict {
    let Rules { repetition, shouting, mentions, .. } = rules;
    if mentions.action.is_on() && text.contains('@') {
        let count = count_mentions(text);
        if count > mentions.most {
            let reason = format!("{count} people are mentioned, the most is {}", mentions.most);
            return mentions.action.verdict("spam_mentions", reason);
        }
    }
    if repetition.action.is_on()
        && let Some(reason) = find_repetition(text, repetition)
    {
        return repetition.action.verdict("spam_repetition", reason);
    }
    match is_shouting(text, shouting) {
        true => shouting.action.verdict("spam_shouting", "nearly all letters are capitals".to_owned()),
        false => Verdict::Allow,
    }
}

/// Different names after `@`, wherever a word begins with it.
fn count_mentions(text: &str) -> usize {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '+' | '-');
    let mut names = HashSet::new();
    let mut before = None;
    let mut rest = text;
    while let Some(at) = rest.find('@') {
        let begins = !rest[..at].chars().next_back().or(before).is_some_and(is_part);
        rest = &rest[at + 1..];
        let name = &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())];
        if begins && !name.is_empty() {
            names.insert(name);
        }
        rest = &rest[name.len()..];
        before = name.chars().next_back();
    }
    names.len()
}

fn find_repetition(text: &str, rule: &Repetition) -> Option<String> {
    if text.len() > rule.characters {
        let rows = longest_rows(text);
        if rows[0] > rule.characters {
            return Some(format!("one character {} times in a row, the most is {}", rows[0], rule.characters));
        }
        // Groups of characters may stand there a little longer than one alone: laughter, for instance.
        if let Some(row) = rows.iter().find(|row| **row > rule.characters.saturating_mul(2)) {
            return Some(format!("the same few characters again and again, {row} in all"));
        }
    }
    if text.len() > rule.words {
        let rounds = longest_rounds(text.split_whitespace());
        if rounds > rule.words {
            return Some(format!("the same words {rounds} times in a row, the most is {}", rule.words));
        }
    }
    if text.bytes().filter(|byte| *byte == b'\n').count() >= rule.lines {
        let mut lines = HashMap::new();
        let long = text.lines().map(str::trim).filter(|line| line.chars().nth(SHORT_LINE - 1).is_some());
        let times = long.fold(0, |times, line| {
            let count = lines.entry(line).or_insert(0);
            *count += 1;
            times.max(*count)
        });
        if times > rule.lines {
            return Some(format!("one line {times} times, the most is {}", rule.lines));
        }
    }
    None
}

/// The longest stretch, in characters, in which each is the one that stood one, two, three or four places before it.
fn longest_rows(text: &str) -> [usize; LONGEST_GROUP] {
    let mut recent = ['\0'; LONGEST_GROUP];
    let (mut rows, mut longest) = ([1; LONGEST_GROUP], [1; LONGEST_GROUP]);
    for c in text.chars() {
        for distance in 0..LONGEST_GROUP {
            rows[distance] = if recent[distance] == c { rows[distance] + 1 } else { 1 };
            longest[distance] = longest[distance].max(rows[distance]);
        }
        recent = [c, recent[0], recent[1], recent[2]];
    }
    longest
}

/// How often the same group of up to four words stands in a row.
fn longest_rounds<'t>(words: impl Iterator<Item = &'t str>) -> usize {
    let mut recent = [""; LONGEST_GROUP];
    let (mut rows, mut most) = ([0; LONGEST_GROUP], 0);
    for word in words {
        for (distance, row) in rows.iter_mut().enumerate() {
            *row = if recent[LONGEST_GROUP - 1 - distance] == word { *row + 1 } else { 0 };
            most = most.max(*row / (distance + 1) + 1);
        }
        recent.rotate_left(1);
        recent[LONGEST_GROUP - 1] = word;
    }
    most
}

/// Only letters that have a case count, so that scripts without one are silent.
fn is_shouting(text: &str, rule: &Shouting) -> bool {
    if !rule.action.is_on() {
        return false;
    }
    let (mut capitals, mut small) = (0, 0);
    for c in text.chars() {
        match c {
            'a'..='z' | 'а'..='я' => small += 1,
            'A'..='Z' | 'А'..='Я' => capitals += 1,
            // Most of what is left: nothing here has a case, and Unicode's tables are slow.
            '\0'..='\u{7f}'
            | '\u{590}'..='\u{109f}'
            | '\u{1100}'..='\u{139f}'
            | '\u{2e80}'..='\u{a4cf}'
            | '\u{ac00}'..='\u{d7ff}' => {}
            '\u{1f200}'.. => {}
            c if c.is_uppercase() => capitals += 1,
            c if c.is_lowercase() => small += 1,
            _ => {}
        }
    }
    capitals + small >= rule.letters.max(1) && capitals * 100 >= rule.percent * (capitals + small)
}

#[cfg(test)]
mod tests {
    use super::super::Action;
    use super::*;

    fn rule(text: &str) -> String {
        match check(text, &Rules::default()) {
            Verdict::Refuse(finding) => finding.rule.into_owned(),
            Verdict::Allow => String::new(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn numbers_are_the_most_that_passes() {
        assert_eq!(rule(&"a".repeat(40)), "");
        assert_eq!(rule(&"a".repeat(41)), "spam_repetition");
        assert_eq!(rule(&"ha".repeat(40)), "");
        assert_eq!(rule(&"ha".repeat(41)), "spam_repetition");
        assert_eq!(rule(&"买买卖卖".repeat(21)), "spam_repetition");
        assert_eq!(rule(&"buy ".repeat(8)), "");
        assert_eq!(rule(&"buy ".repeat(9)), "spam_repetition");
        assert_eq!(rule(&"come and buy now ".repeat(9)), "spam_repetition");
        assert_eq!(rule(&"this is one line\n".repeat(3)), "");
        assert_eq!(rule(&"this is one line\n".repeat(4)), "spam_repetition");
        assert_eq!(rule(&"short\n".repeat(8)), "");
    }

    #[test]
    fn mentions_are_counted_by_name() {
        let names = |count: usize| (0..count).map(|n| format!("@user{n}, ")).collect::<String>();
        assert_eq!(rule(&names(10)), "");
        assert_eq!(rule(&names(11)), "spam_mentions");
        assert_eq!(count_mentions("@ada @ada, me@example.com @@x @ (@b)"), 3);
    }

    #[test]
    fn capitals_are_shouting_in_long_texts_only() {
        assert_eq!(rule("NASA AND ESA LAUNCH"), "");
        assert_eq!(rule("WHY DOES NOBODY EVER ANSWER ME"), "spam_shouting");
        assert_eq!(rule("ПОЧЕМУ МНЕ НИКТО НЕ ОТВЕЧАЕТ"), "spam_shouting");
        assert_eq!(rule("なぜ誰も答えてくれないのですかなぜ誰も答えてくれないのですか"), "");
        assert_eq!(rule("לָמָה אף אחד לא עונה לי אף פעם בחדר הזה"), "");
    }

    #[test]
    fn a_rule_that_is_off_finds_nothing() {
        let mut rules = Rules::default();
        rules.repetition.action = Action::Off;
        rules.shouting.action = Action::Off;
        rules.mentions.action = Action::Off;
        let text = format!("{} {}", "AAAA".repeat(50), "@a@b @c @d @e @f @g @h @i @j @k @l @m");
        assert_eq!(check(&text, &rules), Verdict::Allow);
    }
}
