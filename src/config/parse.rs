//! Texts to values. Every error says what was expected; values of secrets are never repeated.

use std::ops::RangeInclusive;
use std::time::Duration;

use url::Url;

use super::secret::Secret;

/// A whole number within bounds.
pub(super) fn whole<T>(bounds: RangeInclusive<u64>) -> impl FnOnce(&str) -> Result<T, String>
where
    T: TryFrom<u64>,
{
    move |text| {
        let number = text.trim().parse::<u64>().ok().filter(|number| bounds.contains(number));
        number
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| format!("\"{text}\" is not a whole number from {} to {}", bounds.start(), bounds.end()))
    }
}

/// Seconds, with or without a fraction, within bounds.
pub(super) fn seconds(bounds: RangeInclusive<f64>) -> impl FnOnce(&str) -> Result<Duration, String> {
    move |text| {
        let number = text.trim().parse::<f64>().ok().filter(|number| bounds.contains(number));
        number
            .and_then(|number| Duration::try_from_secs_f64(number).ok())
            .ok_or_else(|| format!("\"{text}\" is not a number of seconds from {} to {}", bounds.start(), bounds.end()))
    }
}

/// Yes or no, as people and Django's settings write it.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(format!("\"{text}\" is neither true nor false")),
    }
}

/// A comma separated list; blanks around the parts and empty parts do not count.
pub(super) fn list<T>(text: &str, part: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    text.split(',').map(str::trim).filter(|text| !text.is_empty()).map(part).collect()
}

/// An address with one of these schemes. The text is not repeated: it may hold a password.
pub(super) fn url(text: &str, schemes: &[&str]) -> Result<Url, String> {
    let expected = || schemes.iter().map(|scheme| format!("{scheme}://")).collect::<Vec<_>>().join(" or ");
    let url =
        Url::parse(text.trim()).map_err(|error| format!("is no address ({error}); it begins with {}", expected()))?;
    if schemes.contains(&url.scheme()) {
        Ok(url)
    } else {
        Err(format!("begins with {}://, not with {}", url.scheme(), expected()))
    }
}

/// The address of one Redis server and database.
pub(super) fn redis(text: &str) -> Result<Secret, String> {
    const LATER: [&str; 6] =
        ["redis-sentinel", "rediss-sentinel", "redis-cluster", "rediss-cluster", "sentinel", "cluster"];
    if let Ok(url) = Url::parse(text.trim())
        && LATER.contains(&url.scheme())
    {
        return Err(format!(
            "{}:// is not supported here, only in GATEWAY_REDIS_URL: name one server with redis:// or rediss://, by a name \
             that leads to the new primary after a failover",
            url.scheme()
        ));
    }
    let url = url(text, &["redis", "rediss"])?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err("names no host".to_owned());
    }
    let database = url.path().trim_matches('/');
    if !database.is_empty() && database.parse::<u32>().is_err() {
        return Err(format!("\"{database}\" is no database number"));
    }
    Ok(Secret::new(text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_within_bounds() {
        assert_eq!(whole::<u32>(1..=10)("10"), Ok(10));
        for text in ["0", "11", "-1", "1.5", "ten", ""] {
            assert!(whole::<u32>(1..=10)(text).is_err(), "{text}");
        }
    }

    #[test]
    fn seconds_may_have_a_fraction() {
        assert_eq!(seconds(0.0..=9.0)("0.5"), Ok(Duration::from_millis(500)));
        for text in ["-1", "10", "NaN", "inf", "5s", ""] {
            assert!(seconds(0.0..=9.0)(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_single_redis_servers_are_taken() {
        assert!(redis("redis://127.0.0.1:6379/3").is_ok());
        assert!(redis("rediss://:key@cache.example/0").is_ok());
        assert!(redis("redis-cluster://a").unwrap_err().contains("not supported here"));
        assert!(redis("redis-sentinel://a").unwrap_err().contains("not supported here"));
        assert!(redis("http://a").unwrap_err().contains("begins with http://"));
        assert!(redis("redis://a/first").unwrap_err().contains("no database number"));
        assert!(redis("127.0.0.1:6379").is_err());
        assert!(!redis("hunter2").unwrap_err().contains("hunter2"));
    }
}
