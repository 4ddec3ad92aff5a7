//! `serve`: how it begins and how it ends.

use serde_json::Value;
use tokio::net::{TcpListener, UnixDatagram};

use crate::cli_run::{Ended, LEAST, run};
use crate::support::{GUARD, Stack, eventually};

/// Runs `serve`, which is to fail, on a stack with some variables replaced.
async fn fails(stack: &Stack, more: &[(&str, &str)]) -> Ended {
    let (database, realtime, cache) = (stack.database_url(), stack.redis_server().url(3), stack.redis_server().url(2));
    let mut env = vec![
        ("DATABASE_URL", database.as_str()),
        ("GATEWAY_REDIS_URL", realtime.as_str()),
        ("GATEWAY_CACHE_URL", cache.as_str()),
        ("SECRET_KEY", "hunter2"),
        ("GATEWAY_LISTEN", "127.0.0.1:0"),
        ("GATEWAY_OPS_LISTEN", "127.0.0.1:0"),
    ];
    env.retain(|(name, _)| more.iter().all(|(other, _)| other != name));
    env.extend(more);
    let ended = run(&["serve"], &env).await;
    assert_eq!(ended.out, "");
    assert!(!ended.err.contains("hunter2"), "{}", ended.err);
    ended
}

/// The log's last line of an error. Parts that are ended with it may still say a word after it.
fn last(ended: &Ended) -> Value {
    let mut errors = ended.err.lines().filter(|line| line.contains(r#""level":"ERROR""#));
    serde_json::from_str(errors.next_back().expect("an error")).expect("a line of the log is JSON")
}

#[tokio::test]
async fn a_dependency_that_cannot_be_reached_is_named_and_ends_it_with_69() {
    let stack = Stack::start().await;
    for (variable, address) in [
        ("DATABASE_URL", "postgres://app:hunter2@127.0.0.1:1/app"),
        ("GATEWAY_REDIS_URL", "redis://:hunter2@127.0.0.1:1/3"),
        ("GATEWAY_CACHE_URL", "redis://:hunter2@127.0.0.1:1/2"),
    ] {
        let ended = fails(&stack, &[(variable, address)]).await;
        assert_eq!(ended.code, 69, "{variable}: {}", ended.err);
        let line = last(&ended);
        assert_eq!(line["level"], "ERROR");
        assert!(line["dependency"].as_str().unwrap().contains(variable), "{line}");
        assert!(line["why"].as_str().unwrap().contains("refused"), "{line}");
    }
}

#[tokio::test]
async fn the_log_may_be_for_people() {
    let stack = Stack::start().await;
    let ended = fails(&stack, &[("DATABASE_URL", "postgres://127.0.0.1:1/app"), ("GATEWAY_LOG_FORMAT", "text")]).await;
    let line = ended.err.lines().last().expect("a log");
    let (time, rest) = line.split_once(' ').expect("a time");
    assert_eq!((time.len(), &time[2..3], &time[8..9]), (12, ":", "."), "hh:mm:ss.mmm: {line}");
    assert!(rest.trim_start().starts_with("ERROR ") && rest.contains("cannot start"), "{line}");
}

#[tokio::test]
async fn a_port_that_is_taken_ends_it_with_70() {
    let stack = Stack::start().await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for variable in ["GATEWAY_LISTEN", "GATEWAY_OPS_LISTEN"] {
        let ended = fails(&stack, &[(variable, &address)]).await;
        assert_eq!(ended.code, 70, "{variable}: {}", ended.err);
        assert!(last(&ended)["why"].as_str().is_some_and(|why| why.contains("listener")), "{}", ended.err);
    }
}

#[tokio::test]
async fn what_is_odd_about_the_configuration_is_logged_and_sigterm_ends_it_with_0() {
    let stack = Stack::start().await;
    let mut gateway = stack.gateway().env("GATEWAY_PNIG_SECONDS", 25).start().await;
    let line = gateway
        .wait_for_log("configuration: is not a variable of the gateway; the nearest is GATEWAY_PING_SECONDS")
        .await;
    assert_eq!((&line["level"], &line["variable"]), (&"WARN".into(), &"GATEWAY_PNIG_SECONDS".into()));
    assert_eq!(gateway.terminate().await, 0);
}

#[tokio::test]
async fn as_many_threads_serve_as_are_wished() {
    let stack = Stack::start().await;
    for (wished, fits) in [(9, 9..=usize::MAX), (1, 1..=8)] {
        let gateway = stack.gateway().env("GATEWAY_THREADS", wished).start().await;
        let tasks = std::fs::read_dir(format!("/proc/{}/task", gateway.pid())).unwrap();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        // Threads that wait for the disk or for names, which come and go, are called the same.
        let count = names.filter(|name| name.starts_with("tokio-rt-worker")).count();
        assert!(fits.contains(&count), "{wished} were wished, {count} are there");
    }
}

#[tokio::test]
async fn systemd_is_told_when_it_serves_and_when_it_stops() {
    let stack = Stack::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    let told = async || {
        let mut text = [0; 256];
        let length = tokio::time::timeout(GUARD, systemd.recv(&mut text)).await.expect("systemd is told").unwrap();
        String::from_utf8_lossy(&text[..length]).trim().to_owned()
    };
    let mut gateway = stack.gateway().env("NOTIFY_SOCKET", path.display()).start().await;
    assert_eq!(told().await, "READY=1\nSTATUS=serving");
    gateway.begin_termination();
    assert_eq!(told().await, "STOPPING=1\nSTATUS=draining");
    assert_eq!(gateway.exit_code().await, 0);
}

#[tokio::test]
async fn a_probe_tells_whether_it_is_alive_and_whether_it_is_ready() {
    let stack = Stack::start().await;
    let mut gateway = stack.gateway().start().await;
    let ops = gateway.operations.to_string();
    let everywhere = ops.replace("127.0.0.1", "0.0.0.0");
    for address in [&ops, &everywhere] {
        for arguments in [&["probe"][..], &["probe", "--ready"]] {
            let ended = run(arguments, &[LEAST[0], LEAST[1], ("GATEWAY_OPS_LISTEN", address)]).await;
            assert_eq!((ended.code, ended.out.as_str(), ended.err.as_str()), (0, "", ""), "{arguments:?} of {address}");
        }
    }
    let env = [LEAST[0], LEAST[1], ("GATEWAY_OPS_LISTEN", ops.as_str())];
    stack.redis_server().kill().await;
    eventually("it is not ready", || async { run(&["probe", "--ready"], &env).await.code == 1 }).await;
    let ended = run(&["probe", "--ready"], &env).await;
    assert!(ended.err.starts_with("/readyz: HTTP/1.1 503 ") && ended.err.contains("fan_out"), "{}", ended.err);
    assert_eq!(run(&["probe"], &env).await.code, 0, "alive all the same");
    gateway.kill9().await;
    let ended = run(&["probe"], &env).await;
    assert_eq!(ended.code, 1);
    assert!(ended.err.starts_with("/livez: ") && ended.err.contains("refused"), "{}", ended.err);
}
