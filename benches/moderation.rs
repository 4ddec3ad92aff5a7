//! What the first layer of moderation costs: typical messages, growing texts, and texts made to cost much.
//!
//! `cargo bench --bench moderation`. One text after another on one thread, with the lists that are shipped.

use std::hint::black_box;
use std::io::Write;
use std::time::{Duration, Instant};

use community_gateway::moderation::{Lists, Patterns, Rules, Text};

type Error = Box<dyn std::error::Error>;

/// How long one line of the table is measured.
const ENOUGH: Duration = Duration::from_millis(250);
/// The longest text that may be sent, in characters.
const LONGEST: usize = 4_000;

fn main() -> Result<(), Error> {
    // `cargo bench` says so; `cargo test --all-targets` only wants to know that it runs.
    let enough = if std::env::args().any(|arg| arg == "--bench") { ENOUGH } else { Duration::ZERO };
    let patterns = Patterns::new(Lists::builtin(), Rules::default());
    let mut out = std::io::stdout().lock();
    writeln!(out, "{:<26} {:>8} {:>8} {:>12} {:>10}", "text", "chars", "bytes", "µs/check", "ns/char")?;
    for (name, text) in typical().into_iter().chain(growing()).chain(hostile()) {
        let each = measure(&patterns, &text, enough);
        let chars = text.chars().count();
        writeln!(out, "{name:<26} {chars:>8} {:>8} {each:>12.2} {:>10.1}", text.len(), each * 1e3 / chars as f64)?;
    }
    let started = Instant::now();
    black_box(Patterns::new(Lists::builtin(), Rules::default()));
    writeln!(out, "building from the shipped lists: {:.1} ms", started.elapsed().as_secs_f64() * 1e3)?;
    Ok(())
}

/// The fastest of many batches, in microseconds a check: what else runs on the machine can only slow a batch down.
fn measure(patterns: &Patterns, text: &str, enough: Duration) -> f64 {
    let checks = (5_000 / (text.len() + 1)).clamp(1, 50) as u32;
    let started = Instant::now();
    let mut fastest = Duration::MAX;
    while fastest == Duration::MAX || started.elapsed() < enough {
        let batch = Instant::now();
        for _ in 0..checks {
            black_box(patterns.check(&Text { text: black_box(text), author_is_new: false }));
        }
        fastest = fastest.min(batch.elapsed());
    }
    fastest.as_secs_f64() * 1e6 / f64::from(checks)
}

fn typical() -> Vec<(&'static str, String)> {
    [
        ("short", "ok, see you at 8!"),
        (
            "english",
            "Has anybody tried the new release? I get an error when I open the second tab, it worked last week.",
        ),
        ("russian", "Кто-нибудь уже пробовал новую версию? У меня ошибка, когда я открываю вторую вкладку."),
        ("hindi", "क्या किसी ने नया संस्करण आज़माया है? दूसरा टैब खोलने पर मुझे त्रुटि मिलती है।"),
        ("chinese", "有人试过新版本吗？我打开第二个标签页的时候出错了，上周还可以用。"),
        ("link", "the docs are at https://docs.python.org/3/library/asyncio.html#module-asyncio, read them first"),
        ("evasion", "you are such a f.u.c.k.i.n.g 1d10t and a w-h-0-r-e"),
    ]
    .map(|(name, text)| (name, text.to_owned()))
    .into()
}

fn growing() -> Vec<(&'static str, String)> {
    let line = "Has anybody tried the new release? I get an error when I open it, and it's fine on 2 others. ";
    [100, 300, 1_000, LONGEST].map(|chars| ("prose", repeat(line, chars))).into()
}

fn hostile() -> Vec<(&'static str, String)> {
    [
        ("one letter", "a"),
        ("listed words", "ass "),
        ("beginnings of words", "motherfuc "),
        ("nested words", "assassass"),
        ("single letters", "f u c "),
        ("single letters, cut", "f.u.c."),
        ("digits for letters", "a1.s5!"),
        ("digits, ideographs", "中1.文"),
        ("digits, armenian", "ե1.ն"),
        ("signs", "*#*#"),
        ("hidden letters", "f*u*c*"),
        ("marks", "e\u{301}\u{302}\u{303}\u{304}"),
        ("invisible", "a\u{200b}\u{ad}"),
        ("ligatures", "ﬃﷺ㌔"),
        ("korean letters", "\u{1112}\u{1161}\u{11ab}"),
        ("mathematics", "𝕗𝕦𝕔𝕜𝟙 "),
        ("ideographs", "操傻妈的死"),
        ("links", "a.co "),
        ("foreign links", "пр.рф "),
        ("dots", "...."),
        ("brackets", "a[.]"),
        ("mentions", "@a @b "),
        ("emoji", "😂👩‍👩‍👧‍👦"),
        ("lines", "one same line\n"),
        ("capitals", "SHOUT AT ALL "),
    ]
    .map(|(name, part)| (name, repeat(part, LONGEST)))
    .into()
}

fn repeat(part: &str, chars: usize) -> String {
    part.chars().cycle().take(chars).collect()
}
