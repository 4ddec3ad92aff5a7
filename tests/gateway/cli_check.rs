//! `check`.

use crate::cli_run::{Ended, LEAST, run};
use crate::support::{PgBouncer, Stack, faketime};

/// A configuration that lacks nothing, on a stack of the test's own.
async fn check(stack: &Stack, more: &[(&str, &str)]) -> Ended {
    let (database, redis) = (stack.database_url(), stack.redis_server());
    let (realtime, cache, broker) = (redis.url(3), redis.url(2), redis.url(0));
    let mut env = vec![
        ("DATABASE_URL", database.as_str()),
        ("GATEWAY_REDIS_URL", realtime.as_str()),
        ("GATEWAY_CACHE_URL", cache.as_str()),
        ("GATEWAY_BROKER_URL", broker.as_str()),
        ("SECRET_KEY", "a-key-that-is-long-enough-for-every-purpose"),
        ("CORS_ALLOWED_ORIGINS", "https://app.example"),
    ];
    env.retain(|(name, _)| more.iter().all(|(other, _)| other != name));
    env.extend(more);
    run(&["check"], &env).await
}

/// The lines that begin with a verdict, without those that are about the machine the tests run on.
fn lines<'a>(ended: &'a Ended, verdict: &str) -> Vec<&'a str> {
    let of_machine = |line: &str| ["system: ", "files: "].iter().any(|part| line.contains(part));
    let said = ended.out.lines().filter(|line| line.split(' ').next() == Some(verdict));
    said.filter(|line| !of_machine(line)).collect()
}

#[tokio::test]
async fn all_is_well() {
    let stack = Stack::start().await;
    let ended = check(&stack, &[]).await;
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{}", ended.out);
    assert_eq!(lines(&ended, "WRONG"), [""; 0], "{}", ended.out);
    for part in ["configuration", "postgres", "redis", "cache", "channels", "broker"] {
        let fine = lines(&ended, "ok").into_iter().any(|line| line.contains(&format!("{part}: ")));
        assert!(fine, "{part}: {}", ended.out);
    }
    assert!(ended.out.ends_with("this configuration could serve\n"), "{}", ended.out);
    let left: i64 = redis::cmd("DBSIZE").query_async(&mut stack.cache().await).await.unwrap();
    assert_eq!(left, 0, "it leaves nothing in Django's cache");
}

#[tokio::test]
async fn everything_unreachable_is_named_with_what_to_do() {
    let mut env = LEAST.to_vec();
    env.push(("GATEWAY_REDIS_URL", "redis://:hunter2@127.0.0.1:1/3"));
    env.push(("GATEWAY_CACHE_URL", "redis://:hunter2@127.0.0.1:1/2"));
    env.push(("GATEWAY_BROKER_URL", "redis://:hunter2@127.0.0.1:1/0"));
    let ended = run(&["check"], &env).await;
    assert_eq!(ended.code, 1, "{}", ended.out);
    let wrong = lines(&ended, "WRONG");
    assert_eq!(wrong.len(), 3, "{}", ended.out);
    for (line, variable) in wrong.into_iter().zip(["DATABASE_URL", "GATEWAY_REDIS_URL", "GATEWAY_CACHE_URL"]) {
        assert!(line.contains(&format!("start it, or correct {variable}")), "{line}");
    }
    assert_eq!(
        lines(&ended, "hint").len(),
        5,
        "no origins, a short key, no second layer, no layer, no broker: {}",
        ended.out
    );
    assert!(!ended.out.contains("hunter2"), "{}", ended.out);
    assert!(ended.out.ends_with("this configuration could not serve\n"), "{}", ended.out);
}

