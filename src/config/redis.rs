//! The two Redis databases: ours for realtime state, and Django's cache.

use super::deployment::Deployment;
use super::parse;
use super::secret::Secret;
use super::variable::{Reader, Variable};

const REALTIME: Variable = Variable::new(
    "GATEWAY_REDIS_URL",
    "redis://127.0.0.1:6379/3",
    "realtime state and fan-out; `redis://` or `rediss://`, `redis-sentinel://`, `redis-cluster://` or \
     `rediss-cluster://`",
)
.url();
const CACHE: Variable = Variable::new(
    "GATEWAY_CACHE_URL",
    "redis://127.0.0.1:6379/2",
    "Django's cache: connection tokens, session versions; one server, `redis://` or `rediss://`, no Sentinels and no Cluster",
)
.fallback("CACHE_URL")
.url();
const PREFIX: Variable =
    Variable::new("GATEWAY_CACHE_PREFIX", "allthrive", "the cache's `KEY_PREFIX` in Django's settings; may be empty")
        .empty_counts();
const VERSION: Variable = Variable::new("GATEWAY_CACHE_VERSION", "1", "the cache's `VERSION` in Django's settings");

pub(super) const VARIABLES: &[Variable] = &[REALTIME, CACHE, PREFIX, VERSION];

/// The realtime database: state and fan-out.
#[derive(Clone, Debug)]
pub struct Redis {
    /// As it was set, for people to see it masked.
    pub url: Secret,
    /// What it says.
    pub deployment: Deployment,
}

/// Django's cache.
#[derive(Clone, Debug)]
pub struct Cache {
    /// `redis://…` or `rediss://…`.
    pub url: Secret,
    /// Django's `KEY_PREFIX`.
    pub prefix: String,
    /// Django's `VERSION`.
    pub version: String,
}

impl Redis {
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let (url, deployment) = reader.take(&REALTIME, |text| {
            let deployment = Deployment::parse(text)?;
            Ok((Secret::new(text.trim()), deployment))
        })?;
        Some(Self { url, deployment })
    }
}

impl Cache {
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let url = reader.take(&CACHE, parse::redis);
        let prefix = reader.take(&PREFIX, printable);
        let version = reader.take(&VERSION, printable);
        Some(Self { url: url?, prefix: prefix?, version: version? })
    }
}

fn printable(text: &str) -> Result<String, String> {
    if text.chars().any(|letter| letter.is_whitespace() || letter.is_control()) {
        Err("holds white space or control characters".to_owned())
    } else {
        Ok(text.to_owned())
    }
}
