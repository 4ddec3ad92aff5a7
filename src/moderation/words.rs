//! Listed words in a text: one automaton for all of them, so that thousands cost what one costs.

use std::collections::HashMap;

use aho_corasick::automaton::Automaton;
use aho_corasick::nfa::contiguous::NFA;
use aho_corasick::{Anchored, MatchKind, PatternID};

use super::lists::{Severity, Word};
use super::normalise::{Normal, is_mark};
use super::views::{Haystack, Mark};
use super::{Action, Verdict};

/// The most characters of a text that a reason shows.
const MOST_SHOWN: usize = 60;
/// Blocked words of this many letters are found anywhere among single letters, where no border can be seen.
const LONG_ENOUGH: usize = 4;
/// Words of this many letters are also found with letters hidden by `*`.
const LONG_ENOUGH_TO_HIDE: usize = 4;

/// Finds words. Built once for a list.
#[derive(Debug)]
pub(super) struct Matcher {
    automaton: Option<NFA>,
    patterns: Vec<Pattern>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Innocent,
    Listed(Severity),
}

#[derive(Debug)]
struct Pattern {
    kind: Kind,
    /// How often each character must stand in a row at least.
    runs: Vec<u16>,
    /// It is found only as often as that, or stretched far.
    is_exact: bool,
    open_before: bool,
    open_after: bool,
}

/// A place in the haystack that reads like a word; whether it is one is said by [`is_real`].
#[derive(Clone, Copy)]
struct Hit<'p> {
    pattern: &'p Pattern,
    start: usize,
    end: usize,
}

impl Matcher {
    pub fn new(words: &[(Word, Severity)], innocent: &[Word]) -> Self {
        let mut builder = Builder::default();
        for (word, severity) in words {
            builder.add(word, Kind::Listed(*severity));
            builder.hide_letters(word, Kind::Listed(*severity));
        }
        for word in innocent {
            builder.add(word, Kind::Innocent);
        }
        let Builder { texts, patterns, .. } = builder;
        Self { automaton: automaton(&texts), patterns }
    }

    /// The strongest word of a text; of equals the first.
    pub fn check(&self, original: &str, normal: &Normal) -> Verdict {
        let hay = Haystack::new(normal);
        let (mut hits, mut innocent) = (Vec::new(), Vec::new());
        scan(self.automaton.as_ref(), hay.text.as_bytes(), |pattern, start, end| {
            let Some(pattern) = self.patterns.get(pattern.as_usize()) else { return };
            let hit = Hit { pattern, start, end };
            if pattern.kind == Kind::Innocent { &mut innocent } else { &mut hits }.push(hit);
        });
        if hits.is_empty() {
            return Verdict::Allow;
        }
        innocent.retain(|hit| is_real(&hay, hit));
        let innocent = Covers::new(innocent);
        let mut strongest: Option<Hit<'_>> = None;
        for hit in hits {
            // Most of a text full of listed words is not looked at: nothing is stronger than the first blocked one.
            let is_stronger = strongest.is_none_or(|before| hit.pattern.kind > before.pattern.kind);
            if is_stronger && is_real(&hay, &hit) && !innocent.cover(&hit) {
                strongest = Some(hit);
            }
        }
        strongest.map_or(Verdict::Allow, |hit| verdict(original, &hay, &hit))
    }
}

fn is_real(hay: &Haystack, hit: &Hit<'_>) -> bool {
    has_borders(hay, hit) && has_runs(hay, hit)
}

/// The automaton; `None` when nothing is listed, or more than one holds, which the limits of a list exclude. A table for each
/// state would save a microsecond for each message, and take 5 MiB of every instance for the list that is built in.
fn automaton(texts: &[String]) -> Option<NFA> {
    NFA::builder().match_kind(MatchKind::Standard).build(texts).ok().filter(|_| !texts.is_empty())
}

/// Every place of every pattern, also those that overlap: one step for each byte.
fn scan(automaton: Option<&NFA>, hay: &[u8], mut found: impl FnMut(PatternID, usize, usize)) {
    let Some((automaton, mut state)) = automaton.and_then(|all| Some((all, all.start_state(Anchored::No).ok()?)))
    else {
        return;
    };
    for (at, byte) in hay.iter().enumerate() {
        state = automaton.next_state(Anchored::No, state, *byte);
        if automaton.is_special(state) && automaton.is_match(state) {
            for index in 0..automaton.match_len(state) {
                let pattern = automaton.match_pattern(state, index);
                found(pattern, at + 1 - automaton.pattern_len(pattern), at + 1);
            }
        }
    }
}

fn verdict(original: &str, hay: &Haystack, hit: &Hit<'_>) -> Verdict {
    let marks = marks(hay, hit);
    let place = marks.first().zip(marks.last());
    let found =
        place.and_then(|(first, last)| original.get(first.start as usize..last.end as usize)).unwrap_or_default();
    let mut shown: String = found.chars().take(MOST_SHOWN).collect();
    if shown.len() < found.len() {
        shown.push_str("...");
    }
    let action = if hit.pattern.kind == Kind::Listed(Severity::Block) { Action::Block } else { Action::Flag };
    action.verdict("words", format!("listed word \"{shown}\""))
}

