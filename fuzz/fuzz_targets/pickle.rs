//! What Django's cache may hold, and what somebody may have put there: read within the bounds, as a value and as a token.

#![no_main]

use community_gateway::identity::pickle::{self, MAX_DEPTH, MAX_VALUES, Value};
use community_gateway::identity::{ConnectionToken, cached};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(value) = pickle::read(bytes) {
        assert_eq!(bytes.first(), Some(&0x80));
        let mut count = 0;
        walk(&value, 0, &mut count);
        assert!(cached::read(bytes).is_ok());
    }
    if let Ok(Value::Int(number)) = cached::read(bytes)
        && bytes.first() != Some(&0x80)
    {
        assert_eq!(number.to_string().as_bytes(), bytes);
    }
    if let Ok(token) = ConnectionToken::parse(bytes) {
        assert!(token.user_id.0 >= 0 && token.created_at.0 >= 0);
    }
});

fn walk(value: &Value, depth: u8, count: &mut usize) {
    *count += 1;
    assert!(depth <= MAX_DEPTH && *count <= MAX_VALUES);
    match value {
        Value::List(values) | Value::Tuple(values) => values.iter().for_each(|value| walk(value, depth + 1, count)),
        Value::Dict(entries) => entries.values().for_each(|value| walk(value, depth + 1, count)),
        _ => {}
    }
}
