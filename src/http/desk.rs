//! The way of a request below `/admin/` to whoever answers it, on another runtime. Knows no route and no token.

use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body, Bytes};
use hyper::header::{ALLOW, AUTHORIZATION, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Request, StatusCode};
use tokio::sync::{mpsc, oneshot};

use super::answer::{Answer, answer, error};

/// The largest body of a request, in bytes.
const MAX_BODY: usize = 16 * 1024;
/// What the operator's page may do: nothing but speak with its own origin.
const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
const NO_SNIFF: HeaderName = HeaderName::from_static("x-content-type-options");

/// A request below `/admin/`.
#[derive(Debug)]
pub struct AdminRequest {
    /// `GET`, `POST`, …
    pub method: String,
    /// The path as it was sent.
    pub path: String,
    /// Behind the question mark.
    pub query: String,
    /// What `Authorization: Bearer …` carries. Not for logs.
    pub bearer: Option<String>,
    /// At most 16 KiB.
    pub body: Vec<u8>,
    /// Where the answer goes.
    pub reply: oneshot::Sender<AdminAnswer>,
}

/// The answer to a request below `/admin/`.
#[derive(Debug)]
pub struct AdminAnswer {
    /// The HTTP status.
    pub status: u16,
    /// What the body is.
    pub content: Content,
    /// The methods that the path takes, where another was asked for.
    pub allow: Option<&'static str>,
    pub body: Vec<u8>,
}

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    Json,
    Page,
}

/// Hands a request on, and waits for its answer.
pub(super) async fn ask<B>(request: Request<B>, desk: &mpsc::Sender<AdminRequest>) -> Answer
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
        return error(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "The body has more than 16 KiB, or broke off");
    };
    let bearer = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (reply, answered) = oneshot::channel();
    let asked = AdminRequest {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        bearer: bearer.and_then(|value| value.strip_prefix("Bearer ")).map(|token| token.trim().to_owned()),
        body: body.to_bytes().to_vec(),
        reply,
    };
    if desk.try_send(asked).is_err() {
        return too_much();
    }
    match answered.await {
        Ok(given) => made(given),
        Err(_) => error(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "The gateway ended before it could answer"),
    }
}

/// The answer to one question too many.
pub(super) fn too_much() -> Answer {
    error(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Too much is asked at once, or nobody is left to answer")
}

fn made(given: AdminAnswer) -> Answer {
    let kind = match given.content {
        Content::Json => "application/json",
        Content::Page => "text/html; charset=utf-8",
    };
    let status = StatusCode::from_u16(given.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = answer(status, kind, given.body);
    let headers = answer.headers_mut();
    headers.insert(NO_SNIFF, HeaderValue::from_static("nosniff"));
    if given.content == Content::Page {
        headers.insert(CONTENT_SECURITY_POLICY, PAGE_POLICY);
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(allow) = given.allow {
        headers.insert(ALLOW, HeaderValue::from_static(allow));
    }
    answer
}
