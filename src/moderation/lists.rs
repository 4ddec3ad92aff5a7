//! The lists: words with their severity, innocent words, domains. Files are read whole and checked; never half of them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use thiserror::Error;
use url::Host;

use super::normalise;

/// The files of a folder of lists, each with what is shipped.
const WORDS: (&str, &str) = ("words.txt", include_str!("../../deploy/moderation/words.txt"));
const INNOCENT: (&str, &str) = ("innocent.txt", include_str!("../../deploy/moderation/innocent.txt"));
const ALLOWED: (&str, &str) = ("links-allow.txt", include_str!("../../deploy/moderation/links-allow.txt"));
const DENIED: (&str, &str) = ("links-deny.txt", include_str!("../../deploy/moderation/links-deny.txt"));

/// The largest file, in bytes.
const MOST_BYTES: u64 = 4 << 20;
/// The most entries of one file.
const MOST_ENTRIES: usize = 50_000;
/// The most characters of a word.
const LONGEST: usize = 64;
/// The most problems that one error tells.
const MOST_TOLD: usize = 10;

/// Why lists cannot be used. All problems at once, each with its file and line.
#[derive(Debug, Error)]
#[error("{}", .0.join("; "))]
pub struct ListError(Vec<String>);

/// What happens to a text with such a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Posted, and queued for a human.
    Flag,
    /// Stored hidden, and queued for a human.
    Block,
}

/// A word or phrase of a list, normalised.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Word {
    /// Normalised, words of a phrase with one space between them.
    pub text: String,
    /// A word may go on before it.
    pub open_before: bool,
    /// A word may go on after it.
    pub open_after: bool,
}

/// Domains, each alone or with all its subdomains.
#[derive(Clone, Debug, Default)]
pub struct Domains {
    exact: HashSet<String>,
    parents: HashSet<String>,
}

impl Domains {
    /// Says whether a host (lower case, punycode) is listed. `www.` before a listed domain is that domain.
    #[must_use]
    pub fn contains(&self, host: &str) -> bool {
        let plain = host.strip_prefix("www.").unwrap_or(host);
        self.exact.contains(plain)
            || self.exact.contains(host)
            || plain.match_indices('.').any(|(at, _)| self.parents.contains(&plain[at + 1..]))
    }

    /// Says whether nothing is listed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.parents.is_empty()
    }

    /// Every listed domain, without `*.`.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.exact.iter().chain(&self.parents).map(String::as_str)
    }
}

/// All lists, whole and checked.
#[derive(Clone, Debug)]
pub struct Lists {
    words: Vec<(Word, Severity)>,
    innocent: Vec<Word>,
    allowed: Domains,
    denied: Domains,
    version: String,
}

impl Lists {
    /// The lists that are shipped.
    ///
    /// # Panics
    /// Never: a test reads them.
    #[must_use]
    pub fn builtin() -> Self {
        let files = [WORDS, INNOCENT, ALLOWED, DENIED].map(|(name, text)| (PathBuf::from(name), text.to_owned()));
        Self::parse(&files).unwrap_or_else(|error| unreachable!("the shipped lists: {error}"))
    }

    /// Reads the lists of a folder: `words.txt`, `innocent.txt`, `links-allow.txt` and `links-deny.txt`, all of them.
    /// Reads files, so not for a thread that must not block.
    ///
    /// # Errors
    /// Everything that is wrong with them, by file and line. A `.txt` of another name is wrong too: it would be ignored.
    pub fn load(folder: &Path) -> Result<Self, ListError> {
        let mut problems = stray(folder);
        let files = [WORDS, INNOCENT, ALLOWED, DENIED].map(|(name, _)| {
            let path = folder.join(name);
            let text = read(&path).unwrap_or_else(|why| {
                problems.push(format!("{}: {why}", path.display()));
                String::new()
            });
            (path, text)
        });
        if !problems.is_empty() {
            return Err(ListError(problems));
        }
        Self::parse(&files)
    }

    fn parse(files: &[(PathBuf, String); 4]) -> Result<Self, ListError> {
        let [words, innocent, allowed, denied] = files;
        let mut problems = Problems(Vec::new());
        let lists = Self {
            words: parse_words(words, &mut problems),
            innocent: parse_innocent(innocent, &mut problems),
            allowed: parse_domains(allowed, &mut problems),
            denied: parse_domains(denied, &mut problems),
            version: version(files),
        };
        let listed: HashSet<&Word> = lists.words.iter().map(|(word, _)| word).collect();
        for word in lists.innocent.iter().filter(|word| listed.contains(word)) {
            problems.0.push(format!("{}: `{}` is also in {}", innocent.0.display(), word.text, words.0.display()));
        }
        for domain in lists.denied.exact.intersection(&lists.allowed.exact) {
            problems.0.push(format!("{}: `{domain}` is also in {}", denied.0.display(), allowed.0.display()));
        }
        problems.into_result(lists)
    }

    /// The words, in the order of the file.
    #[must_use]
    pub fn words(&self) -> &[(Word, Severity)] {
        &self.words
    }

    /// Words that are never found, whatever they contain.
    #[must_use]
    pub fn innocent(&self) -> &[Word] {
        &self.innocent
    }

    /// Domains that may be linked.
    #[must_use]
    pub fn allowed(&self) -> &Domains {
        &self.allowed
    }

    /// Domains that may not.
    #[must_use]
    pub fn denied(&self) -> &Domains {
        &self.denied
    }

    /// Eight hexadecimal digits that change when an entry does. For a metric.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }
}

