//! Links as people write them. Finds; judges nothing.

use url::Host;

/// A link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its host in lower case, as punycode where it is not ASCII. Empty when there is none that could be.
    pub host: String,
}

/// Endings of bare names that people write as links. A name with a path or a scheme is a link whatever its ending.
const ENDINGS: &[&str] = &[
    "com", "net", "org", "io", "co", "ai", "app", "dev", "xyz", "info", "biz", "me", "ru", "cn", "de", "uk", "eu",
    "us", "gg", "ly", "to", "tv", "shop", "site", "online", "top", "link", "click",
];

/// Says whether a text holds a link: with a scheme, with `www.`, or as a bare name with a known ending or a path.
#[must_use]
pub fn has_link(text: &str) -> bool {
    words(text).any(|word| link(word).is_some())
}

/// The links of a text, in order.
#[must_use]
pub fn links(text: &str) -> Vec<Link> {
    words(text).filter_map(link).collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | '<' | '>' | '[' | ']' | '"' | ',' | ';'))
}

fn link(word: &str) -> Option<Link> {
    let word = word.to_lowercase();
    let (scheme, rest) = word.split_once("://").map_or((None, word.as_str()), |(scheme, rest)| (Some(scheme), rest));
    if scheme.is_some_and(str::is_empty) || rest.is_empty() {
        return None;
    }
    let (host, has_path) = match rest.split_once('/') {
        Some((host, _)) => (host, true),
        None => (rest.trim_end_matches(['.', '!', '?', ':']), false),
    };
    let host = host.split(':').next().unwrap_or_default();
    let named = scheme.is_some() || host.strip_prefix("www.").is_some_and(|rest| rest.contains('.'));
    if !named && !is_bare(host, has_path) {
        return None;
    }
    let host = Host::parse(host).map(|host| host.to_string()).unwrap_or_default();
    Some(Link { host })
}

fn is_bare(host: &str, has_path: bool) -> bool {
    let Some((name, ending)) = host.rsplit_once('.') else { return false };
    let labels =
        name.split('.').all(|label| !label.is_empty() && label.chars().all(|c| c.is_alphanumeric() || c == '-'));
    labels && ending.len() >= 2 && ending.chars().all(char::is_alphabetic) && (has_path || ENDINGS.contains(&ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_as_people_write_them() {
        for text in [
            "see https://example.test",
            "HTTP://X.Y",
            "(www.example.test)",
            "go to Example.com!",
            "a bit.ly/x",
            "x.y.dev",
        ] {
            assert!(has_link(text), "{text}");
        }
    }

    #[test]
    fn ordinary_text_is_no_link() {
        for text in
            ["hello. world", "e.g. this", "3.14", "a/b", "node.js", "and/or", "wait...what", "www.", "://", "v1.2.3"]
        {
            assert!(!has_link(text), "{text}");
        }
    }
}
