//! JSON written straight into bytes, for what is told most: nothing is formatted in between, and nothing is looked at that
//! is known to be JSON.

use serde::Serialize;
use uuid::Uuid;

use crate::domain::{Micros, Person};

/// A string.
pub(super) fn text(out: &mut Vec<u8>, text: &str) {
    if is_plain(text.as_bytes()) {
        quoted(out, text.as_bytes());
    } else {
        value(out, text);
    }
}

/// A string, or `null`.
pub(super) fn text_or_null(out: &mut Vec<u8>, value: Option<&str>) {
    match value {
        Some(value) => text(out, value),
        None => out.extend_from_slice(b"null"),
    }
}

/// An id of Django's rows, in quotes.
pub(super) fn id(out: &mut Vec<u8>, id: Uuid) {
    quoted(out, id.as_hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes());
}

/// The same, or `null`.
pub(super) fn id_or_null(out: &mut Vec<u8>, value: Option<Uuid>) {
    match value {
        Some(value) => id(out, value),
        None => out.extend_from_slice(b"null"),
    }
}

/// A number in quotes.
pub(super) fn number(out: &mut Vec<u8>, number: impl Serialize) {
    out.push(b'"');
    value(out, &number);
    out.push(b'"');
}

/// A time in quotes.
pub(super) fn time(out: &mut Vec<u8>, time: Micros) {
    match time.naive().fixed() {
        Some(digits) => {
            out.push(b'"');
            out.extend_from_slice(&digits);
            out.extend_from_slice(br#"+00:00""#);
        }
        None => text(out, &time.to_string()),
    }
}

/// `true` or `false`.
pub(super) fn truth(out: &mut Vec<u8>, truth: bool) {
    out.extend_from_slice(if truth { b"true" } else { b"false" });
}

/// JSON that Postgres keeps as `jsonb`, or that was encoded here, as it is; an empty text becomes the empty value.
pub(super) fn stored(out: &mut Vec<u8>, stored: &str, empty: &str) {
    out.extend_from_slice(if stored.is_empty() { empty } else { stored }.as_bytes());
}

/// What serde writes. Only strings, numbers and structures of them, whose encoding cannot fail.
pub(super) fn value(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    let _ = serde_json::to_writer(out, value);
}

/// `onlineUsers`, with the name of the field and a comma in front.
pub(super) fn online_users(out: &mut Vec<u8>, online: &[Person]) {
    out.extend_from_slice(br#","onlineUsers":["#);
    for (at, person) in online.iter().enumerate() {
        out.extend_from_slice(if at > 0 { br#",{"userId":"# } else { br#"{"userId":"# });
        number(out, person.id.0);
        out.extend_from_slice(br#","username":"#);
        text(out, &person.username);
        out.push(b'}');
    }
    out.push(b']');
}

fn quoted(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(text);
    out.push(b'"');
}

/// Says whether a string stands in JSON as it is. Looks at all of it without a branch, many bytes at once.
fn is_plain(text: &[u8]) -> bool {
    text.iter().fold(true, |plain, byte| plain & (*byte >= b' ') & (*byte != b'"') & (*byte != b'\\'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_times_are_as_serde_writes_them() {
        let texts = ["", "plain", "Grüße 👋 \u{7f}\u{2028}", "a \"quote\"", "back\\slash", "line\nbreak\u{0}", "\t"];
        for given in texts {
            let mut out = Vec::new();
            text(&mut out, given);
            assert_eq!(String::from_utf8(out).expect("is text"), serde_json::to_string(given).expect("is JSON"));
        }
        // A year of five digits, and one before Christ.
        for at in [0, -1, 1_709_164_800_000_001, 253_402_300_800_000_000, -100_000_000_000_000_000] {
            let mut out = Vec::new();
            time(&mut out, Micros(at));
            assert_eq!(String::from_utf8(out).expect("is text"), format!("\"{}\"", Micros(at)));
        }
    }
}
