//! How many texts a second one instance judges with a moderation API that takes 100 ms for each request.
//!
//! `cargo run --release --example moderate [SENDERS…]`. The API is the tests' fake, in this process. Every sender waits for
//! its scores before it sends the next text, and no two texts are equal. The account's limits are out of the way: they
//! are not what is measured, and with real ones tokens bind first.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a tool, not the gateway")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use community_gateway::config::Secret;
use community_gateway::lifecycle::Lifecycle;
use community_gateway::moderation::openai::{Classifier, Settings};
use community_gateway::telemetry::Metrics;
use tokio::task::JoinSet;

#[path = "../tests/support/openai.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod openai;

use openai::{Act, FakeOpenAi};

const API_TAKES: Duration = Duration::from_millis(100);
const ENOUGH: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() {
    let mut senders: Vec<usize> = std::env::args().skip(1).map(|arg| arg.parse().expect("a number")).collect();
    if senders.is_empty() {
        senders = vec![1, 8, 64, 256, 512];
    }
    println!(
        "{:>8} {:>9} {:>14} {:>9} {:>9} {:>7}",
        "senders", "texts/s", "texts/request", "p50 ms", "p99 ms", "failed"
    );
    for senders in senders {
        measure(senders).await;
    }
}

async fn measure(senders: usize) {
    let api = FakeOpenAi::start().await;
    api.always(Act::judge().after(API_TAKES));
    let mut settings = Settings::new(api.url(), Secret::new(FakeOpenAi::KEY));
    (settings.requests_per_minute, settings.tokens_per_minute) = (u32::MAX, u32::MAX);
    let (lifecycle, metrics) = (Lifecycle::new(), Arc::new(Metrics::new().unwrap()));
    let classifier = Classifier::start(settings, &lifecycle, Arc::clone(&metrics)).unwrap();
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for sender in 0..senders {
        let classifier = classifier.clone();
        tasks.spawn(async move {
            let (mut times, mut failed) = (Vec::new(), 0_usize);
            while began.elapsed() < ENOUGH {
                let text = format!("message {} of sender {sender}, with words enough to be one", times.len() + failed);
                let asked = Instant::now();
                match classifier.scores(&text).await {
                    Ok(_) => times.push(asked.elapsed()),
                    Err(_) => failed += 1,
                }
            }
            (times, failed)
        });
    }
    let (times, failed): (Vec<Vec<Duration>>, Vec<usize>) = tasks.join_all().await.into_iter().unzip();
    let lasted = began.elapsed().as_secs_f64();
    let mut times: Vec<f64> = times.into_iter().flatten().map(|time| time.as_secs_f64() * 1e3).collect();
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or_default();
    println!(
        "{senders:>8} {:>9.0} {:>14.1} {:>9.1} {:>9.1} {:>7}",
        times.len() as f64 / lasted,
        times.len() as f64 / api.requests().len() as f64,
        at(0.5),
        at(0.99),
        failed.iter().sum::<usize>(),
    );
    lifecycle.abort();
}
