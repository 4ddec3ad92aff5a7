//! The sliding windows, against a naive model and against each other's instances.

use std::sync::Arc;
use std::time::Duration;

use community_gateway::access::quota::{Limited, Quota, QuotaError, Ticket, Window};
use community_gateway::bus::Bus;
use community_gateway::domain::UserId;
use community_gateway::keyspace;
use community_gateway::telemetry::Metrics;
use futures_util::future::join_all;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use redis::aio::MultiplexedConnection;

use crate::support::RedisServer;

const ADA: UserId = UserId(1);

fn window(length: Duration, places: u32) -> Window {
    Window { length, places }
}

/// The same limits as another instance would have them: on a connection of its own.
async fn quota(server: &RedisServer, windows: &[Window]) -> (Quota, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new().unwrap());
    let bus = Bus::connect(&server.deployment(3), Arc::clone(&metrics)).await.unwrap();
    (Quota::new(bus.connection(), "messages", keyspace::send_window, windows, Arc::clone(&metrics)), metrics)
}

async fn redis_of(server: &RedisServer) -> MultiplexedConnection {
    redis::Client::open(server.url(3)).unwrap().get_multiplexed_async_connection().await.unwrap()
}

fn limited(answer: Result<Ticket, QuotaError>) -> Limited {
    match answer {
        Err(QuotaError::Limited(limited)) => limited,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// One run of the model: windows, and pauses between attempts in milliseconds.
fn run() -> impl Strategy<Value = (Vec<(u64, u32)>, Vec<u64>)> {
    let windows = prop::collection::vec((50_u64..600, 1_u32..8), 1..4);
    let pauses = prop::collection::vec(prop_oneof![3 => Just(0), 2 => 1_u64..80], 20..60);
    (windows, pauses)
}

/// What a naive reading of "at most n in any window" says: microseconds to wait at `now`, 0 for yes.
fn naive(windows: &[(u64, u32)], taken: &[i64], now: i64) -> i64 {
    let wait = |&(length, places): &(u64, u32)| {
        let length = i64::try_from(length).unwrap() * 1000;
        let mut inside: Vec<_> = taken.iter().filter(|&&at| at > now - length).collect();
        inside.sort_unstable();
        let places = usize::try_from(places).unwrap();
        if inside.len() < places { 0 } else { inside[inside.len() - places] + length - now }
    };
    windows.iter().map(wait).max().unwrap()
}

#[tokio::test]
async fn every_answer_is_that_of_a_naive_model_to_the_microsecond() {
    let server = RedisServer::start().await;
    let mut runner = TestRunner::deterministic();
    let cases: Vec<_> = (0..40).map(|_| run().new_tree(&mut runner).unwrap().current()).collect();
    let runs = cases.into_iter().enumerate().map(|(case, (windows, pauses))| {
        let server = &server;
        async move {
            let limits: Vec<_> = windows.iter().map(|&(ms, n)| window(Duration::from_millis(ms), n)).collect();
            let (quota, _) = quota(server, &limits).await;
            let (mut taken, mut refused) = (Vec::new(), 0);
            for pause in &pauses {
                tokio::time::sleep(Duration::from_millis(*pause)).await; // when somebody sends, not a wait for an answer
                let (wait, at) = match quota.take(UserId(i64::try_from(case).unwrap())).await {
                    Ok(ticket) => (0, ticket.at.0),
                    Err(QuotaError::Limited(no)) => (i64::try_from(no.retry_after.as_micros()).unwrap(), no.at.0),
                    Err(error) => panic!("{error}"),
                };
                assert_eq!(wait, naive(&windows, &taken, at), "{windows:?} at {at} after {taken:?}");
                if wait == 0 {
                    taken.push(at);
                } else {
                    refused += 1;
                }
            }
            (taken.len(), refused)
        }
    });
    let outcomes = join_all(runs).await;
    let taken: usize = outcomes.iter().map(|(taken, _)| taken).sum();
    let refused: usize = outcomes.iter().map(|(_, refused)| refused).sum();
    assert!(taken > 200 && refused > 200, "{taken} taken and {refused} refused prove little");
}

#[tokio::test]
async fn of_fifty_at_once_from_two_instances_ten_pass() {
    let server = RedisServer::start().await;
    let windows = [window(Duration::from_secs(60), 10), window(Duration::from_secs(3600), 100)];
    let ((one, here), (two, there)) = (quota(&server, &windows).await, quota(&server, &windows).await);
    let answers = join_all((0..25).flat_map(|_| [one.take(ADA), two.take(ADA)])).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 10);
    for answer in answers.into_iter().filter(Result::is_err) {
        let wait = limited(answer).retry_after;
        assert!(Duration::from_secs(30) < wait && wait <= Duration::from_secs(60), "{wait:?}");
    }
    let counted = |metrics: &Metrics| metrics.limited_total.with_label_values(&["messages"]).get();
    assert_eq!(counted(&here) + counted(&there), 40);
    assert!(one.take(UserId(2)).await.is_ok(), "others are not concerned");

    let key = keyspace::send_window(ADA);
    let mut redis = redis_of(&server).await;
    let (kept, live): (u64, u64) = redis::pipe().zcard(&key).pttl(&key).query_async(&mut redis).await.unwrap();
    assert_eq!(kept, 10, "what was refused is not recorded");
    assert!(live <= 3_600_001, "{live}");
}

#[tokio::test]
async fn a_place_given_back_is_free_again() {
    let server = RedisServer::start().await;
    let (quota, _) = quota(&server, &[window(Duration::from_secs(60), 2)]).await;
    let first = quota.take(ADA).await.unwrap();
    let second = quota.take(ADA).await.unwrap();
    let full = limited(quota.take(ADA).await);
    assert_eq!(full.at.0 + i64::try_from(full.retry_after.as_micros()).unwrap(), first.at.0 + 60_000_000);

    quota.give_back(first).await;
    quota.take(ADA).await.unwrap();
    let full = limited(quota.take(ADA).await);
    assert_eq!(full.at.0 + i64::try_from(full.retry_after.as_micros()).unwrap(), second.at.0 + 60_000_000);
}

#[tokio::test]
async fn a_window_of_no_places_is_off() {
    let server = RedisServer::start().await;
    let (off, _) = quota(&server, &[window(Duration::from_secs(60), 0)]).await;
    let answers = join_all((0..50).map(|_| off.take(ADA))).await;
    assert!(answers.iter().all(Result::is_ok));
    let keys: u64 = redis::cmd("DBSIZE").query_async(&mut redis_of(&server).await).await.unwrap();
    assert_eq!(keys, 0, "nothing is asked or kept");
    for ticket in answers {
        off.give_back(ticket.unwrap()).await;
    }
    let half = [window(Duration::from_secs(60), 0), window(Duration::from_secs(60), 3)];
    let (half, _) = quota(&server, &half).await;
    let answers = join_all((0..5).map(|_| half.take(ADA))).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 3);
}

#[tokio::test]
async fn without_redis_nothing_passes_and_with_it_all_is_well() {
    let server = RedisServer::start().await;
    let (quota, metrics) = quota(&server, &[window(Duration::from_secs(60), 1)]).await;
    server.pause().await;
    assert!(matches!(quota.take(ADA).await, Err(QuotaError::Late | QuotaError::Redis(_))));
    server.resume().await;
    server.kill().await;
    assert!(matches!(quota.take(ADA).await, Err(QuotaError::Late | QuotaError::Redis(_))));
    assert_eq!(metrics.redis_failures_total.with_label_values(&["quota"]).get(), 2);
    server.restart().await; // empty: it knows no scripts either
    crate::support::eventually("a place is taken", || async { quota.take(ADA).await.is_ok() }).await;
    limited(quota.take(ADA).await);
}