#[tokio::test]
async fn what_the_database_lacks_is_named() {
    let stack = Stack::start().await;
    for change in [
        "ALTER TABLE community_room RENAME COLUMN message_count TO messages",
        "ALTER TABLE thrive_circle_circlemembership RENAME TO gone",
    ] {
        sqlx::query(change).execute(stack.db()).await.unwrap();
    }
    let ended = check(&stack, &[]).await;
    assert_eq!(ended.code, 1, "{}", ended.out);
    let wrong = lines(&ended, "WRONG").join("\n");
    for name in ["message_count", "thrive_circle_circlemembership"] {
        assert!(wrong.contains(name), "{name}: {}", ended.out);
    }
    let elsewhere = check(&stack, &[("GATEWAY_USER_TABLE", "auth_user")]).await;
    assert!(lines(&elsewhere, "WRONG").join("\n").contains("\"auth_user\" does not exist"), "{}", elsewhere.out);
}

#[tokio::test]
async fn a_column_that_must_be_given_and_is_not_known_is_named() {
    let stack = Stack::start().await;
    sqlx::query("ALTER TABLE community_message ADD COLUMN mood text NOT NULL").execute(stack.db()).await.unwrap();
    let ended = check(&stack, &[]).await;
    assert_eq!(ended.code, 1, "{}", ended.out);
    assert!(lines(&ended, "WRONG")[0].contains("community_message.mood must be given"), "{}", ended.out);
}

#[tokio::test]
async fn a_cache_with_other_prefixes_is_a_hint() {
    let stack = Stack::start().await;
    let mut cache = stack.cache().await;
    redis::cmd("SET").arg("myapp:1:session").arg(1).exec_async(&mut cache).await.unwrap();
    let ended = check(&stack, &[]).await;
    assert_eq!(ended.code, 0, "{}", ended.out);
    assert!(lines(&ended, "hint")[1].contains("GATEWAY_CACHE_PREFIX"), "{}", ended.out);
    let right = check(&stack, &[("GATEWAY_CACHE_PREFIX", "myapp")]).await;
    assert_eq!(lines(&right, "hint").len(), 1, "no second layer: {}", right.out);
}

#[tokio::test]
async fn a_redis_that_may_not_be_written_is_wrong() {
    let stack = Stack::start().await;
    let mut redis = stack.redis().await;
    redis::cmd("REPLICAOF").arg("127.0.0.1").arg(1).exec_async(&mut redis).await.unwrap();
    let ended = check(&stack, &[]).await;
    assert_eq!(ended.code, 1, "{}", ended.out);
    assert!(lines(&ended, "WRONG")[0].contains("redis: takes no writes"), "{}", ended.out);
}

#[tokio::test]
async fn a_redis_that_evicts_is_a_hint() {
    let stack = Stack::start().await;
    let mut redis = stack.redis().await;
    let policy = ["SET", "maxmemory-policy", "allkeys-lru"];
    redis::cmd("CONFIG").arg(&policy).exec_async(&mut redis).await.unwrap();
    let ended = check(&stack, &[]).await;
    assert_eq!(ended.code, 0, "{}", ended.out);
    let hints = lines(&ended, "hint").join("\n");
    for part in ["redis: maxmemory-policy is allkeys-lru", "which may drop tasks"] {
        assert!(hints.contains(part), "{part}: {}", ended.out);
    }
}

#[tokio::test]
async fn missing_indexes_and_small_buffers_are_hints() {
    let stack = Stack::start().await;
    let drop = "DO $$ DECLARE found record; BEGIN \
                FOR found IN SELECT indexname FROM pg_indexes WHERE indexdef LIKE '%community_message %(room_id, created_at%' \
                LOOP EXECUTE 'DROP INDEX ' || found.indexname; END LOOP; END $$";
    sqlx::query(drop).execute(stack.db()).await.unwrap();
    let small = ["CONFIG", "SET", "client-output-buffer-limit", "pubsub 1048576 1048576 60"];
    let _: () = stack.redis_server().command(&small).await;
    let ended = check(&stack, &[]).await;
    assert_eq!(ended.code, 0, "{}", ended.out);
    let hints = lines(&ended, "hint").join("\n");
    assert!(hints.contains("no index begins with community_message (room_id,created_at)"), "{hints}");
    assert!(hints.contains("cuts off a subscriber for whom 1048576 bytes wait"), "{hints}");
}

