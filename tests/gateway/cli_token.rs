//! `token`.

use std::collections::BTreeSet;

use community_gateway::domain::UserId;
use community_gateway::identity::ConnectionToken;

use crate::cli_run::{LEAST, run};
use crate::support::Stack;

fn key(token: &str) -> String {
    format!("allthrive:1:ws_conn_token:{token}")
}

#[tokio::test]
async fn a_token_of_each_format_lies_in_the_cache_as_login_reads_it() {
    let stack = Stack::start().await;
    let ada = stack.user("ada").await;
    let (database, cache) = (stack.database_url(), stack.redis_server().url(2));
    let env = [("DATABASE_URL", database.as_str()), ("GATEWAY_CACHE_URL", cache.as_str())];
    let mut connection = stack.cache().await;
    for format in ["django", "json"] {
        let id = ada.id.to_string();
        let ended = run(&["token", "--user", &id, "--format", format, "--ttl", "600"], &env).await;
        assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{format}");
        let token = ended.out.trim_end();
        let (value, ttl): (Vec<u8>, i64) =
            redis::pipe().get(key(token)).ttl(key(token)).query_async(&mut connection).await.unwrap();
        assert_eq!(value.starts_with(b"{"), format == "json");
        let read = ConnectionToken::parse(&value).unwrap();
        assert_eq!((read.user_id, read.username.as_str()), (UserId(ada.id), "ada"));
        assert!((590..=600).contains(&ttl), "{ttl}");
    }
}

#[tokio::test]
async fn many_tokens_for_many_users_come_in_order_and_are_all_different() {
    let stack = Stack::start().await;
    let mut users = Vec::new();
    for name in ["ada", "grace", "joan"] {
        users.push(stack.user(name).await);
    }
    let (database, cache) = (stack.database_url(), stack.redis_server().url(2));
    let env = [("DATABASE_URL", database.as_str()), ("GATEWAY_CACHE_URL", cache.as_str())];
    let range = format!("{}-{}", users[0].id, users[2].id);
    let ended = run(&["token", "--users", &range, "--count", "700"], &env).await;
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
    let tokens: Vec<&str> = ended.out.lines().collect();
    assert_eq!(tokens.iter().collect::<BTreeSet<_>>().len(), 2100);
    let mut connection = stack.cache().await;
    for (line, user) in [(0, 0), (699, 0), (700, 1), (2099, 2)] {
        let value: Vec<u8> = redis::cmd("GET").arg(key(tokens[line])).query_async(&mut connection).await.unwrap();
        assert_eq!(ConnectionToken::parse(&value).unwrap().username, users[user].username, "line {line}");
    }
}

#[tokio::test]
async fn with_a_username_postgres_is_not_needed() {
    let stack = Stack::start().await;
    let cache = stack.redis_server().url(2);
    let ended = run(&["token", "--user", "7", "--username", "ada"], &[("CACHE_URL", &cache)]).await;
    assert_eq!((ended.code, ended.err.as_str(), ended.out.lines().count()), (0, "", 1));
    let without = run(&["token", "--user", "7"], &[("CACHE_URL", &cache)]).await;
    assert_eq!(without.code, 64);
    assert!(without.err.contains("error: DATABASE_URL: ") && without.err.contains("--username"), "{}", without.err);
}

#[tokio::test]
async fn an_unknown_user_is_an_error_and_nothing_is_minted() {
    let stack = Stack::start().await;
    let (database, cache) = (stack.database_url(), stack.redis_server().url(2));
    let env = [("DATABASE_URL", database.as_str()), ("GATEWAY_CACHE_URL", cache.as_str())];
    let ended = run(&["token", "--users", "9000001-9000003"], &env).await;
    assert_eq!((ended.code, ended.out.as_str()), (64, ""));
    assert!(ended.err.contains("3 of the users"), "{}", ended.err);
    let keys: i64 = redis::cmd("DBSIZE").query_async(&mut stack.cache().await).await.unwrap();
    assert_eq!(keys, 0);
}

#[tokio::test]
async fn an_unreachable_dependency_ends_with_69() {
    let mut env = LEAST.to_vec();
    env.push(("GATEWAY_CACHE_URL", "redis://:hunter2@127.0.0.1:1/2"));
    for args in [&["token", "--user", "1", "--username", "ada"][..], &["token", "--user", "1"]] {
        let ended = run(args, &env).await;
        assert_eq!((ended.code, ended.out.as_str()), (69, ""), "{args:?}");
        assert!(!ended.err.contains("hunter2"), "{}", ended.err);
    }
}
