//! The ways in which a normalised text may be read, one after another in one haystack: as it stands, with the punctuation
//! inside words taken out, with digits and signs for letters, and with single letters put together.
//!
//! Words end at a space in every view. A view is only added where it reads otherwise than the first, and only of rows of
//! up to [`LONGEST`] characters, which hold every word of a list; so a haystack is a small multiple of its text.

use std::ops::Range;

use super::normalise::{Normal, Unit};

/// The most characters between two spaces that are read in more than one way.
const LONGEST: usize = 96;

/// One character of the haystack: how often it stood there, and where it comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    /// Where it is in the haystack, in bytes.
    pub at: u32,
    /// How often it stood in a row.
    pub run: u16,
    /// Where in the original it begins, in bytes.
    pub start: u32,
    /// Where in the original it ends, in bytes.
    pub end: u32,
}

/// What is searched for words.
#[derive(Debug)]
pub(super) struct Haystack {
    pub text: String,
    pub marks: Vec<Mark>,
    /// From here on are single letters put together, in bytes.
    pub single_from: usize,
    last: char,
}

/// How one view reads signs.
#[derive(Clone, Copy)]
struct View {
    /// Punctuation inside words is taken out; otherwise words end there.
    joined: bool,
    /// Digits and signs are letters.
    leet: bool,
    /// What is neither `i` nor `l` for sure is `l`.
    as_l: bool,
}

impl Haystack {
    pub fn new(normal: &Normal) -> Self {
        let units = normal.units();
        let room = units.len() + 16;
        let mut hay =
            Self { text: String::with_capacity(room), marks: Vec::with_capacity(room), single_from: 0, last: ' ' };
        hay.read(units, View { joined: false, leet: false, as_l: false });
        let mut rows = Rows::default();
        let mut whole = Shape::default();
        let mut from = 0;
        for chunk in units.split(|unit| unit.ch == ' ') {
            let range = from..from + chunk.len();
            from = range.end + 1;
            let shape = Shape::of(chunk);
            if shape.is_read_otherwise(chunk) {
                hay.join(chunk, &shape);
                whole.leet += shape.leet;
                whole.is_ambiguous |= shape.is_ambiguous;
            }
            rows.add(range, &shape);
        }
        if whole.leet > 0 {
            hay.read_leet(units, false);
            if whole.is_ambiguous {
                hay.read_leet(units, true);
            }
        }
        rows.end();
        hay.single_from = hay.text.len();
        for row in rows.found {
            let row = units.get(row).unwrap_or_default();
            hay.read(row, View { joined: true, leet: true, as_l: false });
            if row.iter().any(|unit| is_ambiguous(unit.ch)) {
                hay.read(row, View { joined: true, leet: true, as_l: true });
            }
        }
        hay
    }

    /// Adds the views of a row in which punctuation is taken out.
    fn join(&mut self, chunk: &[Unit], shape: &Shape) {
        if !shape.is_cut {
            return;
        }
        if shape.letters > 1 {
            self.read(chunk, View { joined: true, leet: false, as_l: false });
        }
        if shape.leet > 0 {
            self.read(chunk, View { joined: true, leet: true, as_l: false });
        }
        if shape.is_ambiguous {
            self.read(chunk, View { joined: true, leet: true, as_l: true });
        }
    }

    /// Adds the whole text with digits and signs for letters, so that phrases are found too. Numbers stay numbers.
    fn read_leet(&mut self, units: &[Unit], as_l: bool) {
        for chunk in units.split(|unit| unit.ch == ' ') {
            let leet = Shape::of(chunk).is_read_otherwise(chunk);
            self.read(chunk, View { joined: false, leet, as_l });
        }
    }

    /// Adds one view of some units, with a space at its end.
    fn read(&mut self, units: &[Unit], view: View) {
        // A sign in the place of a letter, if a letter follows.
        let mut hidden: Option<&Unit> = None;
        for (at, unit) in units.iter().enumerate() {
            let letter = if unit.is_letter {
                Some(unit.ch)
            } else if view.leet {
                leet(units, at, view.as_l)
            } else {
                None
            };
            if let Some(letter) = letter {
                if let Some(hidden) = hidden.take() {
                    self.push('*', hidden);
                }
                self.push(letter, unit);
            } else if matches!(unit.ch, '*' | '#') && !view.joined && self.last != ' ' {
                hidden = hidden.or(Some(unit));
            } else if !view.joined {
                hidden = None;
                self.push(' ', unit);
            }
        }
        if let Some(last) = units.last() {
            self.push(' ', last);
        }
    }

