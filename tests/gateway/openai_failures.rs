//! The second layer of moderation while the API is slow, wrong, out of limits or away. Nobody waits beyond the deadline.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use community_gateway::config::Secret;
use community_gateway::moderation::openai::{Settings, Unavailable};

use crate::openai_stage::Stage;
use crate::support::{Act, FakeOpenAi, eventually};

/// Shorter than the shortest wait before another try.
const BRIEF: Duration = Duration::from_millis(300);

fn brief(settings: &mut Settings) {
    settings.deadline = BRIEF;
}

/// A breaker that opens early and asks again soon.
fn nervous(settings: &mut Settings) {
    settings.breaker.failures = 2;
    settings.breaker.pause = Duration::from_millis(20);
    settings.breaker.longest_pause = Duration::from_millis(40);
}

/// An error of the server after which the same is not tried again.
fn broken() -> Act {
    Act::status(500).header("x-should-retry", "false")
}

/// Waits until texts are judged again.
async fn heals(stage: &Stage) {
    eventually("the breaker closes", || async { stage.metrics.openai_breaker.get() == 0 }).await;
    stage.classifier.scores("healed").await.unwrap();
}

#[tokio::test]
async fn a_hanging_request_costs_its_texts_the_deadline_and_others_nothing() {
    let stage = Stage::start(brief).await;
    stage.api.next(Act::hang());
    let began = Instant::now();
    let hanging = stage.ask(&["slow"]).remove(0);
    stage.api.received(1).await;
    stage.classifier.scores("fast").await.unwrap();
    assert_eq!(hanging.answer().await.unwrap_err(), Unavailable::Deadline);
    assert!(began.elapsed() >= BRIEF);
    stage.api.abandoned(1).await;
    assert_eq!((stage.requests("timeout"), stage.unavailable(Unavailable::Deadline)), (1, 1));
}

#[tokio::test]
async fn a_slow_answer_within_the_deadline_counts() {
    let stage = Stage::start(|_| {}).await;
    stage.api.next(Act::judge().after(BRIEF));
    stage.classifier.scores("hello").await.unwrap();
}

#[tokio::test]
async fn a_text_that_waits_in_vain_for_its_turn_is_not_sent() {
    let stage = Stage::start(|settings| (settings.concurrency, settings.deadline) = (1, BRIEF)).await;
    stage.api.next(Act::hang());
    let asking = stage.ask(&["slow", "behind"]);
    for asking in asking {
        assert_eq!(asking.answer().await.unwrap_err(), Unavailable::Deadline);
    }
    stage.classifier.scores("later").await.unwrap();
    assert_eq!(stage.api.requests().last().unwrap().inputs, ["later"]);
}

#[tokio::test]
async fn what_can_pass_is_tried_again_when_the_api_says() {
    for act in [
        Act::status(503).header("retry-after-ms", "5"),
        Act::status(408).header("retry-after", "0.005"),
        Act::answer(502, "<html>bad gateway</html>").header("retry-after-ms", "5"),
        Act::answer(504, "").header("retry-after-ms", "5"),
        Act::status(400).header("x-should-retry", "true").header("retry-after-ms", "5"),
    ] {
        let stage = Stage::start(|_| {}).await;
        stage.api.next(act.clone());
        stage.api.next(act);
        stage.classifier.scores("hello").await.unwrap();
        assert_eq!(stage.api.inputs(), ["hello"; 3]);
    }
}

#[tokio::test]
async fn after_two_retries_it_is_given_up() {
    let stage = Stage::start(|_| {}).await;
    stage.api.always(Act::status(500).header("retry-after-ms", "5"));
    assert_eq!(stage.classifier.scores("hello").await.unwrap_err(), Unavailable::Failed);
    assert_eq!((stage.api.requests().len(), stage.requests("server_error")), (3, 3));
}

