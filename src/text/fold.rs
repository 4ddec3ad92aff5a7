//! One character folded: Unicode compatibility decomposition, case, look-alikes; marks and invisible characters away.
//!
//! Folding looks at one character only, costs one look in a table, gives at most [`MOST`] characters, and gives the same
//! again when it is repeated.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::LazyLock;

use deunicode::deunicode_char;
use unicode_normalization::char::decompose_compatible;

use super::confusables::LOOKALIKES;

/// The most characters that one is folded into. What would give more, as few ligatures do, stays as it is.
pub const MOST: usize = 3;

/// What may differ from itself when folded. The rest of Unicode is ideographs, syllables, signs and nothing at all.
const FOLDED: &[RangeInclusive<u32>] = &[
    0..=0x33ff,
    0xa4d0..=0xabff,
    0xf900..=0x11fff,
    0x16100..=0x16eff,
    0x1b100..=0x1b1ff,
    0x1bca0..=0x1bca3,
    0x1cc00..=0x1ccff,
    0x1d100..=0x1d7ff,
    0x1df00..=0x1dfff,
    0x1e030..=0x1e06f,
    0x1e900..=0x1e943,
    0x1ee00..=0x1eeff,
    0x1f100..=0x1f2ff,
    0x1fbf0..=0x1fbf9,
    0x2f800..=0x2fa1f,
    0xe0000..=0xe0fff,
];

/// What says nothing: invisible, a direction, a variant, a joiner, a filler.
const INVISIBLE: &[RangeInclusive<u32>] = &[
    0xad..=0xad,
    0x34f..=0x34f,
    0x61c..=0x61c,
    0x115f..=0x1160,
    0x17b4..=0x17b5,
    0x180b..=0x180f,
    0x200b..=0x200f,
    0x202a..=0x202e,
    0x2060..=0x206f,
    0x3164..=0x3164,
    0xfe00..=0xfe0f,
    0xfeff..=0xfeff,
    0xffa0..=0xffa0,
    0xfff0..=0xfffb,
    0x1bca0..=0x1bca3,
    0x1d173..=0x1d17a,
    0xe0000..=0xe0fff,
];

/// Marks over, under and through letters of scripts that are read without them. Those of Indic scripts are letters there.
const MARKS: &[RangeInclusive<u32>] = &[
    0x300..=0x36f,
    0x483..=0x489,
    0x591..=0x5bd,
    0x5bf..=0x5bf,
    0x5c1..=0x5c2,
    0x5c4..=0x5c5,
    0x5c7..=0x5c7,
    0x610..=0x61a,
    0x640..=0x640,
    0x64b..=0x65f,
    0x670..=0x670,
    0x6d6..=0x6dc,
    0x6df..=0x6e4,
    0x6e7..=0x6e8,
    0x6ea..=0x6ed,
    0x1ab0..=0x1aff,
    0x1dc0..=0x1dff,
    0x20d0..=0x20ff,
    0x2de0..=0x2dff,
    0xa66f..=0xa672,
    0xa674..=0xa67d,
    0xfe20..=0xfe2f,
];

/// Letters that are Latin, or drawn like it, and that Unicode does not decompose.
const LATIN: &[RangeInclusive<u32>] =
    &[0xc0..=0x2af, 0x1d00..=0x1dbf, 0x1e00..=0x1eff, 0x2c60..=0x2c7f, 0xa720..=0xa7ff, 0xab30..=0xab6f];

/// Letters in circles and squares, and the halves of flags.
const ENCLOSED: &[(RangeInclusive<u32>, u8)] = &[
    (0x249c..=0x24b5, b'a'),
    (0x1f110..=0x1f129, b'a'),
    (0x1f130..=0x1f149, b'a'),
    (0x1f150..=0x1f169, b'a'),
    (0x1f170..=0x1f189, b'a'),
    (0x1f1e6..=0x1f1ff, b'a'),
];

fn is_in(ranges: &[RangeInclusive<u32>], c: char) -> bool {
    ranges.iter().any(|range| range.contains(&u32::from(c)))
}

/// Says whether a character cannot be seen, and is no space.
#[must_use]
pub fn is_invisible(c: char) -> bool {
    is_in(INVISIBLE, c)
}

/// Gives `emit` what a character is folded into: nothing, itself, or up to [`MOST`] characters. White space and control
/// characters are one space each.
pub fn fold(c: char, emit: impl FnMut(char)) {
    Folder::get().fold(c, emit);
}

