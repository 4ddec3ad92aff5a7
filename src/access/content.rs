//! What a text holds that not everybody may post. Pure.

/// Endings of bare names that people write as links. A name with a path or a scheme is a link whatever its ending.
const ENDINGS: &[&str] = &[
    "com", "net", "org", "io", "co", "ai", "app", "dev", "xyz", "info", "biz", "me", "ru", "cn", "de", "uk", "eu",
    "us", "gg", "ly", "to", "tv", "shop", "site", "online", "top", "link", "click",
];

/// Says whether a text holds a link: with a scheme, with `www.`, or as a bare name with a known ending or a path.
#[must_use]
pub fn has_link(text: &str) -> bool {
    text.split(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | '<' | '>' | '[' | ']' | '"' | ',' | ';'))
        .any(is_link)
}

fn is_link(word: &str) -> bool {
    let word = word.to_lowercase();
    if let Some((scheme, rest)) = word.split_once("://") {
        return !scheme.is_empty() && !rest.is_empty();
    }
    if word.strip_prefix("www.").is_some_and(|rest| rest.contains('.')) {
        return true;
    }
    let (host, has_path) = match word.split_once('/') {
        Some((host, _)) => (host, true),
        None => (word.as_str().trim_end_matches(['.', '!', '?', ':']), false),
    };
    let host = host.split(':').next().unwrap_or_default();
    let Some((name, ending)) = host.rsplit_once('.') else { return false };
    let labels =
        name.split('.').all(|label| !label.is_empty() && label.chars().all(|c| c.is_alphanumeric() || c == '-'));
    labels && ending.len() >= 2 && ending.chars().all(char::is_alphabetic) && (has_path || ENDINGS.contains(&ending))
}

#[cfg(test)]
mod tests {
    use super::has_link;

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
