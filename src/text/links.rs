//! Links as people write them: with and without a scheme, `hxxp`, `[.]`, other alphabets, punycode, with punctuation behind
//! them and invisible characters inside. Finds; judges nothing. Linear in the text.

use std::borrow::Cow;

use url::{Host, quirks};

use super::endings::{ENDINGS, FILES};
use super::fold::is_invisible;

/// The most links that are looked for in one text: more than any rule lets pass.
pub const MOST: usize = 50;

/// A link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its host in lower case, as punycode where it is not ASCII. Empty when there is none that could be.
    pub host: String,
}

impl Link {
    /// Its host as a browser shows it.
    #[must_use]
    pub fn shown_host(&self) -> Cow<'_, str> {
        if self.host.contains("xn--") {
            quirks::domain_to_unicode(&self.host).into()
        } else {
            self.host.as_str().into()
        }
    }
}

/// Schemes that lead to a page, `hxxp` and its like among them.
const WEB: &[&str] =
    &["http", "https", "hxxp", "hxxps", "htp", "htps", "ttp", "ttps", "hxtp", "h**p", "h**ps", "ftp", "fxp"];

/// Says whether a text holds a link: with a scheme, with `www.`, as a bare name with a known ending or a path, or as the
/// address of a machine with a port or a path.
#[must_use]
pub fn has_link(text: &str) -> bool {
    find(text, 1, |_| ()).count > 0
}

/// The links of a text, in order; at most [`MOST`].
#[must_use]
pub fn links(text: &str) -> Vec<Link> {
    let mut links = Vec::new();
    find(text, MOST, |host| links.push(Link { host: normal_host(host) }));
    links
}

struct Found {
    count: usize,
}

/// Calls `found` with the host of each link, as it was written, but in lower case.
fn find(text: &str, most: usize, mut found: impl FnMut(&str)) -> Found {
    let mut count = 0;
    // Nothing is a link without a dot or a scheme, and most texts have neither inside a word.
    if !may_hold_link(text) {
        return Found { count };
    }
    let readable = readable(text);
    for word in readable.split(is_gap).filter(|word| word.len() > 3) {
        if count == most {
            break;
        }
        if let Some(host) = host(word) {
            found(host);
            count += 1;
        }
    }
    Found { count }
}

fn may_hold_link(text: &str) -> bool {
    // The dots and colons that `readable` makes ASCII's: `․`, `。`, `．`, `：`, `｡`.
    let is_foreign = |three: &[u8]| {
        matches!(three, [0xe2, 0x80, 0xa4] | [0xe3, 0x80, 0x82] | [0xef, 0xbc, 0x8e | 0x9a] | [0xef, 0xbd, 0xa1])
    };
    let bytes = text.as_bytes();
    bytes.windows(2).any(|pair| matches!(pair[0], b'.' | b':') && !pair[1].is_ascii_whitespace())
        || !text.is_ascii() && bytes.windows(3).any(is_foreign)
        || bytes.windows(4).any(|four| matches!(four[3], b')' | b']' | b'}') && four[..3].eq_ignore_ascii_case(b"dot"))
}

fn is_gap(c: char) -> bool {
    c.is_whitespace()
        || matches!(
            c,
            '(' | ')'
                | '<'
                | '>'
                | '['
                | ']'
                | '{'
                | '}'
                | '"'
                | ','
                | ';'
                | '|'
                | '`'
                | '“'
                | '”'
                | '„'
                | '«'
                | '»'
                | '，'
                | '、'
                | '；'
                | '（'
                | '）'
                | '【'
                | '】'
                | '「'
                | '」'
                | '！'
                | '？'
        )
}

/// The text in lower case, without what cannot be seen, with every kind of dot and letter that a browser takes for ASCII,
/// and with the dots that people put into brackets.
fn readable(text: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii() && !byte.is_ascii_uppercase() && !matches!(byte, b'[' | b'(' | b'{');
    if text.bytes().all(plain) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            'A'..='Z' => out.push(c.to_ascii_lowercase()),
            '\0'..='\u{7f}' | 'а'..='я' | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}' => out.push(c),
            c if is_invisible(c) => {}
            '。' | '．' | '｡' | '․' => out.push('.'),
            // Full-width forms of ASCII.
            '\u{ff01}'..='\u{ff5e}' => {
                let ascii = char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c);
                if matches!(ascii, '!' | '?' | ',' | ';' | '(' | ')') {
                    out.push(c)
                } else {
                    out.extend(ascii.to_lowercase())
                }
            }
            // Letters in circles and of mathematics; letters with marks are other letters here.
            '\u{2460}'..='\u{24ff}' | '\u{1d400}'..='\u{1d7ff}' | '\u{1f100}'..='\u{1f1ff}' => {
                super::fold(c, |c| out.push(c));
            }
            c => out.extend(c.to_lowercase()),
        }
    }
    let dotted = ["[.]", "(.)", "{.}", "[dot]", "(dot)", "{dot}"].iter().fold(out, |out, dot| {
        if !out.contains(dot) {
            return out;
        }
        let around = [format!(" {dot} "), format!("{dot} "), format!(" {dot}"), (*dot).to_owned()];
        around.iter().fold(out, |out, form| out.replace(form, "."))
    });
    dotted.into()
}

