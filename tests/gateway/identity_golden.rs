//! The golden samples of Django's cache, of django-redis and of access tokens, each against the reader that meets it.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use community_gateway::domain::{Micros, UserId};
use community_gateway::identity::cached::{self, CachedError};
use community_gateway::identity::jwt::{JwtError, Verifier};
use community_gateway::identity::pickle::{Key, Value, write_text};
use community_gateway::identity::token::{ConnectionToken, TokenError};
use community_gateway::keyspace;
use serde_json::Value as Json;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn json(name: &str) -> Json {
    serde_json::from_slice(&fs::read(golden(name)).unwrap()).unwrap()
}

fn text<'a>(sample: &'a Json, field: &str) -> &'a str {
    sample[field].as_str().unwrap_or("")
}

/// The samples of a group, and their number, so that a lost index cannot make a test pass.
fn samples(group: &str, count: usize) -> Vec<(Json, Vec<u8>)> {
    let index = json("index.json");
    let samples: Vec<_> = index["samples"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|sample| text(sample, "group") == group)
        .map(|sample| (sample.clone(), fs::read(golden(text(sample, "file"))).unwrap()))
        .collect();
    assert_eq!(samples.len(), count);
    samples
}

fn expected_value(sample: &Json) -> Json {
    match sample["value_file"].as_str() {
        Some(file) => json(file),
        None => sample["value"].clone(),
    }
}

/// Compares a value with the index's tagged form.
fn same(value: &Value, tagged: &Json) -> bool {
    let (tag, inner) = tagged.as_object().unwrap().iter().find(|(tag, _)| *tag != "bits").unwrap();
    match (tag.as_str(), value) {
        ("none", Value::None) => true,
        ("bool", Value::Bool(flag)) => inner.as_bool() == Some(*flag),
        ("int", Value::Int(number)) => inner.as_str() == Some(number.to_string().as_str()),
        ("int", Value::BigInt(bytes)) => inner.as_str() == Some(decimal(bytes).as_str()),
        ("float", Value::Float(number)) => text(tagged, "bits") == format!("{:016x}", number.to_bits()),
        ("str", Value::Str(found)) => inner.as_str() == Some(found),
        ("bytes", Value::Bytes(found)) => inner.as_str() == Some(hex(found).as_str()),
        ("list", Value::List(items)) | ("tuple", Value::Tuple(items)) => {
            let expected = inner.as_array().unwrap();
            items.len() == expected.len() && items.iter().zip(expected).all(|(item, expected)| same(item, expected))
        }
        ("dict", Value::Dict(entries)) => {
            let expected = inner.as_array().unwrap();
            entries.len() == expected.len() && expected.iter().all(|pair| has_entry(entries, &pair[0], &pair[1]))
        }
        _ => false,
    }
}

