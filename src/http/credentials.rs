//! Finds what a request brings to say who it is. What is found is neither judged nor logged here.

use hyper::HeaderMap;
use hyper::header::COOKIE;
use url::form_urlencoded;

use crate::identity::Credentials;

/// Reads the query and the named cookie. Of what comes twice the first counts; what is empty is not there, as Django's
/// own parsing has it. The head's limit bounds all of it.
pub(super) fn read(query: Option<&str>, headers: &HeaderMap, cookie: &str) -> Credentials {
    let query = query.unwrap_or_default();
    Credentials {
        resume_token: parameter(query, "resume_token"),
        connection_token: parameter(query, "connection_token"),
        cookie_jwt: cookie_value(headers, cookie),
        query_jwt: parameter(query, "token"),
    }
}

/// Where the client was, if it says so: `epoch` and `offset`, both numbers.
pub(super) fn since(query: Option<&str>) -> Option<(u64, u64)> {
    let query = query?;
    let number = |name| parameter(query, name)?.parse().ok();
    Some((number("epoch")?, number("offset")?))
}

fn parameter(query: &str, name: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes())
        .find(|(found, value)| found == name && !value.is_empty())
        .map(|(_, value)| value.into_owned())
}

/// Tolerant, as cookies are: other software's cookies on the same domain may hold anything.
fn cookie_value(headers: &HeaderMap, name: &str) -> Option<String> {
    let pairs = headers.get_all(COOKIE).into_iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
    pairs
        .filter_map(|pair| std::str::from_utf8(pair).ok()?.split_once('='))
        .filter(|(found, _)| found.trim() == name)
        .map(|(_, value)| unquoted(value.trim()))
        .find(|value| !value.is_empty())
        .map(str::to_owned)
}

fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_parameter_is_read_as_django_reads_it() {
        for (query, token) in [
            ("", None),
            ("token=abc", Some("abc")),
            ("a=b&token=abc&c=d", Some("abc")),
            ("token=abc&token=def", Some("abc")),
            ("token=&token=def", Some("def")),
            ("token", None),
            ("token=", None),
            ("Token=abc", None),
            ("xtoken=abc", None),
            ("token=a%20b%2Bc+d", Some("a b+c d")),
            ("tok%65n=abc", Some("abc")),
            ("token=%zz%4", Some("%zz%4")),
            ("token=%ff", Some("\u{fffd}")),
            ("token=a=b", Some("a=b")),
            ("token=abc;x=y", Some("abc;x=y")),
        ] {
            assert_eq!(parameter(query, "token").as_deref(), token, "{query}");
        }
    }

    #[test]
    fn a_place_is_two_numbers() {
        for (query, place) in [
            (None, None),
            (Some("epoch=5&offset=7"), Some((5, 7))),
            (Some("offset=0&token=x&epoch=9007199254740991"), Some((9_007_199_254_740_991, 0))),
            (Some("epoch=5"), None),
            (Some("offset=5"), None),
            (Some("epoch=x&offset=7"), None),
            (Some("epoch=5&offset=-7"), None),
        ] {
            assert_eq!(since(query), place, "{query:?}");
        }
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        for (cookies, value) in [
            (&[][..], None),
            (&["access=abc"], Some("abc")),
            (&["theme=dark; access=abc; other=1"], Some("abc")),
            (&["theme=dark;access=abc"], Some("abc")),
            (&["theme=dark", "access=abc"], Some("abc")),
            (&["access=abc; access=def"], Some("abc")),
            (&["access=; access=def"], Some("def")),
            (&["xaccess=abc; Access=abc; access"], None),
            (&["  access = abc  "], Some("abc")),
            (&["access=\"abc\""], Some("abc")),
            (&["access=a=b=="], Some("a=b==")),
            (&["=; ;;; x; access=abc"], Some("abc")),
            (&["name=\u{fc}; access=abc"], Some("abc")),
        ] {
            let mut headers = HeaderMap::new();
            for cookie in cookies {
                headers.append(COOKIE, HeaderValue::from_bytes(cookie.as_bytes()).expect("is a header"));
            }
            assert_eq!(cookie_value(&headers, "access").as_deref(), value, "{cookies:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(query in ".*", cookie in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut headers = HeaderMap::new();
            if let Ok(cookie) = HeaderValue::from_bytes(&cookie) {
                headers.append(COOKIE, cookie);
            }
            read(Some(&query), &headers, "access");
            since(Some(&query));
        }

        #[test]
        fn a_token_comes_back_as_it_was_sent(token in "\\PC{1,100}", cookie in "[!#-:<-~]{1,100}") {
            let query = form_urlencoded::Serializer::new(String::new()).append_pair("connection_token", &token).finish();
            prop_assert_eq!(parameter(&query, "connection_token"), Some(token));
            let headers = HeaderMap::from_iter([(COOKIE, format!("access={cookie}").parse().expect("is a header"))]);
            prop_assert_eq!(cookie_value(&headers, "access"), Some(cookie));
        }
    }
}