#[tokio::test]
async fn a_pooler_in_between_is_seen_with_its_mode_on_whatever_port() {
    let stack = Stack::start().await;
    let bouncer = PgBouncer::start(&stack.database_url()).await;
    let through = bouncer.url();
    let untold = check(&stack, &[("DATABASE_URL", &through)]).await;
    assert_eq!(untold.code, 1, "{}", untold.out);
    assert!(lines(&untold, "WRONG")[0].contains("set GATEWAY_PGBOUNCER=true"), "{}", untold.out);
    let told = check(&stack, &[("DATABASE_URL", &through), ("GATEWAY_PGBOUNCER", "true")]).await;
    assert_eq!(told.code, 0, "{}", told.out);
    assert!(lines(&told, "ok").join("\n").contains("pgbouncer in transaction mode is in between"), "{}", told.out);

    let keeping = PgBouncer::start_in(&stack.database_url(), "session").await;
    let session = check(&stack, &[("DATABASE_URL", &keeping.url()), ("GATEWAY_PGBOUNCER", "true")]).await;
    assert_eq!(session.code, 0, "{}", session.out);
    assert!(lines(&session, "hint").join("\n").contains("in session mode"), "{}", session.out);
    let direct = check(&stack, &[("GATEWAY_PGBOUNCER", "true")]).await;
    assert!(lines(&direct, "hint").join("\n").contains("nothing seems to be in between"), "{}", direct.out);
}

#[tokio::test]
async fn clocks_that_differ_are_hints() {
    let stack = Stack::start().await;
    let wrong = [("LD_PRELOAD", faketime()), ("FAKETIME", "+600"), ("DONT_FAKE_MONOTONIC", "1")];
    let ended = check(&stack, &wrong).await;
    assert_eq!(ended.code, 0, "{}", ended.out);
    let hints = lines(&ended, "hint").join("\n");
    for place in ["postgres", "redis", "cache", "channels"] {
        assert!(hints.contains(&format!("{place}: its clock differs from ours by -")), "{place}: {}", ended.out);
    }
}

#[tokio::test]
async fn what_only_django_can_tell_is_pointed_to_or_asked() {
    let (stack, folder) = (Stack::start().await, tempfile::tempdir().unwrap());
    let alone = check(&stack, &[]).await;
    assert!(lines(&alone, "next")[0].contains("manage.py gateway_selftest"), "{}", alone.out);

    let manage = folder.path().join("manage.py");
    let path = manage.to_str().unwrap().to_owned();
    let ask = async |script: &str| {
        std::fs::write(&manage, script).unwrap();
        let (database, redis) = (stack.database_url(), stack.redis_server());
        let (realtime, cache) = (redis.url(3), redis.url(2));
        let env = [
            ("PATH", "/usr/local/bin:/usr/bin:/bin".to_owned()),
            ("DATABASE_URL", database),
            ("GATEWAY_REDIS_URL", realtime),
            ("GATEWAY_CACHE_URL", cache),
            ("SECRET_KEY", "a-key-that-is-long-enough-for-every-purpose".to_owned()),
        ];
        let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
        run(&["check", "--manage", &path], &env).await
    };
    // As `gateway_selftest` prints.
    let well = ask(
        "import sys\nassert sys.argv[1] == 'gateway_selftest'\nprint('ok    cache: is the one')\nprint('All is well.')",
    )
    .await;
    assert_eq!(well.code, 0, "{}", well.out);
    assert!(lines(&well, "ok").join("\n").contains("django: cache: is the one"), "{}", well.out);
    let ill =
        "print('ok    settings: fit')\nprint('WRONG door: no answer')\nprint('      start it')\nraise SystemExit(1)";
    let ill = ask(ill).await;
    assert_eq!((ill.code, lines(&ill, "WRONG")), (1, vec!["WRONG django: door: no answer; start it"]), "{}", ill.out);
    let broken = ask("raise RuntimeError('no settings')").await;
    assert!(lines(&broken, "WRONG")[0].contains("RuntimeError: no settings"), "{}", broken.out);
}