fn has_entry(entries: &HashMap<Key, Value>, key: &Json, value: &Json) -> bool {
    let key = match key["str"].as_str() {
        Some(text) => Key::Str(text.into()),
        None => Key::Int(text(key, "int").parse().unwrap()),
    };
    entries.get(&key).is_some_and(|found| same(found, value))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A positive integer, little endian, as decimal digits.
fn decimal(bytes: &[u8]) -> String {
    assert!(bytes.last().is_some_and(|top| top & 0x80 == 0), "a positive integer");
    let mut digits = vec![0_u32]; // least significant first
    for byte in bytes.iter().rev() {
        let mut carry = u32::from(*byte);
        for digit in &mut digits {
            carry += *digit * 256;
            *digit = carry % 10;
            carry /= 10;
        }
        while carry > 0 {
            digits.push(carry % 10);
            carry /= 10;
        }
    }
    digits.iter().rev().map(u32::to_string).collect()
}

#[test]
fn cached_values_are_read_or_refused_as_the_golden_samples_say() {
    for (sample, bytes) in samples("cache", 260).into_iter().chain(samples("django_redis", 45)) {
        let name = text(&sample, "name");
        let found = cached::read(&bytes);
        match (text(&sample, "expect"), &found) {
            ("value" | "either", Ok(value)) => assert!(same(value, &expected_value(&sample)), "{name}: {value:?}"),
            ("refuse" | "other_format" | "either", Err(_)) => {}
            (expected, _) => panic!("{name}: expected {expected}, found {found:?}"),
        }
    }
}

#[test]
fn values_of_another_serialiser_or_compressor_are_called_foreign() {
    let foreign =
        samples("django_redis", 45).into_iter().filter(|(sample, _)| text(sample, "expect") == "other_format");
    for (sample, bytes) in foreign {
        assert_eq!(cached::read(&bytes), Err(CachedError::Foreign), "{}", text(&sample, "name"));
    }
}

#[test]
fn what_may_be_a_connection_token_is_what_the_golden_samples_say() {
    let mut accepted = 0;
    for (sample, bytes) in samples("cache", 260) {
        let name = text(&sample, "name");
        let found = ConnectionToken::parse(&bytes);
        if name.starts_with("token_uid_uuid_str") {
            // The samples allow for accounts with UUID keys; this application's are 64-bit integers.
            assert_eq!(found, Err(TokenError::Field("user_id")), "{name}");
            continue;
        }
        match (text(&sample, "token"), &found) {
            ("accept", Ok(token)) => {
                accepted += 1;
                let expected = Value::Str(token.user_id.to_string().into());
                let pairs = expected_value(&sample)["dict"].clone();
                let id = pairs.as_array().unwrap().iter().find(|pair| pair[0]["str"] == "user_id").unwrap()[1].clone();
                let id = id["int"].as_str().or(id["str"].as_str()).unwrap().to_owned();
                assert_eq!(expected, Value::Str(id.into()), "{name}");
            }
            ("refuse" | "either", Err(_)) => {}
            // Without a verdict of its own a sample is no token: a refused pickle, or a plain value of another kind.
            ("", Err(_)) => {}
            ("", Ok(_)) if name == "w_token_p2" => {}
            (expected, _) => panic!("{name}: expected {expected}, found {found:?}"),
        }
    }
    assert!(accepted >= 30, "{accepted} tokens were accepted");
}

#[test]
fn the_golden_token_is_read_whole_from_a_pickle_and_from_json() {
    let expected = ConnectionToken {
        user_id: UserId(42),
        username: "ada".to_owned(),
        connection_id: Some("community-room-1700000000000".to_owned()),
        created_at: Micros(1_700_000_000_123_000),
    };
    for file in ["cache/token_default.bin", "cache/token_p2.bin", "django_redis/json_token.bin"] {
        assert_eq!(ConnectionToken::parse(&fs::read(golden(file)).unwrap()), Ok(expected.clone()), "{file}");
    }
    let used = fs::read(golden("cache/token_used_true.bin")).unwrap();
    assert_eq!(ConnectionToken::parse(&used), Err(TokenError::Used));
}

#[test]
fn what_is_written_for_django_is_what_django_was_seen_to_read() {
    let seen = fs::read(golden("cache/w_str_iso_p2.bin")).unwrap();
    assert_eq!(write_text("2023-11-14T22:13:20.123456+00:00"), seen);
    assert_eq!(Micros(1_700_000_000_123_456).to_string(), "2023-11-14T22:13:20.123456+00:00");

    use community_gateway::identity::pickle::{Field, write_dict};
    let seen = fs::read(golden("cache/w_token_p2.bin")).unwrap();
    let written = write_dict(&[
        ("user_id", Field::Int(42)),
        ("username", Field::Text("ada")),
        ("connection_id", Field::None),
        ("created_at", Field::Float(1_700_000_000.123)),
        ("used", Field::Bool(false)),
    ]);
    assert_eq!(written, seen);
}

#[test]
fn access_tokens_are_accepted_or_refused_as_the_golden_samples_say() {
    let index = json("index.json");
    let verifier = Verifier::new(text(&index, "jwt_key"));
    let now = Micros(1_790_000_000_000_000); // 2026
    let mut accepted = 0;
    for (sample, bytes) in samples("jwt", 93) {
        let name = text(&sample, "name");
        let Ok(jwt) = String::from_utf8(bytes) else { panic!("{name} is not text") };
        let found = verifier.verify(&jwt, now);
        if name == "access_user_uuid" {
            // As above: this application's accounts have 64-bit integers.
            assert_eq!(found, Err(JwtError::Claim("user_id")));
            continue;
        }
        match (text(&sample, "expect"), found) {
            ("accept" | "either", Ok(claims)) => {
                accepted += 1;
                if let Some(expected) = sample["claims"].as_object() {
                    assert_eq!(claims.user, UserId(42), "{name}");
                    assert_eq!(
                        claims.session_version,
                        expected.get("session_version").and_then(Json::as_i64),
                        "{name}"
                    );
                }
            }
            ("refuse" | "either", Err(_)) => {}
            (expected, found) => panic!("{name}: expected {expected}, found {found:?}"),
        }
    }
    assert!(accepted >= 13, "{accepted} tokens were accepted");
}

#[test]
fn an_access_token_ends_at_the_microsecond_its_exp_names() {
    let index = json("index.json");
    let verifier = Verifier::new(text(&index, "jwt_key"));
    let jwt = fs::read_to_string(golden("jwt/access_user_str.txt")).unwrap();
    let expires = Micros(4_070_908_800_000_000);
    assert!(verifier.verify(&jwt, Micros(expires.0 - 1)).is_ok());
    assert_eq!(verifier.verify(&jwt, expires), Err(JwtError::Expired));

    let issued = Micros(1_700_000_000_000_000);
    assert!(verifier.verify(&jwt, issued).is_ok());
    assert_eq!(verifier.verify(&jwt, Micros(issued.0 - 1)), Err(JwtError::NotYet));

    let jwt = fs::read_to_string(golden("jwt/nbf_future.txt")).unwrap();
    assert_eq!(verifier.verify(&jwt, issued), Err(JwtError::NotYet));
}

#[test]
fn refused_access_tokens_say_why() {
    let index = json("index.json");
    let verifier = Verifier::new(text(&index, "jwt_key"));
    let now = Micros(1_790_000_000_000_000);
    let verdict = |file: &str| verifier.verify(&fs::read_to_string(golden(file)).unwrap(), now);
    assert_eq!(verdict("jwt/expired.txt"), Err(JwtError::Expired));
    assert_eq!(verdict("jwt/other_key.txt"), Err(JwtError::Signature));
    assert_eq!(verdict("jwt/payload_changed.txt"), Err(JwtError::Signature));
    assert_eq!(verdict("jwt/alg_none.txt"), Err(JwtError::Malformed));
    assert_eq!(verdict("jwt/crit_unknown.txt"), Err(JwtError::Malformed));
    assert_eq!(verdict("jwt/refresh.txt"), Err(JwtError::Claim("token_type")));
    assert_eq!(verdict("jwt/user_word.txt"), Err(JwtError::Claim("user_id")));
    assert_eq!(verdict("jwt/huge.txt"), Err(JwtError::TooLong));
}

#[test]
fn cache_keys_are_joined_as_django_joins_them() {
    let names = json("keys/names.json");
    let rows = names["cache"].as_array().unwrap();
    assert!(rows.len() >= 16);
    for row in rows {
        let version = match &row["version_arg"] {
            Json::Null => row["version"].to_string(),
            Json::String(text) => text.clone(),
            other => other.to_string(),
        };
        let found = keyspace::cache_key(text(row, "prefix"), &version, text(row, "key"));
        assert_eq!(found, text(row, "redis_key"));
    }
    let key = |name: &str| keyspace::cache_key("allthrive", "1", name);
    assert_eq!(key(&keyspace::session_version(UserId(42))), "allthrive:1:session:version:42");
    assert_eq!(key(&keyspace::session_activity(UserId(42))), "allthrive:1:session:activity:42");
    assert_eq!(key(&keyspace::session_debounce(UserId(42))), "allthrive:1:session:debounce:42");
    assert_eq!(key(&keyspace::connection_token("abcDEF_-123")), "allthrive:1:ws_conn_token:abcDEF_-123");
}
