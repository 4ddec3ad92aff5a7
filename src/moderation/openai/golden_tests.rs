//! The golden samples of the API, each against the reader that meets it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::budget::{Limits, Told};
use super::client::Question;
use super::reply;
use super::retry::Advice;
use crate::domain::Micros;
use crate::moderation::{Thresholds, Verdict};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// The samples of which this is expected, and their number, so that a lost index cannot make a test pass.
fn samples(expect: &str, count: usize) -> Vec<(Value, Vec<u8>)> {
    let index: Value = serde_json::from_slice(&fs::read(golden("index.json")).unwrap()).unwrap();
    let samples: Vec<_> = index["samples"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|sample| sample["group"] == "moderation" && sample["expect"] == expect)
        .map(|sample| (sample.clone(), fs::read(golden(sample["file"].as_str().unwrap())).unwrap()))
        .collect();
    assert_eq!(samples.len(), count);
    samples
}

fn headers(sample: &Value) -> HeaderMap {
    let headers = sample["headers"].as_object().unwrap().iter();
    headers
        .map(|(name, value)| {
            (HeaderName::try_from(name).unwrap(), HeaderValue::from_str(value.as_str().unwrap()).unwrap())
        })
        .collect()
}

#[test]
fn every_answer_is_read() {
    for (sample, body) in samples("value", 14) {
        let texts = sample["results"].as_u64().unwrap_or(1) as usize;
        let results = reply::read(&body, texts).unwrap_or_else(|fault| panic!("{}: {fault:?}", sample["name"]));
        assert_eq!(results.len(), texts);
        if texts > 1 {
            assert_ne!(results[0], results[1], "each text has its own");
            continue;
        }
        let scores = &results[0];
        assert_eq!(Value::Bool(scores.flagged), sample["flagged"], "{}", sample["name"]);
        let mut flagged: Vec<_> = scores.categories.iter().filter(|c| c.flagged).map(|c| c.name.as_ref()).collect();
        flagged.sort_unstable();
        let mut expected: Vec<_> =
            sample["flagged_categories"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        expected.sort_unstable();
        assert_eq!(flagged, expected, "{}", sample["name"]);

        let verdict = Thresholds::default().verdict(scores);
        match (sample["flagged"] == true || !expected.is_empty(), sample["role"].as_str()) {
            (_, Some("blocked")) => assert!(matches!(verdict, Verdict::Block(_)), "{}", sample["name"]),
            (true, _) => assert!(matches!(verdict, Verdict::Flag(_) | Verdict::Block(_)), "{}", sample["name"]),
            (false, _) => assert_eq!(verdict, Verdict::Allow, "{}", sample["name"]),
        }
    }
}

#[test]
fn every_error_is_an_error_and_tried_again_as_it_says() {
    for (sample, body) in samples("error", 26) {
        let status = StatusCode::from_u16(sample["status"].as_u64().unwrap() as u16).unwrap();
        if status.is_success() {
            assert!(reply::read(&body, 1).is_err(), "{}", sample["name"]);
            continue;
        }
        let (fault, headers) = (reply::fault(status, &body), headers(&sample));
        let wait = Advice::read(&headers, Micros::now()).wait(fault, 1, 0.0);
        let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().parse().unwrap());
        let expected = match sample["retry"].as_str().unwrap() {
            "never" | "too_far" => None,
            "backoff" => Some(Duration::from_millis(500)),
            _ => header("retry-after-ms").map(Duration::from_millis).or(header("retry-after").map(Duration::from_secs)),
        };
        assert_eq!(wait, expected, "{}: {fault:?}", sample["name"]);
    }
}

#[test]
fn limits_are_read_from_a_refusal() {
    let (sample, _) =
        samples("error", 26).into_iter().find(|(sample, _)| sample["name"] == "err_429_requests").unwrap();
    let told = |limit, remaining| Told { limit: Some(limit), remaining: Some(remaining) };
    let expected = Limits { requests: told(500.0, 0.0), tokens: told(10_000.0, 9_900.0) };
    assert_eq!(Limits::read(&headers(&sample)), expected);
}

#[test]
fn a_request_is_the_array_form() {
    let (_, body) = samples("request", 3).into_iter().find(|(sample, _)| sample["name"] == "request_array").unwrap();
    let question = Question { model: "omni-moderation-latest", input: &["first", "second"] };
    assert_eq!(serde_json::to_value(question).unwrap(), serde_json::from_slice::<Value>(&body).unwrap());
}
