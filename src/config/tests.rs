use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use super::*;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The least that works, and more.
fn with(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut all = map(&[("DATABASE_URL", "postgres://app:hunter2@db/app"), ("SECRET_KEY", "hunter2")]);
    all.extend(map(pairs));
    all
}

fn read(pairs: &[(&str, &str)]) -> (Config, Vec<Warning>) {
    Config::from(&with(pairs)).expect("a configuration")
}

fn refused(pairs: &[(&str, &str)]) -> Vec<ConfigError> {
    Config::from(&with(pairs)).expect_err("no configuration").errors
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("written");
    file
}

#[test]
fn defaults_are_those_of_the_contract() {
    let (config, warnings) = read(&[]);
    assert_eq!(warnings, []);
    assert_eq!(config.listen.public.to_string(), "127.0.0.1:8001");
    assert_eq!(config.listen.ops.to_string(), "127.0.0.1:9101");
    assert_eq!((config.database.pool, config.database.pgbouncer), (10, false));
    assert_eq!(config.database.user_table, "users_user");
    assert_eq!(config.redis.url.expose(), "redis://127.0.0.1:6379/3");
    assert_eq!(config.cache.url.expose(), "redis://127.0.0.1:6379/2");
    assert_eq!((config.cache.prefix.as_str(), config.cache.version.as_str()), ("allthrive", "1"));
    assert_eq!(config.auth.jwt_cookie, "access_token");
    assert!(config.auth.allowed_origins.is_empty() && config.auth.trusted_proxies.is_empty());
    assert_eq!((config.limits.messages_per_minute, config.limits.messages_per_hour), (10, 100));
    assert_eq!((config.limits.frames_per_second, config.limits.frames_burst), (20, 40));
    assert_eq!((config.limits.connections_per_user, config.limits.connects_per_minute), (5, 10));
    assert_eq!((config.limits.connections_per_address, config.limits.connections), (1000, None));
    assert_eq!(config.limits.handshake_rate, 1000);
    assert_eq!((config.limits.max_message_bytes, config.limits.outbox_bytes), (32_768, 262_144));
    assert_eq!(config.heartbeat.ping, Duration::from_secs(25));
    assert_eq!(config.heartbeat.idle, Duration::from_secs(60));
    assert_eq!(config.presence.lease, Duration::from_secs(60));
    assert_eq!(config.presence.grace, Duration::from_secs(5));
    assert_eq!((config.drain, config.drain_wait), (Duration::from_secs(30), Duration::ZERO));
    assert_eq!(config.threads, None);
    assert_eq!((config.log.filter.as_str(), config.log.format), ("info", LogFormat::Json));
}

#[test]
fn values_are_taken_from_their_variables() {
    let (config, warnings) = read(&[
        ("GATEWAY_LISTEN", "[::]:80"),
        ("GATEWAY_INSTANCE", "blue-1"),
        ("GATEWAY_THREADS", "4"),
        ("GATEWAY_PGBOUNCER", "True"),
        ("GATEWAY_CACHE_PREFIX", ""),
        ("CORS_ALLOWED_ORIGINS", " https://app.example , http://localhost:3000,"),
        ("GATEWAY_TRUSTED_PROXIES", "10.0.0.0/8, ::1"),
        ("GATEWAY_LIMIT_MESSAGES_PER_MINUTE", "0"),
        ("GATEWAY_LIMIT_CONNECTIONS", "500"),
        ("GATEWAY_PING_SECONDS", "0.5"),
        ("GATEWAY_LOG_FORMAT", "text"),
    ]);
    assert_eq!(warnings, []);
    assert_eq!(config.listen.public.to_string(), "[::]:80");
    assert_eq!(config.instance.as_str(), "blue-1");
    assert_eq!(config.threads.map(usize::from), Some(4));
    assert!(config.database.pgbouncer);
    assert_eq!(config.cache.prefix, "");
    assert_eq!(config.auth.allowed_origins, ["https://app.example", "http://localhost:3000"]);
    assert_eq!(config.auth.trusted_proxies.len(), 2);
    assert_eq!(config.limits.messages_per_minute, 0);
    assert_eq!(config.open_sockets(), 500);
    assert_eq!(config.heartbeat.ping, Duration::from_millis(500));
    assert_eq!(config.log.format, LogFormat::Text);
}

