//! What `check` wants to know about Django's cache: does it have the command that takes a token, and does Django keep
//! its keys under the prefix we were told.

use fred::interfaces::{ClientLike, KeysInterface, ServerInterface};
use fred::types::{CustomCommand, InfoKind};
use uuid::Uuid;

use super::cache::{CacheError, DjangoCache};
use crate::django;
use crate::domain::Micros;

/// Steps of a scan for the prefix, each over about [`STEP`] keys, before it is given up.
const STEPS: usize = 200;
const STEP: &str = "1000";

/// What was found out about a cache that answers.
#[derive(Clone, Debug)]
pub struct Report {
    /// `redis_version` as the server tells it.
    pub version: String,
    /// Its clock minus ours, in microseconds.
    pub clock_skew: i64,
    /// What it said to `GETDEL`, which takes a token out atomically; `Err` when it cannot.
    pub getdel: Result<(), String>,
    /// Keys in the database.
    pub keys: u64,
    /// One of the keys looked at has the prefix and version.
    pub has_prefix: bool,
}

impl DjangoCache {
    /// Looks at the cache, and changes nothing.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn examine(&self) -> Result<Report, CacheError> {
        let nobody = self.key(&format!("community-gateway-check-{}", Uuid::new_v4()));
        let getdel =
            self.client.getdel::<Option<String>, _>(nobody).await.map(|_| ()).map_err(|error| error.to_string());
        let info: String = self.client.info(Some(InfoKind::Server)).await.map_err(CacheError::Command)?;
        let version = django::field_of(&info, "redis_version").unwrap_or_default().to_owned();
        let clock_skew = self.skew().await?;
        let keys: u64 = self.client.dbsize().await.map_err(CacheError::Command)?;
        Ok(Report { version, clock_skew, getdel, keys, has_prefix: keys > 0 && self.has_prefix().await? })
    }

    /// The server's clock minus ours; half of the round trip is taken for the way back.
    async fn skew(&self) -> Result<i64, CacheError> {
        let (before, time) = (Micros::now().0, CustomCommand::new_static("TIME", None::<u16>, false));
        let (seconds, micros): (i64, i64) =
            self.client.custom(time, Vec::<String>::new()).await.map_err(CacheError::Command)?;
        Ok(seconds * 1_000_000 + micros - i64::midpoint(before, Micros::now().0))
    }

    async fn has_prefix(&self) -> Result<bool, CacheError> {
        let pattern = format!("{}*", escaped(&self.key("")));
        let mut cursor = "0".to_owned();
        for _ in 0..STEPS {
            let scan = CustomCommand::new_static("SCAN", None::<u16>, false);
            let arguments = vec![cursor.as_str(), "MATCH", pattern.as_str(), "COUNT", STEP];
            let (next, found): (String, Vec<String>) =
                self.client.custom(scan, arguments).await.map_err(CacheError::Command)?;
            if !found.is_empty() {
                return Ok(true);
            }
            if next == "0" {
                return Ok(false);
            }
            cursor = next;
        }
        // Nothing can be said of a database this large: no hint is better than a false one.
        Ok(true)
    }
}

/// A text as a pattern that matches nothing but itself.
fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for letter in text.chars() {
        if "*?[]^-\\".contains(letter) {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_no_pattern() {
        assert_eq!(escaped("a*b?[c]:1:"), "a\\*b\\?\\[c\\]:1:");
    }
}
