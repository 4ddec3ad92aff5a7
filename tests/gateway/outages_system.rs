//! The machine on bad days: a clock that is wrong, no files left, an instance that is killed or sent away.

use std::process::Command;

use crate::outages_stage::{Pair, first_state, pair, without_limits};
use crate::resume_replay::place;
use crate::support::faketime;

#[tokio::test]
async fn an_instance_whose_clock_is_ten_minutes_off_keeps_the_rooms_order() {
    for offset in ["-600", "+600"] {
        let mut pair = pair().await;
        pair.talk("before").await;
        let clock = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(clock.path(), offset).unwrap();
        let wrong = without_limits(&pair.stack).env("LD_PRELOAD", faketime()).env("DONT_FAKE_MONOTONIC", 1);
        let wrong = wrong.env("FAKETIME_TIMESTAMP_FILE", clock.path().display()).env("FAKETIME_NO_CACHE", 1);
        let user = pair.stack.user("elsewhere in time").await;
        // By a connection token, which Redis's clock judges; a JWT's times are compared with the instance's own.
        pair.second_is(wrong, user).await;
        for number in 0..3 {
            for (at, whence) in ["here", "there"].into_iter().enumerate() {
                let text = format!("{number} from {whence}");
                pair.send(at, &text).await;
                pair.both_are_shown(&text).await;
            }
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
        pair.has_lost_nothing().await;
        pair.heals("a clock that was 10 minutes off, set right");
        std::fs::write(clock.path(), "+0").unwrap();
        pair.works_again().await;
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
}

/// Ada returns to the other instance with her ticket, and another instance takes the place of hers.
async fn returns(pair: &mut Pair, ticket: &str, since: (String, u64)) {
    let dial = pair.gateways[1].dial(&pair.room.path()).query("resume_token", ticket);
    pair.comes_back(0, dial.query("epoch", &since.0).query("offset", &since.1.to_string())).await;
    assert_eq!(pair.clients[0].expect_event("resumed").await["recovered"], true);
    pair.gateways[0] = without_limits(&pair.stack).start().await;
    pair.works_again().await;
}

#[tokio::test]
async fn when_an_instance_is_killed_its_people_go_on_at_another() {
    let mut pair = pair().await;
    let (ticket, since) = (pair.clients[0].ticket().await, place(&first_state(&pair.clients[0])));
    pair.heals("an instance killed (`kill -9`): its people are at another, and a new one is ready");
    pair.gateways[0].kill9().await;
    pair.send(1, "missed").await;
    returns(&mut pair, &ticket, since).await;
}

#[tokio::test]
async fn when_an_instance_is_drained_its_people_go_on_at_another() {
    let mut pair = pair().await;
    let (ticket, since) = (pair.clients[0].ticket().await, place(&first_state(&pair.clients[0])));
    pair.heals("an instance drained (`SIGTERM`): its people are at another, and a new one is ready");
    pair.gateways[0].begin_termination();
    let (code, _) = pair.clients[0].expect_close().await;
    assert_eq!(code, 1001);
    pair.send(1, "missed").await;
    returns(&mut pair, &ticket, since).await;
}
