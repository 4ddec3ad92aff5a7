//! The WebSocket handshake of RFC 6455, section 4.2: what a request must have, and the 101.

use fastwebsockets::upgrade::{is_upgrade_request, upgrade};
use http_body_util::Full;
use hyper::body::{Body, Bytes};
use hyper::header::{ORIGIN, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION};
use hyper::upgrade::OnUpgrade;
use hyper::{HeaderMap, Method, Request, Version};

use super::answer::{Answer, Refused};

/// Length of a key: 16 bytes in base64, which ends in two signs of padding.
const KEY: usize = 24;

/// Says what a request lacks to be a WebSocket handshake. It does not look at who asks.
pub(super) fn check<B: Body>(request: &Request<B>) -> Result<(), Refused> {
    if request.method() != Method::GET {
        return Err(Refused::MethodNotAllowed);
    }
    if request.version() != Version::HTTP_11 || !is_upgrade_request(request) {
        return Err(Refused::UpgradeRequired);
    }
    if single(request.headers(), SEC_WEBSOCKET_VERSION) != Some(b"13") {
        return Err(Refused::VersionUnsupported);
    }
    let key = single(request.headers(), SEC_WEBSOCKET_KEY);
    // A body would be read as frames.
    if !key.is_some_and(is_key) || !request.body().is_end_stream() {
        return Err(Refused::MalformedHandshake);
    }
    Ok(())
}

/// Says whether a page may connect: nobody's page (no browser), or a page whose origin is exactly in the list.
pub(super) fn check_origin(headers: &HeaderMap, allowed: &[String]) -> Result<(), Refused> {
    if !headers.contains_key(ORIGIN) {
        return Ok(());
    }
    match single(headers, ORIGIN) {
        // Sandboxed frames and local files say "null", whoever made them.
        None | Some(b"null") => Err(Refused::ForeignOrigin),
        Some(origin) if allowed.iter().any(|allowed| allowed.as_bytes() == origin) => Ok(()),
        Some(_) => Err(Refused::ForeignOrigin),
    }
}

/// Answers a request that passed [`check`] with 101. What is second resolves to the connection once that is written.
///
/// There are no extensions and no subprotocols: none of ours would change what is spoken.
pub(super) fn switch<B>(request: &mut Request<B>) -> Result<(Answer, OnUpgrade), Refused> {
    // Taken here, so that the WebSocket of the library, with its buffers, is never made.
    let connection = hyper::upgrade::on(&mut *request);
    let (answer, _never) = upgrade(request).map_err(|_| Refused::MalformedHandshake)?;
    Ok((answer.map(|_| Full::new(Bytes::new())), connection))
}

/// The value of a header that is there exactly once.
fn single(headers: &HeaderMap, name: impl hyper::header::AsHeaderName) -> Option<&[u8]> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.as_bytes())
}

fn is_key(key: &[u8]) -> bool {
    let Some((digits, padding)) = key.split_at_checked(KEY - 2) else { return false };
    padding == b"==" && digits.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

#[cfg(test)]
mod tests {
    use http_body_util::Empty;

    use super::*;

    /// A good handshake, with some headers set otherwise; an empty value leaves the header out.
    fn handshake(changes: &[(&'static str, &str)]) -> Request<Empty<Bytes>> {
        let mut request = Request::builder().method("GET").uri("/");
        let good = [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        for (name, value) in good.iter().filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name)) {
            request = request.header(*name, *value);
        }
        for (name, value) in changes.iter().filter(|(_, value)| !value.is_empty()) {
            request = request.header(*name, *value);
        }
        request.body(Empty::new()).expect("is a request")
    }

    #[test]
    fn a_handshake_has_all_its_headers() {
        use Refused::*;
        for (changes, outcome) in [
            (&[][..], Ok(())),
            (&[("connection", "keep-alive, upgrade"), ("upgrade", "WebSocket")], Ok(())),
            (&[("upgrade", "h2c, websocket")], Ok(())),
            (&[("connection", "")], Err(UpgradeRequired)),
            (&[("connection", "keep-alive")], Err(UpgradeRequired)),
            (&[("upgrade", "")], Err(UpgradeRequired)),
            (&[("upgrade", "h2c")], Err(UpgradeRequired)),
            (&[("sec-websocket-version", "")], Err(VersionUnsupported)),
            (&[("sec-websocket-version", "8")], Err(VersionUnsupported)),
            (&[("sec-websocket-version", "13"), ("sec-websocket-version", "13")], Err(VersionUnsupported)),
            (&[("sec-websocket-key", "")], Err(MalformedHandshake)),
            (&[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ")], Err(MalformedHandshake)),
            (&[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ!=")], Err(MalformedHandshake)),
            (&[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZSE=")], Err(MalformedHandshake)),
            (&[("sec-websocket-key", "x")], Err(MalformedHandshake)),
        ] {
            assert_eq!(check(&handshake(changes)), outcome, "{changes:?}");
        }
    }

    #[test]
    fn only_get_over_http_1_1_is_a_handshake() {
        let mut request = handshake(&[]);
        *request.version_mut() = Version::HTTP_10;
        assert_eq!(check(&request), Err(Refused::UpgradeRequired));
        *request.method_mut() = Method::POST;
        assert_eq!(check(&request), Err(Refused::MethodNotAllowed));
    }

    #[test]
    fn a_handshake_with_a_body_is_malformed() {
        let request = handshake(&[]).map(|_| Full::new(Bytes::from_static(b"frames?")));
        assert_eq!(check(&request), Err(Refused::MalformedHandshake));
    }

    #[test]
    fn a_page_connects_only_from_a_listed_origin() {
        let allowed = ["https://chat.example".to_owned(), "http://localhost:3000".to_owned()];
        for (origins, outcome) in [
            (&[][..], Ok(())),
            (&["https://chat.example"], Ok(())),
            (&["http://localhost:3000"], Ok(())),
            (&["http://chat.example"], Err(Refused::ForeignOrigin)),
            (&["https://chat.example:8443"], Err(Refused::ForeignOrigin)),
            (&["https://chat.example/"], Err(Refused::ForeignOrigin)),
            (&["https://Chat.example"], Err(Refused::ForeignOrigin)),
            (&["https://chat.example.evil.example"], Err(Refused::ForeignOrigin)),
            (&["http://localhost"], Err(Refused::ForeignOrigin)),
            (&["null"], Err(Refused::ForeignOrigin)),
            (&[""], Err(Refused::ForeignOrigin)),
            (&["https://chat.example", "https://chat.example"], Err(Refused::ForeignOrigin)),
            (&["https://evil.example", "https://chat.example"], Err(Refused::ForeignOrigin)),
        ] {
            let mut headers = HeaderMap::new();
            for origin in origins {
                headers.append(ORIGIN, origin.parse().expect("is a header"));
            }
            assert_eq!(check_origin(&headers, &allowed), outcome, "{origins:?}");
        }
    }

    #[test]
    fn null_is_refused_even_when_it_is_listed() {
        let headers = HeaderMap::from_iter([(ORIGIN, "null".parse().expect("is a header"))]);
        assert_eq!(check_origin(&headers, &["null".to_owned()]), Err(Refused::ForeignOrigin));
    }
}