/// `.txt` files that nobody would read.
fn stray(folder: &Path) -> Vec<String> {
    let known = [WORDS.0, INNOCENT.0, ALLOWED.0, DENIED.0];
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return vec![format!("{}: {error}", folder.display())],
    };
    let names = entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.ends_with(".txt") && !known.contains(&name)
    });
    let mut problems: Vec<_> =
        names.map(|path| format!("{}: is none of {}", path.display(), known.join(", "))).collect();
    problems.sort();
    problems
}

fn read(path: &Path) -> Result<String, String> {
    let bytes = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if bytes > MOST_BYTES {
        return Err(format!("has {bytes} bytes, the most is {MOST_BYTES}"));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

struct Problems(Vec<String>);

impl Problems {
    fn add(&mut self, file: &Path, line: usize, what: impl std::fmt::Display) {
        self.0.push(format!("{}:{line}: {what}", file.display()));
    }

    fn into_result<T>(mut self, value: T) -> Result<T, ListError> {
        if self.0.is_empty() {
            return Ok(value);
        }
        let more = self.0.len().saturating_sub(MOST_TOLD);
        self.0.truncate(MOST_TOLD);
        if more > 0 {
            self.0.push(format!("and {more} more"));
        }
        Err(ListError(self.0))
    }
}

/// The entries of a file with their line numbers: no comments, no empty lines, not too many.
fn entries<'f>((file, text): &'f (PathBuf, String), problems: &mut Problems) -> Vec<(usize, &'f str)> {
    let lines = text.strip_prefix('\u{feff}').unwrap_or(text).lines();
    let numbered = lines.enumerate().map(|(at, line)| (at + 1, line.split('#').next().unwrap_or_default().trim()));
    let mut entries: Vec<_> = numbered.filter(|(_, entry)| !entry.is_empty()).collect();
    if let Some((line, _)) = entries.get(MOST_ENTRIES) {
        problems.add(file, *line, format_args!("more than {MOST_ENTRIES} entries"));
        entries.truncate(MOST_ENTRIES);
    }
    entries
}

fn parse_words(file: &(PathBuf, String), problems: &mut Problems) -> Vec<(Word, Severity)> {
    let mut words: Vec<(Word, Severity)> = Vec::new();
    let mut seen: BTreeMap<Word, usize> = BTreeMap::new();
    for (line, entry) in entries(file, problems) {
        let (severity, rest) = entry.split_once(char::is_whitespace).unwrap_or((entry, ""));
        let severity = match severity {
            "block" => Severity::Block,
            "flag" => Severity::Flag,
            other => {
                problems.add(&file.0, line, format_args!("`{other}` is neither `block` nor `flag`"));
                continue;
            }
        };
        match parse_word(rest) {
            Err(why) => problems.add(&file.0, line, why),
            Ok(word) => match seen.insert(word.clone(), line) {
                Some(before) => problems.add(&file.0, line, format_args!("the same word as line {before}")),
                None => words.push((word, severity)),
            },
        }
    }
    words
}

fn parse_innocent(file: &(PathBuf, String), problems: &mut Problems) -> Vec<Word> {
    let mut words = HashMap::new();
    for (line, entry) in entries(file, problems) {
        match parse_word(entry) {
            Err(why) => problems.add(&file.0, line, why),
            Ok(word) => {
                if let Some(before) = words.insert(word, line) {
                    problems.add(&file.0, line, format_args!("the same word as line {before}"));
                }
            }
        }
    }
    let mut words: Vec<_> = words.into_keys().collect();
    words.sort();
    words
}

/// Reads `word`, `word*`, `*word` or `*word*`, or a phrase.
fn parse_word(entry: &str) -> Result<Word, String> {
    let entry = entry.trim();
    let (open_before, rest) = entry.strip_prefix('*').map_or((false, entry), |rest| (true, rest));
    let (open_after, rest) = rest.strip_suffix('*').map_or((false, rest), |rest| (true, rest));
    if rest.contains('*') {
        return Err("`*` may only begin or end a word".to_owned());
    }
    let text = normalise::entry(rest);
    let letters = text.chars().filter(|c| *c != ' ').count();
    if text.chars().any(|c| !c.is_alphanumeric() && c != ' ' && !normalise::is_mark(c)) {
        return Err(format!("`{rest}` is not made of letters"));
    }
    match letters {
        0 => Err("a word is missing".to_owned()),
        1 => Err(format!("`{rest}` is too short")),
        n if n > LONGEST => Err(format!("is longer than {LONGEST} letters")),
        _ => Ok(Word { text, open_before, open_after }),
    }
}

fn parse_domains(file: &(PathBuf, String), problems: &mut Problems) -> Domains {
    let mut domains = Domains::default();
    for (line, entry) in entries(file, problems) {
        let (set, name) = match entry.strip_prefix("*.") {
            Some(name) => (&mut domains.parents, name),
            None => (&mut domains.exact, entry),
        };
        let host = match Host::parse(name) {
            Ok(Host::Domain(host)) if host.contains('.') && !host.ends_with('.') && !name.contains('*') => host,
            _ => {
                problems.add(
                    &file.0,
                    line,
                    format_args!("`{entry}` is no domain: write `example.com` or `*.example.com`"),
                );
                continue;
            }
        };
        if !set.insert(host) {
            problems.add(&file.0, line, format_args!("`{entry}` is there already"));
        }
    }
    domains
}

/// FNV-1a over the entries, comments left out.
fn version(files: &[(PathBuf, String); 4]) -> String {
    let mut hash = normalise::Fnv::default();
    for file in files {
        for (_, entry) in entries(file, &mut Problems(Vec::new())) {
            hash.write(entry.as_bytes());
            hash.write(b"\n");
        }
        hash.write(b"\0");
    }
    format!("{:08x}", (hash.finish() >> 32) as u32 ^ hash.finish() as u32)
}