fn marks<'h>(hay: &'h Haystack, hit: &Hit<'_>) -> &'h [Mark] {
    let from = hay.marks.partition_point(|mark| (mark.at as usize) < hit.start);
    hay.marks.get(from..from + hit.pattern.runs.len()).unwrap_or_default()
}

/// Says whether every letter stands as often as the word has it, or oftener: "ass" is not in "as", but in "asss".
fn has_runs(hay: &Haystack, hit: &Hit<'_>) -> bool {
    let marks = marks(hay, hit);
    let mut pairs = marks.iter().zip(&hit.pattern.runs);
    marks.len() == hit.pattern.runs.len()
        && pairs.all(|(mark, run)| {
            // An innocent word is innocent as it is spelt, or stretched. Where there are no spaces, letters meet by chance.
            mark.run == *run || mark.run > *run && (mark.run > 2 || !hit.pattern.is_exact)
        })
}

fn has_borders(hay: &Haystack, hit: &Hit<'_>) -> bool {
    let pattern = hit.pattern;
    if hit.start >= hay.single_from
        && pattern.kind == Kind::Listed(Severity::Block)
        && pattern.runs.len() >= LONG_ENOUGH
    {
        return true;
    }
    let before = hay.text.get(..hit.start).and_then(|text| text.chars().next_back());
    let after = hay.text.get(hit.end..).and_then(|text| text.chars().next());
    // A mark changes the letter before it, whatever may follow the word.
    !after.is_some_and(is_mark)
        && (pattern.open_before || is_border(before))
        && (pattern.open_after || is_border(after))
}

fn is_border(ch: Option<char>) -> bool {
    ch.is_none_or(|ch| matches!(ch, ' ' | '*') || is_unspaced(ch))
}

/// Scripts that are written without spaces between words.
fn is_unspaced(ch: char) -> bool {
    matches!(u32::from(ch), 0xe00..=0xeff | 0x1000..=0x109f | 0x1780..=0x17ff | 0x2e80..=0x312f | 0x31a0..=0x9fff
        | 0xf900..=0xfaff | 0x20000..=0x3ffff)
}

/// Where innocent words are. Answers in logarithmic time whether one of them covers a place.
struct Covers(Vec<(usize, usize)>);

impl Covers {
    fn new(mut innocent: Vec<Hit<'_>>) -> Self {
        innocent.sort_by_key(|hit| hit.start);
        let mut furthest = 0;
        let reach = innocent.iter().map(|hit| {
            furthest = furthest.max(hit.end);
            (hit.start, furthest)
        });
        Self(reach.collect())
    }

    fn cover(&self, hit: &Hit<'_>) -> bool {
        let before = self.0.partition_point(|(start, _)| *start <= hit.start);
        before.checked_sub(1).and_then(|at| self.0.get(at)).is_some_and(|(_, end)| *end >= hit.end)
    }
}

#[derive(Default)]
struct Builder {
    texts: Vec<String>,
    patterns: Vec<Pattern>,
    known: HashMap<(String, Vec<u16>, bool, bool), usize>,
}

impl Builder {
    fn add(&mut self, word: &Word, kind: Kind) {
        let (mut text, mut runs) = (String::new(), Vec::<u16>::new());
        for ch in word.text.chars() {
            match runs.last_mut() {
                Some(run) if text.ends_with(ch) => *run += 1,
                _ => {
                    text.push(ch);
                    runs.push(1);
                }
            }
        }
        let open_before = word.open_before || text.chars().next().is_some_and(is_unspaced);
        let open_after = word.open_after || text.chars().next_back().is_some_and(is_unspaced);
        let is_exact = kind == Kind::Innocent || text.chars().all(is_unspaced);
        let next = self.patterns.len();
        let at = *self.known.entry((text.clone(), runs.clone(), open_before, open_after)).or_insert(next);
        match self.patterns.get_mut(at) {
            Some(known) => known.kind = known.kind.max(kind),
            None => {
                self.texts.push(text);
                self.patterns.push(Pattern { kind, runs, is_exact, open_before, open_after });
            }
        }
    }

    /// Adds a word with each of its inner letters hidden, and with all of them: `f*ck`, `fu*k`, `f**k`.
    fn hide_letters(&mut self, word: &Word, kind: Kind) {
        let letters: Vec<char> = word.text.chars().collect();
        let hides = letters.len() >= LONG_ENOUGH_TO_HIDE && letters.iter().all(char::is_ascii_lowercase);
        let (Some(first), Some(last)) = (letters.first(), letters.last()) else { return };
        if !hides {
            return;
        }
        let inner = 1..letters.len() - 1;
        for hidden in inner.clone() {
            let text = letters.iter().enumerate().map(|(at, ch)| if at == hidden { '*' } else { *ch }).collect();
            self.add(&Word { text, ..word.clone() }, kind);
        }
        let text = format!("{first}{}{last}", "*".repeat(inner.len()));
        self.add(&Word { text, open_after: false, open_before: false }, kind);
    }
}
