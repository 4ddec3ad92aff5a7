//! One value of Django's cache: an integer is stored as its digits, everything else as a pickle.
//!
//! Reads what Django's built-in backend writes, and nothing else: JSON, msgpack and compressed values belong to another
//! configuration and are refused, never guessed at.

use super::pickle::{self, PickleError, Value};

/// Longest integer text that is looked at: what `i128` can need.
const MAX_DIGITS: usize = 40;

/// Why bytes are not a cached value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CachedError {
    /// Neither digits nor a pickle: the cache is configured otherwise (serialiser, compressor), or somebody else wrote.
    #[error("not a value of Django's built-in cache: is another serialiser or compressor configured?")]
    Foreign,
    /// Digits, but not as Django writes a number, or beyond 128 bits.
    #[error("an integer that Django's cache would not have written, or beyond 128 bits")]
    Integer,
    #[error(transparent)]
    Pickle(#[from] PickleError),
}

/// Reads a cached value.
///
/// # Errors
/// When Django's built-in backend would not have written these bytes for a plain value.
pub fn read(bytes: &[u8]) -> Result<Value, CachedError> {
    match bytes.first() {
        Some(0x80) => Ok(pickle::read(bytes)?),
        Some(b'-' | b'0'..=b'9') => read_integer(bytes).map(Value::Int).ok_or(CachedError::Integer),
        _ => Err(CachedError::Foreign),
    }
}

/// The canonical form only: Python's `int()` takes more, but Django never writes it.
fn read_integer(bytes: &[u8]) -> Option<i128> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= MAX_DIGITS)?;
    let digits = text.strip_prefix('-').unwrap_or(text);
    let canonical = digits.bytes().all(|byte| byte.is_ascii_digit())
        && !digits.is_empty()
        && (!digits.starts_with('0') || text == "0");
    if canonical { text.parse().ok() } else { None }
}