    fn push(&mut self, ch: char, unit: &Unit) {
        if self.last == ch {
            if ch != ' '
                && let Some(mark) = self.marks.last_mut()
            {
                mark.run = mark.run.saturating_add(unit.run);
                mark.end = unit.end;
            }
            return;
        }
        self.marks.push(Mark { at: self.text.len() as u32, run: unit.run, start: unit.start, end: unit.end });
        self.text.push(ch);
        self.last = ch;
    }
}

/// Rows of single letters across spaces, as ranges of units.
#[derive(Default)]
struct Rows {
    found: Vec<Range<usize>>,
    row: Option<Range<usize>>,
    letters: usize,
    signs: usize,
}

impl Rows {
    fn add(&mut self, range: Range<usize>, shape: &Shape) {
        if !shape.is_single {
            return self.end();
        }
        self.letters += shape.letters;
        self.signs += shape.leet;
        self.row = Some(self.row.take().map_or(range.start, |row| row.start)..range.end);
    }

    fn end(&mut self) {
        if let Some(row) = self.row.take()
            && self.letters > 0
            && self.letters + self.signs > 1
        {
            self.found.push(row);
        }
        (self.letters, self.signs) = (0, 0);
    }
}

/// What is in a row of units without a space.
#[derive(Debug, Default)]
struct Shape {
    letters: usize,
    /// Digits and signs that may stand for letters.
    leet: usize,
    /// One of them may be an `i` or an `l`.
    is_ambiguous: bool,
    /// There is punctuation between letters.
    is_cut: bool,
    /// No two letters or digits stand together.
    is_single: bool,
}

impl Shape {
    /// Says whether there is more than one way to read a row, and none is a number.
    fn is_read_otherwise(&self, chunk: &[Unit]) -> bool {
        chunk.len() <= LONGEST && self.letters > 0 && (self.leet > 0 || self.is_cut)
    }

    fn of(chunk: &[Unit]) -> Self {
        let mut shape = Self { is_single: true, ..Self::default() };
        let (mut before, mut punctuation) = (false, false);
        for (at, unit) in chunk.iter().enumerate() {
            let letter = unit.is_letter;
            let sign = !letter && leet(chunk, at, false).is_some();
            shape.letters += usize::from(letter);
            shape.leet += usize::from(sign);
            shape.is_ambiguous |= sign && is_ambiguous(unit.ch);
            let is_word = letter || sign;
            shape.is_single &= !(is_word && before);
            shape.is_cut |= is_word && punctuation;
            // An apostrophe is spelling: "who're" is not cut.
            punctuation = !is_word && (punctuation || before && unit.ch != '\'');
            before = is_word;
        }
        shape
    }
}

/// The letter that a digit or sign stands for at its place.
fn leet(units: &[Unit], at: usize, as_l: bool) -> Option<char> {
    let ch = units.get(at)?.ch;
    let letter = match ch {
        '0' => 'o',
        '1' | '!' | '|' => {
            if as_l {
                'l'
            } else {
                'i'
            }
        }
        '3' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '6' | '9' => 'g',
        '7' | '+' => 't',
        '8' => 'b',
        '(' | '<' => 'c',
        _ => return None,
    };
    let is_word = |unit: &Unit| unit.is_letter || unit.ch.is_ascii_digit() || matches!(unit.ch, '$' | '@' | '!' | '|');
    let follows = || units.get(at + 1).is_some_and(is_word);
    let precedes = || at.checked_sub(1).and_then(|at| units.get(at)).is_some_and(is_word);
    let fits = match ch {
        '!' | '|' | '+' => follows(),
        '(' | '<' => follows() && precedes(),
        _ => true,
    };
    fits.then_some(letter)
}

fn is_ambiguous(ch: char) -> bool {
    matches!(ch, '1' | '!' | '|')
}

#[cfg(test)]
mod tests {
    use super::super::normalise::normalise;
    use super::*;

    fn read(text: &str) -> String {
        Haystack::new(&normalise(text)).text
    }

    #[test]
    fn a_plain_text_is_read_once() {
        assert_eq!(read("Hello, nice world"), "helo nice world ");
    }

    #[test]
    fn other_views_follow_the_first() {
        assert_eq!(read("f.u.c.k"), "f u c k fuck fuck ");
        assert_eq!(read("sh1t"), "sh t shit shlt ");
        assert_eq!(read("a f u c k"), "a f u c k afuck ");
        assert_eq!(read("f*ck f**k *f*"), "f*ck f*k f fck fk fkf ");
        assert_eq!(read("a$$ 100$"), "a as ");
        assert_eq!(read("stop! it costs 5"), "stop it costs ");
    }
}