/// The host that a word leads to.
fn host(word: &str) -> Option<&str> {
    if let Some(rest) = after_scheme(word) {
        let host = authority(rest).trim_end_matches(['.', '!', '?', '\'', '*', '_', ':', '…']);
        return (!host.is_empty()).then_some(host);
    }
    let word = word.trim_start_matches(|c: char| !c.is_alphanumeric());
    let (written, has_path) = match word.find(['/', '?', '#', '\\']) {
        Some(at) => (&word[..at], word[at + 1..].chars().any(char::is_alphanumeric)),
        None => (word, false),
    };
    let written = written.trim_end_matches(|c: char| !c.is_alphanumeric());
    // `me@example.com` is where somebody is written to; with a path it leads somewhere.
    if written.contains('@') && !has_path {
        return None;
    }
    let written = written.rsplit('@').next().unwrap_or_default();
    let (host, has_port) = match written.split_once(':') {
        // `look:example.com`
        Some((before, host)) if !before.contains('.') => (host, false),
        Some((host, port)) => (host, !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())),
        None => (written, false),
    };
    is_bare(host, has_path, has_port).then_some(host)
}

/// What follows `scheme://`, or the `https:` that browsers take for it.
fn after_scheme(word: &str) -> Option<&str> {
    let at = word.find("://").or_else(|| word.find(':'))?;
    let (before, rest) = (&word[..at], &word[at + 1..]);
    let scheme =
        before.rsplit(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '*' | '+')).next().unwrap_or_default();
    let slashes = rest.len() - rest.trim_start_matches(['/', '\\']).len();
    let rest = &rest[slashes..];
    let leads = slashes >= 2 && !scheme.is_empty() || WEB.contains(&scheme) && rest.contains('.');
    (leads && rest.chars().next().is_some_and(|c| c.is_alphanumeric() || c == '[')).then_some(rest)
}

/// The host of what follows a scheme: no name, no password, no port, no path.
fn authority(rest: &str) -> &str {
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    host.split(':').next().unwrap_or_default()
}

fn is_bare(host: &str, has_path: bool, has_port: bool) -> bool {
    let Some((name, ending)) = host.rsplit_once('.') else { return false };
    let is_label = |label: &str| {
        let fits = |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        (1..=63).contains(&label.chars().count()) && label.chars().all(fits)
    };
    if host.len() > 253 || !name.split('.').all(is_label) {
        return false;
    }
    if ending.bytes().all(|byte| byte.is_ascii_digit()) {
        let numbers = host.split('.').filter(|part| part.parse::<u8>().is_ok()).count();
        return numbers == 4 && host.split('.').count() == 4 && (has_path || has_port);
    }
    // A last label is written in one script, in letters, and not in capitals in mid-word.
    let is_ending =
        ending.chars().count() >= 2 && ending.chars().all(char::is_alphabetic) || ending.starts_with("xn--");
    if !is_ending || !name.chars().any(char::is_alphanumeric) {
        return false;
    }
    let known = ENDINGS.contains(ending) || ending.starts_with("xn--");
    let is_www = name.starts_with("www.") || name == "www";
    let is_file = FILES.contains(ending);
    (known && (!is_file || has_path || has_port))
        || (is_www && name != "www")
        || (!is_file && ending.is_ascii() && (has_path || has_port))
}

/// A host as lists write it.
fn normal_host(host: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    if host.bytes().all(plain) && !host.contains("xn--") {
        return host.trim_end_matches('.').to_owned();
    }
    Host::parse(host).map(|host| host.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(text: &str) -> Vec<String> {
        links(text).into_iter().map(|link| link.host).collect()
    }

    #[test]
    fn links_are_found_as_people_write_them() {
        for text in [
            "see https://example.test",
            "HTTP://X.Y",
            "(www.example.test)",
            "go to Example.com!",
            "a bit.ly/x",
            "x.y.dev",
            "hxxps://bad.example/a",
            "https:\\\\example.com",
            "https:example.com",
            "example[.]com",
            "example (dot) com",
            "ex\u{200b}ample.c\u{ad}om",
            "ｅｘａｍｐｌｅ．ｃｏｍ",
            "пример.рф",
            "例子.中国",
            "xn--e1afmkfd.xn--p1ai",
            "[text](https://example.com/a_(b))",
            "**example.com**",
            "1.2.3.4:8080",
            "10.0.0.1/admin",
            "someone@evil.example/path",
            "link:https://example.com",
            "example.com?q=1",
            "'example.org'",
            "see example.net.",
            "tg://join",
        ] {
            assert!(has_link(text), "{text}");
        }
    }

    #[test]
    fn ordinary_text_is_no_link() {
        for text in [
            "hello. world",
            "e.g. this",
            "3.14",
            "a/b",
            "node.js",
            "and/or",
            "wait...what",
            "www.",
            "://",
            "v1.2.3",
            "me@example.com",
            "main.rs and build.sh",
            "src/main.rs",
            "1.2.3.4",
            "Привет.как дела",
            "12:30",
            "note: this",
            "std::io::Read",
            "foo.bar",
            "你好。世界",
            "10.000,00",
            "a.m./p.m.",
            "http is a protocol",
        ] {
            assert!(!has_link(text), "{text}");
        }
    }

    #[test]
    fn hosts_are_as_lists_write_them() {
        assert_eq!(hosts("https://user:pass@Example.COM:8443/a?b#c, b.org."), ["example.com", "b.org"]);
        assert_eq!(hosts("https://пример.рф/x"), ["xn--e1afmkfd.xn--p1ai"]);
        assert_eq!(links("https://пример.рф/x")[0].shown_host(), "пример.рф");
        assert_eq!(hosts("https://good.example@evil.example/"), ["evil.example"]);
        assert_eq!(hosts("ex\u{200d}ample.com и example。com"), ["example.com", "example.com"]);
        assert_eq!(links(&"a.co ".repeat(300)).len(), MOST);
    }
}
