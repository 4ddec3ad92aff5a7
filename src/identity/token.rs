//! Single-use connection tokens: the string a browser shows, and what the cache keeps under it.
//!
//! Whether a token may be used is decided here; using it up is the cache's part.

use rand::RngExt;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::cached::{self, CachedError};
use super::pickle::{self, Field, Value};
use crate::domain::{Micros, UserId};

/// Length of the tokens that Django and we mint.
const MINTED_LENGTH: usize = 43;
/// The URL-safe base64 alphabet, of which tokens are made.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// The largest JSON token that is looked at, in bytes.
const MAX_JSON_BYTES: usize = 128 * 1024;

/// What stands behind a connection token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionToken {
    pub user_id: UserId,
    pub username: String,
    /// Chosen by the page that asked for the token; not checked.
    pub connection_id: Option<String>,
    pub created_at: Micros,
}

/// Why a cached value is not a token that lets anybody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the connection token cannot be read: {0}")]
    Unreadable(#[from] CachedError),
    #[error("the connection token is not a JSON object of the expected shape")]
    Json,
    #[error("the connection token's {0} is missing or wrong")]
    Field(&'static str),
    #[error("the connection token was used before")]
    Used,
}

/// How a token's value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A pickle, as Django's cache writes and reads it.
    Django,
    /// A JSON object with the same fields.
    Json,
}

#[derive(Serialize, Deserialize)]
struct JsonToken {
    user_id: Json,
    username: String,
    #[serde(default)]
    connection_id: Option<String>,
    created_at: f64,
    #[serde(default)]
    used: bool,
}

/// Says whether a string can be a token at all, so that nonsense never reaches the cache. Longer and shorter ones than
/// Django's 43 characters are let through within reason, because their length is Django's to choose.
#[must_use]
pub fn is_plausible(token: &str) -> bool {
    (16..=128).contains(&token.len()) && token.bytes().all(|byte| ALPHABET.contains(&byte))
}

impl ConnectionToken {
    /// Reads a token's cached value: a pickled dict, or a JSON object.
    ///
    /// # Errors
    /// When it is neither, when a field is missing or of another type, or when it is marked as used.
    pub fn parse(bytes: &[u8]) -> Result<Self, TokenError> {
        if bytes.first() == Some(&b'{') { Self::parse_json(bytes) } else { Self::parse_cached(&cached::read(bytes)?) }
    }

    fn parse_cached(value: &Value) -> Result<Self, TokenError> {
        match value.get("used") {
            None | Some(Value::Bool(false)) => {}
            Some(Value::Bool(true)) => return Err(TokenError::Used),
            Some(_) => return Err(TokenError::Field("used")),
        }
        let user_id = match value.get("user_id") {
            Some(Value::Int(number)) => i64::try_from(*number).ok().filter(|&id| id >= 0).map(UserId),
            Some(Value::Str(digits)) => digits.parse().ok(),
            _ => None,
        };
        let Some(Value::Str(username)) = value.get("username") else { return Err(TokenError::Field("username")) };
        let connection_id = match value.get("connection_id") {
            None | Some(Value::None) => None,
            Some(Value::Str(text)) => Some(text.to_string()),
            Some(_) => return Err(TokenError::Field("connection_id")),
        };
        let created_at = match value.get("created_at") {
            Some(Value::Float(seconds)) => time(*seconds),
            Some(Value::Int(seconds)) => time(*seconds as f64),
            _ => None,
        };
        Ok(Self {
            user_id: user_id.ok_or(TokenError::Field("user_id"))?,
            username: username.to_string(),
            connection_id,
            created_at: created_at.ok_or(TokenError::Field("created_at"))?,
        })
    }

    fn parse_json(bytes: &[u8]) -> Result<Self, TokenError> {
        if bytes.len() > MAX_JSON_BYTES {
            return Err(TokenError::Json);
        }
        // The parser's own message may quote the token: it is dropped.
        let token: JsonToken = serde_json::from_slice(bytes).map_err(|_| TokenError::Json)?;
        if token.used {
            return Err(TokenError::Used);
        }
        Ok(Self {
            user_id: user_id(&token.user_id).ok_or(TokenError::Field("user_id"))?,
            username: token.username,
            connection_id: token.connection_id,
            created_at: time(token.created_at).ok_or(TokenError::Field("created_at"))?,
        })
    }
}

/// Makes a new token: the string to show, and the value to cache under it.
///
/// # Errors
/// When the value cannot be written as JSON.
pub fn mint(user: UserId, username: &str, now: Micros, format: Format) -> Result<(String, Vec<u8>), serde_json::Error> {
    let created_at = now.0 as f64 / 1e6;
    let value = match format {
        Format::Django => pickle::write_dict(&[
            ("user_id", Field::Int(user.0)),
            ("username", Field::Text(username)),
            ("connection_id", Field::None),
            ("created_at", Field::Float(created_at)),
            ("used", Field::Bool(false)),
        ]),
        Format::Json => serde_json::to_vec(&JsonToken {
            user_id: user.0.into(),
            username: username.to_owned(),
            connection_id: None,
            created_at,
            used: false,
        })?,
    };
    Ok((random_token(), value))
}

fn random_token() -> String {
    let mut dice = rand::rng();
    (0..MINTED_LENGTH).map(|_| char::from(ALPHABET[usize::from(dice.random::<u8>() & 63)])).collect()
}

/// Reads a user's id from JSON: a number or its decimal form, never negative.
pub(super) fn user_id(json: &Json) -> Option<UserId> {
    match json {
        Json::Number(number) => number.as_i64().filter(|&id| id >= 0).map(UserId),
        Json::String(digits) => digits.parse().ok(),
        _ => None,
    }
}

/// Unix seconds as Python's `time.time()` gives them.
fn time(seconds: f64) -> Option<Micros> {
    // Beyond the year 9999 Python has no dates; within it, microseconds fit 64 bits.
    (0.0..253_402_300_800.0).contains(&seconds).then(|| Micros((seconds * 1e6).round() as i64))
}
