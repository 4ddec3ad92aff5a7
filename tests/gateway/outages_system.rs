//! The machine on bad days: a clock that is wrong, no files left.

use std::process::Command;

use crate::outages_stage::pair;
use crate::support::{eventually, faketime};

#[tokio::test]
async fn an_instance_whose_clock_is_ten_minutes_off_keeps_the_rooms_order() {
    for offset in ["-600", "+600"] {
        let mut pair = pair().await;
        pair.talk("before").await;
        let wrong = pair.stack.gateway().env("GATEWAY_LIMIT_CONNECTS_PER_MINUTE", 0);
        let wrong = wrong.env("LD_PRELOAD", faketime()).env("FAKETIME", offset).env("DONT_FAKE_MONOTONIC", 1);
        pair.gateways[1] = wrong.start().await;
        let user = pair.stack.user("elsewhere in time").await;
        // A connection token, which Redis's clock judges; a JWT's times are compared with the instance's own.
        pair.clients[1] = pair.gateways[1].enter(&pair.room, &user).await;
        for number in 0..3 {
            pair.talk(&format!("{number} from here")).await;
            pair.clients.swap(0, 1);
            pair.talk(&format!("{number} from there")).await;
            pair.clients.swap(0, 1);
        }
        let told: Vec<String> = sqlx::query_scalar("SELECT content FROM community_message ORDER BY created_at")
            .fetch_all(pair.stack.db())
            .await
            .unwrap();
        let said = (0..3).flat_map(|number| [format!("{number} from here"), format!("{number} from there")]);
        let said: Vec<String> = std::iter::once("before".to_owned()).chain(said).collect();
        assert_eq!(told, said, "{offset}");
        let skew: f64 = sqlx::query_scalar(
            "SELECT extract(epoch FROM max(abs_skew))::float8 \
             FROM (SELECT greatest(created_at - now(), now() - created_at) AS abs_skew FROM community_message) AS skews",
        )
        .fetch_one(pair.stack.db())
        .await
        .unwrap();
        assert!(skew < 300.0, "messages are timed by Postgres, not by the instance: {skew} s");
    }
}

#[tokio::test]
async fn without_a_file_left_those_who_are_in_stay_and_the_others_wait() {
    let mut pair = pair().await;
    pair.talk("before").await;
    let pid = pair.gateways[0].pid().to_string();
    let limit = |files: &str| {
        let set = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={files}:")]).status();
        assert!(set.expect("prlimit runs").success());
    };
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    limit(&open.to_string());
    let waiting = tokio::net::TcpStream::connect(pair.gateways[0].public).await.expect("the kernel takes it");
    pair.gateways[0].wait_for_log("cannot accept connections: trying again").await;
    pair.talk("without files").await;
    drop(waiting);
    pair.heals("no file left, and some again");
    limit("4096");
    pair.works_again().await;
    pair.all_of(&["before", "without files", "from one", "from two"]).await;
    eventually("all is well", || async { pair.gateways[0].ops("/readyz").await.status == 200 }).await;
}