/// Folds many characters.
#[derive(Clone, Copy)]
pub struct Folder(&'static Table);

impl Folder {
    /// Makes the table when it is asked for first, in milliseconds.
    #[must_use]
    pub fn get() -> Self {
        Self(&TABLE)
    }

    /// As [`fold()`].
    #[inline]
    pub fn fold(self, c: char, mut emit: impl FnMut(char)) {
        let entry = self.0.look(c);
        match entry {
            DROPPED => {}
            entry if entry & SEVERAL != 0 => {
                let (at, count) = ((entry & 0xffff) as usize, ((entry >> 16) & 0xf) as usize);
                for c in self.0.several.iter().skip(at).take(count) {
                    emit(*c);
                }
            }
            entry => emit(char::from_u32(entry).unwrap_or(c)),
        }
    }
}

const DROPPED: u32 = u32::MAX;
const SEVERAL: u32 = 1 << 31;
const PAGE: usize = 256;

/// For each character what it is folded into: another one, [`DROPPED`], or [`SEVERAL`] with place and count.
struct Table {
    /// Which page holds a character; `None` when the whole page folds into itself.
    pages: Vec<Option<Box<[u32; PAGE]>>>,
    several: Vec<char>,
}

static TABLE: LazyLock<Table> = LazyLock::new(Table::new);

impl Table {
    fn new() -> Self {
        let letters = letters();
        let mut table = Self { pages: (0..0x11_0000 / PAGE).map(|_| None).collect(), several: Vec::new() };
        for code in FOLDED.iter().cloned().flatten() {
            let Some(c) = char::from_u32(code) else { continue };
            let folded = compute(c, &letters);
            if folded != [c] {
                let entry = table.entry(&folded);
                let first = code & !(PAGE as u32 - 1);
                if let Some(page) = table.pages.get_mut(code as usize / PAGE) {
                    page.get_or_insert_with(|| Box::new(std::array::from_fn(|at| first + at as u32)))
                        [code as usize % PAGE] = entry;
                }
            }
        }
        table
    }

    fn entry(&mut self, folded: &[char]) -> u32 {
        match folded {
            [] => DROPPED,
            [c] => u32::from(*c),
            several => {
                let at = self.several.len();
                self.several.extend(several);
                SEVERAL | (several.len() as u32) << 16 | at as u32
            }
        }
    }

    #[inline]
    fn look(&self, c: char) -> u32 {
        let code = u32::from(c);
        match self.pages.get(code as usize / PAGE) {
            Some(Some(page)) => page[code as usize % PAGE],
            _ => code,
        }
    }
}

type Letters = HashMap<char, &'static str>;

fn letters() -> Letters {
    let pairs = LOOKALIKES.iter().flat_map(|(letter, alike)| alike.chars().map(move |c| (c, *letter)));
    let mut letters: Letters = pairs.clone().collect();
    for (c, letter) in pairs {
        for lower in c.to_lowercase() {
            letters.entry(lower).or_insert(letter);
        }
    }
    letters
}

/// What a character is folded into, worked out: steps are repeated until nothing changes.
fn compute(c: char, letters: &Letters) -> Vec<char> {
    let mut folded = vec![c];
    // Four rounds are enough for all of Unicode; a test says so.
    for _ in 0..4 {
        let next: Vec<char> = folded.iter().flat_map(|c| step(*c, letters)).collect();
        if next == folded {
            break;
        }
        folded = next;
    }
    if folded.len() > MOST { vec![c] } else { folded }
}

fn step(c: char, letters: &Letters) -> Vec<char> {
    if is_invisible(c) || is_in(MARKS, c) {
        return Vec::new();
    }
    if c.is_whitespace() || c.is_control() || c == '\u{2800}' {
        return vec![' '];
    }
    if let Some(letter) = letters.get(&c) {
        return letter.chars().collect();
    }
    let code = u32::from(c);
    if let Some((range, first)) = ENCLOSED.iter().find(|(range, _)| range.contains(&code)) {
        return vec![char::from(first + (code - range.start()) as u8)];
    }
    let mut decomposed = Vec::new();
    decompose_compatible(c, |part| decomposed.push(part));
    // Hangul stays in syllables: `normalise` puts single letters together instead.
    if ('\u{ac00}'..='\u{d7a3}').contains(&c) {
        decomposed = vec![c];
    }
    if decomposed == [c]
        && is_in(LATIN, c)
        && let Some(latin) = deunicode_char(c)
            .filter(|latin| (1..=MOST).contains(&latin.len()) && latin.bytes().all(|byte| byte.is_ascii_alphabetic()))
    {
        return latin.to_ascii_lowercase().chars().collect();
    }
    decomposed.into_iter().flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(text: &str) -> String {
        let mut out = String::new();
        text.chars().for_each(|c| fold(c, |c| out.push(c)));
        out
    }

    #[test]
    fn what_looks_alike_is_folded_into_one() {
        for (text, plain) in [
            ("ＡＢＣ", "abc"),
            ("ƒυ¢κ", "fuck"),
            ("раураl", "paypal"),
            ("Ⓕⓡⓔⓔ 🅵🆁", "free fr"),
            ("𝕳𝖊𝖑𝖑𝖔", "hello"),
            ("Z̸͓a\u{200b}l\u{ad}go", "zalgo"),
            ("Straße ŁÓDŹ Øre", "strasse lodz ore"),
            ("שָׁלוֹם", "שלומ"),
            ("مُحَمَّد", "محمد"),
            ("हिन्दी", "हिन्दी"),
            ("한국어", "한국어"),
            ("a\u{a0}b\tc", "a b c"),
        ] {
            assert_eq!(folded(text), plain, "{text}");
        }
    }

    #[test]
    fn every_character_of_unicode_is_folded_once_and_for_all() {
        let letters = letters();
        for c in '\0'..=char::MAX {
            let mut once = Vec::new();
            fold(c, |c| once.push(c));
            assert!(once.len() <= MOST, "{c:?} grows");
            assert_eq!(once, compute(c, &letters), "{c:?} ({:x}) is in no range", u32::from(c));
            let mut twice = Vec::new();
            once.iter().for_each(|c| fold(*c, |c| twice.push(c)));
            assert_eq!(once, twice, "{c:?} ({:x})", u32::from(c));
        }
    }
}
