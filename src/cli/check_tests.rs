//! What `check` makes of what it found.

use super::*;

fn config(pairs: &[(&str, &str)]) -> Config {
    let least = [("DATABASE_URL", "postgres://db/app"), ("SECRET_KEY", "a-key-that-is-long-enough-for-every-purpose")];
    let all: std::collections::BTreeMap<String, String> =
        least.iter().chain(pairs).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Config::from(&all).expect("a configuration").0
}

fn redis(version: &str) -> bus::check::Report {
    let version = version.to_owned();
    bus::check::Report { version, writable: true, evicts: None, delivers: true, pubsub_buffer: None, clock_skew: 0 }
}

fn wrongs(findings: &[Finding]) -> usize {
    findings.iter().filter(|finding| finding.verdict == Verdict::Wrong).count()
}

#[test]
fn too_few_files_are_a_hint() {
    assert_eq!(files(&config(&[("GATEWAY_LIMIT_CONNECTIONS", "50000")]), Some(1024)).verdict, Verdict::Hint);
    assert_eq!(files(&config(&[("GATEWAY_LIMIT_CONNECTIONS", "500")]), Some(1024)).verdict, Verdict::Fine);
    assert_eq!(files(&config(&[]), None).verdict, Verdict::Fine);
}

#[test]
fn what_is_in_between_and_what_is_small_is_told() {
    let through = config(&[("DATABASE_URL", "postgres://db:6432/app")]);
    let at = |port| between(&through, Pooler::Absent, port);
    assert!(at(Some(5432)).is_some_and(|finding| finding.text.contains("GATEWAY_PGBOUNCER=true")));
    assert!(at(Some(6432)).is_none() && at(None).is_none());
    assert!(backlog(Some(128)).is_some() && backlog(Some(4_096)).is_none());
    let small = bus::check::Report { pubsub_buffer: Some(1 << 20), ..redis("7.0") };
    assert!(realtime_findings("redis://a", &small)[1].text.contains("client-output-buffer-limit"));
}

#[test]
fn what_stands_in_the_way_is_wrong_and_the_rest_a_hint() {
    assert_eq!(wrongs(&realtime_findings("redis://a", &redis("7.0.15"))), 0);
    let bad = bus::check::Report { writable: false, delivers: false, ..redis("6.0.1") };
    assert_eq!(wrongs(&realtime_findings("redis://a", &bad)), 3);
    let odd = bus::check::Report { evicts: Some("allkeys-lru".to_owned()), clock_skew: -2_500_000, ..redis("7.0") };
    let findings = realtime_findings("redis://a", &odd);
    assert_eq!((wrongs(&findings), findings.len()), (0, 3));
    assert!(findings[2].text.contains("-2.5 s"), "{findings:?}");

    let old = store::schema::Findings {
        version: "13.9".to_owned(),
        major: 13,
        read_only: true,
        clock_skew: 0,
        port: Some(5432),
        slow: Vec::new(),
        missing: vec!["relation \"community_room\" does not exist".to_owned()],
    };
    assert_eq!(wrongs(&postgres_findings("postgres://a", &old)), 3);
}

#[test]
fn a_configuration_is_looked_at_on_paper() {
    let texts = |pairs: &[(&str, &str)]| {
        on_paper(&config(pairs)).into_iter().map(|finding| finding.to_string()).collect::<Vec<_>>().join("\n")
    };
    let poor = texts(&[("SECRET_KEY", "short"), ("CACHE_URL", "redis://127.0.0.1:6379/3")]);
    for word in ["origins", "SECRET_KEY", "one database"] {
        assert!(poor.contains(word), "{word}: {poor}");
    }
    assert!(poor.contains("hint  moderation: the second layer is OFF"), "{poor}");
    let good = texts(&[("CORS_ALLOWED_ORIGINS", "https://app.example"), ("OPENAI_API_KEY", "sk-hunter2")]);
    assert!(good.contains("the second layer is on") && !good.contains("hunter2"), "{good}");
    assert!(good.lines().all(|line| line.starts_with("ok") || line.contains("files:")), "{good}");
}