#[test]
fn two_processes_have_different_names() {
    assert_ne!(read(&[]).0.instance, read(&[]).0.instance);
}

#[test]
fn everything_that_is_wrong_is_reported_at_once() {
    let wrong = Config::from(&map(&[
        ("GATEWAY_LISTEN", ":8001"),
        ("GATEWAY_DB_POOL", "many"),
        ("GATEWAY_REDIS_URL", "redis-cluster://a/3"),
        ("GATEWAY_LIMIT_FRAMES_BURST", "0"),
        ("GATEWAY_PING_SECONDS", "60"),
        ("GATEWAY_PRESENCE_SECONDS", "0.1"),
        ("GATEWAY_LOG", "inof"),
        ("GATEWAY_DATABASE_URL", "postgres://db/app"),
    ]))
    .expect_err("no configuration");
    let names: Vec<&str> = wrong.errors.iter().map(|error| error.variable.as_str()).collect();
    assert_eq!(
        names,
        [
            "GATEWAY_LISTEN",
            "DATABASE_URL",
            "GATEWAY_DB_POOL",
            "GATEWAY_REDIS_URL",
            "SECRET_KEY",
            "GATEWAY_LIMIT_FRAMES_BURST",
            "GATEWAY_IDLE_SECONDS",
            "GATEWAY_PRESENCE_SECONDS",
            "GATEWAY_LOG",
        ]
    );
    assert_eq!(wrong.warnings.len(), 1, "the misspelt name is named too");
    assert_eq!(
        wrong.errors[2].to_string(),
        "GATEWAY_DB_POOL: \"many\" is not a whole number from 2 to 1000 (example: GATEWAY_DB_POOL=10)"
    );
    assert_eq!(wrong.to_string().lines().count(), 10);
}

#[test]
fn a_variable_may_come_from_a_file() {
    let secret = file("s3cret\r\n");
    let path = secret.path().to_str().expect("a path");
    let mut strings = with(&[("SECRET_KEY_FILE", path)]);
    strings.remove("SECRET_KEY");
    let (config, _) = Config::from(&strings).expect("a configuration");
    assert_eq!(config.auth.secret_key.expose(), "s3cret");
    let setting = config.settings().iter().find(|setting| setting.name == "SECRET_KEY").expect("is listed");
    assert_eq!((setting.value.as_str(), setting.origin.as_str()), ("***", "SECRET_KEY_FILE"));

    let both = refused(&[("SECRET_KEY_FILE", path)]);
    assert!(both[0].problem.contains("SECRET_KEY_FILE too"), "{both:?}");
    let missing = refused(&[("GATEWAY_DB_POOL_FILE", "/nowhere/at/all")]);
    assert_eq!(missing[0].variable, "GATEWAY_DB_POOL_FILE");
    let empty = file("\n");
    let empty = refused(&[("GATEWAY_DB_POOL_FILE", empty.path().to_str().expect("a path"))]);
    assert!(empty[0].problem.contains("is empty"), "{empty:?}");
}

#[test]
fn the_cache_falls_back_to_djangos_variable() {
    assert_eq!(read(&[("CACHE_URL", "redis://a/1")]).0.cache.url.expose(), "redis://a/1");
    let both = read(&[("CACHE_URL", "redis://a/1"), ("GATEWAY_CACHE_URL", "redis://b/1")]);
    assert_eq!(both.0.cache.url.expose(), "redis://b/1");
    let address = file("redis://c/1\n");
    let from_file = read(&[("CACHE_URL_FILE", address.path().to_str().expect("a path"))]);
    assert_eq!(from_file.0.cache.url.expose(), "redis://c/1");
    assert_eq!(refused(&[("CACHE_URL", "memcached://a")])[0].variable, "CACHE_URL");
}

