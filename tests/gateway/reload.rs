//! Changing the configuration while the gateway runs.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::moderation_stage::{self, say};
use crate::support::{ADMIN_TOKEN, FakeOpenAi, RoomSpec, Stack, TestGateway, eventually};

struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path: PathBuf = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// Lets a gateway read its configuration again, and returns what it says of that.
async fn reload(gateway: &TestGateway) -> Value {
    let (status, answer) = gateway.admin("POST", "reload", json!({})).await;
    assert_eq!((status, &answer["complete"]), (200, &json!(true)), "{answer}");
    answer["instances"].as_object().unwrap().values().next().unwrap().clone()
}

#[tokio::test]
async fn limits_origins_and_the_log_change_for_open_sockets_too() {
    let (stack, files) = (Stack::start().await, Files::new());
    let settings = |text: &str| files.write("settings", &format!("GATEWAY_ADMIN_TOKEN=oncall:{ADMIN_TOKEN}\n{text}"));
    let path = settings("GATEWAY_LIMIT_MESSAGES_PER_MINUTE=1\nCORS_ALLOWED_ORIGINS=http://old.test\n");
    let gateway = stack.gateway().without("CORS_ALLOWED_ORIGINS").env("GATEWAY_CONFIG_FILE", path).start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let mut tab = gateway.enter(&room, &ada).await;
    tab.send(json!({"type": "send_message", "content": "one"})).await;
    tab.wait_for("new_message").await;
    tab.send(json!({"type": "send_message", "content": "two"})).await;
    assert_eq!(tab.wait_for("error").await["code"], "rate_limited");

    settings(
        "GATEWAY_LIMIT_MESSAGES_PER_MINUTE=3\nCORS_ALLOWED_ORIGINS=http://new.test\nGATEWAY_LOG=debug\nGATEWAY_DB_POOL=7\n",
    );
    gateway.signal("HUP");
    gateway.wait_for_log("the configuration was read again").await;
    tab.send(json!({"type": "send_message", "content": "three"})).await;
    assert_eq!(tab.wait_for("new_message").await["message"]["content"], "three");
    assert_eq!(gateway.wait_for_log("a command was run").await["command"], "send_message");
    for (origin, is_let_in) in [("http://old.test", false), ("http://new.test", true)] {
        let dial = gateway.dial(&room.path()).jwt(&stack.jwt(&ada)).origin(origin);
        match is_let_in {
            true => drop(dial.connect().await),
            false => assert_eq!(dial.refused().await.status, 403),
        }
    }

    let (_, config) = gateway.admin("GET", "config", Value::Null).await;
    assert_eq!((&config["version"], &config["needs_restart"]), (&json!(2), &json!(["GATEWAY_DB_POOL"])), "{config}");
    let value = |name: &str| {
        let settings = config["settings"].as_array().unwrap();
        settings.iter().find(|setting| setting["name"] == name).unwrap()["value"].clone()
    };
    assert_eq!((value("GATEWAY_DB_POOL"), value("GATEWAY_LIMIT_MESSAGES_PER_MINUTE")), (json!("10"), json!("3")));
    assert_eq!((value("GATEWAY_ADMIN_TOKEN"), value("SECRET_KEY")), (json!("***"), json!("***")));
    assert!((gateway.metric("community_gateway_config_version", &[]).await - 2.0).abs() < 0.1);
}

#[tokio::test]
async fn what_is_wrong_changes_nothing_and_is_named() {
    let (stack, files) = (Stack::start().await, Files::new());
    let path = files.write("settings", "GATEWAY_LIMIT_MESSAGES_PER_MINUTE=1\n");
    let gateway =
        stack.gateway().env("GATEWAY_CONFIG_FILE", path).env("GATEWAY_ADMIN_TOKEN", ADMIN_TOKEN).start().await;
    // An instance that Redis does not know yet (it has just begun) answers its operator all the same.
    let () = redis::cmd("DEL").arg("community:instances").query_async(&mut stack.redis().await).await.unwrap();
    assert_eq!(reload(&gateway).await["outcome"], "unchanged");
    files.write(
        "settings",
        "GATEWAY_LIMIT_MESSAGES_PER_MINUTE=2\nGATEWAY_LIMIT_FRAMES_PER_SECOND=many\nGATEWAY_LOG=loud\n",
    );
    let wrong = reload(&gateway).await;
    assert_eq!((&wrong["outcome"], &wrong["version"]), (&json!("wrong"), &json!(1)), "{wrong}");
    let errors: Vec<_> = wrong["errors"].as_array().unwrap().iter().map(|error| error.as_str().unwrap()).collect();
    assert!(errors.len() == 2 && errors[0].starts_with("GATEWAY_LIMIT_FRAMES_PER_SECOND: "), "{errors:?}");
    assert_eq!(gateway.metric("community_gateway_config_reloads_total", &[("outcome", "wrong")]).await, 1.0);
    files.write("settings", "GATEWAY_LIMIT_MESSAGES_PER_MINUTE=2\n");
    let right = reload(&gateway).await;
    assert_eq!(
        (&right["outcome"], &right["changed"]),
        (&json!("applied"), &json!(["GATEWAY_LIMIT_MESSAGES_PER_MINUTE"]))
    );
}

