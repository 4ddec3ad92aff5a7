//! Django's channel layer.

use super::deployment::Deployment;
use super::parse;
use super::secret::Secret;
use super::variable::{Reader, Variable};

const KIND: Variable = Variable::new(
    "GATEWAY_CHANNELS",
    "core",
    "how Django's channel layer is spoken to: `core` (RedisChannelLayer), `pubsub` (RedisPubSubChannelLayer), `off`",
);
const URL: Variable = Variable::new(
    "GATEWAY_CHANNELS_URL",
    "redis://127.0.0.1:6379/3",
    "the channel layer's Redis, one server, as in `CHANNEL_LAYERS` of Django's settings; `redis://` or `rediss://`",
)
.fallback("GATEWAY_REDIS_URL")
.url();
const PREFIX: Variable = Variable::new("GATEWAY_CHANNELS_PREFIX", "asgi", "the channel layer's `prefix`");
const CAPACITY: Variable = Variable::new(
    "GATEWAY_CHANNELS_CAPACITY",
    "3000",
    "the channel layer's `capacity`: what waits for one Django process; more is dropped there",
);

pub(super) const VARIABLES: &[Variable] = &[KIND, URL, PREFIX, CAPACITY];

/// Which of Django's two layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerKind {
    /// `channels_redis.core.RedisChannelLayer`.
    Core,
    /// `channels_redis.pubsub.RedisPubSubChannelLayer`.
    PubSub,
}

/// The channel layer as Django's settings have it.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Which one.
    pub kind: LayerKind,
    /// `redis://…` or `rediss://…`.
    pub url: Secret,
    /// How the layer's keys begin.
    pub prefix: String,
    /// How many messages one inbox holds.
    pub capacity: u32,
}

/// The outer `None` when something was wrong and noted, the inner when the layer is off.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<Option<Layer>> {
    let kind = reader.take(&KIND, |text| match text.trim() {
        "core" => Ok(Some(LayerKind::Core)),
        "pubsub" => Ok(Some(LayerKind::PubSub)),
        "off" => Ok(None),
        _ => Err(format!("\"{text}\" is not core, pubsub or off")),
    });
    let off = kind == Some(None);
    let lent = !reader.is_set(URL.name);
    let mut several = false;
    let url = reader.take(&URL, |text| match Deployment::parse(text) {
        // What is not used need not be right.
        _ if off => Ok(None),
        // What is wrong with the realtime Redis's URL is told there.
        Err(_) if lent => Ok(None),
        Ok(Deployment::Sentinel { .. } | Deployment::Cluster(_)) if lent => {
            several = true;
            Ok(None)
        }
        _ => parse::redis(text).map(Some),
    });
    if several {
        let why = "the realtime Redis is not one server, as the layer's must be; name that in GATEWAY_CHANNELS_URL";
        reader.odd(KIND.name, format!("has no effect: {why}"));
    }
    let prefix = reader.take(&PREFIX, |text| {
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        if plain { Ok(text.to_owned()) } else { Err("holds white space or letters beyond ASCII".to_owned()) }
    });
    let capacity = reader.take(&CAPACITY, parse::whole(1..=1_000_000));
    let (kind, url, prefix, capacity) = (kind?, url?, prefix?, capacity?);
    Some(kind.zip(url).map(|(kind, url)| Layer { kind, url, prefix, capacity }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn layer(pairs: &[(&str, &str)]) -> (Option<Option<Layer>>, usize, usize) {
        let strings: BTreeMap<String, String> =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut reader = Reader::new(&strings);
        let layer = read(&mut reader);
        (layer, reader.problems.errors.len(), reader.problems.warnings.len())
    }

    #[test]
    fn the_layer_lies_in_the_realtime_redis_where_that_is_one_server() {
        let (read, ..) = layer(&[("GATEWAY_REDIS_URL", "redis://a/5")]);
        assert_eq!(read.unwrap().map(|layer| layer.url), Some(Secret::new("redis://a/5")));
        let (read, errors, warnings) = layer(&[("GATEWAY_REDIS_URL", "redis-cluster://a")]);
        assert_eq!((read.unwrap().is_none(), errors, warnings), (true, 0, 1), "off, and it says so");
        let own = ("GATEWAY_CHANNELS_URL", "redis://b/3");
        let (read, _, warnings) = layer(&[("GATEWAY_REDIS_URL", "redis-cluster://a"), own]);
        assert_eq!((read.unwrap().map(|layer| layer.url), warnings), (Some(Secret::new("redis://b/3")), 0));
        let (_, errors, _) = layer(&[("GATEWAY_CHANNELS_URL", "redis-cluster://a")]);
        assert_eq!(errors, 1);
        let (read, errors, warnings) = layer(&[("GATEWAY_CHANNELS", "off"), ("GATEWAY_CHANNELS_URL", "nonsense")]);
        assert_eq!((read.unwrap().is_none(), errors, warnings), (true, 0, 0));
    }
}