#[test]
fn only_the_realtime_database_may_have_sentinels_or_be_a_cluster() {
    for variable in ["GATEWAY_CACHE_URL", "GATEWAY_BROKER_URL"] {
        for url in ["redis-sentinel://:hunter2@a/2?sentinelServiceName=b", "redis-cluster://a", "rediss-cluster://a"] {
            let problems = refused(&[(variable, url)]);
            assert_eq!(problems[0].variable, variable);
            let said = &problems[0].problem;
            assert!(said.contains("only in GATEWAY_REDIS_URL") && !said.contains("hunter2"), "{said}");
        }
    }
}

#[test]
fn an_unknown_name_is_a_warning_with_the_nearest_known_one() {
    let (_, warnings) = read(&[("GATEWAY_LISTN", "1"), ("GATEWAY_LOG_FORMATS_FILE", "/x"), ("LISTN", "1")]);
    let texts: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "GATEWAY_LISTN: is not a variable of the gateway; the nearest is GATEWAY_LISTEN",
            "GATEWAY_LOG_FORMATS_FILE: is not a variable of the gateway; the nearest is GATEWAY_LOG_FORMAT",
        ]
    );
}

#[test]
fn the_broker_is_djangos_and_may_be_none() {
    let broker = |pairs: &[(&str, &str)]| read(pairs).0.handover.broker;
    assert_eq!(broker(&[]), Some(Secret::new("redis://127.0.0.1:6379/0")));
    assert_eq!(broker(&[("CELERY_BROKER_URL", "redis://a/1")]), Some(Secret::new("redis://a/1")));
    assert_eq!(broker(&[("CELERY_BROKER_URL", "amqp://a"), ("GATEWAY_BROKER_URL", "")]), None);
}

#[test]
fn nothing_shows_a_secret() {
    let strings = [
        ("GATEWAY_REDIS_URL", "redis://:hunter2@a/3"),
        ("GATEWAY_CACHE_URL", "rediss://me:hunter2@a/2"),
        ("OPENAI_API_KEY", "hunter2"),
    ];
    let (config, warnings) = read(&strings);
    assert!(!format!("{config:?} {warnings:?}").contains("hunter2"));
    let wrong = refused(&[
        ("DATABASE_URL", "mysql://app:hunter2@db/app"),
        ("GATEWAY_REDIS_URL", "hunter2@a"),
        ("GATEWAY_CACHE_URL", "redis-sentinel://:hunter2@a"),
    ]);
    assert_eq!(wrong.len(), 3);
    assert!(!format!("{wrong:?}").contains("hunter2"));
}

#[test]
fn every_declaration_is_read_and_every_example_works() {
    let read_names: Vec<&str> = read(&[]).0.settings.iter().map(|setting| setting.name).collect();
    let declared: Vec<&str> = declarations().map(|variable| variable.name).collect();
    assert_eq!(read_names, declared, "what is declared and what is read are the same, in the same order");
    for variable in declarations() {
        // A certificate and its key go together.
        let tls = [tls::VARIABLES[0], tls::VARIABLES[1]].map(|of_tls| (of_tls.name, of_tls.example));
        let example = match tls.iter().any(|(name, _)| *name == variable.name) {
            true => with(&tls),
            false => with(&[(variable.name, variable.example)]),
        };
        assert!(Config::from(&example).is_ok(), "{}={}", variable.name, variable.example);
    }
}

#[test]
fn the_two_listeners_differ() {
    let wrong = refused(&[("GATEWAY_LISTEN", "127.0.0.1:80"), ("GATEWAY_OPS_LISTEN", "127.0.0.1:80")]);
    assert_eq!(wrong[0].variable, "GATEWAY_OPS_LISTEN");
    read(&[("GATEWAY_LISTEN", "127.0.0.1:0"), ("GATEWAY_OPS_LISTEN", "127.0.0.1:0")]);
}
