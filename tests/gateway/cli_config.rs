//! The command line itself, and `config`.

use std::collections::BTreeMap;

use crate::cli_run::{LEAST, run};

#[tokio::test]
async fn help_and_version_are_printed_and_succeed() {
    let help = run(&["--help"], &[]).await;
    assert_eq!((help.code, help.err.as_str()), (0, ""));
    for word in
        ["serve", "check", "probe", "token", "config", "DATABASE_URL", "NAME_FILE", "Exit codes", "69", "Examples"]
    {
        assert!(help.out.contains(word), "{word}: {}", help.out);
    }
    let version = run(&["--version"], &[]).await;
    let expected = format!("community-gateway {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!((version.code, version.out), (0, expected));
}

#[tokio::test]
async fn a_wrong_command_line_ends_with_64() {
    for args in [&["srve"][..], &["--port", "80"], &["token"], &["config", "x"]] {
        let ended = run(args, &LEAST).await;
        assert_eq!((ended.code, ended.out.as_str()), (64, ""), "{args:?}");
        assert!(ended.err.contains("error:"), "{args:?}: {}", ended.err);
    }
}

#[tokio::test]
async fn every_error_of_the_configuration_is_reported_at_once_by_every_command() {
    let wrong = [
        ("GATEWAY_LISTEN", "everywhere"),
        ("GATEWAY_DB_POOL", "many"),
        ("GATEWAY_REDIS_URL", "redis-sentinel://:hunter2@a"),
        ("GATEWAY_DATABSE_URL", "x"),
    ];
    for args in [&[][..], &["serve"], &["check"], &["config"]] {
        let ended = run(args, &wrong).await;
        assert_eq!((ended.code, ended.out.as_str()), (64, ""), "{args:?}");
        for name in ["GATEWAY_LISTEN", "GATEWAY_DB_POOL", "GATEWAY_REDIS_URL", "DATABASE_URL", "SECRET_KEY"] {
            assert!(ended.err.contains(&format!("error: {name}: ")), "{args:?}, {name}: {}", ended.err);
        }
        assert!(ended.err.contains("(example: GATEWAY_DB_POOL=10)"), "{}", ended.err);
        assert!(ended.err.contains("warning: GATEWAY_DATABSE_URL: "), "{}", ended.err);
        assert!(!ended.err.contains("hunter2"), "{}", ended.err);
    }
}

#[tokio::test]
async fn config_prints_what_is_in_effect_and_no_secret() {
    let mut env = LEAST.to_vec();
    env.extend([
        ("CACHE_URL", "redis://:hunter2@cache:6379/1"),
        ("GATEWAY_PING_SECONDS", "0.5"),
        ("OPENAI_API_KEY", "sk-hunter2"),
        ("GATEWAY_LISTN", "1"),
        ("GATEWAY_INSTANCE", "blue"),
    ]);
    let ended = run(&["config"], &env).await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(!ended.out.contains("hunter2") && !ended.err.contains("hunter2"));
    let lines: BTreeMap<&str, &str> = ended.out.lines().map(|line| line.split_once('=').expect("NAME=value")).collect();
    assert_eq!(lines["SECRET_KEY"], "***");
    assert_eq!(lines["DATABASE_URL"], "postgres://app:***@127.0.0.1:1/app");
    assert_eq!(lines["GATEWAY_CACHE_URL"], "redis://:***@cache:6379/1");
    assert_eq!(lines["OPENAI_API_KEY"], "***");
    assert_eq!(lines["GATEWAY_PING_SECONDS"], "0.5");
    assert_eq!(lines["GATEWAY_INSTANCE"], "blue");
    assert_eq!(lines["GATEWAY_LISTEN"], "127.0.0.1:8001");
    assert_eq!(ended.err, "warning: GATEWAY_LISTN: is not a variable of the gateway; the nearest is GATEWAY_LISTEN\n");
}

#[tokio::test]
async fn what_config_prints_is_a_configuration_again() {
    let env = [("DATABASE_URL", "postgres://app@db/app"), ("SECRET_KEY", "x"), ("GATEWAY_LOG", "warn,sqlx=off")];
    let first = run(&["config"], &env).await;
    let lines: Vec<(&str, &str)> = first.out.lines().filter_map(|line| line.split_once('=')).collect();
    let second = run(&["config"], &lines).await;
    assert_eq!((second.code, second.out.as_str(), second.err.as_str()), (0, first.out.as_str(), ""));
}

#[tokio::test]
async fn the_reference_needs_no_configuration() {
    let ended = run(&["config", "--reference"], &[]).await;
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
    assert_eq!(ended.out, community_gateway::config::reference_table());
    assert!(ended.out.contains("| `DATABASE_URL` | required |"), "{}", ended.out);
}
