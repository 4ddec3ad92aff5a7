//! Answers: JSON, and what is wrong with a request as a stable code.

use serde_json::{Value, json};

use crate::bus::BusError;
use crate::http::{AdminAnswer, Content};

/// Why a request is not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub(super) struct Problem {
    pub status: u16,
    /// Stable; the only part that programs should read.
    pub code: &'static str,
    pub message: String,
}

impl Problem {
    pub(super) fn not_found() -> Self {
        Self { status: 404, code: "not_found", message: "There is nothing at this path".to_owned() }
    }

    pub(super) fn unauthorized() -> Self {
        Self { status: 401, code: "unauthorized", message: "A good bearer token is needed".to_owned() }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self { status: 400, code: "invalid_request", message: message.into() }
    }

    pub(super) fn other_instance(own: &str) -> Self {
        Self { status: 409, code: "other_instance", message: format!("This is {own}") }
    }
}

impl From<BusError> for Problem {
    fn from(error: BusError) -> Self {
        tracing::warn!(%error, "an operator's request could not be served");
        Self { status: 503, code: "unavailable", message: "The realtime Redis does not answer".to_owned() }
    }
}

/// An answer with a JSON body.
pub(super) fn json(status: u16, body: &Value) -> AdminAnswer {
    AdminAnswer { status, content: Content::Json, allow: None, body: body.to_string().into_bytes() }
}

/// An answer that a browser shows.
pub(super) fn page(text: &str) -> AdminAnswer {
    AdminAnswer { status: 200, content: Content::Page, allow: None, body: text.as_bytes().to_vec() }
}

impl From<Problem> for AdminAnswer {
    fn from(problem: Problem) -> Self {
        json(problem.status, &json!({ "error": { "code": problem.code, "message": problem.message } }))
    }
}

/// A path that takes another method.
pub(super) fn not_allowed(allow: &'static str) -> AdminAnswer {
    let problem = Problem { status: 405, code: "method_not_allowed", message: format!("Only {allow} is allowed here") };
    AdminAnswer { allow: Some(allow), ..problem.into() }
}
