//! What the API's answers say. Pure: a status, headers and a body in; scores or a fault out.
//!
//! Nothing of a body is ever kept for a log: an error's message can hold a part of the key, and edges answer in HTML.

use std::collections::BTreeMap;

use reqwest::StatusCode;
use serde::Deserialize;

use crate::moderation::scores::{Category, Scores};

/// What went wrong with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Fault {
    /// 429: too much at the moment, of what is named.
    RateLimited(Scarce),
    /// 429 that waiting does not mend: the account is out of credit.
    Quota,
    /// 401: the key is not accepted.
    BadKey,
    /// The account, the region, the model or the address is not accepted: only an operator can mend it.
    Denied,
    /// 400, 413, 422: the API does not take these texts.
    Refused,
    /// 408, 409, 5xx.
    Server,
    /// A success that holds no verdicts, or not as many as texts.
    Malformed,
    /// An answer larger than any that could be right; reading stopped there.
    TooLarge,
    /// No whole answer in time.
    Timeout,
    /// No connection, or one that ended before its answer did.
    Unreachable,
}

/// What there is too little of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Scarce {
    Requests,
    Tokens,
    /// The API did not say.
    Unknown,
}

impl Fault {
    /// The metric label.
    pub fn outcome(self) -> &'static str {
        match self {
            Self::RateLimited(_) => "rate_limited",
            Self::Quota => "quota",
            Self::BadKey => "bad_key",
            Self::Denied => "denied",
            Self::Refused => "refused",
            Self::Server => "server_error",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
        }
    }

    /// Waiting and asking again can help, unless the answer's headers say otherwise.
    pub fn may_pass(self) -> bool {
        matches!(self, Self::RateLimited(_) | Self::Server | Self::Timeout | Self::Unreachable)
    }
}

#[derive(Deserialize)]
struct Reply {
    results: Vec<Judged>,
}

#[derive(Deserialize)]
struct Judged {
    flagged: bool,
    /// Some are null, and older models lack some.
    #[serde(default)]
    categories: BTreeMap<String, Option<bool>>,
    category_scores: BTreeMap<String, Option<f64>>,
}

impl From<Judged> for Scores {
    fn from(judged: Judged) -> Self {
        let Judged { flagged, categories: mut flags, category_scores } = judged;
        let mut categories: Vec<_> = category_scores
            .into_iter()
            .map(|(name, score)| {
                let flagged = flags.remove(&name).flatten().unwrap_or(false);
                Category::new(&name, score.unwrap_or(0.0), flagged)
            })
            .collect();
        // Flagged without a score: that is still said.
        categories
            .extend(flags.iter().filter(|(_, flag)| **flag == Some(true)).map(|(n, _)| Category::new(n, 0.0, true)));
        categories.sort_by(|a, b| a.name.cmp(&b.name));
        Self { flagged, categories }
    }
}

/// Reads the body of a success: as many scores as there were texts, in their order.
pub(super) fn read(body: &[u8], texts: usize) -> Result<Vec<Scores>, Fault> {
    let reply: Reply = serde_json::from_slice(body).map_err(|_| Fault::Malformed)?;
    if reply.results.len() != texts {
        return Err(Fault::Malformed); // which result belongs to which text can only be guessed
    }
    Ok(reply.results.into_iter().map(Scores::from).collect())
}

#[derive(Default, Deserialize)]
struct Complaint {
    error: ErrorBody,
}

#[derive(Default, Deserialize)]
struct ErrorBody {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    code: Option<String>,
}

/// Reads an answer that is no success. The body may be anything.
pub(super) fn fault(status: StatusCode, body: &[u8]) -> Fault {
    let ErrorBody { kind, code } = serde_json::from_slice::<Complaint>(body).unwrap_or_default().error;
    let says = |word: &str| kind.as_deref() == Some(word) || code.as_deref() == Some(word);
    match status.as_u16() {
        // Whatever the status: these are never worth another try.
        _ if says("insufficient_quota") || says("credit_balance_exhausted") => Fault::Quota,
        401 => Fault::BadKey,
        429 if says("tokens") => Fault::RateLimited(Scarce::Tokens),
        429 if says("requests") => Fault::RateLimited(Scarce::Requests),
        429 => Fault::RateLimited(Scarce::Unknown),
        400 | 413 | 422 => Fault::Refused,
        408 | 409 | 500..=599 => Fault::Server,
        _ => Fault::Denied,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_with_what_they_lack_and_what_they_have_more() {
        let body = br#"{"id":"x","results":[{"flagged":true,"more":1,
            "categories":{"hate":null,"illicit":true,"new":true,"violence":false},
            "category_scores":{"hate":1e-05,"violence":0,"new":1,"sexual":null}}]}"#;
        let scores = read(body, 1).unwrap();
        let listed: Vec<_> = scores[0].categories.iter().map(|c| (c.name.as_ref(), c.score, c.flagged)).collect();
        let expected = [
            ("hate", 1e-5, false),
            ("illicit", 0.0, true),
            ("new", 1.0, true),
            ("sexual", 0.0, false),
            ("violence", 0.0, false),
        ];
        assert_eq!((scores[0].flagged, listed.as_slice()), (true, expected.as_slice()));
    }

    #[test]
    fn what_is_no_verdict_for_each_text_is_malformed() {
        let one = r#"{"flagged":false,"categories":{},"category_scores":{}}"#;
        assert!(read(format!(r#"{{"results":[{one},{one}]}}"#).as_bytes(), 2).is_ok());
        for (body, texts) in [
            (format!(r#"{{"results":[{one}]}}"#), 2),
            (format!(r#"{{"results":[{one},{one},{one}]}}"#), 2),
            (r#"{"results":[{"flagged":false,"categories":{}}]}"#.to_owned(), 1),
            (r#"{"results":[{"flagged":null,"category_scores":{}}]}"#.to_owned(), 1),
            (r#"{"results":[{"flagged":false,"category_scores":{"hate":"0.9"}}]}"#.to_owned(), 1),
            (r#"{"results":[{"flagged":false,"category_scores":{"hate":1e999}}]}"#.to_owned(), 1),
            (r#"{"results":[null]}"#.to_owned(), 1),
            ("\u{feff}".to_owned(), 1),
        ] {
            assert_eq!(read(body.as_bytes(), texts), Err(Fault::Malformed), "{body}");
        }
    }

    #[test]
    fn a_status_decides_where_the_body_says_nothing() {
        let of = |status: u16| fault(StatusCode::from_u16(status).unwrap(), b"<html>busy</html>");
        for status in [408, 409, 500, 502, 503, 504, 599] {
            assert_eq!(of(status), Fault::Server);
        }
        for status in [301, 402, 403, 404, 405, 418] {
            assert_eq!(of(status), Fault::Denied);
        }
        assert_eq!([of(400), of(413), of(422)], [Fault::Refused; 3]);
        assert_eq!((of(401), of(429)), (Fault::BadKey, Fault::RateLimited(Scarce::Unknown)));
    }
}