#[tokio::test]
async fn secrets_are_read_again_from_their_files() {
    let (stack, files) = (Stack::start().await, Files::new());
    let key = files.write("key", "another-key-that-is-long-enough-for-hs256\n");
    let tokens = files.write("tokens", &format!("oncall:{ADMIN_TOKEN}\n"));
    let gateway = stack.gateway().without("SECRET_KEY").env("SECRET_KEY_FILE", &key);
    let gateway = gateway.env("GATEWAY_ADMIN_TOKEN_FILE", &tokens).start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let mut refused = gateway.dial(&room.path()).jwt(&stack.jwt(&ada)).connect().await;
    assert_eq!(refused.expect_close().await.0, 4001);

    files.write("key", &format!("{}\n", crate::support::SECRET_KEY));
    files.write("tokens", "oncall:another-token-that-is-long-enough\n");
    assert_eq!(reload(&gateway).await["changed"], json!(["GATEWAY_ADMIN_TOKEN", "SECRET_KEY"]));
    gateway.enter_by_jwt(&room, &ada).await;
    assert_eq!(gateway.admin("GET", "instances", Value::Null).await.0, 401, "the old token is good no more");
    assert!(!gateway.log_lines().join("\n").contains(crate::support::SECRET_KEY));
}

#[tokio::test]
async fn lists_that_alone_have_changed_are_told() {
    let stage = moderation_stage::Stage::start().await;
    let gateway = stage.gateway().env("GATEWAY_ADMIN_TOKEN", ADMIN_TOKEN).start().await;
    let config = async || gateway.admin("GET", "config", Value::Null).await.1;
    let before = config().await;
    assert_eq!(reload(&gateway).await["outcome"], "unchanged");
    stage.lists.set("block frumious\n");
    let answer = reload(&gateway).await;
    assert_eq!(
        (&answer["outcome"], &answer["changed"], &answer["version"]),
        (&json!("applied"), &json!(["GATEWAY_MODERATION_LISTS"]), &json!(2))
    );
    let after = config().await;
    assert_eq!((&answer["lists"], &after["version"]), (&after["lists"], &json!(2)));
    assert_ne!(before["lists"], after["lists"]);
    assert_eq!(reload(&gateway).await["outcome"], "unchanged");
}

#[tokio::test]
async fn the_key_of_the_second_layer_is_replaced_and_tried_at_once() {
    let (stage, files) = (moderation_stage::Stage::start().await, Files::new());
    let key = |key: &str| files.write("settings", &format!("OPENAI_API_KEY={key}\n"));
    let settings = key("sk-that-was-withdrawn");
    let gateway = stage.gateway().without("OPENAI_API_KEY").env("GATEWAY_CONFIG_FILE", settings);
    let gateway = gateway.env("GATEWAY_ADMIN_TOKEN", ADMIN_TOKEN).start().await;
    let mut tab = gateway.enter(&stage.room, &stage.author).await;
    assert_eq!(say(&mut tab, "an awful day").await["event"], "message_ack", "nobody judged it");
    let is_given_up = async || gateway.metric("community_gateway_openai_breaker", &[]).await > 0.0;
    assert!(is_given_up().await);

    key(FakeOpenAi::KEY);
    assert_eq!(reload(&gateway).await["changed"], json!(["OPENAI_API_KEY"]));
    eventually("it judges again", || async { !is_given_up().await }).await;
    assert_eq!(say(&mut tab, "another awful day").await["action"], "blocked");

    key("");
    let answer = reload(&gateway).await;
    assert_eq!((&answer["outcome"], &answer["needs_restart"]), (&json!("unchanged"), &json!(["OPENAI_API_KEY"])));
    key("sk-\u{1}");
    assert_eq!(reload(&gateway).await["outcome"], "wrong");
    assert!(!gateway.log_lines().join("\n").contains(FakeOpenAi::KEY));
}

#[tokio::test]
async fn credentials_of_postgres_and_redis_wait_for_a_restart() {
    let (stack, files) = (Stack::start().await, Files::new());
    let (database, redis) = (stack.database_url(), stack.redis_server().url(3));
    let database_file = files.write("database", &database);
    let redis_file = files.write("redis", &redis);
    let gateway = stack.gateway().without("DATABASE_URL").without("GATEWAY_REDIS_URL");
    let gateway = gateway.env("DATABASE_URL_FILE", database_file).env("GATEWAY_REDIS_URL_FILE", redis_file);
    let gateway = gateway.env("GATEWAY_ADMIN_TOKEN", ADMIN_TOKEN).start().await;
    files.write(
        "database",
        &database.replace("postgres://", "postgres://other:hunter2@").replace("hunter2@postgres@", "hunter2@"),
    );
    files.write("redis", &redis.replace("redis://", "redis://:hunter2@"));
    let answer = reload(&gateway).await;
    let waiting = json!(["DATABASE_URL", "GATEWAY_REDIS_URL", "GATEWAY_CHANNELS_URL"]);
    assert_eq!(answer["needs_restart"], waiting, "{answer}");
    assert!(!gateway.log_lines().join("\n").contains("hunter2"));
}
