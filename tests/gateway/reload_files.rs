//! A changed file is read again by itself: settings, secrets, lists and certificates, however they are replaced.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::moderation_stage::say;
use crate::support::{ADMIN_TOKEN, GatewayBuilder, RoomSpec, Stack, TestCertificate, TestGateway, eventually};

const RELOADS: &str = "community_gateway_config_reloads_total";

fn watching(gateway: GatewayBuilder) -> GatewayBuilder {
    gateway.env("GATEWAY_WATCH_SECONDS", "0.05").env("GATEWAY_ADMIN_TOKEN", ADMIN_TOKEN)
}

/// Replaces a file as editors and careful programs do.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

async fn reloads(gateway: &TestGateway, outcome: &str) -> f64 {
    gateway.metric(RELOADS, &[("outcome", outcome)]).await
}

async fn value(gateway: &TestGateway, name: &str) -> Value {
    let (_, config) = gateway.admin("GET", "config", Value::Null).await;
    let settings = config["settings"].as_array().unwrap();
    settings.iter().find(|setting| setting["name"] == name).unwrap()["value"].clone()
}

#[tokio::test]
async fn settings_are_in_force_soon_after_they_are_saved() {
    let (stack, folder) = (Stack::start().await, tempfile::tempdir().unwrap());
    let path = folder.path().join("settings");
    fs::write(&path, "GATEWAY_LIMIT_MESSAGES_PER_MINUTE=1\n").unwrap();
    let gateway = watching(stack.gateway()).env("GATEWAY_CONFIG_FILE", path.display()).start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let mut tab = gateway.enter(&room, &ada).await;
    for (text, event) in [("one", "new_message"), ("two", "error")] {
        tab.send(json!({"type": "send_message", "content": text})).await;
        tab.wait_for(event).await;
    }

    replace(&path, "GATEWAY_LIMIT_MESSAGES_PER_MINUTE=many\n");
    eventually("what is wrong is tried", || async { reloads(&gateway, "wrong").await == 1.0 }).await;
    assert_eq!(value(&gateway, "GATEWAY_LIMIT_MESSAGES_PER_MINUTE").await, "1");
    replace(&path, "GATEWAY_LIMIT_MESSAGES_PER_MINUTE=3\n");
    eventually("what is right is in force", || async { reloads(&gateway, "ok").await == 1.0 }).await;
    tab.send(json!({"type": "send_message", "content": "three"})).await;
    assert_eq!(tab.wait_for("new_message").await["message"]["content"], "three");

    // A file that is written in pieces is read when it stands still, whatever it was before.
    let mut growing = String::from("GATEWAY_LIMIT_MESSAGES_PER_MINUTE=4\n");
    for _ in 0..20 {
        growing.push_str("# more\n");
        fs::write(&path, &growing).unwrap();
        tokio::task::yield_now().await;
    }
    eventually("the end of it is in force", || async {
        value(&gateway, "GATEWAY_LIMIT_MESSAGES_PER_MINUTE").await == "4"
    })
    .await;
    assert_eq!(reloads(&gateway, "wrong").await, 1.0, "what is wrong is tried once");
}

/// A folder as Kubernetes mounts a Secret: names that lead over a link to the folder of this generation.
struct Mounted {
    folder: tempfile::TempDir,
    generation: u32,
}

impl Mounted {
    fn new(files: &[(&str, &str)]) -> Self {
        let mut mounted = Self { folder: tempfile::tempdir().unwrap(), generation: 0 };
        mounted.put(files);
        for (name, _) in files {
            symlink(format!("..data/{name}"), mounted.path(name)).unwrap();
        }
        mounted
    }

    fn put(&mut self, files: &[(&str, &str)]) {
        self.generation += 1;
        let generation = format!("..{}", self.generation);
        fs::create_dir(self.path(&generation)).unwrap();
        for (name, text) in files {
            fs::write(self.path(&generation).join(name), text).unwrap();
        }
        symlink(&generation, self.path("..data_tmp")).unwrap();
        fs::rename(self.path("..data_tmp"), self.path("..data")).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

#[tokio::test]
async fn a_secret_that_kubernetes_swaps_is_read_again() {
    let (stack, first, second) = (Stack::start().await, TestCertificate::new(), TestCertificate::new());
    let files = |key: &'static str, tls: &TestCertificate| {
        [("key", key.to_owned()), ("crt", tls.chain.clone()), ("tls", tls.key.clone())]
    };
    let old = files("another-key-that-is-long-enough-for-hs256", &first);
    let mut mounted = Mounted::new(&old.each_ref().map(|(name, text)| (*name, text.as_str())));
    let gateway = watching(stack.gateway().without("SECRET_KEY"))
        .env("SECRET_KEY_FILE", mounted.path("key").display())
        .env("GATEWAY_TLS_CERT_FILE", mounted.path("crt").display())
        .env("GATEWAY_TLS_KEY_FILE", mounted.path("tls").display())
        .start()
        .await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let dial = || gateway.dial(&room.path()).jwt(&stack.jwt(&ada));
    assert_eq!(dial().tls(first.client()).connect().await.expect_close().await.0, 4001);

    let new = files(crate::support::SECRET_KEY, &second);
    mounted.put(&new.each_ref().map(|(name, text)| (*name, text.as_str())));
    eventually("the new one is in force", || async { reloads(&gateway, "ok").await == 1.0 }).await;
    dial().tls(second.client()).connect().await.expect_event("room_state").await;
    assert_eq!(reloads(&gateway, "wrong").await, 0.0);
}

#[tokio::test]
async fn a_word_that_is_added_to_a_list_is_looked_for() {
    let (stack, folder) = (Stack::start().await, tempfile::tempdir().unwrap());
    for name in ["words.txt", "innocent.txt", "links-allow.txt", "links-deny.txt"] {
        let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/moderation").join(name);
        fs::copy(built_in, folder.path().join(name)).unwrap();
    }
    let gateway = watching(stack.gateway()).env("GATEWAY_MODERATION_LISTS", folder.path().display()).start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let mut tab = gateway.enter(&room, &ada).await;
    assert_eq!(say(&mut tab, "a frumious day").await["event"], "message_ack");
    let words = folder.path().join("words.txt");
    let text = fs::read_to_string(&words).unwrap();
    replace(&words, &format!("{text}\nblock frumious\n"));
    eventually("the list is read", || async { reloads(&gateway, "ok").await >= 1.0 }).await;
    assert_eq!(say(&mut tab, "another frumious day").await["action"], "blocked");
}
