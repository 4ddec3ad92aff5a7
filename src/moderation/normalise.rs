//! A text reduced to what is read: characters folded, stretched letters counted instead of repeated. Every unit knows its
//! place in the original. Linear in the text, whatever it is.
//!
//! A normalised text, normalised again, is the same text; it has at most [`crate::text::fold::MOST`] characters for each of the original.

use unicode_normalization::char::is_combining_mark;

use crate::text::fold::Folder;

/// One character of a normalised text, and the row of originals that it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// The character.
    pub ch: char,
    /// How often it stood in a row.
    pub run: u16,
    /// Where in the original it begins, in bytes.
    pub start: u32,
    /// Where in the original it ends, in bytes.
    pub end: u32,
    /// It is a letter, or a mark that belongs to one.
    pub is_letter: bool,
}

/// A normalised text.
#[derive(Clone, Debug, Default)]
pub struct Normal {
    units: Vec<Unit>,
}

impl Normal {
    /// Its characters, in order.
    #[must_use]
    pub fn units(&self) -> &[Unit] {
        &self.units
    }

    /// Its characters as a string.
    #[must_use]
    pub fn text(&self) -> String {
        self.units.iter().map(|unit| unit.ch).collect()
    }

    /// What it has in common with texts that a person takes for the same. Rows count as two, but for digits.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hash = Fnv::default();
        for unit in &self.units {
            let run = if unit.ch.is_numeric() {
                unit.run
            } else if unit.ch.is_alphabetic() {
                unit.run.min(2)
            } else {
                1
            };
            hash.write(&u32::from(unit.ch).to_le_bytes());
            hash.write(&run.to_le_bytes());
        }
        hash.finish()
    }

    fn push(&mut self, unit: Unit) {
        let Some(last) = self.units.last_mut() else {
            if unit.ch != ' ' {
                self.units.push(unit);
            }
            return;
        };
        if last.ch == unit.ch {
            last.run = last.run.saturating_add(unit.run);
            last.end = unit.end;
        } else if let Some(syllable) = hangul(last.ch, unit.ch) {
            let start = last.start;
            self.units.pop();
            self.push(Unit { ch: syllable, run: 1, start, ..unit });
        } else {
            self.units.push(unit);
        }
    }
}

/// Korean letters that were sent one by one, as the syllable that is seen: the arithmetic of the Unicode standard, 3.12.
fn hangul(first: char, second: char) -> Option<char> {
    let (first, second) = (u32::from(first), u32::from(second));
    let syllable = match (first, second) {
        (0x1100..=0x1112, 0x1161..=0x1175) => 0xac00 + ((first - 0x1100) * 21 + second - 0x1161) * 28,
        (0xac00..=0xd7a3, 0x11a8..=0x11c2) if (first - 0xac00) % 28 == 0 => first + second - 0x11a7,
        _ => return None,
    };
    char::from_u32(syllable)
}

/// Normalises a text.
#[must_use]
pub fn normalise(text: &str) -> Normal {
    let mut normal = Normal { units: Vec::with_capacity(text.len()) };
    let folder = Folder::get();
    for (at, c) in text.char_indices() {
        // Longer texts than 4 GiB do not come over the wire.
        let start = u32::try_from(at).unwrap_or(u32::MAX);
        let end = start.saturating_add(c.len_utf8() as u32);
        folder.fold(c, |ch| normal.push(Unit { ch, run: 1, start, end, is_letter: is_letter(ch) }));
    }
    if normal.units.last().is_some_and(|last| last.ch == ' ') {
        normal.units.pop();
    }
    normal
}

/// An entry of a list, folded like a text, but with its doubled letters.
#[must_use]
pub fn entry(text: &str) -> String {
    let units = normalise(text).units;
    units
        .iter()
        .flat_map(|unit| std::iter::repeat_n(unit.ch, if unit.ch == ' ' { 1 } else { unit.run.into() }))
        .collect()
}

/// The common scripts are answered without Unicode's tables, which cost more than all the rest.
#[inline]
fn is_letter(ch: char) -> bool {
    match ch {
        '\0'..='\u{7f}' => ch.is_ascii_lowercase(),
        'а'..='я'
        | '\u{5d0}'..='\u{5ea}'
        | '\u{904}'..='\u{939}'
        | '\u{3041}'..='\u{3096}'
        | '\u{30a1}'..='\u{30fa}' => true,
        '\u{1100}'..='\u{11ff}' | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}' => true,
        '\u{2000}'..='\u{2bff}' | '\u{fe00}'..='\u{fe0f}' | '\u{1f000}'..='\u{1faff}' => false,
        ch => ch.is_alphabetic() || is_mark(ch),
    }
}

/// Says whether a character is a mark that belongs to the letter before it, as in Indic scripts.
#[must_use]
pub fn is_mark(c: char) -> bool {
    !c.is_ascii() && is_combining_mark(c)
}

/// FNV-1a with 64 bits: the same on every instance and in every build.
#[derive(Clone, Copy, Debug)]
pub struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    /// Takes in some bytes.
    pub fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// The hash of what was taken in.
    #[must_use]
    pub fn finish(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_and_places_kept() {
        let text = "  Fuuu\u{200b}uCK\u{301} \n ok ";
        let normal = normalise(text);
        assert_eq!(normal.text(), "fuck ok");
        let runs: Vec<_> = normal.units().iter().map(|unit| unit.run).collect();
        assert_eq!(runs, [1, 4, 1, 1, 3, 1, 1]);
        let u = normal.units()[1];
        assert_eq!(&text[u.start as usize..u.end as usize], "uuu\u{200b}u");
    }

    #[test]
    fn korean_letters_become_syllables() {
        assert_eq!(normalise("\u{1112}\u{1161}\u{11ab}\u{1112}\u{1161}").text(), "한하");
        assert_eq!(normalise("한하").text(), "한하");
    }

    #[test]
    fn fingerprints_are_of_what_is_read() {
        let of = |text: &str| normalise(text).fingerprint();
        assert_eq!(of("Buy now!!!"), of("  buy \u{200b}NОW! "));
        assert_eq!(of("heyyyy"), of("heyyyyyyy"));
        assert_ne!(of("good"), of("god"));
        assert_ne!(of("100"), of("10"));
        assert_ne!(of("buy now"), of("buy it now"));
    }
}
