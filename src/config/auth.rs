//! Who may connect: Django's key, the cookie, the origins and the proxies that are believed.

use std::time::Duration;

use url::Url;

use super::network::Network;
use super::parse::{self, seconds};
use super::secret::Secret;
use super::variable::{Reader, Variable};

const SECRET_KEY: Variable =
    Variable::required("SECRET_KEY", "the-same-as-Django's", "Django's, for JWTs").secret().live();
const JWT_COOKIE: Variable =
    Variable::new("GATEWAY_JWT_COOKIE", "access_token", "the HTTP-only cookie that carries the JWT");
const ORIGINS: Variable = Variable::new(
    "CORS_ALLOWED_ORIGINS",
    "",
    "comma separated, as Django's; a browser from elsewhere is refused, and while it is empty every browser is",
)
.example("https://app.example,http://localhost:3000")
.live();
const PROXIES: Variable = Variable::new(
    "GATEWAY_TRUSTED_PROXIES",
    "",
    "comma separated addresses and networks whose `X-Forwarded-For` is believed",
)
.example("10.0.0.0/8,fd00::/8")
.live();

const RESUME: Variable = Variable::new(
    "GATEWAY_RESUME_SECONDS",
    "300",
    "how long the ticket is good that a client comes back with without asking Django; 0 gives none",
);

pub(super) const VARIABLES: &[Variable] = &[SECRET_KEY, RESUME, JWT_COOKIE, ORIGINS, PROXIES];

/// What decides who is let in.
#[derive(Clone, Debug)]
pub struct Auth {
    /// Django's `SECRET_KEY`, which signs the JWTs.
    pub secret_key: Secret,
    /// How long a resume ticket is good; zero when none are given.
    pub resume: Duration,
    /// The cookie that carries the JWT.
    pub jwt_cookie: String,
    /// Origins of browsers that are let in, compared as they are.
    pub allowed_origins: Vec<String>,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
}

impl Auth {
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let secret_key = reader.take(&SECRET_KEY, |text| Ok(Secret::new(text)));
        let resume = reader.take(&RESUME, seconds(0.0..=3_600.0));
        let jwt_cookie = reader.take(&JWT_COOKIE, cookie);
        let allowed_origins = reader.take(&ORIGINS, |text| parse::list(text, origin));
        let trusted_proxies = reader.take(&PROXIES, |text| parse::list(text, str::parse));
        Some(Self {
            secret_key: secret_key?,
            resume: resume?,
            jwt_cookie: jwt_cookie?,
            allowed_origins: allowed_origins?,
            trusted_proxies: trusted_proxies?,
        })
    }
}

/// A cookie's name is a token of RFC 9110.
fn cookie(text: &str) -> Result<String, String> {
    if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)) {
        Ok(text.to_owned())
    } else {
        Err(format!("\"{text}\" is not a cookie's name"))
    }
}

/// An origin as a browser sends it: scheme, host and port, nothing else.
fn origin(text: &str) -> Result<String, String> {
    if text == "*" {
        return Err("\"*\" is not taken: name the origins".to_owned());
    }
    let url = Url::parse(text).ok().filter(|url| url.has_host() && !text.ends_with(['/', '?', '#', ':']));
    let url = url.filter(|url| matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none());
    match url.filter(|url| url.username().is_empty() && url.password().is_none()) {
        Some(_) => Ok(text.to_owned()),
        None => Err(format!("\"{text}\" is not an origin: scheme, host and port, without a path or a last slash")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_no_path() {
        for text in ["https://app.example", "http://localhost:3000", "http://[::1]:8080", "capacitor://localhost"] {
            assert_eq!(origin(text).as_deref(), Ok(text));
        }
        for text in ["*", "app.example", "https://app.example/", "https://app.example/x", "https://a@b", "https://a?b"]
        {
            assert!(origin(text).is_err(), "{text}");
        }
    }
}