#[tokio::test]
async fn what_cannot_pass_is_not_tried_again() {
    let error = |kind: &str, code: &str| format!(r#"{{"error":{{"message":"m","type":"{kind}","code":"{code}"}}}}"#);
    for (act, reason) in [
        (broken(), Unavailable::Failed),
        (Act::status(400), Unavailable::Refused),
        (Act::status(401), Unavailable::BadKey),
        (Act::status(403), Unavailable::Denied),
        (Act::status(404), Unavailable::Denied),
        (Act::status(307).header("location", "http://elsewhere.test/"), Unavailable::Denied),
        (Act::answer(429, error("insufficient_quota", "insufficient_quota")), Unavailable::Quota),
        (
            Act::answer(429, error("insufficient_quota", "credit_balance_exhausted")).header("x-should-retry", "true"),
            Unavailable::Quota,
        ),
        (Act::status(429).header("retry-after", "121"), Unavailable::Budget),
        (Act::status(503).header("retry-after", "Wed, 21 Oct 2099 07:28:00 GMT"), Unavailable::Failed),
    ] {
        let stage = Stage::start(|_| {}).await;
        stage.api.next(act.clone());
        assert_eq!(stage.classifier.scores("hello").await.unwrap_err(), reason, "{act:?}");
        assert_eq!(stage.api.requests().iter().filter(|request| request.inputs == ["hello"]).count(), 1, "{act:?}");
    }
}

#[tokio::test]
async fn a_wait_beyond_the_deadline_is_not_begun() {
    let stage = Stage::start(|settings| settings.deadline = Duration::from_secs(60)).await;
    stage.api.next(Act::status(503).header("retry-after", "100"));
    assert_eq!(stage.classifier.scores("hello").await.unwrap_err(), Unavailable::Failed);
}

#[tokio::test]
async fn a_connection_that_ends_early_is_no_answer() {
    for act in [Act::close(), Act::cut()] {
        let stage = Stage::start(brief).await;
        stage.api.next(act);
        assert_eq!(stage.classifier.scores("hello").await.unwrap_err(), Unavailable::Unreachable);
        stage.classifier.scores("hello").await.unwrap();
    }
}

#[tokio::test]
async fn an_answer_that_is_none_is_malformed() {
    for act in [
        Act::results(0),
        Act::results(2),
        Act::answer(200, "<html>welcome</html>"),
        Act::answer(200, ""),
        Act::answer(200, "{}"),
        Act::answer(200, " ".repeat(1_000_000)),
        Act::flood(),
    ] {
        let stage = Stage::start(|_| {}).await;
        stage.api.next(act.clone());
        assert_eq!(stage.classifier.scores("hello").await.unwrap_err(), Unavailable::Malformed, "{act:?}");
        assert_eq!(stage.api.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_text_that_the_api_refuses_costs_the_others_of_its_request_nothing() {
    let stage = Stage::start(|settings| settings.concurrency = 1).await;
    stage.api.refuse("poison");
    let held = stage.api.hold("first");
    let first = stage.ask(&["first"]);
    stage.api.received(1).await;
    let asking = stage.ask(&["a", "b", "poison", "c", "d"]);
    stage.queued(5).await;
    drop(held);
    for (asking, text) in asking.into_iter().zip(["a", "b", "poison", "c", "d"]) {
        let refused = (text == "poison").then_some(Unavailable::Refused);
        assert_eq!(asking.answer().await.err(), refused, "{text}");
    }
    drop(first);
    assert_eq!(stage.metrics.openai_breaker.get(), 0, "a text does not open the breaker");
}

#[tokio::test]
async fn a_rate_limit_pauses_everything_and_nobody_waits_for_it_in_vain() {
    let stage = Stage::start(|_| {}).await;
    stage.api.next(Act::status(429).header("retry-after", "100"));
    assert_eq!(stage.classifier.scores("one").await.unwrap_err(), Unavailable::Budget);
    for text in ["two", "three"] {
        assert_eq!(stage.classifier.scores(text).await.unwrap_err(), Unavailable::Budget);
    }
    assert_eq!((stage.api.inputs(), stage.metrics.openai_breaker.get()), (vec!["one".to_owned()], 0));
}

#[tokio::test]
async fn a_short_rate_limit_is_waited_for() {
    let stage = Stage::start(|_| {}).await;
    stage.api.next(Act::status(429).header("retry-after-ms", "50"));
    let began = Instant::now();
    let asking = stage.ask(&["one"]);
    stage.api.received(1).await;
    stage.classifier.scores("two").await.unwrap();
    for asking in asking {
        asking.answer().await.unwrap();
    }
    assert!(began.elapsed() >= Duration::from_millis(50));
    assert_eq!(stage.requests("rate_limited"), 1, "the second did not try its luck");
}

#[tokio::test]
async fn an_api_that_is_down_is_left_alone_until_probes_succeed() {
    let stage = Stage::start(|settings| {
        nervous(settings);
        brief(settings);
    })
    .await;
    stage.classifier.scores("before").await.unwrap();
    stage.api.go_down().await;
    eventually("the breaker opens", || async {
        stage.classifier.scores("during").await.is_err_and(|reason| reason == Unavailable::BreakerOpen)
    })
    .await;
    stage.classifier.scores("before").await.unwrap(); // what is known is known
    stage.api.come_up().await;
    heals(&stage).await;
    let inputs = stage.api.inputs();
    assert_eq!([&inputs[0], &inputs[1], &inputs[2]], ["before", "hello", "hello"], "probes hold nobody's text");
    assert_eq!(inputs[3..], ["healed"]);
}

#[tokio::test]
async fn while_the_breaker_is_open_nobody_waits_not_even_for_probes() {
    let stage = Stage::start(nervous).await;
    stage.api.next(broken());
    stage.api.next(broken());
    for text in ["one", "two"] {
        assert_eq!(stage.classifier.scores(text).await.unwrap_err(), Unavailable::Failed);
    }
    let held = stage.api.hold("hello");
    stage.api.received(3).await; // the probe, which hangs
    assert_eq!(stage.metrics.openai_breaker.get(), 1);
    for text in ["three", "four"] {
        assert_eq!(stage.classifier.scores(text).await.unwrap_err(), Unavailable::BreakerOpen);
    }
    drop(held);
    heals(&stage).await;
    assert_eq!(stage.api.inputs(), ["one", "two", "hello", "hello", "healed"]);
}

#[tokio::test]
async fn who_queues_when_the_breaker_opens_is_told_at_once() {
    let stage = Stage::start(|settings| {
        nervous(settings);
        (settings.concurrency, settings.breaker.failures) = (1, 1);
    })
    .await;
    stage.api.next(broken());
    let held = stage.api.hold("first");
    let mut asking = stage.ask(&["first"]);
    stage.api.received(1).await;
    asking.extend(stage.ask(&["a", "b"]));
    stage.queued(2).await;
    drop(held);
    let mut reasons = Vec::new();
    for asking in asking {
        reasons.push(asking.answer().await.unwrap_err());
    }
    assert_eq!(reasons, [Unavailable::Failed, Unavailable::BreakerOpen, Unavailable::BreakerOpen]);
    assert!(!stage.api.inputs().contains(&"a".to_owned()));
}

#[tokio::test]
async fn requests_that_hang_open_the_breaker() {
    let stage = Stage::start(|settings| {
        brief(settings);
        settings.breaker.failures = 2;
    })
    .await;
    stage.api.always(Act::hang());
    for text in ["one", "two"] {
        assert_eq!(stage.classifier.scores(text).await.unwrap_err(), Unavailable::Deadline);
    }
    eventually("it is open", || async { stage.metrics.openai_breaker.get() == 2 }).await;
    assert_eq!(stage.classifier.scores("three").await.unwrap_err(), Unavailable::BreakerOpen);
}

#[tokio::test]
async fn a_wrong_key_is_named_and_not_tried_with_every_text() {
    let stage = Stage::start(|settings| settings.key = Secret::new("sk-wrong")).await;
    for text in ["one", "two", "three"] {
        assert_eq!(stage.classifier.scores(text).await.unwrap_err(), Unavailable::BadKey);
    }
    assert_eq!(stage.api.inputs(), ["one"]);
}

#[tokio::test]
async fn the_end_of_the_process_ends_the_wait() {
    let stage = Stage::start(|_| {}).await;
    stage.api.always(Act::hang());
    let hanging = stage.ask(&["hello"]).remove(0);
    stage.api.received(1).await;
    stage.lifecycle.abort();
    assert_eq!(hanging.answer().await.unwrap_err(), Unavailable::Stopped);
    assert_eq!(stage.lifecycle.wait(Duration::from_secs(20)).await, 0, "no task is left");
}

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_log_says_when_it_opens_and_closes_and_holds_no_text_and_no_key() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone());
    // As long as there is only one subscriber, whether anybody listens to a line is asked of the thread that comes to it
    // first, which may be another test's, and kept for all threads. With two, all of them are asked.
    let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::new());
    let _guard = tracing::subscriber::set_default(subscriber.finish());
    let stage = Stage::start(nervous).await;
    tracing::callsite::rebuild_interest_cache(); // for a line that was come to just before there were two
    stage.api.next(broken());
    stage.api.next(broken());
    let held = stage.api.hold("hello");
    for _ in 0..4 {
        stage.classifier.scores("my-private-words").await.unwrap_err();
    }
    drop(held);
    heals(&stage).await;
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let ours: Vec<_> = text.lines().filter(|line| line.contains("moderation::openai")).collect();
    assert_eq!(ours.len(), 2, "{text}");
    assert!(ours[0].contains("failures=2") && ours[0].contains("server_error"), "{}", ours[0]);
    assert!(ours[1].contains("turned_away=2") && ours[1].contains("failed_probes=0"), "{}", ours[1]);
    for secret in ["private", FakeOpenAi::KEY, "a secret"] {
        assert!(!text.contains(secret), "{text}");
    }
}
