//! Values that must not be seen: keys, passwords, addresses that hold passwords.

use std::fmt;

use url::Url;

/// What stands in place of a secret wherever something is printed.
const MASK: &str = "***";

/// A text that prints as `***`. Only [`Secret::expose`] gives it, so that every use can be found.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. Not for logs, errors or metrics.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The text as an address whose password is masked, for people to read.
    #[must_use]
    pub fn masked_url(&self) -> String {
        masked_url(&self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// Masks the password of an address, in front of the host and in the query. What is no address is masked whole.
pub(super) fn masked_url(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else { return MASK.to_owned() };
    if url.password().is_some() && url.set_password(Some(MASK)).is_err() {
        return MASK.to_owned();
    }
    let parameters: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    if parameters.iter().any(|(name, _)| is_secret(name)) {
        url.query_pairs_mut()
            .clear()
            .extend_pairs(parameters.iter().map(|(name, value)| (name, if is_secret(name) { MASK } else { value })));
    }
    url.into()
}

fn is_secret(parameter: &str) -> bool {
    let name = parameter.to_ascii_lowercase();
    ["password", "passwd", "secret"].iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn a_password_in_an_address_is_masked() {
        assert_eq!(masked_url("postgres://app:pa%40ss@db:5432/app"), "postgres://app:***@db:5432/app");
        assert_eq!(masked_url("redis://:hunter2@cache/3"), "redis://:***@cache/3");
        assert_eq!(masked_url("redis://cache:6379/3"), "redis://cache:6379/3");
        assert_eq!(masked_url("postgres://db/app?password=hunter2&a=b"), "postgres://db/app?password=***&a=b");
        assert_eq!(masked_url("hunter2"), "***");
    }
}
