//! What a request gets that does not become a WebSocket: JSON with a stable code.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, UPGRADE};
use hyper::{Response, StatusCode};

/// A whole HTTP answer.
pub(super) type Answer = Response<Full<Bytes>>;

/// The bounds, in seconds, of `Retry-After`. It is drawn for each answer, so that those who were turned away together
/// do not come back together.
const RETRY_SECONDS: std::ops::RangeInclusive<u64> = 1..=5;

const SEC_WEBSOCKET_VERSION: HeaderName = HeaderName::from_static("sec-websocket-version");

/// Why a request is refused before the upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// No such path, or its id is not a hyphenated UUID.
    NotFound,
    /// A socket path asked with anything but GET.
    MethodNotAllowed,
    /// A socket path asked without the headers of an upgrade.
    UpgradeRequired,
    /// A WebSocket version other than 13 (RFC 6455, 4.4).
    VersionUnsupported,
    /// An upgrade without a proper key, or with a body.
    MalformedHandshake,
    /// A browser on a page that is not in the list.
    ForeignOrigin,
    /// The client's address has all the sockets it may have.
    AddressFull,
    /// The gateway has all the sockets it may have.
    SocketsFull,
    /// More new sockets this second than the gateway takes, or too many on their way in.
    Busy,
    /// The gateway is going away.
    Draining,
    /// Plain HTTP where TLS is spoken.
    TlsRequired,
}

impl Refused {
    /// The stable code, which is also the metric's label.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::UpgradeRequired => "upgrade_required",
            Self::VersionUnsupported => "websocket_version_unsupported",
            Self::MalformedHandshake => "malformed_handshake",
            Self::ForeignOrigin => "origin_not_allowed",
            Self::AddressFull => "too_many_connections_from_address",
            Self::SocketsFull => "too_many_connections",
            Self::Busy => "too_many_handshakes",
            Self::Draining => "draining",
            Self::TlsRequired => "tls_required",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::UpgradeRequired | Self::VersionUnsupported => StatusCode::UPGRADE_REQUIRED,
            Self::MalformedHandshake | Self::TlsRequired => StatusCode::BAD_REQUEST,
            Self::ForeignOrigin => StatusCode::FORBIDDEN,
            Self::AddressFull => StatusCode::TOO_MANY_REQUESTS,
            Self::SocketsFull | Self::Busy | Self::Draining => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::NotFound => "There is nothing at this path",
            Self::MethodNotAllowed => "Only GET is allowed here",
            Self::UpgradeRequired => "This path speaks WebSocket only",
            Self::VersionUnsupported => "Only version 13 of the WebSocket protocol is spoken",
            Self::MalformedHandshake => "The WebSocket handshake is malformed",
            Self::ForeignOrigin => "Pages of this origin may not connect",
            Self::AddressFull => "Too many connections from this address",
            Self::SocketsFull => "Too many connections, try later",
            Self::Busy => "Too many new connections at once, try later",
            Self::Draining => "This instance is going away, connect again",
            Self::TlsRequired => "This port speaks TLS: use wss:// or https://",
        }
    }

    /// The answer.
    pub(super) fn answer(self) -> Answer {
        let mut answer = error(self.status(), self.code(), self.message());
        let headers = answer.headers_mut();
        match self {
            Self::MethodNotAllowed => {
                headers.insert(ALLOW, HeaderValue::from_static("GET"));
            }
            Self::UpgradeRequired | Self::VersionUnsupported => {
                // RFC 9110, 7.8: who sends Upgrade names it in Connection.
                headers.insert(CONNECTION, HeaderValue::from_static("upgrade, close"));
                headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            Self::AddressFull | Self::SocketsFull | Self::Busy | Self::Draining => {
                headers.insert(RETRY_AFTER, HeaderValue::from(rand::random_range(RETRY_SECONDS)));
            }
            Self::NotFound | Self::MalformedHandshake | Self::ForeignOrigin | Self::TlsRequired => {}
        }
        answer
    }
}

/// An error as JSON. Code and message are texts of ours that need no escaping.
pub(super) fn error(status: StatusCode, code: &'static str, message: &'static str) -> Answer {
    let body = format!(r#"{{"error":{{"code":"{code}","message":"{message}"}}}}"#);
    answer(status, "application/json", body)
}

/// An answer that no one may keep, and the last one on its connection.
pub(super) fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Said here and not by hyper's `keep_alive(false)`, which says it in a 101 too: some clients do not take that.
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn every_refusal_is_json_with_its_code() {
        use Refused::*;
        for refused in [
            NotFound,
            MethodNotAllowed,
            UpgradeRequired,
            VersionUnsupported,
            MalformedHandshake,
            ForeignOrigin,
            AddressFull,
            SocketsFull,
            Busy,
            Draining,
            TlsRequired,
        ] {
            let body = refused.answer().into_body().collect().await.expect("is whole").to_bytes();
            let json: serde_json::Value = serde_json::from_slice(&body).expect("is JSON");
            assert_eq!(json["error"]["code"], refused.code());
            assert!(json["error"]["message"].as_str().is_some_and(|message| !message.is_empty()));
        }
    }

    #[test]
    fn who_may_come_back_is_told_when() {
        for refused in [Refused::AddressFull, Refused::SocketsFull, Refused::Busy, Refused::Draining] {
            let answer = refused.answer();
            let seconds = answer.headers()[RETRY_AFTER].to_str().expect("is text").parse().expect("is a number");
            assert!(RETRY_SECONDS.contains(&seconds));
        }
    }
}
